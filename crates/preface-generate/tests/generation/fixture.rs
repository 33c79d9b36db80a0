//! The tiny models of `tests/golden/generation`.

use preface_backend::Reference;
use preface_generate::Request;
use preface_model::{Attachments, Model, ModelFiles};
use testkit::Golden;

/// The golden case.
pub fn golden() -> Golden {
    Golden::open("generation").unwrap()
}

/// Names of its models.
pub const MODELS: [&str; 2] = ["llama", "gpt2"];

/// The end token that its texts really reach.
pub fn end_tokens(name: &str) -> [u32; 1] {
    [if name == "llama" { 15 } else { 35 }]
}

/// A model and its prefix, as segment 0.
pub fn load(golden: &Golden, name: &str) -> (Model<Reference>, Attachments<Reference>) {
    let folder = golden.folder().join(name);
    let model = ModelFiles::open(&folder.to_string_lossy()).unwrap().load(Reference).unwrap();
    let rows = golden.tensor(&format!("{name}.prompt_embeddings")).unwrap();
    let attachments = Attachments::prefix(&Reference, &rows.data, model.spec());
    (model, attachments)
}

/// Its prompts, all behind the same prefix or none.
pub fn requests(golden: &Golden, name: &str, segment: Option<usize>) -> Vec<Request> {
    let n_prompt = golden.value(&format!("/prompts/{name}")).unwrap().as_array().unwrap().len();
    let prompt = |n| golden.token_ids(&format!("/prompts/{name}/{n}")).unwrap();
    (0..n_prompt).map(|n| Request { source: Vec::new(), prompt: prompt(n), segment }).collect()
}

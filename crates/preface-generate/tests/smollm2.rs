//! A real model from its GGUF on the CPU backend: the ids that `transformers` continues with, and its likelihoods.

use std::path::Path;

use preface_cpu::{CpuBackend, CpuOptions, Precision};
use preface_generate::{GenerationSettings, Generator, Request};
use preface_model::tokenizer::Special;
use preface_model::{Attachments, Batch, ModelFiles, Sequence};
use testkit::{Golden, Tolerance, assert_close};

#[test]
#[ignore = "needs smollm2: cargo xtask fetch smollm2"]
fn smollm2_from_gguf_writes_and_scores_what_transformers_does() {
    let golden = Golden::open("smollm2_continuations").unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fetched/smollm2.gguf");
    let files = ModelFiles::open(path.to_str().unwrap()).unwrap();
    let (tokenizer, _) = files.tokenizer().unwrap();
    let backend = CpuBackend::new(CpuOptions { precision: Precision::F32, ..CpuOptions::default() }).unwrap();
    let model = files.load(backend).unwrap();
    let none = Attachments::none();

    let n = golden.value("/continuations").unwrap().as_array().unwrap().len();
    let text = |pointer: &str| golden.value(pointer).unwrap().as_str().unwrap().to_owned();
    let requests: Vec<Request> = (0..n)
        .map(|i| {
            let prompt = tokenizer.encode_prompt(&text(&format!("/continuations/{i}/prompt"))).unwrap();
            assert_eq!(prompt, golden.token_ids(&format!("/continuations/{i}/prompt_ids")).unwrap());
            Request { source: Vec::new(), prompt, segment: None }
        })
        .collect();
    let max_new_tokens = golden.number("/max_new_tokens").unwrap() as usize;
    let settings = GenerationSettings { max_new_tokens, ..GenerationSettings::default() };
    // The fixture goes on behind an end token.
    let generator = Generator::new(&model, &none, &settings, &[], Some(&tokenizer)).unwrap();
    // All at once and one by one: thick products and thin ones.
    for batch_size in [n, 1] {
        let answers = generator.run(&requests, batch_size, &mut ()).unwrap();
        for (i, answer) in answers.iter().enumerate() {
            let want = golden.token_ids(&format!("/continuations/{i}/generated")).unwrap();
            assert_eq!(answer.token_ids, want, "{}", text(&format!("/continuations/{i}/prompt")));
        }
    }

    for i in 0..2 {
        let ids = tokenizer.encode(&text(&format!("/texts/{i}/text")), Special::AsTokenizer).unwrap();
        assert_eq!(ids, golden.token_ids(&format!("/texts/{i}/ids")).unwrap());
        let sequence = Sequence {
            source: &[],
            tokens: &ids,
            first_target: 1,
            segment: None,
            prefix_dropout: None,
            masks: None,
        };
        let batch = Batch::pack(model.backend(), model.spec(), &none, &[sequence], 0.0).unwrap();
        let sum_nll: f64 = model.loss(&batch, &none).iter().map(|&loss| f64::from(loss)).sum();
        let want = golden.number(&format!("/texts/{i}/sum_nll")).unwrap();
        assert_close("sum of the NLL", &[sum_nll], &[want], Tolerance { abs: 0.0, rel: 1e-4 });
    }
}

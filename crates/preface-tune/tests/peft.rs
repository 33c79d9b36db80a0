//! PEFT and we load each other's folders and compute the same logits.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use preface_backend::Reference;
use preface_model::{Attachments, Batch, Fingerprint, Model, ModelFiles, Sequence};
use preface_tune::PrefixRows;
use preface_tune::artefact::{Artefact, CONFIG, Description, OtherWeights, TENSORS, TrainedWith, write};
use serde_json::json;
use testkit::{Golden, Tolerance, assert_close, golden_folder};

/// `f32` on both sides, different orders of summation.
const F32: Tolerance = Tolerance { abs: 0.0, rel: 1e-4 };

fn files(model: &str) -> ModelFiles {
    ModelFiles::open(golden_folder().join(model).join("model").to_str().unwrap()).unwrap()
}

fn prompts(golden: &Golden, pointer: &str) -> Vec<Vec<u32>> {
    serde_json::from_value(golden.value(pointer).unwrap().clone()).unwrap()
}

fn logits(model: &Model<Reference>, rows: &PrefixRows, prompt: &[u32]) -> Vec<f32> {
    let attachments = Attachments::prefix(&Reference, &rows.values, model.spec());
    // The last token of a sequence has no row: a token more gives it one.
    let tokens = [prompt, &[0]].concat();
    let sequence = Sequence {
        source: &[],
        tokens: &tokens,
        first_target: 1,
        segment: Some(0),
        prefix_dropout: None,
        masks: None,
    };
    let batch = Batch::pack(&Reference, model.spec(), &attachments, &[sequence], 0.0).unwrap();
    model.logits(&batch, &attachments)
}

#[test]
fn folders_of_peft_load_and_give_its_logits() {
    let golden = Golden::open("peft_artefact").unwrap();
    for model_name in ["tiny_llama", "tiny_gpt2"] {
        let files = files(model_name);
        let model = files.load(Reference).unwrap();
        // `projected` was trained with an MLP, and says so in its config; PEFT saved what it evaluates to.
        for kind in ["adapter", "projected"] {
            let artefact = Artefact::open(&golden.folder().join(model_name).join(kind)).unwrap();
            artefact.check_shape(model_name, files.spec()).unwrap();
            assert_eq!(artefact.description, None);
            assert_eq!(artefact.base_model, Some(format!("example/{model_name}")));
            for (i, prompt) in prompts(&golden, &format!("/prompts/{model_name}")).iter().enumerate() {
                let name = format!("{model_name}.{kind}.logits.{i}");
                let want = golden.tensor(&name).unwrap();
                assert_close(&name, &logits(&model, &artefact.rows, prompt), &want.data, F32);
            }
        }
    }
}

#[test]
fn rows_of_peft_are_written_with_the_bytes_that_peft_wrote() {
    for model in ["tiny_llama", "tiny_gpt2"] {
        let folder = golden_folder().join("peft_artefact").join(model).join("adapter");
        let artefact = Artefact::open(&folder).unwrap();
        let ours = tempfile::tempdir().unwrap();
        let base_model = artefact.base_model.clone();
        write(ours.path(), &artefact.rows, &Description { base_model, ..description() }).unwrap();
        let bytes = |folder: &Path, file| fs_err::read(folder.join(file)).unwrap();
        assert_eq!(bytes(ours.path(), TENSORS), bytes(&folder, TENSORS));
        let text = |folder: &Path| String::from_utf8(bytes(folder, CONFIG)).unwrap();
        assert_eq!(text(ours.path()), text(&folder));
    }
}

/// What the first version of the format wrote, with the logits that PEFT computed behind it.
fn fixture() -> PathBuf {
    golden_folder().join("artefact_v1/adapter")
}

fn rows() -> PrefixRows {
    let spec = files("tiny_llama").spec().clone();
    // Exact in any arithmetic, so that the fixture can be made again anywhere.
    let values = (0..5 * spec.prefix_row_width()).map(|i| (i * 37 % 101) as f32 / 64.0 - 0.75).collect();
    PrefixRows::new(&spec, values)
}

fn description() -> Description {
    let files = files("tiny_llama");
    Description {
        base_model: None,
        fingerprint: Fingerprint::new(files.spec(), files.weights(), "no tokenizer".into()).unwrap(),
        text: json!({"separator": " "}),
        recipe: json!({"learning_rate": 0.001}),
        data_hash: None,
        scores: vec![],
        trained_with: TrainedWith { precision: "f32".into(), tier: "reference".into() },
    }
}

#[test]
#[ignore = "makes a fixture that must stay as format version 1 wrote it"]
fn write_the_fixture() {
    assert!(!fixture().exists(), "a new format gets a new fixture beside this one");
    write(&fixture(), &rows(), &description()).unwrap();
}

#[test]
fn peft_computes_our_logits_behind_our_folder() {
    let golden = Golden::open("artefact_v1").unwrap();
    let model = files("tiny_llama").load(Reference).unwrap();
    let artefact = Artefact::open(&fixture()).unwrap();
    for (i, prompt) in prompts(&golden, "/prompts").iter().enumerate() {
        let name = format!("logits.{i}");
        let want = golden.tensor(&name).unwrap();
        assert_close(&name, &logits(&model, &artefact.rows, prompt), &want.data, F32);
    }
}

#[test]
fn an_artefact_of_format_version_1_loads_and_is_known_to_belong_to_its_model() {
    let artefact = Artefact::open(&fixture()).unwrap();
    let description = description();
    let fingerprint = description.fingerprint.clone();
    assert_eq!(artefact.rows, rows());
    assert_eq!(artefact.description, Some(description));
    assert_eq!(artefact.check_base("tiny_llama", &fingerprint, OtherWeights::Refused).unwrap(), None);
}

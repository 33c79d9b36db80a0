//! `transformers` loads the model folders that fine-tuning and `--from-scratch` write, of every family, and computes our logits
//! with them: see tests/golden/whole_models/make.py.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use preface_backend::Reference;
use preface_model::weights::TensorSource;
use preface_model::{Attachments, Batch, Fingerprint, ModelDropout, ModelFiles, Sequence};
use preface_tune::artefact::{Description, MODEL, MODEL_CONFIG, ModelFolder, TrainedWith, write_trained};
use preface_tune::{FineTune, Method, Trained, Tuned};
use sha2::{Digest, Sha256};
use testkit::{Golden, Tolerance, assert_close, golden_folder};

/// `f32` on both sides, different orders of summation.
const F32: Tolerance = Tolerance { abs: 0.0, rel: 1e-4 };
/// T5 does not scale its scores, so its softmax is steep and rounding to `f32` counts for more.
const STEEP: Tolerance = Tolerance { abs: 0.0, rel: 1e-3 };

/// Models with weights that are fine-tuned.
const FINE_TUNED: [&str; 10] = [
    "tiny_llama",
    "tiny_llama_untied",
    "tiny_gpt2",
    "bart",
    "mbart",
    "pegasus",
    "marian",
    "t5",
    "t5_v1_1",
    // A Pegasus with a head of its own.
    "transliteration",
];
/// Configs of models that start from nothing.
const FROM_SCRATCH: [&str; 8] = ["llama", "llama_tied", "gpt2", "bart", "pegasus", "marian", "t5", "t5_v1_1"];

fn fine_tuned(name: &str) -> ModelFiles {
    let folder = match name {
        "transliteration" => golden_folder().join(name).join("model"),
        _ if name.starts_with("tiny_") => golden_folder().join(name).join("model"),
        _ => golden_folder().join("encoder_decoder").join(name),
    };
    ModelFiles::open(folder.to_str().unwrap()).unwrap()
}

/// Writes a model's folder as a run does. The values are exact in any arithmetic, so the bytes are the same everywhere.
fn write(files: &ModelFiles, folder: &Path, is_from_scratch: bool) {
    let model = files.load(Reference).unwrap();
    let mut method = FineTune::new(&model, Tuned::All, ModelDropout::default()).unwrap();
    for (i, value) in Method::<Reference>::parameters_mut(&mut method).values_mut().iter_mut().enumerate() {
        let own = (i * 37 % 101) as f32 / 512.0 - 0.1;
        *value = if is_from_scratch { own } else { *value + own };
    }
    let (config, others) = files.folder_files().unwrap().unwrap();
    let model_folder = ModelFolder { config, others, constants: files.constant_tensors().unwrap() };
    let description = Description {
        base_model: None,
        fingerprint: Fingerprint::new(files.spec(), files.weights(), "no tokenizer".into()).unwrap(),
        text: serde_json::json!({}),
        recipe: serde_json::json!({}),
        data_hash: None,
        scores: vec![],
        trained_with: TrainedWith { precision: "f32".into(), tier: "reference".into() },
    };
    write_trained(folder, &Trained::Weights(method), files.spec(), &description, Some(&model_folder))
        .unwrap();
}

/// All of them, each in a folder of its own.
fn write_all(folder: &Path) {
    for name in FINE_TUNED {
        write(&fine_tuned(name), &folder.join(format!("fine_tuned_{name}")), false);
    }
    for name in FROM_SCRATCH {
        let config = golden_folder().join("initial").join(name);
        let files = ModelFiles::untrained(config.to_str().unwrap(), 1).unwrap();
        write(&files, &folder.join(format!("from_scratch_{name}")), true);
    }
}

#[test]
#[ignore = "writes the folders that make.py gives to transformers"]
fn write_whole_models() {
    write_all(Path::new(&std::env::var("WHOLE_MODELS").unwrap()));
}

#[test]
fn transformers_loads_whole_models_of_every_family_and_computes_our_logits() {
    let golden = Golden::open("whole_models").unwrap();
    let written = tempfile::tempdir().unwrap();
    write_all(written.path());
    let folders = golden.value("/folders").unwrap().as_object().unwrap();
    assert_eq!(folders.len(), FINE_TUNED.len() + FROM_SCRATCH.len());
    let prompts: Vec<Vec<u32>> = serde_json::from_value(golden.value("/prompts").unwrap().clone()).unwrap();
    for (name, loaded) in folders {
        let folder = written.path().join(name);
        for file in [MODEL, MODEL_CONFIG] {
            let bytes = fs_err::read(folder.join(file)).unwrap();
            let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(loaded["sha256"][file], hash, "{name}: {file} is another than transformers loaded");
        }
        let model = ModelFiles::open(folder.to_str().unwrap()).unwrap().load(Reference).unwrap();
        let (spec, none) = (model.spec(), Attachments::none());
        for (i, prompt) in prompts.iter().enumerate() {
            // The last token of a sequence has no row: a token more gives it one.
            let tokens = [&prompt[..], &[0]].concat();
            let sequence = Sequence {
                source: if spec.encoder.is_some() { prompt } else { &[] },
                tokens: &tokens,
                first_target: 1,
                segment: None,
                prefix_dropout: None,
                masks: None,
            };
            let batch = Batch::pack(&Reference, spec, &none, &[sequence], 0.0).unwrap();
            let what = format!("{name}.logits.{i}");
            let tolerance = if name.contains("t5") { STEEP } else { F32 };
            assert_close(&what, &model.logits(&batch, &none), &golden.tensor(&what).unwrap().data, tolerance);
        }
    }
}

/// Names and shapes.
fn layout(files: &ModelFiles) -> BTreeMap<String, Vec<usize>> {
    let weights = files.weights();
    let shape = |name: &str| weights.info(name).unwrap().shape().to_vec();
    weights.names().into_iter().map(|name| (name.to_owned(), shape(name))).collect()
}

#[test]
fn a_fine_tuned_model_has_the_tensors_of_the_checkpoint_that_it_came_from() {
    for name in FINE_TUNED {
        let folder = tempfile::tempdir().unwrap();
        let files = fine_tuned(name);
        write(&files, folder.path(), false);
        let written = ModelFiles::open(folder.path().to_str().unwrap()).unwrap();
        let mut want = layout(&files);
        // What the converted checkpoint of the transliteration model lacks, and transformers starts anew.
        let spec = files.spec();
        want.extend(
            spec.embedding_copies().into_iter().map(|name| (name, vec![spec.vocab_size, spec.d_model])),
        );
        assert_eq!(layout(&written), want, "{name}");
    }
}

//! A model from scratch starts as `transformers` starts it, tensor by tensor.
#![expect(clippy::unwrap_used, reason = "tests")]

use preface_backend::Reference;
use preface_model::weights::TensorSource;
use preface_model::{Attachments, Batch, LoadError, ModelFiles, Sequence};
use serde_json::Value;
use testkit::golden_folder;

const MODELS: [&str; 8] = ["llama", "llama_tied", "gpt2", "bart", "pegasus", "marian", "t5", "t5_v1_1"];

fn open(name: &str, seed: u64) -> Result<ModelFiles, LoadError> {
    ModelFiles::untrained(golden_folder().join("initial").join(name).to_str().unwrap(), seed)
}

#[test]
fn every_tensor_has_the_shape_and_the_moments_of_transformers() {
    let text = fs_err::read_to_string(golden_folder().join("initial/case.json")).unwrap();
    let case: Value = serde_json::from_str(&text).unwrap();
    for name in MODELS {
        let files = open(name, 3).unwrap();
        let want = case["models"][name].as_object().unwrap();
        let mut names = files.weights().names();
        names.sort_unstable();
        let mut wanted: Vec<&str> = want.keys().map(String::as_str).collect();
        wanted.sort_unstable();
        assert_eq!(names, wanted, "{name}");
        for (tensor, want) in want {
            let shape: Vec<usize> = serde_json::from_value(want["shape"].clone()).unwrap();
            let values = files.weights().read_shaped(tensor, &shape).unwrap().to_f32();
            let n = values.len() as f64;
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
            let std = (values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt();
            let (want_mean, want_std) = (want["mean"].as_f64().unwrap(), want["std"].as_f64().unwrap());
            // Both are samples: five standard errors of their difference.
            let error = 5.0 * want_std / n.sqrt();
            assert!((mean - want_mean).abs() <= 1.5 * error + 1e-9, "{name} {tensor}: {mean}, {want_mean}");
            assert!((std - want_std).abs() <= error + 1e-9, "{name} {tensor}: {std}, {want_std}");
            let zero: Vec<usize> = serde_json::from_value(want["zero_rows"].clone()).unwrap();
            let row_len = *shape.last().unwrap();
            let is_zero = |row: &[f32]| row.iter().all(|v| *v == 0.0);
            let ours: Vec<usize> = match std > 0.0 {
                true => (0..values.len() / row_len)
                    .filter(|&row| is_zero(&values[row * row_len..(row + 1) * row_len]))
                    .collect(),
                false => Vec::new(),
            };
            assert_eq!(ours, zero, "{name} {tensor}: rows of zeros");
        }
    }
}

#[test]
fn it_runs_and_knows_nothing_yet() {
    for name in MODELS {
        let model = open(name, 1).unwrap().load(Reference).unwrap();
        let has_encoder = model.spec().encoder.is_some();
        let sequence = Sequence {
            source: if has_encoder { &[7, 8, 9] } else { &[] },
            tokens: &[3, 10, 11, 12, 13],
            first_target: 1,
            segment: None,
            prefix_dropout: None,
            masks: None,
        };
        let none = Attachments::none();
        let batch = Batch::pack(&Reference, model.spec(), &none, &[sequence], 0.0).unwrap();
        let loss = model.loss(&batch, &none).iter().sum::<f32>() / 4.0;
        // T5 starts with states of deviation 1 and a head that is not small.
        let slack = if name.starts_with("t5") { 60.0 } else { 1.0 };
        assert!(loss > 2.0 && (loss - 300f32.ln()).abs() < slack, "{name}: {loss}");
    }
}

#[test]
fn what_is_no_config_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = ModelFiles::untrained(folder.path().to_str().unwrap(), 0).err().unwrap().to_string();
    assert!(error.contains("config.json and a tokenizer"), "{error}");
    let from = golden_folder().join("initial/gpt2/config.json");
    let with = |key: &str, value: u64| {
        let mut config: Value = serde_json::from_slice(&fs_err::read(&from).unwrap()).unwrap();
        config[key] = value.into();
        fs_err::write(folder.path().join("config.json"), config.to_string()).unwrap();
        ModelFiles::untrained(folder.path().to_str().unwrap(), 0).err().unwrap().to_string()
    };
    assert!(with("n_layer", 4_000_000_000).contains("at most 10000"));
    assert!(with("vocab_size", 4_000_000_000).contains("larger than any memory"));
}

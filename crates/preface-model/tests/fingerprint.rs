//! The fingerprint of a model is the same from every source, and each kind of difference is recognised as what it is.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::path::Path;

use preface_model::weights::{SafetensorsFile, TensorSource, Weights};
use preface_model::{Fingerprint, Match, ModelFiles, Probe};
use safetensors::tensor::{Dtype, TensorView, serialize};
use testkit::golden_folder;

fn files(model: &str) -> ModelFiles {
    ModelFiles::open(golden_folder().join(model).join("model").to_str().unwrap()).unwrap()
}

fn of(files: &ModelFiles) -> Fingerprint {
    Fingerprint::new(files.spec(), files.weights(), "tokenizer".into()).unwrap()
}

/// The fingerprint of the model with every tensor's name and values changed.
fn changed(
    model: &str,
    name: impl Fn(&str) -> String,
    values: impl Fn(&[usize], Vec<f32>) -> Vec<f32>,
) -> Fingerprint {
    let files = files(model);
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = files
        .weights()
        .names()
        .into_iter()
        .map(|old| {
            let tensor = files.weights().read(old).unwrap();
            let shape = tensor.info().shape().to_vec();
            let bytes = values(&shape, tensor.to_f32()).into_iter().flat_map(f32::to_le_bytes).collect();
            (name(old), shape, bytes)
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    let bytes = serialize(views, None::<HashMap<String, String>>).unwrap();
    let weights = Weights::Safetensors(SafetensorsFile::from_bytes("changed", bytes).unwrap());
    Fingerprint::new(files.spec(), &weights, "tokenizer".into()).unwrap()
}

fn with_values(model: &str, values: impl Fn(&[usize], Vec<f32>) -> Vec<f32>) -> Fingerprint {
    changed(model, str::to_owned, values)
}

#[test]
fn a_gguf_and_a_hugging_face_folder_of_one_model_have_the_same_fingerprint() {
    for model in ["tiny_llama", "tiny_gpt2"] {
        let folder = files(model);
        let gguf =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/fingerprint/{model}.gguf"));
        let weights = Weights::open(&gguf).unwrap();
        let from_gguf = Fingerprint::new(folder.spec(), &weights, "tokenizer".into()).unwrap();
        assert_eq!(of(&folder), from_gguf, "{model}");
    }
}

#[test]
fn names_without_the_optional_first_word_change_nothing() {
    for (model, word) in [("tiny_gpt2", "transformer."), ("tiny_llama", "model.")] {
        let short = changed(model, |name| name.replace(word, ""), |_, values| values);
        assert_eq!(short, of(&files(model)), "{model}");
    }
}

#[test]
fn the_probe_takes_value_rows_out_of_a_fused_transposed_matrix() {
    // Every element of GPT-2's fused matrix [d_model, 3 * d_model] says whether it belongs to a value.
    let marked = with_values("tiny_gpt2", |shape, values| match shape {
        [rows, columns] if *columns == 3 * *rows => {
            (0..values.len()).map(|i| if i % columns >= 2 * rows { 1.0 } else { -1.0 }).collect()
        }
        _ => values,
    });
    assert!(marked.probe[0].values.iter().all(|&value| value == 1.0), "{:?}", marked.probe[0]);
}

#[test]
fn the_numbers_come_from_many_rows_and_columns() {
    for probe in of(&files("tiny_llama")).probe {
        let mut values = probe.values;
        assert_eq!(values.len(), 64);
        values.sort_by(f32::total_cmp);
        values.dedup();
        assert!(values.len() > 55, "{}: only {} different numbers", probe.matrix, values.len());
    }
}

#[test]
fn another_precision_is_recognised_and_other_weights_are_told_apart() {
    for model in ["tiny_llama", "tiny_gpt2"] {
        let original = of(&files(model));
        let bf16 = with_values(model, |_, values| {
            values.into_iter().map(|value| f32::from_bits(value.to_bits() & 0xFFFF_0000)).collect()
        });
        match original.compare(&bf16) {
            Match::OtherPrecision { cosine } => assert!((0.9999..1.0).contains(&cosine), "{cosine}"),
            other => panic!("{model}: {other:?}"),
        }
        // Sixteen levels between the extremes: as coarse as any 4-bit type.
        let coarse = with_values(model, |_, values| {
            let most = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            values.into_iter().map(|value| (value / most * 7.5).round() / 7.5 * most).collect()
        });
        assert!(matches!(original.compare(&coarse), Match::OtherPrecision { .. }), "{model}");
        let foreign = with_values(model, |_, values| values.into_iter().rev().collect());
        match original.compare(&foreign) {
            Match::OtherWeights { cosine } => assert!(cosine < 0.5, "{cosine}"),
            other => panic!("{model}: {other:?}"),
        }
    }
}

#[test]
fn one_foreign_matrix_among_three_is_enough() {
    let original = of(&files("tiny_llama"));
    for matrix in 0..3 {
        let mut other = original.clone();
        other.probe[matrix].values.reverse();
        assert!(matches!(original.compare(&other), Match::OtherWeights { .. }), "{matrix}");
    }
}

#[test]
fn shapes_are_compared_before_tokenizers_and_tokenizers_before_weights() {
    let original = of(&files("tiny_llama"));
    assert_eq!(original.compare(&original), Match::Same);
    let mut other = original.clone();
    other.probe[0].values.reverse();
    other.tokenizer = "another".into();
    assert_eq!(original.compare(&other), Match::OtherTokenizer);
    other.shapes.n_kv_head += 1;
    assert_eq!(original.compare(&other), Match::OtherShapes);
    assert_eq!(original.compare(&of(&files("tiny_gpt2"))), Match::OtherShapes);
}

#[test]
fn probes_that_say_nothing_never_pass_for_the_same_model() {
    let original = of(&files("tiny_llama"));
    let with = |change: &dyn Fn(&mut Vec<Probe>)| {
        let mut other = original.clone();
        change(&mut other.probe);
        other
    };
    let broken = [
        with(&|probe| probe.clear()),
        with(&|probe| probe[1].values.clear()),
        with(&|probe| probe[1].matrix = "another".into()),
        with(&|probe| probe[2].values.fill(0.0)),
        with(&|probe| probe[2].values[3] = f32::NAN),
        with(&|probe| probe[2].values[3] = f32::INFINITY),
        with(&|probe| probe.swap(0, 1)),
    ];
    for other in broken {
        assert!(matches!(original.compare(&other), Match::OtherWeights { .. }), "{:?}", other.probe);
        assert!(matches!(other.compare(&original), Match::OtherWeights { .. }), "{:?}", other.probe);
    }
}

#[test]
fn weights_that_are_not_numbers_still_give_a_fingerprint_that_can_be_saved() {
    let broken = with_values("tiny_llama", |_, values| vec![f32::NAN; values.len()]);
    let json = serde_json::to_string(&broken).unwrap();
    assert_eq!(serde_json::from_str::<Fingerprint>(&json).unwrap(), broken);
}

#[test]
fn a_fingerprint_survives_json_bit_by_bit_and_is_short() {
    for model in ["tiny_llama", "tiny_gpt2"] {
        let original = of(&files(model));
        let json = serde_json::to_string(&original).unwrap();
        assert!(json.len() < 2500, "{} bytes", json.len());
        assert_eq!(original.compare(&serde_json::from_str(&json).unwrap()), Match::Same);
    }
}

#[test]
fn what_is_shown_differs_wherever_fingerprints_differ() {
    let original = of(&files("tiny_llama"));
    let mut tokenizer = original.clone();
    tokenizer.tokenizer = "another".into();
    let mut weights = original.clone();
    weights.probe[0].values[0] += 1.0;
    let shown = original.to_string();
    assert!(shown.starts_with("llama of 3 layers, width 48, 6 heads on 2 kv heads of 10"), "{shown}");
    assert_ne!(shown, tokenizer.to_string());
    assert_ne!(shown, weights.to_string());
}

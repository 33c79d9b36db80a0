//! Gradients of a real model on the CPU backend: those in bf16 point where those in `f32` do, layer by layer.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use preface_backend::Backend;
use preface_cpu::{CpuBackend, CpuOptions, Precision};
use preface_model::{Attachments, Batch, Model, ModelFiles, Sequence};
use preface_tune::init::{Init, MlpTextInit, text_rows};
use preface_tune::{Method, Prefix, Reparametrisation, Trained};
use testkit::cosine;

/// Workload W1's first batch (bench/make_w1.py): eight WebNLG pairs of SmolLM2's token ids.
const BATCH: &str = include_str!("w1_first_batch.json");
const PREFIX_LEN: usize = 10;

fn model(precision: Precision) -> Model<CpuBackend> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fetched/smollm2.gguf");
    let files = ModelFiles::open(path.to_str().unwrap()).unwrap();
    files.load(CpuBackend::new(CpuOptions { precision, ..CpuOptions::default() }).unwrap()).unwrap()
}

/// `[PREFIX_LEN, 2 * n_layer * kv_width]`
fn gradient(model: &Model<CpuBackend>, prefix: &[f32]) -> Vec<f32> {
    let pairs: Vec<(Vec<u32>, Vec<u32>)> = serde_json::from_str(BATCH).unwrap();
    let tokens: Vec<Vec<u32>> =
        pairs.iter().map(|(prompt, completion)| [&prompt[..], completion].concat()).collect();
    let sequences: Vec<Sequence<'_>> = pairs
        .iter()
        .zip(&tokens)
        .map(|((prompt, _), tokens)| Sequence {
            source: &[],
            tokens,
            first_target: prompt.len(),
            segment: Some(0),
            prefix_dropout: None,
            masks: None,
        })
        .collect();
    let backend = model.backend();
    let attachments = Attachments::prefix(backend, prefix, model.spec());
    let batch = Batch::pack(backend, model.spec(), &attachments, &sequences, 0.0).unwrap();
    let mut grads = attachments.zero_grad(backend);
    let loss = model.loss_and_gradient(&batch, &attachments, &mut grads);
    assert!(loss.iter().all(|loss| loss.is_finite()));
    backend.read(&grads.segments[0].decoder)
}

#[test]
#[ignore = "needs smollm2: cargo xtask fetch smollm2"]
fn smollm2_gradients_in_bf16_point_where_those_in_f32_do() {
    let (exact, rounded) = (model(Precision::F32), model(Precision::Bf16));
    let spec = exact.spec();
    let text: Vec<u32> = (0..PREFIX_LEN as u32).map(|i| 900 + 37 * i).collect();
    let from_text = text_rows(&exact, &text, None).unwrap().values;
    let mlp = Reparametrisation::Mlp { mid: 512, text_init: MlpTextInit::Exact };
    let random = Prefix::new(spec, PREFIX_LEN, mlp, Init::Random, 0, 0).unwrap();
    let Trained::Prefix(random) = Method::<CpuBackend>::trained(&random) else { unreachable!("a prefix") };
    for (name, prefix) in [("text", from_text), ("random", random.values)] {
        let (want, got) = (gradient(&exact, &prefix), gradient(&rounded, &prefix));
        let (row_width, layer_width) = (spec.prefix_row_width(), 2 * spec.kv_width());
        let cosines: Vec<f64> = (0..spec.n_layer)
            .map(|layer| {
                let of_layer = |i: &usize| i % row_width / layer_width == layer;
                let part = |values: &[f32]| -> Vec<f32> {
                    (0..values.len()).filter(of_layer).map(|i| values[i]).collect()
                };
                cosine(&part(&got), &part(&want))
            })
            .collect();
        let least = cosines.iter().copied().fold(f64::INFINITY, f64::min);
        let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
        println!("prefix from {name}: cosine of a layer's gradient, least {least:.5}, mean {mean:.5}");
        assert!(least >= 0.995 && mean >= 0.998, "prefix from {name}: least {least}, mean {mean}");
    }
}

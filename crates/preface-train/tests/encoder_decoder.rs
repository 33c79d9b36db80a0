//! A step of encoder-decoders on the CPU backend: in f32 the loss of `transformers`, in bf16 gradients that point where those
//! in f32 do, in every place and layer, with the encoder's output kept or not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use preface_backend::Backend;
use preface_cpu::{CpuBackend, CpuOptions, Precision};
use preface_model::{Attachments, InputStorage, Model, ModelFiles, PerPlace, PrefixPlace, Segment};
use preface_train::{GradientSum, TokenPair, accumulate};
use testkit::{Golden, Tolerance, assert_close, cosine};

const MODELS: [&str; 6] = ["bart", "mbart", "pegasus", "marian", "t5", "t5_v1_1"];

fn model(golden: &Golden, name: &str, precision: Precision) -> Model<CpuBackend> {
    let files = ModelFiles::open(golden.folder().join(name).to_str().unwrap()).unwrap();
    let options = CpuOptions { precision, threads: 2, ..CpuOptions::default() };
    files.load(CpuBackend::new(options).unwrap()).unwrap()
}

/// The loss of a token, and the gradient of the rows of each place, `[prefix_len, row_width]`.
fn step(
    golden: &Golden,
    name: &str,
    model: &Model<CpuBackend>,
    places: &[PrefixPlace],
) -> (f64, PerPlace<Vec<f32>>) {
    let (backend, spec) = (model.backend(), model.spec());
    let rows = PerPlace::new(|place| match places.contains(&place) {
        true => golden.tensor(&format!("{name}.rows.{place}")).unwrap().data.clone(),
        false => Vec::new(),
    });
    let first_position = rows.decoder.len() / spec.row_width(PrefixPlace::Decoder);
    let slices = PerPlace::new(|place| rows.get(place).as_slice());
    let segment = Segment::in_places(backend, slices, first_position, spec);
    let attachments = Attachments { segments: vec![segment], ..Attachments::none() };
    let start = golden.number(&format!("/models/{name}/decoder_start_token_id")).unwrap() as u32;
    let pairs = golden.pairs(&format!("/models/{name}/pairs")).unwrap();
    let pairs: Vec<TokenPair> = pairs
        .into_iter()
        .map(|pair| TokenPair {
            source: pair.prompt,
            prompt: vec![start],
            completion: pair.completion,
            line: 0,
        })
        .collect();
    let mut grads = attachments.zero_grad(backend);
    let wanted = GradientSum {
        grads: Some(&mut grads),
        label_smoothing: 0.0,
        prefix_dropout: &|_| None,
        masks: &|_| None,
    };
    let pairs: Vec<&TokenPair> = pairs.iter().collect();
    let sum = accumulate(model, &attachments, Some(0), &pairs, 1000, wanted).unwrap();
    let grads = PerPlace::new(|place| backend.read(grads.segments[0].get(place)));
    (sum.loss / sum.n_target as f64, grads)
}

#[test]
fn gradients_in_bf16_point_where_those_in_f32_do_in_every_place_and_layer() {
    let golden = Golden::open("encoder_decoder").unwrap();
    let subsets: [(&str, &[PrefixPlace]); 3] =
        [("all", &PrefixPlace::ALL), ("decoder", &[PrefixPlace::Decoder]), ("cross", &[PrefixPlace::Cross])];
    let mut least = f64::INFINITY;
    for name in MODELS {
        let exact = model(&golden, name, Precision::F32);
        let mut rounded = model(&golden, name, Precision::Bf16);
        for keeps_inputs in [false, true] {
            if keeps_inputs {
                rounded.keep_inputs(InputStorage::Bf16, 1 << 20);
            }
            for (subset, places) in subsets {
                let (want_loss, want) = step(&golden, name, &exact, places);
                let loss = golden.number(&format!("/models/{name}/losses/{subset}")).unwrap();
                let tolerance = Tolerance { abs: 0.0, rel: 1e-4 };
                assert_close(&format!("{name} {subset}"), &[want_loss], &[loss], tolerance);
                let (got_loss, got) = step(&golden, name, &rounded, places);
                let tolerance = Tolerance { abs: 0.0, rel: 2e-2 };
                assert_close(&format!("{name} {subset} bf16"), &[got_loss], &[want_loss], tolerance);
                assert!(got_loss != want_loss, "{name} {subset}: nothing was rounded");
                for &place in places {
                    let stack = exact.spec().stack(place).unwrap();
                    let layer_width = 2 * stack.kv_width();
                    for layer in 0..stack.n_layer {
                        let part = |grads: &PerPlace<Vec<f32>>| -> Vec<f32> {
                            let rows = grads.get(place).chunks_exact(stack.row_width());
                            rows.flat_map(|row| row[layer * layer_width..][..layer_width].to_vec()).collect()
                        };
                        let cosine = cosine(&part(&got), &part(&want));
                        least = least.min(cosine);
                        assert!(cosine >= 0.98, "{name} {subset} {place} layer {layer}: {cosine}");
                    }
                }
            }
        }
    }
    println!("least cosine of a layer's gradient: {least:.5}");
}

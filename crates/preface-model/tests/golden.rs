//! Logits, losses and prefix gradients against `transformers`, on tiny models with the traits that go wrong elsewhere:
//! grouped heads, a `head_dim` that is not `hidden / heads`, rotary scaling, sharded and half-precision files.
#![expect(clippy::unwrap_used, reason = "tests")]

use preface_backend::Reference;
use preface_model::{Attachments, Batch, Feed, KvCache, Model, ModelFiles, Sequence};
use testkit::{Golden, Pair, Tolerance, assert_close};

/// `f32` on both sides, different orders of summation.
const F32: Tolerance = Tolerance { abs: 0.0, rel: 1e-4 };

const MODELS: [&str; 5] =
    ["tiny_llama", "tiny_llama_untied", "tiny_gpt2", "tiny_llama_bf16", "tiny_gpt2_f16"];

fn open(name: &str) -> (Golden, Model<Reference>) {
    let golden = Golden::open(name).unwrap();
    let files = ModelFiles::open(golden.folder().join("model").to_str().unwrap()).unwrap();
    (golden, files.load(Reference).unwrap())
}

fn whole(pair: &Pair) -> Vec<u32> {
    [pair.prompt.as_slice(), &pair.completion].concat()
}

fn pack(
    model: &Model<Reference>,
    attachments: &Attachments<Reference>,
    pairs: &[Pair],
    label_smoothing: f32,
) -> Batch<Reference> {
    let tokens: Vec<Vec<u32>> = pairs.iter().map(whole).collect();
    let sequences: Vec<Sequence<'_>> = tokens
        .iter()
        .zip(pairs)
        .map(|(tokens, pair)| Sequence {
            source: &[],
            tokens,
            first_target: pair.prompt.len(),
            segment: (!attachments.segments.is_empty()).then_some(0),
            prefix_dropout: None,
            masks: None,
        })
        .collect();
    Batch::pack(&Reference, model.spec(), attachments, &sequences, label_smoothing).unwrap()
}

fn prefix(golden: &Golden, model: &Model<Reference>) -> Attachments<Reference> {
    Attachments::prefix(&Reference, &golden.tensor("prompt_embeddings").unwrap().data, model.spec())
}

#[test]
fn logits_of_every_position_equal_those_of_transformers() {
    for name in MODELS {
        let (golden, model) = open(name);
        let pairs = golden.pairs("/pairs").unwrap();
        for (kind, attachments) in [("bare", Attachments::none()), ("prefix", prefix(&golden, &model))] {
            for (i, pair) in pairs.iter().enumerate() {
                // The last token of a sequence has no row: a token more gives it one.
                let longer = Pair { completion: [pair.completion.as_slice(), &[0]].concat(), ..pair.clone() };
                let logits = model.logits(&pack(&model, &attachments, &[longer], 0.0), &attachments);
                let what = format!("logits.{kind}.{i}");
                assert_close(&format!("{name} {what}"), &logits, &golden.tensor(&what).unwrap().data, F32);
            }
        }
    }
}

#[test]
fn losses_and_prefix_gradients_equal_those_of_transformers() {
    for name in MODELS {
        let (golden, model) = open(name);
        let pairs = golden.pairs("/pairs").unwrap();
        let attachments = prefix(&golden, &model);
        let n_token: usize = pairs.iter().map(|pair| pair.completion.len()).sum();
        let smoothing = golden.number("/label_smoothing_factor").unwrap() as f32;
        for (loss_name, label_smoothing, weight) in [
            ("token_mean", 0.0, n_token as f32),
            ("sequence_mean", 0.0, pairs.len() as f32),
            ("smoothed", smoothing, n_token as f32),
        ] {
            let batch = pack(&model, &attachments, &pairs, label_smoothing);
            let mut grads = attachments.zero_grad(&Reference);
            let losses = model.loss_and_gradient(&batch, &attachments, &mut grads);
            assert_eq!(losses, model.loss(&batch, &attachments), "{name}: forward alone");
            let loss = losses.iter().sum::<f32>() / weight;
            let want = golden.number(&format!("/losses/prefix.{loss_name}")).unwrap();
            assert_close(&format!("{name} {loss_name}"), &[loss], &[want], F32);
            let gradient: Vec<f32> =
                grads.segments[0].decoder.clone().into_values().map(|g| g / weight).collect();
            let want = &golden.tensor(&format!("grad.{loss_name}")).unwrap().data;
            // Every row of every layer on its own: a small one must not hide behind a large one.
            let row_width = 2 * model.spec().n_layer;
            for (part, (got, want)) in gradient
                .chunks_exact(model.spec().kv_width())
                .zip(want.chunks_exact(model.spec().kv_width()))
                .enumerate()
            {
                let what = format!("{name} {loss_name} row {} part {}", part / row_width, part % row_width);
                assert_close(&what, got, want, F32);
            }
        }
    }
}

#[test]
fn cached_keys_and_values_of_a_text_are_what_transformers_computes() {
    let golden = Golden::open("init_text").unwrap();
    for name in ["tiny_llama", "tiny_llama_untied", "tiny_gpt2"] {
        let (_, model) = open(name);
        let none = Attachments::none();
        let mut cache = KvCache::new(&model, &none);
        let sequence = cache.start(None);
        let ids = golden.token_ids(&format!("/models/{name}/init_ids")).unwrap();
        cache.append(&[Feed { sequence, tokens: &ids }]).unwrap();
        let rows = cache.read(sequence);
        assert_close(name, &rows, &golden.tensor(&format!("{name}.prompt_embeddings")).unwrap().data, F32);

        // A prefix made from them is the same as really running the text first.
        let attachments = Attachments::prefix(&Reference, &rows, model.spec());
        let text = golden.token_ids(&format!("/models/{name}/text_ids")).unwrap();
        let pair = Pair { prompt: text, completion: vec![0] };
        let logits = model.logits(&pack(&model, &attachments, &[pair], 0.0), &attachments);
        assert_close(name, &logits, &golden.tensor(&format!("{name}.logits")).unwrap().data, F32);
    }
}

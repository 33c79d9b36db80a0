//! Gradients of every trained tensor of every method against PyTorch, and what each method starts from.
#![expect(clippy::unwrap_used, reason = "tests")]

use preface_backend::Reference;
use preface_model::{
    Attachments, Batch, Feed, KvCache, Model, ModelDropout, ModelError, ModelFiles, NamedPart,
    ParameterShape, Sequence, Site, SourceFeed, Stack,
};
use preface_tune::artefact::Opened;
use preface_tune::init::Init;
use preface_tune::{Adapter, FineTune, Infix, Lora, LoraSettings, Method, PromptTuning, Tuned};
use testkit::{Golden, Pair, Tolerance, assert_close, golden_folder};

/// `f32` on both sides, different orders of summation; some gradients (of the keys' bias) are zero but for rounding.
const F32: Tolerance = Tolerance { abs: 1e-7, rel: 2e-4 };

/// T5 does not scale its scores, so its softmax is steep and rounding to `f32` counts for more.
const STEEP: Tolerance = Tolerance { abs: 1e-7, rel: 1e-3 };

fn tolerance(name: &str) -> Tolerance {
    if name.starts_with("t5") { STEEP } else { F32 }
}

const MODELS: [&str; 2] = ["tiny_llama", "tiny_gpt2"];
/// Those with fixtures of every method.
const ENCODER_DECODERS: [&str; 2] = ["bart", "t5_v1_1"];

fn all_models() -> impl Iterator<Item = &'static str> {
    MODELS.into_iter().chain(ENCODER_DECODERS)
}

/// Those with fixtures of the methods whose rows stand among the text's. mBART, Pegasus and Marian have a factor on their
/// embeddings.
const WITH_ROWS: [&str; 8] =
    ["tiny_llama", "tiny_gpt2", "bart", "mbart", "t5", "t5_v1_1", "pegasus", "marian"];

fn is_encoder_decoder(name: &str) -> bool {
    !name.starts_with("tiny_")
}

/// The fixture of a model's methods.
fn fixture(name: &str) -> Golden {
    let folder = if is_encoder_decoder(name) { "encoder_decoder_methods" } else { "methods" };
    Golden::open(folder).unwrap()
}

fn model(name: &str) -> Model<Reference> {
    let folder = match is_encoder_decoder(name) {
        true => golden_folder().join("encoder_decoder").join(name),
        false => golden_folder().join(name).join("model"),
    };
    ModelFiles::open(folder.to_str().unwrap()).unwrap().load(Reference).unwrap()
}

fn pack(
    model: &Model<Reference>,
    attachments: &Attachments<Reference>,
    pairs: &[Pair],
    masks: Option<u64>,
) -> Batch<Reference> {
    let has_encoder = model.spec().encoder.is_some();
    let ahead = |pair: &'_ Pair| if has_encoder { 0 } else { pair.prompt.len() };
    let tokens: Vec<Vec<u32>> =
        pairs.iter().map(|pair| [&pair.prompt[..ahead(pair)], &pair.completion].concat()).collect();
    let sequences: Vec<Sequence<'_>> = tokens
        .iter()
        .zip(pairs)
        .enumerate()
        .map(|(i, (tokens, pair))| Sequence {
            source: if has_encoder { &pair.prompt } else { &[] },
            tokens,
            first_target: ahead(pair),
            segment: None,
            prefix_dropout: None,
            masks: masks.map(|stream| stream + i as u64),
        })
        .collect();
    Batch::pack(&Reference, model.spec(), attachments, &sequences, 0.0).unwrap()
}

/// Pairs of a model; in an encoder-decoder the completion is what the decoder sees, its start token first.
fn pairs(name: &str) -> Vec<Pair> {
    if !is_encoder_decoder(name) {
        return Golden::open(name).unwrap().pairs("/pairs").unwrap();
    }
    let golden = Golden::open("encoder_decoder").unwrap();
    let start = golden.number(&format!("/models/{name}/decoder_start_token_id")).unwrap() as u32;
    let mut pairs = golden.pairs(&format!("/models/{name}/pairs")).unwrap();
    pairs.iter_mut().for_each(|pair| pair.completion.insert(0, start));
    pairs
}

/// Mean loss of the completion tokens, and its gradient by the method's parameters.
fn gradient(
    model: &mut Model<Reference>,
    method: &mut dyn Method<Reference>,
    pairs: &[Pair],
    masks: Option<u64>,
) -> (f32, Vec<f32>) {
    let attachments = method.attach(model);
    let mut grads = attachments.zero_grad(&Reference);
    let batch = pack(model, &attachments, pairs, masks);
    let losses = model.loss_and_gradient(&batch, &attachments, &mut grads);
    assert_eq!(losses, model.loss(&batch, &attachments), "forward alone");
    method.detach(model);
    let weight = batch.n_target() as f32;
    let gradient = method.gradient(model, grads).iter().map(|g| g / weight).collect();
    (losses.iter().sum::<f32>() / weight, gradient)
}

fn loss(model: &mut Model<Reference>, method: &mut dyn Method<Reference>, pairs: &[Pair]) -> f32 {
    let attachments = method.attach(model);
    let batch = pack(model, &attachments, pairs, None);
    let loss = model.loss(&batch, &attachments).iter().sum::<f32>() / batch.n_target() as f32;
    method.detach(model);
    loss
}

fn logits(model: &mut Model<Reference>, method: &mut dyn Method<Reference>, prompt: &[u32]) -> Vec<f32> {
    let attachments = method.attach(model);
    // The last token of a sequence has no row: a token more gives it one.
    let pair = Pair { prompt: prompt.to_vec(), completion: vec![0] };
    let logits = model.logits(&pack(model, &attachments, &[pair], None), &attachments);
    // Behind a soft prompt its rows come first.
    logits[logits.len() - prompt.len() * model.spec().vocab_size..].to_vec()
}

fn pair_logits(model: &mut Model<Reference>, method: &mut dyn Method<Reference>, pair: &Pair) -> Vec<f32> {
    let attachments = method.attach(model);
    model.logits(&pack(model, &attachments, std::slice::from_ref(pair), None), &attachments)
}

/// The part's values in the layout of `transformers`, `[n_row, n_column]`.
fn stored(part: &NamedPart, shape: &ParameterShape, values: &[f32]) -> (usize, Vec<f32>) {
    let n_in = shape.weight[1];
    let own = &values[part.rows.start * n_in..part.rows.end * n_in];
    if !part.transposed {
        return (n_in, own.to_vec());
    }
    let n_out = part.rows.len();
    (n_out, (0..n_in * n_out).map(|i| own[i % n_out * n_in + i / n_out]).collect())
}

/// `u^T G` and `G v`, as the fixture has them.
fn projections(n_column: usize, values: &[f32]) -> [Vec<f32>; 2] {
    let u = |i: usize| (i as f64 + 1.0).sin();
    let v = |j: usize| (j as f64 + 1.0).cos();
    let at = |i: usize, j: usize| f64::from(values[i * n_column + j]);
    let n_row = values.len() / n_column;
    let left = (0..n_column).map(|j| (0..n_row).map(|i| u(i) * at(i, j)).sum::<f64>() as f32);
    let right = (0..n_row).map(|i| (0..n_column).map(|j| at(i, j) * v(j)).sum::<f64>() as f32);
    [left.collect(), right.collect()]
}

fn check_fine_tune(name: &str, tuned: Tuned) {
    let golden = fixture(name);
    let mut model = model(name);
    let spec = model.spec().clone();
    let mut method = FineTune::new(&model, tuned, ModelDropout::default()).unwrap();
    let (_, gradient) = gradient(&mut model, &mut method, &pairs(name), None);
    // The same modules over the gradient in the place of the weights.
    Method::<Reference>::parameters_mut(&mut method).values_mut().copy_from_slice(&gradient);
    let mut n_tensor = 0;
    for (shape, weight, bias) in method.modules() {
        for part in spec.hugging_face_parts(shape.site) {
            let wanted = |ending: &str| {
                let tensor = format!("{name}.fine_tune.{}.{ending}", part.module);
                (golden.tensor(&tensor).unwrap().data.clone(), tensor)
            };
            n_tensor += 1;
            if shape.site.is_norm() {
                let (want, what) = wanted("weight");
                assert_close(&what, weight, &want, tolerance(name));
            } else {
                let (n_column, own) = stored(&part, shape, weight);
                for (got, side) in projections(n_column, &own).iter().zip(["left", "right"]) {
                    let (want, what) = wanted(&format!("weight.{side}"));
                    assert_close(&what, got, &want, tolerance(name));
                }
            }
            if let Some(bias) = bias {
                n_tensor += 1;
                let (want, what) = wanted("bias");
                assert_close(&what, &bias[part.rows.clone()], &want, tolerance(name));
            }
        }
    }
    if tuned == Tuned::All {
        let of_model =
            |tensor: &&str| tensor.starts_with(&format!("{name}.fine_tune.")) && !tensor.ends_with(".left");
        assert_eq!(n_tensor, golden.tensor_names().filter(of_model).count(), "{name}: all tensors");
    }
}

#[test]
fn gradients_of_all_weights_equal_those_of_pytorch() {
    for name in ["tiny_llama", "tiny_llama_untied", "tiny_gpt2", "bart", "mbart", "t5", "t5_v1_1"] {
        check_fine_tune(name, Tuned::All);
    }
}

#[test]
fn gradients_of_the_top_layers_are_the_same_without_those_below() {
    for name in all_models() {
        check_fine_tune(name, Tuned::Top(1));
        check_fine_tune(name, Tuned::Top(2));
    }
}

fn set(method: &mut dyn Method<Reference>, values: impl Fn(&str) -> Vec<f32>) {
    let parameters = method.parameters_mut();
    for i in 0..parameters.ranges().len() {
        let own = values(&parameters.ranges()[i].name);
        parameters.part_mut(i).copy_from_slice(&own);
    }
}

/// Compares the method's logits and the gradient of every part with the fixture's.
fn check(name: &str, kind: &str, method: &mut dyn Method<Reference>, tensor: impl Fn(&str) -> String) {
    let golden = fixture(name);
    let mut model = model(name);
    let compare = |i: usize, got: Vec<f32>| {
        let what = format!("{name}.{kind}.logits.{i}");
        assert_close(&what, &got, &golden.tensor(&what).unwrap().data, tolerance(name));
    };
    if is_encoder_decoder(name) {
        for i in [0, 2] {
            compare(i, pair_logits(&mut model, method, &pairs(name)[i]));
        }
    } else {
        let prompts: Vec<Vec<u32>> =
            serde_json::from_value(golden.value(&format!("/prompts/{name}")).unwrap().clone()).unwrap();
        for (i, prompt) in prompts.iter().enumerate() {
            compare(i, logits(&mut model, method, prompt));
        }
    }
    let (loss, gradient) = gradient(&mut model, method, &pairs(name), None);
    if let Ok(want) = golden.number(&format!("/losses/{name}/{kind}")) {
        assert_close(&format!("{name}.{kind} loss"), &[loss], &[want], tolerance(name));
    }
    let mut n_part = 0;
    for part in method.parameters().ranges() {
        let what = format!("{name}.{kind}.grad.{}", tensor(&part.name));
        assert_close(
            &what,
            &gradient[part.range.clone()],
            &golden.tensor(&what).unwrap().data,
            tolerance(name),
        );
        n_part += 1;
    }
    let of_kind = |tensor: &&str| tensor.starts_with(&format!("{name}.{kind}.grad."));
    assert_eq!(n_part, golden.tensor_names().filter(of_kind).count(), "{name} {kind}: all tensors");
}

#[test]
fn adapters_have_the_logits_and_gradients_of_pytorch() {
    for name in all_models() {
        let golden = fixture(name);
        let width = golden.number("/adapter_width").unwrap() as usize;
        let mut method = Adapter::new(model(name).spec(), width, ModelDropout::default(), 1);
        set(&mut method, |part| golden.tensor(&format!("{name}.adapter.{part}")).unwrap().data.clone());
        check(name, "adapter", &mut method, str::to_owned);
    }
}

/// The method of a folder that PEFT wrote.
fn of_peft(name: &str, kind: &str) -> Box<dyn Method<Reference>> {
    let folder = fixture(name).folder().join(name).join(kind);
    Opened::open(&folder).unwrap().method(name, &model(name)).unwrap()
}

#[test]
fn low_rank_deltas_have_the_logits_and_gradients_of_peft() {
    for name in all_models() {
        check(name, "lora", &mut *of_peft(name, "lora"), |part| format!("base_model.model.{part}"));
    }
}

#[test]
fn soft_prompts_have_the_logits_and_gradients_of_peft() {
    for name in WITH_ROWS {
        // Where PEFT's own would leave out the factor on the text's embeddings, rows that PyTorch was given by hooks.
        let mut method = match fixture(name).tensor(&format!("{name}.prompt_tuning.prompt_embeddings")) {
            Ok(rows) => Box::new(PromptTuning::from_rows(model(name).spec(), rows.data.clone(), None, 3)),
            Err(_) => of_peft(name, "prompt_tuning"),
        };
        check(name, "prompt_tuning", &mut *method, |_| "prompt_embeddings".into());
    }
}

#[test]
fn an_infix_has_the_logits_and_gradients_of_pytorch() {
    for name in WITH_ROWS {
        let golden = fixture(name);
        let rows = |part: &str| golden.tensor(&format!("{name}.infix.{part}")).unwrap().data.clone();
        let (embeddings, added) = (rows("infix_embeddings"), rows("infix_key_values"));
        let mut infix = Infix::from_rows(model(name).spec(), embeddings, added);
        check(name, "infix", &mut infix, |part| {
            if part == "infix_embeddings" { part.into() } else { "infix_key_values".into() }
        });
    }
}

fn lora(name: &str, targets: &[&str], lora_dropout: f64) -> Lora {
    let target_modules = targets.iter().map(|target| (*target).to_owned()).collect();
    let settings = LoraSettings { r: 3, lora_alpha: 6.0, lora_dropout, target_modules };
    Lora::new(model(name).spec(), settings, 7).unwrap()
}

/// Modules of every kind that a model has.
fn targets(name: &str) -> &'static [&'static str] {
    match name {
        "tiny_llama" => &["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"],
        "tiny_gpt2" => &["c_attn", "c_fc", "c_proj"],
        "bart" => &["q_proj", "k_proj", "out_proj", "fc1", "fc2"],
        _ => &["q", "v", "o", "wi_0", "wi_1", "wo"],
    }
}

#[test]
fn what_starts_as_the_identity_gives_the_bare_models_loss() {
    for name in all_models() {
        let mut model = model(name);
        let bare = {
            let batch = pack(&model, &Attachments::none(), &pairs(name), None);
            model.loss(&batch, &Attachments::none()).iter().sum::<f32>() / batch.n_target() as f32
        };
        let mut deltas = lora(name, targets(name), 0.0);
        let mut adapters = Adapter::new(model.spec(), 3, ModelDropout::default(), 5);
        let mut weights = FineTune::new(&model, Tuned::All, ModelDropout::default()).unwrap();
        assert_eq!(loss(&mut model, &mut deltas, &pairs(name)), bare, "{name} lora");
        assert_eq!(loss(&mut model, &mut adapters, &pairs(name)), bare, "{name} adapter");
        assert_eq!(loss(&mut model, &mut weights, &pairs(name)), bare, "{name} weights");
    }
}

#[test]
fn a_model_that_rounds_nothing_holds_the_only_weights_until_they_are_taken_back_to_the_bit() {
    for name in all_models() {
        let mut model = model(name);
        let mut weights = FineTune::new(&model, Tuned::All, ModelDropout::default()).unwrap();
        let method: &mut dyn Method<Reference> = &mut weights;
        for (i, value) in method.parameters_mut().values_mut().iter_mut().enumerate() {
            *value += i as f32 * 1e-4;
        }
        let before = method.parameters().values().to_vec();
        assert!(method.lends(&model));
        method.attach(&mut model);
        assert!(method.parameters().values().is_empty(), "{name}: a second copy");
        let mut n_changed = 0;
        method.update(&mut model, &mut |first, values| {
            assert_eq!(values, &before[first..first + values.len()], "{name}");
            values.iter_mut().for_each(|value| *value *= 2.0);
            n_changed += values.len();
        });
        assert_eq!(n_changed, before.len(), "{name}");
        method.detach(&model);
        let before: Vec<f32> = before.iter().map(|value| value * 2.0).collect();
        assert_eq!(method.parameters().values(), before, "{name}");
        // Again without an attach in between: nothing was lent.
        method.detach(&model);
        assert_eq!(method.parameters().values(), before, "{name}");
    }
}

/// Moves a few parameters of every part; the loss must change as the gradient says.
fn check_finite_differences(name: &str, mut method: impl Method<Reference>, masks: Option<u64>) {
    let mut model = model(name);
    let pairs = &pairs(name)[..3];
    let (_, gradient) = gradient(&mut model, &mut method, pairs, masks);
    let ranges = method.parameters().ranges().to_vec();
    let size = (gradient.iter().map(|g| g * g).sum::<f32>() / gradient.len() as f32).sqrt();
    assert!(size > 1e-5, "{name}: the loss depends on nothing");
    for part in ranges {
        for i in [part.range.start, part.range.start + part.range.len() / 2, part.range.end - 1] {
            let mut at = |step: f32| {
                let value = method.parameters().values()[i];
                method.parameters_mut().values_mut()[i] = value + step;
                let attachments = method.attach(&mut model);
                let batch = pack(&model, &attachments, pairs, masks);
                let loss: f64 = model.loss(&batch, &attachments).iter().map(|&loss| f64::from(loss)).sum();
                method.detach(&model);
                method.parameters_mut().values_mut()[i] = value;
                loss / batch.n_target() as f64
            };
            // A step across the kink of a ReLU says nothing, so a shorter one may do as well; its quotient is noisier.
            let numeric =
                |step: f32, at: &mut dyn FnMut(f32) -> f64| (at(step) - at(-step)) / f64::from(2.0 * step);
            let is_near = |numeric: f64, tolerance: f64| {
                (numeric - f64::from(gradient[i])).abs() <= tolerance * f64::from(size + gradient[i].abs())
            };
            let [long, short] = [4e-3, 5e-4].map(|step| numeric(step, &mut at));
            let near = is_near(long, 5e-3) || is_near(short, 2e-2);
            assert!(near, "{name} {} {i}: {} against {long}, {short}", part.name, gradient[i]);
        }
    }
}

#[test]
fn gradients_under_a_fixed_mask_agree_with_finite_differences() {
    for name in all_models() {
        let dropout = DROPOUT;
        let spec = model(name).spec().clone();
        let mut adapters = Adapter::new(&spec, 3, dropout, 5);
        set_nonzero(&mut adapters);
        check_finite_differences(name, adapters, Some(77));
        let mut deltas = lora(name, targets(name), 0.4);
        set_nonzero(&mut deltas);
        check_finite_differences(name, deltas, Some(78));
        let weights = FineTune::new(&model(name), Tuned::All, dropout).unwrap();
        check_finite_differences(name, weights, Some(79));
    }
}

fn set_nonzero(method: &mut dyn Method<Reference>) {
    for (i, value) in method.parameters_mut().values_mut().iter_mut().enumerate() {
        *value += 0.2 * (i as f32 * 1.7).sin();
    }
}

/// All that there is.
const DROPOUT: ModelDropout =
    ModelDropout { embedding: 0.2, residual: 0.3, attention: 0.25, activation: 0.15, output: 0.1 };

#[test]
fn a_mask_drops_and_without_one_nothing_does() {
    let dropout =
        ModelDropout { embedding: 0.2, residual: 0.3, attention: 0.25, activation: 0.15, output: 0.1 };
    for name in MODELS {
        let mut model = model(name);
        let pairs = pairs(name);
        let mut plain = FineTune::new(&model, Tuned::All, ModelDropout::default()).unwrap();
        let mut dropped = FineTune::new(&model, Tuned::All, dropout).unwrap();
        let bare = gradient(&mut model, &mut plain, &pairs, None);
        assert_eq!(gradient(&mut model, &mut dropped, &pairs, None), bare, "{name}: no mask");
        // Without shared rows sums have another order.
        let p_zero = gradient(&mut model, &mut plain, &pairs, Some(5));
        assert_close(name, &p_zero.1, &bare.1, F32);
        let first = gradient(&mut model, &mut dropped, &pairs, Some(5));
        assert_eq!(gradient(&mut model, &mut dropped, &pairs, Some(5)), first, "{name}: the same mask");
        assert!((first.0 - bare.0).abs() > 1e-3, "{name}: nothing was dropped");
        assert!(
            (first.0 - gradient(&mut model, &mut dropped, &pairs, Some(50)).0).abs() > 1e-4,
            "{name}: another mask"
        );
    }
}

#[test]
fn soft_prompts_made_of_a_texts_embeddings_are_that_text() {
    for name in MODELS {
        let mut model = model(name);
        let text = [5, 9, 11, 7];
        let rows = PromptTuning::embeddings_of(&model, &text);
        for mid in [None, Some(6)] {
            let mut prompt = PromptTuning::from_rows(model.spec(), rows.clone(), mid, 3);
            let behind = logits(&mut model, &mut prompt, &[20, 21, 22]);
            let pair = Pair { prompt: vec![5, 9, 11, 7, 20, 21, 22], completion: vec![0] };
            let whole =
                model.logits(&pack(&model, &Attachments::none(), &[pair], None), &Attachments::none());
            assert_close(name, &behind, &whole[4 * model.spec().vocab_size..], F32);
        }
    }
}

/// Logits of the decoder from a cache, token by token.
fn cached(model: &Model<Reference>, attachments: &Attachments<Reference>, pair: &Pair) -> Vec<f32> {
    let mut cache = KvCache::new(model, attachments);
    let sequence = cache.encode(&[SourceFeed { tokens: &pair.prompt, segment: None }]).unwrap()[0];
    let tokens = &pair.completion[..pair.completion.len() - 1];
    tokens.iter().flat_map(|&token| cache.extend(&[Feed { sequence, tokens: &[token] }]).unwrap()).collect()
}

#[test]
fn rows_in_an_encoder_that_are_a_texts_embeddings_are_that_text() {
    for name in WITH_ROWS.into_iter().filter(|name| is_encoder_decoder(name)) {
        let mut model = model(name);
        let spec = model.spec().clone();
        let text: Vec<u32> =
            serde_json::from_value(fixture(name).value("/text_ids").unwrap().clone()).unwrap();
        let rows = PromptTuning::embeddings_of(&model, &text);
        let of_peft = fixture(name).tensor(&format!("{name}.prompt_tuning.text")).unwrap().data.clone();
        assert_close(name, &rows, &of_peft, F32);
        let pair = pairs(name).swap_remove(2);
        let reading = |prompt| Pair { prompt, completion: pair.completion.clone() };
        let whole = |prompt: Vec<u32>| {
            let none = Attachments::none();
            model.logits(&pack(&model, &none, &[reading(prompt)], None), &none)
        };
        let ahead = whole([&text[..], &pair.prompt].concat());
        let behind = whole([&pair.prompt[..], &text].concat());
        assert!(testkit::close(&ahead, &behind, F32).is_err(), "{name}: positions matter");
        for mid in [None, Some(6)] {
            let mut prompt = PromptTuning::from_rows(&spec, rows.clone(), mid, 3);
            let mut infix = Infix::from_embeddings(&spec, rows.clone(), mid, 3);
            let methods: [(&mut dyn Method<Reference>, &[f32]); 2] =
                [(&mut prompt, &ahead), (&mut infix, &behind)];
            for (method, want) in methods {
                assert_close(name, &pair_logits(&mut model, method, &pair), want, tolerance(name));
                let attachments = method.attach(&mut model);
                assert_close(name, &cached(&model, &attachments, &pair), want, tolerance(name));
            }
        }
    }
}

#[test]
fn rows_in_an_encoder_take_its_positions_and_none_of_the_decoders() {
    let mut model = model("bart");
    let spec = model.spec().clone();
    let attachments = PromptTuning::new(&spec, 3, None, Init::Random, 1).attach(&mut model);
    let run = |source_len, target_len| {
        let (source, tokens) = (vec![7; source_len], vec![8; target_len]);
        let sequence = Sequence {
            source: &source,
            tokens: &tokens,
            first_target: 1,
            segment: None,
            prefix_dropout: None,
            masks: None,
        };
        Batch::pack(&Reference, &spec, &attachments, &[sequence], 0.0).map(drop)
    };
    // There are 40; the last token of the target has no row.
    assert_eq!(run(37, 41), Ok(()));
    let too_long = ModelError::TooLong { sequence: 0, n_row: 38, prefix_len: 3, max_positions: 40 };
    assert_eq!(run(38, 2), Err(too_long));
    let mut cache = KvCache::new(&model, &attachments);
    assert!(cache.encode(&[SourceFeed { tokens: &[7; 38], segment: None }]).is_err());
    let sequence = cache.encode(&[SourceFeed { tokens: &[7; 37], segment: None }]).unwrap()[0];
    assert!(cache.extend(&[Feed { sequence, tokens: &[8; 40] }]).is_ok());
    assert_eq!(cache.len(sequence), 40);
}

#[test]
fn soft_prompts_through_an_mlp_have_gradients_that_agree_with_finite_differences() {
    for name in all_models() {
        let prompt = PromptTuning::new(model(name).spec(), 3, Some(6), Init::Random, 4);
        check_finite_differences(name, prompt, None);
    }
}

#[test]
fn an_infix_made_of_a_texts_embeddings_is_that_text_behind_the_prompt() {
    for name in MODELS {
        let mut model = model(name);
        let rows = PromptTuning::embeddings_of(&model, &[5, 9, 11]);
        let pair = Pair { prompt: vec![20, 21, 22, 23], completion: vec![30, 31, 32] };
        let written = Pair { prompt: vec![20, 21, 22, 23, 5, 9, 11], completion: pair.completion.clone() };
        for mid in [None, Some(6)] {
            let mut infix = Infix::from_embeddings(model.spec(), rows.clone(), mid, 3);
            let as_text = {
                let batch = pack(&model, &Attachments::none(), std::slice::from_ref(&written), None);
                model.loss(&batch, &Attachments::none())
            };
            let attachments = infix.attach(&mut model);
            let batch = pack(&model, &attachments, std::slice::from_ref(&pair), None);
            assert_close(name, &model.loss(&batch, &attachments), &as_text, F32);
            // And token by token from a cache, the prompt at once.
            let mut cache = KvCache::new(&model, &attachments);
            let sequence = cache.start(None);
            let logits = model.logits(&batch, &attachments);
            let vocab = model.spec().vocab_size;
            let got = cache.extend(&[Feed { sequence, tokens: &pair.prompt }]).unwrap();
            assert_close(name, &got, &logits[6 * vocab..7 * vocab], F32);
            let got = cache.extend(&[Feed { sequence, tokens: &[30] }]).unwrap();
            assert_close(name, &got, &logits[7 * vocab..8 * vocab], F32);
        }
    }
}

#[test]
fn the_prompt_does_not_see_an_infix_and_the_completion_does() {
    for name in MODELS {
        let mut model = model(name);
        let spec = model.spec().clone();
        let vocab = spec.vocab_size;
        let pair = Pair { prompt: vec![20, 21, 22, 23], completion: vec![30, 31] };
        let bare = pack(&model, &Attachments::none(), std::slice::from_ref(&pair), None);
        let bare = model.logits(&bare, &Attachments::none());
        let attachments = Infix::new(&spec, 3, None, Init::Random, 1).attach(&mut model);
        let with = model.logits(&pack(&model, &attachments, &[pair], None), &attachments);
        assert_close(name, &with[..4 * vocab], &bare[..4 * vocab], F32);
        let far = |a: &[f32], b: &[f32]| a.iter().zip(b).any(|(a, b)| (a - b).abs() > 1e-2);
        assert!(far(&with[7 * vocab..8 * vocab], &bare[4 * vocab..5 * vocab]), "{name}");
    }
}

#[test]
fn an_infix_has_gradients_that_agree_with_finite_differences() {
    for name in all_models() {
        for mid in [None, Some(6)] {
            check_finite_differences(name, Infix::new(model(name).spec(), 3, mid, Init::Random, 4), None);
        }
    }
}

#[test]
fn an_embedding_is_one_site_where_the_head_is_tied_to_it() {
    let sites = |name: &str| -> Vec<Site> {
        model(name).parameter_shapes().into_iter().map(|shape| shape.site).collect()
    };
    assert!(!sites("tiny_llama").contains(&Site::Head));
    assert!(sites("tiny_llama_untied").contains(&Site::Head));
    assert!(sites("tiny_gpt2").contains(&Site::Positions(Stack::Decoder)));
}

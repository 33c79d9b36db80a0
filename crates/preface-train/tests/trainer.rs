//! The loop against PyTorch, and what must hold of it whatever the numbers.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use preface_backend::Reference;
use preface_data::sampler::BatchBy;
use preface_model::{Attachments, Model, ModelFiles};
use preface_train::{
    Checkpoint, EVAL_LOSS, End, EvaluationLog, Evaluator, GradientSum, LossNorm, Observer, Schedule, StepLog,
    TokenPair, TrainError, TrainSettings, Trainer, accumulate,
};
use preface_tune::init::{Init, MlpTextInit};
use preface_tune::{AdamSettings, Method, Prefix, PrefixRows, Reparametrisation};
use testkit::{Golden, Tolerance, assert_close};

/// Ten steps of `f32` on both sides; the fixture's own distance between `f32` and `f64` is below 2e-5.
const TEN_STEPS: Tolerance = Tolerance { abs: 0.0, rel: 1e-4 };

const MLP: Reparametrisation = Reparametrisation::Mlp { mid: 23, text_init: MlpTextInit::Exact };

fn model(name: &str) -> Model<Reference> {
    let folder = Golden::open(name).unwrap().folder().join("model");
    ModelFiles::open(folder.to_str().unwrap()).unwrap().load(Reference).unwrap()
}

fn settings() -> TrainSettings {
    TrainSettings {
        max_steps: 10,
        per_device_train_batch_size: 4,
        batch_by: BatchBy::Pair,
        gradient_accumulation_steps: 1,
        learning_rate: 1e-2,
        lr_scheduler_type: Schedule::Linear,
        warmup_steps: 3,
        adam: AdamSettings { weight_decay: 0.01, ..AdamSettings::default() },
        max_grad_norm: 1.0,
        loss_norm: LossNorm::PerToken,
        label_smoothing_factor: 0.0,
        prefix_dropout: 0.0,
        seed: 7,
        logging_steps: 1,
        eval_steps: 0,
        save_steps: 0,
        save_total_limit: 1,
        early_stopping_patience: 0,
        load_best_model_at_end: false,
        metric_for_best_model: EVAL_LOSS.into(),
        max_tokens_per_batch: 1000,
    }
}

fn pairs(golden: &Golden, name: &str) -> Vec<TokenPair> {
    let pairs = golden.pairs(&format!("/models/{name}/pairs")).unwrap();
    pairs
        .into_iter()
        .enumerate()
        .map(|(line, pair)| TokenPair {
            source: Vec::new(),
            prompt: pair.prompt,
            completion: pair.completion,
            line,
        })
        .collect()
}

/// Keeps what it is told; asks for the end after `stop_after` steps.
#[derive(Default)]
struct Notes {
    steps: Vec<StepLog>,
    evaluations: Vec<EvaluationLog>,
    checkpoints: Vec<PathBuf>,
    stop_after: Option<usize>,
}

impl Observer for Notes {
    fn step(&mut self, log: &StepLog) {
        self.steps.push(log.clone());
    }

    fn evaluation(&mut self, log: &EvaluationLog) {
        self.evaluations.push(log.clone());
    }

    fn checkpoint(&mut self, path: &Path) {
        self.checkpoints.push(path.into());
    }

    fn should_stop(&mut self) -> bool {
        self.stop_after.is_some_and(|n| self.steps.len() >= n)
    }
}

impl Notes {
    /// Everything of the steps that does not depend on the clock, to the bit.
    fn numbers(&self) -> Vec<[u64; 4]> {
        let bits = |log: &StepLog| [log.step, log.loss.to_bits(), log.grad_norm.to_bits(), log.tokens];
        self.steps.iter().map(bits).collect()
    }
}

#[test]
fn mlp_rows_and_gradients_equal_those_of_pytorch() {
    let golden = Golden::open("mlp").unwrap();
    for name in ["tiny_llama", "tiny_gpt2"] {
        let mut model = model(name);
        let mut prefix = Prefix::new(model.spec(), 5, MLP, Init::Random, 0, 1).unwrap();
        set_mlp(&mut prefix, &golden, &format!("{name}.mlp.start"));
        let rows = prefix.rows().values;
        assert_close(name, &rows, &golden.tensor(&format!("{name}.mlp.rows")).unwrap().data, TEN_STEPS);

        let attachments = Method::<Reference>::attach(&mut prefix, &mut model);
        let mut grads = attachments.zero_grad(&Reference);
        let pairs = pairs(&golden, name);
        let pairs: Vec<&TokenPair> = pairs.iter().collect();
        let wanted = GradientSum {
            grads: Some(&mut grads),
            label_smoothing: 0.0,
            prefix_dropout: &|_| None,
            masks: &|_| None,
        };
        let sum = accumulate(&model, &attachments, Some(0), &pairs, 1000, wanted).unwrap();
        let weight = sum.weight(LossNorm::PerToken);
        let gradient: Vec<f32> = prefix.gradient(&model, grads).iter().map(|g| g / weight as f32).collect();
        let ranges = Method::<Reference>::parameters(&prefix).ranges().to_vec();
        for (range, part) in ranges.iter().zip(PARTS) {
            let want = &golden.tensor(&format!("{name}.mlp.grad.{part}")).unwrap().data;
            assert_close(&format!("{name} {part}"), &gradient[range.range.clone()], want, TEN_STEPS);
        }
    }
}

const PARTS: [&str; 5] = ["embedding", "linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias"];

fn set_mlp(prefix: &mut Prefix, golden: &Golden, from: &str) {
    let parameters = Method::<Reference>::parameters_mut(prefix);
    for (i, part) in PARTS.iter().enumerate() {
        let values = &golden.tensor(&format!("{from}.{part}")).unwrap().data;
        parameters.part_mut(i).copy_from_slice(values);
    }
}

/// The trainer's own order of pairs is not PyTorch's, so each step of the fixture is a run of its own over that step's
/// pairs, carried on through a checkpoint; that exercises clip, schedule, moments and resuming together.
#[test]
fn ten_adamw_steps_equal_those_of_pytorch() {
    let golden = Golden::open("mlp").unwrap();
    for name in ["tiny_llama", "tiny_gpt2"] {
        let mut model = model(name);
        let all = pairs(&golden, name);
        for kind in ["mlp", "direct"] {
            let mut prefix = match kind {
                "mlp" => {
                    let mut prefix = Prefix::new(model.spec(), 5, MLP, Init::Random, 0, 1).unwrap();
                    set_mlp(&mut prefix, &golden, &format!("{name}.mlp.start"));
                    prefix
                }
                _ => {
                    let start = golden.tensor(&format!("{name}.direct.start.prompt_embeddings")).unwrap();
                    let rows = PrefixRows::new(model.spec(), start.data.clone());
                    Prefix::from_rows(model.spec(), rows, Reparametrisation::Direct, 0, 1).unwrap()
                }
            };
            let folder = tempfile::tempdir().unwrap();
            let run = format!("/models/{name}/runs/{kind}");
            for step in 0..10 {
                let members = golden.token_ids(&format!("/models/{name}/steps/{step}")).unwrap();
                let of_step = members.iter().map(|&i| all[i as usize].clone()).collect();
                let mut trainer = Trainer::new(
                    &mut model,
                    Box::new(prefix),
                    settings(),
                    of_step,
                    Vec::new(),
                    folder.path().into(),
                )
                .unwrap();
                trainer.resume().unwrap();
                let mut notes = Notes { stop_after: Some(1), ..Notes::default() };
                trainer.run(&mut notes).unwrap();
                let log = &notes.steps[0];
                for (what, got) in
                    [("loss", log.loss), ("grad_norm", log.grad_norm), ("learning_rate", log.learning_rate)]
                {
                    let want = golden.number(&format!("{run}/{what}/{step}")).unwrap();
                    assert!((got - want).abs() <= 1e-4 * want, "{name} {kind} {step} {what}: {got} {want}");
                }
                let values = trainer.into_method().parameters().values().to_vec();
                prefix = Prefix::new(
                    model.spec(),
                    5,
                    if kind == "mlp" { MLP } else { Reparametrisation::Direct },
                    Init::Random,
                    0,
                    1,
                )
                .unwrap();
                Method::<Reference>::parameters_mut(&mut prefix).values_mut().copy_from_slice(&values);
            }
            let parameters = Method::<Reference>::parameters(&prefix);
            let parts: &[&str] = if kind == "mlp" { &PARTS } else { &["prompt_embeddings"] };
            for (i, part) in parts.iter().enumerate() {
                let what = format!("{name}.{kind}.final.{part}");
                assert_close(&what, parameters.part(i), &golden.tensor(&what).unwrap().data, TEN_STEPS);
            }
        }
    }
}

fn random_pairs(n: usize, vocab: u32) -> Vec<TokenPair> {
    let token = |i: usize, j: usize| 3 + ((i * 31 + j * 17 + i * j) as u32) % (vocab - 3);
    (0..n)
        .map(|i| TokenPair {
            source: Vec::new(),
            prompt: (0..1 + i % 4).map(|j| token(i, j)).collect(),
            completion: (0..1 + (i * 3) % 5).map(|j| token(i + 50, j)).collect(),
            line: i + 1,
        })
        .collect()
}

fn trainer<'a>(
    model: &'a mut Model<Reference>,
    reparametrisation: Reparametrisation,
    settings: TrainSettings,
    folder: &Path,
) -> Trainer<'a, Reference> {
    let prefix = Prefix::new(model.spec(), 3, reparametrisation, Init::Random, 0, 5).unwrap();
    let (mut train, valid) = (random_pairs(11, 80), random_pairs(4, 70));
    // Some pairs have the same prompt.
    for i in (2..11).step_by(3) {
        train[i].prompt = train[i - 1].prompt.clone();
    }
    Trainer::new(model, Box::new(prefix), settings, train, valid, folder.into()).unwrap()
}

#[test]
fn any_split_of_a_step_into_micro_batches_gives_the_same_loss_and_gradient() {
    let mut model = model("tiny_llama");
    let mut prefix = Prefix::new(model.spec(), 3, Reparametrisation::Direct, Init::Random, 0, 5).unwrap();
    let pairs = random_pairs(9, 80);
    let pairs: Vec<&TokenPair> = pairs.iter().collect();
    let attachments = Method::<Reference>::attach(&mut prefix, &mut model);
    let run = |budget| {
        let mut grads = attachments.zero_grad(&Reference);
        let wanted = GradientSum {
            grads: Some(&mut grads),
            label_smoothing: 0.1,
            prefix_dropout: &|_| None,
            masks: &|_| None,
        };
        let sum = accumulate(&model, &attachments, Some(0), &pairs, budget, wanted).unwrap();
        (sum, prefix.gradient(&model, grads))
    };
    let (whole, whole_gradient) = run(1000);
    for budget in [8, 13, 24] {
        let (sum, gradient) = run(budget);
        assert_eq!((sum.n_target, sum.n_pair, sum.n_token), (whole.n_target, whole.n_pair, whole.n_token));
        assert_close("loss", &[sum.loss], &[whole.loss], Tolerance { abs: 0.0, rel: 1e-6 });
        assert_close("gradient", &gradient, &whole_gradient, Tolerance { abs: 0.0, rel: 1e-5 });
    }
}

#[test]
fn a_resumed_run_equals_the_unbroken_one_to_the_bit() {
    let mut model = model("tiny_llama");
    for (reparametrisation, batch_by) in [(MLP, BatchBy::Pair), (Reparametrisation::Direct, BatchBy::Prompt)]
    {
        let settings = TrainSettings {
            batch_by,
            prefix_dropout: 0.2,
            eval_steps: 3,
            save_steps: 4,
            load_best_model_at_end: true,
            ..settings()
        };
        let whole_folder = tempfile::tempdir().unwrap();
        let mut whole = Notes::default();
        let mut trainer_1 = trainer(&mut model, reparametrisation, settings.clone(), whole_folder.path());
        let outcome = trainer_1.run(&mut whole).unwrap();
        assert_eq!(outcome.end, End::Finished);
        let unbroken = trainer_1.into_method();

        let folder = tempfile::tempdir().unwrap();
        let mut first = Notes { stop_after: Some(6), ..Notes::default() };
        let outcome_1 =
            trainer(&mut model, reparametrisation, settings.clone(), folder.path()).run(&mut first).unwrap();
        assert_eq!((outcome_1.end, outcome_1.step), (End::Interrupted, 6));
        let mut trainer_2 = trainer(&mut model, reparametrisation, settings, folder.path());
        assert_eq!(trainer_2.resume().unwrap(), Some(6));
        let mut second = Notes::default();
        let outcome_2 = trainer_2.run(&mut second).unwrap();

        assert_eq!([first.numbers(), second.numbers()].concat(), whole.numbers());
        assert_eq!([first.evaluations, second.evaluations].concat(), whole.evaluations);
        assert_eq!(outcome_2.best, outcome.best);
        assert_eq!(trainer_2.into_method().parameters().values(), unbroken.parameters().values());
    }
}

#[test]
fn only_the_newest_checkpoint_is_kept_and_a_broken_one_gives_way_to_the_one_before() {
    let mut model = model("tiny_llama");
    let folder = tempfile::tempdir().unwrap();
    let settings = TrainSettings { save_steps: 3, ..settings() };
    let mut notes = Notes::default();
    trainer(&mut model, MLP, settings.clone(), folder.path()).run(&mut notes).unwrap();
    let exist = |step: u64| folder.path().join(format!("checkpoint-{step}")).exists();
    assert_eq!([3, 6, 9].map(exist), [false, false, true]);
    assert_eq!(notes.checkpoints.len(), 3);

    let good = Checkpoint::newest(folder.path()).unwrap().unwrap();
    let broken = folder.path().join("checkpoint-12");
    fs_err::create_dir_all(&broken).unwrap();
    for file in ["state.json", "state.safetensors"] {
        let bytes = fs_err::read(folder.path().join("checkpoint-9").join(file)).unwrap();
        fs_err::write(broken.join(file), &bytes[..bytes.len() / 2]).unwrap();
    }
    assert_eq!(Checkpoint::newest(folder.path()).unwrap(), Some(good));
    let mut again = trainer(&mut model, MLP, settings, folder.path());
    assert_eq!(again.resume().unwrap(), Some(9));
    // What is kept in its place is the newest that this run wrote, not the broken one.
    let mut next = Checkpoint::newest(folder.path()).unwrap().unwrap();
    next.state.step = 10;
    next.write(folder.path(), 1).unwrap();
    assert_eq!([9, 10, 12].map(exist), [false, true, true]);
}

#[test]
fn as_many_checkpoints_are_kept_as_the_limit_says() {
    let mut model = model("tiny_llama");
    for (save_total_limit, kept) in [(2, [false, true, true]), (0, [true; 3])] {
        let folder = tempfile::tempdir().unwrap();
        let settings = TrainSettings { save_steps: 3, save_total_limit, ..settings() };
        trainer(&mut model, MLP, settings, folder.path()).run(&mut ()).unwrap();
        let exist = |step: u64| folder.path().join(format!("checkpoint-{step}")).exists();
        assert_eq!([3, 6, 9].map(exist), kept);
    }
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_old_one_readable() {
    let mut model = model("tiny_llama");
    let folder = tempfile::tempdir().unwrap();
    let settings = TrainSettings { save_steps: 4, ..settings() };
    trainer(&mut model, MLP, settings, folder.path()).run(&mut ()).unwrap();
    let good = Checkpoint::newest(folder.path()).unwrap().unwrap();
    // A file where the next checkpoint's temporary folder would go stops it as a full disk would.
    fs_err::write(folder.path().join(".checkpoint-9.partial"), "in the way").unwrap();
    let mut next = good.clone();
    next.state.step = 9;
    assert!(next.write(folder.path(), 1).is_err());
    assert_eq!(Checkpoint::newest(folder.path()).unwrap(), Some(good));
}

#[test]
fn the_checkpoint_of_another_method_is_refused_with_both_lengths() {
    let mut model = model("tiny_llama");
    let folder = tempfile::tempdir().unwrap();
    let settings = TrainSettings { save_steps: 4, ..settings() };
    trainer(&mut model, MLP, settings.clone(), folder.path()).run(&mut ()).unwrap();
    let error = trainer(&mut model, Reparametrisation::Direct, settings, folder.path()).resume().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("`parameters` has") && text.contains("another model or method"), "{text}");
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_with_step_rate_and_advice() {
    let mut model = model("tiny_gpt2");
    let folder = tempfile::tempdir().unwrap();
    let settings = TrainSettings {
        learning_rate: 1e30,
        lr_scheduler_type: Schedule::Constant,
        warmup_steps: 0,
        max_grad_norm: 0.0,
        ..settings()
    };
    let error = trainer(&mut model, MLP, settings, folder.path()).run(&mut ()).unwrap_err();
    assert!(matches!(error, TrainError::NotFinite { step: 2.., .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("step ") && text.contains("1.000e30") && text.contains("learning_rate"), "{text}");
}

/// Gives the values one after the other.
struct Scripted(std::vec::IntoIter<f64>);

impl Evaluator<Reference> for Scripted {
    fn score(
        &mut self,
        _: &Model<Reference>,
        _: &Attachments<Reference>,
        _: Option<usize>,
    ) -> Result<Vec<(String, f64)>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(vec![("bleu".into(), self.0.next().ok_or("no more values")?)])
    }

    fn higher_is_better(&self, _: &str) -> bool {
        true
    }
}

#[test]
fn a_run_stops_when_its_metric_no_longer_improves_and_keeps_the_best_parameters() {
    let mut model = model("tiny_llama");
    let folder = tempfile::tempdir().unwrap();
    let settings = TrainSettings {
        eval_steps: 1,
        early_stopping_patience: 2,
        load_best_model_at_end: true,
        metric_for_best_model: "bleu".into(),
        ..settings()
    };
    let values = vec![10.0, 30.0, 20.0, 25.0, 99.0];
    let mut trainer = trainer(&mut model, MLP, settings.clone(), folder.path())
        .evaluator(Box::new(Scripted(values.into_iter())));
    let mut notes = Notes::default();
    let outcome = trainer.run(&mut notes).unwrap();
    assert_eq!((outcome.end, outcome.step), (End::EarlyStopped, 4));
    let best = outcome.best.unwrap();
    assert_eq!((best.step, best.metric.as_str(), best.value), (2, "bleu", 30.0));
    assert_eq!(notes.evaluations.iter().map(|e| e.is_best).collect::<Vec<_>>(), [true, true, false, false]);

    let best = trainer.into_method();
    let two_steps = tempfile::tempdir().unwrap();
    let mut same =
        self::trainer(&mut model, MLP, TrainSettings { eval_steps: 0, ..settings }, two_steps.path());
    same.run(&mut Notes { stop_after: Some(2), ..Notes::default() }).unwrap();
    assert_eq!(best.parameters().values(), same.into_method().parameters().values());
}

#[test]
fn a_metric_that_nobody_computes_is_refused_with_those_there_are() {
    let mut model = model("tiny_llama");
    let folder = tempfile::tempdir().unwrap();
    let settings = TrainSettings { eval_steps: 1, metric_for_best_model: "rouge".into(), ..settings() };
    let error = trainer(&mut model, MLP, settings, folder.path()).run(&mut ()).unwrap_err();
    assert!(error.to_string().contains("`rouge`") && error.to_string().contains("eval_loss"), "{error}");
}

#[test]
fn frozen_rows_never_move_and_the_others_do() {
    let mut model = model("tiny_llama");
    let width = model.spec().prefix_row_width();
    let start: Vec<f32> = (0..4 * width).map(|i| (i as f32).sin()).collect();
    for reparametrisation in [MLP, Reparametrisation::Direct] {
        let rows = PrefixRows::new(model.spec(), start.clone());
        let prefix = Prefix::from_rows(model.spec(), rows, reparametrisation, 1, 5).unwrap();
        assert_eq!(prefix.rows().values, start, "{reparametrisation:?} starts from the rows exactly");
        let folder = tempfile::tempdir().unwrap();
        let mut trainer = Trainer::new(
            &mut model,
            Box::new(prefix),
            settings(),
            random_pairs(11, 80),
            Vec::new(),
            folder.path().into(),
        )
        .unwrap();
        trainer.run(&mut ()).unwrap();
        let preface_tune::Trained::Prefix(rows) = trainer.into_method().trained() else { panic!("a prefix") };
        assert_eq!(rows.values[..width], start[..width], "{reparametrisation:?}");
        assert!(rows.values[width..].iter().zip(&start[width..]).all(|(got, start)| got != start));
    }
}

/// The methods beside prefix tuning, at their starts.
fn other_methods(model: &Model<Reference>) -> Vec<(&'static str, Box<dyn Method<Reference>>)> {
    use preface_model::ModelDropout;
    use preface_tune::{Adapter, FineTune, Lora, LoraSettings, PromptTuning, Tuned};
    let spec = model.spec();
    let dropout = ModelDropout { embedding: 0.1, residual: 0.2, attention: 0.3, ..ModelDropout::default() };
    let settings = LoraSettings {
        r: 2,
        lora_alpha: 4.0,
        lora_dropout: 0.3,
        target_modules: Lora::default_targets(spec),
    };
    vec![
        ("lora", Box::new(Lora::new(spec, settings, 3).unwrap())),
        ("adapter", Box::new(Adapter::new(spec, 2, dropout, 3))),
        ("prompt-tuning", Box::new(PromptTuning::new(spec, 3, Some(6), Init::Random, 3))),
        ("top-layers", Box::new(FineTune::new(model, Tuned::Top(1), dropout).unwrap())),
        ("fine-tune", Box::new(FineTune::new(model, Tuned::All, dropout).unwrap())),
    ]
}

#[test]
fn every_method_learns_under_dropout_and_resumes_to_the_bit() {
    for name in ["tiny_llama", "tiny_gpt2"] {
        let kinds = other_methods(&model(name)).len();
        for kind in 0..kinds {
            let run = |folder: &Path, stop_after: Option<usize>, resume: bool| {
                let mut model = model(name);
                let (kind, method) = other_methods(&model).swap_remove(kind);
                let pairs = random_pairs(11, 70);
                let settings = TrainSettings { max_steps: 8, learning_rate: 5e-3, ..settings() };
                let mut trainer =
                    Trainer::new(&mut model, method, settings, pairs, Vec::new(), folder.into()).unwrap();
                assert_eq!(trainer.resume().unwrap().is_some(), resume, "{kind}");
                let mut notes = Notes { stop_after, ..Notes::default() };
                trainer.run(&mut notes).unwrap();
                (kind, notes.numbers(), trainer.into_method().parameters().values().to_vec())
            };
            let [whole, parts] = [(); 2].map(|()| tempfile::tempdir().unwrap());
            let (word, numbers, unbroken) = run(whole.path(), None, false);
            run(parts.path(), Some(4), false);
            let (_, _, resumed) = run(parts.path(), None, true);
            assert_eq!(resumed, unbroken, "{name} {word}");
            let mut methods = other_methods(&model(name));
            let start = methods.swap_remove(kind).1.parameters().values().to_vec();
            let n_moved = unbroken.iter().zip(&start).filter(|(a, b)| a != b).count();
            assert!(n_moved > unbroken.len() / 2, "{name} {word}: {n_moved} of {} moved", unbroken.len());
            assert!(!numbers.is_empty());
        }
    }
}

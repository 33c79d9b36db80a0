//! `preface bench train`: the step that `train` does, on the batches of a workload file.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use preface_backend::{Backend, Counting, Reference};
use preface_cpu::CpuBackend;
use preface_model::{Model, ModelDropout, ModelFiles, ModelSpec, PrefixPlace};
use preface_train::{GradientSum, LossNorm, StepSum, TokenPair, Update, accumulate, gradient_norm};
use preface_tune::init::{Init, MlpTextInit};
use preface_tune::{
    Adam, AdamSettings, DecoderPositions, FineTune, Method, PlaceStart, PlacedPrefix, Prefix,
    Reparametrisation, Tuned,
};

use super::flops::{self, EncoderRun};
use super::{Report, peak};
use crate::args::{BenchMethod, BenchTrainArgs};
use crate::config::AnswerConfig;
use crate::config::sections::Compute;
use crate::engine;
use crate::plan::{INPUT_CACHE_BYTES, MemoryPlan, Planner};
use crate::ui;

/// As in the runs of PEFT that it is compared with.
const PREFIX_LEN: usize = 10;
const MID: usize = 512;
const LEARNING_RATE: f64 = 5e-5;
const WARM_UP: usize = 2;
const TIMED: usize = 10;
const MAX_GRAD_NORM: f64 = 1.0;
/// How far the loss of two splits of a batch may differ: sums of f32 losses in another order; in bf16 products, operands
/// are rounded elsewhere, because few rows take another kernel than many; with quantised weights that kernel rounds them to
/// eight bits.
fn split_tolerance(precision: &str, weights: Option<&str>) -> f64 {
    match (precision, weights) {
        ("f32", _) => 1e-4,
        (_, None | Some("bf16")) => 2e-3,
        _ => 1e-2,
    }
}

/// Runs the command.
pub fn run(args: &BenchTrainArgs) -> Result<()> {
    let compute = AnswerConfig::compute_of(&args.settings.typed()?)?;
    let files = ModelFiles::open(&args.model)?;
    let batches = read(&args.workload, &files)?;
    let plan = plan(&files, &compute, args, &batches)?;
    ui::fact("memory", &plan.to_string());
    let mut model = engine::load_for_training(&files, &compute)?;
    model.set_recompute(args.recompute);
    model.keep_inputs(engine::input_storage(&compute)?, INPUT_CACHE_BYTES);
    ui::fact("model", &format!("{}: {}", args.model, engine::shapes(&files)));
    ui::fact("compute", &engine::described(&model));
    let mut step = Step::new(&mut model, method(&files, args)?);
    step.check(&batches[0], compute.weights.as_deref())?;
    if args.second_epoch {
        for batch in &batches {
            step.run(batch)?;
        }
        ui::note("the first epoch is over");
    }
    let encoder = match (files.spec().encoder, args.places.contains(&PrefixPlace::Encoder)) {
        (None, _) => EncoderRun::Kept,
        (Some(_), true) => EncoderRun::Trained,
        (Some(_), false) if args.second_epoch => EncoderRun::Kept,
        (Some(_), false) => EncoderRun::Forward,
    };

    let mut measured = Measured::default();
    for (i, batch) in batches.iter().enumerate() {
        let start = Instant::now();
        let sum = step.run(batch)?;
        let seconds = start.elapsed().as_secs_f64();
        ui::note(&format!("batch {i}: {seconds:.3} s, loss {:.4}", sum.loss / sum.n_target as f64));
        ensure!(sum.loss.is_finite(), "batch {i}: the loss is {}", sum.loss);
        if i >= WARM_UP {
            let flops = flops::training(files.spec(), sum.work, &args.places, encoder);
            // The token that a decoder starts with is none of the workload's.
            let n_start = if files.spec().encoder.is_some() { sum.n_pair } else { 0 };
            measured.add(StepSum { n_token: sum.n_token - n_start, ..sum }, flops, seconds);
        }
    }
    let mut report = Report::new("train", &args.model, &model);
    let peak = peak::product(model.backend(), model.backend().describe().threads);
    if files.spec().encoder.is_some() {
        report.add("places", args.places.iter().map(|place| place.name()).collect::<Vec<_>>());
        report.add("second_epoch", args.second_epoch);
    }
    report.add("planned_memory_bytes", plan.total());
    report.add("tokens_per_second", measured.n_token as f64 / measured.seconds);
    report.add("pairs_per_second", measured.n_pair as f64 / measured.seconds);
    // What is counted is the arithmetic of a frozen model.
    if args.method == BenchMethod::Prefix {
        report.add("share_of_peak", measured.flops / measured.seconds / peak);
        report.add("gflops_per_second", measured.flops / measured.seconds / 1e9);
    }
    report.add("peak_gflops_per_second", peak / 1e9);
    report.add("tokens", measured.n_token);
    report.add("rows", measured.n_row);
    report.add("seconds", measured.seconds);
    report.print(args.json)
}

/// What the batch with the most rows will need, as `train` counts it.
fn plan(
    files: &ModelFiles,
    compute: &Compute,
    args: &BenchTrainArgs,
    batches: &[Vec<TokenPair>],
) -> Result<MemoryPlan> {
    let mut planner = Planner::new(files, compute, args.recompute)?;
    let mut method: Box<dyn Method<Counting>> = match args.method {
        BenchMethod::Prefix => prefix(files.spec(), &args.places)?,
        BenchMethod::FineTune => {
            Box::new(FineTune::outline(&planner.model, Tuned::All, ModelDropout::default())?)
        }
    };
    for batch in batches {
        let pairs: Vec<&TokenPair> = batch.iter().collect();
        let wanted =
            GradientSum { grads: None, label_smoothing: 0.0, prefix_dropout: &|_| None, masks: &|_| None };
        planner.step(&mut *method, &pairs, n_token(batch), wanted)?;
    }
    let own_gradient = usize::from(args.method == BenchMethod::Prefix);
    let mut plan = planner.plan(&*method, own_gradient);
    let attachments = method.attach(&mut planner.model);
    plan.inputs = planner.kept_inputs(&attachments, batches.iter().flatten());
    Ok(plan)
}

fn method(files: &ModelFiles, args: &BenchTrainArgs) -> Result<Box<dyn Method<CpuBackend>>> {
    Ok(match args.method {
        BenchMethod::Prefix => prefix(files.spec(), &args.places)?,
        BenchMethod::FineTune => {
            let masters = files.load(Reference)?;
            Box::new(FineTune::new(&masters, Tuned::All, ModelDropout::default())?)
        }
    })
}

fn prefix<B: Backend>(spec: &ModelSpec, places: &[PrefixPlace]) -> Result<Box<dyn Method<B>>> {
    let mlp = Reparametrisation::Mlp { mid: MID, text_init: MlpTextInit::Exact };
    let start = PlaceStart::Drawn { prefix_len: PREFIX_LEN, init: Init::Random };
    let starts = places.iter().map(|&place| (place, start.clone())).collect();
    Ok(match places {
        [PrefixPlace::Decoder] => Box::new(Prefix::new(spec, PREFIX_LEN, mlp, Init::Random, 0, 0)?),
        _ => Box::new(PlacedPrefix::new(spec, starts, mlp, 0, DecoderPositions::AfterPrefix, 0)?),
    })
}

fn n_token(batch: &[TokenPair]) -> usize {
    batch.iter().map(TokenPair::n_token).sum()
}

/// The first batches of a workload file: `[[[prompt ids], [completion ids]], ...]` each.
fn read(path: &Path, files: &ModelFiles) -> Result<Vec<Vec<TokenPair>>> {
    type Batch = Vec<(Vec<u32>, Vec<u32>)>;
    let text = fs_err::read_to_string(path)?;
    let batches: Vec<Batch> = serde_json::from_str(&text)
        .with_context(|| format!("{}: expected batches of [prompt ids, completion ids]", path.display()))?;
    let start = files.decoder_start()?;
    ensure!(
        files.spec().encoder.is_none() || start.is_some(),
        "{}: the model names no `decoder_start_token_id`",
        files.path().display()
    );
    let wanted = WARM_UP + TIMED;
    if batches.len() < wanted {
        bail!("{}: has {} batches, but {wanted} are needed", path.display(), batches.len());
    }
    let batches = batches.into_iter().take(wanted).enumerate().map(|(i, batch)| {
        let pairs = batch.into_iter().map(|(input, completion)| {
            let (source, prompt) = match start {
                Some(start) => (input, vec![start]),
                None => (Vec::new(), input),
            };
            TokenPair { source, prompt, completion, line: i + 1 }
        });
        let pairs: Vec<TokenPair> = pairs.collect();
        match pairs.iter().any(|pair| pair.completion.is_empty() || pair.n_token() < 2) || pairs.is_empty() {
            true => {
                bail!("{}: batch {} is empty or has a pair with nothing to predict", path.display(), i + 1)
            }
            false => Ok(pairs),
        }
    });
    batches.collect()
}

#[derive(Default)]
struct Measured {
    n_token: usize,
    n_pair: usize,
    /// Rows that were run: less than tokens where pairs share their beginnings.
    n_row: usize,
    flops: f64,
    seconds: f64,
}

impl Measured {
    fn add(&mut self, sum: StepSum, flops: f64, seconds: f64) {
        self.seconds += seconds;
        self.n_pair += sum.n_pair;
        self.n_token += sum.n_token;
        self.n_row += sum.work.n_row + sum.work.n_source_row;
        self.flops += flops;
    }
}

/// A method under training.
struct Step<'a> {
    model: &'a mut Model<CpuBackend>,
    method: Box<dyn Method<CpuBackend>>,
    adam: Adam,
}

impl<'a> Step<'a> {
    fn new(model: &'a mut Model<CpuBackend>, method: Box<dyn Method<CpuBackend>>) -> Self {
        let adam = Adam::new(method.parameters().values().len(), AdamSettings::default());
        Self { model, method, adam }
    }

    /// The loss of a batch must be a number, and the same however the batch is split.
    fn check(&mut self, batch: &[TokenPair], weights: Option<&str>) -> Result<()> {
        let pairs: Vec<&TokenPair> = batch.iter().collect();
        let attachments = self.method.attach(self.model);
        let whole = n_token(batch);
        let single = batch.iter().map(TokenPair::n_token).max().unwrap_or(1);
        let loss = |max_tokens: usize| -> Result<f64> {
            let wanted = GradientSum {
                grads: None,
                label_smoothing: 0.0,
                prefix_dropout: &|_| None,
                masks: &|_| None,
            };
            let sum =
                accumulate(self.model, &attachments, self.method.segment(), &pairs, max_tokens, wanted)?;
            Ok(sum.loss / sum.weight(LossNorm::PerToken))
        };
        let (whole, split) = (loss(whole)?, loss(single)?);
        let tolerance = split_tolerance(self.model.backend().describe().precision, weights);
        let is_same = (whole - split).abs() <= tolerance * whole.abs();
        ensure!(
            whole.is_finite() && is_same,
            "the loss of the first batch is {whole} whole, but {split} split"
        );
        Ok(())
    }

    fn run(&mut self, batch: &[TokenPair]) -> Result<StepSum> {
        let pairs: Vec<&TokenPair> = batch.iter().collect();
        let max_tokens = n_token(batch);
        let attachments = self.method.attach(self.model);
        let mut grads = attachments.zero_grad(self.model.backend());
        let wanted = GradientSum {
            grads: Some(&mut grads),
            label_smoothing: 0.0,
            prefix_dropout: &|_| None,
            masks: &|_| None,
        };
        let sum = accumulate(self.model, &attachments, self.method.segment(), &pairs, max_tokens, wanted)?;
        let gradient = self.method.gradient(self.model, grads);
        let weight = sum.weight(LossNorm::PerToken);
        let grad_norm = gradient_norm(&gradient) / weight;
        let update = Update { weight, grad_norm, max_norm: MAX_GRAD_NORM, learning_rate: LEARNING_RATE };
        update.apply(gradient, self.model, &mut *self.method, &mut self.adam);
        Ok(sum)
    }
}

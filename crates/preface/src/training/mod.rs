//! A training run from data to artefact: what `train` and `demo` share.

mod evaluator;
mod export;
pub mod folder;
mod method;
mod places;
mod plan;
mod result;
mod watch;

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use preface_backend::Backend;
use preface_cpu::CpuBackend;
use preface_data::sampler::{BatchBy, Sampler, Units};
use preface_data::{Dataset, Form, Lexicalisations, Linearisation, ReadOptions};
use preface_model::{Fingerprint, Model};
use preface_train::{EVAL_LOSS, End, MetricsFile, Outcome, TokenPair, TrainSettings, Trainer, loss_curve};
use preface_tune::Method;

use crate::adapter::TextForm;
use crate::config::sections::MethodName;
use crate::config::{Recorded, RunConfig, Typed};
use crate::engine::{self, Source};
use crate::exit::Reported;
use crate::measure;
use crate::pairs::{Encoder, PairCounts, Taken};
use crate::plan::INPUT_CACHE_BYTES;
use crate::ui;
use evaluator::GeneratedMetrics;
use folder::RunFolder;
use method::Numbers;
use places::PlacedPlan;
pub use result::RunResult;
use watch::Watch;

/// Everything that is known before the model's weights are read.
pub struct Job {
    /// Every setting.
    pub config: RunConfig,
    /// The model's files.
    pub source: Source,
    /// Training data.
    pub train: Dataset,
    /// Validation data.
    pub valid: Option<Dataset>,
    fingerprint: Fingerprint,
    /// Rows that are trained, where all of them stand in one place; else `placed` says how many.
    n_row: usize,
    /// Positions that rows take.
    taken: Taken,
    /// The prefix of an encoder-decoder.
    placed: Option<PlacedPlan>,
    /// Tokens of the init text.
    init_tokens: Vec<u32>,
    train_pairs: Vec<TokenPair>,
    valid_pairs: Vec<TokenPair>,
    train_counts: PairCounts,
    valid_counts: PairCounts,
    settings: TrainSettings,
}

/// A run that is done.
pub struct Finished {
    /// The model.
    pub model: Model<CpuBackend>,
    /// The method, holding the result.
    pub method: Box<dyn Method<CpuBackend>>,
    /// What also lies in the run folder.
    pub result: RunResult,
    /// The model's files.
    pub source: Source,
}

/// Reads the training and the validation file that the configuration names.
///
/// # Errors
/// Whatever is wrong with them.
pub fn read_data(config: &RunConfig) -> Result<(Dataset, Option<Dataset>)> {
    let read = |path: &str| -> Result<Dataset> {
        let options = ReadOptions {
            form: config.data.data_format,
            linearisation: config.data.linearisation,
            lexicalisations: config.data.lexicalisations.unwrap_or(Lexicalisations::Good),
        };
        let data = Dataset::load(path, &options)?;
        let is_webnlg = matches!(data.form, Form::WebnlgJsonl | Form::WebnlgJson | Form::WebnlgXml);
        if config.leading_blank && is_webnlg && options.linearisation.is_none() {
            let linearisation = Some(Linearisation::Webnlg2021);
            return Ok(Dataset::load(path, &ReadOptions { linearisation, ..options })?);
        }
        Ok(data)
    };
    Ok((read(&config.run.train)?, config.run.valid.as_deref().map(read).transpose()?))
}

impl Job {
    /// Reads everything that the settings name, but the weights.
    ///
    /// # Errors
    /// As [`Self::new`], and whatever is wrong with a file.
    pub fn open(typed: &Typed) -> Result<Self> {
        let model = RunConfig::model_of(typed)?;
        let source = match RunConfig::is_from_scratch(typed) {
            true => Source::untrained(&model, typed.seed())?,
            false => Source::open(&model)?,
        };
        let config = RunConfig::resolve(typed, &source.facts()?)?;
        let (train, valid) = read_data(&config)?;
        Self::new(config, source, train, valid)
    }

    /// Draws the subsets, encodes the texts and checks every length.
    ///
    /// # Errors
    /// A text that cannot be trained on: each names file and line.
    pub fn new(config: RunConfig, source: Source, train: Dataset, valid: Option<Dataset>) -> Result<Self> {
        let spec = source.files.spec();
        let init_tokens = match &config.prefix.init_text {
            Some(text) => source.tokenizer.encode_prompt(text)?,
            None => Vec::new(),
        };
        let placed = match spec.encoder {
            Some(_) if config.run.method == MethodName::Prefix => Some(PlacedPlan::new(&config, &source)?),
            _ => None,
        };
        let n_row = match &placed {
            None if config.run.method.has_rows() => {
                config.prefix.num_virtual_tokens.unwrap_or(init_tokens.len())
            }
            _ => 0,
        };
        let taken = match (&placed, spec.encoder) {
            (Some(placed), _) => {
                Taken { encoder: 0, decoder: config.places.first_position(placed.decoder_len()) }
            }
            (None, Some(_)) => Taken { encoder: n_row, decoder: 0 },
            (None, None) => Taken { encoder: 0, decoder: n_row },
        };
        let most = taken.encoder.max(taken.decoder);
        if most >= spec.max_positions {
            bail!("a prefix of {most} rows leaves nothing of the model's {} positions", spec.max_positions);
        }
        let train = match config.train_data.max_train_samples {
            Some(count) => train.take_pairs(count, config.seed),
            None => train,
        };
        let valid = valid.map(|valid| match config.data.max_eval_samples {
            Some(count) => valid.take(count, config.seed),
            None => valid,
        });
        let encoder = Encoder::new(&source, &config.text, taken, &config.data);
        let train_pairs = encoder.pairs(&train)?;
        let valid_pairs = valid.as_ref().map(|valid| encoder.pairs(valid)).transpose()?.unwrap_or_default();
        let (train_counts, valid_counts) = (train_pairs.counts(), valid_pairs.counts());
        let settings = settings(&config, &train_pairs.pairs, train_counts, valid_counts)?;
        let fingerprint = source.fingerprint()?;
        Ok(Self {
            config,
            source,
            train,
            valid,
            fingerprint,
            n_row,
            taken,
            placed,
            init_tokens,
            train_pairs: train_pairs.pairs,
            valid_pairs: valid_pairs.pairs,
            train_counts,
            valid_counts,
            settings,
        })
    }

    /// How text goes in front of the model.
    pub fn text_form(&self) -> TextForm {
        TextForm { format: self.config.text.clone(), linearisation: self.train.linearisation }
    }

    /// What `run.toml` keeps beside the settings.
    fn recorded(&self, precision: String, tier: String) -> Recorded {
        Recorded {
            preface_version: env!("CARGO_PKG_VERSION").into(),
            train_sha256: self.train.sha256.clone(),
            valid_sha256: self.valid.as_ref().map(|valid| valid.sha256.clone()),
            model_fingerprint: self.fingerprint.to_string(),
            precision,
            tier,
        }
    }

    /// Trains from the beginning, or from the newest checkpoint of a run that is resumed, and leaves everything in the
    /// run folder. What an earlier run left there is removed when nothing can go wrong any more but training itself.
    ///
    /// # Errors
    /// Whatever goes wrong; [`Reported`] for a run that was interrupted.
    pub fn run(mut self, run_folder: &RunFolder) -> Result<Finished> {
        // The evaluator borrows what else is taken apart, so it is made first.
        let evaluator = self.evaluator()?;
        let plan = self.plan()?;
        ui::fact("memory", &plan.to_string());
        if let Some(available) = measure::available_memory_bytes() {
            self.check_memory(&plan, available as usize)?;
        }
        let mut model = engine::load_for_training(&self.source.files, &self.config.compute)?;
        model.set_recompute(self.config.training.recompute);
        model.keep_inputs(engine::input_storage(&self.config.compute)?, INPUT_CACHE_BYTES);
        let described = model.backend().describe();
        self.config.compute.precision = described.precision.to_owned();
        self.config.compute.tier = described.tier.clone();
        let recorded = self.recorded(described.precision.into(), described.tier);
        if let Some(earlier) = run_folder.recorded() {
            folder::check_same(earlier, &recorded)?;
        }
        let method = self.method(&model, Numbers::Loaded)?;
        let n_trained = method.parameters().values().len();
        self.announce(&model, n_trained, method.n_stored());

        run_folder.begin(&self.config, &recorded)?;
        let path = run_folder.path();
        let (train, valid) = (std::mem::take(&mut self.train_pairs), std::mem::take(&mut self.valid_pairs));
        let mut trainer =
            Trainer::new(&mut model, method, self.settings.clone(), train, valid, path.to_owned())?;
        if let Some(evaluator) = evaluator {
            trainer = trainer.evaluator(Box::new(evaluator));
        }
        let step = if run_folder.is_resumed() { trainer.resume()?.unwrap_or(0) } else { 0 };
        if run_folder.is_resumed() {
            ui::note(&match step {
                0 => "no checkpoint yet: starting from the beginning".to_owned(),
                step => format!("going on after step {step}"),
            });
        }
        let metrics_path = path.join(folder::METRICS);
        let metrics = MetricsFile::open(&metrics_path, step)?;
        let mut watch = Watch::new(metrics, self.settings.max_steps, step);
        let outcome = trainer.run(&mut watch);
        let evaluation = watch.finish()?;
        loss_curve(&metrics_path, &path.join(folder::CURVE))?;
        let outcome = outcome?;
        if outcome.end == End::Interrupted {
            return Err(interrupted(&outcome, path));
        }
        let method = trainer.into_method();
        let mut result = RunResult::new(&self, &model, &outcome, evaluation, n_trained, method.n_stored());
        result.write(&self, path, &method.trained())?;
        Ok(Finished { model, method, result, source: self.source })
    }

    fn evaluator(&self) -> Result<Option<GeneratedMetrics>> {
        let metric = &self.config.training.metric_for_best_model;
        match &self.valid {
            Some(valid) if metric != EVAL_LOSS => {
                Ok(Some(GeneratedMetrics::new(metric, &self.config, &self.source, valid, self.taken)?))
            }
            _ => Ok(None),
        }
    }

    /// The first lines of a run.
    fn announce(&self, model: &Model<CpuBackend>, n_trained: usize, n_stored: usize) {
        let Self { config, source, train_counts, valid_counts, .. } = self;
        ui::fact("model", &format!("{}: {}", source.name, engine::shapes(&source.files)));
        ui::fact(
            "method",
            &format!(
                "{}: {} parameters trained, {} stored ({})",
                self.method_in_words(),
                ui::count(n_trained),
                ui::count(n_stored),
                ui::bytes(n_stored * size_of::<f32>())
            ),
        );
        ui::fact("train", &format!("{}: {}", self.train.path.display(), train_counts));
        if self.train.dropped_references > 0 {
            ui::fact("", &format!("{} references left out", ui::count(self.train.dropped_references)));
        }
        if let Some(valid) = &self.valid {
            ui::fact("valid", &format!("{}: {}", valid.path.display(), valid_counts));
        }
        ui::fact("compute", &engine::described(model));
        let TrainSettings { max_steps, learning_rate, warmup_steps, .. } = self.settings;
        ui::fact(
            "steps",
            &format!(
                "{} of {}{} pairs, learning rate {learning_rate:?}, warm-up {warmup_steps}, recipe {}, seed {}",
                ui::count(max_steps as usize),
                if self.settings.batch_by == BatchBy::Prompt { "whole prompts with at least " } else { "" },
                self.settings.pairs_per_step(),
                config.run.recipe,
                config.seed
            ),
        );
    }
}

/// Settings of the loop: an epoch's steps depend on the number of pairs.
fn settings(
    config: &RunConfig,
    pairs: &[TokenPair],
    train: PairCounts,
    valid: PairCounts,
) -> Result<TrainSettings> {
    let training = &config.training;
    let pairs_per_step = training.per_device_train_batch_size * training.gradient_accumulation_steps;
    let units = Units::new(pairs.len(), training.batch_by, |pair| pairs[pair].input());
    let sampler = Sampler::new(units, pairs_per_step, config.seed)?;
    let max_steps = training.max_steps.unwrap_or_else(|| sampler.steps_of_epochs(training.num_train_epochs));
    let eval_steps = match valid.pairs {
        0 => 0,
        _ => training.eval_steps.unwrap_or_else(|| sampler.steps_of_epochs(1.0)),
    };
    // The last token of a pair is only predicted.
    let longest = train.longest.max(valid.longest).saturating_sub(1);
    config.train_settings(max_steps, eval_steps, longest)
}

fn interrupted(outcome: &Outcome, folder: &Path) -> anyhow::Error {
    ui::note(&format!(
        "stopped after step {step}; the checkpoint is saved. Go on with: preface train --out {folder} --resume\n\
         or take it as it stands: preface export {folder} --out DIR",
        step = outcome.step,
        folder = folder.display()
    ));
    anyhow!(Reported)
}

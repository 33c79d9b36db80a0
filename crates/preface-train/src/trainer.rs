//! The loop.
//!
//! ```text
//! step:  pairs of a seeded shuffle -> attach(parameters) -> summed loss and gradient -> / weight -> clip -> AdamW
//! ```
//!
//! Nothing random depends on when it is drawn, so a run that is resumed computes what the unbroken one would have.

use std::path::PathBuf;
use std::time::Instant;

use preface_backend::{Backend, Dropout};
use preface_data::sampler::Sampler;
use preface_model::Model;
use preface_tune::{Adam, Method};
use serde::{Deserialize, Serialize};

use crate::checkpoint::FORMAT_VERSION;
use crate::step::{GradientSum, accumulate};
use crate::update::{Update, gradient_norm};
use crate::{
    Checkpoint, CheckpointError, CheckpointState, EVAL_LOSS, EvaluationLog, Evaluator, Observer, StepLog,
    TokenPair, TrainError, TrainSettings, evaluate_loss,
};

/// The best evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Steps done before it.
    pub step: u64,
    /// `eval_loss` or a generated metric.
    pub metric: String,
    /// Its value.
    pub value: f64,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// All steps are done.
    Finished,
    /// Evaluations did not improve any more.
    EarlyStopped,
    /// The observer asked for it. A checkpoint was written.
    Interrupted,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Why the run ended.
    pub end: End,
    /// Steps done.
    pub step: u64,
    /// Loss of the last step.
    pub final_loss: Option<f64>,
    /// The best evaluation, if there was one.
    pub best: Option<Best>,
    /// Pairs that were trained on, each time counted.
    pub pairs: u64,
    /// Tokens of prompts and completions.
    pub tokens: u64,
    /// Seconds spent in steps.
    pub seconds: f64,
}

/// A run: model, method, data and where it stands.
pub struct Trainer<'a, B: Backend> {
    model: &'a mut Model<B>,
    method: Box<dyn Method<B>>,
    settings: TrainSettings,
    train: Vec<TokenPair>,
    valid: Vec<TokenPair>,
    run_folder: PathBuf,
    evaluator: Option<Box<dyn Evaluator<B> + 'a>>,
    sampler: Sampler,
    adam: Adam,
    step: u64,
    pairs: u64,
    tokens: u64,
    seconds: f64,
    last_loss: Option<f64>,
    best: Option<Best>,
    best_parameters: Vec<f32>,
    evaluations_without_gain: u64,
}

impl<'a, B: Backend> Trainer<'a, B> {
    /// A run at its beginning. Checkpoints go to `run_folder`.
    ///
    /// # Errors
    /// No data, or a step without pairs.
    pub fn new(
        model: &'a mut Model<B>,
        method: Box<dyn Method<B>>,
        settings: TrainSettings,
        train: Vec<TokenPair>,
        valid: Vec<TokenPair>,
        run_folder: PathBuf,
    ) -> Result<Self, TrainError> {
        let sampler = settings.sampler(&train)?;
        let adam = Adam::new(method.parameters().values().len(), settings.adam);
        Ok(Self {
            model,
            method,
            settings,
            train,
            valid,
            run_folder,
            evaluator: None,
            sampler,
            adam,
            step: 0,
            pairs: 0,
            tokens: 0,
            seconds: 0.0,
            last_loss: None,
            best: None,
            best_parameters: Vec::new(),
            evaluations_without_gain: 0,
        })
    }

    /// Scores generated answers at every evaluation.
    #[must_use]
    pub fn evaluator(mut self, evaluator: Box<dyn Evaluator<B> + 'a>) -> Self {
        self.evaluator = Some(evaluator);
        self
    }

    /// The method as it stands.
    pub fn method(&self) -> &dyn Method<B> {
        &*self.method
    }

    /// The method, to be saved.
    pub fn into_method(self) -> Box<dyn Method<B>> {
        self.method
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Goes back to the newest readable checkpoint of the run folder; returns its step, `None` if there is none.
    ///
    /// # Errors
    /// A checkpoint that cannot be read or belongs to another run.
    pub fn resume(&mut self) -> Result<Option<u64>, TrainError> {
        let Some(checkpoint) = Checkpoint::newest(&self.run_folder)? else { return Ok(None) };
        let path = self.run_folder.join(format!("checkpoint-{}", checkpoint.state.step));
        checkpoint.restore(&mut *self.method, &path)?;
        let Checkpoint { state, first_moments, second_moments, best_parameters, .. } = checkpoint;
        self.sampler.seek(state.position)?;
        self.adam = Adam::restore(
            self.settings.adam,
            state.adam_steps,
            first_moments.into_owned(),
            second_moments.into_owned(),
        );
        self.step = state.step;
        self.pairs = state.pairs;
        self.tokens = state.tokens;
        self.seconds = state.seconds;
        self.last_loss = state.last_loss;
        self.best = state.best;
        self.best_parameters = best_parameters.into_owned();
        self.evaluations_without_gain = state.evaluations_without_gain;
        Ok(Some(self.step))
    }

    /// Trains until the last step, an early stop, or the observer's wish. Afterwards the method holds the result: the
    /// best parameters if the settings ask for them and the run was not interrupted, else the last ones.
    ///
    /// # Errors
    /// See [`TrainError`]; checkpoints written before stay.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<Outcome, TrainError> {
        let end = self.run_steps(observer)?;
        self.method.detach(self.model);
        if end == End::Interrupted {
            observer.checkpoint(&self.save()?);
        } else if self.settings.load_best_model_at_end && !self.best_parameters.is_empty() {
            self.method.parameters_mut().values_mut().copy_from_slice(&self.best_parameters);
        }
        Ok(Outcome {
            end,
            step: self.step,
            final_loss: self.last_loss,
            best: self.best.clone(),
            pairs: self.pairs,
            tokens: self.tokens,
            seconds: self.seconds,
        })
    }

    fn run_steps(&mut self, observer: &mut dyn Observer) -> Result<End, TrainError> {
        let TrainSettings { max_steps, logging_steps, eval_steps, save_steps, .. } = self.settings;
        let is_due = |step: u64, every: u64| every > 0 && step.is_multiple_of(every);
        let patience = self.settings.early_stopping_patience;
        while self.step < max_steps {
            if patience > 0 && self.evaluations_without_gain >= patience {
                return Ok(End::EarlyStopped);
            }
            if observer.should_stop() {
                return Ok(End::Interrupted);
            }
            let log = self.one_step()?;
            if is_due(self.step, logging_steps) || self.step == max_steps {
                observer.step(&log);
            }
            if !self.valid.is_empty()
                && eval_steps > 0
                && (is_due(self.step, eval_steps) || self.step == max_steps)
            {
                let log = self.evaluate()?;
                observer.evaluation(&log);
            }
            if is_due(self.step, save_steps) && self.step < max_steps {
                observer.checkpoint(&self.save()?);
            }
        }
        Ok(End::Finished)
    }

    fn one_step(&mut self) -> Result<StepLog, TrainError> {
        let start = Instant::now();
        let settings = &self.settings;
        let indices = self.sampler.next_step();
        let pairs: Vec<&TokenPair> = indices.iter().map(|&index| &self.train[index]).collect();
        let attachments = self.method.attach(self.model);
        let mut grads = attachments.zero_grad(self.model.backend());
        let (seed, step, probability) = (settings.seed, self.step, settings.prefix_dropout);
        let prefix_dropout = |i: usize| {
            (probability > 0.0)
                .then(|| Dropout { probability, stream: Dropout::stream([seed, step, i as u64]) })
        };
        // Other masks than those of the prefix, whatever the step and the pair.
        let has_dropout = attachments.has_dropout();
        let masks = |i: usize| has_dropout.then(|| Dropout::stream([!seed, step, i as u64]));
        let wanted = GradientSum {
            grads: Some(&mut grads),
            label_smoothing: settings.label_smoothing_factor,
            prefix_dropout: &prefix_dropout,
            masks: &masks,
        };
        let budget = settings.max_tokens_per_batch;
        let sum = accumulate(self.model, &attachments, self.method.segment(), &pairs, budget, wanted)?;
        let weight = sum.weight(settings.loss_norm);
        let gradient = self.method.gradient(self.model, grads);

        let learning_rate = settings.learning_rate
            * settings.lr_scheduler_type.factor(self.step, settings.warmup_steps, settings.max_steps);
        let loss = sum.loss / weight;
        let grad_norm = gradient_norm(&gradient) / weight;
        for (what, value) in [("loss", loss), ("gradient norm", grad_norm)] {
            if !value.is_finite() {
                return Err(TrainError::NotFinite { step: self.step + 1, what, value, learning_rate });
            }
        }
        let update = Update { weight, grad_norm, max_norm: settings.max_grad_norm, learning_rate };
        update.apply(gradient, self.model, &mut *self.method, &mut self.adam);
        self.step += 1;
        self.pairs += sum.n_pair as u64;
        self.tokens += sum.n_token as u64;
        self.seconds += start.elapsed().as_secs_f64();
        self.last_loss = Some(loss);
        Ok(StepLog {
            step: self.step,
            loss,
            learning_rate,
            grad_norm,
            pairs: self.pairs,
            tokens: self.tokens,
            seconds: self.seconds,
        })
    }

    fn evaluate(&mut self) -> Result<EvaluationLog, TrainError> {
        let attachments = self.method.attach(self.model);
        let segment = self.method.segment();
        let budget = self.settings.max_tokens_per_batch;
        let eval_loss = evaluate_loss(self.model, &attachments, segment, &self.valid, budget)?.mean();
        let scores = match &mut self.evaluator {
            Some(evaluator) => evaluator
                .score(self.model, &attachments, segment)
                .map_err(|source| TrainError::Evaluator { step: self.step, source })?,
            None => Vec::new(),
        };
        let metric = &self.settings.metric_for_best_model;
        let named = std::iter::once((EVAL_LOSS.to_owned(), eval_loss)).chain(scores.iter().cloned());
        let Some((_, value)) = named.clone().find(|(name, _)| name == metric) else {
            let known = named.map(|(name, _)| name).collect::<Vec<_>>().join(", ");
            return Err(TrainError::UnknownMetric { metric: metric.clone(), known });
        };
        let higher_is_better =
            self.evaluator.as_ref().is_some_and(|e| metric != EVAL_LOSS && e.higher_is_better(metric));
        let is_best = self.best.as_ref().is_none_or(|best| match higher_is_better {
            true => value > best.value,
            false => value < best.value,
        });
        if is_best {
            self.best = Some(Best { step: self.step, metric: metric.clone(), value });
            self.method.detach(self.model);
            self.best_parameters = self.method.parameters().values().to_vec();
            self.evaluations_without_gain = 0;
        } else {
            self.evaluations_without_gain += 1;
        }
        let scores = scores.into_iter().map(|(name, value)| (name, value.into())).collect();
        Ok(EvaluationLog { step: self.step, eval_loss, scores, is_best })
    }

    fn save(&mut self) -> Result<PathBuf, CheckpointError> {
        self.method.detach(self.model);
        self.checkpoint().write(&self.run_folder, self.settings.save_total_limit)
    }

    fn checkpoint(&self) -> Checkpoint<'_> {
        let (first, second) = self.adam.moments();
        Checkpoint {
            state: CheckpointState {
                format_version: FORMAT_VERSION,
                step: self.step,
                position: self.sampler.position(),
                adam_steps: self.adam.n_step(),
                pairs: self.pairs,
                tokens: self.tokens,
                seconds: self.seconds,
                last_loss: self.last_loss,
                best: self.best.clone(),
                evaluations_without_gain: self.evaluations_without_gain,
            },
            parameters: self.method.parameters().values().into(),
            first_moments: first.into(),
            second_moments: second.into(),
            constants: self.method.constants().into(),
            best_parameters: self.best_parameters.as_slice().into(),
        }
    }
}

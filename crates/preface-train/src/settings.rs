//! What a training run decides, under Hugging Face's names.

use preface_data::sampler::{BatchBy, Sampler, SamplerError, Units};
use preface_tune::AdamSettings;
use serde::{Deserialize, Serialize};

use crate::TokenPair;
use crate::schedule::Schedule;

/// Settings of the loop. Method and data are given apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSettings {
    /// Optimizer steps.
    pub max_steps: u64,
    /// Pairs of a micro-step.
    pub per_device_train_batch_size: usize,
    /// What a step is made of: single pairs, or whole prompts with all their pairs.
    pub batch_by: BatchBy,
    /// Micro-steps of an optimizer step.
    pub gradient_accumulation_steps: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// How it falls.
    pub lr_scheduler_type: Schedule,
    /// Steps in which it rises to its highest value.
    pub warmup_steps: u64,
    /// Constants of AdamW.
    pub adam: AdamSettings,
    /// Gradients of a larger norm are scaled down to it; 0 is off.
    pub max_grad_norm: f64,
    /// What the summed loss of a step is divided by.
    pub loss_norm: LossNorm,
    /// Mass of the targets that is spread over the vocabulary.
    pub label_smoothing_factor: f32,
    /// Probability with which an element of the prefix rows is dropped, for each pair apart.
    pub prefix_dropout: f32,
    /// Seed of shuffling and dropout.
    pub seed: u64,
    /// Steps between two logged ones.
    pub logging_steps: u64,
    /// Steps between evaluations; 0 is never.
    pub eval_steps: u64,
    /// Steps between checkpoints; 0 is never (an interrupted run saves one all the same).
    pub save_steps: u64,
    /// Newest checkpoints that are kept; 0 is all of them.
    pub save_total_limit: usize,
    /// Evaluations without improvement after which the run stops; 0 is off.
    pub early_stopping_patience: u64,
    /// Whether the parameters of the best evaluation are the result, rather than the last ones.
    pub load_best_model_at_end: bool,
    /// `eval_loss` or the name of a generated metric.
    pub metric_for_best_model: String,
    /// Tokens that are run at once, shared ones counted once; a step with more is split. Never changes a result.
    pub max_tokens_per_batch: usize,
}

/// What the sum of the target losses of a step is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossNorm {
    /// The number of target tokens: the mean over tokens.
    #[default]
    PerToken,
    /// The number of pairs: the sum over a sequence's tokens, then the mean over sequences (the authors' code,
    /// `objective_mode = 1`). Gradients are larger by the completions' mean length, so the clip acts more often.
    PerSequence,
}

/// The name of the metric that needs no generation.
pub const EVAL_LOSS: &str = "eval_loss";

impl TrainSettings {
    /// Pairs of one optimizer step, at least.
    pub fn pairs_per_step(&self) -> usize {
        self.per_device_train_batch_size * self.gradient_accumulation_steps
    }

    /// The order of `train`.
    ///
    /// # Errors
    /// No data, or a step without pairs.
    pub fn sampler(&self, train: &[TokenPair]) -> Result<Sampler, SamplerError> {
        let units = Units::new(train.len(), self.batch_by, |pair| train[pair].input());
        Sampler::new(units, self.pairs_per_step(), self.seed)
    }
}

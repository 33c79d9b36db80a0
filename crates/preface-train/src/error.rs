//! What can go wrong in a run.

use std::path::PathBuf;

use preface_data::packing::PairTooLong;
use preface_data::sampler::SamplerError;
use preface_model::ModelError;
use thiserror::Error;

/// An error of training.
#[derive(Debug, Error)]
pub enum TrainError {
    /// Data or batch size that give no steps.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// A pair that the model cannot run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A pair longer than a batch may be.
    #[error(transparent)]
    Packing(#[from] PairTooLong),
    /// A loss or gradient that is no number.
    #[error(
        "step {step}: the {what} is {value} at learning rate {learning_rate:.3e}; nothing was saved after the last checkpoint. \
         Try a lower learning_rate, a longer warmup_steps, max_grad_norm = 1, or precision = f32"
    )]
    NotFinite {
        /// The step that was being done (the first is 1).
        step: u64,
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The rate of that step.
        learning_rate: f64,
    },
    /// A metric to choose the best by that nobody computes.
    #[error("metric_for_best_model = `{metric}`, but an evaluation gives: {known}")]
    UnknownMetric {
        /// What was asked for.
        metric: String,
        /// What there is.
        known: String,
    },
    /// The scorer of generated answers failed.
    #[error("evaluation after step {step} failed: {source}")]
    Evaluator {
        /// Steps done.
        step: u64,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A checkpoint that cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// metrics.jsonl cannot be written or read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A line of metrics.jsonl that is no JSON object.
    #[error("{path}, line {line}: {source}")]
    Metrics {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// The curve cannot be drawn.
    #[error("{path}: the loss curve cannot be drawn: {reason}")]
    Curve {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// What can be wrong with a checkpoint.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The numbers cannot be read.
    #[error("{path}: not a checkpoint's safetensors: {reason}")]
    Tensors {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The state cannot be read.
    #[error("{path}: not a checkpoint's state: {source}")]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A vector of another length than the run's.
    #[error(
        "{path}: `{name}` has {got} numbers, but this run's has {want}: the checkpoint is of another model or method"
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// The vector.
        name: &'static str,
        /// Its length.
        got: usize,
        /// The run's.
        want: usize,
    },
}

//! What a run tells while it goes on.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// A step that is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepLog {
    /// Its number, from 1.
    pub step: u64,
    /// Its loss, as normalised by the run's settings.
    pub loss: f64,
    /// Its learning rate.
    pub learning_rate: f64,
    /// Norm of its gradient before the clip.
    pub grad_norm: f64,
    /// Pairs of all steps so far.
    pub pairs: u64,
    /// Tokens of all steps so far: prompts and completions, no padding.
    pub tokens: u64,
    /// Seconds spent in steps so far.
    pub seconds: f64,
}

/// An evaluation that is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationLog {
    /// Steps done before it.
    pub step: u64,
    /// Mean negative log-likelihood of a completion token, in nats, without label smoothing.
    pub eval_loss: f64,
    /// Generated metrics by name.
    #[serde(flatten)]
    pub scores: serde_json::Map<String, serde_json::Value>,
    /// Whether it is the best so far.
    pub is_best: bool,
}

/// Somebody who looks on, and may ask for the end.
pub trait Observer {
    /// A step is done.
    fn step(&mut self, log: &StepLog) {
        let _ = log;
    }

    /// An evaluation is done.
    fn evaluation(&mut self, log: &EvaluationLog) {
        let _ = log;
    }

    /// A checkpoint is on disk.
    fn checkpoint(&mut self, path: &Path) {
        let _ = path;
    }

    /// Whether to stop after the step that is running; asked between steps.
    fn should_stop(&mut self) -> bool {
        false
    }
}

/// Nobody looks on.
impl Observer for () {}

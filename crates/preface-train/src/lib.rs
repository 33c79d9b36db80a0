//! Training: loss, schedule, loop, evaluation and checkpoints.
//!
//! [`Trainer`] knows no method and no file format of data: it sees a flat parameter vector
//! ([`preface_tune::Method`]), pairs of token ids, and an [`Observer`] that is told what happens.
#![forbid(unsafe_code)]

mod checkpoint;
mod curve;
mod error;
mod evaluate;
mod metrics_file;
mod observer;
mod schedule;
mod settings;
mod step;
mod trainer;
mod update;

pub use checkpoint::{Checkpoint, CheckpointState};
pub use curve::loss_curve;
pub use error::{CheckpointError, TrainError};
pub use evaluate::{EvalLoss, Evaluator, evaluate_loss};
pub use metrics_file::{MetricsFile, read_metrics};
pub use observer::{EvaluationLog, Observer, StepLog};
pub use schedule::Schedule;
pub use settings::{EVAL_LOSS, LossNorm, TrainSettings};
pub use step::{GradientSum, StepSum, TokenPair, accumulate, largest_step};
pub use trainer::{Best, End, Outcome, Trainer};
pub use update::{Update, gradient_norm};

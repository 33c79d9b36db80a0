//! The observer of a run: progress bar, `metrics.jsonl`, Ctrl-C.

use std::path::Path;

use anyhow::Result;
use preface_train::{EvaluationLog, MetricsFile, Observer, StepLog, TrainError};

use crate::interrupt;
use crate::ui::{self, Progress};

/// Looks on while a run goes on.
pub struct Watch {
    progress: Progress,
    metrics: MetricsFile,
    /// Why `metrics.jsonl` could not be written: it ends the run.
    failed: Option<TrainError>,
    /// The first step of this process, for the speed.
    first: Option<(u64, f64)>,
    last_evaluation: Option<EvaluationLog>,
}

impl Watch {
    /// Of a run of `max_steps` steps, `step` of them done.
    pub fn new(metrics: MetricsFile, max_steps: u64, step: u64) -> Self {
        let progress = Progress::new("training", max_steps, step);
        Self { progress, metrics, failed: None, first: None, last_evaluation: None }
    }

    /// Takes the bar away; the last evaluation.
    ///
    /// # Errors
    /// Why `metrics.jsonl` could not be written.
    pub fn finish(self) -> Result<Option<EvaluationLog>> {
        self.progress.finish();
        match self.failed {
            Some(error) => Err(error.into()),
            None => Ok(self.last_evaluation),
        }
    }

    fn keep(&mut self, written: Result<(), TrainError>) {
        if let Err(error) = written {
            self.failed.get_or_insert(error);
        }
    }
}

impl Observer for Watch {
    fn step(&mut self, log: &StepLog) {
        let written = self.metrics.step(log);
        self.keep(written);
        let (tokens, seconds) = *self.first.get_or_insert((log.tokens, log.seconds));
        let speed = (log.tokens - tokens) as f64 / (log.seconds - seconds);
        let speed = match speed.is_finite() {
            true => format!(", {} tokens/s", ui::rate(speed)),
            false => String::new(),
        };
        self.progress.at(log.step, &format!("loss {:.4}{speed}", log.loss));
    }

    fn evaluation(&mut self, log: &EvaluationLog) {
        let written = self.metrics.evaluation(log);
        self.keep(written);
        let scores: String = log
            .scores
            .iter()
            .filter_map(|(name, value)| Some(format!(", {name} {}", ui::score(value.as_f64()?))))
            .collect();
        let best = if log.is_best { " (best)" } else { "" };
        self.progress.note(&format!("step {}: eval_loss {:.4}{scores}{best}", log.step, log.eval_loss));
        self.last_evaluation = Some(log.clone());
    }

    fn checkpoint(&mut self, path: &Path) {
        if let Some(name) = path.file_name() {
            self.progress.note(&format!("saved {}", name.to_string_lossy()));
        }
    }

    fn should_stop(&mut self) -> bool {
        self.failed.is_some() || interrupt::asked()
    }
}

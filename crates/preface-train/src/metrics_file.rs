//! `metrics.jsonl`: a line for each logged step, a line for each evaluation.

use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::{EvaluationLog, StepLog, TrainError};

/// The file, open for appending.
pub struct MetricsFile {
    file: fs_err::File,
}

impl MetricsFile {
    /// Opens the file for a run that has done `step` steps: lines of later ones, written after the checkpoint that the
    /// run goes on from, are cut off. With 0 the file starts anew.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn open(path: &Path, step: u64) -> Result<Self, TrainError> {
        let kept: Vec<Value> = if step > 0 && path.exists() {
            let lines = read_metrics(path)?;
            lines.into_iter().filter(|line| line["step"].as_u64().is_some_and(|s| s <= step)).collect()
        } else {
            Vec::new()
        };
        let mut metrics = Self { file: fs_err::File::create(path)? };
        for line in kept {
            metrics.line(&line)?;
        }
        Ok(metrics)
    }

    /// Appends a step.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn step(&mut self, log: &StepLog) -> Result<(), TrainError> {
        self.line(log)
    }

    /// Appends an evaluation.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn evaluation(&mut self, log: &EvaluationLog) -> Result<(), TrainError> {
        self.line(log)
    }

    fn line(&mut self, line: &impl Serialize) -> Result<(), TrainError> {
        let mut text = serde_json::to_string(line).map_err(std::io::Error::from)?;
        text.push('\n');
        Ok(self.file.write_all(text.as_bytes())?)
    }
}

/// All whole lines of a `metrics.jsonl`. A last line without its end, left by a run that was killed, is passed over.
///
/// # Errors
/// If the file cannot be read or another line is no JSON.
pub fn read_metrics(path: &Path) -> Result<Vec<Value>, TrainError> {
    let text = fs_err::read_to_string(path)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .enumerate()
        .map(|(i, line)| {
            serde_json::from_str(line).map_err(|source| TrainError::Metrics {
                path: path.into(),
                line: i + 1,
                source,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(step: u64) -> StepLog {
        StepLog {
            step,
            loss: 1.5,
            learning_rate: 1e-3,
            grad_norm: 0.25,
            pairs: 2 * step,
            tokens: 7 * step,
            seconds: 0.5,
        }
    }

    #[test]
    fn lines_after_the_checkpoint_and_a_torn_last_line_are_cut_on_resuming() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = MetricsFile::open(&path, 0).unwrap();
        for step in 1..=5 {
            metrics.step(&log(step)).unwrap();
        }
        drop(metrics);
        let torn = fs_err::read_to_string(&path).unwrap() + "{\"step\":6,\"lo";
        fs_err::write(&path, torn).unwrap();
        MetricsFile::open(&path, 3).unwrap().step(&log(4)).unwrap();
        let steps: Vec<u64> =
            read_metrics(&path).unwrap().iter().map(|line| line["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, [1, 2, 3, 4]);
    }

    #[test]
    fn a_broken_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        fs_err::write(&path, "{}\nnot json\n").unwrap();
        let error = read_metrics(&path).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl, line 2"), "{error}");
    }
}

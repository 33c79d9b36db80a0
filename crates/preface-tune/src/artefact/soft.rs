//! What `adapter_config.json` says of the rows of a soft prompt or an infix.
//!
//! PEFT (0.21) gives an encoder-decoder `num_transformer_submodules` = 2 unless it is told otherwise and then keeps
//! `2 * num_virtual_tokens` rows, of which it uses the first half, ahead of the encoder's text; the others are trained by
//! nothing. We read such a file as PEFT does and write the rows that are used.

use std::path::Path;

use preface_model::{ModelSpec, Stack};
use serde_json::Value;

use super::ArtefactError;
use super::adapter_config::Task;
use super::trained::number;

/// How many rows there are, and for what kind of model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SoftFiles {
    /// Rows that are used.
    pub len: usize,
    /// Sets of as many rows in the file.
    n_set: usize,
    /// Unknown where the config does not say.
    task: Option<Task>,
}

impl SoftFiles {
    /// Of `len` rows that are to be written.
    pub fn of(len: usize, spec: &ModelSpec) -> Self {
        Self { len, n_set: 1, task: Some(Task::of(spec)) }
    }

    /// Of the config at `path`.
    pub fn read(path: &Path, config: &Value) -> Result<Self, ArtefactError> {
        let wrong = |key, want| {
            let got = config[key].to_string();
            Err(ArtefactError::WrongValue { path: path.into(), key, got, want })
        };
        let task = match &config["task_type"] {
            Value::Null => None,
            named => match [Task::Causal, Task::Seq2Seq].into_iter().find(|task| named == task.name()) {
                Some(task) => Some(task),
                None => return wrong("task_type", "CAUSAL_LM or SEQ_2_SEQ_LM"),
            },
        };
        let n_set = match (config["num_transformer_submodules"].as_u64(), task) {
            (None, task) if config["num_transformer_submodules"].is_null() => task.map_or(1, Task::n_stack),
            (Some(1), _) => 1,
            (Some(2), None | Some(Task::Seq2Seq)) => 2,
            _ => {
                let want = "1, or for an encoder-decoder (SEQ_2_SEQ_LM) 2";
                return wrong("num_transformer_submodules", want);
            }
        };
        Ok(Self { len: number(path, config, "num_virtual_tokens")?, n_set, task })
    }

    /// Rows in the file.
    pub fn n_stored(&self) -> usize {
        self.n_set * self.len
    }

    /// Checks that they are for a model of this kind; `model` is its name, for the message.
    pub fn check(&self, config: &Path, model: &str, spec: &ModelSpec) -> Result<(), ArtefactError> {
        self.task.map_or(Ok(()), |task| task.check(config, model, spec.encoder.is_some()))
    }

    /// Positions of a stack that the rows take.
    pub fn n_position(&self, spec: &ModelSpec, stack: Stack) -> usize {
        if stack == spec.prompt_place().stack() { self.len } else { 0 }
    }
}

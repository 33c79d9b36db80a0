//! What a run needs to go on where it stopped, bit for bit.
//!
//! A checkpoint is a folder `checkpoint-STEP` with `state.json` (step, data position, counters) and
//! `state.safetensors` (parameters with the MLP, the optimizer's moments, constants of the method, the best parameters
//! so far). It is written under a temporary name, synced, and renamed; those over the limit are removed only after that,
//! so the last good one always survives. Random numbers need no state: order and dropout are functions of seed and position.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use preface_backend::Backend;
use preface_data::sampler::Position;
use preface_model::weights::{SafetensorsFile, TensorSource};
use preface_tune::Method;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::{Deserialize, Serialize};

use crate::{Best, CheckpointError};

const STATE: &str = "state.json";
const TENSORS: &str = "state.safetensors";
const FOLDER: &str = "checkpoint-";

/// Everything but the long vectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointState {
    /// Version of this form.
    pub format_version: u32,
    /// Steps done.
    pub step: u64,
    /// Where the next step's pairs begin.
    pub position: Position,
    /// Updates of the optimizer.
    pub adam_steps: u64,
    /// Pairs so far.
    pub pairs: u64,
    /// Tokens so far.
    pub tokens: u64,
    /// Seconds in steps so far.
    pub seconds: f64,
    /// Loss of the last step.
    pub last_loss: Option<f64>,
    /// The best evaluation so far.
    pub best: Option<Best>,
    /// Evaluations since the best one.
    pub evaluations_without_gain: u64,
}

/// The version that is written.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// A checkpoint in memory. To be written it borrows its vectors: copies of all of them would be the peak of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint<'a> {
    /// Everything but the long vectors.
    pub state: CheckpointState,
    /// The method's parameters.
    pub parameters: Cow<'a, [f32]>,
    /// Adam's first moments.
    pub first_moments: Cow<'a, [f32]>,
    /// Adam's second moments.
    pub second_moments: Cow<'a, [f32]>,
    /// What the method keeps but does not train.
    pub constants: Cow<'a, [f32]>,
    /// The parameters of the best evaluation; empty if there was none.
    pub best_parameters: Cow<'a, [f32]>,
}

impl Checkpoint<'_> {
    /// Writes `run_folder/checkpoint-STEP` and removes all but the newest `limit` up to this one (0: none).
    ///
    /// # Errors
    /// If the disk does not take it; what was there before still loads.
    pub fn write(&self, run_folder: &Path, limit: usize) -> Result<PathBuf, CheckpointError> {
        let target = run_folder.join(format!("{FOLDER}{}", self.state.step));
        let partial = run_folder.join(format!(".{FOLDER}{}.partial", self.state.step));
        if partial.exists() {
            fs_err::remove_dir_all(&partial)?;
        }
        fs_err::create_dir_all(&partial)?;
        let written = self.write_files(&partial).and_then(|()| {
            if target.exists() {
                fs_err::remove_dir_all(&target)?;
            }
            fs_err::rename(&partial, &target)?;
            sync_folder(run_folder)
        });
        if let Err(error) = written {
            // Best effort: the disk may be full, and the first error is the one that matters.
            let _ = fs_err::remove_dir_all(&partial);
            return Err(error);
        }
        if limit > 0 {
            let up_to_this =
                all(run_folder)?.into_iter().rev().skip_while(|(step, _)| *step > self.state.step);
            for (_, old) in up_to_this.skip(limit) {
                fs_err::remove_dir_all(&old)?;
            }
        }
        Ok(target)
    }

    /// The newest checkpoint of a run folder that can be read, `None` if there is no checkpoint at all.
    ///
    /// # Errors
    /// The newest one's, if none can be read.
    pub fn newest(run_folder: &Path) -> Result<Option<Checkpoint<'static>>, CheckpointError> {
        let mut first_error = None;
        for (_, folder) in all(run_folder)?.into_iter().rev() {
            match Self::read(&folder) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(None), Err)
    }

    /// Reads a checkpoint folder.
    ///
    /// # Errors
    /// A file that is missing, truncated or something else.
    pub fn read(folder: &Path) -> Result<Checkpoint<'static>, CheckpointError> {
        let state_path = folder.join(STATE);
        let state: CheckpointState = serde_json::from_str(&fs_err::read_to_string(&state_path)?)
            .map_err(|source| CheckpointError::State { path: state_path, source })?;
        let path = folder.join(TENSORS);
        let broken = |reason: String| CheckpointError::Tensors { path: path.clone(), reason };
        let file = SafetensorsFile::open(&path).map_err(|error| broken(error.to_string()))?;
        let vector = |name: &str| -> Result<Cow<'static, [f32]>, CheckpointError> {
            Ok(file.read(name).map_err(|error| broken(error.to_string()))?.to_f32().into())
        };
        let checkpoint = Checkpoint {
            state,
            parameters: vector("parameters")?,
            first_moments: vector("first_moments")?,
            second_moments: vector("second_moments")?,
            constants: vector("constants")?,
            best_parameters: vector("best_parameters")?,
        };
        let want = checkpoint.parameters.len();
        let best = checkpoint.best_parameters.len();
        for (name, got) in [
            ("first_moments", checkpoint.first_moments.len()),
            ("second_moments", checkpoint.second_moments.len()),
            ("best_parameters", if best == 0 { want } else { best }),
        ] {
            if got != want {
                return Err(CheckpointError::Length { path, name, got, want });
            }
        }
        Ok(checkpoint)
    }

    /// Puts the method where it was; `path` names the checkpoint in errors.
    ///
    /// # Errors
    /// Vectors of another model or method.
    pub fn restore<B: Backend>(
        &self,
        method: &mut dyn Method<B>,
        path: &Path,
    ) -> Result<(), CheckpointError> {
        let fits = |name, got: usize, want: usize| match got == want {
            true => Ok(()),
            false => Err(CheckpointError::Length { path: path.into(), name, got, want }),
        };
        fits("parameters", self.parameters.len(), method.parameters().values().len())?;
        fits("constants", self.constants.len(), method.constants().len())?;
        method.parameters_mut().values_mut().copy_from_slice(&self.parameters);
        method.set_constants(&self.constants);
        Ok(())
    }

    fn write_files(&self, folder: &Path) -> Result<(), CheckpointError> {
        let vectors = [
            ("parameters", &self.parameters),
            ("first_moments", &self.first_moments),
            ("second_moments", &self.second_moments),
            ("constants", &self.constants),
            ("best_parameters", &self.best_parameters),
        ];
        let path = folder.join(TENSORS);
        let broken = |error: safetensors::SafeTensorError| CheckpointError::Tensors {
            path: path.clone(),
            reason: error.to_string(),
        };
        let views = vectors
            .into_iter()
            .map(|(name, values)| {
                let bytes = bytemuck::cast_slice(values);
                Ok((name, TensorView::new(Dtype::F32, vec![values.len()], bytes).map_err(broken)?))
            })
            .collect::<Result<Vec<_>, CheckpointError>>()?;
        safetensors::serialize_to_file(views, None, &path).map_err(broken)?;
        fs_err::File::open(&path)?.sync_all()?;
        let mut json = serde_json::to_vec_pretty(&self.state)
            .map_err(|source| CheckpointError::State { path: folder.join(STATE), source })?;
        json.push(b'\n');
        write_synced(&folder.join(STATE), &json)?;
        sync_folder(folder)
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    use std::io::Write;
    let mut file = fs_err::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(())
}

/// A rename is on disk only when its folder is.
fn sync_folder(folder: &Path) -> Result<(), CheckpointError> {
    #[cfg(unix)]
    fs_err::File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// The checkpoints of a run folder by step, oldest first.
fn all(run_folder: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    if !run_folder.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs_err::read_dir(run_folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let step = name.to_str().and_then(|name| name.strip_prefix(FOLDER)?.parse().ok());
        if let Some(step) = step {
            found.push((step, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

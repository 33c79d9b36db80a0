//! From a checkpoint to the artefact that its run would have left at that step.

use std::path::Path;

use anyhow::Result;
use preface_train::Checkpoint;
use preface_tune::artefact::{TrainedWith, write_trained};

use super::Job;
use super::method::Numbers;
use crate::config::Recorded;
use crate::config::sections::Compute;
use crate::engine;

impl Job {
    /// Writes the artefact of a checkpoint of this run, which `path` names in errors; returns the hash of its numbers.
    /// No scores are known of it.
    ///
    /// # Errors
    /// Another model than the run's, a checkpoint of another method, or a disk that does not take the files.
    pub fn export(
        mut self,
        recorded: &Recorded,
        checkpoint: &Checkpoint<'_>,
        path: &Path,
        out: &Path,
    ) -> Result<String> {
        let now = self.recorded(recorded.precision.clone(), recorded.tier.clone());
        super::folder::check_same(recorded, &now)?;
        self.config.compute.precision.clone_from(&recorded.precision);
        // The tier of the run may be one that this machine lacks, and nothing is computed here that would differ.
        let compute = Compute { tier: "auto".into(), ..self.config.compute.clone() };
        let model = engine::load_for_training(&self.source.files, &compute)?;
        let mut method = self.method(&model, Numbers::Loaded)?;
        checkpoint.restore(&mut *method, path)?;
        let trained_with = TrainedWith { precision: recorded.precision.clone(), tier: recorded.tier.clone() };
        let description = self.description(Vec::new(), trained_with)?;
        let folder = self.model_folder()?;
        Ok(write_trained(out, &method.trained(), model.spec(), &description, folder.as_ref())?)
    }
}

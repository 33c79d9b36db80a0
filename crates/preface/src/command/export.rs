//! `preface export`: the artefact of a checkpoint, of a run that was interrupted or is still under way.

use anyhow::{Context, Result, bail};
use preface_train::Checkpoint;

use crate::args::ExportArgs;
use crate::training::Job;
use crate::training::folder;
use crate::ui;

/// Runs the command.
pub fn run(args: &ExportArgs) -> Result<()> {
    let ExportArgs { checkpoint: given, out, force } = args;
    if !given.exists() {
        bail!("{}: no such folder", given.display());
    }
    let is_used = out.exists() && (!out.is_dir() || fs_err::read_dir(out)?.next().is_some());
    if is_used && !force {
        bail!("{}: exists already; --force replaces the artefact in it", out.display());
    }
    let is_run = given.join(folder::RUN).exists();
    let (run_folder, checkpoint) = match is_run {
        true => (
            given.clone(),
            Checkpoint::newest(given)?
                .with_context(|| format!("{}: no checkpoint in it", given.display()))?,
        ),
        false => (given.join(".."), Checkpoint::read(given)?),
    };
    let run_file = run_folder.join(folder::RUN);
    if !run_file.exists() {
        bail!(
            "{}: the checkpoint lies in no run folder: its settings are in {}",
            given.display(),
            run_file.display()
        );
    }
    let (typed, recorded) = folder::read(&run_file)?;
    let hash = Job::open(&typed)?.export(&recorded, &checkpoint, given, out)?;
    ui::note(&format!("{}: the artefact after step {}, sha256 {hash}", out.display(), checkpoint.state.step));
    Ok(())
}

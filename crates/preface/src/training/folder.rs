//! The run folder: what it holds, when it may be written into, and what a resumed run must find unchanged.
//!
//! ```text
//! run.toml            every setting; written first
//! metrics.jsonl       a line for each logged step and each evaluation
//! loss.svg            the curve
//! checkpoint-STEP/    what a run goes on from
//! result.json         written last: a folder that has it is finished
//! adapter_model.safetensors, adapter_config.json, preface.json, README.md      the artefact
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use preface_tune::artefact;
use serde::Deserialize;
use toml::Value;

use crate::config::setting::{self, Kind};
use crate::config::{RECORDED, Recorded, RunConfig, TRAIN_TABLES, Typed};
use crate::exit::WrongUse;

/// Every setting.
pub const RUN: &str = "run.toml";
/// Logged steps and evaluations.
pub const METRICS: &str = "metrics.jsonl";
/// The curve.
pub const CURVE: &str = "loss.svg";
/// What came out.
pub const RESULT: &str = "result.json";

/// All files of a run folder, checkpoints apart.
const FILES: [&str; 10] = [
    RESULT,
    METRICS,
    CURVE,
    RUN,
    artefact::TENSORS,
    artefact::CONFIG,
    artefact::MANIFEST,
    artefact::CARD,
    artefact::MODEL,
    artefact::MODEL_CONFIG,
];

/// Settings that a resumed run may change: they do not change a result, or say on which machine it goes on.
const FREE: [&str; 2] = ["threads", "tier"];

/// A folder that may be written into.
pub struct RunFolder {
    path: PathBuf,
    /// What the run that is gone on with found out.
    resumed: Option<Recorded>,
}

impl RunFolder {
    /// A folder for a new run, whatever is in it.
    pub fn new(path: &Path) -> Self {
        Self { path: path.into(), resumed: None }
    }

    /// The folder to train in, with the settings to train with; nothing if the run in it is finished.
    ///
    /// # Errors
    /// A folder that is in use without `force` or `resume`, or settings that differ from those of the run to be resumed.
    pub fn plan(path: &Path, typed: Typed, resume: bool, force: bool) -> Result<Option<(Self, Typed)>> {
        if path.exists() && !path.is_dir() {
            bail!("{}: exists and is no folder", path.display());
        }
        let run_file = path.join(RUN);
        if resume && run_file.exists() {
            let (saved, recorded) = read(&run_file)?;
            let typed = unchanged(path, typed, saved)?;
            if path.join(RESULT).exists() {
                return Ok(None);
            }
            return Ok(Some((Self { path: path.into(), resumed: Some(recorded) }, typed)));
        }
        let is_used = path.is_dir() && fs_err::read_dir(path)?.next().is_some();
        if is_used && !force {
            let hint = match run_file.exists() {
                true => "--resume goes on with the run in it, --force replaces that",
                false => "it is not a run folder; --force trains in it all the same",
            };
            bail!("{}: exists already; {hint}", path.display());
        }
        if is_used && !run_file.exists() {
            // A README.md, say, that somebody wrote.
            if let Some(file) = FILES.iter().map(|name| path.join(name)).find(|file| file.exists()) {
                bail!("{}: is not of a run and would be lost; name another folder", file.display());
            }
        }
        Ok(Some((Self::new(path), typed)))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a run is gone on with.
    pub fn is_resumed(&self) -> bool {
        self.resumed.is_some()
    }

    /// What the run that is gone on with found out.
    pub fn recorded(&self) -> Option<&Recorded> {
        self.resumed.as_ref()
    }

    /// Removes what an earlier run left and writes `run.toml`; a resumed run keeps everything.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn begin(&self, config: &RunConfig, recorded: &Recorded) -> Result<()> {
        if self.is_resumed() {
            return Ok(());
        }
        fs_err::create_dir_all(&self.path)?;
        remove_run(&self.path)?;
        artefact::replace_files(&self.path, &[(RUN, config.to_toml(recorded).into_bytes())])?;
        Ok(())
    }
}

/// Removes the files of a run from a folder, and nothing else.
///
/// # Errors
/// If one of them cannot be removed.
fn remove_run(folder: &Path) -> Result<()> {
    for name in FILES {
        let path = folder.join(name);
        if path.is_file() {
            fs_err::remove_file(&path)?;
        }
    }
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_checkpoint = name.to_str().is_some_and(|name| {
            let step = name.trim_start_matches('.').strip_prefix("checkpoint-");
            step.is_some_and(|step| step.trim_end_matches(".partial").parse::<u64>().is_ok())
        });
        if is_checkpoint && entry.path().is_dir() {
            fs_err::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// The settings of a run, and what it found out.
///
/// # Errors
/// A file that is missing, broken, or was not written by a run.
pub fn read(run_file: &Path) -> Result<(Typed, Recorded)> {
    let saved = Typed::default().with_file(run_file, TRAIN_TABLES)?;
    let table: toml::Table = toml::from_str(&fs_err::read_to_string(run_file)?)
        .map_err(|error| anyhow!("{}: {}", run_file.display(), error.message()))?;
    let recorded = table
        .get(RECORDED)
        .cloned()
        .with_context(|| format!("{}: no [{RECORDED}] table: not written by a run", run_file.display()))?;
    let recorded = Recorded::deserialize(recorded)
        .map_err(|error| anyhow!("{}: {}", run_file.display(), error.message()))?;
    Ok((saved, recorded))
}

/// The saved settings, if what was typed again says the same.
fn unchanged(folder: &Path, typed: Typed, saved: Typed) -> Result<Typed> {
    let mut free = toml::Table::new();
    for (name, value) in typed.all() {
        if FREE.contains(&name.as_str()) {
            free.insert(name, value);
            continue;
        }
        let before = saved.get(&name);
        let is_same = before.is_some_and(|before| same(&name, before, &value))
            // What was chosen then still holds.
            || (name == "precision" && value.as_str() == Some("auto"));
        if !is_same {
            let before = before.map_or_else(|| "not set".into(), ToString::to_string);
            return Err(WrongUse(format!(
                "{}: the run in it has `{name}` {before}, but {value} was typed; a resumed run keeps its settings",
                folder.display()
            ))
            .into());
        }
    }
    Ok(saved.over(free))
}

/// Whether two values of a setting mean the same (`recipe = 2021` and `recipe = "2021"` do).
fn same(name: &str, a: &Value, b: &Value) -> bool {
    let kind = setting::find(TRAIN_TABLES, name).map_or(Kind::Text, |setting| setting.kind);
    kind.check(a.clone()) == kind.check(b.clone())
}

/// Refuses to go on with other data, another model or another precision.
///
/// # Errors
/// If something differs that would change the result.
pub fn check_same(earlier: &Recorded, now: &Recorded) -> Result<()> {
    let parts = [
        ("the training data", &earlier.train_sha256, &now.train_sha256),
        ("the model", &earlier.model_fingerprint, &now.model_fingerprint),
        ("the precision", &earlier.precision, &now.precision),
    ];
    for (what, before, after) in parts {
        if before != after {
            bail!("{what} has changed since the run began: it was {before}, now it is {after}");
        }
    }
    if earlier.valid_sha256 != now.valid_sha256 {
        bail!("the validation data has changed since the run began");
    }
    if earlier.tier != now.tier {
        crate::ui::note(&format!(
            "warning: the run began with {} kernels and goes on with {}: losses may differ in the last digits",
            earlier.tier, now.tier
        ));
    }
    Ok(())
}

//! `preface assets add`: data that a metric needs and that may not be shipped, checked and put where it is looked for.

use std::path::PathBuf;

use anyhow::{Context, Result};
use preface_metrics::meteor::{Installed, install};

use crate::args::{Asset, AssetsAddArgs};
use crate::ui;

/// Installs an asset.
///
/// # Errors
/// A source that is none or whose checksums differ, or a folder that cannot be written; nothing is left half done.
pub fn add(args: &AssetsAddArgs) -> Result<()> {
    let Asset::Meteor = args.asset;
    let to =
        args.to.clone().or_else(meteor_folder).context("this system names no data folder; use --to DIR")?;
    let said = match install(&args.path, &to)? {
        Installed::New => "METEOR's tables are checked and installed in",
        Installed::Already => "METEOR's tables are already in",
    };
    ui::note(&format!("{said} {}", to.display()));
    Ok(())
}

/// METEOR's tables, where they are installed.
pub fn meteor() -> Option<PathBuf> {
    meteor_folder().filter(|folder| folder.exists())
}

fn meteor_folder() -> Option<PathBuf> {
    dirs::data_dir().map(|folder| folder.join("preface").join("meteor"))
}

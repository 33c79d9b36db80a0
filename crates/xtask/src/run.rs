//! Running other programs from the repository's root.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// The repository's root.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).map_or_else(|| manifest.into(), Path::to_path_buf)
}

/// Runs a command in the root, its output passed through.
pub fn run(program: impl AsRef<Path>, args: &[&str]) -> anyhow::Result<()> {
    let mut command = command(program.as_ref(), args);
    let status = command.status().with_context(|| format!("cannot start {}", program.as_ref().display()))?;
    if !status.success() {
        bail!("`{} {}` failed: {status}", program.as_ref().display(), args.join(" "));
    }
    Ok(())
}

/// Runs a command in the root and returns what it wrote to stdout; stderr is passed through.
pub fn output(program: impl AsRef<Path>, args: &[&str], env: &[(&str, &str)]) -> anyhow::Result<String> {
    let mut command = command(program.as_ref(), args);
    command.envs(env.iter().copied()).stderr(std::process::Stdio::inherit());
    let output = command.output().with_context(|| format!("cannot start {}", program.as_ref().display()))?;
    if !output.status.success() {
        bail!("`{} {}` failed: {}", program.as_ref().display(), args.join(" "), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn command(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

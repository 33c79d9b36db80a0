//! preface-cpu, the only crate with `unsafe`, under AddressSanitizer.
//!
//! Its tests go over every tier of the CPU themselves. The sanitizer is a feature of the nightly compiler that the stable
//! one has too, behind `RUSTC_BOOTSTRAP`; it needs a named target, so that build scripts stay without it.

use std::process::Command;

use anyhow::{Context, bail};

use crate::run::root;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds and runs the tests in a target folder of their own.
pub fn run_tests() -> anyhow::Result<()> {
    let status = Command::new("cargo")
        .args(["test", "--package", "preface-cpu", "--lib", "--target", TARGET])
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Zsanitizer=address --cfg sanitized")
        .env("CARGO_TARGET_DIR", root().join("target/sanitize"))
        .current_dir(root())
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("AddressSanitizer or a test of preface-cpu failed: {status}");
    }
    Ok(())
}

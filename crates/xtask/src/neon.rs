//! preface-cpu's tests compiled for 64-bit ARM and run by an emulator, so that the NEON tier is tested on any machine.
//!
//! Needs a `rustc` on the path that has the target's standard library, a cross linker and qemu. On Debian:
//! `dpkg --add-architecture arm64`, then `apt install rustc-web cargo-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu
//! libc6-dev-arm64-cross qemu-user`; elsewhere `rustup target add aarch64-unknown-linux-gnu` does for the first.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

use crate::run::root;

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// Builds and runs the tests in a target folder of their own.
pub fn run_tests() -> anyhow::Result<()> {
    let rustc = rustc()?;
    let status = Command::new("cargo")
        .args(["test", "--package", "preface-cpu", "--lib", "--target", TARGET])
        // It starts the test program once more, which only the emulator could run.
        .args(["--", "--skip", "overrun::kills_the_process"])
        .env("RUSTC", &rustc)
        // Without a loader and libraries of the other architecture.
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc")
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", "qemu-aarch64")
        .env("CARGO_TARGET_DIR", root().join("target/neon"))
        .current_dir(root())
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("a test of preface-cpu failed on {TARGET}: {status}");
    }
    Ok(())
}

/// The first compiler on the path that has the target's standard library.
fn rustc() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").context("PATH is not set")?;
    let compilers = std::env::split_paths(&path).map(|folder| folder.join("rustc"));
    for rustc in compilers.filter(|rustc| rustc.is_file()) {
        let asked = Command::new(&rustc).args(["--print", "target-libdir", "--target", TARGET]).output()?;
        let folder = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
        if asked.status.success() && folder.is_dir() {
            return Ok(rustc);
        }
    }
    bail!(
        "no rustc on the path has the standard library of {TARGET}; see the head of crates/xtask/src/neon.rs"
    )
}

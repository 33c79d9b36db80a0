//! What CI runs, cheapest first.

use crate::run::run;

/// Format, lints, documentation, then the tests that need no download.
pub fn check() -> anyhow::Result<()> {
    step("format");
    run("cargo", &["fmt", "--all", "--check"])?;
    step("lints");
    run("cargo", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])?;
    step("documentation");
    run("cargo", &["doc", "--workspace", "--no-deps", "--quiet"])?;
    step("tests");
    run("cargo", &["test"])
}

fn step(name: &str) {
    eprintln!("== {name}");
}

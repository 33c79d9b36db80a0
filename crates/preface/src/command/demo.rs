//! `preface demo`.

use anyhow::Result;

use crate::args::DemoArgs;

/// Runs the command.
pub fn run(args: &DemoArgs) -> Result<()> {
    let _ = args;
    Ok(())
}

//! Ctrl-C: the first one asks for a clean end, the second ends the process at once.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Takes over Ctrl-C (and the signals that ask a process to end) until the process ends.
///
/// # Errors
/// If the system does not let it.
pub fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::SeqCst) {
            std::process::exit(crate::exit::INTERRUPTED);
        }
        crate::ui::note("stopping after this step; press Ctrl-C again to end at once");
    })
    .context("cannot take over Ctrl-C")
}

/// Whether Ctrl-C was pressed.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

//! A progress bar on stderr; where stderr is no terminal, a line now and then instead.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Between two lines where there is no terminal.
const QUIET: Duration = Duration::from_secs(10);

/// How far something is.
pub struct Progress {
    bar: ProgressBar,
    what: &'static str,
    is_terminal: bool,
    last_line: Instant,
}

impl Progress {
    /// A bar of `length` steps, `position` of them done.
    pub fn new(what: &'static str, length: u64, position: u64) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let target = if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(length), target).with_position(position);
        // The wide message is cut to what room there is, so a narrow terminal keeps one line.
        let template = match super::width() {
            ..60 => "{pos}/{len}, {eta} left{wide_msg}",
            _ => "{prefix} [{bar:20}] {pos}/{len}, {eta} left{wide_msg}",
        };
        let style = ProgressStyle::with_template(template).expect("a template of known keys");
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(what);
        bar.reset_eta();
        Self { bar, what, is_terminal, last_line: Instant::now() }
    }

    /// So many steps are done; `message` says more.
    pub fn at(&mut self, position: u64, message: &str) {
        let comma = if message.is_empty() { "" } else { ", " };
        self.bar.set_position(position);
        self.bar.set_message(format!("{comma}{message}"));
        let length = self.bar.length().unwrap_or(0);
        if !self.is_terminal && self.last_line.elapsed() >= QUIET {
            super::note(&format!("{} {position}/{length}{comma}{message}", self.what));
            self.last_line = Instant::now();
        }
    }

    /// A line above the bar.
    pub fn note(&self, text: &str) {
        self.bar.suspend(|| super::note(text));
    }

    /// Takes the bar away.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}

//! What a person sees: notes and progress on stderr, tables on stdout. Nothing here prints a colour code.

mod columns;
mod format;
mod output;
mod progress;
mod table;

pub use columns::side_by_side;
pub use format::{bytes, count, duration, rate, score};
pub use output::{Output, one_line};
pub use progress::Progress;
pub use table::{Align, Table};

/// Narrowest and widest text that is laid out.
const WIDTHS: std::ops::RangeInclusive<usize> = 24..=110;

/// Columns of the terminal that stdout or stderr is; 80 where neither is one.
pub fn width() -> usize {
    let size = terminal_size::terminal_size().or_else(|| terminal_size::terminal_size_of(std::io::stderr()));
    let columns = size.map_or(80, |(width, _)| usize::from(width.0));
    columns.clamp(*WIDTHS.start(), *WIDTHS.end())
}

/// A line on stderr. Whether anybody reads it does not matter.
pub fn note(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A line on stderr with a name in front; what does not fit goes on below the text.
pub fn fact(name: &str, text: &str) {
    const NAME_WIDTH: usize = 10;
    let first = format!("{name:<NAME_WIDTH$} ");
    let rest = " ".repeat(NAME_WIDTH + 1);
    let options = textwrap::Options::new(width())
        .initial_indent(&first)
        .subsequent_indent(&rest)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .break_words(false);
    note(&textwrap::fill(text, options));
}

//! The Penn Treebank tokenizer of Stanford CoreNLP 3.4.1 with the options that coco-caption gives it
//! (`-preserveLines -lowerCase`), which e2e-metrics takes over.
//!
//! It is one table of patterns under longest match (`grammar.rs`), a scanner that runs in linear time (`scanner.rs`) and
//! the rewriting of quotes, brackets and the like (`escape.rs`).
//!
//! The tool reads a whole file, and some decisions look beyond the end of a line: `vitamin C.` ends in the tokens
//! `c .` where the next line begins with `The`, and in the single token `c.` where it begins with `Carrots`. So
//! [`tokenize_lines`] takes all lines of what the tool would get as one file.

mod caption;
mod escape;
mod grammar;
mod scanner;

pub use caption::{caption_lines, caption_tokens};
use scanner::Scanner;

/// The lower-cased tokens of each line. A token never holds a blank (no-break blanks stand for those of `5 1/2`).
pub fn tokenize_lines(lines: &[&str]) -> Vec<Vec<String>> {
    // A line end within a line would add a line to the tool's output, out of step with the lines that went in.
    let text = lines.iter().map(|line| line.replace(['\n', '\r'], " ")).collect::<Vec<_>>().join("\n");
    let mut tokenized = vec![Vec::new(); lines.len()];
    let mut line = 0;
    let mut line_ends = text.match_indices('\n').map(|(at, _)| at).peekable();
    for token in Scanner::new(&text) {
        while line_ends.next_if(|end| *end < token.start).is_some() {
            line += 1;
        }
        let Some(printed) = escape::printed(token.action, token.text) else { continue };
        // Markup may run over a line's end, within a quoted attribute.
        for (offset, part) in printed.to_lowercase().split('\n').enumerate() {
            if !part.is_empty() {
                tokenized[line + offset].push(part.to_owned());
            }
        }
    }
    tokenized
}

/// The lower-cased tokens of a text with nothing behind it.
pub fn tokenize(text: &str) -> Vec<String> {
    tokenize_lines(&[text]).pop().unwrap_or_default()
}

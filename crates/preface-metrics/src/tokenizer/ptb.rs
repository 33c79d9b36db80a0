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

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(text: &str) -> String {
        tokenize(text).join(" ")
    }

    #[test]
    fn degenerate_texts() {
        assert!(tokenize_lines(&[]).is_empty());
        assert_eq!(tokenize_lines(&["", "", "a", ""]), [vec![], vec![], vec!["a".to_owned()], vec![]]);
        assert_eq!(joined(" \t\u{a0}"), "");
        assert_eq!(joined(".,;"), ". , ;");
        assert_eq!(joined("東京 \u{1F600}a"), "東京 a");
    }

    #[test]
    fn contractions_quotes_brackets_and_money() {
        assert_eq!(joined("It isn't \"cheap\" (£20)."), "it is n't `` cheap '' -lrb- # 20 -rrb- .");
        assert_eq!(joined("I cannot, he'll go"), "i can not , he 'll go");
        assert_eq!(joined("5 1/2 or ½"), "5\u{a0}1/2 or 1/2");
    }

    #[test]
    fn the_next_line_decides_about_the_last_full_stop() {
        let last = |lines: &[&str]| tokenize_lines(lines)[0].join(" ");
        assert_eq!(last(&["vitamin C.", "The pub"]), "vitamin c .");
        assert_eq!(last(&["vitamin C.", "Carrots"]), "vitamin c.");
        assert_eq!(last(&["Smith Inc.", "Apple"]), "smith inc. .");
        assert_eq!(last(&["Smith Inc.", "of course"]), "smith inc.");
    }

    #[test]
    fn markup_over_a_line_end_leaves_its_parts_on_both_lines() {
        let lines = tokenize_lines(&["<a b='c", "d'> e"]);
        assert_eq!(lines, [vec!["<a\u{a0}b='c".to_owned()], vec!["d'>".to_owned(), "e".to_owned()]]);
    }

    #[test]
    fn a_long_line_of_openings_takes_linear_time() {
        for text in ["<a ", "<a b='", "a,", "x@", "www.a", "\"", "a-", "1/", ". "] {
            let long = text.repeat(200_000 / text.len());
            assert!(!tokenize(&long).is_empty());
        }
    }
}

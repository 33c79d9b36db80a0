//! coco-caption's use of the tokenizer: its tokens without punctuation.

use super::tokenize_lines;

/// What is dropped. The tool meant brackets too, but compares lower-cased tokens with `-LRB-`, so brackets stay.
const PUNCTUATION: [&str; 17] = [
    "''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";",
];

/// The tokens of each line, without punctuation; the lines are read as one file ([`super`]).
pub fn caption_lines(lines: &[&str]) -> Vec<Vec<String>> {
    let mut tokenized = tokenize_lines(lines);
    for tokens in &mut tokenized {
        tokens.retain(|token| !PUNCTUATION.contains(&token.as_str()));
    }
    tokenized
}

/// The tokens of a text that an empty line follows.
pub fn caption_tokens(text: &str) -> Vec<String> {
    caption_lines(&[text, ""]).swap_remove(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punctuation_goes_and_brackets_stay() {
        let tokens = caption_tokens("The \"Eagle\" (cheap), near Burger King... isn't it?");
        assert_eq!(
            tokens,
            ["the", "eagle", "-lrb-", "cheap", "-rrb-", "near", "burger", "king", "is", "n't", "it"]
        );
    }

    #[test]
    fn a_text_of_punctuation_has_no_tokens() {
        assert!(caption_tokens("... , ; ! -").is_empty());
        assert!(caption_tokens("").is_empty());
    }
}

//! The English normaliser behind `-norm`: separates punctuation, unifies quotes and dashes, splits contractions, and
//! keeps the full stop of abbreviations (Moses' list of non-breaking prefixes). Lower-casing follows it.
//!
//! The original is a chain of substitutions over the whole line, each of which scans from left to right without
//! overlaps: of `a'b'c` the second apostrophe finds its left neighbour used up. Here they are passes over characters
//! with the same windows.

use rustc_hash::FxHashMap;

use super::java;

/// Stands for one full stop of several in a row, which no rule may touch; a noncharacter, absent from real text.
const PROTECTED_STOP: char = '\u{FFFF}';

/// When a word of the list keeps its full stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefix {
    Always,
    BeforeNumber,
}

/// METEOR's English normaliser.
#[derive(Clone, Debug)]
pub struct Normalizer {
    prefixes: FxHashMap<String, Prefix>,
}

impl Normalizer {
    /// Takes the list of non-breaking prefixes: one a line, `#` starts a comment, `#NUMERIC_ONLY#` behind a prefix
    /// means that only a number may follow.
    pub fn new(prefixes: &str) -> Self {
        let mut known = FxHashMap::default();
        for line in prefixes.lines() {
            let mut words = java::words(line);
            let Some(prefix) = words.next().filter(|word| !word.starts_with('#')) else { continue };
            let kind = if words.any(|word| word == "#NUMERIC_ONLY#") {
                Prefix::BeforeNumber
            } else {
                Prefix::Always
            };
            known.insert(prefix.to_owned(), kind);
        }
        Self { prefixes: known }
    }

    /// The normalised line, not yet in lower case.
    pub fn normalize(&self, line: &str) -> String {
        let text = protect_stops(&separate_symbols(line));
        let text = split_at(&text, ',', " , ", |left, right| !is_digit(left) && !is_digit(right));
        let text = split_at(&text, ',', " , ", |left, right| is_digit(left) && !is_digit(right));
        let text = split_at(&text, ',', " , ", |left, right| !is_digit(left) && is_digit(right));
        let text = text.replace(['`', '\u{2018}', '\u{2019}'], "'");
        let text = text.replace("''", " \" ").replace(['\u{201C}', '\u{201D}'], " \" ");
        let text = text.replace('\u{2013}', "-").replace("--", "-");
        let text =
            split_at(&text, '-', " ", |left, right| (is_alnum(left) || left == '.') && is_alnum(right));
        let text = split_at(&text, '\'', " ' ", |left, right| !is_alpha(left) && !is_alpha(right));
        let text =
            split_at(&text, '\'', " ' ", |left, right| !is_alpha(left) && !is_digit(left) && is_alpha(right));
        let text = split_at(&text, '\'', " ' ", |left, right| is_alpha(left) && !is_alpha(right));
        let text = split_at(&text, '\'', " '", |left, right| is_alpha(left) && is_alpha(right));
        let text = split_at(&text, '\'', " '", |left, right| is_digit(left) && right == 's');
        let text = self.separate_stops(&text).replace(PROTECTED_STOP, ".");
        text.replace(is_wide_space, " ").trim_matches(|c| c <= ' ').to_owned()
    }

    /// Separates the full stops that end sentences.
    fn separate_stops(&self, text: &str) -> String {
        let words: Vec<&str> = java::words(text).collect();
        let mut separated = String::with_capacity(text.len() + 8);
        for (index, word) in words.iter().enumerate() {
            match word.strip_suffix('.').filter(|stem| !stem.is_empty()) {
                None => separated.push_str(word),
                Some(stem) if stem.contains('.') && stem.contains(is_alpha) => {
                    separated.extend(word.chars().filter(|c| *c != '.'));
                }
                Some(stem) => {
                    let next = words.get(index + 1).and_then(|next| next.chars().next());
                    let prefix = self.prefixes.get(stem);
                    let kept = prefix == Some(&Prefix::Always)
                        || next.is_some_and(|next| next.is_ascii_lowercase())
                        || (prefix == Some(&Prefix::BeforeNumber) && next.is_some_and(is_digit));
                    separated.push_str(if kept { word } else { stem });
                    separated.push_str(if kept { "" } else { " ." });
                }
            }
            separated.push(' ');
        }
        separated
    }
}

/// Puts blanks around every character that is no letter, digit, white space or mark with rules of its own.
fn separate_symbols(line: &str) -> String {
    let mut separated = String::with_capacity(line.len() + 16);
    separated.push(' ');
    for c in line.chars() {
        let has_rules =
            matches!(c, '.' | '\'' | '`' | ',' | '-' | '\u{2018}' | '\u{2019}' | ' ' | '\t'..='\r');
        if has_rules || is_alnum(c) {
            separated.push(c);
        } else {
            separated.extend([' ', c, ' ']);
        }
    }
    separated.push(' ');
    separated
}

/// Makes a word of each run of full stops.
fn protect_stops(text: &str) -> String {
    let mut protected = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("..") {
        protected.push_str(&rest[..at]);
        let run = rest[at..].chars().take_while(|c| *c == '.').count();
        protected.push(' ');
        protected.extend(std::iter::repeat_n(PROTECTED_STOP, run));
        protected.push(' ');
        rest = &rest[at + run..];
    }
    protected.push_str(rest);
    protected
}

/// Replaces `mark` by `with` wherever `between(left, right)` holds for its neighbours. The neighbours of a replaced
/// mark are used up: a mark behind it sees no left neighbour.
fn split_at(text: &str, mark: char, with: &str, between: impl Fn(char, char) -> bool) -> String {
    if !text.contains(mark) {
        return text.to_owned();
    }
    let mut split = String::with_capacity(text.len() + 16);
    let mut chars = text.chars();
    let mut left = None;
    while let Some(c) = chars.next() {
        let mut ahead = chars.clone();
        match (left, ahead.next()) {
            (Some(before), Some(after)) if c == mark && between(before, after) => {
                split.push_str(with);
                split.push(after);
                chars = ahead;
                left = None;
            }
            _ => {
                split.push(c);
                left = Some(c);
            }
        }
    }
    split
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

fn is_alnum(c: char) -> bool {
    is_digit(c) || is_alpha(c)
}

/// What METEOR takes for a letter: Latin with its extensions up to `ž`, Cyrillic, phonetic extensions.
fn is_alpha(c: char) -> bool {
    c.is_ascii_alphabetic()
        || matches!(c,
            '\u{C0}'..='\u{D6}' | '\u{D8}'..='\u{F6}' | '\u{F8}'..='\u{17E}' | '\u{400}'..='\u{4FF}'
            | '\u{500}'..='\u{527}' | '\u{A640}'..='\u{A66E}' | '\u{A67E}'..='\u{A697}' | '\u{1D00}'..='\u{1D7F}')
}

fn is_wide_space(c: char) -> bool {
    matches!(c, '\u{2000}'..='\u{200A}' | '\u{202F}' | '\u{205F}' | '\u{3000}' | '\u{A0}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalize(line: &str) -> String {
        let normalizer = Normalizer::new("#titles\nMr\nNo #NUMERIC_ONLY# \n\n");
        java::words(&normalizer.normalize(line)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn degenerate_lines_stay_what_they_are() {
        assert_eq!(normalize(""), "");
        assert_eq!(normalize(" \t "), "");
        assert_eq!(normalize("."), ".");
        assert_eq!(normalize("...."), "....");
        assert_eq!(normalize("'"), "'");
    }

    #[test]
    fn symbols_stand_alone_and_numbers_stay_whole() {
        assert_eq!(normalize("(cheap) £1,000, that's 5%"), "( cheap ) £ 1,000 , that 's 5 %");
    }

    #[test]
    fn a_stop_leaves_its_word_only_at_the_end_of_a_sentence() {
        assert_eq!(normalize("Mr. Smith lives. Here."), "Mr. Smith lives . Here .");
        assert_eq!(normalize("No. 5 or No. And approx. five"), "No. 5 or No . And approx. five");
        assert_eq!(normalize("the U.S. is"), "the US is");
    }

    #[test]
    fn quotes_dashes_and_contractions_take_one_form() {
        assert_eq!(normalize("“well-known” – it’s ''odd''"), "\" well known \" - it 's \" odd \"");
        assert_eq!(normalize("wait... what"), "wait ... what");
    }

    #[test]
    fn a_mark_whose_left_neighbour_is_used_up_stays() {
        assert_eq!(normalize("a-b-c"), "a b-c");
    }

    #[test]
    fn other_scripts_are_separated_by_character() {
        assert_eq!(normalize("東京 Київ"), "東 京 Київ");
    }

    #[test]
    fn a_long_run_of_stops_takes_linear_time() {
        assert_eq!(normalize(&".".repeat(200_000)).len(), 200_000);
    }
}

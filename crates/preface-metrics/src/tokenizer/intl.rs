//! sacreBLEU's `intl`, the international tokenizer of mteval-v14.
//!
//! ```text
//! 1. (not a number)(punctuation) -> "$1 $2 "
//! 2. (punctuation)(not a number) -> " $1 $2"
//! 3. (symbol)                    -> " $1 "
//! ```
//!
//! by Unicode's general categories N, P and S. Matches do not overlap, so the passes cannot be merged.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// Puts blanks between the tokens of the line.
pub fn separate(line: &str) -> String {
    let chars: Vec<char> = line.chars().collect();
    let before = pairs(&chars, |a, b| !is_number(a) && is_punctuation(b), |a, b| [a, ' ', b, ' ']);
    let after = pairs(&before, |a, b| is_punctuation(a) && !is_number(b), |a, b| [' ', a, ' ', b]);
    let mut out = String::with_capacity(line.len() * 2);
    for c in after {
        if group(c) == GeneralCategoryGroup::Symbol {
            out.extend([' ', c, ' ']);
        } else {
            out.push(c);
        }
    }
    out
}

fn pairs(
    text: &[char],
    matches: impl Fn(char, char) -> bool,
    replace: impl Fn(char, char) -> [char; 4],
) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 4);
    let mut at = 0;
    while at < text.len() {
        match text.get(at + 1) {
            Some(&next) if matches(text[at], next) => {
                out.extend(replace(text[at], next));
                at += 2;
            }
            _ => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

fn group(c: char) -> GeneralCategoryGroup {
    c.general_category_group()
}

fn is_number(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_digit() } else { group(c) == GeneralCategoryGroup::Number }
}

fn is_punctuation(c: char) -> bool {
    !c.is_ascii_alphanumeric() && group(c) == GeneralCategoryGroup::Punctuation
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(line: &str) -> Vec<String> {
        crate::text::split_python(&separate(line)).map(str::to_owned).collect()
    }

    #[test]
    fn punctuation_beyond_ascii_is_separated() {
        assert_eq!(tokens("“日本。”, said"), ["“", "日本", "。", "”", ",", "said"]);
    }

    #[test]
    fn a_point_after_a_number_at_the_end_stays_with_it() {
        assert_eq!(tokens("in 1999."), ["in", "1999."]);
    }

    #[test]
    fn symbols_stand_alone() {
        assert_eq!(tokens("a+b=5€"), ["a", "+", "b", "=", "5", "€"]);
    }
}

//! sacreBLEU's `13a`, the tokenizer of NIST's mteval-v13a for Western languages.
//!
//! Entities are unescaped, then four substitutions run one after the other, each over the result of the last:
//!
//! ```text
//! 1. blanks round every ASCII symbol except ' , - .
//! 2. x. -> "x . "    x not a digit, also for the comma
//! 3. .x -> " . x"    x not a digit, also for the comma
//! 4. 1- -> "1 - "
//! ```
//!
//! They are substitutions of regular expressions, that is, of matches that do not overlap, from left to right: a
//! character that one match has taken cannot begin the next. All that matters is ASCII, so they run over bytes.

use std::borrow::Cow;

/// Puts blanks between the tokens of the line; split at white space it gives the tokens.
pub fn separate(line: &str) -> String {
    let mut line = Cow::Borrowed(line);
    for (from, to) in [("<skipped>", ""), ("-\n", ""), ("\n", " ")] {
        replace(&mut line, from, to);
    }
    if line.contains('&') {
        for (from, to) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
            replace(&mut line, from, to);
        }
    }
    substitutions(&line)
}

fn replace(line: &mut Cow<'_, str>, from: &str, to: &str) {
    if line.contains(from) {
        *line = line.replace(from, to).into();
    }
}

/// The four substitutions, over the line between blanks.
fn substitutions(line: &str) -> String {
    let mut out = Vec::with_capacity(line.len() * 2 + 2);
    let mut next = Vec::with_capacity(line.len() * 2 + 2);
    // The line stands between blanks, which are symbols too.
    for byte in [b' '].into_iter().chain(line.bytes()).chain([b' ']) {
        if is_symbol(byte) {
            out.extend([b' ', byte, b' ']);
        } else {
            out.push(byte);
        }
    }
    pairs(&out, &mut next, |a, b| !a.is_ascii_digit() && is_point(b), |a, b| [a, b' ', b, b' ']);
    pairs(&next, &mut out, |a, b| is_point(a) && !b.is_ascii_digit(), |a, b| [b' ', a, b' ', b]);
    pairs(&out, &mut next, |a, b| a.is_ascii_digit() && b == b'-', |a, b| [a, b' ', b, b' ']);
    String::from_utf8(next).expect("only ASCII blanks were put in, and never inside a character")
}

fn is_point(byte: u8) -> bool {
    matches!(byte, b'.' | b',')
}

/// `[{-~[-` -&(-+:-@/]`
fn is_symbol(byte: u8) -> bool {
    matches!(byte, b'{'..=b'~' | b'['..=b'`' | b' '..=b'&' | b'('..=b'+' | b':'..=b'@' | b'/')
}

/// Replaces pairs of neighbours that do not overlap, from left to right.
fn pairs(
    text: &[u8],
    out: &mut Vec<u8>,
    matches: impl Fn(u8, u8) -> bool,
    replace: impl Fn(u8, u8) -> [u8; 4],
) {
    out.clear();
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(line: &str) -> Vec<String> {
        crate::text::split_python(&separate(line)).map(str::to_owned).collect()
    }

    #[test]
    fn points_stay_inside_numbers_only() {
        assert_eq!(tokens("1,000.5 is 3.x, x.3."), ["1,000.5", "is", "3", ".", "x", ",", "x", ".", "3", "."]);
    }

    #[test]
    fn dashes_leave_digits_only() {
        assert_eq!(tokens("5-star well-known"), ["5", "-", "star", "well-known"]);
    }

    #[test]
    fn entities_become_symbols() {
        assert_eq!(tokens("&quot;A&amp;B&quot; &lt;b&gt;"), ["\"", "A", "&", "B", "\"", "<", "b", ">"]);
    }

    #[test]
    fn characters_beyond_ascii_survive_beside_points() {
        assert_eq!(tokens("é.é,日本。"), ["é", ".", "é", ",", "日本。"]);
    }
}

//! White space as Python's `str` methods see it, which most reference tools rest on.

/// What `str.isspace` holds for white space: Unicode's property and the four ASCII separators U+001C to U+001F.
pub(crate) fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `str.split()`: maximal runs without white space.
pub(crate) fn split_python(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_python_space).filter(|token| !token.is_empty())
}

/// `str.rstrip()`.
pub(crate) fn trim_end_python(text: &str) -> &str {
    text.trim_end_matches(is_python_space)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_separators_and_no_break_space_are_white_space() {
        let tokens: Vec<&str> = split_python("a\x1cb\u{a0}c\u{200b}d\u{3000}\te ").collect();
        assert_eq!(tokens, ["a", "b", "c\u{200b}d", "e"]);
        assert_eq!(trim_end_python("a \x1f\u{2003}"), "a");
    }
}

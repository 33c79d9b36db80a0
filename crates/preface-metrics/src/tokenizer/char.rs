//! Every character a token: sacreBLEU's `char`.

/// The characters of the line that are not white space, each as a token of its own.
pub fn tokenize(line: &str) -> Vec<&str> {
    line.char_indices()
        .filter(|(_, c)| !crate::text::is_python_space(*c))
        .map(|(start, c)| &line[start..start + c.len_utf8()])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_become_tokens_and_blanks_vanish() {
        assert_eq!(tokenize("né 1"), ["n", "é", "1"]);
        assert!(tokenize(" \t").is_empty());
    }
}

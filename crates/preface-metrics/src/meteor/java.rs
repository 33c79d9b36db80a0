//! Two habits of Java strings that METEOR's results depend on.

/// `String.hashCode`. METEOR compares words and stems by this key alone.
pub(super) fn hash_code(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// The words of a line as `StringTokenizer` gives them: separated by blank, tab, line feed, carriage return, form feed.
pub(super) fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split([' ', '\t', '\n', '\r', '\u{C}']).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_codes_are_those_of_java() {
        assert_eq!(hash_code(""), 0);
        assert_eq!(hash_code("Aa"), hash_code("BB"));
        assert_eq!(hash_code("restaurant"), -1_772_467_395);
    }
}

//! Plain text: UTF-8, lines, groups of lines, lines with an identity.

use std::collections::HashMap;
use std::path::Path;

use crate::MetricError;

/// The whole file, without a byte order mark.
///
/// # Errors
/// [`MetricError::InvalidUtf8`] with the line, [`MetricError::Io`].
pub fn read_text(path: &Path) -> Result<String, MetricError> {
    let bytes = fs_err::read(path)?;
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        MetricError::InvalidUtf8 { path: path.to_owned(), line }
    })?;
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}

/// The lines of a file, without their ends; a last line needs none.
///
/// # Errors
/// As [`read_text`].
pub fn read_lines(path: &Path) -> Result<Vec<String>, MetricError> {
    Ok(lines(&read_text(path)?))
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// Groups of lines between blank lines; blank lines at the end make none, two blank lines elsewhere an empty group.
pub(super) fn groups(lines: &[String]) -> Vec<Vec<String>> {
    let end = lines.iter().rposition(|line| !line.trim().is_empty()).map_or(0, |last| last + 1);
    let groups = lines[..end].split(|line| line.trim().is_empty());
    groups.map(|group| group.iter().map(|line| line.trim().to_owned()).collect()).collect()
}

/// Texts by the identity `(id...)` at the end of their lines, in the order of first appearance; `None` unless every line
/// that is not blank has one.
pub(super) fn identified(lines: &[String]) -> Option<Vec<Vec<String>>> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut groups: Vec<Vec<String>> = Vec::new();
    for line in lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()) {
        let (text, identity) = line.strip_suffix(')')?.rsplit_once('(')?;
        let number = identity.strip_prefix("id")?;
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let place = *places.entry(identity).or_insert(groups.len());
        if place == groups.len() {
            groups.push(Vec::new());
        }
        groups[place].push(text.trim().to_owned());
    }
    (!groups.is_empty()).then_some(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn two_blank_lines_make_an_empty_group_and_blank_ends_none() {
        assert_eq!(groups(&owned(&["a", "b", "", "c", "", ""])), [owned(&["a", "b"]), owned(&["c"])]);
        assert_eq!(groups(&owned(&["a", "", "", "c"])), [owned(&["a"]), vec![], owned(&["c"])]);
        assert_eq!(groups(&[]), Vec::<Vec<String>>::from([vec![]]));
    }

    #[test]
    fn identities_collect_their_lines() {
        let lines = owned(&["a (id0)", "c (d) (id1)", "b (id0)", ""]);
        assert_eq!(identified(&lines), Some(vec![owned(&["a", "b"]), owned(&["c (d)"])]));
        assert_eq!(identified(&owned(&["a (id0)", "b"])), None);
        assert_eq!(identified(&owned(&["see (identity)"])), None);
        assert_eq!(identified(&[]), None);
    }

    #[test]
    fn the_line_of_a_bad_byte_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad.txt");
        fs_err::write(&path, b"good\nb\xffd\n").unwrap();
        let refused = read_lines(&path).unwrap_err().to_string();
        assert!(refused.ends_with("bad.txt:2: not valid UTF-8"), "{refused}");
    }

    #[test]
    fn a_byte_order_mark_and_carriage_returns_are_no_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dos.txt");
        fs_err::write(&path, "\u{feff}a\r\n\r\nb").unwrap();
        assert_eq!(read_lines(&path).unwrap(), ["a", "", "b"]);
    }
}

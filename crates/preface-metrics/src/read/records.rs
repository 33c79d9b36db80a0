//! JSON records, one a line.

use std::path::Path;

use serde_json::{Map, Value};

use crate::MetricError;
use crate::read::read_text;

const HYPOTHESIS_FIELDS: &[&str] = &["hypothesis", "prediction", "output"];
const REFERENCE_FIELDS: &[&str] = &["reference", "summary", "completion"];

/// The output of a system: the first of `hypothesis`, `prediction` and `output` that a record has.
///
/// # Errors
/// [`MetricError::Malformed`] for a line that is no object or has none of them.
pub fn read_hypotheses(path: &Path) -> Result<Vec<String>, MetricError> {
    read_each(path, |record| text(record, HYPOTHESIS_FIELDS))
}

/// The list `references` of each record, or the one text `reference`, `summary` or `completion`.
///
/// # Errors
/// [`MetricError::Malformed`] for a line that is no object or has none of them.
pub fn read_references(path: &Path) -> Result<Vec<Vec<String>>, MetricError> {
    read_each(path, |record| match record.get("references") {
        Some(Value::Array(references)) => {
            let texts = references.iter().map(|text| text.as_str().map(str::to_owned));
            texts
                .collect::<Option<_>>()
                .ok_or_else(|| "`references` holds something that is no text".to_owned())
        }
        Some(_) => Err("`references` is no list".to_owned()),
        None => Ok(vec![text(record, REFERENCE_FIELDS)?]),
    })
}

/// One field of each record, as text, for [slices](crate::slice).
///
/// # Errors
/// [`MetricError::Malformed`] for a line that is no object or lacks the field.
pub fn read_field(path: &Path, field: &str) -> Result<Vec<String>, MetricError> {
    read_each(path, |record| match record.get(field) {
        Some(Value::String(value)) => Ok(value.clone()),
        Some(value) => Ok(value.to_string()),
        None => Err(format!("no field `{field}`")),
    })
}

fn text(record: &Map<String, Value>, fields: &[&str]) -> Result<String, String> {
    let value = fields.iter().find_map(|field| record.get(*field));
    value.and_then(Value::as_str).map(str::to_owned).ok_or_else(|| {
        let names: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
        format!("no text in any of {}", names.join(", "))
    })
}

fn read_each<T>(
    path: &Path,
    read: impl Fn(&Map<String, Value>) -> Result<T, String>,
) -> Result<Vec<T>, MetricError> {
    let text = read_text(path)?;
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let record: Result<Map<String, Value>, _> = serde_json::from_str(line);
            record
                .map_err(|error| error.to_string())
                .and_then(|record| read(&record))
                .map_err(|what| MetricError::Malformed { path: path.to_owned(), line: number, what })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        fs_err::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn references_are_a_list_or_one_text() {
        let (_folder, path) = file("{\"references\":[\"a\",\"b\"]}\n\n{\"summary\":\"c\"}\n");
        assert_eq!(read_references(&path).unwrap(), [vec!["a", "b"], vec!["c"]]);
    }

    #[test]
    fn fields_of_any_type_make_slices() {
        let (_folder, path) = file("{\"category\":\"Food\"}\n{\"category\":3}\n");
        assert_eq!(read_field(&path, "category").unwrap(), ["Food", "3"]);
        assert!(read_field(&path, "size").unwrap_err().to_string().ends_with("a.jsonl:1: no field `size`"));
    }

    #[test]
    fn a_record_without_text_names_what_was_expected() {
        let (_folder, path) = file("{\"output\":\"a\"}\n{\"id\":1}\n");
        let refused = read_hypotheses(&path).unwrap_err().to_string();
        assert!(
            refused.ends_with("a.jsonl:2: no text in any of `hypothesis`, `prediction`, `output`"),
            "{refused}"
        );
    }
}

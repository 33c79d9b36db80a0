//! Tables of two columns, input and text, as e2e-metrics reads them.
//!
//! A header that begins with `mr` is skipped; quotation marks round a field are not part of it, of either kind and even
//! on one side only; four sequences that come from a wrong encoding are repaired. A `.csv` is read as CSV, a `.tsv` line
//! by line, so that a lone quotation mark cannot swallow the rest of the file.

use std::path::Path;

use crate::MetricError;
use crate::read::read_text;

/// What e2e-metrics repairs.
const WRONG_ENCODING: [(&str, &str); 4] = [("Ł", "£"), ("Â£", "£"), ("Ã©", "é"), ("ã©", "é")];

/// The rows of a table, without header and blank lines: input and text.
///
/// # Errors
/// [`MetricError::Malformed`] for a row that has not two columns.
pub fn read(path: &Path) -> Result<Vec<(String, String)>, MetricError> {
    let text =
        WRONG_ENCODING.iter().fold(read_text(path)?, |text, (wrong, right)| text.replace(wrong, right));
    let is_csv = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let mut rows = if is_csv { comma_separated(path, &text)? } else { tab_separated(path, &text)? };
    if rows
        .first()
        .is_some_and(|(input, _)| input.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("mr")))
    {
        rows.remove(0);
    }
    Ok(rows)
}

/// Texts of neighbouring rows with the same input, and the inputs.
pub fn group(rows: Vec<(String, String)>) -> (Vec<String>, Vec<Vec<String>>) {
    let mut inputs: Vec<String> = Vec::new();
    let mut groups: Vec<Vec<String>> = Vec::new();
    for (input, text) in rows {
        match groups.last_mut() {
            Some(group) if inputs.last() == Some(&input) => group.push(text),
            _ => {
                inputs.push(input);
                groups.push(vec![text]);
            }
        }
    }
    (inputs, groups)
}

fn tab_separated(path: &Path, text: &str) -> Result<Vec<(String, String)>, MetricError> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let mut fields = line.trim().split('\t');
            row(path, number, [fields.next(), fields.next(), fields.next()])
        })
        .collect()
}

fn comma_separated(path: &Path, text: &str) -> Result<Vec<(String, String)>, MetricError> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    reader
        .records()
        .map(|record| {
            let record = record.map_err(|error| MetricError::Malformed {
                path: path.to_owned(),
                line: error.position().map_or(1, |position| position.line() as usize),
                what: error.to_string(),
            })?;
            let line = record.position().map_or(1, |position| position.line() as usize);
            row(path, line, [record.get(0), record.get(1), record.get(2)])
        })
        .collect()
}

/// The row of two fields; a third one makes it wrong.
fn row(path: &Path, line: usize, fields: [Option<&str>; 3]) -> Result<(String, String), MetricError> {
    match fields {
        [Some(input), Some(text), None] => Ok((unquote(input), unquote(text))),
        _ => Err(MetricError::Malformed {
            path: path.to_owned(),
            line,
            what: "expected two columns, input and text, found ".to_owned()
                + match fields {
                    [_, _, Some(_)] => "more",
                    _ => "one",
                },
        }),
    }
}

/// The field without white space and without a quotation mark at either end.
fn unquote(field: &str) -> String {
    let field = field.trim();
    let field = field.strip_prefix(['"', '\'']).unwrap_or(field);
    let field = field.strip_suffix(['"', '\'']).unwrap_or(field);
    field.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(name: &str, text: &str) -> Result<Vec<(String, String)>, MetricError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs_err::write(&path, text).unwrap();
        read(&path)
    }

    fn rows(rows: &[(&str, &str)]) -> Vec<(String, String)> {
        rows.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn quotes_are_no_part_of_a_field_and_the_header_no_row() {
        let tsv = "MR\toutput\n\"name[A], area[b]\"\t\"A is Â£5.\"\n\nname[B]\tB is \"good\".\n";
        let expected = rows(&[("name[A], area[b]", "A is £5."), ("name[B]", "B is \"good\".")]);
        assert_eq!(read_as("a.tsv", tsv).unwrap(), expected);
    }

    #[test]
    fn csv_fields_need_quotes_only_where_they_hold_commas() {
        let csv = "mr,ref\n\"name[A], area[b]\",A is here.\n\"name[A], area[b]\",\"A, here.\"\n";
        let read = read_as("a.csv", csv).unwrap();
        let (inputs, groups) = group(read);
        assert_eq!(inputs, ["name[A], area[b]"]);
        assert_eq!(groups, [["A is here.", "A, here."]]);
    }

    #[test]
    fn a_row_of_one_or_three_columns_is_named() {
        let refused = read_as("a.tsv", "a\tb\nc\n").unwrap_err().to_string();
        assert!(refused.ends_with("a.tsv:2: expected two columns, input and text, found one"), "{refused}");
        let refused = read_as("a.csv", "a,b,c\n").unwrap_err().to_string();
        assert!(refused.ends_with("a.csv:1: expected two columns, input and text, found more"), "{refused}");
    }
}

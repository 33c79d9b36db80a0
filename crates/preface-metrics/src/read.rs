//! Files of hypotheses, references and fields, in the forms that the field's scripts use.
//!
//! | form | known by | hypotheses | references |
//! |---|---|---|---|
//! | lines | no other form fits | a line each | a line each, several files side by side; from the second file on an empty line is no reference |
//! | groups | as many groups between blank lines as hypotheses, and not as many lines | | all lines of a group |
//! | identified | every line ends in `(id...)`, as tercom's input | the text before | all lines with the same id |
//! | table | `.tsv`, `.csv` | the second column | second column of neighbouring rows with the same first column |
//! | records | `.jsonl` | `hypothesis`, `prediction` or `output` | `references`, or `reference`, `summary` or `completion` |

pub mod records;
pub mod table;
mod text;

use std::path::{Path, PathBuf};

pub use self::text::{read_lines, read_text};
use crate::{MetricError, References};

/// The hypotheses of a file, and the inputs beside them if it is a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hypotheses {
    /// One text for each segment.
    pub texts: Vec<String>,
    /// The first column of a table.
    pub inputs: Option<Vec<String>>,
}

/// References, and the inputs beside them if the file is a table.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceFile {
    /// The references of all segments.
    pub references: References,
    /// The first column of a table, once for each segment.
    pub inputs: Option<Vec<String>>,
}

/// Reads the output of a system.
///
/// # Errors
/// [`MetricError::InvalidUtf8`], [`MetricError::Malformed`] and [`MetricError::Io`], each with file and line.
pub fn read_hypotheses(path: &Path) -> Result<Hypotheses, MetricError> {
    match extension(path).as_deref() {
        Some("tsv" | "csv") => {
            let (inputs, texts) = table::read(path)?.into_iter().unzip();
            Ok(Hypotheses { texts, inputs: Some(inputs) })
        }
        Some("jsonl") => Ok(Hypotheses { texts: records::read_hypotheses(path)?, inputs: None }),
        _ => {
            let lines = read_lines(path)?;
            let texts = match text::identified(&lines) {
                Some(groups) => groups.into_iter().map(|group| group.concat()).collect(),
                None => lines,
            };
            Ok(Hypotheses { texts, inputs: None })
        }
    }
}

/// Reads the references for `n_segment` hypotheses: one file of any form, or several of lines.
///
/// # Errors
/// As [`read_hypotheses`]; [`MetricError::UnequalCounts`] where the number of segments differs,
/// [`MetricError::NoReference`] for a segment without any.
pub fn read_references(paths: &[PathBuf], n_segment: usize) -> Result<ReferenceFile, MetricError> {
    let mut inputs = None;
    let segments = match paths {
        [path] => match extension(path).as_deref() {
            Some("tsv" | "csv") => {
                let (first, segments) = table::group(table::read(path)?);
                inputs = Some(first);
                segments
            }
            Some("jsonl") => records::read_references(path)?,
            _ => one_file(read_lines(path)?, n_segment),
        },
        _ => side_by_side(paths, n_segment)?,
    };
    let references = References::new(segments)?;
    references.check_count(n_segment)?;
    Ok(ReferenceFile { references, inputs })
}

/// Whether hypotheses and references that both come from tables were made for the same inputs.
///
/// # Errors
/// [`MetricError::Malformed`] with the first segment whose inputs differ.
pub fn check_inputs(path: &Path, ours: &Hypotheses, theirs: &ReferenceFile) -> Result<(), MetricError> {
    let (Some(ours), Some(theirs)) = (&ours.inputs, &theirs.inputs) else { return Ok(()) };
    match ours.iter().zip(theirs).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(segment) => Err(MetricError::Malformed {
            path: path.to_owned(),
            line: segment + 2,
            what: format!("the input is `{}`, but the reference's is `{}`", ours[segment], theirs[segment]),
        }),
    }
}

fn extension(path: &Path) -> Option<String> {
    path.extension().map(|extension| extension.to_string_lossy().to_lowercase())
}

fn one_file(lines: Vec<String>, n_segment: usize) -> Vec<Vec<String>> {
    if let Some(groups) = text::identified(&lines) {
        return groups;
    }
    let groups = text::groups(&lines);
    if lines.len() != n_segment && groups.len() > 1 {
        return groups;
    }
    lines.into_iter().map(|line| vec![line]).collect()
}

fn side_by_side(paths: &[PathBuf], n_segment: usize) -> Result<Vec<Vec<String>>, MetricError> {
    let mut segments: Vec<Vec<String>> = vec![Vec::new(); n_segment];
    for (index, path) in paths.iter().enumerate() {
        let lines = read_lines(path)?;
        if lines.len() != n_segment {
            return Err(MetricError::UnequalLines {
                path: path.clone(),
                lines: lines.len(),
                hypotheses: n_segment,
            });
        }
        for (segment, line) in segments.iter_mut().zip(lines) {
            if index == 0 || !line.trim().is_empty() {
                segment.push(line);
            }
        }
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files of the given names and texts, in a folder that lives as long as the first value.
    fn files(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let paths = files.iter().map(|(name, text)| {
            let path = folder.path().join(name);
            fs_err::write(&path, text).unwrap();
            path
        });
        let paths = paths.collect();
        (folder, paths)
    }

    fn read(texts: &[(&str, &str)], n_segment: usize) -> Result<Vec<Vec<String>>, MetricError> {
        let (_folder, paths) = files(texts);
        read_references(&paths, n_segment).map(|file| file.references.segments().to_vec())
    }

    #[test]
    fn one_file_has_a_reference_a_line_or_groups_of_them() {
        let text = "a\nb\n\nc\n\n";
        assert_eq!(read(&[("refs.txt", text)], 2).unwrap(), [vec!["a", "b"], vec!["c"]]);
        assert_eq!(read(&[("refs.txt", "a\n\nc\n")], 3).unwrap(), [["a"], [""], ["c"]]);
        assert_eq!(read(&[("refs.txt", "a\nb\n")], 2).unwrap(), [["a"], ["b"]]);
        assert_eq!(
            read(&[("refs.txt", "a (id1)\nb (id1)\nc (id2)\n")], 2).unwrap(),
            [vec!["a", "b"], vec!["c"]]
        );
    }

    #[test]
    fn an_empty_line_is_no_reference_from_the_second_file_on() {
        let segments = read(&[("ref0", "a\n\n"), ("ref1", "b\n\n"), ("ref2", "\nc\n")], 2).unwrap();
        assert_eq!(segments, [vec!["a", "b"], vec!["", "c"]]);
    }

    #[test]
    fn unequal_numbers_name_both_counts() {
        let refused = read(&[("refs.txt", "a\nb\n")], 3).unwrap_err().to_string();
        assert_eq!(refused, "3 hypotheses, but references for 2 segments");
        let refused = read(&[("ref0", "a\nb\n"), ("ref1", "a\n")], 2).unwrap_err().to_string();
        assert!(refused.ends_with("ref1 has 1 lines, but there are 2 hypotheses"), "{refused}");
    }

    #[test]
    fn a_segment_without_any_reference_is_refused() {
        let refused = read(&[("refs.txt", "a\n\n\nb\nc\n")], 3).unwrap_err().to_string();
        assert_eq!(refused, "segment 2 (counted from 1) has no reference");
        let records = "{\"references\":[\"a\"]}\n{\"references\":[]}\n";
        assert!(read(&[("refs.jsonl", records)], 2).is_err());
    }

    #[test]
    fn tables_made_for_other_inputs_are_refused() {
        let (_folder, paths) = files(&[("out.tsv", "mr\toutput\nx\ta\ny\tb\n"), ("refs.csv", "x,a\nz,b\n")]);
        let hypotheses = read_hypotheses(&paths[0]).unwrap();
        let references = read_references(&paths[1..], 2).unwrap();
        let refused = check_inputs(&paths[0], &hypotheses, &references).unwrap_err().to_string();
        assert!(refused.ends_with("out.tsv:3: the input is `y`, but the reference's is `z`"), "{refused}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let refused = read_hypotheses(Path::new("no/such/file.txt")).unwrap_err().to_string();
        assert!(refused.contains("no/such/file.txt"), "{refused}");
    }
}

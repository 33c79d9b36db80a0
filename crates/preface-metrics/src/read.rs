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

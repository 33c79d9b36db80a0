//! All that can go wrong between files, names and scores.

use std::path::PathBuf;

/// An error of this crate. Each message names what was expected, what came, and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricError {
    /// A name that `--metrics` does not know.
    #[error("unknown metric `{name}`{}", suggestion(.nearest))]
    UnknownMetric {
        /// What was typed.
        name: String,
        /// The known name nearest to it, if any is near.
        nearest: Option<String>,
    },
    /// A system and the references differ in their number of segments.
    #[error("{hypotheses} hypotheses, but references for {references} segments")]
    UnequalCounts {
        /// Number of hypotheses.
        hypotheses: usize,
        /// Number of segments with references.
        references: usize,
    },
    /// One of several reference files differs from the hypotheses in its number of lines.
    #[error("{} has {lines} lines, but there are {hypotheses} hypotheses", .path.display())]
    UnequalLines {
        /// The file.
        path: PathBuf,
        /// Its number of lines.
        lines: usize,
        /// Number of hypotheses.
        hypotheses: usize,
    },
    /// A segment that nothing can be compared with.
    #[error("segment {segment} (counted from 1) has no reference")]
    NoReference {
        /// Number of the segment, from 1.
        segment: usize,
    },
    /// No segment at all.
    #[error("no segment to score")]
    Empty,
    /// A file could not be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file that is not UTF-8.
    #[error("{}:{line}: not valid UTF-8", .path.display())]
    InvalidUtf8 {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A line or record of a file that does not have the form its reader expects.
    #[error("{}:{line}: {what}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What was expected and what came.
        what: String,
    },
    /// A metric needs data that is not there.
    #[error("{metric} needs {what}: {remedy}")]
    MissingData {
        /// Name of the metric.
        metric: &'static str,
        /// What is missing.
        what: String,
        /// How to get it.
        remedy: String,
    },
    /// Options that exclude each other, or a value out of range.
    #[error("{0}")]
    Options(String),
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

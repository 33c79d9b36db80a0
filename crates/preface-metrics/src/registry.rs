//! Metrics by name: what `--metrics bleu,rouge,...` means.

use std::path::PathBuf;

use crate::metric::bleu::{Bleu, BleuTokenizer, Smoothing};
use crate::{Metric, MetricError};

/// Choices that the names leave open. The defaults are those of the reference tools.
#[derive(Clone, Debug, Default)]
pub struct MetricOptions {
    /// Lower-case both sides before scoring (`bleu`, `sentence-bleu`).
    pub lowercase: bool,
    /// Tokenizer of `bleu` and `sentence-bleu`.
    pub tokenizer: BleuTokenizer,
    /// Smoothing of `bleu` and `sentence-bleu`.
    pub smoothing: Smoothing,
    /// Folder with METEOR's tables; without it `meteor` is refused.
    pub meteor_data: Option<PathBuf>,
}

impl MetricOptions {
    fn bleu(&self) -> Bleu {
        Bleu {
            tokenizer: self.tokenizer,
            smoothing: self.smoothing,
            lowercase: self.lowercase,
            effective_order: false,
        }
    }
}

type Build = fn(&MetricOptions) -> Result<Vec<Box<dyn Metric>>, MetricError>;

/// One name of `--metrics`.
pub struct Entry {
    /// The name.
    pub name: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    build: Build,
}

/// All names, in the order of the help text.
pub const ENTRIES: &[Entry] = &[Entry {
    name: "bleu",
    about: "corpus BLEU as sacreBLEU",
    build: |options| Ok(vec![Box::new(options.bleu())]),
}];

/// The metrics of a comma-separated list of names, in its order; a name given twice counts once.
///
/// # Errors
/// [`MetricError::UnknownMetric`] with the nearest known name, and what a metric's own construction refuses.
pub fn build(names: &str, options: &MetricOptions) -> Result<Vec<Box<dyn Metric>>, MetricError> {
    let mut metrics: Vec<Box<dyn Metric>> = Vec::new();
    let mut seen = Vec::new();
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        metrics.extend((find(name)?.build)(options)?);
    }
    Ok(metrics)
}

/// The entry of a name.
///
/// # Errors
/// [`MetricError::UnknownMetric`] with the nearest known name.
pub fn find(name: &str) -> Result<&'static Entry, MetricError> {
    ENTRIES
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| MetricError::UnknownMetric { name: name.to_owned(), nearest: nearest(name) })
}

/// The known name with the fewest edits, if they are at most a third of the typed name's length, rounded up.
fn nearest(name: &str) -> Option<String> {
    let typed = name.to_lowercase();
    let limit = typed.chars().count().div_ceil(3);
    ENTRIES
        .iter()
        .map(|entry| (edit_distance(&typed, entry.name), entry.name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name.to_owned())
}

fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_suggests_the_nearest() {
        let refused = find("bluu").err().unwrap();
        assert_eq!(refused.to_string(), "unknown metric `bluu`; did you mean `bleu`?");
        let refused = find("perplexity").err().unwrap();
        assert_eq!(refused.to_string(), "unknown metric `perplexity`");
    }

    #[test]
    fn a_name_given_twice_counts_once() {
        assert_eq!(build("bleu, bleu", &MetricOptions::default()).unwrap().len(), 1);
    }
}

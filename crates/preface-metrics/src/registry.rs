//! Metrics by name: what `--metrics bleu,rouge,...` means.

use std::path::PathBuf;

use crate::metric::bleu::{Bleu, BleuTokenizer, Smoothing};
use crate::metric::chrf::Chrf;
use crate::metric::e2e::{E2eBleu, E2eNist};
use crate::metric::mteval::{MtevalBleu, MtevalNist};
use crate::metric::multi_bleu::MultiBleu;
use crate::metric::rouge::{ReferenceChoice, Rouge, RougeVariant};
use crate::metric::sentence_bleu::SentenceBleu;
use crate::metric::ter::Ter;
use crate::metric::tercom::Tercom;
use crate::{Metric, MetricError};

/// Choices that the names leave open. The defaults are those of the reference tools.
#[derive(Clone, Debug, Default)]
pub struct MetricOptions {
    /// Lower-case both sides before scoring (`bleu`, `sentence-bleu`, `chrf`, `chrf++`; the others always do).
    pub lowercase: bool,
    /// Tokenizer of `bleu` and `sentence-bleu`.
    pub tokenizer: BleuTokenizer,
    /// Smoothing of `bleu` and `sentence-bleu`.
    pub smoothing: Smoothing,
    /// Leave out orders that the text is too short for (`bleu`; `sentence-bleu` always does).
    pub effective_order: bool,
    /// Leave words as they are instead of stemming them (`rouge`, `rouge-lsum`).
    pub rouge_unstemmed: bool,
    /// How several references make one figure (`rouge`, `rouge-lsum`).
    pub rouge_references: ReferenceChoice,
    /// Folder with METEOR's tables; without it `meteor` is refused.
    pub meteor_data: Option<PathBuf>,
}

impl MetricOptions {
    fn bleu(&self) -> Bleu {
        Bleu {
            tokenizer: self.tokenizer,
            smoothing: self.smoothing,
            lowercase: self.lowercase,
            effective_order: self.effective_order,
        }
    }

    fn rouge(&self, variant: RougeVariant) -> Rouge {
        Rouge { variant, stemmer: !self.rouge_unstemmed, references: self.rouge_references }
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
pub const ENTRIES: &[Entry] = &[
    Entry {
        name: "bleu",
        about: "corpus BLEU as sacreBLEU",
        build: |options| Ok(vec![Box::new(options.bleu())]),
    },
    Entry {
        name: "sentence-bleu",
        about: "mean of sentence BLEU as sacreBLEU",
        build: |options| Ok(vec![Box::new(SentenceBleu::new(options.bleu()))]),
    },
    Entry {
        name: "multi-bleu",
        about: "BLEU as Moses' multi-bleu.perl -lc",
        build: |_| Ok(vec![Box::new(MultiBleu)]),
    },
    Entry {
        name: "mteval-bleu",
        about: "BLEU as e2e-metrics' mteval-v13a (Perl)",
        build: |_| Ok(vec![Box::new(MtevalBleu)]),
    },
    Entry {
        name: "mteval-nist",
        about: "NIST as e2e-metrics' mteval-v13a (Perl)",
        build: |_| Ok(vec![Box::new(MtevalNist)]),
    },
    Entry {
        name: "e2e-bleu",
        about: "BLEU as e2e-metrics' Python twin of mteval",
        build: |_| Ok(vec![Box::new(E2eBleu)]),
    },
    Entry {
        name: "e2e-nist",
        about: "NIST as e2e-metrics' Python twin of mteval",
        build: |_| Ok(vec![Box::new(E2eNist)]),
    },
    Entry {
        name: "rouge",
        about: "ROUGE-1, -2 and -L as rouge-score",
        build: |options| {
            let variants = [RougeVariant::One, RougeVariant::Two, RougeVariant::L];
            Ok(variants.map(|variant| Box::new(options.rouge(variant)) as Box<dyn Metric>).into())
        },
    },
    Entry {
        name: "rouge-lsum",
        about: "ROUGE-Lsum as rouge-score, lines are sentences",
        build: |options| Ok(vec![Box::new(options.rouge(RougeVariant::Lsum))]),
    },
    Entry { name: "ter", about: "translation edit rate as sacreBLEU", build: |_| Ok(vec![Box::new(Ter)]) },
    Entry {
        name: "tercom",
        about: "translation edit rate as tercom 0.7.25",
        build: |_| Ok(vec![Box::new(Tercom)]),
    },
    Entry {
        name: "chrf",
        about: "character n-gram F-score as sacreBLEU",
        build: |options| Ok(vec![Box::new(Chrf { word_order: 0, lowercase: options.lowercase })]),
    },
    Entry {
        name: "chrf++",
        about: "chrF with word n-grams as sacreBLEU",
        build: |options| Ok(vec![Box::new(Chrf { word_order: 2, lowercase: options.lowercase })]),
    },
];

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

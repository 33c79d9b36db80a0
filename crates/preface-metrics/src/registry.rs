//! Metrics by name: what `--metrics bleu,rouge,...` means.
//!
//! A name is a metric, or a set: the metrics that papers on a task report, with the official preparation of its texts.

use std::path::PathBuf;

use crate::metric::bleu::{Bleu, BleuTokenizer, Smoothing};
use crate::metric::chrf::Chrf;
use crate::metric::cider::Cider;
use crate::metric::coco_rouge::CocoRouge;
use crate::metric::e2e::{E2eBleu, E2eNist};
use crate::metric::exact_match::ExactMatch;
use crate::metric::meteor::{Meteor, MeteorText};
use crate::metric::mteval::{MtevalBleu, MtevalNist};
use crate::metric::multi_bleu::MultiBleu;
use crate::metric::rouge::{ReferenceChoice, Rouge, RougeVariant};
use crate::metric::sentence_bleu::SentenceBleu;
use crate::metric::ter::Ter;
use crate::metric::tercom::Tercom;
use crate::prepare::{Preparation, Prepared};
use crate::{Metric, MetricError};

/// Choices that the names leave open. The defaults are those of the reference tools.
#[derive(Clone, Debug, Default)]
pub struct MetricOptions {
    /// Lower-case both sides before scoring (`bleu`, `sentence-bleu`, `chrf`, `chrf++`, `exact-match`; the others always do).
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
    /// What METEOR is given to compare (`meteor`; the sets have their own).
    pub meteor_text: MeteorText,
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

    fn meteor(&self, text: MeteorText) -> Box<dyn Metric> {
        Box::new(Meteor::new(self.meteor_data.clone(), text))
    }

    /// BLEU, METEOR and TER as WebNLG and DART report them. multi-bleu reads three files of references, METEOR lines in
    /// blocks of `meteor_references`, tercom only references that are there.
    fn prepared(&self, preparation: Preparation, meteor_references: usize) -> Vec<Box<dyn Metric>> {
        let prepared = |filled_to, metric| -> Box<dyn Metric> {
            Box::new(Prepared::new(preparation, filled_to, metric))
        };
        vec![
            prepared(3, Box::new(MultiBleu)),
            prepared(meteor_references, self.meteor(MeteorText::Normalized)),
            prepared(0, Box::new(Tercom)),
        ]
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
    Entry {
        name: "meteor",
        about: "METEOR 1.5 for English",
        build: |options| Ok(vec![options.meteor(options.meteor_text)]),
    },
    Entry {
        name: "coco-rouge-l",
        about: "ROUGE-L as coco-caption and e2e-metrics",
        build: |_| Ok(vec![Box::new(CocoRouge)]),
    },
    Entry {
        name: "cider",
        about: "CIDEr-D as coco-caption and e2e-metrics",
        build: |_| Ok(vec![Box::new(Cider)]),
    },
    Entry {
        name: "exact-match",
        about: "share of texts that equal a reference",
        build: |options| Ok(vec![Box::new(ExactMatch { lowercase: options.lowercase })]),
    },
    Entry {
        name: "e2e",
        about: "set of the E2E challenge: mteval-bleu, mteval-nist, meteor, coco-rouge-l, cider",
        build: |options| {
            Ok(vec![
                Box::new(MtevalBleu),
                Box::new(MtevalNist),
                options.meteor(MeteorText::Captions),
                Box::new(CocoRouge),
                Box::new(Cider),
            ])
        },
    },
    Entry {
        name: "webnlg",
        about: "set of WebNLG 2017, with its preparation: multi-bleu, meteor, tercom",
        build: |options| Ok(options.prepared(Preparation::WebNlg, 3)),
    },
    Entry {
        name: "dart",
        about: "set of DART, with its preparation: multi-bleu, meteor, tercom (MoverScore, BERTScore and BLEURT need \
                models and are not here)",
        build: |options| Ok(options.prepared(Preparation::Dart, 8)),
    },
    Entry {
        name: "summarization",
        about: "set of XSum and its like: rouge1, rouge2, rougeL, rougeLsum",
        build: |options| {
            let variants = [RougeVariant::One, RougeVariant::Two, RougeVariant::L, RougeVariant::Lsum];
            Ok(variants.map(|variant| Box::new(options.rouge(variant)) as Box<dyn Metric>).into())
        },
    },
];

/// The metrics of a comma-separated list of names, in its order; what two names give equally counts once.
///
/// # Errors
/// [`MetricError::UnknownMetric`] with the nearest known name, [`MetricError::Options`] for an empty list, and what a
/// metric's own construction refuses.
pub fn build(names: &str, options: &MetricOptions) -> Result<Vec<Box<dyn Metric>>, MetricError> {
    let mut metrics: Vec<Box<dyn Metric>> = Vec::new();
    for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        for metric in (find(name)?.build)(options)? {
            let identity = |metric: &dyn Metric| (metric.name(), metric.signature());
            if !metrics.iter().any(|other| identity(other.as_ref()) == identity(metric.as_ref())) {
                metrics.push(metric);
            }
        }
    }
    if metrics.is_empty() {
        return Err(MetricError::Options("no metric named".into()));
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

    fn names(names: &str) -> Vec<&'static str> {
        build(names, &MetricOptions::default()).unwrap().iter().map(|metric| metric.name()).collect()
    }

    #[test]
    fn what_two_names_give_equally_counts_once() {
        assert_eq!(names("bleu, bleu"), ["bleu"]);
        assert_eq!(names("rouge,summarization"), ["rouge1", "rouge2", "rougeL", "rougeLsum"]);
        assert_eq!(names("multi-bleu,dart"), ["multi-bleu", "multi-bleu", "meteor", "tercom"]);
    }

    #[test]
    fn no_name_is_refused() {
        assert!(build(" , ", &MetricOptions::default()).is_err());
    }

    #[test]
    fn every_name_builds_and_metrics_differ_in_name_or_signature() {
        let mut seen = Vec::new();
        for entry in ENTRIES {
            for metric in build(entry.name, &MetricOptions::default()).unwrap() {
                seen.push(format!("{}|{}", metric.name(), metric.signature()));
            }
        }
        let all = ENTRIES.iter().map(|entry| entry.name).collect::<Vec<_>>().join(",");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), build(&all, &MetricOptions::default()).unwrap().len());
    }

    #[test]
    fn a_metric_without_its_tables_says_what_is_missing() {
        let references = crate::References::new(vec![vec!["a".into()]]).unwrap();
        let metrics = build("meteor", &MetricOptions::default()).unwrap();
        assert!(matches!(
            metrics[0].fit(&references),
            Err(MetricError::MissingData { metric: "meteor", .. })
        ));
    }
}

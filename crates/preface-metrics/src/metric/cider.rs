//! CIDEr (Vedantam, Zitnick and Parikh, 2015) as coco-caption computes it, which e2e-metrics reports: the variant with
//! clipping and a penalty for unequal lengths, known as CIDEr-D.
//!
//! ```text
//! g_n(text)[w]  = count of n-gram w * (ln N - ln max(1, segments with w in some reference)),   N segments, n = 1..4
//! sim_n(h, r)   = sum over w of min(g_n(h)[w], g_n(r)[w]) g_n(r)[w] / (|g_n(h)| |g_n(r)|) * exp(-(l_h - l_r)^2 / 72)
//! CIDEr         = 10 * mean over n and references of sim_n
//! ```
//!
//! The lengths l are numbers of *bigrams*, a slip of the original that is part of the figure. Tokens are those of
//! [`caption_tokens`], split once more at no-break blanks. The score is the mean over segments, 0..10; statistics
//! `[sum, segments]`. The document frequencies are fitted on all references and then kept.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::ngram::for_each_ngram;
use crate::text::split_python;
use crate::tokenizer::ptb::caption_tokens;
use crate::{Metric, MetricError, References, Scorer, Signature};

const ORDER: usize = 4;
/// Twice the variance of the length penalty.
const TWO_SIGMA_SQUARED: f64 = 72.0;
/// Number of a token that no reference has.
const UNSEEN_FROM: u32 = 1 << 31;

/// CIDEr of coco-caption.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cider;

impl Metric for Cider {
    fn name(&self) -> &'static str {
        "cider"
    }

    fn signature(&self) -> Signature {
        Signature::new().with("case", "lc").with("tok", "ptb-caption").with("n", ORDER).with("sigma", 6)
    }

    fn fit(&self, references: &References) -> Result<Box<dyn Scorer + '_>, MetricError> {
        let mut scorer = CiderScorer {
            vocabulary: FxHashMap::default(),
            document_frequency: FxHashMap::default(),
            ln_n_segment: (references.n_segment() as f64).ln(),
        };
        for segment in references.segments() {
            let mut seen = FxHashSet::default();
            for reference in segment {
                let numbers: Vec<u32> = tokens(reference)
                    .into_iter()
                    .map(|token| {
                        let next = scorer.vocabulary.len() as u32 + 1;
                        *scorer.vocabulary.entry(token).or_insert(next)
                    })
                    .collect();
                for_each_ngram::<ORDER>(&numbers, |_, ngram| {
                    seen.insert(ngram);
                });
            }
            for ngram in seen {
                *scorer.document_frequency.entry(ngram).or_insert(0) += 1;
            }
        }
        Ok(Box::new(scorer))
    }
}

type Ngram = [u32; ORDER];

struct CiderScorer {
    vocabulary: FxHashMap<String, u32>,
    document_frequency: FxHashMap<Ngram, u32>,
    ln_n_segment: f64,
}

/// A text as weighted n-grams.
struct Weighted {
    /// Weights by n-gram, for each order.
    weights: [FxHashMap<Ngram, f64>; ORDER],
    norms: [f64; ORDER],
    n_bigram: f64,
}

impl CiderScorer {
    fn weigh(&self, text: &str, unseen: &mut FxHashMap<String, u32>) -> Weighted {
        let numbers: Vec<u32> = tokens(text)
            .into_iter()
            .map(|token| {
                self.vocabulary.get(&token).copied().unwrap_or_else(|| {
                    let next = UNSEEN_FROM + unseen.len() as u32;
                    *unseen.entry(token).or_insert(next)
                })
            })
            .collect();
        let mut weights: [FxHashMap<Ngram, f64>; ORDER] = Default::default();
        for_each_ngram::<ORDER>(&numbers, |order, ngram| {
            *weights[order - 1].entry(ngram).or_insert(0.0) += 1.0
        });
        let mut norms = [0.0; ORDER];
        for (weights, norm) in weights.iter_mut().zip(&mut norms) {
            for (ngram, weight) in weights.iter_mut() {
                let frequency = self.document_frequency.get(ngram).map_or(1.0, |count| f64::from(*count));
                *weight *= self.ln_n_segment - frequency.ln();
                *norm += *weight * *weight;
            }
            *norm = norm.sqrt();
        }
        Weighted { weights, norms, n_bigram: numbers.len().saturating_sub(1) as f64 }
    }
}

impl Scorer for CiderScorer {
    fn statistics(&self, hypothesis: &str, references: &[String]) -> Vec<f64> {
        let mut unseen = FxHashMap::default();
        let hypothesis = self.weigh(hypothesis, &mut unseen);
        let similarities =
            references.iter().map(|reference| similarity(&hypothesis, &self.weigh(reference, &mut unseen)));
        let sum: f64 = similarities.sum();
        vec![10.0 * sum / (ORDER * references.len()) as f64, 1.0]
    }

    fn score(&self, statistics: &[f64]) -> f64 {
        statistics[0] / statistics[1]
    }
}

/// Sum over the orders.
fn similarity(hypothesis: &Weighted, reference: &Weighted) -> f64 {
    let difference = hypothesis.n_bigram - reference.n_bigram;
    let penalty = (-difference * difference / TWO_SIGMA_SQUARED).exp();
    (0..ORDER)
        .map(|order| {
            let other = &reference.weights[order];
            let product: f64 = hypothesis.weights[order]
                .iter()
                .filter_map(|(ngram, weight)| other.get(ngram).map(|other| weight.min(*other) * other))
                .sum();
            let norm = hypothesis.norms[order] * reference.norms[order];
            if norm == 0.0 { product * penalty } else { product / norm * penalty }
        })
        .sum()
}

fn tokens(text: &str) -> Vec<String> {
    caption_tokens(text)
        .iter()
        .flat_map(|token| split_python(token).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

//! BLEU and NIST as the Python twin of mteval in e2e-metrics (`measure_scores.py -p`).
//!
//! The formulas are those of [`mteval`](super::mteval), the corners are not:
//!
//! - Lower-casing is Unicode's, and an empty text is one token, the empty one.
//! - BLEU is not smoothed: an order without match counts 1e-15 matches. The penalty for short output applies from equal
//!   length on, where it is 1, and an output without tokens counts 1e-5 of them.
//! - A hypothesis of k tokens adds k + 1 - n n-grams of order n to the total, which is negative for short ones.
//! - NIST compares with the mean reference length of each segment, not with the mean over all references, and its weights
//!   know no special case of `0`.
//!
//! Where the script stops with a division by zero (no n-grams of an order in the whole corpus) that order counts 0.

use crate::metric::bleu::{bleu_counts, bleu_statistics};
use crate::metric::mteval::{NIST_ORDER, NgramCounts, clipped_matches, history, length_penalty};
use crate::ngram::BLEU_ORDER;
use crate::text::split_python;
use crate::tokenizer::mteval13a;
use crate::{Metric, MetricError, References, Scorer, Signature};

/// Matches that an order without any counts as.
const TINY: f64 = 1e-15;
/// N-grams that an order without any counts as.
const SMALL: f64 = 1e-9;
/// Tokens that an output without any counts as.
const NO_TOKENS: f64 = 1e-5;

/// BLEU of e2e-metrics' Python twin.
#[derive(Clone, Debug, Default)]
pub struct E2eBleu;

/// NIST of e2e-metrics' Python twin.
#[derive(Clone, Debug, Default)]
pub struct E2eNist;

fn lowercase_tokens(line: &str) -> Vec<String> {
    let separated = mteval13a::separate(line);
    let tokens: Vec<String> = split_python(&separated).map(str::to_lowercase).collect();
    if tokens.is_empty() { vec![String::new()] } else { tokens }
}

fn borrow(tokens: &[String]) -> Vec<&str> {
    tokens.iter().map(String::as_str).collect()
}

/// `tokens + 1 - n` for n = 1.., negative for short texts.
fn totals(tokens: usize, orders: usize) -> impl Iterator<Item = f64> {
    (0..orders).map(move |shorter| tokens as f64 - shorter as f64)
}

fn signature() -> Signature {
    Signature::new().with("as", "e2e-metrics-python").with("case", "lc").with("tok", "13a")
}

impl Metric for E2eBleu {
    fn name(&self) -> &'static str {
        "e2e-bleu"
    }

    fn signature(&self) -> Signature {
        signature().with("smooth", "1e-15")
    }

    fn fit(&self, _: &References) -> Result<Box<dyn Scorer + '_>, MetricError> {
        Ok(Box::new(self))
    }
}

impl Scorer for E2eBleu {
    fn statistics(&self, hypothesis: &str, references: &[String]) -> Vec<f64> {
        let hypothesis = lowercase_tokens(hypothesis);
        let references: Vec<Vec<String>> = references.iter().map(|text| lowercase_tokens(text)).collect();
        let references: Vec<Vec<&str>> = references.iter().map(|tokens| borrow(tokens)).collect();
        let mut statistics = bleu_statistics(&borrow(&hypothesis), &references);
        statistics.truncate(2 + BLEU_ORDER);
        statistics.extend(totals(hypothesis.len(), BLEU_ORDER));
        statistics
    }

    fn score(&self, statistics: &[f64]) -> f64 {
        let (sys_len, ref_len, correct, total) = bleu_counts(statistics);
        let penalty = if sys_len <= ref_len {
            let tokens = if sys_len == 0.0 { NO_TOKENS } else { sys_len };
            (1.0 - ref_len / tokens).exp()
        } else {
            1.0
        };
        let logs =
            correct.iter().zip(&total).map(|(correct, total)| (correct.max(TINY) / total.max(SMALL)).ln());
        penalty * (logs.sum::<f64>() / BLEU_ORDER as f64).exp()
    }
}

impl Metric for E2eNist {
    fn name(&self) -> &'static str {
        "e2e-nist"
    }

    fn signature(&self) -> Signature {
        signature().with("info", "all-refs")
    }

    fn fit(&self, references: &References) -> Result<Box<dyn Scorer + '_>, MetricError> {
        let mut counts = NgramCounts::default();
        for reference in references.segments().iter().flatten() {
            counts.add(lowercase_tokens(reference).iter().map(String::as_str));
        }
        Ok(Box::new(FittedE2eNist { counts }))
    }
}

/// Statistics: `[mean reference length, n-grams of orders 1..5, info of orders 1..5]`.
struct FittedE2eNist {
    counts: NgramCounts,
}

impl Scorer for FittedE2eNist {
    fn statistics(&self, hypothesis: &str, references: &[String]) -> Vec<f64> {
        let numbers = |text: &str| -> Vec<u32> {
            lowercase_tokens(text).iter().map(|token| self.counts.number(token)).collect()
        };
        let hypothesis = numbers(hypothesis);
        let references: Vec<Vec<u32>> = references.iter().map(|text| numbers(text)).collect();
        let words = references.iter().map(Vec::len).sum::<usize>();
        let mut statistics = vec![words as f64 / references.len() as f64];
        statistics.extend(totals(hypothesis.len(), NIST_ORDER));
        let mut infos = [0.0; NIST_ORDER];
        clipped_matches(&hypothesis, &references, |order, ngram, count| {
            let history = history(ngram);
            let before = if order == 1 { self.counts.total } else { self.counts.count(&history) };
            infos[order - 1] += (before as f64 / self.counts.count(ngram) as f64).log2() * count as f64;
        });
        statistics.extend(infos);
        statistics
    }

    fn score(&self, statistics: &[f64]) -> f64 {
        let (totals, infos) = statistics[1..].split_at(NIST_ORDER);
        let terms = infos.iter().zip(totals).filter(|(_, total)| **total != 0.0);
        let sum: f64 = terms.map(|(info, total)| info / total).sum();
        sum * length_penalty(totals[0] / statistics[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_text_is_one_empty_token() {
        let statistics = E2eBleu.statistics("", &[String::new()]);
        assert_eq!(statistics, [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, -2.0]);
    }
}

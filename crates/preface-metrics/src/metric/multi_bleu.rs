//! BLEU as Moses' `multi-bleu.perl -lc`, the figure of WebNLG and DART.
//!
//! ```text
//! BLEU = 100 * BP * exp(mean of ln(correct_n / total_n)),   n = 1..4, no smoothing
//! ```
//!
//! The text is taken as tokenized: split at ASCII white space, and only ASCII letters are lower-cased, because the
//! script reads bytes. Its search for the closest reference length begins at 9999. Statistics as in
//! [`bleu`](super::bleu).

use crate::metric::bleu::{LOG_ZERO, bleu_counts, brevity_penalty};
use crate::ngram::NgramMatches;
use crate::{Metric, MetricError, References, Scorer, Signature};

/// Distance and length that a reference must not exceed to be the closest.
const FARTHEST: usize = 9999;

/// `multi-bleu.perl -lc`.
#[derive(Clone, Debug, Default)]
pub struct MultiBleu;

/// Perl's `split` of a byte string.
fn tokens(line: &str) -> Vec<&str> {
    line.split([' ', '\t', '\n', '\x0b', '\x0c', '\r']).filter(|token| !token.is_empty()).collect()
}

impl Metric for MultiBleu {
    fn name(&self) -> &'static str {
        "multi-bleu"
    }

    fn signature(&self) -> Signature {
        Signature::new()
            .with("as", "multi-bleu.perl")
            .with("case", "lc")
            .with("tok", "none")
            .with("smooth", "none")
    }

    fn fit(&self, _: &References) -> Result<Box<dyn Scorer + '_>, MetricError> {
        Ok(Box::new(self))
    }
}

impl Scorer for MultiBleu {
    fn statistics(&self, hypothesis: &str, references: &[String]) -> Vec<f64> {
        let hypothesis = hypothesis.to_ascii_lowercase();
        let references: Vec<String> = references.iter().map(|text| text.to_ascii_lowercase()).collect();
        let hypothesis = tokens(&hypothesis);
        let references: Vec<Vec<&str>> = references.iter().map(|text| tokens(text)).collect();
        let lengths = references.iter().map(Vec::len);
        let near = lengths.filter(|length| length.abs_diff(hypothesis.len()) <= FARTHEST);
        let closest = near.min_by_key(|length| (length.abs_diff(hypothesis.len()), *length));
        let matches = NgramMatches::count(&hypothesis, &references);
        let mut statistics = vec![hypothesis.len() as f64, closest.unwrap_or(FARTHEST) as f64];
        statistics.extend(matches.correct.iter().chain(&matches.total).map(|count| *count as f64));
        statistics
    }

    fn score(&self, statistics: &[f64]) -> f64 {
        let (sys_len, ref_len, correct, total) = bleu_counts(statistics);
        if ref_len == 0.0 {
            return 0.0;
        }
        let log =
            |(correct, total): (&f64, &f64)| if *correct > 0.0 { (correct / total).ln() } else { LOG_ZERO };
        let mean = correct.iter().zip(&total).map(log).sum::<f64>() / correct.len() as f64;
        100.0 * brevity_penalty(sys_len, ref_len) * mean.exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_without_match_makes_the_score_zero() {
        let statistics = MultiBleu.statistics("A b", &["a b".into()]);
        assert_eq!(statistics, [2.0, 2.0, 2.0, 1.0, 0.0, 0.0, 2.0, 1.0, 0.0, 0.0]);
        assert_eq!(MultiBleu.score(&statistics), 0.0);
    }

    #[test]
    fn only_ascii_letters_are_lower_cased() {
        assert_eq!(MultiBleu.statistics("É a", &["é A".into()])[2], 1.0);
    }

    #[test]
    fn a_reference_farther_than_the_search_reaches_has_its_limit() {
        let long = "a ".repeat(12_000);
        assert_eq!(MultiBleu.statistics(&long, &["a".into()])[1], 9999.0);
    }
}

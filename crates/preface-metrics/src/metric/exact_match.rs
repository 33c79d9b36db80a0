//! Share of segments whose text is one of its references, as `exact_match` of Hugging Face's `evaluate` (which has one
//! reference for each).
//!
//! Texts are compared character by character, white space included. Statistics: `[segments that match, segments]`.

use crate::metric::rouge::mean;
use crate::{Metric, MetricError, References, Scorer, Signature};

/// Exact match, 0..1.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExactMatch {
    /// Lower-case both sides first.
    pub lowercase: bool,
}

impl Metric for ExactMatch {
    fn name(&self) -> &'static str {
        "exact-match"
    }

    fn signature(&self) -> Signature {
        Signature::new().with("case", if self.lowercase { "lc" } else { "mixed" })
    }

    fn fit(&self, _: &References) -> Result<Box<dyn Scorer + '_>, MetricError> {
        Ok(Box::new(self))
    }
}

impl Scorer for ExactMatch {
    fn statistics(&self, hypothesis: &str, references: &[String]) -> Vec<f64> {
        let is_same = |reference: &String| match self.lowercase {
            true => reference.to_lowercase() == hypothesis.to_lowercase(),
            false => reference == hypothesis,
        };
        vec![f64::from(u8::from(references.iter().any(is_same))), 1.0]
    }

    fn score(&self, statistics: &[f64]) -> f64 {
        mean(statistics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_matches_if_one_reference_is_the_same_to_the_last_character() {
        let references = ["Kairo".to_owned(), "al-Qahira".to_owned()];
        let matches = |lowercase, hypothesis| ExactMatch { lowercase }.statistics(hypothesis, &references)[0];
        assert_eq!(matches(false, "Kairo"), 1.0);
        assert_eq!(matches(false, "al-Qahira"), 1.0);
        for other in ["", "Kair", "Kairo ", "kairo", "al Qahira"] {
            assert_eq!(matches(false, other), 0.0, "{other:?}");
        }
        assert_eq!(matches(true, "kAIRO"), 1.0);
        assert_eq!(ExactMatch::default().statistics("", &[String::new()]), [1.0, 1.0]);
    }

    #[test]
    fn the_score_is_the_share_of_segments() {
        let metric = ExactMatch::default();
        assert_eq!(metric.score(&[3.0, 4.0]), 0.75);
    }
}

//! ROUGE-L as coco-caption computes it, which e2e-metrics reports.
//!
//! ```text
//! P = max over references of LCS / tokens of the hypothesis,   R = max over references of LCS / tokens of the reference
//! F = (1 + beta^2) P R / (R + beta^2 P),   beta = 1.2
//! ```
//!
//! P and R may come from different references. Tokens are those of [`caption_tokens`]; a text without tokens counts as
//! one empty token. The score is the mean F over segments, 0..1; statistics `[sum of F, segments]`.

use crate::lcs::Columns;
use crate::ngram::Vocabulary;
use crate::tokenizer::ptb::caption_tokens;
use crate::{Metric, MetricError, References, Scorer, Signature};

const BETA_SQUARED: f64 = 1.2 * 1.2;

/// ROUGE-L of coco-caption.
#[derive(Clone, Copy, Debug, Default)]
pub struct CocoRouge;

impl Metric for CocoRouge {
    fn name(&self) -> &'static str {
        "coco-rouge-l"
    }

    fn signature(&self) -> Signature {
        Signature::new().with("case", "lc").with("tok", "ptb-caption").with("beta", "1.2")
    }

    fn fit(&self, _references: &References) -> Result<Box<dyn Scorer + '_>, MetricError> {
        Ok(Box::new(*self))
    }
}

impl Scorer for CocoRouge {
    fn statistics(&self, hypothesis: &str, references: &[String]) -> Vec<f64> {
        let texts: Vec<Vec<String>> =
            std::iter::once(hypothesis).chain(references.iter().map(String::as_str)).map(tokens).collect();
        let mut vocabulary = Vocabulary::default();
        let mut numbers =
            texts.iter().map(|text| text.iter().map(|token| vocabulary.intern(token)).collect::<Vec<u32>>());
        let hypothesis = numbers.next().unwrap_or_default();
        let columns = Columns::new(&hypothesis);
        let (mut precision, mut recall) = (0.0f64, 0.0f64);
        for reference in numbers {
            let common = columns.lcs_len(&reference) as f64;
            precision = precision.max(common / hypothesis.len() as f64);
            recall = recall.max(common / reference.len() as f64);
        }
        let f = if precision > 0.0 && recall > 0.0 {
            (1.0 + BETA_SQUARED) * precision * recall / (recall + BETA_SQUARED * precision)
        } else {
            0.0
        };
        vec![f, 1.0]
    }

    fn score(&self, statistics: &[f64]) -> f64 {
        statistics[0] / statistics[1]
    }
}

fn tokens(text: &str) -> Vec<String> {
    let tokens = caption_tokens(text);
    if tokens.is_empty() { vec![String::new()] } else { tokens }
}

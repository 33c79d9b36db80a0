//! Mean over segments of sacreBLEU's sentence BLEU.
//!
//! Each segment is scored alone, with [`effective_order`](super::bleu::Bleu::effective_order) as sacreBLEU's
//! `sentence_bleu` sets it. This is not corpus BLEU, which adds counts before it divides. Statistics:
//! `[sum of scores, segments]`.

use crate::metric::bleu::Bleu;
use crate::metric::rouge::mean;
use crate::{Metric, MetricError, References, Scorer, Signature};

/// Sentence BLEU, 0..100.
#[derive(Clone, Debug)]
pub struct SentenceBleu {
    bleu: Bleu,
}

impl SentenceBleu {
    /// Sentence BLEU with tokenizer, smoothing and case of `bleu`.
    pub fn new(bleu: Bleu) -> Self {
        Self { bleu: Bleu { effective_order: true, ..bleu } }
    }
}

impl Metric for SentenceBleu {
    fn name(&self) -> &'static str {
        "sentence-bleu"
    }

    fn signature(&self) -> Signature {
        self.bleu.signature().with("mean", "segments")
    }

    fn fit(&self, _: &References) -> Result<Box<dyn Scorer + '_>, MetricError> {
        Ok(Box::new(self))
    }
}

impl Scorer for SentenceBleu {
    fn statistics(&self, hypothesis: &str, references: &[String]) -> Vec<f64> {
        vec![self.bleu.score(&self.bleu.statistics(hypothesis, references)), 1.0]
    }

    fn score(&self, statistics: &[f64]) -> f64 {
        mean(statistics)
    }
}

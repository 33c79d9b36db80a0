//! The seam of all metrics: [`Metric`] fits on references and gives a [`Scorer`], which turns segments into additive
//! statistics and sums of statistics into a score. One file for each metric.

pub mod bleu;
pub mod chrf;
pub mod cider;
pub mod coco_rouge;
pub mod e2e;
pub mod exact_match;
pub mod meteor;
pub mod mteval;
pub mod multi_bleu;
pub mod rouge;
pub mod sentence_bleu;
pub mod ter;
pub mod tercom;

use crate::{MetricError, References, Signature};

/// Which end of the scale is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// As BLEU.
    HigherIsBetter,
    /// As TER.
    LowerIsBetter,
}

/// A metric with all its settings.
pub trait Metric: Send + Sync {
    /// Name under which the score is reported, as `bleu` or `rougeL`.
    fn name(&self) -> &'static str;

    /// The settings that decide the figure, without number of references and version, which [`Signature::complete`] adds.
    fn signature(&self) -> Signature;

    /// Which end of the scale is good.
    fn direction(&self) -> Direction {
        Direction::HigherIsBetter
    }

    /// Learns what the references of the whole corpus fix, such as the information weights of NIST; most metrics
    /// learn nothing. A bootstrap keeps what was fitted here, and so does a slice.
    ///
    /// # Errors
    /// [`MetricError::MissingData`] where a metric needs tables that are not installed.
    fn fit(&self, references: &References) -> Result<Box<dyn Scorer + '_>, MetricError>;
}

/// A metric ready to score segments.
pub trait Scorer: Send + Sync {
    /// The additive statistics of one segment. `references` is never empty. The length of the vector is the same for
    /// all segments. A pure function: segments are scored in parallel.
    fn statistics(&self, hypothesis: &str, references: &[String]) -> Vec<f64>;

    /// The score of a sum of statistics, on the scale of the reference tool.
    fn score(&self, statistics: &[f64]) -> f64;
}

impl<S: Scorer + ?Sized> Scorer for &S {
    fn statistics(&self, hypothesis: &str, references: &[String]) -> Vec<f64> {
        (**self).statistics(hypothesis, references)
    }

    fn score(&self, statistics: &[f64]) -> f64 {
        (**self).score(statistics)
    }
}

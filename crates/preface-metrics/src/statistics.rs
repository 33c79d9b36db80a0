//! From a metric and texts to scores: the table of additive statistics, one row for each segment.

use rayon::prelude::*;
use serde::Serialize;

use crate::{Metric, MetricError, References, Scorer, Signature};

/// A score with all that is needed to compare it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Name of the metric.
    pub name: String,
    /// The figure, on the reference tool's own scale.
    pub score: f64,
    /// What was computed.
    pub signature: String,
    /// Bootstrap estimate, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
}

/// Bootstrap estimate of a score: `mean ± half_width` covers `level` of the resampled scores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Confidence {
    /// Covered share, such as 0.95.
    pub level: f64,
    /// Mean of the resampled scores.
    pub mean: f64,
    /// Half the distance between the two quantiles.
    pub half_width: f64,
}

/// The statistics of all segments of one system under one metric: `[n_segment, width]`, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct StatisticsTable {
    width: usize,
    values: Vec<f64>,
}

impl StatisticsTable {
    /// Scores every segment, in parallel; the result does not depend on the number of threads.
    ///
    /// # Errors
    /// [`MetricError::UnequalCounts`].
    pub fn new(
        scorer: &dyn Scorer,
        hypotheses: &[String],
        references: &References,
    ) -> Result<Self, MetricError> {
        references.check_count(hypotheses.len())?;
        let rows: Vec<Vec<f64>> = hypotheses
            .par_iter()
            .zip(references.segments().par_iter())
            .map(|(hypothesis, references)| scorer.statistics(hypothesis, references))
            .collect();
        let width = rows[0].len();
        assert!(rows.iter().all(|row| row.len() == width), "a scorer gave rows of unequal length");
        Ok(Self { width, values: rows.concat() })
    }

    /// Number of segments.
    pub fn n_segment(&self) -> usize {
        self.values.len() / self.width
    }

    /// Number of statistics of a segment.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Statistics of one segment, `[width]`.
    pub fn row(&self, segment: usize) -> &[f64] {
        &self.values[segment * self.width..][..self.width]
    }

    /// The rows of the given segments, in their order.
    #[must_use]
    pub fn select(&self, segments: &[usize]) -> Self {
        let values = segments.iter().flat_map(|segment| self.row(*segment)).copied().collect();
        Self { width: self.width, values }
    }

    /// Sum over the given segments, `[width]`; a segment named twice counts twice.
    pub fn sum(&self, segments: impl IntoIterator<Item = usize>) -> Vec<f64> {
        let mut sum = vec![0.0; self.width];
        for segment in segments {
            for (total, value) in sum.iter_mut().zip(self.row(segment)) {
                *total += value;
            }
        }
        sum
    }

    /// Sum over all segments, `[width]`.
    pub fn total(&self) -> Vec<f64> {
        self.sum(0..self.n_segment())
    }

    /// The score of each segment alone.
    pub fn sentence_scores(&self, scorer: &dyn Scorer) -> Vec<f64> {
        (0..self.n_segment()).map(|segment| scorer.score(self.row(segment))).collect()
    }
}

/// The corpus score of each metric.
///
/// # Errors
/// [`MetricError::UnequalCounts`], and what [`Metric::fit`] may refuse.
pub fn evaluate(
    metrics: &[Box<dyn Metric>],
    hypotheses: &[String],
    references: &References,
) -> Result<Vec<Score>, MetricError> {
    metrics
        .iter()
        .map(|metric| {
            let scorer = metric.fit(references)?;
            let table = StatisticsTable::new(scorer.as_ref(), hypotheses, references)?;
            Ok(Score {
                name: metric.name().to_owned(),
                score: scorer.score(&table.total()),
                signature: complete_signature(metric.as_ref(), references).to_string(),
                confidence: None,
            })
        })
        .collect()
}

/// The signature that goes with scores of `metric` on `references`.
pub fn complete_signature(metric: &dyn Metric, references: &References) -> Signature {
    metric.signature().complete(references)
}

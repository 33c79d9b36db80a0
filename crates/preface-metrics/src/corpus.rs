//! References and hypotheses, checked once, so that no metric has to.

use std::sync::Arc;

use crate::MetricError;

/// The references of every segment: at least one segment, at least one reference for each, their number may vary.
///
/// Cloning shares the texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct References {
    segments: Arc<[Vec<String>]>,
}

impl References {
    /// Takes the references, one list for each segment.
    ///
    /// # Errors
    /// [`MetricError::Empty`] without segments, [`MetricError::NoReference`] for a segment with an empty list.
    /// An empty *text* is a reference.
    pub fn new(segments: Vec<Vec<String>>) -> Result<Self, MetricError> {
        if segments.is_empty() {
            return Err(MetricError::Empty);
        }
        if let Some(segment) = segments.iter().position(Vec::is_empty) {
            return Err(MetricError::NoReference { segment: segment + 1 });
        }
        Ok(Self { segments: segments.into() })
    }

    /// Number of segments.
    pub fn n_segment(&self) -> usize {
        self.segments.len()
    }

    /// The references of all segments, in order.
    pub fn segments(&self) -> &[Vec<String>] {
        &self.segments
    }

    /// The number of references if it is the same for all segments.
    pub fn uniform_count(&self) -> Option<usize> {
        let first = self.segments[0].len();
        self.segments.iter().all(|segment| segment.len() == first).then_some(first)
    }

    /// Whether `hypotheses` has one text for each segment.
    ///
    /// # Errors
    /// [`MetricError::UnequalCounts`] with both counts.
    pub fn check_count(&self, hypotheses: usize) -> Result<(), MetricError> {
        if hypotheses == self.n_segment() {
            Ok(())
        } else {
            Err(MetricError::UnequalCounts { hypotheses, references: self.n_segment() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corpus_without_segments_is_refused() {
        assert!(matches!(References::new(vec![]), Err(MetricError::Empty)));
    }

    #[test]
    fn a_segment_without_reference_is_named() {
        let refused = References::new(vec![vec!["a".into()], vec![]]).unwrap_err();
        assert_eq!(refused.to_string(), "segment 2 (counted from 1) has no reference");
    }

    #[test]
    fn unequal_counts_give_both_numbers() {
        let references = References::new(vec![vec![String::new()]]).unwrap();
        let refused = references.check_count(3).unwrap_err();
        assert_eq!(refused.to_string(), "3 hypotheses, but references for 1 segments");
    }
}

//! Excludes every token whose probability is below `min_p` times that of the best one.

use super::{EXCLUDED, Past, Processor};
use crate::search::softmax;

pub(super) struct MinP {
    pub min_p: f32,
}

impl Processor for MinP {
    fn apply(&self, _: Past<'_>, scores: &mut [f32]) {
        let probabilities = softmax(scores);
        let least = self.min_p * probabilities.iter().copied().fold(0.0, f32::max);
        for (score, probability) in scores.iter_mut().zip(probabilities) {
            if probability < least {
                *score = EXCLUDED;
            }
        }
    }
}

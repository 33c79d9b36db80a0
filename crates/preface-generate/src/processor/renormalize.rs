//! Makes log-probabilities of the scores again after all other rules: `log_softmax`.

use super::{EXCLUDED, Processor};
use crate::processor::Past;
use crate::search::log_sum_exp;

pub(super) struct Renormalize;

impl Processor for Renormalize {
    fn apply(&self, _past: Past<'_>, scores: &mut [f32]) {
        // Where every token is excluded there is nothing to divide by.
        if let Some(normaliser) = log_sum_exp(scores) {
            scores
                .iter_mut()
                .filter(|score| **score > EXCLUDED)
                .for_each(|score| *score -= normaliser as f32);
        }
    }
}

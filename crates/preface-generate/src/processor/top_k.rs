//! Excludes every token that scores less than the one in place `top_k`; tokens level with it stay.

use super::{EXCLUDED, Past, Processor};

pub(super) struct TopK {
    pub top_k: usize,
}

impl Processor for TopK {
    fn apply(&self, _: Past<'_>, scores: &mut [f32]) {
        if self.top_k >= scores.len() {
            return;
        }
        let mut sorted = scores.to_vec();
        let (_, &mut least, _) = sorted.select_nth_unstable_by(self.top_k - 1, |a, b| b.total_cmp(a));
        for score in scores.iter_mut().filter(|score| **score < least) {
            *score = EXCLUDED;
        }
    }
}

//! `score / penalty` if positive, `score * penalty` if negative, for every token that came before, once however often
//! it came. The prompt counts.

use super::{Past, Processor};

pub(super) struct RepetitionPenalty {
    pub penalty: f32,
}

impl Processor for RepetitionPenalty {
    fn apply(&self, past: Past<'_>, scores: &mut [f32]) {
        let mut seen = past.ids.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            if let Some(score) = scores.get_mut(token as usize) {
                *score = if *score < 0.0 { *score * self.penalty } else { *score / self.penalty };
            }
        }
    }
}

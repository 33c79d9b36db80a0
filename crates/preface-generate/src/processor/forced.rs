//! Leaves one token: at the start of the answer, or at its greatest length.

use super::{EXCLUDED, Past, Processor};

pub(super) struct Forced {
    pub token: u32,
    /// Number of the answer's token that is forced.
    pub at: usize,
}

impl Processor for Forced {
    fn apply(&self, past: Past<'_>, scores: &mut [f32]) {
        if past.ids.len() - past.prompt_len == self.at {
            scores.fill(EXCLUDED);
            scores[self.token as usize] = 0.0;
        }
    }
}

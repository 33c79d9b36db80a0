//! Excludes the end tokens until enough tokens are generated.

use super::{EXCLUDED, Past, Processor};

pub(super) struct MinNewTokens {
    pub min_new_tokens: usize,
    pub end_tokens: Vec<u32>,
}

impl Processor for MinNewTokens {
    fn apply(&self, past: Past<'_>, scores: &mut [f32]) {
        if past.ids.len() - past.prompt_len < self.min_new_tokens {
            for &token in &self.end_tokens {
                scores[token as usize] = EXCLUDED;
            }
        }
    }
}

//! Excludes every token that would complete a banned sequence, whose beginning may lie in the prompt.
//!
//! A ban of an end token alone is ignored, as in `transformers`: nothing would end any more.

use super::{EXCLUDED, Past, Processor};

pub(super) struct BadWords {
    /// (what must stand before, the token that is excluded then)
    words: Vec<(Vec<u32>, u32)>,
}

impl BadWords {
    /// Sequences of at least one token each.
    pub(super) fn new(sequences: Vec<Vec<u32>>, end_tokens: &[u32]) -> Self {
        let split = |mut sequence: Vec<u32>| sequence.pop().map(|last| (sequence, last));
        let bans_end = |(before, last): &(Vec<u32>, u32)| before.is_empty() && end_tokens.contains(last);
        Self { words: sequences.into_iter().filter_map(split).filter(|word| !bans_end(word)).collect() }
    }
}

impl Processor for BadWords {
    fn apply(&self, past: Past<'_>, scores: &mut [f32]) {
        for (before, last) in &self.words {
            if past.ids.ends_with(before) {
                scores[*last as usize] = EXCLUDED;
            }
        }
    }
}

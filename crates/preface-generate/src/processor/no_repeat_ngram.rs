//! Excludes every token that would complete a sequence of `size` tokens that is there already. The prompt counts.

use super::{EXCLUDED, Past, Processor};

pub(super) struct NoRepeatNgram {
    pub size: usize,
}

impl Processor for NoRepeatNgram {
    fn apply(&self, past: Past<'_>, scores: &mut [f32]) {
        if past.ids.len() < self.size {
            return;
        }
        let beginning = &past.ids[past.ids.len() + 1 - self.size..];
        for ngram in past.ids.windows(self.size) {
            let (last, before) = ngram.split_last().expect("the size is at least 1");
            if before == beginning {
                scores[*last as usize] = EXCLUDED;
            }
        }
    }
}

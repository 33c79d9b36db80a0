//! Excludes the least probable tokens as long as their probabilities sum to at most `1 - top_p`. The best token stays.
//!
//! Summing from the improbable end, in `f32` as `transformers` does, keeps the token at which the sum crosses the
//! border on the same side as there.

use super::{EXCLUDED, Past, Processor};
use crate::search::softmax;

pub(super) struct TopP {
    pub top_p: f64,
}

impl Processor for TopP {
    fn apply(&self, _: Past<'_>, scores: &mut [f32]) {
        let probabilities = softmax(scores);
        // Tokens that are excluded already add nothing to the sum.
        let mut ascending: Vec<usize> = (0..scores.len()).filter(|&i| scores[i] > EXCLUDED).collect();
        ascending.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        ascending.pop();
        let border = (1.0 - self.top_p) as f32;
        let mut sum = 0.0;
        for token in ascending {
            sum += f64::from(probabilities[token]);
            if sum as f32 > border {
                break;
            }
            scores[token] = EXCLUDED;
        }
    }
}

//! Dropout of probabilities: factors on a query's share of each key, the same in the forward and the backward.

use preface_backend::AttentionDropout;

use super::{Call, Segment};

impl Segment {
    /// Multiplies `values`, one for each key of the beginning of the list, by the factors of the query in `row` and `head`.
    pub(super) fn drop_probabilities(&self, call: &Call<'_>, row: usize, head: usize, values: &mut [f32]) {
        let Some(AttentionDropout { masks, probability, layer }) = call.dropout else { return };
        let mask = masks.0[row];
        for keys in &self.keys {
            let end = (keys.start + keys.len).min(values.len());
            let Some(values) = values.get_mut(keys.start..end) else { continue };
            for (i, value) in values.iter_mut().enumerate() {
                let number = keys.first_number + i;
                *value *= mask.attention_factor(probability, layer, call.shape.n_head, head, number);
            }
        }
    }
}

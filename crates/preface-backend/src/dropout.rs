//! Dropout masks from a counter-based generator.
//!
//! A mask is a function of what it falls on, not of when it was drawn: `keep(stream, layer, element)`. So backward
//! recomputes it, and it is the same under any packing, split into micro-batches or number of threads.

/// A mask over the elements of a key run's K and V rows (or of any rows).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability with which an element is dropped, in `0..1`.
    pub probability: f32,
    /// Names the mask: mixed from the run's seed, the step and the pair.
    pub stream: u64,
}

impl Dropout {
    /// What element number `element` is multiplied by in `layer`: `0` or `1 / (1 - probability)`.
    pub fn factor(&self, layer: u32, element: u64) -> f32 {
        let bits = mix(self.stream ^ mix(u64::from(layer) << 40 ^ element));
        let uniform = (bits >> 40) as f32 / (1u64 << 24) as f32;
        if uniform < self.probability { 0.0 } else { 1.0 / (1.0 - self.probability) }
    }

    /// Mixes the parts that name a mask into a stream number.
    pub fn stream(parts: [u64; 3]) -> u64 {
        parts.into_iter().fold(0x9e37_79b9_7f4a_7c15, |state, part| mix(state ^ part))
    }
}

/// Which mask falls on a row of a packed matrix: that of its sequence, at its place in the sequence.
///
/// Element number `row * width + column` of the mask falls on column `column`, so the mask of a sequence is the same
/// wherever the sequence lies in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowMask {
    /// Names the mask, as [`Dropout::stream`].
    pub stream: u64,
    /// Number of the row in its sequence.
    pub row: u32,
}

impl RowMask {
    /// What column `column` of `width` is multiplied by at the place of the model that `layer` numbers.
    pub fn factor(self, probability: f32, layer: u32, width: usize, column: usize) -> f32 {
        let element = u64::from(self.row) * width as u64 + column as u64;
        Dropout { probability, stream: self.stream }.factor(layer, element)
    }

    /// What the share of key number `key` is multiplied by, for this row's query in head `head` of `n_head`.
    pub fn attention_factor(
        self,
        probability: f32,
        layer: u32,
        n_head: usize,
        head: usize,
        key: usize,
    ) -> f32 {
        // Far more keys than a model has positions.
        const KEY_BITS: u32 = 20;
        let query = u64::from(self.row) * n_head as u64 + head as u64;
        Dropout { probability, stream: self.stream }.factor(layer, query << KEY_BITS ^ key as u64)
    }
}

/// Finaliser of SplitMix64 (Steele, Lea and Flood, 2014): a bijection of 64 bits with full avalanche.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_of_dropped_elements_is_the_probability_and_the_mean_is_kept() {
        let dropout = Dropout { probability: 0.3, stream: Dropout::stream([1, 2, 3]) };
        let factors: Vec<f32> = (0..100_000).map(|i| dropout.factor(4, i)).collect();
        let dropped = factors.iter().filter(|f| **f == 0.0).count() as f32 / factors.len() as f32;
        let mean = factors.iter().sum::<f32>() / factors.len() as f32;
        assert!((dropped - 0.3).abs() < 0.01, "{dropped}");
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
    }

    #[test]
    fn masks_of_different_layers_and_streams_differ() {
        let mask = |stream, layer| -> Vec<bool> {
            let dropout = Dropout { probability: 0.5, stream: Dropout::stream([stream, 0, 0]) };
            (0..64).map(|i| dropout.factor(layer, i) == 0.0).collect()
        };
        assert_ne!(mask(0, 0), mask(1, 0));
        assert_ne!(mask(0, 0), mask(0, 1));
        assert_eq!(mask(5, 3), mask(5, 3));
    }
}

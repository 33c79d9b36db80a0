//! Inputs that are exact in bf16.

use crate::{Backend, HostMatrix, Storage};

/// `n` multiples of 1/64 in `-1.5..=1.5`, different for each seed.
pub fn values(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x9e37_79b9_7f4a_7c15;
    (0..n)
        .map(|_| {
            // Xorshift64 (Marsaglia, 2003).
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 33) % 193) as f32 / 64.0 - 1.5
        })
        .collect()
}

/// Rows of [`values`].
pub fn rows<B: Backend>(backend: &B, seed: u64, n_row: usize, width: usize, storage: Storage) -> B::Rows {
    backend.rows_from(&values(seed, n_row * width), width, storage)
}

/// A weight of [`values`], made of one part.
pub fn weight<B: Backend>(backend: &B, seed: u64, n_out: usize, n_in: usize) -> B::Weight {
    backend.weight(vec![HostMatrix { n_row: n_out, n_column: n_in, values: values(seed, n_out * n_in) }])
}

/// Row numbers `0..n` in an order that is not sorted.
pub fn shuffled(n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    order.sort_by_key(|i| i.wrapping_mul(0x9e37_79b1));
    order
}

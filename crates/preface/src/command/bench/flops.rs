//! What a token costs, in floating-point operations (a multiply-add is two).
//!
//! ```text
//! blocks      2 n a row forward, the same backward (input gradients only),   n = numbers in a block's matrices
//! head        2 vocab d a row with a target forward, the same backward
//! attention   4 keys width a row and layer forward (scores and values), 2.5 times that backward
//! ```
//!
//! In the last layer rows without a target have only the q/k/v product; in the first one nothing goes back through it.

use preface_model::{ModelSpec, Work};

/// Backward products of attention for each forward one: scores again, dV, dP, dQ, dK, over two forward ones.
const ATTENTION_BACKWARD: f64 = 2.5;

/// Numbers in the q/k/v matrix of a block.
fn qkv_numbers(spec: &ModelSpec) -> f64 {
    (spec.d_model * (spec.n_head * spec.head_dim + 2 * spec.kv_width())) as f64
}

/// Numbers in the matrices of a block.
fn block_numbers(spec: &ModelSpec) -> f64 {
    let up = spec.activation.input_width(spec.d_ff);
    qkv_numbers(spec) + (spec.d_model * (spec.n_head * spec.head_dim + up + spec.d_ff)) as f64
}

fn head_numbers(spec: &ModelSpec) -> f64 {
    (spec.vocab_size * spec.d_model) as f64
}

/// A training step over `work`, behind a prefix in every layer: forward and backward.
pub fn training(spec: &ModelSpec, work: Work) -> f64 {
    let Work { n_row, n_loss, n_key, n_loss_key } = work;
    let [n_row, n_loss, n_key, n_loss_key] = [n_row, n_loss, n_key, n_loss_key].map(|n| n as f64);
    let before_last = (spec.n_layer - 1) as f64;
    let (block, qkv) = (block_numbers(spec), qkv_numbers(spec));
    let forward = n_row * (before_last * block + qkv) + n_loss * (block - qkv);
    let backward = forward - n_row * qkv;
    let attention = (before_last * n_key + n_loss_key) * (spec.n_head * spec.head_dim) as f64;
    2.0 * (forward + backward)
        + 4.0 * n_loss * head_numbers(spec)
        + 4.0 * attention * (1.0 + ATTENTION_BACKWARD)
}

/// One token behind `n_key` others, forward.
pub fn decoding(spec: &ModelSpec, n_key: usize) -> f64 {
    let width = (spec.n_layer * spec.n_head * spec.head_dim) as f64;
    2.0 * (spec.n_layer as f64 * block_numbers(spec) + head_numbers(spec)) + 4.0 * n_key as f64 * width
}

#[cfg(test)]
mod tests {
    use preface_model::ModelFiles;

    use super::*;

    #[test]
    fn a_token_of_the_embedded_model_costs_what_its_matrices_say() {
        let files = ModelFiles::open("builtin:stories260k").unwrap();
        let spec = files.spec();
        // d 64, 5 layers, 8 heads on 4 kv heads of 8, feed-forward 172, vocabulary 512.
        let block = 64 * (64 + 2 * 32 + 64 + 2 * 172 + 172);
        assert_eq!(block_numbers(spec), block as f64);
        let qkv = 64 * (64 + 2 * 32);
        let one_row = Work { n_row: 1, n_loss: 1, n_key: 1, n_loss_key: 1 };
        let products = 4 * (5 * block + 512 * 64) - 2 * qkv;
        assert_eq!(training(spec, one_row) - products as f64, 4.0 * 5.0 * 64.0 * 3.5);
        // A further row without a target is not run through most of the last block.
        let two_rows = Work { n_row: 2, n_key: 1, ..one_row };
        let more = 4 * (4 * block + qkv) - 2 * qkv;
        assert_eq!(training(spec, two_rows) - training(spec, one_row), more as f64);
    }
}

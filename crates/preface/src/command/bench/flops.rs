//! What a token costs, in floating-point operations (a multiply-add is two).
//!
//! ```text
//! blocks      2 n a row forward, the same backward (input gradients only),   n = numbers in a block's matrices
//! head        2 vocab d a target forward, the same backward
//! attention   4 keys width a row and layer forward (scores and values), 2.5 times that backward
//! ```

use preface_model::ModelSpec;

/// Backward products of attention for each forward one: scores again, dV, dP, dQ, dK, over two forward ones.
const ATTENTION_BACKWARD: f64 = 2.5;

/// Numbers in the matrices of all blocks.
fn block_numbers(spec: &ModelSpec) -> f64 {
    let query = spec.n_head * spec.head_dim;
    let qkv = query + 2 * spec.kv_width();
    let up = spec.activation.input_width(spec.d_ff);
    (spec.n_layer * spec.d_model * (qkv + query + up + spec.d_ff)) as f64
}

fn head_numbers(spec: &ModelSpec) -> f64 {
    (spec.vocab_size * spec.d_model) as f64
}

/// One sequence of `n_token` tokens, `n_target` of them with loss, behind `prefix_len` rows: forward and backward.
pub fn training(spec: &ModelSpec, n_token: usize, n_target: usize, prefix_len: usize) -> f64 {
    let n_row = (n_token - 1) as f64;
    let keys = n_row * (prefix_len as f64 + (n_row + 1.0) / 2.0);
    let width = (spec.n_layer * spec.n_head * spec.head_dim) as f64;
    let attention = 4.0 * keys * width * (1.0 + ATTENTION_BACKWARD);
    4.0 * (n_row * block_numbers(spec) + n_target as f64 * head_numbers(spec)) + attention
}

/// One token behind `n_key` others, forward.
pub fn decoding(spec: &ModelSpec, n_key: usize) -> f64 {
    let width = (spec.n_layer * spec.n_head * spec.head_dim) as f64;
    2.0 * (block_numbers(spec) + head_numbers(spec)) + 4.0 * n_key as f64 * width
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
        assert_eq!(block_numbers(spec), (5 * block) as f64);
        let one_row = training(spec, 2, 1, 0) - 4.0 * (5 * block + 512 * 64) as f64;
        assert_eq!(one_row, 4.0 * 5.0 * 64.0 * 3.5);
    }
}

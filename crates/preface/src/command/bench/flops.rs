//! What a token costs, in floating-point operations (a multiply-add is two).
//!
//! ```text
//! blocks      2 n a row forward, the same backward (input gradients only),   n = numbers in a block's matrices
//! head        2 vocab d a row with a target forward, the same backward
//! attention   4 keys width a row and layer forward (scores and values), 2.5 times that backward
//! cross       keys and values of the encoder's output: 2 * 2 d width a source row and decoder layer forward, the same
//!             backward where the encoder has rows
//! ```
//!
//! In the last layer rows without a target have only the q/k/v product. Backward ends at the lowest prefix rows: in the first
//! layer nothing goes back through the q/k/v product, and through nothing of self-attention where only cross-attention has
//! rows. An encoder without rows runs forward only, or not at all where its output was kept.

use preface_model::{ModelSpec, PrefixPlace, StackSpec, Work};

/// Backward products of attention for each forward one: scores again, dV, dP, dQ, dK, over two forward ones.
const ATTENTION_BACKWARD: f64 = 2.5;

/// How an encoder runs in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncoderRun {
    /// Its output was kept, or there is none.
    Kept,
    /// Nothing in it is trained.
    Forward,
    /// It has prefix rows.
    Trained,
}

/// Columns of all query heads of a layer.
fn query_width(stack: StackSpec) -> f64 {
    (stack.n_head * stack.head_dim) as f64
}

/// Numbers in the q/k/v matrix of a block.
fn qkv_numbers(spec: &ModelSpec, stack: StackSpec) -> f64 {
    spec.d_model as f64 * (query_width(stack) + 2.0 * stack.kv_width() as f64)
}

/// Numbers in the matrices of a block that a row of its own stack runs through.
fn block_numbers(spec: &ModelSpec, stack: StackSpec, has_cross: bool) -> f64 {
    let up = spec.activation.input_width(stack.d_ff);
    let d = spec.d_model as f64;
    let cross = if has_cross { 2.0 * d * query_width(stack) } else { 0.0 };
    qkv_numbers(spec, stack) + d * query_width(stack) + cross + d * (up + stack.d_ff) as f64
}

fn head_numbers(spec: &ModelSpec) -> f64 {
    (spec.vocab_size * spec.d_model) as f64
}

/// A training step over `work`, behind prefix rows in `places` of every layer: forward and backward.
pub fn training(spec: &ModelSpec, work: Work, places: &[PrefixPlace], encoder: EncoderRun) -> f64 {
    let stack = spec.decoder();
    let has_cross = spec.encoder.is_some();
    let [n_row, n_loss] = [work.n_row, work.n_loss].map(|n| n as f64);
    let before_last = (stack.n_layer - 1) as f64;
    let (block, qkv) = (block_numbers(spec, stack, has_cross), qkv_numbers(spec, stack));
    let forward = n_row * (before_last * block + qkv) + n_loss * (block - qkv);
    let below_lowest = match places.contains(&PrefixPlace::Decoder) {
        true => qkv,
        // Self-attention, and the queries of cross-attention.
        false => qkv + 2.0 * spec.d_model as f64 * query_width(stack),
    };
    let backward = forward - n_row * below_lowest;
    let own_keys = before_last * work.n_key as f64 + work.n_loss_key as f64;
    let cross_keys = before_last * work.n_cross_key as f64 + work.n_loss_cross_key as f64;
    let attention = (own_keys + cross_keys) * query_width(stack);
    2.0 * (forward + backward)
        + 4.0 * n_loss * head_numbers(spec)
        + 4.0 * attention * (1.0 + ATTENTION_BACKWARD)
        + spec.encoder.map_or(0.0, |source| encoding(spec, source, work, encoder))
}

/// The sources of a step: through the encoder, and to keys and values in every layer of the decoder.
fn encoding(spec: &ModelSpec, stack: StackSpec, work: Work, run: EncoderRun) -> f64 {
    let (n_row, n_layer) = (work.n_source_row as f64, stack.n_layer as f64);
    let decoder = spec.decoder();
    let keys = n_row * (2 * decoder.n_layer * spec.d_model * decoder.kv_width()) as f64;
    let forward = n_row * n_layer * block_numbers(spec, stack, false);
    let backward = forward - n_row * qkv_numbers(spec, stack);
    let attention = 4.0 * n_layer * work.n_source_key as f64 * query_width(stack);
    match run {
        EncoderRun::Kept => 2.0 * keys,
        EncoderRun::Forward => 2.0 * (keys + forward) + attention,
        EncoderRun::Trained => {
            2.0 * (2.0 * keys + forward + backward) + attention * (1.0 + ATTENTION_BACKWARD)
        }
    }
}

/// One token behind `n_key` others, forward.
pub fn decoding(spec: &ModelSpec, n_key: usize) -> f64 {
    let width = (spec.n_layer * spec.n_head * spec.head_dim) as f64;
    let block = block_numbers(spec, spec.decoder(), false);
    2.0 * (spec.n_layer as f64 * block + head_numbers(spec)) + 4.0 * n_key as f64 * width
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
        assert_eq!(block_numbers(spec, spec.decoder(), false), block as f64);
        let qkv = 64 * (64 + 2 * 32);
        let training =
            |spec: &ModelSpec, work| training(spec, work, &[PrefixPlace::Decoder], EncoderRun::Kept);
        let one_row = Work { n_row: 1, n_loss: 1, n_key: 1, n_loss_key: 1, ..Work::default() };
        let products = 4 * (5 * block + 512 * 64) - 2 * qkv;
        assert_eq!(training(spec, one_row) - products as f64, 4.0 * 5.0 * 64.0 * 3.5);
        // A further row without a target is not run through most of the last block.
        let two_rows = Work { n_row: 2, n_key: 1, ..one_row };
        let more = 4 * (4 * block + qkv) - 2 * qkv;
        assert_eq!(training(spec, two_rows) - training(spec, one_row), more as f64);
    }
    #[test]
    fn an_encoder_decoder_costs_what_the_matrices_of_both_sides_say() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/encoder_decoder/bart");
        let files = ModelFiles::open(folder).unwrap();
        let spec = files.spec();
        // d 30; 3 encoder layers with a feed-forward of 44, 2 decoder layers with one of 28; vocabulary 61. All heads of a
        // side together are as wide as the model.
        let (encoder, decoder) = (4 * 900 + 2 * 30 * 44, 6 * 900 + 2 * 30 * 28);
        let work = Work { n_row: 1, n_loss: 1, n_source_row: 1, ..Work::default() };
        let of = |places: &[PrefixPlace], run| training(spec, work, places, run) as usize;
        let head = 4 * 61 * 30;
        // Keys and values of two layers.
        let keys = 2 * 2 * 2 * 900;
        let kept = 2 * (2 * 2 * decoder - 3 * 900) + head + keys;
        assert_eq!(of(&[PrefixPlace::Decoder], EncoderRun::Kept), kept);
        assert_eq!(of(&[PrefixPlace::Decoder], EncoderRun::Forward), kept + 2 * 3 * encoder);
        assert_eq!(of(&[PrefixPlace::Cross], EncoderRun::Kept), kept - 2 * 2 * 900);
        let all = kept + keys + 2 * (2 * 3 * encoder - 3 * 900);
        assert_eq!(of(&PrefixPlace::ALL, EncoderRun::Trained), all);
        // A key more for a query of each kind, forward and backward, by the layers of its side.
        let more = |more: Work| training(spec, more, &PrefixPlace::ALL, EncoderRun::Trained) as usize - all;
        assert_eq!(more(Work { n_source_key: 1, ..work }), 14 * 3 * 30);
        assert_eq!(more(Work { n_cross_key: 1, n_loss_cross_key: 1, ..work }), 14 * 2 * 30);
    }
}

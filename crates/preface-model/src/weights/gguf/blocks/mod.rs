//! Quantised blocks of GGUF, one file for each family.
//!
//! Each function takes one stored block and writes its elements. The order of the floating-point operations is that of
//! the `gguf` Python package (`gguf/quants.py`, 0.19), so the results are bit-equal to its, which is what a model dequantised by
//! `transformers` holds: `tests/golden/gguf_types` proves it. Scales are IEEE halves, little endian; elements below 8
//! bits are packed low bits first.

pub(crate) mod iq4;
pub(crate) mod q2_k;
pub(crate) mod q3_k;
pub(crate) mod q4;
pub(crate) mod q4_k;
pub(crate) mod q5;
pub(crate) mod q5_k;
pub(crate) mod q6_k;
pub(crate) mod q8;

/// The half-precision number at byte `at` of a block.
fn half_at(block: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

//! `Q5_K`: `Q4_K` with a fifth bit for each element.
//!
//! Layout: d (f16), d_min (f16), 12 bytes of scales and minima, 32 bytes with the fifth bits (bit g of byte l for element
//! l of group g), 128 bytes of 4-bit numbers.

use preface_backend::blocks::half_at;
use preface_backend::blocks::q4_k::scales_and_mins;

/// Decodes one `Q5_K` block.
pub(crate) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, d_min) = (half_at(block, 0), half_at(block, 2));
    let (scales, mins) = scales_and_mins(&block[4..16]);
    let (high, quants) = (&block[16..48], &block[48..]);
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let scale = d * f32::from(scales[group]);
        let min = d_min * f32::from(mins[group]);
        let shift = 4 * (group % 2);
        for (i, out) in out.iter_mut().enumerate() {
            let low = (quants[32 * (group / 2) + i] >> shift) & 0x0f;
            let q = low | ((high[i] >> group) & 1) << 4;
            *out = scale * f32::from(q) - min;
        }
    }
}

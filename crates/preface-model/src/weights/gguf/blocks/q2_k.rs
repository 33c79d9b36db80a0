//! `Q2_K`: `x = (d * scale) * q - (d_min * min)`, a scale and a minimum of 4 bits for every 16 elements.
//!
//! Layout: 16 bytes (scale in the low, minimum in the high four bits), 64 bytes of 2-bit numbers, d (f16), d_min (f16).
//! Byte l of the half h holds the elements 128 h + 32 s + l at bits 2 s.

use preface_backend::blocks::half_at;

/// Decodes one `Q2_K` block.
pub(crate) fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (scales, quants) = (&block[..16], &block[16..80]);
    let (d, d_min) = (half_at(block, 80), half_at(block, 82));
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let scale = d * f32::from(scales[group] & 0x0f);
        let min = d_min * f32::from(scales[group] >> 4);
        let (half, in_half) = (group / 8, group % 8);
        let shift = 2 * (in_half / 2);
        let first = 32 * half + 16 * (in_half % 2);
        for (out, &byte) in out.iter_mut().zip(&quants[first..first + 16]) {
            *out = scale * f32::from((byte >> shift) & 3) - min;
        }
    }
}

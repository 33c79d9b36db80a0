//! `Q4_K`: `x = (d * scale) * q - (d_min * min)`, a scale and a minimum of 6 bits for every 32 elements.
//!
//! Layout: d (f16), d_min (f16), 12 bytes of scales and minima, 128 bytes of 4-bit numbers: bytes 32 k to 32 k + 31 hold
//! group 2 k in their low and group 2 k + 1 in their high four bits.

use super::half_at;

/// The 8 scales and 8 minima that `Q4_K` and `Q5_K` pack into 12 bytes.
///
/// The first four of each stand in the low 6 bits of bytes 0-3 and 4-7; the last four take their low 4 bits from bytes
/// 8-11 (scales low, minima high) and their high 2 bits from the top of bytes 0-3 and 4-7.
pub fn scales_and_mins(packed: &[u8]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for i in 0..4 {
        let (scale, min, both) = (packed[i], packed[4 + i], packed[8 + i]);
        scales[i] = scale & 0x3f;
        mins[i] = min & 0x3f;
        scales[4 + i] = (both & 0x0f) | ((scale >> 2) & 0x30);
        mins[4 + i] = (both >> 4) | ((min >> 2) & 0x30);
    }
    (scales, mins)
}

/// Decodes one `Q4_K` block.
pub fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, d_min) = (half_at(block, 0), half_at(block, 2));
    let (scales, mins) = scales_and_mins(&block[4..16]);
    let quants = &block[16..];
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let scale = d * f32::from(scales[group]);
        let min = d_min * f32::from(mins[group]);
        let shift = 4 * (group % 2);
        for (out, &byte) in out.iter_mut().zip(&quants[32 * (group / 2)..]) {
            *out = scale * f32::from((byte >> shift) & 0x0f) - min;
        }
    }
}

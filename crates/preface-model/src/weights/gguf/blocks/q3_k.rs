//! `Q3_K`: `x = (d * (scale - 32)) * q`, a scale of 6 bits for every 16 elements, q from -4 to 3.
//!
//! Layout: 32 bytes with the third bits (bit s of byte l for element 32 s + l; clear means 4 less), 64 bytes of 2-bit
//! numbers as in `Q2_K`, 12 bytes of scales, d (f16). Scale i has its low four bits in byte i % 8 (low half for i < 8)
//! and its high two bits in byte 8 + i % 4 at bit 2 (i / 4).

use preface_backend::blocks::half_at;

/// Decodes one `Q3_K` block.
pub(crate) fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let (high, quants, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let d = half_at(block, 108);
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let low_bits = (scales[group % 8] >> (4 * (group / 8))) & 0x0f;
        let high_bits = (scales[8 + group % 4] >> (2 * (group / 4))) & 3;
        let scale = d * f32::from((low_bits | high_bits << 4) as i8 - 32);
        let (half, in_half) = (group / 8, group % 8);
        let lane = 16 * (in_half % 2);
        for (i, out) in out.iter_mut().enumerate() {
            let low = (quants[32 * half + lane + i] >> (2 * (in_half / 2))) & 3;
            let high_is_clear = (high[lane + i] >> (group / 2)) & 1 ^ 1;
            *out = scale * f32::from(low as i8 - (high_is_clear << 2) as i8);
        }
    }
}

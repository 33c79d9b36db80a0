//! `Q6_K`: `x = (d * scale) * (q - 32)`, a signed scale of 8 bits for every 16 elements.
//!
//! Layout: 128 bytes with the low four bits, 64 bytes with the high two bits, 16 signed scales, d (f16). In each half of
//! 128 elements, element r has its low bits in byte r % 64 (low half for r < 64) and its high bits in byte r % 32 at
//! bit 2 (r / 32).

use super::half_at;

/// Decodes one `Q6_K` block.
pub fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half_at(block, 208);
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let scale = d * f32::from(scales[group] as i8);
        let half = group / 8;
        for (i, out) in out.iter_mut().enumerate() {
            let r = 16 * (group % 8) + i;
            let low = (low[64 * half + r % 64] >> (4 * (r / 64))) & 0x0f;
            let high = (high[32 * half + r % 32] >> (2 * (r / 32))) & 3;
            *out = scale * f32::from((low | high << 4) as i8 - 32);
        }
    }
}

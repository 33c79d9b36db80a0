//! `Q8_0`: `x = d * q`. Layout: d (f16), 32 signed bytes.

use super::half_at;

/// Decodes one `Q8_0` block.
pub fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (out, &q) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(q as i8) * d;
    }
}

//! `Q4_0`: `x = d * (q - 8)`; `Q4_1`: `x = d * q + m`.
//!
//! Layout: d (f16), for `Q4_1` also m (f16), 16 bytes. Byte i holds element i in its low and element i + 16 in its high
//! four bits.

use super::half_at;

/// Decodes one `Q4_0` block.
pub fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (i, &byte) in block[2..].iter().enumerate() {
        out[i] = d * f32::from((byte & 0x0f) as i8 - 8);
        out[i + 16] = d * f32::from((byte >> 4) as i8 - 8);
    }
}

/// Decodes one `Q4_1` block.
pub fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (i, &byte) in block[4..].iter().enumerate() {
        out[i] = d * f32::from(byte & 0x0f) + m;
        out[i + 16] = d * f32::from(byte >> 4) + m;
    }
}

//! `Q5_0`: `x = d * (q - 16)`; `Q5_1`: `x = d * q + m`.
//!
//! Layout: d (f16), for `Q5_1` also m (f16), the fifth bits (u32, bit i for element i), 16 bytes with the low four bits
//! as in `Q4_0`.

use super::half_at;

/// The 32 five-bit numbers of `high` (4 bytes) and `low` (16 bytes).
fn five_bits(high: &[u8], low: &[u8]) -> [u8; 32] {
    let high = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    std::array::from_fn(|i| {
        let low = if i < 16 { low[i] & 0x0f } else { low[i - 16] >> 4 };
        low | (((high >> i) & 1) as u8) << 4
    })
}

/// Decodes one `Q5_0` block.
pub fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (out, q) in out.iter_mut().zip(five_bits(&block[2..6], &block[6..])) {
        *out = d * f32::from(q as i8 - 16);
    }
}

/// Decodes one `Q5_1` block.
pub fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (out, q) in out.iter_mut().zip(five_bits(&block[4..8], &block[8..])) {
        *out = d * f32::from(q) + m;
    }
}

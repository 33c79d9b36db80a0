//! `IQ4_NL`: `x = d * table[q]`; `IQ4_XS`: `x = (d * (scale - 32)) * table[q]` with a scale of 6 bits for every 32 elements.
//!
//! Layout of `IQ4_NL`: d (f16), 16 bytes packed as in `Q4_0`. Layout of `IQ4_XS`: d (f16), the high two bits of the 8
//! scales (u16), their low four bits (4 bytes), 128 bytes: 8 groups of 16 bytes packed as in `Q4_0`.

use preface_backend::blocks::half_at;

/// The 16 levels, denser around zero than equal steps would be.
const TABLE: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Decodes 16 bytes of indices under one scale.
fn look_up(scale: f32, bytes: &[u8], out: &mut [f32]) {
    for (i, &byte) in bytes.iter().enumerate() {
        out[i] = scale * f32::from(TABLE[usize::from(byte & 0x0f)]);
        out[i + 16] = scale * f32::from(TABLE[usize::from(byte >> 4)]);
    }
}

/// Decodes one `IQ4_NL` block.
pub(crate) fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    look_up(half_at(block, 0), &block[2..], out);
}

/// Decodes one `IQ4_XS` block.
pub(crate) fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    let high = u16::from_le_bytes([block[2], block[3]]);
    let (low, quants) = (&block[4..8], &block[8..]);
    for (group, (bytes, out)) in quants.chunks_exact(16).zip(out.chunks_exact_mut(32)).enumerate() {
        let low = (low[group / 2] >> (4 * (group % 2))) & 0x0f;
        let high = ((high >> (2 * group)) & 3) as u8;
        look_up(d * f32::from((low | high << 4) as i8 - 32), bytes, out);
    }
}

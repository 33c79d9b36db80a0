//! How the elements of a stored tensor are encoded, and how they become `f32`.
//!
//! A tensor is a row of equal blocks: `block_len` elements take `block_bytes` bytes. For plain floats a block is one
//! element; for the quantised types of GGUF it is 32 or 256 elements with their scales. Every size in a weight file
//! follows from these two numbers, so they stand here once and the readers check files against them.

use std::fmt;

use preface_backend::blocks::{self as kept, BlockFormat, each_block};

use crate::weights::gguf::blocks;

/// Element type of a stored tensor.
///
/// Everything but [`Dtype::Other`] decodes to `f32`. The values are bit-equal to those of the `gguf` Python package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "the names that the formats themselves use")]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an IEEE single.
    BF16,
    /// 32 signed bytes, one scale.
    Q8_0,
    /// 32 elements of 4 bits, one scale.
    Q4_0,
    /// 32 elements of 4 bits, scale and minimum.
    Q4_1,
    /// 32 elements of 5 bits, one scale.
    Q5_0,
    /// 32 elements of 5 bits, scale and minimum.
    Q5_1,
    /// 256 elements of 2 bits, 16 scales and minima of 4 bits.
    Q2_K,
    /// 256 elements of 3 bits, 16 scales of 6 bits.
    Q3_K,
    /// 256 elements of 4 bits, 8 scales and minima of 6 bits.
    Q4_K,
    /// 256 elements of 5 bits, 8 scales and minima of 6 bits.
    Q5_K,
    /// 256 elements of 6 bits, 16 scales of 8 bits.
    Q6_K,
    /// 32 indices of 4 bits into a fixed table, one scale.
    IQ4_NL,
    /// 256 indices of 4 bits into the same table, 8 scales of 6 bits.
    IQ4_XS,
    /// A type that no weight of ours has (integers, booleans, 8-bit floats). Checkpoints carry such tensors beside their
    /// weights (position ids, causal masks): they are sized and listed, but not decoded.
    Other(safetensors::Dtype),
}

impl Dtype {
    /// The types that decode, for messages.
    pub const DECODABLE: &'static str =
        "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS";

    /// Elements in a block.
    pub fn block_len(self) -> usize {
        use Dtype::*;
        match self {
            F32 | F16 | BF16 | Other(_) => 1,
            Q8_0 | Q4_0 | Q4_1 | Q5_0 | Q5_1 | IQ4_NL => 32,
            Q2_K | Q3_K | Q4_K | Q5_K | Q6_K | IQ4_XS => 256,
        }
    }

    /// Bits in a block. In bits, because [`Dtype::Other`] includes types below one byte.
    fn block_bits(self) -> usize {
        use Dtype::*;
        8 * match self {
            F32 => 4,
            F16 | BF16 => 2,
            Q8_0 => 34,
            Q4_0 | IQ4_NL => 18,
            Q4_1 => 20,
            Q5_0 => 22,
            Q5_1 => 24,
            Q2_K => 84,
            Q3_K => 110,
            Q4_K => 144,
            Q5_K => 176,
            Q6_K => 210,
            IQ4_XS => 136,
            Other(dtype) => return dtype.bitsize(),
        }
    }

    /// Bytes that `n_elements` take, or `None` if they are no whole number of blocks or bytes, or the number overflows.
    pub fn n_bytes(self, n_elements: usize) -> Option<usize> {
        if !n_elements.is_multiple_of(self.block_len()) {
            return None;
        }
        let bits = (n_elements / self.block_len()).checked_mul(self.block_bits())?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// Whether values of this type decode to `f32`.
    pub fn is_decodable(self) -> bool {
        !matches!(self, Dtype::Other(_))
    }

    /// The format of blocks that a backend may keep as they are, none for other types.
    pub fn block_format(self) -> Option<BlockFormat> {
        use Dtype::*;
        match self {
            Q4_0 => Some(BlockFormat::Q4_0),
            Q4_1 => Some(BlockFormat::Q4_1),
            Q5_0 => Some(BlockFormat::Q5_0),
            Q8_0 => Some(BlockFormat::Q8_0),
            Q4_K => Some(BlockFormat::Q4_K),
            Q6_K => Some(BlockFormat::Q6_K),
            F32 | F16 | BF16 | Q5_1 | Q2_K | Q3_K | Q5_K | IQ4_NL | IQ4_XS | Other(_) => None,
        }
    }

    /// Decodes whole blocks: `bytes` must hold exactly `out.len()` elements.
    ///
    /// # Panics
    /// If the lengths do not belong together, or the type is not decodable: readers check both when a file is opened.
    pub(crate) fn decode(self, bytes: &[u8], out: &mut [f32]) {
        use Dtype::*;
        assert_eq!(
            Some(bytes.len()),
            self.n_bytes(out.len()),
            "{self}: bytes do not hold {} elements",
            out.len()
        );
        match self {
            F32 => each_block(bytes, out, |b, o: &mut [f32; 1]| o[0] = f32::from_le_bytes(*b)),
            F16 => each_block(bytes, out, |b, o: &mut [f32; 1]| o[0] = half::f16::from_le_bytes(*b).to_f32()),
            BF16 => {
                each_block(bytes, out, |b, o: &mut [f32; 1]| o[0] = half::bf16::from_le_bytes(*b).to_f32())
            }
            Q8_0 => each_block(bytes, out, kept::q8::q8_0),
            Q4_0 => each_block(bytes, out, kept::q4::q4_0),
            Q4_1 => each_block(bytes, out, kept::q4::q4_1),
            Q5_0 => each_block(bytes, out, kept::q5::q5_0),
            Q5_1 => each_block(bytes, out, kept::q5::q5_1),
            Q2_K => each_block(bytes, out, blocks::q2_k::q2_k),
            Q3_K => each_block(bytes, out, blocks::q3_k::q3_k),
            Q4_K => each_block(bytes, out, kept::q4_k::q4_k),
            Q5_K => each_block(bytes, out, blocks::q5_k::q5_k),
            Q6_K => each_block(bytes, out, kept::q6_k::q6_k),
            IQ4_NL => each_block(bytes, out, blocks::iq4::iq4_nl),
            IQ4_XS => each_block(bytes, out, blocks::iq4::iq4_xs),
            Other(dtype) => panic!("{dtype} is never decoded: `read` refuses it"),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dtype::Other(dtype) => write!(f, "{dtype}"),
            known => write!(f, "{known:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_no_whole_number_of_blocks_has_no_size() {
        assert_eq!(Dtype::Q4_K.n_bytes(512), Some(288));
        assert_eq!(Dtype::Q4_K.n_bytes(0), Some(0));
        assert_eq!(Dtype::Q4_K.n_bytes(511), None);
        assert_eq!(Dtype::Q8_0.n_bytes(33), None);
    }

    #[test]
    fn a_size_that_overflows_is_none() {
        assert_eq!(Dtype::F32.n_bytes(usize::MAX), None);
        assert_eq!(Dtype::Q8_0.n_bytes(usize::MAX - 31), None);
    }

    #[test]
    fn floats_decode_from_little_endian() {
        let mut out = [0.0; 2];
        Dtype::F16.decode(&[0x00, 0x3c, 0x00, 0xc0], &mut out);
        assert_eq!(out, [1.0, -2.0]);
        Dtype::BF16.decode(&[0x80, 0x3f, 0x00, 0xc0], &mut out);
        assert_eq!(out, [1.0, -2.0]);
    }
}

//! Quantised blocks as GGUF files store them: the formats that a backend may keep as they are.
//!
//! A row is a whole number of blocks, one after the other; a block holds its elements as small integers and what turns
//! them into numbers, a scale (and a minimum) as IEEE halves, little endian, elements below 8 bits packed low bits first.
//! The order of the floating-point operations is that of the `gguf` Python package (`gguf/quants.py`, 0.19), so decoded
//! values are bit-equal to its, which is what a model dequantised by `transformers` holds.

pub mod q4;
pub mod q4_k;
pub mod q5;
pub mod q6_k;
pub mod q8;
mod quantise;

/// A format of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(non_camel_case_types, reason = "the names that the format itself uses")]
pub enum BlockFormat {
    /// 32 elements of 4 bits, one scale.
    Q4_0,
    /// 32 elements of 4 bits, scale and minimum.
    Q4_1,
    /// 32 elements of 5 bits, one scale.
    Q5_0,
    /// 32 signed bytes, one scale.
    Q8_0,
    /// 256 elements of 4 bits, 8 scales and minima of 6 bits.
    Q4_K,
    /// 256 elements of 6 bits, 16 scales of 8 bits.
    Q6_K,
}

impl BlockFormat {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Q4_0, Self::Q4_1, Self::Q5_0, Self::Q8_0, Self::Q4_K, Self::Q6_K];

    /// Elements of a block.
    pub fn block_len(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q8_0 => 32,
            Self::Q4_K | Self::Q6_K => 256,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q8_0 => 34,
            Self::Q4_K => 144,
            Self::Q6_K => 210,
        }
    }

    /// Decodes whole blocks.
    ///
    /// # Panics
    /// If `bytes` does not hold exactly `out.len()` elements.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::Q4_0 => each_block(bytes, out, q4::q4_0),
            Self::Q4_1 => each_block(bytes, out, q4::q4_1),
            Self::Q5_0 => each_block(bytes, out, q5::q5_0),
            Self::Q8_0 => each_block(bytes, out, q8::q8_0),
            Self::Q4_K => each_block(bytes, out, q4_k::q4_k),
            Self::Q6_K => each_block(bytes, out, q6_k::q6_k),
        }
    }
}

/// A matrix in blocks, on its way into a [`crate::Backend::Weight`].
#[derive(Clone, Debug)]
pub struct BlockMatrix {
    format: BlockFormat,
    n_row: usize,
    n_column: usize,
    bytes: Vec<u8>,
}

impl BlockMatrix {
    /// `[n_row, n_column]` from the bytes of its rows.
    ///
    /// # Panics
    /// If a row is not a whole number of blocks, or `bytes` not as many rows.
    pub fn new(format: BlockFormat, n_row: usize, n_column: usize, bytes: Vec<u8>) -> Self {
        assert!(n_column.is_multiple_of(format.block_len()), "{format:?}: rows of {n_column} elements");
        let row_bytes = n_column / format.block_len() * format.block_bytes();
        assert_eq!(bytes.len(), n_row * row_bytes, "{format:?}: bytes of {n_row} rows of {n_column}");
        Self { format, n_row, n_column, bytes }
    }

    /// A matrix of which only format and shape are known, for [`crate::Counting`].
    pub fn outline(format: BlockFormat, n_row: usize, n_column: usize) -> Self {
        Self { format, n_row, n_column, bytes: Vec::new() }
    }

    /// Bytes of all blocks.
    pub fn n_byte(&self) -> usize {
        self.n_row * (self.n_column / self.format.block_len()) * self.format.block_bytes()
    }

    /// `values` as `Q8_0` or `Q4_0`, the formats that are made here, rounded as `gguf` rounds.
    ///
    /// # Panics
    /// For another format; if a row is not a whole number of blocks.
    pub fn quantise(format: BlockFormat, matrix: &crate::HostMatrix) -> Self {
        let bytes = match format {
            BlockFormat::Q8_0 => quantise::q8_0(&matrix.values),
            BlockFormat::Q4_0 => quantise::q4_0(&matrix.values),
            other => panic!("{other:?} is read, not made"),
        };
        Self::new(format, matrix.n_row, matrix.n_column, bytes)
    }

    /// How the elements are stored.
    pub fn format(&self) -> BlockFormat {
        self.format
    }

    /// Output features.
    pub fn n_row(&self) -> usize {
        self.n_row
    }

    /// Input features.
    pub fn n_column(&self) -> usize {
        self.n_column
    }

    /// The blocks of one row.
    pub fn row(&self, row: usize) -> &[u8] {
        let n = self.n_column / self.format.block_len() * self.format.block_bytes();
        &self.bytes[row * n..(row + 1) * n]
    }

    /// The rows in another order: row `i` of the result is row `order(i)`.
    #[must_use]
    pub fn reordered(&self, order: impl Fn(usize) -> usize) -> Self {
        let bytes = (0..self.n_row).flat_map(|row| self.row(order(row))).copied().collect();
        Self { bytes, ..*self }
    }

    /// All values, row-major.
    pub fn decode(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.n_row * self.n_column];
        self.format.decode(&self.bytes, &mut values);
        values
    }
}

/// Runs `decode` over the blocks of `BYTES` bytes and `LEN` elements.
///
/// # Panics
/// If `bytes` does not hold exactly the elements of `out`.
pub fn each_block<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    let (blocks, rest) = bytes.as_chunks::<BYTES>();
    let (outs, out_rest) = out.as_chunks_mut::<LEN>();
    assert!(rest.is_empty() && out_rest.is_empty() && blocks.len() == outs.len());
    for (block, out) in blocks.iter().zip(outs) {
        decode(block, out);
    }
}

/// The half-precision number at byte `at` of a block.
pub fn half_at(block: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

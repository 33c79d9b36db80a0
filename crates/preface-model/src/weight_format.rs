//! How a model's matrices are kept, which need not be how its file stores them.

use preface_backend::{BlockFormat, BlockMatrix, HostMatrix, WeightPart};

use crate::weights::{StoredTensor, TensorSource, Weights};

/// How the weights are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightFormat {
    /// As the file stores them: quantised blocks that the backend knows as they are, everything else in the backend's
    /// precision.
    #[default]
    Auto,
    /// Rounded to bf16.
    Bf16,
    /// A byte for each number and a scale for each 32 (`Q8_0`), where rows divide by 32.
    Int8,
    /// The file's own blocks of 4 bits; what it has in no 4-bit blocks at all becomes `Q4_0`, if the file has none.
    Q4,
}

impl WeightFormat {
    /// Names, for settings.
    pub const NAMES: [&str; 4] = ["auto", "bf16", "int8", "q4"];

    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "bf16" => Some(Self::Bf16),
            "int8" => Some(Self::Int8),
            "q4" => Some(Self::Q4),
            _ => None,
        }
    }
}

/// What becomes of a matrix of the file.
#[derive(Clone, Copy)]
pub(crate) struct Keep {
    format: WeightFormat,
    /// Whether `Q4_0` has to be made, because the file has no 4-bit blocks.
    make_q4: bool,
}

impl Keep {
    pub fn new(format: WeightFormat, weights: &Weights) -> Self {
        let mut formats =
            weights.names().into_iter().filter_map(|name| weights.info(name)?.dtype().block_format());
        let four_bits = [BlockFormat::Q4_0, BlockFormat::Q4_1, BlockFormat::Q4_K];
        Self { format, make_q4: format == WeightFormat::Q4 && !formats.any(|f| four_bits.contains(&f)) }
    }

    /// A matrix that is used as it is stored.
    pub fn stored(self, tensor: StoredTensor, n_row: usize, n_column: usize) -> WeightPart {
        match tensor.info().dtype().block_format() {
            Some(format) if self.keeps(format) => {
                WeightPart::Blocks(BlockMatrix::new(format, n_row, n_column, tensor.into_bytes()))
            }
            _ => self.values(HostMatrix { n_row, n_column, values: tensor.to_f32() }),
        }
    }

    /// A matrix that was decoded, because its elements had to be put in another order.
    pub fn values(self, mut matrix: HostMatrix) -> WeightPart {
        if let Some(format) = self.made(matrix.n_column) {
            return WeightPart::Blocks(BlockMatrix::quantise(format, &matrix));
        }
        if self.format == WeightFormat::Bf16 {
            matrix.values.iter_mut().for_each(|value| *value = half::bf16::from_f32(*value).to_f32());
        }
        WeightPart::Values(matrix)
    }

    /// The same without numbers; `stored` tells the blocks that it is stored in, if it is.
    pub fn outline(self, stored: Option<BlockFormat>, n_row: usize, n_column: usize) -> WeightPart {
        match stored.filter(|format| self.keeps(*format)).or_else(|| self.made(n_column)) {
            Some(format) => WeightPart::Blocks(BlockMatrix::outline(format, n_row, n_column)),
            None => WeightPart::Values(HostMatrix { n_row, n_column, values: Vec::new() }),
        }
    }

    /// Whether blocks of the file stay.
    fn keeps(self, format: BlockFormat) -> bool {
        match self.format {
            WeightFormat::Auto => true,
            WeightFormat::Q4 => !self.make_q4,
            // Decoding and quantising again would only lose.
            WeightFormat::Int8 => format == BlockFormat::Q8_0,
            WeightFormat::Bf16 => false,
        }
    }

    /// What rows of so many numbers are quantised to.
    fn made(self, n_column: usize) -> Option<BlockFormat> {
        let format = match self.format {
            WeightFormat::Int8 => Some(BlockFormat::Q8_0),
            WeightFormat::Q4 if self.make_q4 => Some(BlockFormat::Q4_0),
            WeightFormat::Auto | WeightFormat::Q4 | WeightFormat::Bf16 => None,
        };
        format.filter(|format| n_column.is_multiple_of(format.block_len()))
    }
}

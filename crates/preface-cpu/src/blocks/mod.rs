//! Quantised weights, kept as the numbers that their file has.
//!
//! The bits are those of the file's blocks; only their order is ours. Sixteen rows (a *group*) lie interleaved, so that a
//! vector holds four neighbouring elements of each of sixteen rows: one instruction multiplies them with four elements of
//! an activation and adds them to sixteen sums, and none has to be added up across lanes. Within a block of a group stand
//! the scales of all rows, then the elements, step by step ([`STEP`] elements of each row); see [`layout`].
//!
//! - [`dots`]: up to [`crate::product::THIN_ROWS`] rows, as in generation, with activations in eight bits.
//! - [`panel`]: more rows, or exact products: elements are decoded into the panels of [`crate::product`].

pub mod dots;
mod interleave;
mod layout;
pub mod panel;
#[cfg(test)]
mod tests;
mod tile;

use std::ops::Range;

use half::bf16;
use preface_backend::{BlockFormat, BlockMatrix};

use crate::memory::WeightMemory;
use crate::storage::{Aligned, View};
use tile::Tile;

/// Rows that lie interleaved.
pub const GROUP: usize = 16;
/// Elements of a row that are decoded together.
pub const STEP: usize = 32;

/// Some output features of a weight of which not all are stored as plain numbers.
pub struct Part {
    /// The features' numbers in the weight.
    pub rows: Range<usize>,
    pub store: Store,
}

/// How a part's numbers are stored.
pub enum Store {
    F32(Aligned<f32>),
    Bf16(Aligned<bf16>),
    Blocks(Packed),
}

/// A matrix in blocks, rows interleaved. Rows that fill up the last group are zeros.
pub struct Packed {
    format: BlockFormat,
    n_in: usize,
    bytes: Aligned<u8>,
}

impl Packed {
    pub fn new(matrix: &BlockMatrix, memory: Option<&WeightMemory>) -> Self {
        let (format, n_in) = (matrix.format(), matrix.n_column());
        let group_bytes = n_in / format.block_len() * layout::block_bytes(format);
        let mut bytes = Aligned::zeroed(matrix.n_row().div_ceil(GROUP) * group_bytes, memory);
        if group_bytes > 0 {
            for (group, to) in bytes.chunks_exact_mut(group_bytes).enumerate() {
                let first = group * GROUP;
                for row in first..matrix.n_row().min(first + GROUP) {
                    interleave::row(format, matrix.row(row), row - first, to);
                }
            }
        }
        Self { format, n_in, bytes }
    }

    fn group_bytes(&self) -> usize {
        self.n_in / self.format.block_len() * layout::block_bytes(self.format)
    }

    fn group(&self, group: usize) -> &[u8] {
        &self.bytes[group * self.group_bytes()..(group + 1) * self.group_bytes()]
    }
}

impl Part {
    /// Bytes of the numbers.
    pub fn bytes(&self) -> usize {
        match &self.store {
            Store::F32(values) => size_of_val::<[_]>(values),
            Store::Bf16(values) => size_of_val::<[_]>(values),
            Store::Blocks(packed) => packed.bytes.len(),
        }
    }

    /// The blocks, if it has some.
    pub fn blocks(&self) -> Option<&Packed> {
        match &self.store {
            Store::Blocks(packed) => Some(packed),
            Store::F32(_) | Store::Bf16(_) => None,
        }
    }

    /// [`STEP`] elements of each row of a group. Rows beyond the last give zeros.
    #[inline(always)]
    fn tile<S: crate::simd::Simd>(
        &self,
        simd: S,
        n_in: usize,
        group: usize,
        step: usize,
        words: Range<usize>,
        to: &mut Tile,
    ) {
        let floats = match &self.store {
            Store::Blocks(packed) => {
                let (format, group) = (packed.format, packed.group(group));
                return simd.enter(tile::Decode { format, group, step, words, to });
            }
            Store::F32(values) => View::F32(values),
            Store::Bf16(values) => View::Bf16(values),
        };
        // Plain numbers beside blocks: rare, so simple.
        to.0.fill(0.0);
        let first = group * GROUP;
        for lane in 0..GROUP.min(self.rows.len() - first) {
            let start = (first + lane) * n_in + step * STEP;
            let mut row = [0.0; STEP];
            floats.slice(start..start + STEP).read(simd, &mut row);
            row.into_iter().enumerate().for_each(|(k, value)| to.0[k * GROUP + lane] = value);
        }
    }

    /// All elements of one row, counted from the part's first.
    #[inline(always)]
    pub fn row<S: crate::simd::Simd>(&self, simd: S, row: usize, to: &mut [f32]) {
        let mut tile = Tile([0.0; STEP * GROUP]);
        let (n_in, group, lane) = (to.len(), row / GROUP, row % GROUP);
        for (step, to) in to.chunks_exact_mut(STEP).enumerate() {
            self.tile(simd, n_in, group, step, 0..8, &mut tile);
            to.iter_mut().enumerate().for_each(|(k, to)| *to = tile.0[k * GROUP + lane]);
        }
    }
}

/// The part that holds a row of the weight.
pub fn part_of(parts: &[Part], row: usize) -> &Part {
    let number = parts.partition_point(|part| part.rows.end <= row);
    &parts[number]
}

//! Matrix products of rows and weights, the one place where they are computed.
//!
//! `tile[i, j] = sum over factors of sum_k x[i, k] B[k, j]`, with `B` a piece of a stored weight or of its transpose.
//! Each element is one sum over `k` in an order that the shape alone decides, so results do not depend on how rows
//! and columns are divided among threads.

use std::ops::Range;

use gemmkit::{MatMut, MatRef, Parallelism};
use preface_backend::Direction;

use crate::simd::Simd;
use crate::storage::{CpuWeight, View};

/// One product of a sum.
#[derive(Clone)]
pub struct Factors<'a> {
    /// Left factor, row-major.
    pub x: View<'a>,
    /// Elements from one row of `x` to the next.
    pub x_stride: usize,
    /// The weight.
    pub weight: &'a CpuWeight,
    /// Which way it is used.
    pub direction: Direction,
    /// The weight's features that the columns of `x` are multiplied with.
    pub depth: Range<usize>,
}

/// Floats of memory that [`product`] needs for `n_row` rows and `width` columns.
pub fn memory(factors: &[Factors<'_>], n_row: usize, width: usize) -> usize {
    let depth = factors.iter().map(|f| f.depth.len()).max().unwrap_or(0);
    n_row * width + n_row * depth + width * depth
}

/// Computes the columns `pieces` of the product, side by side, for `rows`, and hands the tile to `each`:
/// `each(first_row, tile)`, rows of the sum of all pieces' lengths.
#[inline(always)]
pub fn product<S: Simd>(
    simd: S,
    factors: &[Factors<'_>],
    rows: Range<usize>,
    pieces: &[Range<usize>],
    memory: &mut [f32],
    mut each: impl FnMut(usize, &mut [f32]),
) {
    let width: usize = pieces.iter().map(ExactSizeIterator::len).sum();
    let (tile, memory) = memory.split_at_mut(rows.len() * width);
    for (number, factors) in factors.iter().enumerate() {
        let depth = factors.depth.len();
        let (x_wide, w_wide) = memory.split_at_mut(rows.len() * depth);
        let x = match factors.x {
            View::F32(x) => MatRef::new(
                &x[rows.start * factors.x_stride..],
                rows.len(),
                depth,
                factors.x_stride as isize,
                1,
            ),
            View::Bf16(_) => {
                for (row, wide) in rows.clone().zip(x_wide.chunks_exact_mut(depth.max(1))) {
                    let start = row * factors.x_stride;
                    factors.x.slice(start..start + depth).read(simd, wide);
                }
                MatRef::from_row_major(x_wide, rows.len(), depth)
            }
        };
        let mut column = 0;
        for piece in pieces {
            let n = piece.len();
            let (outs, inputs) = match factors.direction {
                Direction::Plain => (piece.clone(), factors.depth.clone()),
                Direction::Transposed => (factors.depth.clone(), piece.clone()),
            };
            let wide = &mut w_wide[..n * depth];
            for (out, wide) in outs.zip(wide.chunks_exact_mut(inputs.len().max(1))) {
                factors.weight.part(out, inputs.clone()).read(simd, wide);
            }
            let b = match factors.direction {
                Direction::Plain => MatRef::from_col_major(wide, depth, n),
                Direction::Transposed => MatRef::from_row_major(wide, depth, n),
            };
            let c = MatMut::new(&mut tile[column..], rows.len(), n, width as isize, 1);
            gemmkit::gemm(1.0, x, b, if number == 0 { 0.0 } else { 1.0 }, c, Parallelism::Serial);
            column += n;
        }
    }
    each(rows.start, tile);
}

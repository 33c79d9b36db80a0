//! Small `f32` products over scratch memory: attention's.
//!
//! `out[i, j] (+)= sum_k left[i, k] right[k, j]`. The left factor may be read along either axis, so that `A B` and
//! `A^T B` are one function. Six rows by [`Simd::TILE_VECTORS`] vectors of sums stay in registers; a right factor of
//! some ten thousand elements stays in the first-level cache.

use crate::simd::Simd;

/// Element `(i, k)` is `data[i * row + k * step]`.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub step: usize,
}

/// Element `(k, j)` is `data[k * row + j]`.
#[derive(Clone, Copy)]
pub struct Right<'a> {
    pub data: &'a [f32],
    pub row: usize,
}

/// Element `(i, j)` is `data[i * row + j]`.
pub struct Out<'a> {
    pub data: &'a mut [f32],
    pub row: usize,
}

/// `m`, `n`, `k`. `n` is a multiple of the lanes.
#[derive(Clone, Copy)]
pub struct Size {
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
}

/// Rows of a register tile.
const TILE_ROWS: usize = 6;

/// Computes the product, or adds it to `out`.
#[inline(always)]
pub fn multiply<S: Simd>(simd: S, size: Size, left: Left<'_>, right: Right<'_>, out: Out<'_>, add: bool) {
    let Size { rows: m, columns: n, depth: k } = size;
    assert_eq!(n % S::LANES, 0);
    if m == 0 || n == 0 {
        return;
    }
    assert!(out.data.len() >= (m - 1) * out.row + n);
    if k > 0 {
        assert!(left.data.len() > (m - 1) * left.row + (k - 1) * left.step);
        assert!(right.data.len() >= (k - 1) * right.row + n);
    }
    let mut column = 0;
    while column < n {
        let vectors = ((n - column) / S::LANES).min(S::TILE_VECTORS);
        let mut row = 0;
        while row < m {
            let rows = (m - row).min(TILE_ROWS);
            // SAFETY: a tile's rows and columns lie inside `m` and `n`, and the asserts above cover the last element
            // of each factor and of `out` for these.
            unsafe {
                let tile = Tile {
                    left: left.data.as_ptr().add(row * left.row),
                    left_row: left.row,
                    left_step: left.step,
                    right: right.data.as_ptr().add(column),
                    right_row: right.row,
                    out: out.data.as_mut_ptr().add(row * out.row + column),
                    out_row: out.row,
                    depth: k,
                    add,
                };
                match rows {
                    6 => tile.columns::<S, 6>(simd, vectors),
                    5 => tile.columns::<S, 5>(simd, vectors),
                    4 => tile.columns::<S, 4>(simd, vectors),
                    3 => tile.columns::<S, 3>(simd, vectors),
                    2 => tile.columns::<S, 2>(simd, vectors),
                    _ => tile.columns::<S, 1>(simd, vectors),
                }
            }
            row += rows;
        }
        column += vectors * S::LANES;
    }
}

struct Tile {
    left: *const f32,
    left_row: usize,
    left_step: usize,
    right: *const f32,
    right_row: usize,
    out: *mut f32,
    out_row: usize,
    depth: usize,
    add: bool,
}

impl Tile {
    /// # Safety
    /// The tile of `M` rows and `vectors` vectors lies inside the matrices.
    #[inline(always)]
    unsafe fn columns<S: Simd, const M: usize>(self, simd: S, vectors: usize) {
        // SAFETY: as the caller promises.
        unsafe {
            match vectors {
                4 => self.compute::<S, M, 4>(simd),
                3 => self.compute::<S, M, 3>(simd),
                2 => self.compute::<S, M, 2>(simd),
                _ => self.compute::<S, M, 1>(simd),
            }
        }
    }

    /// # Safety
    /// The tile of `M` rows and `V` vectors lies inside the matrices.
    #[inline(always)]
    unsafe fn compute<S: Simd, const M: usize, const V: usize>(self, simd: S) {
        // SAFETY: all offsets are of elements of the tile, of its rows of `left` and of its columns of `right`, which
        // the caller promises to lie inside.
        unsafe {
            let mut sums = [[simd.splat(0.0); V]; M];
            if self.add {
                for (i, sums) in sums.iter_mut().enumerate() {
                    for (v, sum) in sums.iter_mut().enumerate() {
                        *sum = simd.load_at(self.out.add(i * self.out_row + v * S::LANES));
                    }
                }
            }
            for k in 0..self.depth {
                let mut right = [simd.splat(0.0); V];
                for (v, right) in right.iter_mut().enumerate() {
                    *right = simd.load_at(self.right.add(k * self.right_row + v * S::LANES));
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let left = simd.splat(*self.left.add(i * self.left_row + k * self.left_step));
                    for (sum, right) in sums.iter_mut().zip(right) {
                        *sum = simd.mul_add(left, right, *sum);
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    simd.store_at(*sum, self.out.add(i * self.out_row + v * S::LANES));
                }
            }
        }
    }
}

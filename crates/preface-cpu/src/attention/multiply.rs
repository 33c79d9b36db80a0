//! Products over scratch memory, of `f32` or of pairs of bf16: `out[i, j] (+)= sum_w left[i, w] right[w, j]` over words.
//!
//! The left factor is rows of words. The right one is *bundles*: word `w` of column `j` stands beside that of column
//! `j + 1`, so for pairs two rows of numbers are interleaved. Bundles lie row by row, or cut into panels of
//! [`Simd::TILE_COLUMNS`] columns, whose words follow each other in memory.

use crate::simd::{ComputeTile, Simd, TILE_ROWS, Tile, Words};

/// Word `w` of row `i` is `words[i * row + w]`.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    pub words: &'a [u32],
    pub row: usize,
}

/// Word `w` of column `j` is `words[j / TILE_COLUMNS * panel + w * step + j % TILE_COLUMNS]`.
#[derive(Clone, Copy)]
pub struct Right<'a> {
    pub words: &'a [u32],
    pub step: usize,
    pub panel: usize,
}

impl<'a> Right<'a> {
    /// Rows that are `step` words apart.
    pub fn rows<S: Simd>(words: &'a [u32], step: usize) -> Self {
        Self { words, step, panel: S::TILE_COLUMNS }
    }

    /// Panels of `depth` words for each column.
    pub fn panels<S: Simd>(words: &'a [u32], depth: usize) -> Self {
        Self { words, step: S::TILE_COLUMNS, panel: depth * S::TILE_COLUMNS }
    }
}

/// Sum `(i, j)` is `sums[i * row + j]`.
pub struct Out<'a> {
    pub sums: &'a mut [f32],
    pub row: usize,
}

/// Rows, columns (whole vectors) and words to sum over.
#[derive(Clone, Copy)]
pub struct Size {
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
}

/// Computes the product, or adds it to `out`.
#[inline(always)]
pub fn multiply<S: Simd>(
    simd: S,
    words: Words,
    size: Size,
    left: Left<'_>,
    right: Right<'_>,
    out: Out<'_>,
    add: bool,
) {
    let Size { rows: n_row, columns: n_column, depth } = size;
    assert!(n_column.is_multiple_of(S::LANES));
    if n_row == 0 || n_column == 0 {
        return;
    }
    let last = (n_column - 1) / S::TILE_COLUMNS;
    assert!(out.sums.len() >= (n_row - 1) * out.row + n_column);
    if depth > 0 {
        assert!(left.words.len() >= (n_row - 1) * left.row + depth);
        let in_last = n_column - last * S::TILE_COLUMNS;
        assert!(right.words.len() >= last * right.panel + (depth - 1) * right.step + in_last);
        let whole = last.saturating_sub(1) * right.panel + (depth - 1) * right.step + S::TILE_COLUMNS;
        assert!(last == 0 || right.words.len() >= whole);
    }
    for column in (0..n_column).step_by(S::TILE_COLUMNS) {
        let vectors = ((n_column - column) / S::LANES).min(S::TILE_VECTORS);
        for row in (0..n_row).step_by(TILE_ROWS) {
            let tile = Tile {
                rows: TILE_ROWS.min(n_row - row),
                vectors,
                depth,
                left: left.words.as_ptr().wrapping_add(row * left.row),
                left_row: left.row,
                right: right.words.as_ptr().wrapping_add(column / S::TILE_COLUMNS * right.panel),
                right_vector: S::LANES,
                right_step: right.step,
                out: out.sums.as_mut_ptr().wrapping_add(row * out.row + column),
                out_row: out.row,
                add,
            };
            // SAFETY: a tile's rows and columns lie inside the product's, and the asserts above cover the last element of
            // each factor and of `out` for these: of the right one in its last panel and in the last whole one.
            simd.enter(unsafe { ComputeTile::new(words, tile) });
        }
    }
}

//! Matrix products of rows and weights, the one place where they are computed.
//!
//! `tile[i, j] = sum over factors of sum_k x[i, k] B[k, j]`, with `B` a piece of a stored weight or of its transpose. A
//! task packs its columns of `B` into panels in scratch memory (the weight is stored once, for both directions; packing
//! costs a few percent of a product with hundreds of rows), then goes over its rows tile by tile and hands each tile to
//! its caller while it is in the first-level cache: that is where bias, residual, gate and softmax happen.
//!
//! With at most [`THIN_ROWS`] rows, as in generation, packing would cost more than it saves, and what counts is that the
//! weight is read once, at the speed of the memory: its rows (or blocks, [`crate::blocks::dots`]) are then used as they lie.
//!
//! Each element is one sum over `k` in ascending order, so a result does not depend on how rows and columns are divided.

use std::ops::Range;

use half::bf16;
use preface_backend::Direction;

use crate::blocks::{self, dots::Quantised};
use crate::simd::{ComputeTile, DotRows, Dots, SQUARE, Simd, Tile, Words, turn_rows};
use crate::storage::{CpuWeight, Element, Values, View};

/// Rows up to which the weight is not packed.
pub const THIN_ROWS: usize = 64;

/// Columns of a panel are a divisor of this on every instruction set.
const COLUMNS: usize = 48;
/// Bytes of packed panels that leave room for rows in a second-level cache of 1 MiB (or, half of them, of 512 KiB).
const PANEL_BYTES: usize = 512 * 1024;

/// One product of a sum.
#[derive(Clone)]
pub struct Factors<'a> {
    /// Left factor: rows of whole words (32 bits), stored as the weight is multiplied.
    pub x: View<'a>,
    /// Elements from one row of `x` to the next.
    pub x_stride: usize,
    /// The weight.
    pub weight: &'a CpuWeight,
    /// Which way it is used.
    pub direction: Direction,
    /// The weight's features that the columns of `x` are multiplied with. Where bf16 features are odd in number, `x` has
    /// a zero behind its last column.
    pub depth: Range<usize>,
    /// `x` in eight bits, where it is to be multiplied with quantised blocks as they lie; `x` itself is not used then.
    pub quantised: Option<&'a Quantised>,
}

/// Sums of some rows.
pub struct TileRows<'a> {
    /// Row-major, [`Self::stride`] apart.
    pub sums: &'a mut [f32],
    /// Where the second piece starts in a row.
    pub piece: usize,
    /// Sums from one row to the next.
    pub stride: usize,
}

impl Factors<'_> {
    fn kind(&self) -> Words {
        match self.weight.element {
            Element::F32 => Words::Floats,
            Element::Bf16 => Words::Pairs,
        }
    }

    /// Elements in a word.
    fn per_word(&self) -> usize {
        match self.kind() {
            Words::Floats => 1,
            Words::Pairs => 2,
        }
    }

    fn words(&self) -> usize {
        self.depth.len().div_ceil(self.per_word())
    }

    /// Whether the weight's rows are words.
    fn lies_in_words(&self) -> bool {
        let aligned = |n: usize| n.is_multiple_of(self.per_word());
        let plain = !matches!(self.weight.values, Values::Parts(_));
        plain && self.direction == Direction::Plain && aligned(self.weight.n_in) && aligned(self.depth.start)
    }

    /// Whether the weight can be used as it lies.
    fn needs_no_panel(&self) -> bool {
        self.quantised.is_some() || self.lies_in_words()
    }
}

/// Columns of each of `n_piece` pieces that a task should compute. Two panels, where the cache holds them, make rows of
/// bf16 results whole cache lines.
pub fn block_columns(factors: &[Factors<'_>], n_piece: usize) -> usize {
    let words: usize = factors.iter().map(Factors::words).sum();
    let wide = 2 * COLUMNS;
    if wide * n_piece * words * size_of::<u32>() <= PANEL_BYTES { wide } else { COLUMNS }
}

/// Floats of memory that [`product`] needs for pieces of `width` columns.
pub fn memory(factors: &[Factors<'_>], n_piece: usize, width: usize) -> usize {
    // Enough for the panels of any instruction set, and for the widest tile.
    let padded = n_piece * (width.next_multiple_of(COLUMNS) + COLUMNS);
    let words: usize = factors.iter().map(Factors::words).sum();
    padded * (words + THIN_ROWS)
}

/// Computes the columns `pieces` (all of one length) of the product for `rows` and hands the sums to `each`:
/// `each(first_row, sums)`. `ahead` is told the rows of a tile before it is computed: it may ask for the memory that `each`
/// will touch, which arrives while the tile is computed.
#[inline(always)]
pub fn product<S: Simd>(
    simd: S,
    factors: &[Factors<'_>],
    rows: Range<usize>,
    pieces: &[Range<usize>],
    memory: &mut [f32],
    ahead: impl Fn(Range<usize>),
    mut each: impl FnMut(usize, TileRows<'_>),
) {
    let piece = pieces[0].len().next_multiple_of(S::PANEL_COLUMNS);
    let stride = piece * pieces.len();
    let thin = rows.len() <= THIN_ROWS && factors.iter().all(Factors::needs_no_panel);
    let n_tile_row = if thin { rows.len() } else { S::PANEL_ROWS };
    let (sums, panels) = memory.split_at_mut(n_tile_row * stride);
    if thin {
        for (number, factors) in factors.iter().enumerate() {
            for (p, columns) in pieces.iter().enumerate() {
                let (sums, add) = (&mut sums[p * piece..], number > 0);
                match (&factors.weight.values, factors.quantised) {
                    (Values::Parts(parts), Some(x)) => {
                        blocks::dots::dots(simd, parts, x, rows.clone(), columns.clone(), sums, stride, add);
                    }
                    _ => dots(simd, factors, rows.clone(), columns.clone(), sums, stride, add),
                }
            }
        }
        return each(rows.start, TileRows { sums, piece, stride });
    }
    let mut start = 0;
    for factors in factors {
        for columns in pieces {
            for first in (0..piece).step_by(S::PANEL_COLUMNS) {
                let columns =
                    columns.start + first..columns.end.min(columns.start + first + S::PANEL_COLUMNS);
                let n_word = factors.words() * S::PANEL_COLUMNS;
                pack(simd, factors, columns, bytemuck::cast_slice_mut(&mut panels[start..start + n_word]));
                start += n_word;
            }
        }
    }
    for first_row in rows.clone().step_by(S::PANEL_ROWS) {
        let n_row = S::PANEL_ROWS.min(rows.end - first_row);
        ahead(first_row..first_row + n_row);
        let mut start = 0;
        for (number, factors) in factors.iter().enumerate() {
            let left = LeftRows::new(factors, first_row, n_row);
            for column in (0..stride).step_by(S::PANEL_COLUMNS) {
                let panel = &panels[start..start + factors.words() * S::PANEL_COLUMNS];
                start += panel.len();
                let out = &mut sums[column..(n_row - 1) * stride + column + S::PANEL_COLUMNS];
                let tile = Tile {
                    rows: n_row,
                    depth: factors.words(),
                    left: left.words,
                    left_row: left.stride,
                    right: panel.as_ptr().cast(),
                    out: out.as_mut_ptr(),
                    out_row: stride,
                    add: number > 0,
                };
                // SAFETY: `LeftRows::new` checked the rows; the panel holds `depth` times the panel's columns; `out` ends
                // with the last row's last column.
                simd.enter(unsafe { ComputeTile::new(factors.kind(), tile) });
            }
        }
        each(first_row, TileRows { sums: &mut sums[..n_row * stride], piece, stride });
    }
}

/// Products with rows of the weight as they lie.
#[inline(always)]
fn dots<S: Simd>(
    simd: S,
    factors: &Factors<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    out: &mut [f32],
    out_row: usize,
    add: bool,
) {
    if rows.is_empty() || columns.is_empty() {
        return;
    }
    let left = LeftRows::new(factors, rows.start, rows.len());
    let n_in = factors.weight.n_in;
    let first = columns.start * n_in + factors.depth.start;
    let last = (columns.end - 1) * n_in + factors.depth.end;
    let right: *const u32 = match &factors.weight.values {
        Values::F32(values) => values[first..last].as_ptr().cast(),
        Values::Bf16(values) => values[first..last].as_ptr().cast(),
        Values::Parts(_) => unreachable!("parts do not lie in words"),
    };
    let out = &mut out[..(rows.len() - 1) * out_row + columns.len()];
    let dots = DotRows {
        left: left.words,
        left_row: left.stride,
        n_left: rows.len(),
        right,
        right_row: n_in / factors.per_word(),
        n_right: columns.len(),
        depth: factors.words(),
        out: out.as_mut_ptr(),
        out_row,
        add,
    };
    // SAFETY: `LeftRows::new` checked the left rows; the right ones end at `last`, inside the weight (`lies_in_words`: depth
    // and rows are whole words); `out` ends with the last row's last column.
    simd.enter(unsafe { Dots::new(factors.kind(), dots) });
}

/// Rows of a left factor as words.
struct LeftRows {
    words: *const u32,
    stride: usize,
}

impl LeftRows {
    /// Panics unless `n_row` rows from `first_row` hold the words of the factors' depth each.
    fn new(factors: &Factors<'_>, first_row: usize, n_row: usize) -> Self {
        let per_word = factors.per_word();
        let n_element = factors.words() * per_word;
        assert!(n_row > 0 && n_element <= factors.x_stride && factors.x_stride.is_multiple_of(per_word));
        let first = first_row * factors.x_stride;
        let last = first + (n_row - 1) * factors.x_stride + n_element;
        let words = match (factors.x, per_word) {
            (View::F32(x), 1) => x[first..last].as_ptr().cast(),
            (View::Bf16(x), 2) => x[first..last].as_ptr().cast(),
            _ => unreachable!("rows are stored as their weight is"),
        };
        Self { words, stride: factors.x_stride / per_word }
    }
}

/// Packs columns of the right factor: word `w` of column `j` at `w * PANEL_COLUMNS + j`, zeros where there is nothing.
#[inline(always)]
fn pack<S: Simd>(simd: S, factors: &Factors<'_>, columns: Range<usize>, panel: &mut [u32]) {
    let (depth, n_in) = (&factors.depth, factors.weight.n_in);
    match (&factors.weight.values, factors.direction) {
        (Values::Parts(parts), direction) => {
            let (element, depth) = (factors.weight.element, depth.clone());
            blocks::panel::Piece { parts, n_in, element, columns, depth }.pack(simd, direction, panel);
        }
        (Values::F32(weight), Direction::Plain) => {
            let row =
                |column: usize| -> &[f32] { &weight[column * n_in + depth.start..column * n_in + depth.end] };
            pack_turned(simd, columns, |column| bytemuck::cast_slice(row(column)), factors.words(), panel);
        }
        (Values::Bf16(weight), Direction::Plain) => {
            let row = |column: usize| -> &[bf16] {
                &weight[column * n_in + depth.start..column * n_in + depth.end]
            };
            let whole = depth.len() / 2;
            let (even, odd) = panel.split_at_mut(whole * S::PANEL_COLUMNS);
            if factors.lies_in_words() {
                pack_turned(
                    simd,
                    columns.clone(),
                    |column| bytemuck::cast_slice(&row(column)[..2 * whole]),
                    whole,
                    even,
                );
            } else {
                for (word, words) in even.chunks_exact_mut(S::PANEL_COLUMNS).enumerate() {
                    words.fill(0);
                    for (to, column) in words.iter_mut().zip(columns.clone()) {
                        *to = pair(row(column)[2 * word], row(column)[2 * word + 1]);
                    }
                }
            }
            for (word, words) in odd.chunks_exact_mut(S::PANEL_COLUMNS).enumerate() {
                words.fill(0);
                for (to, column) in words.iter_mut().zip(columns.clone()) {
                    *to = pair(row(column)[2 * (whole + word)], bf16::ZERO);
                }
            }
        }
        (Values::F32(weight), Direction::Transposed) => {
            for (k, words) in depth.clone().zip(panel.chunks_exact_mut(S::PANEL_COLUMNS)) {
                let (used, unused) = words.split_at_mut(columns.len());
                used.copy_from_slice(bytemuck::cast_slice(
                    &weight[k * n_in + columns.start..k * n_in + columns.end],
                ));
                unused.fill(0);
            }
        }
        (Values::Bf16(weight), Direction::Transposed) => {
            let row = |k: usize| &weight[k * n_in + columns.start..k * n_in + columns.end];
            for (k, words) in depth.clone().step_by(2).zip(panel.chunks_exact_mut(S::PANEL_COLUMNS)) {
                let (used, unused) = words.split_at_mut(columns.len());
                if k + 1 < depth.end {
                    for ((to, first), second) in used.iter_mut().zip(row(k)).zip(row(k + 1)) {
                        *to = pair(*first, *second);
                    }
                } else {
                    used.iter_mut().zip(row(k)).for_each(|(to, first)| *to = pair(*first, bf16::ZERO));
                }
                unused.fill(0);
            }
        }
    }
}

#[inline(always)]
fn pair(first: bf16, second: bf16) -> u32 {
    u32::from(first.to_bits()) | u32::from(second.to_bits()) << 16
}

/// Packs columns that lie as rows, some at a time: reads and writes stay in the first-level cache.
#[inline(always)]
fn pack_turned<'a, S: Simd>(
    simd: S,
    columns: Range<usize>,
    row: impl Fn(usize) -> &'a [u32],
    n_word: usize,
    panel: &mut [u32],
) {
    for first in (0..S::PANEL_COLUMNS).step_by(SQUARE) {
        let mut rows = [None; SQUARE];
        for (j, to) in rows.iter_mut().enumerate() {
            let column = columns.start + first + j;
            *to = (column < columns.end).then(|| row(column));
        }
        turn_rows(simd, rows, n_word, panel.get_mut(first..).unwrap_or_default(), S::PANEL_COLUMNS);
    }
}

//! Matrix products of rows and weights, the one place where they are computed.
//!
//! `tile[i, j] = sum over factors of sum_k x[i, k] B[k, j]`, with `B` a piece of a stored weight or of its transpose. A
//! task goes over its rows tile by tile and hands each tile to its caller while it is in the first-level cache: that is where
//! bias, residual, gate and softmax happen. Plain weights lie as a forward product's tiles read them ([`crate::groups`]); of
//! the backward and of quantised weights a task first packs its columns of `B` into panels in scratch memory (the weight is
//! stored once, for both directions; packing costs a few percent of a product with hundreds of rows).
//!
//! With at most [`THIN_ROWS`] rows, as in generation, what counts is that the weight is read once, at the speed of the memory:
//! some groups for all rows, while the next are asked for, quantised blocks as they lie too ([`crate::blocks::dots`]).
//!
//! Each element is one sum over `k` in ascending order, so a result does not depend on how rows and columns are divided.

use std::ops::Range;

use preface_backend::Direction;

use crate::blocks::{self, GROUP, dots::Quantised};
use crate::groups::Groups;
use crate::simd::{Ahead, ComputeTile, Requests, Simd, Tile, Words};
use crate::storage::{CpuWeight, Element, Values, View};

/// Rows up to which a quantised weight is not packed, and a plain one is read once for all of them.
pub const THIN_ROWS: usize = 64;

/// Rows up to which one group at a time is computed, so that the weight is one stream: with 16 rows a quarter faster than
/// whole panels on a Zen 5. More rows load too much for each multiply-add in tiles of one vector of columns.
const STRIP_ROWS: usize = 16;
/// How many words ahead of its use a strip asks for memory: what arrives in the time that memory takes to answer.
const AHEAD: usize = 1024;

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

    fn words(&self) -> usize {
        self.depth.len().div_ceil(self.kind().per_word())
    }

    /// The weight, where all its columns in `pieces` can be used as they lie.
    fn groups(&self, pieces: &[Range<usize>]) -> Option<&Groups> {
        match (&self.weight.values, self.direction) {
            (Values::Plain(groups), Direction::Plain)
                if pieces.iter().all(|columns| columns.start.is_multiple_of(GROUP)) =>
            {
                // The forward goes over all inputs.
                assert!(self.depth == (0..self.weight.n_in));
                Some(groups)
            }
            _ => None,
        }
    }
}

/// Columns of each of `n_piece` pieces that a task should compute. Two panels, where the cache holds them, make rows of
/// bf16 results whole cache lines.
pub fn block_columns(factors: &[Factors<'_>], n_row: usize, n_piece: usize) -> usize {
    if n_row <= THIN_ROWS {
        // Many small tasks, so that threads end together.
        return COLUMNS;
    }
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
/// `each(first_row, sums)`. `ahead` is told the rows of a tile before it is computed: it lists the memory that `each` will
/// touch, which arrives while the tile is computed.
#[inline(always)]
pub fn product<S: Simd>(
    simd: S,
    factors: &[Factors<'_>],
    rows: Range<usize>,
    pieces: &[Range<usize>],
    memory: &mut [f32],
    ahead: impl Fn(Range<usize>, &mut Requests),
    mut each: impl FnMut(usize, TileRows<'_>),
) {
    let piece = pieces[0].len().next_multiple_of(S::PANEL_COLUMNS);
    let stride = piece * pieces.len();
    let needs_no_panel =
        |factors: &Factors<'_>| factors.quantised.is_some() || factors.groups(pieces).is_some();
    let thin = rows.len() <= THIN_ROWS && factors.iter().all(needs_no_panel);
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
                    _ => {
                        let groups = factors.groups(pieces).expect("a thin product needs no panel");
                        let sums = Sums { data: sums, stride, add };
                        bands(simd, factors, groups, rows.clone(), columns.start, columns.len(), sums);
                    }
                }
            }
        }
        return each(rows.start, TileRows { sums, piece, stride });
    }
    let mut start = 0;
    for factors in factors.iter().filter(|factors| factors.groups(pieces).is_none()) {
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
    let mut requests = Requests::new();
    let n_tile = factors.len() * stride / S::PANEL_COLUMNS;
    for first_row in rows.clone().step_by(S::PANEL_ROWS) {
        let n_row = S::PANEL_ROWS.min(rows.end - first_row);
        requests.clear();
        ahead(first_row..first_row + n_row, &mut requests);
        let mut start = 0;
        for (number, factors) in factors.iter().enumerate() {
            let (groups, add) = (factors.groups(pieces), number > 0);
            for (n, column) in (0..stride).step_by(S::PANEL_COLUMNS).enumerate() {
                let lines = requests.part(number * stride / S::PANEL_COLUMNS + n, n_tile);
                let sums = Sums { data: &mut sums[column..], stride, add };
                let rows = first_row..first_row + n_row;
                let Some(groups) = groups else {
                    let panel = &panels[start..start + factors.words() * S::PANEL_COLUMNS];
                    start += panel.len();
                    let right = Right {
                        words: bytemuck::cast_slice(panel),
                        vector: S::LANES,
                        step: S::PANEL_COLUMNS,
                    };
                    tile(simd, factors, rows, right, S::PANEL_VECTORS, sums, Ahead::Lines(lines));
                    continue;
                };
                let first = pieces[column / piece].start + column % piece;
                let n_left = groups.n_column() - first / GROUP * GROUP;
                if n_left >= S::PANEL_COLUMNS {
                    let right = Right::of::<S>(groups, first);
                    tile(simd, factors, rows, right, S::PANEL_VECTORS, sums, Ahead::Lines(lines));
                } else {
                    strips(simd, factors, groups, rows, first, n_left, sums);
                }
            }
        }
        each(first_row, TileRows { sums: &mut sums[..n_row * stride], piece, stride });
    }
}

/// Where sums of a product go.
struct Sums<'a> {
    data: &'a mut [f32],
    /// From one row to the next.
    stride: usize,
    /// Whether to add to what is there.
    add: bool,
}

/// The right factor of a tile.
#[derive(Clone, Copy)]
struct Right<'a> {
    /// From the first vector of the first word on.
    words: &'a [u32],
    /// Words from one vector to the next.
    vector: usize,
    /// Words from a vector to that of the next word.
    step: usize,
}

impl<'a> Right<'a> {
    /// The vectors of groups from a column on.
    fn of<S: Simd>(groups: &'a Groups, column: usize) -> Self {
        let start = column / GROUP * GROUP * groups.n_word() + column % GROUP;
        // None in a weight without inputs.
        let words = groups.words().get(start..).unwrap_or_default();
        let vector = if S::LANES == GROUP { GROUP * groups.n_word() } else { S::LANES };
        // A tile's vectors are either whole groups, or all in one group.
        assert!(S::LANES == GROUP || S::PANEL_COLUMNS <= GROUP && column.is_multiple_of(S::PANEL_COLUMNS));
        Self { words, vector, step: GROUP }
    }
}

/// Products of a few rows with `n_column` columns that begin a group. While a panel is multiplied with all rows, tile by
/// tile, the next one comes into the second-level cache.
#[inline(always)]
fn bands<S: Simd>(
    simd: S,
    factors: &Factors<'_>,
    groups: &Groups,
    rows: Range<usize>,
    first: usize,
    n_column: usize,
    sums: Sums<'_>,
) {
    let Sums { data, stride, add } = sums;
    let whole = if rows.len() > STRIP_ROWS { n_column - n_column % S::PANEL_COLUMNS } else { 0 };
    for column in (0..whole).step_by(S::PANEL_COLUMNS) {
        let right = Right::of::<S>(groups, first + column);
        let next = right.words.as_ptr().wrapping_add(S::PANEL_COLUMNS * groups.n_word());
        let sums = Sums { data: &mut data[column..], stride, add };
        passes(
            simd,
            factors,
            rows.clone(),
            (right, S::PANEL_VECTORS, S::PANEL_ROWS),
            sums,
            #[inline(always)]
            |pass, n_pass| {
                // Each pass asks for its part of the next panel.
                let cut = |pass| groups.n_word() * pass / n_pass;
                let start = next.wrapping_add(cut(pass) * right.step);
                Ahead::Right { start, words: cut(pass + 1) - cut(pass) }
            },
        );
    }
    if whole < n_column {
        let sums = Sums { data: &mut data[whole..], stride, add };
        strips(simd, factors, groups, rows, first + whole, n_column - whole, sums);
    }
}

/// Products of some rows with `n_column` columns (or some more, to the end of a vector) that begin a group or, where a
/// group has several, a strip.
#[inline(always)]
fn strips<S: Simd>(
    simd: S,
    factors: &Factors<'_>,
    groups: &Groups,
    rows: Range<usize>,
    first: usize,
    n_column: usize,
    sums: Sums<'_>,
) {
    let Sums { data, stride, add } = sums;
    for column in (0..n_column).step_by(S::STRIP_VECTORS * S::LANES) {
        let right = Right::of::<S>(groups, first + column);
        let start = right.words.as_ptr().wrapping_add(AHEAD);
        let sums = Sums { data: &mut data[column..], stride, add };
        passes(
            simd,
            factors,
            rows.clone(),
            (right, S::STRIP_VECTORS, S::STRIP_ROWS),
            sums,
            #[inline(always)]
            |pass, _| Ahead::Right { start, words: if pass == 0 { groups.n_word() } else { 0 } },
        );
    }
}

/// Products of any number of rows with the columns of one tile, some vectors: in passes of nearly the same size, at most as
/// many rows as the tile may have, since each takes as long as its sums' latency at least. `ahead(pass, n_pass)` is what a
/// pass asks for meanwhile.
#[inline(always)]
fn passes<S: Simd>(
    simd: S,
    factors: &Factors<'_>,
    rows: Range<usize>,
    (right, n_vector, most_rows): (Right<'_>, usize, usize),
    sums: Sums<'_>,
    ahead: impl Fn(usize, usize) -> Ahead<'static>,
) {
    let Sums { data, stride, add } = sums;
    let n_pass = rows.len().div_ceil(most_rows);
    let cut = |pass| rows.len() * pass / n_pass;
    for pass in 0..n_pass {
        let data = &mut data[cut(pass) * stride..];
        let rows = rows.start + cut(pass)..rows.start + cut(pass + 1);
        tile(simd, factors, rows, right, n_vector, Sums { data, stride, add }, ahead(pass, n_pass));
    }
}

/// One register tile.
#[inline(always)]
fn tile<S: Simd>(
    simd: S,
    factors: &Factors<'_>,
    rows: Range<usize>,
    right: Right<'_>,
    n_vector: usize,
    sums: Sums<'_>,
    ahead: Ahead<'_>,
) {
    let left = LeftRows::new(factors, rows.start, rows.len());
    let depth = factors.words();
    let Right { words, vector, step } = right;
    assert!(depth == 0 || words.len() >= (depth - 1) * step + (n_vector - 1) * vector + S::LANES);
    let out = &mut sums.data[..(rows.len() - 1) * sums.stride + n_vector * S::LANES];
    let tile = Tile {
        rows: rows.len(),
        vectors: n_vector,
        depth,
        left: left.words,
        left_row: left.stride,
        right: words.as_ptr(),
        right_vector: vector,
        right_step: step,
        out: out.as_mut_ptr(),
        out_row: sums.stride,
        add: sums.add,
    };
    // SAFETY: `LeftRows::new` checked the rows; the last vector of the last word lies in `words` (asserted); `out` ends with
    // the last row's last column.
    simd.enter(unsafe { ComputeTile::new(factors.kind(), tile) }.ahead(ahead));
}

/// Rows of a left factor as words.
struct LeftRows {
    words: *const u32,
    stride: usize,
}

impl LeftRows {
    /// Panics unless `n_row` rows from `first_row` hold the words of the factors' depth each.
    fn new(factors: &Factors<'_>, first_row: usize, n_row: usize) -> Self {
        let per_word = factors.kind().per_word();
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
        (Values::Plain(groups), Direction::Plain) => groups.plain(&columns, panel, S::PANEL_COLUMNS),
        (Values::Plain(groups), Direction::Transposed) => {
            groups.transposed(simd, depth, &columns, panel, S::PANEL_COLUMNS);
        }
    }
}

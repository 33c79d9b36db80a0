//! Gathering what a task reads into scratch memory, in the forms that products take: rows of words, bundles, panels (see
//! `multiply`).

use std::ops::Range;

use half::bf16;
use preface_backend::Place;

use super::multiply::Left;
use super::{Call, Keys, Segment};
use crate::scratch::{cut, room};
use crate::simd::{SQUARE, Simd, Words, narrow, pair_floats, pair_halves, turn_rows};
use crate::storage::{CpuRows, Element, View, ViewMut};

/// Keys or values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Keys,
    Values,
}

/// Rows of head vectors: `len` used elements of each, padded with zeros to a multiple of the lanes.
#[derive(Clone, Copy)]
pub struct Padded {
    pub len: usize,
    pub stride: usize,
}

impl Padded {
    pub fn new<S: Simd>(len: usize) -> Self {
        Self { len, stride: len.next_multiple_of(S::LANES) }
    }
}

/// How a task's operands lie: rows of `head_dim` numbers, padded with zeros to whole vectors, as words.
#[derive(Clone, Copy)]
pub struct Form {
    pub words: Words,
    pub pad: Padded,
}

impl Form {
    /// Words of a row.
    pub fn row(self) -> usize {
        self.pad.stride / self.words.per_word()
    }

    /// Words of a row that are not all padding.
    pub fn depth(self) -> usize {
        self.pad.len.div_ceil(self.words.per_word())
    }

    /// Bundles of `n` rows.
    pub fn bundles(self, n: usize) -> usize {
        n.div_ceil(self.words.per_word())
    }

    /// Words of bundles that are not the rows themselves.
    pub fn bundle_memory(self, n: usize) -> usize {
        if self.words == Words::Pairs { self.bundles(n) * self.pad.stride } else { 0 }
    }

    /// Words of rounded numbers, if they are not the numbers themselves.
    pub fn rounded_memory(self, n: usize) -> usize {
        if self.words == Words::Pairs { n / 2 } else { 0 }
    }

    /// Words of rows that are turned into panels.
    pub fn panel_memory<S: Simd>(self, n: usize) -> usize {
        n.next_multiple_of(S::TILE_COLUMNS) * self.depth()
    }

    /// Writes a row.
    #[inline(always)]
    fn write<S: Simd>(self, simd: S, from: View<'_>, to: &mut [u32]) {
        match self.words {
            Words::Floats => {
                let to: &mut [f32] = bytemuck::cast_slice_mut(to);
                from.read(simd, &mut to[..self.pad.len]);
                to[self.pad.len..].fill(0.0);
            }
            Words::Pairs => {
                let to: &mut [bf16] = bytemuck::cast_slice_mut(to);
                ViewMut::Bf16(&mut to[..self.pad.len]).copy(simd, from);
                to[self.pad.len..].fill(bf16::ZERO);
            }
        }
    }

    /// Multiplies the numbers of a row.
    fn scale(self, row: &mut [u32], factor: impl Fn(usize) -> f32) {
        match self.words {
            Words::Floats => {
                let row: &mut [f32] = bytemuck::cast_slice_mut(row);
                row[..self.pad.len].iter_mut().enumerate().for_each(|(i, value)| *value *= factor(i));
            }
            Words::Pairs => {
                let row: &mut [bf16] = bytemuck::cast_slice_mut(row);
                for (i, value) in row[..self.pad.len].iter_mut().enumerate() {
                    *value = bf16::from_f32(value.to_f32() * factor(i));
                }
            }
        }
    }

    /// `n` rows as bundles, [`Padded::stride`] words each: in `memory`, or the rows themselves.
    #[inline(always)]
    pub fn bundle<'a, S: Simd>(self, simd: S, rows: &'a [u32], n: usize, memory: &'a mut [u32]) -> &'a [u32] {
        let stride = self.pad.stride;
        if self.words == Words::Floats {
            return &rows[..n * stride];
        }
        let halves: &[bf16] = bytemuck::cast_slice(rows);
        let memory = &mut memory[..self.bundles(n) * stride];
        for (to, pair) in memory.chunks_exact_mut(stride).zip(halves[..n * stride].chunks(2 * stride)) {
            let (first, second) = pair.split_at(stride);
            pair_halves(simd, first, (!second.is_empty()).then_some(second), to);
        }
        memory
    }

    /// `n` rows, turned, in panels of columns: word `w` of row `j` is `to[(j / C * depth + w) * C + j % C]`, `C` the columns
    /// of a tile. Rows that fill up the last panel are zeros.
    #[inline(always)]
    pub fn turn<S: Simd>(self, simd: S, rows: &[u32], n: usize, to: &mut [u32]) {
        let (row, depth) = (self.row(), self.depth());
        for first in (0..n.next_multiple_of(S::TILE_COLUMNS)).step_by(SQUARE) {
            let mut square = [None; SQUARE];
            for (j, words) in square.iter_mut().enumerate().take(n.saturating_sub(first)) {
                *words = Some(&rows[(first + j) * row..][..depth]);
            }
            let panel = first / S::TILE_COLUMNS * depth * S::TILE_COLUMNS;
            turn_rows(simd, square, depth, &mut to[panel + first % S::TILE_COLUMNS..], S::TILE_COLUMNS);
        }
    }

    /// `n` bundles, turned: word `d` of bundle `b` is `to[d * to_row + b]`.
    #[inline(always)]
    pub fn turn_bundles<S: Simd>(self, simd: S, bundles: &[u32], n: usize, to: &mut [u32], to_row: usize) {
        for first in (0..n).step_by(SQUARE) {
            let mut square = [None; SQUARE];
            for (j, words) in square.iter_mut().enumerate().take(n - first) {
                *words = Some(&bundles[(first + j) * self.pad.stride..][..self.pad.len]);
            }
            turn_rows(simd, square, self.pad.len, &mut to[first..], to_row);
        }
    }

    /// Rows of `width` numbers, `stride` apart and as many as a word holds (or fewer), as one bundle.
    #[inline(always)]
    pub fn bundle_floats<S: Simd>(self, simd: S, from: &[f32], stride: usize, width: usize, to: &mut [u32]) {
        let (first, to) = (&from[..width], &mut to[..width]);
        match self.words {
            Words::Floats => to.copy_from_slice(bytemuck::cast_slice(first)),
            Words::Pairs => {
                let second = (from.len() > stride).then(|| &from[stride..stride + width]);
                pair_floats(simd, first, second, to);
            }
        }
    }
}

/// A stretch of a segment's list of keys that is multiplied in one form.
pub struct Part {
    pub form: Form,
    pub columns: Range<usize>,
}

impl Part {
    /// Keys stored in `f32`, a prefix above all, as they are: rounded, they turn gradients by more than a percent. They come
    /// first in the list, or nearly; what lies behind them is multiplied as pairs of bf16, where an instruction does that.
    pub fn all<S: Simd>(call: &Call<'_>, segment: &Segment) -> Vec<Self> {
        let is_exact = |buffer: usize| call.sources[buffer].element == Element::F32;
        let n_key = segment.n_key;
        let n_exact = if !S::MULTIPLIES_PAIRS || is_exact(call.query.buffer) {
            n_key
        } else {
            let stores = |keys: &Keys| {
                let store = call.stores[keys.store];
                is_exact(store.keys.buffer) || is_exact(store.values.buffer)
            };
            let exact = segment.keys.iter().filter(|keys| stores(keys));
            exact.map(|keys| keys.start + keys.len).max().unwrap_or(0)
        };
        let pad = Padded::new::<S>(call.shape.head_dim);
        let part = |words, columns: Range<usize>| Self { form: Form { words, pad }, columns };
        let mut parts = vec![part(Words::Floats, 0..n_exact), part(Words::Pairs, n_exact..n_key)];
        parts.retain(|part| n_key == 0 || !part.columns.is_empty());
        parts
    }

    /// Keys.
    pub fn n_key(&self) -> usize {
        self.columns.len()
    }

    /// Keys among the first `columns` of the list.
    pub fn seen(&self, columns: usize) -> usize {
        columns.min(self.columns.end).saturating_sub(self.columns.start)
    }

    /// Columns, of its own, that belong to the tiles in which these keys are.
    pub fn width<S: Simd>(&self, n_seen: usize) -> usize {
        n_seen.next_multiple_of(S::TILE_COLUMNS).min(self.n_key().next_multiple_of(S::LANES))
    }

    /// Writes a row's numbers for these keys to `rounded` from element `start` on, if products are not of the very numbers.
    #[inline(always)]
    pub fn round<S: Simd>(&self, simd: S, row: &[f32], rounded: &mut [u32], start: usize) {
        if self.form.words == Words::Pairs {
            let to: &mut [bf16] = bytemuck::cast_slice_mut(rounded);
            let from = row.get(self.columns.start..).unwrap_or_default();
            narrow(simd, from, &mut to[start..start + from.len()]);
        }
    }

    /// What products are of, for rows of `stride` numbers: the numbers, or what [`Self::round`] made of them.
    pub fn left<'a>(&self, numbers: &'a [f32], rounded: &'a [u32], stride: usize) -> Left<'a> {
        let words = match self.form.words {
            Words::Pairs => rounded,
            Words::Floats => &bytemuck::cast_slice(numbers)[self.columns.start..],
        };
        Left { words, row: stride / self.form.words.per_word() }
    }

    /// Rows that fill up the last word of their bundles.
    pub fn whole_rows(&self) -> usize {
        self.form.bundles(self.n_key()) * self.form.words.per_word()
    }
}

/// Memory of each part: slices of the sizes that it needs.
pub fn cut_for_parts<'a, const N: usize>(
    parts: &[Part],
    memory: &'a mut [f32],
    sizes: impl Fn(&Part) -> [usize; N],
) -> Vec<[&'a mut [u32]; N]> {
    let mut rest = bytemuck::cast_slice_mut(memory);
    let each = parts.iter().map(|part| {
        let (own, after) = std::mem::take(&mut rest).split_at_mut(room(sizes(part)));
        rest = after;
        cut(own, sizes(part))
    });
    each.collect()
}

/// Rows from one that is gathered to one that is asked for: they lie too far apart for the hardware to notice.
const ROWS_AHEAD: usize = 8;

/// Keys or values of a part of a segment for one key head, one row each, dropout applied.
#[inline(always)]
pub fn gather<S: Simd>(
    simd: S,
    call: &Call<'_>,
    segment: &Segment,
    kv_head: usize,
    side: Side,
    part: &Part,
    to: &mut [u32],
) {
    let Part { form, columns: all } = part;
    for keys in segment.keys.iter().filter(|keys| keys.len > 0 && all.contains(&keys.start)) {
        let store = call.stores[keys.store];
        let place = if side == Side::Keys { store.keys } else { store.values };
        let columns = head_columns(place, kv_head, form.pad.len);
        let source = call.sources[place.buffer];
        for row in 0..keys.len {
            let to = &mut to[(keys.start - all.start + row) * form.row()..][..form.row()];
            if row + ROWS_AHEAD < keys.len {
                source.part(keys.first_row + row + ROWS_AHEAD, columns.clone()).span().prefetch();
            }
            form.write(simd, source.part(keys.first_row + row, columns.clone()), to);
            if let Some(dropout) = keys.dropout {
                form.scale(to, |column| {
                    dropout.factor(call.layer, element(call, row, side, kv_head, column))
                });
            }
        }
    }
}

/// Number of an element of a run, as dropout masks count.
pub fn element(call: &Call<'_>, row: usize, side: Side, kv_head: usize, column: usize) -> u64 {
    let kv_width = call.shape.kv_width() as u64;
    let column = (kv_head * call.shape.head_dim + column) as u64;
    (row as u64 * 2 + u64::from(side == Side::Values)) * kv_width + column
}

/// Score rows `rows` of a segment that starts at `first_row`: row `i` is that of query `i / group`, head `i % group`.
#[inline(always)]
pub fn gather_queries<S: Simd>(
    simd: S,
    source: &CpuRows,
    first_row: usize,
    rows: Range<usize>,
    heads: Heads,
    form: Form,
    to: &mut [u32],
) {
    for (i, to) in rows.clone().zip(to.chunks_exact_mut(form.row())) {
        if i + ROWS_AHEAD < rows.end {
            heads.vector(source, first_row, i + ROWS_AHEAD).span().prefetch();
        }
        form.write(simd, heads.vector(source, first_row, i), to);
    }
}

/// The query heads that read one key head.
#[derive(Clone, Copy)]
pub struct Heads {
    place: Place,
    pub first: usize,
    pub group: usize,
    head_dim: usize,
}

impl Heads {
    pub fn new(call: &Call<'_>, place: Place, kv_head: usize) -> Self {
        let group = call.shape.n_head / call.shape.n_kv_head;
        Self { place, first: kv_head * group, group, head_dim: call.shape.head_dim }
    }

    /// What score row `i` of a segment that starts at `first_row` reads.
    #[inline(always)]
    fn vector(self, source: &CpuRows, first_row: usize, i: usize) -> View<'_> {
        source.part(first_row + i / self.group, self.columns(i % self.group))
    }

    /// Columns of head `head` of the group.
    pub fn columns(self, head: usize) -> Range<usize> {
        head_columns(self.place, self.first + head, self.head_dim)
    }
}

/// Columns of a head in a matrix of heads.
pub fn head_columns(place: Place, head: usize, head_dim: usize) -> Range<usize> {
    let start = place.column + head * head_dim;
    start..start + head_dim
}

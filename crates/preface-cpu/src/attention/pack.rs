//! Gathering what a task reads into scratch memory.

use std::ops::Range;

use preface_backend::Place;

use super::{Call, Segment};
use crate::simd::{SQUARE, Simd, turn_rows};
use crate::storage::CpuRows;

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

/// Keys or values of a segment for one key head, one row each, dropout applied.
#[inline(always)]
pub fn gather<S: Simd>(
    simd: S,
    call: &Call<'_>,
    segment: &Segment,
    kv_head: usize,
    side: Side,
    pad: Padded,
    to: &mut [f32],
) {
    for keys in &segment.keys {
        let store = call.stores[keys.store];
        let place = if side == Side::Keys { store.keys } else { store.values };
        let columns = head_columns(place, kv_head, pad.len);
        let source = call.sources[place.buffer];
        for row in 0..keys.len {
            let to = &mut to[(keys.start + row) * pad.stride..][..pad.stride];
            source.part(keys.first_row + row, columns.clone()).read(simd, &mut to[..pad.len]);
            to[pad.len..].fill(0.0);
            if let Some(dropout) = keys.dropout {
                for (column, value) in to[..pad.len].iter_mut().enumerate() {
                    *value *= dropout.factor(call.layer, element(call, row, side, kv_head, column));
                }
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

/// Rows of `source` for all query heads of a key head: row `i` of a segment, head `g` of the group at `i * group + g`.
#[inline(always)]
pub fn gather_heads<S: Simd>(
    simd: S,
    source: &CpuRows,
    rows: Range<usize>,
    heads: Heads,
    pad: Padded,
    factor: f32,
    to: &mut [f32],
) {
    let mut to = to.chunks_exact_mut(pad.stride);
    let scale = simd.splat(factor);
    for row in rows {
        for (head, to) in (0..heads.group).zip(&mut to) {
            source.part(row, heads.columns(head)).read(simd, &mut to[..pad.len]);
            to[pad.len..].fill(0.0);
            for vector in to.chunks_exact_mut(S::LANES) {
                simd.store(simd.mul(simd.load(vector), scale), vector);
            }
        }
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

/// `to[d, j] = from[j, d]` for `n` rows of `from`; columns of `to` from `n` to `stride` become zero.
#[inline(always)]
pub fn transpose<S: Simd>(simd: S, from: &[f32], pad: Padded, n: usize, to: &mut [f32], stride: usize) {
    let (from, to): (&[u32], &mut [u32]) = (bytemuck::cast_slice(from), bytemuck::cast_slice_mut(to));
    for first in (0..stride).step_by(SQUARE) {
        let mut rows = [None; SQUARE];
        for (j, row) in rows.iter_mut().enumerate().take(n.saturating_sub(first)) {
            *row = Some(&from[(first + j) * pad.stride..][..pad.len]);
        }
        turn_rows(simd, rows, pad.len, &mut to[first..], stride);
    }
}

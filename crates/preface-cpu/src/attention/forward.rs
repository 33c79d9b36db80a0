//! Forward: `out = softmax(scale Q K^T) V`, and the logarithm of the softmax's sum for the backward.
//!
//! Probabilities stay unnormalised: the sum divides the result, which has fewer elements.

use std::ops::Range;

use super::pack::{Heads, Padded, Side, gather, gather_heads, transpose};
use super::{Call, Segment, check, thin, tile_rows};
use crate::CpuBackend;
use crate::multiply::{Left, Out, Right, Size, multiply};
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, exp_sum, largest};
use crate::storage::{CpuRows, SharedRows};

pub fn forward(backend: &CpuBackend, call: &Call<'_>, out: &mut CpuRows, log_sum_exp: Option<&mut CpuRows>) {
    check(call, out);
    let n_kv_head = call.shape.n_kv_head;
    let (out, log_sum_exp) = (out.share(), log_sum_exp.map(CpuRows::share));
    let n_segment = call.plan.segments.len();
    // Single rows read their keys together where there are some for each thread.
    let single = call.plan.segments.iter().all(|segment| segment.rows.len() == 1);
    let n_part = if single && n_segment >= 4 * backend.pool.threads() { 1 } else { n_kv_head };
    backend.pool.run(n_segment * n_part, |task, scratch| {
        let (number, part) = (task / n_part, task % n_part);
        let kv_heads = n_kv_head * part / n_part..n_kv_head * (part + 1) / n_part;
        let results = Results { out: &out, log_sum_exp: log_sum_exp.as_ref() };
        backend.tier.run(Forward { call, number, kv_heads, results, scratch });
    });
}

/// Where results go. Each row and head is written once, by the task of its segment and key head.
#[derive(Clone, Copy)]
pub struct Results<'a> {
    out: &'a SharedRows<'a>,
    log_sum_exp: Option<&'a SharedRows<'a>>,
}

impl Results<'_> {
    /// Writes the result of one row and head.
    ///
    /// # Safety
    /// Rows of this segment and heads of this key head only, one at a time.
    #[inline(always)]
    pub unsafe fn write<S: Simd>(self, simd: S, row: usize, head: usize, values: &[f32], log_sum_exp: f32) {
        let columns = head * values.len()..(head + 1) * values.len();
        // SAFETY: no other task has this row and head, and the caller writes one at a time.
        unsafe {
            self.out.part(row, columns).write(simd, values);
            if let Some(all) = self.log_sum_exp {
                all.part(row, head..head + 1).write(simd, &[log_sum_exp]);
            }
        }
    }
}

struct Forward<'a> {
    call: &'a Call<'a>,
    /// Of the segment.
    number: usize,
    kv_heads: Range<usize>,
    results: Results<'a>,
    scratch: &'a mut Scratch,
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { call, number, kv_heads, results, scratch } = self;
        let segment = &call.plan.segments[number];
        if thin::suits::<S>(call, segment) {
            return thin::forward(simd, call, number, kv_heads, results, scratch);
        }
        for kv_head in kv_heads {
            Self::gathered(simd, call, segment, kv_head, results, scratch);
        }
    }
}

impl Forward<'_> {
    /// Any segment, one key head.
    #[inline(always)]
    fn gathered<S: Simd>(
        simd: S,
        call: &Call<'_>,
        segment: &Segment,
        kv_head: usize,
        results: Results<'_>,
        scratch: &mut Scratch,
    ) {
        let heads = Heads::new(call, call.query, kv_head);
        let pad = Padded::new::<S>(call.shape.head_dim);
        let n_key = segment.n_key;
        let key_stride = n_key.next_multiple_of(S::LANES);
        let tile = tile_rows(key_stride, heads.group).min(segment.rows.len());
        let n_tile = tile * heads.group;
        let [keys, values, keys_t, query, scores, sums, statistics] = scratch.floats([
            n_key * pad.stride,
            n_key * pad.stride,
            pad.len * key_stride,
            n_tile * pad.stride,
            n_tile * key_stride,
            n_tile * pad.stride,
            2 * n_tile,
        ]);
        gather(simd, call, segment, kv_head, Side::Keys, pad, keys);
        transpose(simd, keys, pad, n_key, keys_t, key_stride);
        gather(simd, call, segment, kv_head, Side::Values, pad, values);
        let keys_t = Right { data: keys_t, row: key_stride };
        let values = Right { data: values, row: pad.stride };
        for first in segment.rows.clone().step_by(tile) {
            let rows = first..(first + tile).min(segment.rows.end);
            let source = call.sources[call.query.buffer];
            gather_heads(simd, source, rows.clone(), heads, pad, call.shape.scale, query);
            let tile = Scores { segment, first_row: first, group: heads.group, stride: key_stride };
            let n_row = rows.len() * heads.group;
            tile.products(simd, n_row, query, pad, keys_t, scores);
            for (start, block) in tile.blocks(n_row) {
                let width = block.columns.next_multiple_of(S::LANES);
                for i in start..start + block.rows {
                    let position = segment.position(first + i / heads.group);
                    let row = &mut scores[i * key_stride..][..width];
                    let limit = tile.segment.limit(position);
                    let head = heads.first + i % heads.group;
                    segment.add_bias(simd, call, head, position, &mut row[..limit]);
                    tile.hide(position, row);
                    let (seen, unseen) = row.split_at_mut(limit);
                    let most = largest(simd, seen);
                    let sum = exp_sum(simd, seen, 1.0, most);
                    segment.drop_probabilities(call, first + i / heads.group, head, seen);
                    unseen.fill(0.0);
                    statistics[2 * i..2 * i + 2].copy_from_slice(&[sum, most + sum.ln()]);
                }
                let size = Size { rows: block.rows, columns: pad.stride, depth: block.columns };
                let left = Left { data: &scores[start * key_stride..], row: key_stride, step: 1 };
                let out = Out { data: &mut sums[start * pad.stride..], row: pad.stride };
                multiply(simd, size, left, values, out, false);
            }
            let finished = sums.chunks_exact_mut(pad.stride).zip(statistics.chunks_exact(2)).take(n_row);
            for (i, (sums, kept)) in finished.enumerate() {
                let reciprocal = simd.splat(1.0 / kept[0]);
                for vector in sums.chunks_exact_mut(S::LANES) {
                    simd.store(simd.mul(simd.load(vector), reciprocal), vector);
                }
                let (row, head) = (first + i / heads.group, heads.first + i % heads.group);
                // SAFETY: the row is the segment's, the head reads this key head, and the loop writes one at a time.
                unsafe { results.write(simd, row, head, &sums[..pad.len], kept[1]) };
            }
        }
    }
}

/// A tile of scores: all keys of a segment for some query rows and the heads of a group.
#[derive(Clone, Copy)]
pub struct Scores<'a> {
    pub segment: &'a Segment,
    pub first_row: usize,
    pub group: usize,
    pub stride: usize,
}

/// Rows of a tile that are cut at the same number of keys.
#[derive(Clone, Copy)]
pub struct ScoreBlock {
    pub rows: usize,
    /// Keys that the last row sees.
    pub columns: usize,
}

/// Rows of a block: two register tiles. Fewer skip more of what a causal query does not see, more call less often.
const BLOCK_ROWS: usize = 12;

impl Scores<'_> {
    /// Blocks with the number of their first row.
    pub fn blocks(self, n_row: usize) -> impl Iterator<Item = (usize, ScoreBlock)> {
        (0..n_row).step_by(BLOCK_ROWS).map(move |start| {
            let rows = BLOCK_ROWS.min(n_row - start);
            (start, ScoreBlock { rows, columns: self.limit(start + rows - 1) })
        })
    }

    /// Keys that row `i` of the tile sees.
    pub fn limit(self, i: usize) -> usize {
        self.segment.limit(self.segment.position(self.first_row + i / self.group))
    }

    /// Products of the rows of `left` with all keys (or values) that each block sees, into `to`.
    #[inline(always)]
    pub fn products<S: Simd>(
        self,
        simd: S,
        n_row: usize,
        left: &[f32],
        pad: Padded,
        right: Right<'_>,
        to: &mut [f32],
    ) {
        for (start, block) in self.blocks(n_row) {
            let columns = block.columns.next_multiple_of(S::LANES);
            let size = Size { rows: block.rows, columns, depth: pad.len };
            let left = Left { data: &left[start * pad.stride..], row: pad.stride, step: 1 };
            let out = Out { data: &mut to[start * self.stride..], row: self.stride };
            multiply(simd, size, left, right, out, false);
        }
    }

    /// Sets the scores of keys that the query does not see to negative infinity, as far as they lie among the first
    /// so many that it returns.
    #[inline(always)]
    pub fn hide(self, position: usize, scores: &mut [f32]) -> usize {
        let limit = self.segment.limit(position);
        for hidden in self.segment.hidden(position, limit) {
            scores[hidden].fill(f32::NEG_INFINITY);
        }
        limit
    }
}

//! Forward: `out = softmax(scale Q K^T) V`, and the logarithm of the softmax's sum for the backward.
//!
//! Probabilities stay unnormalised: the sum divides the result, which has fewer elements.

use std::ops::Range;

use super::multiply::{Left, Out, Right, Size, multiply};
use super::pack::{Form, Heads, Side, gather, gather_queries};
use super::{Call, Segment, check, thin};
use crate::CpuBackend;
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, TILE_ROWS, exp_sum, largest};
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
        let form = Form::new::<S>(call);
        let (n_key, pad) = (segment.n_key, form.pad);
        let scores = Scores::new::<S>(segment, heads.group);
        let stride = scores.stride;
        let n_whole = form.bundles(n_key) * form.words.per_word();
        let [rows, bundles, keys, query, products, probabilities, sums] = scratch.floats([
            n_whole * form.row(),
            form.bundle_memory(n_key),
            form.panel_memory::<S>(n_key),
            BLOCK_ROWS * form.row(),
            BLOCK_ROWS * stride,
            form.rounded_memory(BLOCK_ROWS * stride),
            BLOCK_ROWS * pad.stride,
        ]);
        let [rows, bundles, keys, query, probabilities] =
            [rows, bundles, keys, query, probabilities].map(bytemuck::cast_slice_mut);
        gather(simd, call, segment, kv_head, Side::Keys, form, rows);
        form.turn(simd, rows, n_key, keys);
        gather(simd, call, segment, kv_head, Side::Values, form, rows);
        let values = form.bundle(simd, rows, n_key, bundles);
        let keys = Right::panels::<S>(keys, form.depth());
        let values = Right::rows::<S>(values, pad.stride);
        let source = call.sources[call.query.buffer];
        for block in scores.blocks::<S>(0..scores.n_row()) {
            gather_queries(simd, source, segment.rows.start, block.rows.clone(), heads, form, query);
            scores.products(simd, form, &block, query, keys, products);
            let mut statistics = [(0.0, 0.0); BLOCK_ROWS];
            let each = block.rows.clone().zip(products.chunks_exact_mut(stride)).zip(&mut statistics);
            for (at, ((i, products), kept)) in each.enumerate() {
                let (row, head) = (segment.rows.start + i / heads.group, heads.first + i % heads.group);
                let position = segment.position(row);
                let limit = segment.limit(position);
                let factor = segment.score(simd, call, head, position, &mut products[..limit]);
                scores.hide(position, products);
                let products = &mut products[..block.width];
                let (seen, unseen) = products.split_at_mut(limit);
                let most = factor * largest(simd, seen);
                let sum = exp_sum(simd, seen, factor, most);
                segment.drop_probabilities(call, row, head, seen);
                unseen.fill(0.0);
                form.round(simd, products, probabilities, at * stride);
                *kept = (1.0 / sum, most + sum.ln());
            }
            let left = form.choose(products, probabilities);
            let left = Left { words: left, row: stride / form.words.per_word() };
            let size =
                Size { rows: block.rows.len(), columns: pad.stride, depth: form.bundles(block.columns) };
            let out = Out { sums, row: pad.stride };
            multiply(simd, form.words, size, left, values, out, false);
            let finished = block.rows.zip(sums.chunks_exact_mut(pad.stride)).zip(statistics);
            for ((i, sums), (reciprocal, log_sum_exp)) in finished {
                let reciprocal = simd.splat(reciprocal);
                for vector in sums.chunks_exact_mut(S::LANES) {
                    simd.store(simd.mul(simd.load(vector), reciprocal), vector);
                }
                let (row, head) = (segment.rows.start + i / heads.group, heads.first + i % heads.group);
                // SAFETY: the row is the segment's, the head reads this key head, and the loop writes one at a time.
                unsafe { results.write(simd, row, head, &sums[..pad.len], log_sum_exp) };
            }
        }
    }
}

/// The scores of a segment for the heads of a group: row `i` is that of query `i / group` and head `i % group`.
#[derive(Clone, Copy)]
pub struct Scores<'a> {
    pub segment: &'a Segment,
    pub group: usize,
    /// Numbers from one row to the next: whole tiles, and not a power of two, which the caches map to few places.
    pub stride: usize,
}

/// Rows of scores that are worked on together.
pub struct ScoreBlock {
    pub rows: Range<usize>,
    /// Keys that the last row sees.
    pub columns: usize,
    /// These, rounded up to whole tiles: columns that are written.
    pub width: usize,
}

/// Rows of a block: two register tiles. Fewer skip more of what a causal query does not see, more read the keys less often.
pub const BLOCK_ROWS: usize = 2 * TILE_ROWS;

impl<'a> Scores<'a> {
    pub fn new<S: Simd>(segment: &'a Segment, group: usize) -> Self {
        Self { segment, group, stride: segment.n_key.next_multiple_of(S::TILE_COLUMNS) + S::LANES }
    }

    /// All rows.
    pub fn n_row(self) -> usize {
        self.segment.rows.len() * self.group
    }

    /// Blocks of some rows.
    pub fn blocks<S: Simd>(self, rows: Range<usize>) -> impl Iterator<Item = ScoreBlock> {
        rows.clone().step_by(BLOCK_ROWS).map(move |start| {
            let rows = start..rows.end.min(start + BLOCK_ROWS);
            let columns = self.limit(rows.end - 1);
            ScoreBlock { rows, columns, width: columns.next_multiple_of(S::TILE_COLUMNS) }
        })
    }

    /// Keys that a row sees.
    pub fn limit(self, i: usize) -> usize {
        self.segment.limit(self.segment.position(self.segment.rows.start + i / self.group))
    }

    /// Products of the rows of a block with all keys (or values) that it sees.
    #[inline(always)]
    pub fn products<S: Simd>(
        self,
        simd: S,
        form: Form,
        block: &ScoreBlock,
        left: &[u32],
        right: Right<'_>,
        to: &mut [f32],
    ) {
        let columns = block.columns.next_multiple_of(S::LANES);
        let size = Size { rows: block.rows.len(), columns, depth: form.depth() };
        let left = Left { words: left, row: form.row() };
        multiply(simd, form.words, size, left, right, Out { sums: to, row: self.stride }, false);
    }

    /// Sets the scores of keys that the query does not see to negative infinity, as far as they lie among the first
    /// so many that it may see.
    #[inline(always)]
    pub fn hide(self, position: usize, scores: &mut [f32]) {
        for hidden in self.segment.hidden(position, self.segment.limit(position)) {
            scores[hidden].fill(f32::NEG_INFINITY);
        }
    }
}

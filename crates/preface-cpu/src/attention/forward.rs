//! Forward: `out = softmax(scale Q K^T) V`, and the logarithm of the softmax's sum for the backward.
//!
//! Probabilities stay unnormalised: the sum divides the result, which has fewer elements.

use std::ops::Range;

use super::multiply::{Left, Out, Right, Size, multiply};
use super::pack::{Heads, Padded, Part, Side, cut_for_parts, gather, gather_queries};
use super::{Call, Segment, check, thin};
use crate::CpuBackend;
use crate::scratch::{Scratch, room};
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
        let parts = Part::all::<S>(call, segment);
        let scores = Scores::new::<S>(segment, heads.group, &parts);
        let (stride, pad) = (scores.stride, Padded::new::<S>(call.shape.head_dim));
        let sizes = |part: &Part| Seen::sizes::<S>(part, stride);
        let n_memory = parts.iter().map(|part| room(sizes(part))).sum();
        let [memory, products, sums] =
            scratch.floats([n_memory, BLOCK_ROWS * stride, BLOCK_ROWS * pad.stride]);
        let memory = cut_for_parts(&parts, memory, sizes);
        let mut seen = Vec::with_capacity(parts.len());
        for (part, memory) in parts.iter().zip(memory) {
            seen.push(Seen::new(simd, call, segment, kv_head, part, memory));
        }
        let source = call.sources[call.query.buffer];
        for block in scores.blocks::<S>(0..scores.n_row()) {
            for Seen { part, keys, query, .. } in &mut seen {
                gather_queries(simd, source, segment.rows.start, block.rows.clone(), heads, part.form, query);
                scores.products(simd, part, &block, query, *keys, products);
            }
            let mut statistics = [(0.0, 0.0); BLOCK_ROWS];
            let each = block.rows.clone().zip(products.chunks_exact_mut(stride)).zip(&mut statistics);
            for (at, ((i, products), kept)) in each.enumerate() {
                let (row, head) = (segment.rows.start + i / heads.group, heads.first + i % heads.group);
                let position = segment.position(row);
                let limit = segment.limit(position);
                let factor = segment.score(simd, call, head, position, &mut products[..limit]);
                scores.hide(position, products);
                let products = &mut products[..block.width];
                let (seeing, unseen) = products.split_at_mut(limit);
                let most = factor * largest(simd, seeing);
                let sum = exp_sum(simd, seeing, factor, most);
                segment.drop_probabilities(call, row, head, seeing);
                unseen.fill(0.0);
                for Seen { part, probabilities, .. } in &mut seen {
                    part.round(simd, products, probabilities, at * stride);
                }
                *kept = (1.0 / sum, most + sum.ln());
            }
            let mut out = BlockSums::new(&block, sums, pad.stride);
            for Seen { part, values, probabilities, .. } in &seen {
                out.add(simd, part, part.left(products, probabilities, stride), *values);
            }
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

/// What a block of queries reads of a part.
struct Seen<'a> {
    part: &'a Part,
    keys: Right<'a>,
    values: Right<'a>,
    query: &'a mut [u32],
    probabilities: &'a mut [u32],
}

impl<'a> Seen<'a> {
    /// Words of memory, of which that for rows is free again afterwards.
    fn sizes<S: Simd>(part: &Part, stride: usize) -> [usize; 5] {
        let (form, n_key) = (part.form, part.n_key());
        [
            part.whole_rows() * form.row(),
            form.bundle_memory(n_key),
            form.panel_memory::<S>(n_key),
            BLOCK_ROWS * form.row(),
            form.rounded_memory(BLOCK_ROWS * stride),
        ]
    }

    #[inline(always)]
    fn new<S: Simd>(
        simd: S,
        call: &Call<'_>,
        segment: &Segment,
        kv_head: usize,
        part: &'a Part,
        memory: [&'a mut [u32]; 5],
    ) -> Self {
        let [rows, bundles, keys, query, probabilities] = memory;
        let (form, n_key) = (part.form, part.n_key());
        gather(simd, call, segment, kv_head, Side::Keys, part, rows);
        form.turn(simd, rows, n_key, keys);
        gather(simd, call, segment, kv_head, Side::Values, part, rows);
        let values = Right::rows::<S>(form.bundle(simd, rows, n_key, bundles), form.pad.stride);
        Self { part, keys: Right::panels::<S>(keys, form.depth()), values, query, probabilities }
    }
}

/// Products of a block's rows, over the keys that it sees, with rows of head vectors: the sum over all parts.
pub struct BlockSums<'a> {
    block: &'a ScoreBlock,
    sums: &'a mut [f32],
    row: usize,
    n_part: usize,
}

impl<'a> BlockSums<'a> {
    /// Nothing yet: `sums` holds anything until the first part is added.
    pub fn new(block: &'a ScoreBlock, sums: &'a mut [f32], row: usize) -> Self {
        Self { block, sums, row, n_part: 0 }
    }

    /// Adds a part.
    #[inline(always)]
    pub fn add<S: Simd>(&mut self, simd: S, part: &Part, left: Left<'_>, right: Right<'_>) {
        let (form, n_seen) = (part.form, part.seen(self.block.columns));
        if n_seen == 0 && self.n_part > 0 {
            return;
        }
        let size = Size { rows: self.block.rows.len(), columns: self.row, depth: form.bundles(n_seen) };
        let out = Out { sums: self.sums, row: self.row };
        multiply(simd, form.words, size, left, right, out, self.n_part > 0);
        self.n_part += 1;
    }
}

/// The scores of a segment for the heads of a group: row `i` is that of query `i / group` and head `i % group`.
#[derive(Clone, Copy)]
pub struct Scores<'a> {
    pub segment: &'a Segment,
    pub group: usize,
    pub parts: &'a [Part],
    /// Numbers from one row to the next: whole vectors, and not a power of two, which the caches map to few places.
    pub stride: usize,
}

/// Rows of scores that are worked on together.
pub struct ScoreBlock {
    pub rows: Range<usize>,
    /// Keys that the last row sees.
    pub columns: usize,
    /// These, and what else belongs to the tiles of a part: columns that are written.
    pub width: usize,
}

/// Rows of a block: two register tiles. Fewer skip more of what a causal query does not see, more read the keys less often.
pub const BLOCK_ROWS: usize = 2 * TILE_ROWS;

impl<'a> Scores<'a> {
    pub fn new<S: Simd>(segment: &'a Segment, group: usize, parts: &'a [Part]) -> Self {
        let scores = Self { segment, group, parts, stride: 0 };
        Self { stride: scores.width::<S>(segment.n_key) + S::LANES, ..scores }
    }

    /// Columns that are written where so many are seen.
    fn width<S: Simd>(self, columns: usize) -> usize {
        let widths = self.parts.iter().map(|part| part.columns.start + part.width::<S>(part.seen(columns)));
        widths.max().unwrap_or(0).next_multiple_of(S::LANES)
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
            ScoreBlock { rows, columns, width: self.width::<S>(columns) }
        })
    }

    /// Keys that a row sees.
    pub fn limit(self, i: usize) -> usize {
        self.segment.limit(self.segment.position(self.segment.rows.start + i / self.group))
    }

    /// Products of the rows of a block with the keys (or values) of a part that it sees. What is written ends with a whole
    /// vector, so the parts come in their order.
    #[inline(always)]
    pub fn products<S: Simd>(
        self,
        simd: S,
        part: &Part,
        block: &ScoreBlock,
        left: &[u32],
        right: Right<'_>,
        to: &mut [f32],
    ) {
        let form = part.form;
        let columns = part.seen(block.columns).next_multiple_of(S::LANES);
        let size = Size { rows: block.rows.len(), columns, depth: form.depth() };
        let left = Left { words: left, row: form.row() };
        let out = Out { sums: &mut to[part.columns.start..], row: self.stride };
        multiply(simd, form.words, size, left, right, out, false);
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

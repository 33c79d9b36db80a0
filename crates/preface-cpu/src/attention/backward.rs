//! Backward, with the probabilities computed again from the kept logarithms of their sums.
//!
//! `P = exp(S - lse)`, `dP = M dO V^T`, `dS = P (dP - rowsum(P dP))`; then `dQ = scale dS K`, `dK = scale dS^T Q`,
//! `dV = (M P)^T dO`, `M` the factors of dropout if there is any.
//!
//! A task takes a tile of its queries after the other. Blocks of a tile's rows go as far as `dQ`; their `P` and `dS` stay, as
//! bundles, for the two products over the tile's queries, which are computed turned, `dK^T = Q^T dS`: what is turned then is
//! the small factor.

use std::ops::Range;

use preface_backend::{Place, StoreGrad};

use super::forward::{BLOCK_ROWS, BlockSums, ScoreBlock, Scores};
use super::multiply::{Left, Out, Right, Size, multiply};
use super::pack::{Heads, Padded, Part, Side, cut_for_parts, element, gather, gather_queries, head_columns};
use super::{Call, Keys, SCORE_TILE, Segment, check, check_gradients};
use crate::CpuBackend;
use crate::scratch::{Scratch, room};
use crate::simd::{Kernel, SQUARE, Simd, Words, dot, exp_sum, turn_rows, update};
use crate::storage::{CpuRows, Element, SharedRows};

pub fn backward(
    backend: &CpuBackend,
    call: &Call<'_>,
    log_sum_exp: &CpuRows,
    d_out: &CpuRows,
    d_query: Option<Place>,
    d_stores: &[Option<StoreGrad>],
    grads: &mut [&mut CpuRows],
) {
    check(call, d_out);
    check_gradients(call, d_query, d_stores, grads);
    let shape = call.shape;
    let grads: Vec<SharedRows<'_>> = grads.iter_mut().map(|grad| grad.share()).collect();
    for (segments, n_key) in call.plan.groups() {
        // Columns: keys of all key heads, then values.
        let mut d_keys = CpuRows::new(&backend.buffers, n_key, 2 * shape.kv_width(), Element::F32);
        let parts = d_keys.share();
        backend.pool.run(segments.len() * shape.n_kv_head, |task, scratch| {
            let (segment, kv_head) = (&segments[task / shape.n_kv_head], task % shape.n_kv_head);
            let d_query = d_query.map(|place| (&grads[place.buffer], Heads::new(call, place, kv_head)));
            let wanted = wanted(segment, d_stores);
            let d_keys = (!wanted.is_empty()).then_some((&parts, wanted));
            backend.tier.run(Backward {
                call,
                log_sum_exp,
                d_out,
                segment,
                kv_head,
                d_query,
                d_keys,
                scratch,
            });
        });
        if d_stores.iter().all(Option::is_none) {
            continue;
        }
        // Keys and values apart: more tasks than threads, which end together.
        backend.pool.run(2 * shape.n_kv_head, |task, scratch| {
            let side = if task % 2 == 0 { Side::Keys } else { Side::Values };
            let [wide] = scratch.floats([shape.head_dim]);
            backend.tier.run(Collect {
                call,
                segments,
                d_stores,
                grads: &grads,
                d_keys: &d_keys,
                kv_head: task / 2,
                side,
                wide,
            });
        });
    }
}

struct Backward<'a> {
    call: &'a Call<'a>,
    log_sum_exp: &'a CpuRows,
    d_out: &'a CpuRows,
    segment: &'a Segment,
    kv_head: usize,
    d_query: Option<(&'a SharedRows<'a>, Heads)>,
    /// Where gradients of keys and values go, and of which of the gathered keys they are wanted.
    d_keys: Option<(&'a SharedRows<'a>, Range<usize>)>,
    scratch: &'a mut Scratch,
}

/// The shortest run of gathered keys that holds all whose gradients are wanted: in the lowest layer the prefix alone.
fn wanted(segment: &Segment, d_stores: &[Option<StoreGrad>]) -> Range<usize> {
    let wanted = segment.keys.iter().filter(|keys| d_stores[keys.store].is_some() && keys.len > 0);
    wanted
        .map(|keys| keys.start..keys.start + keys.len)
        .reduce(|all, keys| all.start.min(keys.start)..all.end.max(keys.end))
        .unwrap_or(0..0)
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { call, segment, kv_head, .. } = self;
        let parts = Part::all::<S>(call, segment);
        let pad = Padded::new::<S>(call.shape.head_dim);
        let heads = Heads::new(call, call.query, kv_head);
        let out_heads = Heads::new(call, Place { buffer: 0, column: 0 }, kv_head);
        let scores = Scores::new::<S>(segment, heads.group, &parts);
        let (tile, stride) = (tile_rows(scores), scores.stride);
        let sizes = |part: &Part| Seen::sizes::<S>(part, tile, stride);
        let n_memory = parts.iter().map(|part| room(sizes(part))).sum();
        let [memory, p, ds, d_query, wide] = self.scratch.floats([
            n_memory,
            BLOCK_ROWS * stride,
            BLOCK_ROWS * stride,
            BLOCK_ROWS * pad.stride,
            S::TILE_COLUMNS * pad.stride,
        ]);
        let memory = cut_for_parts(&parts, memory, sizes);
        let mut seen = Vec::with_capacity(parts.len());
        for (part, memory) in parts.iter().zip(memory) {
            seen.push(Seen::new(simd, call, segment, kv_head, part, memory));
        }
        let source = call.sources[call.query.buffer];
        for first in (0..scores.n_row()).step_by(tile) {
            let rows = first..scores.n_row().min(first + tile);
            for Seen { part, query, d_out, .. } in &mut seen {
                let (start, form) = (segment.rows.start, part.form);
                gather_queries(simd, source, start, rows.clone(), heads, form, query);
                gather_queries(simd, self.d_out, start, rows.clone(), out_heads, form, d_out);
            }
            for block in scores.blocks::<S>(rows.clone()) {
                let start = block.rows.start - first;
                for Seen { part, keys, values, query, d_out, .. } in &seen {
                    let start = start * part.form.row();
                    scores.products(simd, part, &block, &query[start..], *keys, p);
                    scores.products(simd, part, &block, &d_out[start..], *values, ds);
                }
                let each =
                    block.rows.clone().zip(p.chunks_exact_mut(stride)).zip(ds.chunks_exact_mut(stride));
                for (at, ((i, p), ds)) in each.enumerate() {
                    let (p, ds) = (&mut p[..block.width], &mut ds[..block.width]);
                    let row = segment.rows.start + i / heads.group;
                    let (position, head) = (segment.position(row), heads.first + i % heads.group);
                    if let Some((grads, heads)) = self.d_query {
                        grads.span(row, heads.columns(i % heads.group)).prefetch();
                    }
                    let limit = segment.limit(position);
                    let factor = segment.score(simd, call, head, position, &mut p[..limit]);
                    scores.hide(position, p);
                    let mut log_sum_exp = [0.0];
                    self.log_sum_exp.part(row, head..head + 1).read(simd, &mut log_sum_exp);
                    exp_sum(simd, &mut p[..limit], factor, log_sum_exp[0]);
                    // Hidden scores' probabilities are zero, whatever `dP` is there; beyond the limit nothing was computed.
                    p[limit..].fill(0.0);
                    ds[limit..].fill(0.0);
                    segment.drop_probabilities(call, row, head, &mut ds[..limit]);
                    let along = simd.splat(dot(simd, &p[..limit], &ds[..limit]));
                    update(
                        simd,
                        ds,
                        p,
                        #[inline(always)]
                        |dp, p| simd.mul(p, simd.sub(dp, along)),
                    );
                    // The values' gradient is with the shares that the query got.
                    segment.drop_probabilities(call, row, head, &mut p[..limit]);
                    for Seen { part, rounded, .. } in &mut seen {
                        part.round(simd, ds, rounded, at * stride);
                    }
                }
                if let Some((grads, heads)) = self.d_query {
                    let mut sums = BlockSums::new(&block, d_query, pad.stride);
                    for Seen { part, key_bundles, rounded, .. } in &seen {
                        sums.add(simd, part, part.left(ds, rounded, stride), *key_bundles);
                    }
                    let scale = simd.splat(call.shape.scale);
                    for (i, d_query) in block.rows.clone().zip(d_query.chunks_exact(pad.stride)) {
                        let row = segment.rows.start + i / heads.group;
                        // SAFETY: this task alone has the rows of its segment and the heads of its key head, and the loop
                        // adds to one at a time.
                        let grad = unsafe { grads.part(row, heads.columns(i % heads.group)) };
                        grad.change(
                            simd,
                            &mut wide[..pad.len],
                            #[inline(always)]
                            |grad| {
                                update(
                                    simd,
                                    grad,
                                    &d_query[..pad.len],
                                    #[inline(always)]
                                    |grad, d| simd.mul_add(d, scale, grad),
                                );
                            },
                        );
                    }
                }
                if self.d_keys.is_some() {
                    for seen in &mut seen {
                        seen.wait(simd, &block, start, stride, p, ds);
                    }
                }
            }
            let Some((_, wanted)) = &self.d_keys else { continue };
            for seen in &mut seen {
                seen.add_gradients(simd, scores, rows.clone(), wanted);
            }
        }
        let Some((gradients, wanted)) = self.d_keys else { return };
        for (Seen { part, d_keys, d_values, .. }, side) in
            seen.iter().flat_map(|seen| [(seen, Side::Keys), (seen, Side::Values)])
        {
            let turned = if side == Side::Keys { d_keys } else { d_values };
            let place = gathered(call, side);
            let factor = if side == Side::Keys { call.shape.scale } else { 1.0 };
            let mut there = None;
            let is_wanted = |keys: &&Keys| wanted.contains(&keys.start) && part.columns.contains(&keys.start);
            for keys in segment.keys.iter().filter(is_wanted) {
                for row in 0..keys.len {
                    let at = keys.start - part.columns.start + row;
                    let panel = at / S::TILE_COLUMNS;
                    if there != Some(panel) {
                        turn_back(simd, &turned[panel * pad.len * S::TILE_COLUMNS..], pad, wide);
                        there = Some(panel);
                    }
                    let gradient = &mut wide[at % S::TILE_COLUMNS * pad.stride..][..pad.len];
                    gradient.iter_mut().for_each(|value| *value *= factor);
                    if let Some(dropout) = keys.dropout {
                        for (column, value) in gradient.iter_mut().enumerate() {
                            *value *= dropout.factor(call.layer, element(call, row, side, kv_head, column));
                        }
                    }
                    // SAFETY: rows of this segment's keys and columns of this key head are written by this task
                    // alone, one part at a time.
                    let to = unsafe {
                        let row = segment.first_gradient + keys.start + row;
                        gradients.part(row, head_columns(place, kv_head, pad.len))
                    };
                    to.write(simd, gradient);
                }
            }
        }
    }
}

/// Rows of scores of a tile: whole blocks, and not fewer than what is worth reading and writing the keys' gradients for.
fn tile_rows(scores: Scores<'_>) -> usize {
    let has_pairs = scores.parts.iter().any(|part| part.form.words == Words::Pairs);
    let per_word = if has_pairs { Words::Pairs } else { Words::Floats }.per_word();
    let most = SCORE_TILE * per_word / scores.stride / BLOCK_ROWS;
    most.max(2).min(scores.n_row().div_ceil(BLOCK_ROWS)) * BLOCK_ROWS
}

/// What queries read of a part, and what they give to it.
struct Seen<'a> {
    part: &'a Part,
    keys: Right<'a>,
    values: Right<'a>,
    key_bundles: Right<'a>,
    /// Rows of a tile.
    query: &'a mut [u32],
    d_out: &'a mut [u32],
    /// `dS` of a block.
    rounded: &'a mut [u32],
    /// `M P` and `dS` of a tile, [`Self::waiting_row`] words for each bundle.
    p_bundles: &'a mut [u32],
    ds_bundles: &'a mut [u32],
    tile_bundles: &'a mut [u32],
    turned: &'a mut [u32],
    /// Gradients in panels, turned.
    d_keys: &'a mut [f32],
    d_values: &'a mut [f32],
}

impl<'a> Seen<'a> {
    /// Words of memory, of which that for rows is free again afterwards.
    fn sizes<S: Simd>(part: &Part, tile: usize, stride: usize) -> [usize; 13] {
        let (form, n_key) = (part.form, part.n_key());
        let waiting = form.bundles(tile) * Self::waiting_row::<S>(part);
        let gradients = n_key.next_multiple_of(S::TILE_COLUMNS) * form.pad.len;
        [
            part.whole_rows() * form.row(),
            form.bundle_memory(n_key),
            form.panel_memory::<S>(n_key),
            form.panel_memory::<S>(n_key),
            tile * form.row(),
            tile * form.row(),
            form.rounded_memory(BLOCK_ROWS * stride),
            waiting,
            waiting,
            form.bundle_memory(tile),
            form.pad.len * form.bundles(tile).next_multiple_of(SQUARE),
            gradients,
            gradients,
        ]
    }

    fn waiting_row<S: Simd>(part: &Part) -> usize {
        part.n_key().next_multiple_of(S::LANES) + S::LANES
    }

    #[inline(always)]
    fn new<S: Simd>(
        simd: S,
        call: &Call<'_>,
        segment: &Segment,
        kv_head: usize,
        part: &'a Part,
        memory: [&'a mut [u32]; 13],
    ) -> Self {
        let [
            rows,
            bundles,
            keys,
            values,
            query,
            d_out,
            rounded,
            p_bundles,
            ds_bundles,
            tile_bundles,
            turned,
            d_keys,
            d_values,
        ] = memory;
        let (form, n_key) = (part.form, part.n_key());
        gather(simd, call, segment, kv_head, Side::Values, part, rows);
        form.turn(simd, rows, n_key, values);
        gather(simd, call, segment, kv_head, Side::Keys, part, rows);
        form.turn(simd, rows, n_key, keys);
        let key_bundles = Right::rows::<S>(form.bundle(simd, rows, n_key, bundles), form.pad.stride);
        let [keys, values] = [keys, values].map(|turned| Right::panels::<S>(turned, form.depth()));
        let [d_keys, d_values]: [&mut [f32]; 2] = [d_keys, d_values].map(bytemuck::cast_slice_mut);
        d_keys.fill(0.0);
        d_values.fill(0.0);
        Self {
            part,
            keys,
            values,
            key_bundles,
            query,
            d_out,
            rounded,
            p_bundles,
            ds_bundles,
            tile_bundles,
            turned,
            d_keys,
            d_values,
        }
    }

    /// Keeps a block's `M P` and `dS` until the tile is complete. The block is the tile's from row `start` on.
    #[inline(always)]
    fn wait<S: Simd>(
        &mut self,
        simd: S,
        block: &ScoreBlock,
        start: usize,
        stride: usize,
        p: &[f32],
        ds: &[f32],
    ) {
        let (form, first) = (self.part.form, self.part.columns.start);
        let width = self.part.width::<S>(self.part.seen(block.columns));
        let (per_word, row) = (form.words.per_word(), Self::waiting_row::<S>(self.part));
        let n = (block.rows.len() - 1) * stride + first + width;
        for (from, to) in [(p, &mut *self.p_bundles), (ds, &mut *self.ds_bundles)] {
            let to = to[start / per_word * row..].chunks_exact_mut(row);
            for (from, to) in from[first..n].chunks(per_word * stride).zip(to) {
                form.bundle_floats(simd, from, stride, width, to);
            }
        }
    }

    /// Adds the products over a tile's queries, `rows`.
    #[inline(always)]
    fn add_gradients<S: Simd>(
        &mut self,
        simd: S,
        scores: Scores<'_>,
        rows: Range<usize>,
        wanted: &Range<usize>,
    ) {
        let (form, all) = (self.part.form, &self.part.columns);
        let wanted = self.part.seen(wanted.start)..self.part.seen(wanted.end);
        if wanted.is_empty() {
            return;
        }
        let (n_bundle, row) = (form.bundles(rows.len()), Self::waiting_row::<S>(self.part));
        let turned_row = n_bundle.next_multiple_of(SQUARE);
        for (left, right, to) in [
            (&*self.query, &*self.ds_bundles, &mut *self.d_keys),
            (&*self.d_out, &*self.p_bundles, &mut *self.d_values),
        ] {
            let left = form.bundle(simd, left, rows.len(), self.tile_bundles);
            form.turn_bundles(simd, left, n_bundle, self.turned, turned_row);
            let left = Left { words: &*self.turned, row: turned_row };
            let mut first_row = rows.start;
            let panels = wanted.start / S::TILE_COLUMNS..wanted.end.div_ceil(S::TILE_COLUMNS);
            let panel_len = form.pad.len * S::TILE_COLUMNS;
            for (panel, to) in panels.clone().zip(to.chunks_exact_mut(panel_len).skip(panels.start)) {
                let key = panel * S::TILE_COLUMNS;
                // Later queries see more, so rows that see none of these keys see none of the later ones either.
                while first_row < rows.end && scores.limit(first_row) <= all.start + key {
                    first_row += 1;
                }
                if first_row == rows.end {
                    break;
                }
                let first = (first_row - rows.start) / form.words.per_word();
                let columns = (wanted.end - key).min(S::TILE_COLUMNS).next_multiple_of(S::LANES);
                let size = Size { rows: form.pad.len, columns, depth: n_bundle - first };
                let left = Left { words: &left.words[first..], row: left.row };
                let right = Right::rows::<S>(&right[first * row + key..], row);
                multiply(simd, form.words, size, left, right, Out { sums: to, row: S::TILE_COLUMNS }, true);
            }
        }
    }
}

/// Rows of the keys of a panel.
#[inline(always)]
fn turn_back<S: Simd>(simd: S, panel: &[f32], pad: Padded, to: &mut [f32]) {
    let to: &mut [u32] = bytemuck::cast_slice_mut(to);
    for first in (0..pad.len).step_by(SQUARE) {
        let mut square = [None; SQUARE];
        for (j, words) in square.iter_mut().enumerate().take(pad.len - first) {
            *words = Some(bytemuck::cast_slice(&panel[(first + j) * S::TILE_COLUMNS..][..S::TILE_COLUMNS]));
        }
        turn_rows(simd, square, S::TILE_COLUMNS, &mut to[first..], pad.stride);
    }
}

/// Adds the gradients of the segments' keys, or values, to those of the stores, for one key head.
struct Collect<'a> {
    call: &'a Call<'a>,
    segments: &'a [Segment],
    d_stores: &'a [Option<StoreGrad>],
    grads: &'a [SharedRows<'a>],
    d_keys: &'a CpuRows,
    kv_head: usize,
    side: Side,
    wide: &'a mut [f32],
}

impl Kernel for Collect<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let head_dim = self.call.shape.head_dim;
        let first = gathered(self.call, self.side);
        for segment in self.segments {
            for keys in &segment.keys {
                let Some(grad) = self.d_stores[keys.store] else { continue };
                let place = if self.side == Side::Keys { grad.keys } else { grad.values };
                let from = head_columns(first, self.kv_head, head_dim);
                let to = head_columns(place, self.kv_head, head_dim);
                for row in 0..keys.len {
                    let from = self.d_keys.part(segment.first_gradient + keys.start + row, from.clone());
                    let crate::storage::View::F32(from) = from else { unreachable!("made as f32") };
                    // SAFETY: places overlap only where they are equal, and none of keys is one of values
                    // (`check_gradients`), so the columns of a key head and a side belong to this task alone, which
                    // uses one part at a time.
                    let to = unsafe { self.grads[place.buffer].part(keys.first_row + row, to.clone()) };
                    to.change(
                        simd,
                        self.wide,
                        #[inline(always)]
                        |to| {
                            update(
                                simd,
                                to,
                                from,
                                #[inline(always)]
                                |to, d| simd.add(to, d),
                            )
                        },
                    );
                }
            }
        }
    }
}

/// Where the gradients of a call's keys, or values, lie in the matrix of those of a group's segments.
fn gathered(call: &Call<'_>, side: Side) -> Place {
    Place { buffer: 0, column: if side == Side::Keys { 0 } else { call.shape.kv_width() } }
}

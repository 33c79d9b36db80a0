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

use super::forward::{BLOCK_ROWS, Scores};
use super::multiply::{Left, Out, Right, Size, multiply};
use super::pack::{Form, Heads, Padded, Side, element, gather, gather_queries, head_columns};
use super::{Call, SCORE_TILE, Segment, check, check_gradients};
use crate::CpuBackend;
use crate::scratch::Scratch;
use crate::simd::{Kernel, SQUARE, Simd, dot, exp_sum, turn_rows, update};
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
        backend.pool.run(shape.n_kv_head, |kv_head, scratch| {
            let [wide] = scratch.floats([shape.head_dim]);
            backend.tier.run(Collect {
                call,
                segments,
                d_stores,
                grads: &grads,
                d_keys: &d_keys,
                kv_head,
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
        let form = Form::new::<S>(call);
        let (n_key, pad) = (segment.n_key, form.pad);
        let heads = Heads::new(call, call.query, kv_head);
        let out_heads = Heads::new(call, Place { buffer: 0, column: 0 }, kv_head);
        let scores = Scores::new::<S>(segment, heads.group);
        let tile = tile_rows(form, scores);
        let (stride, n_bundle) = (scores.stride, form.bundles(tile));
        let n_whole = form.bundles(n_key) * form.words.per_word();
        let n_turned = n_key.next_multiple_of(S::TILE_COLUMNS) * pad.len;
        let bundle_row = n_bundle.next_multiple_of(SQUARE);
        let memory = self.scratch.floats([
            n_whole * form.row(),
            form.bundle_memory(n_key),
            form.panel_memory::<S>(n_key),
            form.panel_memory::<S>(n_key),
            tile * form.row(),
            tile * form.row(),
            form.bundle_memory(tile),
            2 * pad.len * bundle_row,
            2 * n_bundle * stride,
            form.rounded_memory(BLOCK_ROWS * stride),
            2 * BLOCK_ROWS * stride,
            BLOCK_ROWS * pad.stride,
            2 * n_turned,
            S::TILE_COLUMNS * pad.stride,
        ]);
        let [
            rows,
            bundles,
            keys,
            values,
            query,
            d_out,
            tile_bundles,
            turned,
            waiting,
            rounded,
            block_memory,
            d_query,
            d_turned,
            wide,
        ] = memory;
        let [rows, bundles, keys, values, query, d_out, tile_bundles, turned, waiting, rounded] =
            [rows, bundles, keys, values, query, d_out, tile_bundles, turned, waiting, rounded]
                .map(bytemuck::cast_slice_mut);
        let (query_turned, d_out_turned) = turned.split_at_mut(pad.len * bundle_row);
        let (p_bundles, ds_bundles) = waiting.split_at_mut(n_bundle * stride);
        let (p, ds) = block_memory.split_at_mut(BLOCK_ROWS * stride);
        let (d_keys, d_values) = d_turned.split_at_mut(n_turned);

        gather(simd, call, segment, kv_head, Side::Values, form, rows);
        form.turn(simd, rows, n_key, values);
        gather(simd, call, segment, kv_head, Side::Keys, form, rows);
        form.turn(simd, rows, n_key, keys);
        let key_bundles = Right::rows::<S>(form.bundle(simd, rows, n_key, bundles), pad.stride);
        let keys = Right::panels::<S>(keys, form.depth());
        let values = Right::panels::<S>(values, form.depth());
        d_keys.fill(0.0);
        d_values.fill(0.0);
        let source = call.sources[call.query.buffer];
        for first in (0..scores.n_row()).step_by(tile) {
            let rows = first..scores.n_row().min(first + tile);
            gather_queries(simd, source, segment.rows.start, rows.clone(), heads, form, query);
            gather_queries(simd, self.d_out, segment.rows.start, rows.clone(), out_heads, form, d_out);
            for block in scores.blocks::<S>(rows.clone()) {
                let start = block.rows.start - first;
                let n_row = block.rows.len();
                scores.products(simd, form, &block, &query[start * form.row()..], keys, p);
                scores.products(simd, form, &block, &d_out[start * form.row()..], values, ds);
                let each =
                    block.rows.clone().zip(p.chunks_exact_mut(stride)).zip(ds.chunks_exact_mut(stride));
                for (at, ((i, p), ds)) in each.enumerate() {
                    let (p, ds) = (&mut p[..block.width], &mut ds[..block.width]);
                    let row = segment.rows.start + i / heads.group;
                    let (position, head) = (segment.position(row), heads.first + i % heads.group);
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
                    form.round(simd, ds, rounded, at * stride);
                }
                if let Some((grads, heads)) = self.d_query {
                    let size = Size { rows: n_row, columns: pad.stride, depth: form.bundles(block.columns) };
                    let left = form.choose(ds, rounded);
                    let left = Left { words: left, row: stride / form.words.per_word() };
                    let out = Out { sums: d_query, row: pad.stride };
                    multiply(simd, form.words, size, left, key_bundles, out, false);
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
                    let per_word = form.words.per_word();
                    for (from, to) in [(&*p, &mut *p_bundles), (&*ds, &mut *ds_bundles)] {
                        let to = to[start / per_word * stride..].chunks_exact_mut(stride);
                        for (from, to) in from[..n_row * stride].chunks(per_word * stride).zip(to) {
                            form.bundle_floats(simd, from, stride, block.width, to);
                        }
                    }
                }
            }
            let Some((_, wanted)) = &self.d_keys else { continue };
            let n_row = rows.len();
            for (left, turned, right, to) in [
                (&*query, &mut *query_turned, &*ds_bundles, &mut *d_keys),
                (&*d_out, &mut *d_out_turned, &*p_bundles, &mut *d_values),
            ] {
                let left = form.bundle(simd, left, n_row, tile_bundles);
                form.turn_bundles(simd, left, form.bundles(n_row), turned, bundle_row);
                let left = Left { words: turned, row: bundle_row };
                add_turned(simd, scores, form, rows.clone(), wanted.clone(), left, right, to);
            }
        }
        let Some((parts, wanted)) = self.d_keys else { return };
        let kv_width = call.shape.kv_width();
        for (side, turned) in [(Side::Keys, &*d_keys), (Side::Values, &*d_values)] {
            let place = Place { buffer: 0, column: if side == Side::Keys { 0 } else { kv_width } };
            let factor = if side == Side::Keys { call.shape.scale } else { 1.0 };
            let mut there = None;
            for keys in segment.keys.iter().filter(|keys| wanted.contains(&keys.start)) {
                for row in 0..keys.len {
                    let at = keys.start + row;
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
                    let part = unsafe {
                        parts.part(segment.first_gradient + at, head_columns(place, kv_head, pad.len))
                    };
                    part.write(simd, gradient);
                }
            }
        }
    }
}

/// Rows of scores of a tile: whole blocks, and not fewer than what is worth reading and writing the keys' gradients for.
fn tile_rows(form: Form, scores: Scores<'_>) -> usize {
    let most = SCORE_TILE * form.words.per_word() / scores.stride / BLOCK_ROWS;
    most.max(2).min(scores.n_row().div_ceil(BLOCK_ROWS)) * BLOCK_ROWS
}

/// `to += left right` for the columns of some keys, leaving out the rows of a tile that do not see them. `to` lies in panels
/// of the columns of a tile.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one product's operands, used at one place")]
fn add_turned<S: Simd>(
    simd: S,
    scores: Scores<'_>,
    form: Form,
    rows: Range<usize>,
    keys: Range<usize>,
    left: Left<'_>,
    right: &[u32],
    to: &mut [f32],
) {
    let (n, n_bundle) = (form.pad.len, form.bundles(rows.len()));
    let mut first_row = rows.start;
    let panels = keys.start / S::TILE_COLUMNS..keys.end.div_ceil(S::TILE_COLUMNS);
    for (panel, to) in panels.clone().zip(to.chunks_exact_mut(n * S::TILE_COLUMNS).skip(panels.start)) {
        let key = panel * S::TILE_COLUMNS;
        // Later queries see more, so rows that see none of these keys see none of the later ones either.
        while first_row < rows.end && scores.limit(first_row) <= key {
            first_row += 1;
        }
        if first_row == rows.end {
            return;
        }
        let first = (first_row - rows.start) / form.words.per_word();
        let columns = (keys.end - key).min(S::TILE_COLUMNS).next_multiple_of(S::LANES);
        let size = Size { rows: n, columns, depth: n_bundle - first };
        let left = Left { words: &left.words[first..], row: left.row };
        let right = Right::rows::<S>(&right[first * scores.stride + key..], scores.stride);
        multiply(simd, form.words, size, left, right, Out { sums: to, row: S::TILE_COLUMNS }, true);
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

/// Adds the gradients of the segments' keys to those of the stores, for one key head.
struct Collect<'a> {
    call: &'a Call<'a>,
    segments: &'a [Segment],
    d_stores: &'a [Option<StoreGrad>],
    grads: &'a [SharedRows<'a>],
    d_keys: &'a CpuRows,
    kv_head: usize,
    wide: &'a mut [f32],
}

impl Kernel for Collect<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (head_dim, kv_width) = (self.call.shape.head_dim, self.call.shape.kv_width());
        for segment in self.segments {
            for keys in &segment.keys {
                let Some(grad) = self.d_stores[keys.store] else { continue };
                for (place, offset) in [(grad.keys, 0), (grad.values, kv_width)] {
                    let from = head_columns(Place { buffer: 0, column: offset }, self.kv_head, head_dim);
                    let to = head_columns(place, self.kv_head, head_dim);
                    for row in 0..keys.len {
                        let from = self.d_keys.part(segment.first_gradient + keys.start + row, from.clone());
                        let crate::storage::View::F32(from) = from else { unreachable!("made as f32") };
                        // SAFETY: places overlap only where they are equal (`check_gradients`), so the columns of a
                        // key head belong to this task alone, which uses one part at a time.
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
}

//! Backward, with the probabilities computed again from the kept logarithms of their sums.
//!
//! `P = exp(S - lse)`, `dP = M dO V^T`, `dS = P (dP - rowsum(P dP))`; then `dQ = scale dS K`, `dK = scale dS^T Q`,
//! `dV = (M P)^T dO`, `M` the factors of dropout if there is any. The queries are gathered with `scale` on them, which settles `S` and `dK`.

use std::ops::Range;

use preface_backend::{Place, StoreGrad};

use super::forward::Scores;
use super::pack::{Heads, Padded, Side, element, gather, gather_heads, head_columns, transpose};
use super::{Call, Segment, check, check_gradients, tile_rows};
use crate::CpuBackend;
use crate::multiply::{Left, Out, Right, Size, multiply};
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, dot, exp_sum, update};
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
        let pad = Padded::new::<S>(call.shape.head_dim);
        let n_key = segment.n_key;
        let stride = n_key.next_multiple_of(S::LANES);
        let group = call.shape.n_head / call.shape.n_kv_head;
        let query_heads = Heads::new(call, call.query, kv_head);
        let out_heads = Heads::new(call, Place { buffer: 0, column: 0 }, kv_head);
        let tile = tile_rows(stride, group).min(segment.rows.len());
        let n_tile = tile * group;
        let (n_keys, n_turned) = (n_key * pad.stride, pad.len * stride);
        let [keys, values, keys_t, values_t, d_keys, d_values, query, d_out, p, ds, d_query, wide] =
            self.scratch.floats([
                n_keys,
                n_keys,
                n_turned,
                n_turned,
                n_keys,
                n_keys,
                n_tile * pad.stride,
                n_tile * pad.stride,
                n_tile * stride,
                n_tile * stride,
                n_tile * pad.stride,
                pad.len,
            ]);
        gather(simd, call, segment, kv_head, Side::Keys, pad, keys);
        transpose(simd, keys, pad, n_key, keys_t, stride);
        gather(simd, call, segment, kv_head, Side::Values, pad, values);
        transpose(simd, values, pad, n_key, values_t, stride);
        d_keys.fill(0.0);
        d_values.fill(0.0);
        for first in segment.rows.clone().step_by(tile) {
            let rows = first..(first + tile).min(segment.rows.end);
            let n_row = rows.len() * group;
            let source = call.sources[call.query.buffer];
            gather_heads(simd, source, rows.clone(), query_heads, pad, call.shape.scale, query);
            gather_heads(simd, self.d_out, rows.clone(), out_heads, pad, 1.0, d_out);
            let scores = Scores { segment, first_row: first, group, stride };
            scores.products(simd, n_row, query, pad, Right { data: keys_t, row: stride }, p);
            scores.products(simd, n_row, d_out, pad, Right { data: values_t, row: stride }, ds);
            for i in 0..n_row {
                let row = first + i / group;
                let p = &mut p[i * stride..(i + 1) * stride];
                let ds = &mut ds[i * stride..(i + 1) * stride];
                let (position, head) = (segment.position(row), out_heads.first + i % group);
                let limit = segment.limit(position);
                segment.add_bias(simd, call, head, position, &mut p[..limit]);
                scores.hide(position, p);
                let mut log_sum_exp = [0.0];
                self.log_sum_exp.part(row, head..head + 1).read(simd, &mut log_sum_exp);
                exp_sum(simd, &mut p[..limit], 1.0, log_sum_exp[0]);
                // Hidden scores' probabilities are zero, whatever `dP` is there; beyond the limit nothing was computed.
                p[limit..].fill(0.0);
                ds[limit..].fill(0.0);
                segment.drop_probabilities(call, row, head, &mut ds[..limit]);
                let along = simd.splat(dot(simd, &p[..limit], &ds[..limit]));
                update(
                    simd,
                    &mut ds[..limit],
                    &p[..limit],
                    #[inline(always)]
                    |dp, p| simd.mul(p, simd.sub(dp, along)),
                );
                // The values' gradient is with the shares that the query got.
                segment.drop_probabilities(call, row, head, &mut p[..limit]);
            }
            if let Some((grads, heads)) = self.d_query {
                for (start, block) in scores.blocks(n_row) {
                    let size = Size { rows: block.rows, columns: pad.stride, depth: block.columns };
                    let left = Left { data: &ds[start * stride..], row: stride, step: 1 };
                    let out = Out { data: &mut d_query[start * pad.stride..], row: pad.stride };
                    multiply(simd, size, left, Right { data: keys, row: pad.stride }, out, false);
                }
                let scale = simd.splat(call.shape.scale);
                for (i, d_query) in d_query.chunks_exact(pad.stride).take(n_row).enumerate() {
                    // SAFETY: this task alone has the rows of its segment and the heads of its key head, and the loop
                    // adds to one at a time.
                    let grad = unsafe { grads.part(first + i / group, heads.columns(i % group)) };
                    grad.change(
                        simd,
                        wide,
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
            if let Some((_, wanted)) = &self.d_keys {
                for (from, right, to) in [(&*ds, &*query, &mut *d_keys), (&*p, &*d_out, &mut *d_values)] {
                    add_turned(
                        simd,
                        scores,
                        n_row,
                        wanted.clone(),
                        from,
                        Right { data: right, row: pad.stride },
                        to,
                        pad,
                    );
                }
            }
        }
        let Some((parts, wanted)) = self.d_keys else { return };
        let kv_width = call.shape.kv_width();
        for (side, gradients) in [(Side::Keys, &mut *d_keys), (Side::Values, &mut *d_values)] {
            let place = Place { buffer: 0, column: if side == Side::Keys { 0 } else { kv_width } };
            for keys in segment.keys.iter().filter(|keys| wanted.contains(&keys.start)) {
                for row in 0..keys.len {
                    let at = keys.start + row;
                    let gradient = &mut gradients[at * pad.stride..][..pad.len];
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

/// `to += from^T right`, leaving out the rows of a tile that do not see the keys in question.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one product's operands, used at one place")]
fn add_turned<S: Simd>(
    simd: S,
    scores: Scores<'_>,
    n_row: usize,
    keys: Range<usize>,
    from: &[f32],
    right: Right<'_>,
    to: &mut [f32],
    pad: Padded,
) {
    const KEYS: usize = 12;
    let mut first_row = 0;
    for key in keys.clone().step_by(KEYS) {
        // Later queries see more, so rows that see none of these keys see none of the later ones either.
        while first_row < n_row && scores.limit(first_row) <= key {
            first_row += 1;
        }
        if first_row == n_row {
            return;
        }
        let size = Size { rows: KEYS.min(keys.end - key), columns: pad.stride, depth: n_row - first_row };
        let left = Left { data: &from[first_row * scores.stride + key..], row: 1, step: scores.stride };
        let right = Right { data: &right.data[first_row * right.row..], row: right.row };
        let out = Out { data: &mut to[key * pad.stride..], row: pad.stride };
        multiply(simd, size, left, right, out, true);
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

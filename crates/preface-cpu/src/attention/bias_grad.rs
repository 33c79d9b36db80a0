//! The gradient of the relative bias: `dS` of the backward, summed over all pairs of an entry.
//!
//! A task is a key head; it goes over all segments in their order, one query at a time, so a sum has one order. Only T5's
//! fine-tuning asks for it.

use preface_backend::Place;

use super::pack::{Form, Heads, Padded, Part, Side, gather, gather_queries};
use super::{Call, check};
use crate::CpuBackend;
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, Words, dot, exp_sum};
use crate::storage::{CpuRows, Element, SharedRows, View, ViewMut};

pub fn bias_grad(
    backend: &CpuBackend,
    call: &Call<'_>,
    log_sum_exp: &CpuRows,
    d_out: &CpuRows,
    places: &[u32],
    first: usize,
    grads: &mut CpuRows,
) {
    check(call, d_out);
    let bias = call.relative_bias.expect("attention_bias_grad: a call with a bias");
    let width = 2 * bias.reach + 1;
    assert_eq!(places.len(), call.shape.n_head * width, "attention_bias_grad: a place for each entry");
    let mut sums = CpuRows::new(&backend.buffers, call.shape.n_head, width, Element::F32);
    sums.view_mut().zero();
    let shared = sums.share();
    backend.pool.run(call.shape.n_kv_head, |kv_head, scratch| {
        backend.tier.run(BiasGrad { call, log_sum_exp, d_out, kv_head, sums: &shared, scratch });
    });
    let (View::F32(sums), ViewMut::F32(grads)) = (sums.view(), grads.view_mut()) else {
        panic!("attention_bias_grad: exact rows");
    };
    for (sum, &place) in sums.iter().zip(places) {
        grads[first + place as usize] += sum;
    }
}

struct BiasGrad<'a> {
    call: &'a Call<'a>,
    log_sum_exp: &'a CpuRows,
    d_out: &'a CpuRows,
    kv_head: usize,
    /// `[n_head, 2 * reach + 1]`
    sums: &'a SharedRows<'a>,
    scratch: &'a mut Scratch,
}

impl Kernel for BiasGrad<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { call, kv_head, .. } = self;
        let pad = Padded::new::<S>(call.shape.head_dim);
        let form = Form { words: Words::Floats, pad };
        let Some(bias) = call.relative_bias else { return };
        let width = 2 * bias.reach + 1;
        let query_heads = Heads::new(call, call.query, kv_head);
        let out_heads = Heads::new(call, Place { buffer: 0, column: 0 }, kv_head);
        let group = out_heads.group;
        for segment in &call.plan.segments {
            let n_key = segment.n_key;
            let n_keys = n_key * pad.stride;
            let n_query = group * pad.stride;
            let [keys, values, query, d_out, p, dp, sum] =
                self.scratch.floats([n_keys, n_keys, n_query, n_query, n_key, n_key, width]);
            let part = Part { form, columns: 0..n_key };
            gather(simd, call, segment, kv_head, Side::Keys, &part, bytemuck::cast_slice_mut(keys));
            gather(simd, call, segment, kv_head, Side::Values, &part, bytemuck::cast_slice_mut(values));
            for i in 0..group {
                let head = out_heads.first + i;
                sum.fill(0.0);
                for row in segment.rows.clone() {
                    let source = call.sources[call.query.buffer];
                    gather_queries(
                        simd,
                        source,
                        row,
                        0..group,
                        query_heads,
                        form,
                        bytemuck::cast_slice_mut(query),
                    );
                    gather_queries(
                        simd,
                        self.d_out,
                        row,
                        0..group,
                        out_heads,
                        form,
                        bytemuck::cast_slice_mut(d_out),
                    );
                    let (query, d_out) = (&query[i * pad.stride..], &d_out[i * pad.stride..]);
                    let position = segment.position(row);
                    let limit = segment.limit(position);
                    let (p, dp) = (&mut p[..limit], &mut dp[..limit]);
                    for (key, (p, dp)) in p.iter_mut().zip(dp.iter_mut()).enumerate() {
                        let at = key * pad.stride..(key + 1) * pad.stride;
                        *p = call.shape.scale * dot(simd, &query[..pad.stride], &keys[at.clone()]);
                        *dp = dot(simd, &d_out[..pad.stride], &values[at]);
                    }
                    segment.add_bias(simd, call, head, position, p);
                    for hidden in segment.hidden(position, limit) {
                        p[hidden].fill(f32::NEG_INFINITY);
                    }
                    let mut log_sum_exp = [0.0];
                    self.log_sum_exp.part(row, head..head + 1).read(simd, &mut log_sum_exp);
                    exp_sum(simd, p, 1.0, log_sum_exp[0]);
                    segment.drop_probabilities(call, row, head, dp);
                    let along = dot(simd, p, dp);
                    for run in &segment.keys {
                        let Some(from) = run.bias_from else { continue };
                        let end = (run.start + run.len).min(limit);
                        for key in run.start..end {
                            let distance = (from + key - run.start + bias.reach).saturating_sub(position);
                            sum[distance.min(2 * bias.reach)] += p[key] * (dp[key] - along);
                        }
                    }
                }
                // SAFETY: the head reads this key head, so its row belongs to this task alone, which uses one part at a
                // time.
                let part = unsafe { self.sums.part(head, 0..width) };
                part.change(
                    simd,
                    &mut [],
                    #[inline(always)]
                    |to| to.iter_mut().zip(&*sum).for_each(|(to, sum)| *to += sum),
                );
            }
        }
    }
}

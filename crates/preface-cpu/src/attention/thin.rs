//! Forward for a single query row, as in generation: keys and values are read once, where they lie, because gathering
//! and turning them would cost more than the products.

use super::forward::Results;
use super::pack::{Heads, Padded, head_columns};
use super::{Call, Segment};
use crate::scratch::Scratch;
use crate::simd::{Simd, dot, exp_sum, largest, update};

/// Whether this way is the shorter one.
pub fn suits(segment: &Segment) -> bool {
    segment.rows.len() == 1 && segment.keys.iter().all(|keys| keys.dropout.is_none())
}

#[inline(always)]
pub fn forward<S: Simd>(
    simd: S,
    call: &Call<'_>,
    segment: &Segment,
    heads: Heads,
    kv_head: usize,
    results: Results<'_>,
    scratch: &mut Scratch,
) {
    let (n, row, n_key) = (call.shape.head_dim, segment.rows.start, segment.n_key);
    let pad = Padded::new::<S>(n);
    let sizes = [
        heads.group * pad.stride,
        heads.group * n_key,
        heads.group * pad.stride,
        2 * heads.group,
        pad.stride,
    ];
    let [query, scores, sums, statistics, wide] = scratch.floats(sizes);
    let source = call.sources[call.query.buffer];
    super::pack::gather_heads(simd, source, row..row + 1, heads, pad, call.shape.scale, query);
    for keys in &segment.keys {
        let place = call.stores[keys.store].keys;
        let (source, columns) = (call.sources[place.buffer], head_columns(place, kv_head, n));
        for j in 0..keys.len {
            let key = source.part(keys.first_row + j, columns.clone()).floats(simd, &mut wide[..n]);
            for (head, query) in query.chunks_exact(pad.stride).enumerate() {
                scores[head * n_key + keys.start + j] = dot(simd, &query[..n], key);
            }
        }
    }
    let each_head = scores.chunks_exact_mut(n_key.max(1)).zip(statistics.chunks_exact_mut(2));
    for (head, (scores, kept)) in each_head.enumerate() {
        segment.add_bias(simd, call, heads.first + head, segment.position(row), scores);
        let most = largest(simd, scores);
        let sum = exp_sum(simd, scores, 1.0, most);
        kept.copy_from_slice(&[sum, most + sum.ln()]);
    }
    sums.fill(0.0);
    for keys in &segment.keys {
        let place = call.stores[keys.store].values;
        let (source, columns) = (call.sources[place.buffer], head_columns(place, kv_head, n));
        for j in 0..keys.len {
            let value = source.part(keys.first_row + j, columns.clone()).floats(simd, &mut wide[..n]);
            for (head, sums) in sums.chunks_exact_mut(pad.stride).enumerate() {
                let probability = simd.splat(scores[head * n_key + keys.start + j]);
                update(
                    simd,
                    &mut sums[..n],
                    value,
                    #[inline(always)]
                    |sum, value| simd.mul_add(probability, value, sum),
                );
            }
        }
    }
    for (head, (sums, kept)) in sums.chunks_exact_mut(pad.stride).zip(statistics.chunks_exact(2)).enumerate()
    {
        sums.iter_mut().for_each(|value| *value /= kept[0]);
        // SAFETY: the row is the segment's, the head reads this key head, and the loop writes one at a time.
        unsafe { results.write(simd, row, heads.first + head, &sums[..n], kept[1]) };
    }
}

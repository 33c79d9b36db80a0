//! Forward for a single query row, as in generation: keys and values are read once, where they lie, because gathering
//! and turning them would cost more than the products. [`KEYS`] keys are worked on together: their sums across lanes are
//! taken together, and a head's sum of values is loaded and stored once for all of them.

use std::ops::Range;

use super::forward::Results;
use super::pack::{Heads, Padded, Side, head_columns};
use super::{Call, Segment};
use crate::scratch::Scratch;
use crate::simd::{Simd, exp_sum, largest};
use crate::storage::CpuRows;

/// Keys that are worked on together.
const KEYS: usize = 4;
/// Rows of keys or values ahead of their use that their memory is asked for: a head's part of a row is too short for the
/// hardware to notice that the next one follows, and pages lie anywhere.
const AHEAD: usize = 16;

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
        KEYS * pad.stride,
    ];
    let [query, scores, sums, statistics, wide] = scratch.floats(sizes);
    let source = call.sources[call.query.buffer];
    let ask_from = |side: Side, run: usize, first: usize, n_row: usize| {
        (first..first + n_row).for_each(|row| ask(call, segment, side, kv_head, run, row));
    };
    ask_from(Side::Keys, 0, 0, AHEAD);
    super::pack::gather_heads(simd, source, row..row + 1, heads, pad, call.shape.scale, query);
    for (run, keys) in segment.keys.iter().enumerate() {
        let place = call.stores[keys.store].keys;
        let (source, columns) = (call.sources[place.buffer], head_columns(place, kv_head, n));
        for first in (0..keys.len).step_by(KEYS) {
            ask_from(Side::Keys, run, first + AHEAD, KEYS);
            let some = first..(first + KEYS).min(keys.len);
            read(simd, source, keys.first_row, some.clone(), columns.clone(), pad, wide);
            for (head, query) in query.chunks_exact(pad.stride).enumerate() {
                let mut sums = [simd.splat(0.0); KEYS];
                for at in (0..pad.stride).step_by(S::LANES) {
                    let query = simd.load(&query[at..]);
                    for (sum, key) in sums.iter_mut().zip(wide.chunks_exact(pad.stride)) {
                        *sum = simd.mul_add(query, simd.load(&key[at..]), *sum);
                    }
                }
                let to = &mut scores[head * n_key + keys.start + first..][..some.len()];
                to.copy_from_slice(&simd.sum_each(sums)[..some.len()]);
            }
        }
    }
    ask_from(Side::Values, 0, 0, AHEAD);
    let each_head = scores.chunks_exact_mut(n_key.max(1)).zip(statistics.chunks_exact_mut(2));
    for (head, (scores, kept)) in each_head.enumerate() {
        segment.add_bias(simd, call, heads.first + head, segment.position(row), scores);
        let most = largest(simd, scores);
        let sum = exp_sum(simd, scores, 1.0, most);
        kept.copy_from_slice(&[sum, most + sum.ln()]);
    }
    sums.fill(0.0);
    for (run, keys) in segment.keys.iter().enumerate() {
        let place = call.stores[keys.store].values;
        let (source, columns) = (call.sources[place.buffer], head_columns(place, kv_head, n));
        for first in (0..keys.len).step_by(KEYS) {
            ask_from(Side::Values, run, first + AHEAD, KEYS);
            let some = first..(first + KEYS).min(keys.len);
            read(simd, source, keys.first_row, some.clone(), columns.clone(), pad, wide);
            for (head, sums) in sums.chunks_exact_mut(pad.stride).enumerate() {
                // Rows that are not there are zeros, with a probability of zero.
                let mut probabilities = [0.0; KEYS];
                let from = &scores[head * n_key + keys.start + first..][..some.len()];
                probabilities[..some.len()].copy_from_slice(from);
                for at in (0..pad.stride).step_by(S::LANES) {
                    let mut sum = simd.load(&sums[at..]);
                    for (probability, value) in probabilities.iter().zip(wide.chunks_exact(pad.stride)) {
                        sum = simd.mul_add(simd.splat(*probability), simd.load(&value[at..]), sum);
                    }
                    simd.store(sum, &mut sums[at..]);
                }
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

/// Asks for the memory of a row of a run, or of the runs behind it where the run is shorter.
#[inline(always)]
fn ask(call: &Call<'_>, segment: &Segment, side: Side, kv_head: usize, run: usize, mut row: usize) {
    for keys in segment.keys.get(run..).unwrap_or_default() {
        if row < keys.len {
            let store = call.stores[keys.store];
            let place = if side == Side::Keys { store.keys } else { store.values };
            let columns = head_columns(place, kv_head, call.shape.head_dim);
            return call.sources[place.buffer].part(keys.first_row + row, columns).prefetch();
        }
        row -= keys.len;
    }
}

/// Keys or values `some` of a run, padded with zeros, to the beginnings of [`KEYS`] rows; zeros for those beyond.
#[inline(always)]
fn read<S: Simd>(
    simd: S,
    source: &CpuRows,
    first_row: usize,
    some: Range<usize>,
    columns: Range<usize>,
    pad: Padded,
    to: &mut [f32],
) {
    for (i, to) in to.chunks_exact_mut(pad.stride).enumerate() {
        let (used, unused) = to.split_at_mut(if i < some.len() { pad.len } else { 0 });
        if !used.is_empty() {
            source.part(first_row + some.start + i, columns.clone()).read(simd, used);
        }
        unused.fill(0.0);
    }
}

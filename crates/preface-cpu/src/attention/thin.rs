//! Forward for a single query row, as in generation: keys and values are read where they lie, because gathering and turning
//! them would cost more than the products.
//!
//! Both come in words (see [`crate::simd::Tile`]). Scores are products of pairs of bf16 where rows are stored so; values are
//! widened and multiplied with probabilities in `f32`. The heads of a group go over a key together, and their sums of values
//! stay in registers for all keys.
//!
//! Memory is asked for some time before it is used: a head's part of a row is too short for the hardware to notice that the
//! next one follows, and pages lie anywhere, the rows of a prefix far apart. Where there are rows enough for all threads, a
//! task is a row with all its heads, and asks for the keys and values of the row after it.

use std::ops::Range;

use preface_backend::KeyStore;

use super::forward::Results;
use super::pack::{Heads, Side, head_columns};
use super::{Call, Keys, Segment};
use crate::scratch::Scratch;
use crate::simd::{Simd, exp_sum, largest, prefetch_second};
use crate::storage::{CpuRows, Element, View};

/// Keys that are worked on together.
const KEYS: usize = 4;
/// Rows of keys ahead of their use that their memory is asked for, where a task is one key head of a row.
const AHEAD: usize = 16;

/// Whether a segment is computed this way: one row without dropout, all of it stored alike, heads of whole vectors.
#[inline(always)]
pub fn suits<S: Simd>(call: &Call<'_>, segment: &Segment) -> bool {
    let element = call.sources[call.query.buffer].element;
    let suits = |keys: &Keys| {
        let KeyStore { keys: k, values: v } = call.stores[keys.store];
        keys.dropout.is_none() && [k, v].iter().all(|place| call.sources[place.buffer].element == element)
    };
    segment.rows.len() == 1
        && call.dropout.is_none()
        && call.shape.head_dim.is_multiple_of(S::LANES * per_word(element))
        && segment.keys.iter().all(suits)
}

fn per_word(element: Element) -> usize {
    match element {
        Element::F32 => 1,
        Element::Bf16 => 2,
    }
}

/// Some key heads of segment `number`.
#[inline(always)]
pub fn forward<S: Simd>(
    simd: S,
    call: &Call<'_>,
    number: usize,
    kv_heads: Range<usize>,
    results: Results<'_>,
    scratch: &mut Scratch,
) {
    let segment = &call.plan.segments[number];
    assert!(suits::<S>(call, segment));
    let row = Row { call, segment, results };
    let next = (kv_heads.len() == call.shape.n_kv_head).then(|| call.plan.segments.get(number + 1));
    match call.sources[call.query.buffer].element {
        Element::F32 => row.run::<S, false>(simd, next, kv_heads, scratch),
        Element::Bf16 => row.run::<S, true>(simd, next, kv_heads, scratch),
    }
}

/// A query row and where its result goes.
#[derive(Clone, Copy)]
struct Row<'a> {
    call: &'a Call<'a>,
    segment: &'a Segment,
    results: Results<'a>,
}

impl<'a> Row<'a> {
    /// With `next`, the row after this one is asked for (if there is one), otherwise this row itself. `PAIRS`: rows are bf16.
    #[inline(always)]
    fn run<S: Simd, const PAIRS: bool>(
        self,
        simd: S,
        next: Option<Option<&'a Segment>>,
        kv_heads: Range<usize>,
        scratch: &mut Scratch,
    ) {
        let Self { call, segment, .. } = self;
        let asked = next.unwrap_or(Some(segment));
        let ask = |side| Ask { call, segment: asked, kv_heads: kv_heads.clone(), side, run: 0, row: 0 };
        let (mut keys, mut values) = (ask(Side::Keys), ask(Side::Values));
        if next.is_none() {
            keys.rows(AHEAD);
        }
        let group = call.shape.n_head / call.shape.n_kv_head;
        let [scores, sums] = scratch.floats([group * segment.n_key, group * call.shape.head_dim]);
        for kv_head in kv_heads {
            let heads = Heads::new(call, call.query, kv_head);
            // All that is asked for was so with the first head.
            let mut ask = || {
                keys.rows(KEYS);
                values.rows(KEYS);
            };
            // More heads would not leave registers for their sums.
            let most = if S::LANES < 16 { 2 } else { 4 };
            for first in (0..group).step_by(most) {
                match most.min(group - first) {
                    1 => self.scores::<S, PAIRS, 1>(simd, heads, kv_head, first, scores, &mut ask),
                    2 => self.scores::<S, PAIRS, 2>(simd, heads, kv_head, first, scores, &mut ask),
                    3 => self.scores::<S, PAIRS, 3>(simd, heads, kv_head, first, scores, &mut ask),
                    _ => self.scores::<S, PAIRS, 4>(simd, heads, kv_head, first, scores, &mut ask),
                }
            }
            for first in (0..group).step_by(most) {
                match most.min(group - first) {
                    1 => self.values::<S, PAIRS, 1>(simd, heads, kv_head, first, scores, sums),
                    2 => self.values::<S, PAIRS, 2>(simd, heads, kv_head, first, scores, sums),
                    3 => self.values::<S, PAIRS, 3>(simd, heads, kv_head, first, scores, sums),
                    _ => self.values::<S, PAIRS, 4>(simd, heads, kv_head, first, scores, sums),
                }
            }
        }
    }

    /// Scores of `H` heads of the group from `first` on, to their rows of `scores`; `ask` is called for each [`KEYS`] keys.
    #[inline(always)]
    fn scores<S: Simd, const PAIRS: bool, const H: usize>(
        self,
        simd: S,
        heads: Heads,
        kv_head: usize,
        first: usize,
        scores: &mut [f32],
        ask: &mut impl FnMut(),
    ) {
        let Self { call, segment, .. } = self;
        let (n, n_key) = (call.shape.head_dim, segment.n_key);
        let n_word = if PAIRS { n / 2 } else { n };
        let source = call.sources[call.query.buffer];
        let queries: [*const f32; H] = std::array::from_fn(
            #[inline(always)]
            |h| words(source.part(segment.rows.start, heads.columns(first + h))),
        );
        let scores = &mut scores[first * n_key..(first + H) * n_key];
        for keys in segment.keys.iter().filter(|keys| keys.len > 0) {
            let run = Run::new(call, keys, Side::Keys, kv_head);
            for start in (0..keys.len).step_by(KEYS) {
                ask();
                let some = KEYS.min(keys.len - start);
                // The last one stands for those beyond it.
                let at: [*const f32; KEYS] = std::array::from_fn(
                    #[inline(always)]
                    |i| run.row(start + i.min(some - 1)),
                );
                let mut sums = [[simd.splat(0.0); KEYS]; H];
                for word in (0..n_word).step_by(S::LANES) {
                    let mut key = [simd.splat(0.0); KEYS];
                    for (key, at) in key.iter_mut().zip(at) {
                        // SAFETY: the row has `n_word` words, whole vectors of them (`suits`, asserted).
                        *key = unsafe { simd.load_at(at.add(word)) };
                    }
                    for (sums, query) in sums.iter_mut().zip(queries) {
                        // SAFETY: as above.
                        let query = unsafe { simd.load_at(query.add(word)) };
                        for (sum, key) in sums.iter_mut().zip(key) {
                            *sum = if PAIRS {
                                simd.mul_add_pairs(query, key, *sum)
                            } else {
                                simd.mul_add(query, key, *sum)
                            };
                        }
                    }
                }
                for (h, sums) in sums.into_iter().enumerate() {
                    let sums = simd.sum_each(sums);
                    let to = &mut scores[h * n_key + keys.start + start..][..some];
                    for (to, sum) in to.iter_mut().zip(sums) {
                        *to = call.shape.scale * sum;
                    }
                }
            }
        }
    }

    /// Softmax of these scores, its products with the values, and the results.
    #[inline(always)]
    fn values<S: Simd, const PAIRS: bool, const H: usize>(
        self,
        simd: S,
        heads: Heads,
        kv_head: usize,
        first: usize,
        scores: &mut [f32],
        sums: &mut [f32],
    ) {
        let Self { call, segment, results } = self;
        let (n, n_key, row) = (call.shape.head_dim, segment.n_key, segment.rows.start);
        let n_word = if PAIRS { n / 2 } else { n };
        let scores = &mut scores[first * n_key..(first + H) * n_key];
        let mut kept = [(0.0, 0.0); H];
        for (h, kept) in kept.iter_mut().enumerate() {
            let scores = &mut scores[h * n_key..(h + 1) * n_key];
            segment.add_bias(simd, call, heads.first + first + h, segment.position(row), scores);
            let most = largest(simd, scores);
            let sum = exp_sum(simd, scores, 1.0, most);
            *kept = (1.0 / sum, most + sum.ln());
        }
        let mut word = 0;
        while word < n_word {
            let probabilities: [&[f32]; H] = std::array::from_fn(
                #[inline(always)]
                |h| &scores[h * n_key..(h + 1) * n_key],
            );
            let to = &mut sums[word * if PAIRS { 2 } else { 1 }..];
            word += S::LANES
                * if n_word - word >= 2 * S::LANES {
                    self.value_sums::<S, PAIRS, H, 2>(simd, kv_head, word, probabilities, to)
                } else {
                    self.value_sums::<S, PAIRS, H, 1>(simd, kv_head, word, probabilities, to)
                };
        }
        for (h, (reciprocal, log_sum_exp)) in kept.into_iter().enumerate() {
            let (sums, reciprocal) = (&mut sums[h * n..(h + 1) * n], simd.splat(reciprocal));
            for vector in sums.chunks_exact_mut(S::LANES) {
                simd.store(simd.mul(simd.load(vector), reciprocal), vector);
            }
            // SAFETY: the row is the segment's, the head reads this key head, and the loop writes one at a time.
            unsafe { results.write(simd, row, heads.first + first + h, sums, log_sum_exp) };
        }
    }

    /// Sums over all keys of `V` vectors of words from `word` on, to `to` and the places `head_dim` numbers apart. Returns `V`.
    #[inline(always)]
    fn value_sums<S: Simd, const PAIRS: bool, const H: usize, const V: usize>(
        self,
        simd: S,
        kv_head: usize,
        word: usize,
        probabilities: [&[f32]; H],
        to: &mut [f32],
    ) -> usize {
        let Self { call, segment, .. } = self;
        let mut sums = [[[simd.splat(0.0); 2]; V]; H];
        for keys in segment.keys.iter().filter(|keys| keys.len > 0) {
            let run = Run::new(call, keys, Side::Values, kv_head);
            for key in 0..keys.len {
                let mut value = [[simd.splat(0.0); 2]; V];
                for (v, value) in value.iter_mut().enumerate() {
                    // SAFETY: the row has these vectors: whole ones (`suits`, asserted), and the caller stops at the last.
                    let words = unsafe { simd.load_at(run.row(key).add(word + v * S::LANES)) };
                    *value =
                        if PAIRS { [simd.first_half(words), simd.second_half(words)] } else { [words; 2] };
                }
                for (sums, probabilities) in sums.iter_mut().zip(probabilities) {
                    let probability = simd.splat(probabilities[keys.start + key]);
                    for (sums, value) in sums.iter_mut().zip(value) {
                        sums[0] = simd.mul_add(probability, value[0], sums[0]);
                        if PAIRS {
                            sums[1] = simd.mul_add(probability, value[1], sums[1]);
                        }
                    }
                }
            }
        }
        let mut both = [[0.0; crate::simd::MAX_LANES]; 2];
        for (h, sums) in sums.into_iter().enumerate() {
            for (v, sums) in sums.into_iter().enumerate() {
                let per_vector = if PAIRS { 2 * S::LANES } else { S::LANES };
                let to = &mut to[h * call.shape.head_dim + v * per_vector..][..per_vector];
                if PAIRS {
                    simd.store(sums[0], &mut both[0]);
                    simd.store(sums[1], &mut both[1]);
                    for (i, to) in to.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                        *to = [both[0][i], both[1][i]];
                    }
                } else {
                    simd.store(sums[0], to);
                }
            }
        }
        V
    }
}

/// Keys or values of one key head in a run of rows, at least one.
#[derive(Clone, Copy)]
struct Run<'a> {
    first: View<'a>,
    /// Bytes from one row to the next.
    stride: usize,
    n_row: usize,
}

impl<'a> Run<'a> {
    /// Panics unless all rows lie inside their matrix.
    #[inline(always)]
    fn new(call: &Call<'a>, keys: &Keys, side: Side, kv_head: usize) -> Self {
        let (source, columns) = place(call, keys, side, kv_head..kv_head + 1);
        source.part(keys.first_row + keys.len - 1, columns.clone());
        let size = 4 / per_word(source.element);
        let first = source.part(keys.first_row, columns);
        Self { first, stride: source.width * size, n_row: keys.len }
    }

    /// Its words.
    #[inline(always)]
    fn row(self, row: usize) -> *const f32 {
        debug_assert!(row < self.n_row);
        words(self.first).wrapping_byte_add(row * self.stride)
    }
}

fn words(numbers: View<'_>) -> *const f32 {
    match numbers {
        View::F32(numbers) => numbers.as_ptr(),
        View::Bf16(numbers) => numbers.as_ptr().cast(),
    }
}

/// Where some key heads of a run are read from: a matrix, and columns of it.
#[inline(always)]
fn place<'a>(
    call: &Call<'a>,
    keys: &Keys,
    side: Side,
    kv_heads: Range<usize>,
) -> (&'a CpuRows, Range<usize>) {
    let store = call.stores[keys.store];
    let place = if side == Side::Keys { store.keys } else { store.values };
    let columns = |head| head_columns(place, head, call.shape.head_dim).start;
    (call.sources[place.buffer], columns(kv_heads.start)..columns(kv_heads.end))
}

/// Asks for the memory of a segment's keys or values, some rows at a time.
struct Ask<'a> {
    call: &'a Call<'a>,
    segment: Option<&'a Segment>,
    kv_heads: Range<usize>,
    side: Side,
    /// The next row: number of the run, and of the row in it.
    run: usize,
    row: usize,
}

impl Ask<'_> {
    /// The next `n` rows, as far as there are some.
    #[inline(always)]
    fn rows(&mut self, n: usize) {
        let Some(segment) = self.segment else { return };
        for _ in 0..n {
            let Some(keys) = segment.keys.get(self.run) else {
                self.segment = None;
                return;
            };
            if self.row < keys.len {
                let (source, columns) = place(self.call, keys, self.side, self.kv_heads.clone());
                let n_byte = columns.len() * 4 / per_word(source.element);
                let start = words(source.part(keys.first_row + self.row, columns)).cast::<u32>();
                for line in 0..n_byte.div_ceil(64) {
                    prefetch_second(start.wrapping_byte_add(64 * line));
                }
            }
            self.row += 1;
            if self.row >= keys.len {
                (self.run, self.row) = (self.run + 1, 0);
            }
        }
    }
}

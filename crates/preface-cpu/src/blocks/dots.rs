//! Products of a few rows with quantised weights, in integers.
//!
//! Activations become signed bytes with a scale for each [`STEP`] of them, `x = a s`. With the weight's elements as unsigned
//! bytes `q` and `w = d q + m`,
//!
//! ```text
//! sum_k x_k w_k = d s sum_k a_k q_k + m s sum_k a_k      over a step
//! ```
//!
//! where the first sum is exact in 32 bits. Rounding an activation to the nearest of 255 steps is what this costs; products
//! in `f32` never come here.

use std::ops::Range;

use super::layout::{Layout, with_layout};
use super::{GROUP, Packed, Part, STEP};
use crate::CpuBackend;
use crate::rows::RowKernel;
use crate::simd::{Kernel, Simd, prefetch_second};
use crate::storage::{CpuRows, Element, SharedRows, View};

/// Floats that are kept of each step of a row: its scale, and scale times sum of each half and of all.
pub(super) const KEPT: usize = 4;
/// Bytes ahead of its use that a weight is asked for, into the second-level cache: the first holds the rows, and few of its
/// misses at once.
const AHEAD: usize = 4096;

/// Rows in eight bits.
pub struct Quantised {
    /// Four elements in a word.
    words: CpuRows,
    /// [`KEPT`] for each step.
    steps: CpuRows,
}

impl Quantised {
    /// `x`, whose width is a whole number of steps.
    pub fn new(backend: &CpuBackend, x: &CpuRows) -> Self {
        let n_step = x.width / STEP;
        let mut words = CpuRows::new(&backend.buffers, x.n_row, x.width / 4, Element::F32);
        let mut steps = CpuRows::new(&backend.buffers, x.n_row, KEPT * n_step, Element::F32);
        let kernel = Quantise { x, words: words.share(), steps: steps.share() };
        backend.for_rows(x.n_row, x.width, x.width, &kernel);
        Self { words, steps }
    }

    fn floats(rows: &CpuRows) -> &[f32] {
        let View::F32(values) = rows.view() else { unreachable!("made as f32") };
        values
    }
}

struct Quantise<'a> {
    x: &'a CpuRows,
    words: SharedRows<'a>,
    steps: SharedRows<'a>,
}

impl RowKernel for Quantise<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: usize, scratch: &mut [f32]) {
        let x = self.x.row(row).floats(simd, scratch);
        for (number, x) in x.as_chunks::<STEP>().0.iter().enumerate() {
            let (elements, kept) = eight_bits(x);
            // SAFETY: `for_rows` hands out each row once, and one part of it is in use at a time.
            unsafe {
                self.words.part(row, number * STEP / 4..(number + 1) * STEP / 4).write(simd, &elements);
                self.steps.part(row, number * KEPT..(number + 1) * KEPT).write(simd, &kept);
            }
        }
    }
}

/// Elements in words, and what is kept of a step.
#[inline(always)]
pub(super) fn eight_bits(x: &[f32; STEP]) -> ([f32; STEP / 4], [f32; KEPT]) {
    // Adding it leaves the nearest integer in the low bits.
    const TO_INTEGER: f32 = (3 << 22) as f32;
    let mut most = [0.0f32; 8];
    for part in x.as_chunks::<8>().0 {
        for (most, x) in most.iter_mut().zip(part) {
            let size = x.abs();
            // A NaN stays.
            *most = if *most >= size { *most } else { size };
        }
    }
    let mut is_nan = false;
    for x in x {
        is_nan |= x.is_nan();
    }
    let mut largest = 0.0f32;
    for most in most {
        largest = largest.max(most);
    }
    let scale = largest / 127.0;
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    // Loops, not `map`: what that calls is not compiled for the tier's instructions.
    let mut bytes = [0i8; STEP];
    for (byte, x) in bytes.iter_mut().zip(x) {
        let number = (x * inverse + TO_INTEGER).to_bits() as i32 - TO_INTEGER.to_bits() as i32;
        *byte = number as i8;
    }
    let (mut first, mut second) = (0, 0);
    for (a, b) in bytes[..STEP / 2].iter().zip(&bytes[STEP / 2..]) {
        first += i32::from(*a);
        second += i32::from(*b);
    }
    let (first, second) = (first as f32 * scale, second as f32 * scale);
    let words: [f32; STEP / 4] = bytemuck::cast(bytes);
    (words, [if is_nan { f32::NAN } else { scale }, first, second, first + second])
}

/// Whether all of a weight can be multiplied here.
pub fn suits(parts: &[Part]) -> bool {
    parts.iter().all(|part| part.blocks().is_some())
}

/// Sums of `rows` and the output features `columns`, to `out[i * out_row + j]`.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one product's operands, used at one place")]
pub fn dots<S: Simd>(
    simd: S,
    parts: &[Part],
    x: &Quantised,
    rows: Range<usize>,
    columns: Range<usize>,
    out: &mut [f32],
    out_row: usize,
    add: bool,
) {
    for part in parts {
        let within = columns.start.max(part.rows.start)..columns.end.min(part.rows.end);
        let (false, Some(packed)) = (within.is_empty(), part.blocks()) else { continue };
        let (first, last) = (within.start - part.rows.start, within.end - 1 - part.rows.start);
        for group in first / GROUP..=last / GROUP {
            let start = part.rows.start + group * GROUP;
            let lanes = within.start.max(start) - start..within.end.min(start + GROUP) - start;
            let out = &mut out[start + lanes.start - columns.start..];
            simd.enter(Dots { packed, group, x, rows: rows.clone(), lanes, out, out_row, add });
        }
    }
}

/// One group of output features.
struct Dots<'a> {
    packed: &'a Packed,
    group: usize,
    x: &'a Quantised,
    rows: Range<usize>,
    lanes: Range<usize>,
    out: &'a mut [f32],
    out_row: usize,
    add: bool,
}

impl Kernel for Dots<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        with_layout!(self.packed.format, L => self.rows::<S, L>(simd));
    }
}

impl Dots<'_> {
    #[inline(always)]
    fn rows<S: Simd, L: Layout>(self, simd: S) {
        let Self { packed, group, x, rows, lanes, out, out_row, add } = self;
        assert!(rows.end <= x.words.n_row && packed.n_in == 4 * x.words.width);
        let operands = Operands {
            group: packed.group(group),
            words: bytemuck::cast_slice(Quantised::floats(&x.words)),
            steps: Quantised::floats(&x.steps),
            n_step: packed.n_in / STEP,
            ask: false,
        };
        let mut row = rows.start;
        while row < rows.end {
            // The rows that come first wait for the memory.
            let operands = Operands { ask: row == rows.start, ..operands };
            let mut sums = [[0.0; GROUP]; 8];
            let n = match rows.end - row {
                8.. => operands.sums::<S, L, 8>(simd, row, &mut sums),
                4.. => operands.sums::<S, L, 4>(simd, row, &mut sums),
                2.. => operands.sums::<S, L, 2>(simd, row, &mut sums),
                _ => operands.sums::<S, L, 1>(simd, row, &mut sums),
            };
            for (i, sums) in sums.iter().enumerate().take(n) {
                let to = &mut out[(row - rows.start + i) * out_row..][..lanes.len()];
                for (to, sum) in to.iter_mut().zip(&sums[lanes.clone()]) {
                    *to = if add { *to } else { 0.0 } + sum;
                }
            }
            row += n;
        }
    }
}

/// What the sums of a group are made of.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    /// The blocks of the group.
    pub group: &'a [u8],
    /// Activations, four in a word.
    pub words: &'a [u32],
    /// [`KEPT`] for each step of each row.
    pub steps: &'a [f32],
    /// Steps of a row.
    pub n_step: usize,
    /// Whether to ask for what lies behind the blocks in memory.
    pub ask: bool,
}

impl Operands<'_> {
    /// Sums of `M` rows from `row` with all rows of the group; returns `M`.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "an iterator over vectors would keep them in memory")]
    pub fn sums<S: Simd, L: Layout, const M: usize>(
        &self,
        simd: S,
        row: usize,
        to: &mut [[f32; GROUP]; 8],
    ) -> usize {
        let n_step = self.n_step;
        assert!(self.group.len() >= n_step / L::STEPS * L::BYTES && M <= 8);
        assert!(
            self.words.len() >= (row + M) * n_step * STEP / 4
                && self.steps.len() >= (row + M) * n_step * KEPT
        );
        for lane in (0..GROUP).step_by(S::LANES) {
            let mut sums = [simd.splat(0.0); M];
            for step in 0..n_step {
                // SAFETY: the group has the bytes of all its blocks and the rows their words and steps (asserted); `step %
                // STEPS` is a step of a block, and `lane` begins a vector of rows. A prefetch may point anywhere.
                unsafe {
                    let block = self.group.as_ptr().add(step / L::STEPS * L::BYTES);
                    let step_bytes = L::BYTES / L::STEPS;
                    if self.ask {
                        let ahead = block.wrapping_add(AHEAD + step % L::STEPS * step_bytes);
                        for line in (0..step_bytes).step_by(64) {
                            prefetch_second(ahead.wrapping_add(line).cast());
                        }
                    }
                    let elements = L::words(simd, block, step % L::STEPS, lane);
                    let [d, m] = L::scales(simd, block, step % L::STEPS, 0, lane);
                    let [d_second, m_second] =
                        if L::TWO_SCALES { L::scales(simd, block, step % L::STEPS, 1, lane) } else { [d, m] };
                    let words = self.words.as_ptr().add((row * n_step + step) * STEP / 4);
                    let kept = self.steps.as_ptr().add((row * n_step + step) * KEPT);
                    let (word_row, kept_row) = (n_step * STEP / 4, n_step * KEPT);
                    // Row by row inside of word by word: the products of one row wait for each other.
                    let mut products = [simd.splat_word(0); M];
                    for word in 0..4 {
                        for (i, products) in products.iter_mut().enumerate() {
                            let a = simd.splat_word(*words.add(i * word_row + word));
                            *products = simd.dot_bytes(*products, elements[word], a);
                        }
                    }
                    if L::TWO_SCALES {
                        for (i, (sum, products)) in sums.iter_mut().zip(&mut products).enumerate() {
                            let kept = kept.add(i * kept_row);
                            let product = simd.mul(simd.to_floats(*products), simd.splat(*kept));
                            *sum = simd.mul_add(product, d, *sum);
                            *sum = simd.mul_add(simd.splat(*kept.add(1)), m, *sum);
                            *products = simd.splat_word(0);
                        }
                    }
                    for word in 4..8 {
                        for (i, products) in products.iter_mut().enumerate() {
                            let a = simd.splat_word(*words.add(i * word_row + word));
                            *products = simd.dot_bytes(*products, elements[word], a);
                        }
                    }
                    // What the elements of the last half (or of both) add.
                    let rest = if L::TWO_SCALES { 2 } else { 3 };
                    for (i, (sum, products)) in sums.iter_mut().zip(products).enumerate() {
                        let kept = kept.add(i * kept_row);
                        let product = simd.mul(simd.to_floats(products), simd.splat(*kept));
                        *sum = simd.mul_add(product, d_second, *sum);
                        *sum = simd.mul_add(simd.splat(*kept.add(rest)), m_second, *sum);
                    }
                }
            }
            for (sum, to) in sums.into_iter().zip(&mut *to) {
                simd.store(sum, &mut to[lane..]);
            }
        }
        M
    }
}

//! Head and loss, block by block over the vocabulary: the logits are never stored whole.
//!
//! With `p = softmax(logits)` and `m = sum of the weights + uniform`: `loss = m log_sum_exp - sum w_t logit_t -
//! uniform mean(logits)`, `d_x = scale (m sum_v p_v W_v - sum w_t W_t - uniform mean(W))`.
//!
//! The vocabulary is cut into [`N_PART`] parts, one for each task. A task goes over its part block by block; for each
//! row it keeps the largest logit so far, the sum of exponentials relative to it, and `sum_v e_v W_v`, which is scaled
//! down whenever the largest logit has grown by more than [`SLACK`]. At the end the parts are put together in order.
//! The target's own row of `W` is subtracted there, exactly, so rounding of small probabilities does not touch it.

use std::ops::Range;

use half::bf16;
use preface_backend::{Direction, Head, RowTarget};

use crate::CpuBackend;
use crate::linear::in_words;
use crate::product::{Factors, memory, product};
use crate::rows::RowKernel;
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, exp_sum, largest, narrow, sum2, update};
use crate::storage::{CpuRows, Element, SharedRows, View};

/// Parts of the vocabulary. Fixed, so that sums are the same for any number of threads.
const N_PART: usize = 16;
/// Tokens of a block.
const BLOCK: usize = 384;
/// Rows that are worked on together: bounds the memory of the parts' sums.
const CHUNK_ROWS: usize = 256;
/// Growth of the largest logit that exponentials bear: `e^8` is far from overflow.
const SLACK: f32 = 8.0;

type CpuHead<'a> = Head<'a, CpuBackend>;

pub fn loss(
    backend: &CpuBackend,
    head: &CpuHead<'_>,
    x: &CpuRows,
    targets: &[RowTarget],
    loss: &mut CpuRows,
    d_x: Option<&mut CpuRows>,
) {
    let (n_row, width, vocab) = (targets.len(), head.weight.n_in, head.weight.n_out);
    assert_eq!((x.n_row, x.width), (n_row, width), "head_loss: shape of x");
    assert_eq!((loss.n_row, loss.width), (n_row, 1), "head_loss: shape of loss");
    assert!(head.bias.is_none_or(|bias| bias.0.len() == vocab), "head_loss: length of the bias");
    if let Some(d_x) = &d_x {
        assert_eq!((d_x.n_row, d_x.width), (n_row, width), "head_loss: shape of d_x");
    }
    let words = in_words(backend, x, head.weight);
    let x = words.as_ref().unwrap_or(x);
    let smoothed = targets.iter().any(|target| target.uniform != 0.0);
    let weight_mean = (smoothed && d_x.is_some()).then(|| mean_row(backend, head));
    let (loss, d_x) = (loss.share(), d_x.map(CpuRows::share));
    for first in (0..n_row).step_by(CHUNK_ROWS) {
        let rows = first..(first + CHUNK_ROWS).min(n_row);
        let n = rows.len();
        let n_sum = if d_x.is_some() { N_PART * n } else { 0 };
        let mut sums = CpuRows::new(&backend.buffers, n_sum, width, Element::F32);
        let mut statistics = CpuRows::new(&backend.buffers, N_PART * n, Statistics::LEN, Element::F32);
        {
            let (sums, statistics) = (sums.share(), statistics.share());
            backend.pool.run(N_PART, |part, scratch| {
                let rows = rows.clone();
                let sums = d_x.as_ref().map(|_| &sums);
                let statistics = &statistics;
                backend.tier.run(Part { head, x, targets, rows, part, sums, statistics, scratch });
            });
        }
        let combine = Combine {
            head,
            targets,
            first,
            n,
            sums: &sums,
            statistics: &statistics,
            weight_mean: weight_mean.as_deref(),
            loss: &loss,
            d_x: d_x.as_ref(),
        };
        backend.for_rows(n, N_PART * width, 2 * width, &combine);
    }
}

/// What is kept of the logits of a row.
#[derive(Clone, Copy)]
struct Statistics {
    /// What exponentials are relative to.
    reference: f32,
    /// Sum of exponentials.
    sum: f32,
    /// Weighted sum of the targets' logits.
    hit: f32,
    /// Sum of all logits; wanted for smoothing only.
    total: f32,
}

impl Statistics {
    const LEN: usize = 4;
    const START: Self = Self { reference: f32::NEG_INFINITY, sum: 0.0, hit: 0.0, total: 0.0 };

    fn array(self) -> [f32; Self::LEN] {
        [self.reference, self.sum, self.hit, self.total]
    }

    fn from_array([reference, sum, hit, total]: [f32; Self::LEN]) -> Self {
        Self { reference, sum, hit, total }
    }
}

/// Tokens of a part, a whole number of blocks.
fn tokens(part: usize, vocab: usize) -> Range<usize> {
    let n_block = vocab.div_ceil(BLOCK);
    let cut = |part: usize| (n_block * part / N_PART * BLOCK).min(vocab);
    cut(part)..cut(part + 1)
}

struct Part<'a> {
    head: &'a CpuHead<'a>,
    x: &'a CpuRows,
    targets: &'a [RowTarget],
    rows: Range<usize>,
    part: usize,
    /// Row `part * n + i` is this part's sum for row `i` of the chunk.
    sums: Option<&'a SharedRows<'a>>,
    statistics: &'a SharedRows<'a>,
    scratch: &'a mut Scratch,
}

impl Kernel for Part<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (head, targets, rows, width) =
            (self.head, self.targets, self.rows.clone(), self.head.weight.n_in);
        let n = rows.len();
        let tokens = tokens(self.part, head.weight.n_out);
        let logit_factors = [Factors {
            x: self.x.view(),
            x_stride: self.x.width,
            weight: head.weight,
            direction: Direction::Plain,
            depth: 0..width,
            quantised: None,
        }];
        let in_bf16 = head.weight.element == Element::Bf16;
        let n_exponential = if in_bf16 { n * BLOCK / 2 } else { n * BLOCK };
        let n_memory = memory(&logit_factors, 1, BLOCK).max(memory(
            &sum_factors(head, 0..BLOCK, View::F32(&[])),
            1,
            width,
        ));
        let sizes = [n_memory, n_exponential, n * width, n * Statistics::LEN];
        let [memory, exponentials, sums, kept] = self.scratch.floats(sizes);
        sums.fill(0.0);
        kept.as_chunks_mut().0.fill(Statistics::START.array());
        for start in tokens.clone().step_by(BLOCK) {
            let block = start..(start + BLOCK).min(tokens.end);
            product(
                simd,
                &logit_factors,
                rows.clone(),
                std::slice::from_ref(&block),
                memory,
                #[inline(always)]
                |_, _| {},
                #[inline(always)]
                |first, tile| {
                    for (i, logits) in tile.sums.chunks_exact_mut(tile.stride).enumerate() {
                        let row = first + i - rows.start;
                        let logits = &mut logits[..block.len()];
                        let sum = &mut sums[row * width..(row + 1) * width];
                        let kept = &mut kept.as_chunks_mut().0[row];
                        let mut statistics = Statistics::from_array(*kept);
                        take_up(simd, head, &targets[first + i], &block, logits, &mut statistics, sum);
                        *kept = statistics.array();
                        if in_bf16 {
                            let row = &mut bytemuck::cast_slice_mut(exponentials)[row * BLOCK..][..BLOCK];
                            let (used, unused) = row.split_at_mut(block.len());
                            narrow(simd, logits, used);
                            // The second half of the last word.
                            unused.iter_mut().take(1).for_each(|value| *value = bf16::ZERO);
                        } else {
                            exponentials[row * BLOCK..][..block.len()].copy_from_slice(logits);
                        }
                    }
                },
            );
            if self.sums.is_none() {
                continue;
            }
            let exponentials = match in_bf16 {
                true => View::Bf16(bytemuck::cast_slice(exponentials)),
                false => View::F32(exponentials),
            };
            product(
                simd,
                &sum_factors(head, block, exponentials),
                0..n,
                std::slice::from_ref(&(0..width)),
                memory,
                #[inline(always)]
                |_, _| {},
                #[inline(always)]
                |first, tile| {
                    let sums = sums[first * width..].chunks_exact_mut(width);
                    for (sum, tile) in sums.zip(tile.sums.chunks_exact(tile.stride)) {
                        update(
                            simd,
                            sum,
                            &tile[..width],
                            #[inline(always)]
                            |sum, product| simd.add(sum, product),
                        );
                    }
                },
            );
        }
        for (row, kept) in kept.as_chunks::<{ Statistics::LEN }>().0.iter().enumerate() {
            // SAFETY: each part has rows of its own, and this loop uses one at a time.
            unsafe { self.statistics.part(self.part * n + row, 0..Statistics::LEN) }.write(simd, kept);
            if let Some(shared) = self.sums {
                // SAFETY: as above.
                unsafe { shared.part(self.part * n + row, 0..width) }
                    .write(simd, &sums[row * width..(row + 1) * width]);
            }
        }
    }
}

/// The second product of a block: exponentials with the block's rows of the weight.
fn sum_factors<'a>(head: &CpuHead<'a>, block: Range<usize>, exponentials: View<'a>) -> [Factors<'a>; 1] {
    let (weight, direction) = (head.weight, Direction::Transposed);
    [Factors { x: exponentials, x_stride: BLOCK, weight, direction, depth: block, quantised: None }]
}

/// Turns the products of one row and block into exponentials and takes up their statistics.
#[inline(always)]
fn take_up<S: Simd>(
    simd: S,
    head: &CpuHead<'_>,
    target: &RowTarget,
    block: &Range<usize>,
    logits: &mut [f32],
    statistics: &mut Statistics,
    sum: &mut [f32],
) {
    if head.scale != 1.0 {
        scale(simd, logits, head.scale);
    }
    if let Some(bias) = head.bias {
        update(
            simd,
            logits,
            &bias.0[block.clone()],
            #[inline(always)]
            |logit, bias| simd.add(logit, bias),
        );
    }
    for aimed in &target.tokens {
        let token = aimed.token as usize;
        if block.contains(&token) {
            statistics.hit += aimed.weight * logits[token - block.start];
        }
    }
    if target.uniform != 0.0 {
        statistics.total += sum2(
            simd,
            logits,
            logits,
            #[inline(always)]
            |logit, _| logit,
        );
    }
    let most = largest(simd, logits);
    if most == f32::NEG_INFINITY {
        // A block of tokens that cannot come; relative to no earlier logit, their exponentials would not be numbers.
        logits.fill(0.0);
        return;
    }
    if most > statistics.reference + SLACK {
        // Zero at the first block: e^-infinity.
        let factor = (statistics.reference - most).exp();
        statistics.sum *= factor;
        scale(simd, sum, factor);
        statistics.reference = most;
    }
    statistics.sum += exp_sum(simd, logits, 1.0, statistics.reference);
}

#[inline(always)]
fn scale<S: Simd>(simd: S, values: &mut [f32], factor: f32) {
    let factor = simd.splat(factor);
    let mut chunks = values.chunks_exact_mut(S::LANES);
    for chunk in &mut chunks {
        simd.store(simd.mul(simd.load(chunk), factor), chunk);
    }
    let rest = chunks.into_remainder();
    simd.store_part(simd.mul(simd.load_part(rest, 0.0), factor), rest);
}

/// Puts the parts of a row together.
struct Combine<'a> {
    head: &'a CpuHead<'a>,
    targets: &'a [RowTarget],
    /// First row of the chunk, and its length.
    first: usize,
    n: usize,
    sums: &'a CpuRows,
    statistics: &'a CpuRows,
    weight_mean: Option<&'a [f32]>,
    loss: &'a SharedRows<'a>,
    d_x: Option<&'a SharedRows<'a>>,
}

impl RowKernel for Combine<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: usize, scratch: &mut [f32]) {
        let mut parts = [Statistics::START; N_PART];
        for (part, statistics) in parts.iter_mut().enumerate() {
            let mut kept = [0.0; Statistics::LEN];
            self.statistics.row(part * self.n + row).read(simd, &mut kept);
            *statistics = Statistics::from_array(kept);
        }
        let reference = parts.iter().fold(f32::NEG_INFINITY, |most, part| most.max(part.reference));
        // Parts without tokens have weight zero.
        let factors = parts.map(|part| (part.reference - reference).exp());
        let sum: f32 = parts.iter().zip(factors).map(|(part, factor)| part.sum * factor).sum();
        let hit: f32 = parts.iter().map(|part| part.hit).sum();
        let total: f32 = parts.iter().map(|part| part.total).sum();
        let target = &self.targets[self.first + row];
        let mass = target.tokens.iter().map(|token| token.weight).sum::<f32>() + target.uniform;
        let mean = total / self.head.weight.n_out as f32;
        let loss = mass * (reference + sum.ln()) - hit - target.uniform * mean;
        // SAFETY: `for_rows` hands out each row once.
        unsafe { self.loss.part(self.first + row, 0..1) }.write(simd, &[loss]);
        let Some(d_x) = self.d_x else { return };
        let width = self.head.weight.n_in;
        let (gradient, wide) = scratch.split_at_mut(width);
        gradient.fill(0.0);
        for (part, factor) in factors.into_iter().enumerate() {
            let sums = self.sums.row(part * self.n + row).floats(simd, wide);
            let factor = simd.splat(mass * factor / sum);
            update(
                simd,
                gradient,
                sums,
                #[inline(always)]
                |d, sum| simd.mul_add(sum, factor, d),
            );
        }
        for token in &target.tokens {
            self.head.weight.floats(simd, token.token as usize, wide);
            let minus = simd.splat(-token.weight);
            update(
                simd,
                gradient,
                wide,
                #[inline(always)]
                |d, weight| simd.mul_add(weight, minus, d),
            );
        }
        if let (Some(mean), true) = (self.weight_mean, target.uniform != 0.0) {
            let minus = simd.splat(-target.uniform);
            update(
                simd,
                gradient,
                mean,
                #[inline(always)]
                |d, mean| simd.mul_add(mean, minus, d),
            );
        }
        if self.head.scale != 1.0 {
            scale(simd, gradient, self.head.scale);
        }
        // SAFETY: as above.
        unsafe { d_x.part(self.first + row, 0..width) }.write(simd, gradient);
    }
}

/// Mean of the rows of the weight.
fn mean_row(backend: &CpuBackend, head: &CpuHead<'_>) -> Vec<f32> {
    let width = head.weight.n_in;
    let mut sums = CpuRows::new(&backend.buffers, N_PART, width, Element::F32);
    {
        let sums = sums.share();
        backend.pool.run(N_PART, |part, scratch| {
            let scratch = scratch.floats([width, width]);
            backend.tier.run(SumRows { head, part, sums: &sums, scratch });
        });
    }
    let View::F32(sums) = sums.view() else { unreachable!("made as f32") };
    let vocab = head.weight.n_out as f32;
    (0..width).map(|k| sums[k..].iter().step_by(width).sum::<f32>() / vocab).collect()
}

struct SumRows<'a> {
    head: &'a CpuHead<'a>,
    part: usize,
    sums: &'a SharedRows<'a>,
    scratch: [&'a mut [f32]; 2],
}

impl Kernel for SumRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let [sum, wide] = self.scratch;
        sum.fill(0.0);
        for token in tokens(self.part, self.head.weight.n_out) {
            self.head.weight.floats(simd, token, wide);
            update(
                simd,
                sum,
                wide,
                #[inline(always)]
                |sum, row| simd.add(sum, row),
            );
        }
        // SAFETY: each part has a row of its own.
        unsafe { self.sums.part(self.part, 0..sum.len()) }.write(simd, sum);
    }
}

//! The gradient of the head's weight: `dW += scale d_logits^T x`, `d_logits = m softmax(logits) - w - uniform / vocab`.
//!
//! Two passes over blocks of the vocabulary: the first gives each row's log-sum-exp, the second computes the logits of a
//! block again, turns them into their gradient and adds its product with `x` to the block's rows of the weight. The logits
//! are never stored whole. A block is one task with a place of its own, and a row's log-sum-exp is put together from the
//! blocks in ascending order, so results do not depend on the number of threads.

use std::ops::Range;

use half::bf16;
use preface_backend::{Direction, Head, RowTarget};

use crate::CpuBackend;
use crate::linear::in_words;
use crate::product::{Factors, memory, product};
use crate::scratch::Scratch;
use crate::simd::{Kernel, SQUARE, Simd, exp_sum, largest, narrow, turn_rows, update};
use crate::storage::{CpuRows, CpuWeight, Element, SharedRows, View, ViewMut};

/// Tokens of a block.
const BLOCK: usize = 384;
/// Rows that are worked on together: their logits of a block stay in the second-level cache.
const CHUNK_ROWS: usize = 256;

type CpuHead<'a> = Head<'a, CpuBackend>;

pub fn head_grad(
    backend: &CpuBackend,
    head: &CpuHead<'_>,
    x: &CpuRows,
    targets: &[RowTarget],
    first: usize,
    grads: &mut CpuRows,
) {
    let (width, vocab) = (head.weight.n_in, head.weight.n_out);
    assert_eq!((x.n_row, x.width), (targets.len(), width), "head_grad: shape of x");
    assert!(head.bias.is_none_or(|bias| bias.0.len() == vocab), "head_grad: length of the bias");
    assert!(grads.n_row == 1 && first + vocab * width <= grads.width, "head_grad: room for the gradient");
    let words = in_words(backend, x, head.weight);
    let x = words.as_ref().unwrap_or(x);
    let n_block = vocab.div_ceil(BLOCK);
    let block = |number: usize| number * BLOCK..((number + 1) * BLOCK).min(vocab);
    for start in (0..targets.len()).step_by(CHUNK_ROWS) {
        let rows = start..(start + CHUNK_ROWS).min(targets.len());
        let n = rows.len();
        // Largest logit and sum of exponentials relative to it, of each block and row.
        let mut statistics = CpuRows::new(&backend.buffers, n_block * n, 2, Element::F32);
        {
            let statistics = statistics.share();
            backend.pool.run(n_block, |number, scratch| {
                let logits = Logits { head, x, rows: rows.clone(), block: block(number) };
                backend.tier.run(Sums { logits, number, statistics: &statistics, scratch });
            });
        }
        let log_sum_exp = log_sum_exp(&statistics, n_block, n);
        let of_chunk = CpuWeight::from_some_rows(backend, x, rows.clone(), width);
        let grads = grads.share();
        backend.pool.run(n_block, |number, scratch| {
            let logits = Logits { head, x, rows: rows.clone(), block: block(number) };
            let (targets, log_sum_exp) = (&targets[rows.clone()], log_sum_exp.as_slice());
            let grads = &grads;
            backend.tier.run(Gradient { logits, targets, log_sum_exp, x: &of_chunk, first, grads, scratch });
        });
    }
}

fn log_sum_exp(statistics: &CpuRows, n_block: usize, n: usize) -> Vec<f32> {
    let View::F32(values) = statistics.view() else { unreachable!("made as f32") };
    let of = |row: usize| (0..n_block).map(move |block| &values[2 * (block * n + row)..][..2]);
    (0..n)
        .map(|row| {
            let most = of(row).fold(f32::NEG_INFINITY, |most, block| most.max(block[0]));
            most + of(row).map(|block| block[1] * (block[0] - most).exp()).sum::<f32>().ln()
        })
        .collect()
}

/// Logits of some rows and a block of tokens.
struct Logits<'a> {
    head: &'a CpuHead<'a>,
    x: &'a CpuRows,
    rows: Range<usize>,
    block: Range<usize>,
}

impl<'a> Logits<'a> {
    fn factors(&self) -> [Factors<'a>; 1] {
        [Factors {
            x: self.x.view(),
            x_stride: self.x.width,
            weight: self.head.weight,
            direction: Direction::Plain,
            depth: 0..self.head.weight.n_in,
            quantised: None,
        }]
    }

    fn memory(&self) -> usize {
        memory(&self.factors(), 1, BLOCK)
    }

    /// Hands the logits of each row to `each`, with the number of the row in the chunk.
    #[inline(always)]
    fn compute<S: Simd>(&self, simd: S, memory: &mut [f32], mut each: impl FnMut(usize, &mut [f32])) {
        let (scale, n) = (simd.splat(self.head.scale), self.block.len());
        // Without a bias, zeros are added: the arithmetic stays one.
        let zeros = [0.0; BLOCK];
        let bias = self.head.bias.map_or(&zeros[..n], |bias| &bias.0[self.block.clone()]);
        product(
            simd,
            &self.factors(),
            self.rows.clone(),
            std::slice::from_ref(&self.block),
            memory,
            #[inline(always)]
            |_, _| {},
            #[inline(always)]
            |first, tile| {
                for (i, logits) in tile.sums.chunks_exact_mut(tile.stride).enumerate() {
                    let logits = &mut logits[..n];
                    update(
                        simd,
                        logits,
                        bias,
                        #[inline(always)]
                        |logit, bias| simd.mul_add(logit, scale, bias),
                    );
                    each(first + i - self.rows.start, logits);
                }
            },
        );
    }
}

/// The first pass.
struct Sums<'a> {
    logits: Logits<'a>,
    number: usize,
    statistics: &'a SharedRows<'a>,
    scratch: &'a mut Scratch,
}

impl Kernel for Sums<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { logits, number, statistics, scratch } = self;
        let n = logits.rows.len();
        let [memory] = scratch.floats([logits.memory()]);
        logits.compute(
            simd,
            memory,
            #[inline(always)]
            |row, logits| {
                let most = largest(simd, logits);
                let sum = exp_sum(simd, logits, 1.0, most);
                // SAFETY: each task has rows of its own, and uses one at a time.
                unsafe { statistics.part(number * n + row, 0..2) }.write(simd, &[most, sum]);
            },
        );
    }
}

/// The second pass.
struct Gradient<'a> {
    logits: Logits<'a>,
    targets: &'a [RowTarget],
    log_sum_exp: &'a [f32],
    /// The rows of the chunk.
    x: &'a CpuWeight,
    first: usize,
    grads: &'a SharedRows<'a>,
    scratch: &'a mut Scratch,
}

impl Kernel for Gradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { logits, targets, log_sum_exp, x, first, grads, scratch } = self;
        let (n, width, vocab) = (targets.len(), x.n_in, logits.head.weight.n_out);
        let (block, n_token) = (logits.block.clone(), logits.block.len());
        let in_bf16 = x.element == Element::Bf16;
        let stride = n.next_multiple_of(SQUARE);
        let mut factors = [Factors {
            x: View::F32(&[]),
            x_stride: stride,
            weight: x,
            direction: Direction::Transposed,
            depth: 0..n,
            quantised: None,
        }];
        let n_memory = logits.memory().max(memory(&factors, 1, width));
        let n_narrow = if in_bf16 { BLOCK * stride / 2 } else { 0 };
        let sizes = [n_memory, n * BLOCK, BLOCK * stride, n_narrow];
        let [memory, d_logits, turned, narrowed] = scratch.floats(sizes);
        let scale = logits.head.scale;
        logits.compute(
            simd,
            memory,
            #[inline(always)]
            |row, logits| {
                let target = &targets[row];
                let mass = target.tokens.iter().map(|token| token.weight).sum::<f32>() + target.uniform;
                exp_sum(simd, logits, 1.0, log_sum_exp[row]);
                let smooth = simd.splat(-scale * target.uniform / vocab as f32);
                let mass = simd.splat(scale * mass);
                let d_logits = &mut d_logits[row * BLOCK..][..n_token];
                d_logits.fill(0.0);
                update(
                    simd,
                    d_logits,
                    logits,
                    #[inline(always)]
                    |_, probability| simd.mul_add(probability, mass, smooth),
                );
                for aimed in &target.tokens {
                    let token = aimed.token as usize;
                    if block.contains(&token) {
                        d_logits[token - block.start] -= scale * aimed.weight;
                    }
                }
            },
        );
        for first_row in (0..n).step_by(SQUARE) {
            let mut rows: [Option<&[u32]>; SQUARE] = [None; SQUARE];
            for (i, row) in rows.iter_mut().enumerate().take(n - first_row) {
                *row = Some(bytemuck::cast_slice(&d_logits[(first_row + i) * BLOCK..][..n_token]));
            }
            turn_rows(simd, rows, n_token, bytemuck::cast_slice_mut(&mut turned[first_row..]), stride);
        }
        factors[0].x = match in_bf16 {
            true => {
                let narrowed: &mut [bf16] = bytemuck::cast_slice_mut(narrowed);
                narrow(simd, &turned[..n_token * stride], &mut narrowed[..n_token * stride]);
                View::Bf16(narrowed)
            }
            false => View::F32(turned),
        };
        product(
            simd,
            &factors,
            0..n_token,
            std::slice::from_ref(&(0..width)),
            memory,
            #[inline(always)]
            |_, _| {},
            #[inline(always)]
            |first_token, tile| {
                for (i, sums) in tile.sums.chunks_exact(tile.stride).enumerate() {
                    let start = first + (block.start + first_token + i) * width;
                    // SAFETY: each task has tokens of its own, and uses one part at a time.
                    let part = unsafe { grads.part(0, start..start + width) };
                    let ViewMut::F32(gradient) = part else { unreachable!("gradients are exact rows") };
                    update(
                        simd,
                        gradient,
                        &sums[..width],
                        #[inline(always)]
                        |gradient, sum| simd.add(gradient, sum),
                    );
                }
            },
        );
    }
}

//! Gradients of weights: `dW[o, k] += sum_i d_out[i, o] x[i, k]`.
//!
//! It is the product of `d_out^T` with `x`, so it runs on the tiles of all other products: `d_out` is turned once into rows
//! of whole words, and `x` takes the place of a weight. Each element is one sum over the rows in ascending order, whatever
//! the number of threads.

use std::ops::Range;

use preface_backend::Direction;

use crate::CpuBackend;
use crate::division::{Task, divide};
use crate::product::{Factors, block_columns, memory, product};
use crate::simd::{Kernel, SQUARE, Simd, turn_rows, update};
use crate::storage::{CpuRows, CpuWeight, Element, SharedRows, View, ViewMut};

/// Output features for which packing a panel of `x` pays: so many are not divided among tasks.
const LEAST_FEATURES: usize = 64;
/// Features that are turned at a time: their columns stay in the second-level cache.
const TURNED: usize = 32;

pub fn weight_grad(backend: &CpuBackend, x: &CpuRows, d_out: &CpuRows, first: usize, grads: &mut CpuRows) {
    assert_eq!(x.n_row, d_out.n_row, "weight_grad: rows");
    if x.n_row == 0 {
        return;
    }
    let turned = turn(backend, d_out);
    let weight = CpuWeight::from_rows(backend, x);
    add_product(backend, &turned, &weight, x.n_row, first, grads);
}

/// Adds `turned[.., ..depth] weight` to the matrix that lies in `grads` from `first` on.
pub fn add_product(
    backend: &CpuBackend,
    turned: &CpuRows,
    weight: &CpuWeight,
    depth: usize,
    first: usize,
    grads: &mut CpuRows,
) {
    let (n_out, n_in) = (turned.n_row, weight.n_in);
    assert_eq!(grads.n_row, 1, "gradients lie in one row");
    assert!(first + n_out * n_in <= grads.width, "gradient beyond the end of its buffer");
    let factors = [Factors {
        x: turned.view(),
        x_stride: turned.width,
        weight,
        direction: Direction::Transposed,
        depth: 0..depth,
        quantised: None,
    }];
    let n_column = block_columns(&factors, n_out, 1);
    let tasks = divide(n_in.div_ceil(n_column), n_out, LEAST_FEATURES, backend.pool.threads());
    let grads = grads.share();
    backend.pool.run(tasks.len(), |task, scratch| {
        let Task { block, rows: features } = tasks[task].clone();
        let columns = block * n_column..((block + 1) * n_column).min(n_in);
        let [memory] = scratch.floats([memory(&factors, 1, columns.len())]);
        backend.tier.run(Block { factors: &factors, columns, features, n_in, first, grads: &grads, memory });
    });
}

struct Block<'a> {
    factors: &'a [Factors<'a>],
    columns: Range<usize>,
    features: Range<usize>,
    n_in: usize,
    first: usize,
    grads: &'a SharedRows<'a>,
    memory: &'a mut [f32],
}

impl Kernel for Block<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { factors, columns, features, n_in, first, grads, memory } = self;
        let place = |feature: usize| {
            let start = first + feature * n_in;
            start + columns.start..start + columns.end
        };
        product(
            simd,
            factors,
            features,
            std::slice::from_ref(&columns),
            memory,
            #[inline(always)]
            |features, requests| features.for_each(|feature| requests.add(grads.span(0, place(feature)))),
            #[inline(always)]
            |first_feature, tile| {
                for (i, sums) in tile.sums.chunks_exact(tile.stride).enumerate() {
                    // SAFETY: blocks of different tasks share no element, and the part is in use for this turn only.
                    let ViewMut::F32(gradient) = (unsafe { grads.part(0, place(first_feature + i)) }) else {
                        unreachable!("gradients are exact rows")
                    };
                    update(
                        simd,
                        gradient,
                        &sums[..columns.len()],
                        #[inline(always)]
                        |gradient, sum| simd.add(gradient, sum),
                    );
                }
            },
        );
    }
}

/// `x^T` stored as weights are, in rows of whole words: a zero behind an odd number of bf16.
pub fn turn(backend: &CpuBackend, x: &CpuRows) -> CpuRows {
    let element = backend.element(preface_backend::Storage::Compact);
    let multiple = if element == Element::Bf16 { 2 } else { 1 };
    let width = x.n_row.next_multiple_of(multiple);
    let mut turned = CpuRows::new(&backend.buffers, x.width, width, element);
    let out = turned.share();
    let stride = x.n_row.next_multiple_of(SQUARE);
    backend.pool.run(x.width.div_ceil(TURNED), |task, scratch| {
        let columns = task * TURNED..((task + 1) * TURNED).min(x.width);
        let scratch = scratch.floats([TURNED * stride, SQUARE * TURNED]);
        backend.tier.run(Turn { x, columns, stride, out: &out, scratch });
    });
    turned
}

struct Turn<'a> {
    x: &'a CpuRows,
    columns: Range<usize>,
    stride: usize,
    out: &'a SharedRows<'a>,
    /// The turned columns, and some rows widened.
    scratch: [&'a mut [f32]; 2],
}

impl Kernel for Turn<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { x, columns, stride, out, scratch: [turned, wide] } = self;
        let n = columns.len();
        for first in (0..x.n_row).step_by(SQUARE) {
            let mut rows: [Option<&[u32]>; SQUARE] = [None; SQUARE];
            for ((i, row), wide) in rows.iter_mut().enumerate().zip(wide.chunks_exact_mut(TURNED)) {
                if first + i < x.n_row {
                    let part = x.part(first + i, columns.clone());
                    *row = Some(bytemuck::cast_slice(part.floats(simd, &mut wide[..n])));
                }
            }
            turn_rows(simd, rows, n, bytemuck::cast_slice_mut(&mut turned[first..]), stride);
        }
        for (column, turned) in columns.zip(turned.chunks_exact(stride)) {
            // SAFETY: each task has rows of its own, and uses one part at a time.
            let row = unsafe { out.part(column, 0..x.n_row) };
            row.copy(simd, View::F32(&turned[..x.n_row]));
            // SAFETY: as above.
            unsafe { out.part(column, x.n_row..out.width()) }.zero();
        }
    }
}

//! Gradients of biases, norms and tables: sums over rows, column by column.
//!
//! A task has some columns and goes over all rows in ascending order, so results do not depend on the number of threads.

use std::ops::Range;

use preface_backend::Norm;

use crate::CpuBackend;
use crate::norm::statistics;
use crate::rows::RowKernel;
use crate::simd::{Kernel, Simd, update};
use crate::storage::{CpuRows, Element, SharedRows, ViewMut};

/// Columns of a task.
const COLUMNS: usize = 64;

pub fn bias_grad(backend: &CpuBackend, d_out: &CpuRows, first: usize, grads: &mut CpuRows) {
    check(grads, first + d_out.width);
    let grads = grads.share();
    backend.pool.run(d_out.width.div_ceil(COLUMNS), |task, scratch| {
        let columns = task * COLUMNS..((task + 1) * COLUMNS).min(d_out.width);
        let scratch = scratch.floats([COLUMNS, COLUMNS]);
        let place = first + columns.start..first + columns.end;
        backend.tier.run(Columns { x: d_out, factors: None, columns, place, grads: &grads, scratch });
    });
}

pub fn norm_grad(
    backend: &CpuBackend,
    norm: &Norm<CpuBackend>,
    x: &CpuRows,
    d_out: &CpuRows,
    weight: usize,
    bias: Option<usize>,
    grads: &mut CpuRows,
) {
    assert_eq!((x.n_row, x.width), (d_out.n_row, d_out.width), "norm_grad: shapes");
    check(grads, weight + x.width);
    if let Some(bias) = bias {
        bias_grad(backend, d_out, bias, grads);
    }
    // Mean and reciprocal divisor of each row.
    let mut factors = CpuRows::new(&backend.buffers, x.n_row, 2, Element::F32);
    backend.for_rows(x.n_row, x.width, x.width, &Statistics { norm, x, factors: factors.share() });
    let grads = grads.share();
    backend.pool.run(x.width.div_ceil(COLUMNS), |task, scratch| {
        let columns = task * COLUMNS..((task + 1) * COLUMNS).min(x.width);
        let scratch = scratch.floats([COLUMNS, COLUMNS]);
        let place = weight + columns.start..weight + columns.end;
        let factors = Some((x, &factors));
        backend.tier.run(Columns { x: d_out, factors, columns, place, grads: &grads, scratch });
    });
}

fn check(grads: &CpuRows, end: usize) {
    assert_eq!(grads.n_row, 1, "gradients lie in one row");
    assert!(end <= grads.width, "gradient beyond the end of its buffer");
}

struct Statistics<'a> {
    norm: &'a Norm<CpuBackend>,
    x: &'a CpuRows,
    factors: SharedRows<'a>,
}

impl RowKernel for Statistics<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: usize, scratch: &mut [f32]) {
        let x = self.x.row(row).floats(simd, &mut scratch[..self.x.width]);
        let (mean, reciprocal) = statistics(simd, self.norm, x);
        // SAFETY: `for_rows` hands out each row once.
        unsafe { self.factors.part(row, 0..2) }.write(simd, &[mean, reciprocal]);
    }
}

/// `grads[place] += sum over rows of x`, or of `x * (n - mean) * reciprocal` with the factors of a norm.
struct Columns<'a> {
    x: &'a CpuRows,
    factors: Option<(&'a CpuRows, &'a CpuRows)>,
    columns: Range<usize>,
    place: Range<usize>,
    grads: &'a SharedRows<'a>,
    scratch: [&'a mut [f32]; 2],
}

impl Kernel for Columns<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { x, factors, columns, place, grads, scratch: [first, second] } = self;
        let (first, second) = (&mut first[..columns.len()], &mut second[..columns.len()]);
        // SAFETY: each task has a place of its own, and this part is the only one in use.
        let ViewMut::F32(gradient) = (unsafe { grads.part(0, place) }) else {
            unreachable!("gradients are exact rows")
        };
        for row in 0..x.n_row {
            let d_out = x.part(row, columns.clone()).floats(simd, first);
            let Some((x, factors)) = factors else {
                update(
                    simd,
                    gradient,
                    d_out,
                    #[inline(always)]
                    |gradient, d| simd.add(gradient, d),
                );
                continue;
            };
            let mut statistics = [0.0; 2];
            factors.row(row).read(simd, &mut statistics);
            let (mean, reciprocal) = (simd.splat(statistics[0]), simd.splat(statistics[1]));
            x.part(row, columns.clone()).read(simd, second);
            update(
                simd,
                second,
                d_out,
                #[inline(always)]
                |x, d| simd.mul(simd.mul(simd.sub(x, mean), reciprocal), d),
            );
            update(
                simd,
                gradient,
                second,
                #[inline(always)]
                |gradient, d| simd.add(gradient, d),
            );
        }
    }
}

pub fn embed_grad(
    backend: &CpuBackend,
    ids: &[u32],
    scale: f32,
    d_out: &CpuRows,
    first: usize,
    grads: &mut CpuRows,
) {
    assert_eq!(ids.len(), d_out.n_row, "embed_grad: one id for each row");
    let n_row = ids.iter().max().map_or(0, |&id| id as usize + 1);
    check(grads, first + n_row * d_out.width);
    // One task: rows of the table may be named more than once.
    backend.tier.run(Scatter { ids, scale, d_out, first, grads: grads.share() });
}

struct Scatter<'a> {
    ids: &'a [u32],
    scale: f32,
    d_out: &'a CpuRows,
    first: usize,
    grads: SharedRows<'a>,
}

impl Kernel for Scatter<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let width = self.d_out.width;
        let (mut wide, scale) = (vec![0.0; width], simd.splat(self.scale));
        for (i, &id) in self.ids.iter().enumerate() {
            let start = self.first + id as usize * width;
            let d_out = self.d_out.row(i).floats(simd, &mut wide);
            // SAFETY: one part at a time, on one thread.
            let ViewMut::F32(gradient) = (unsafe { self.grads.part(0, start..start + width) }) else {
                unreachable!("gradients are exact rows")
            };
            update(
                simd,
                gradient,
                d_out,
                #[inline(always)]
                |gradient, d| simd.mul_add(d, scale, gradient),
            );
        }
    }
}

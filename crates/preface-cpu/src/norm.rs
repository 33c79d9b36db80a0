//! Row norms. With `r = 1 / sqrt(stat + epsilon)`, `n = (x - mean) r` and `g = d_out * w`:
//! `out = n w + b`, `d_x += r (g - [mean(g)] - n mean(g n))`, the bracket and the mean of `x` for layer norm only.
//!
//! The statistics are two passes over a row that lies in the first-level cache: the variance of differences from the
//! mean is exact where `mean(x^2) - mean^2` cancels.

use preface_backend::{Norm, NormKind};

use crate::CpuBackend;
use crate::rows::RowKernel;
use crate::simd::{Simd, combine, dot, sum2, update};
use crate::storage::{CpuRows, SharedRows};

type CpuNorm = Norm<CpuBackend>;

pub fn forward(backend: &CpuBackend, norm: &CpuNorm, x: &CpuRows, out: &mut CpuRows) {
    let shape = (x.n_row, x.width);
    assert_eq!(shape, (out.n_row, out.width), "norm: shapes");
    check(norm, x.width);
    backend.for_rows(shape.0, shape.1, 2 * shape.1, &Forward { norm, x, out: out.share() });
}

pub fn backward(backend: &CpuBackend, norm: &CpuNorm, x: &CpuRows, d_out: &CpuRows, d_x: &mut CpuRows) {
    let shape = (x.n_row, x.width);
    assert_eq!(shape, (d_out.n_row, d_out.width), "norm_backward: shape of d_out");
    assert_eq!(shape, (d_x.n_row, d_x.width), "norm_backward: shape of d_x");
    check(norm, x.width);
    backend.for_rows(shape.0, shape.1, 4 * shape.1, &Backward { norm, x, d_out, d_x: d_x.share() });
}

fn check(norm: &CpuNorm, width: usize) {
    assert_eq!(norm.weight.0.len(), width, "norm: length of the weight");
    assert!(norm.bias.as_ref().is_none_or(|bias| bias.0.len() == width), "norm: length of the bias");
}

/// Mean (0 for RMS) and reciprocal of the divisor.
#[inline(always)]
pub fn statistics<S: Simd>(simd: S, norm: &CpuNorm, x: &[f32]) -> (f32, f32) {
    let width = x.len() as f32;
    let (mean, square) = match norm.kind {
        NormKind::Rms => (0.0, dot(simd, x, x)),
        NormKind::Layer => {
            let mean = sum2(
                simd,
                x,
                x,
                #[inline(always)]
                |x, _| x,
            ) / width;
            // Lanes beyond the row's end would count as `-mean`, so the row is cut at a whole vector.
            let (whole, rest) = x.split_at(x.len() - x.len() % S::LANES);
            let center = simd.splat(mean);
            let square = sum2(
                simd,
                whole,
                whole,
                #[inline(always)]
                |x, _| {
                    let difference = simd.sub(x, center);
                    simd.mul(difference, difference)
                },
            );
            (mean, square + rest.iter().map(|x| (x - mean).powi(2)).sum::<f32>())
        }
    };
    (mean, 1.0 / (square / width + norm.epsilon).sqrt())
}

struct Forward<'a> {
    norm: &'a CpuNorm,
    x: &'a CpuRows,
    out: SharedRows<'a>,
}

impl RowKernel for Forward<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: usize, scratch: &mut [f32]) {
        let (wide, result) = scratch.split_at_mut(self.x.width);
        let x = self.x.row(row).floats(simd, wide);
        let (mean, reciprocal) = statistics(simd, self.norm, x);
        let (mean, reciprocal) = (simd.splat(mean), simd.splat(reciprocal));
        combine(
            simd,
            x,
            &self.norm.weight.0,
            result,
            #[inline(always)]
            |x, weight| simd.mul(simd.mul(simd.sub(x, mean), reciprocal), weight),
        );
        if let Some(bias) = &self.norm.bias {
            update(
                simd,
                result,
                &bias.0,
                #[inline(always)]
                |out, bias| simd.add(out, bias),
            );
        }
        // SAFETY: `for_rows` hands out each row once.
        unsafe { self.out.part(row, 0..self.x.width) }.write(simd, result);
    }
}

struct Backward<'a> {
    norm: &'a CpuNorm,
    x: &'a CpuRows,
    d_out: &'a CpuRows,
    d_x: SharedRows<'a>,
}

impl RowKernel for Backward<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, row: usize, scratch: &mut [f32]) {
        let n = self.x.width;
        let (x_wide, rest) = scratch.split_at_mut(n);
        let (d_wide, rest) = rest.split_at_mut(n);
        let (g, sum) = rest.split_at_mut(n);
        let x = self.x.row(row).floats(simd, x_wide);
        let d_out = self.d_out.row(row).floats(simd, d_wide);
        let (mean, reciprocal) = statistics(simd, self.norm, x);
        combine(
            simd,
            d_out,
            &self.norm.weight.0,
            g,
            #[inline(always)]
            |d, weight| simd.mul(d, weight),
        );
        let g: &[f32] = g;
        let g_mean = match self.norm.kind {
            NormKind::Rms => 0.0,
            NormKind::Layer => {
                sum2(
                    simd,
                    g,
                    g,
                    #[inline(always)]
                    |g, _| g,
                ) / n as f32
            }
        };
        // mean(g n): zeros of `g` beyond the row's end hide what `x - mean` is there.
        let center = simd.splat(mean);
        let along = sum2(
            simd,
            g,
            x,
            #[inline(always)]
            |g, x| simd.mul(g, simd.sub(x, center)),
        ) * reciprocal
            / n as f32;
        // d_x += reciprocal g + factor (x - mean) - reciprocal g_mean
        let (r, offset) = (simd.splat(reciprocal), simd.splat(-reciprocal * g_mean));
        let factor = simd.splat(-along * reciprocal * reciprocal);
        // SAFETY: `for_rows` hands out each row once.
        let d_x = unsafe { self.d_x.part(row, 0..n) };
        d_x.change(
            simd,
            sum,
            #[inline(always)]
            |d_x| {
                update(
                    simd,
                    d_x,
                    g,
                    #[inline(always)]
                    |d_x, g| simd.add(d_x, simd.mul_add(g, r, offset)),
                );
                update(
                    simd,
                    d_x,
                    x,
                    #[inline(always)]
                    |d_x, x| simd.mul_add(simd.sub(x, center), factor, d_x),
                );
            },
        );
    }
}

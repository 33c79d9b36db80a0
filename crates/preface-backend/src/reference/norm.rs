//! Norms. With `r = 1 / sqrt(stat + epsilon)`, `n = (x - mean) r` (mean 0 for RMS) and `g = d_out * w`:
//! `d_x = r (g - [mean(g)] - n mean(g n))`, the bracket for layer norm only.

use super::{Reference, ReferenceRows};
use crate::{Norm, NormKind};

pub fn forward(norm: &Norm<Reference>, x: &ReferenceRows, out: &mut ReferenceRows) {
    assert_eq!((x.n_row, x.width), (out.n_row, out.width), "norm: shapes");
    for i in 0..x.n_row {
        let (normed, _) = normalise(norm, x.row(i));
        for (j, o) in out.row_mut(i).iter_mut().enumerate() {
            let bias = norm.bias.as_ref().map_or(0.0, |bias| f64::from(bias[j]));
            *o = (normed[j] * f64::from(norm.weight[j]) + bias) as f32;
        }
    }
}

pub fn backward(norm: &Norm<Reference>, x: &ReferenceRows, d_out: &ReferenceRows, d_x: &mut ReferenceRows) {
    assert_eq!((x.n_row, x.width), (d_out.n_row, d_out.width), "norm_backward: shapes");
    assert_eq!((x.n_row, x.width), (d_x.n_row, d_x.width), "norm_backward: shapes");
    let width = x.width as f64;
    for i in 0..x.n_row {
        let (normed, reciprocal) = normalise(norm, x.row(i));
        let g: Vec<f64> =
            d_out.row(i).iter().zip(&norm.weight).map(|(d, w)| f64::from(*d) * f64::from(*w)).collect();
        let along = g.iter().zip(&normed).map(|(g, n)| g * n).sum::<f64>() / width;
        let mean = match norm.kind {
            NormKind::Rms => 0.0,
            NormKind::Layer => g.iter().sum::<f64>() / width,
        };
        for (j, d) in d_x.row_mut(i).iter_mut().enumerate() {
            *d += (reciprocal * (g[j] - mean - normed[j] * along)) as f32;
        }
    }
}

/// The normalised row without weight and bias, and the reciprocal of the divisor.
pub fn normalise(norm: &Norm<Reference>, row: &[f32]) -> (Vec<f64>, f64) {
    let width = row.len() as f64;
    let mean = match norm.kind {
        NormKind::Rms => 0.0,
        NormKind::Layer => row.iter().map(|&v| f64::from(v)).sum::<f64>() / width,
    };
    let square = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / width;
    let reciprocal = 1.0 / (square + f64::from(norm.epsilon)).sqrt();
    (row.iter().map(|&v| (f64::from(v) - mean) * reciprocal).collect(), reciprocal)
}

//! Gradients of parameters, and dropout. Sums go over the rows in ascending order.

use super::{Reference, ReferenceRows, norm};
use crate::{Backend, HostMatrix};
use crate::{Head, Norm, RowMask, RowTarget, Storage};

pub fn dropout(masks: &[RowMask], probability: f32, layer: u32, x: &ReferenceRows, out: &mut ReferenceRows) {
    assert_eq!((x.n_row, x.width), (masks.len(), out.width), "dropout: shapes");
    assert_eq!(x.n_row, out.n_row, "dropout: shape of out");
    for (i, mask) in masks.iter().enumerate() {
        for (j, (o, v)) in out.row_mut(i).iter_mut().zip(x.row(i)).enumerate() {
            *o = v * mask.factor(probability, layer, x.width, j);
        }
    }
}

pub fn add(x: &ReferenceRows, out: &mut ReferenceRows) {
    assert_eq!((x.n_row, x.width), (out.n_row, out.width), "add: shapes");
    for (o, v) in out.data.iter_mut().zip(&x.data) {
        *o += v;
    }
}

pub fn weight_grad(x: &ReferenceRows, d_out: &ReferenceRows, first: usize, grads: &mut ReferenceRows) {
    assert_eq!(x.n_row, d_out.n_row, "weight_grad: rows");
    let gradient = &mut grads.data[first..first + d_out.width * x.width];
    for (place, g) in gradient.iter_mut().enumerate() {
        let (o, k) = (place / x.width, place % x.width);
        *g += (0..x.n_row).map(|i| d_out.at(i, o) * x.at(i, k)).sum::<f64>() as f32;
    }
}

pub fn bias_grad(d_out: &ReferenceRows, first: usize, grads: &mut ReferenceRows) {
    for (o, g) in grads.data[first..first + d_out.width].iter_mut().enumerate() {
        *g += (0..d_out.n_row).map(|i| d_out.at(i, o)).sum::<f64>() as f32;
    }
}

/// With `n` the normalised row: `d_weight = sum_i d_out n`, `d_bias = sum_i d_out`.
pub fn norm_grad(
    norm: &Norm<Reference>,
    x: &ReferenceRows,
    d_out: &ReferenceRows,
    weight: usize,
    bias: Option<usize>,
    grads: &mut ReferenceRows,
) {
    assert_eq!((x.n_row, x.width), (d_out.n_row, d_out.width), "norm_grad: shapes");
    let mut sums = vec![0.0; x.width];
    for i in 0..x.n_row {
        let (normed, _) = norm::normalise(norm, x.row(i));
        for (j, (sum, n)) in sums.iter_mut().zip(&normed).enumerate() {
            *sum += d_out.at(i, j) * n;
        }
    }
    for (g, sum) in grads.data[weight..weight + x.width].iter_mut().zip(sums) {
        *g += sum as f32;
    }
    if let Some(bias) = bias {
        bias_grad(d_out, bias, grads);
    }
}

pub fn embed_grad(ids: &[u32], scale: f32, d_out: &ReferenceRows, first: usize, grads: &mut ReferenceRows) {
    assert_eq!(ids.len(), d_out.n_row, "embed_grad: one id for each row");
    for (i, &id) in ids.iter().enumerate() {
        let start = first + id as usize * d_out.width;
        for (g, d) in grads.data[start..start + d_out.width].iter_mut().zip(d_out.row(i)) {
            *g += scale * d;
        }
    }
}

/// The logits' gradient is that of their loss under a head of one-hot rows, so it is asked for there:
/// `d_weight = scale sum_i d_logits_i x_i^T`.
pub fn head_grad(
    head: &Head<'_, Reference>,
    x: &ReferenceRows,
    targets: &[RowTarget],
    first: usize,
    grads: &mut ReferenceRows,
) {
    let vocab = head.weight.n_out;
    let logits: Vec<f32> = (0..x.n_row)
        .flat_map(|i| (0..vocab).map(move |token| (i, token)))
        .map(|(i, token)| {
            let product: f64 = (0..x.width).map(|k| x.at(i, k) * head.weight.at(token, k)).sum();
            (f64::from(head.scale) * product + head.bias.map_or(0.0, |bias| f64::from(bias[token]))) as f32
        })
        .collect();
    let one_hot = (0..vocab * vocab).map(|i| f32::from(i / vocab == i % vocab)).collect();
    let one_hot = Reference.weight(vec![HostMatrix { n_row: vocab, n_column: vocab, values: one_hot }]);
    let logits = Reference.rows_from(&logits, vocab, Storage::Exact);
    let mut loss = Reference.rows(x.n_row, 1, Storage::Exact);
    let mut d_logits = Reference.rows(x.n_row, vocab, Storage::Exact);
    let plain = Head { weight: &one_hot, bias: None, scale: 1.0 };
    Reference.head_loss(&plain, &logits, &targets.to_vec(), &mut loss, Some(&mut d_logits));
    for d in &mut d_logits.data {
        *d *= head.scale;
    }
    weight_grad(x, &d_logits, first, grads);
}

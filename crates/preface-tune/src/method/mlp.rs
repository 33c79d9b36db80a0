//! The reparametrisation of the paper (section 4.3): `P = W_2 tanh(W_1 P' + b_1) + b_2`, row by row, with `P'` an
//! embedding `[prefix_len, d_model]`, `W_1: d_model -> mid`, `W_2: mid -> row_width`.
//!
//! After training the MLP is evaluated once and dropped. (The paper's footnote gives `P'` the width `mid`; the authors'
//! code has `d_model` columns and `mid` as the hidden width. This is the code's form.)
//!
//! Backward, with `H = tanh(Z)`: `dW_2 = dP^T H`, `dH = dP W_2`, `dZ = dH (1 - H^2)`, `dW_1 = dZ^T P'`, `dP' = dZ W_1`.

use rand::Rng;

use super::Parameters;
use crate::init;
use crate::matmul::{Matrix, matmul};

/// Sizes of the MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MlpShape {
    /// Rows of `P'`.
    pub n_row: usize,
    /// Width of `P'`.
    pub d_model: usize,
    /// Hidden width (`encoder_hidden_size`).
    pub mid: usize,
    /// Width of `P`.
    pub row_width: usize,
}

/// Parts of the parameter vector.
pub(crate) const EMBEDDING: usize = 0;
const WEIGHT_1: usize = 1;
const BIAS_1: usize = 2;
const WEIGHT_2: usize = 3;
const BIAS_2: usize = 4;

/// The MLP's start: as PyTorch starts an embedding and two linear layers, which is what the authors' code does.
pub(crate) fn random(shape: MlpShape, rng: &mut impl Rng) -> Parameters {
    let MlpShape { n_row, d_model, mid, row_width } = shape;
    let mut parameters = Parameters::default();
    parameters.push("embedding", &[n_row, d_model], init::normal(n_row * d_model, rng));
    parameters.push("mlp.1.weight", &[mid, d_model], init::uniform_fan_in(mid * d_model, d_model, rng));
    parameters.push("mlp.1.bias", &[mid], init::uniform_fan_in(mid, d_model, rng));
    parameters.push("mlp.2.weight", &[row_width, mid], init::uniform_fan_in(row_width * mid, mid, rng));
    parameters.push("mlp.2.bias", &[row_width], init::uniform_fan_in(row_width, mid, rng));
    parameters
}

/// Makes the MLP give zeros, whatever stands before its last layer.
pub(crate) fn zero_last_layer(parameters: &mut Parameters) {
    parameters.part_mut(WEIGHT_2).fill(0.0);
    parameters.part_mut(BIAS_2).fill(0.0);
}

/// `P` and the hidden activations `H` that the backward needs.
pub(crate) fn forward(shape: MlpShape, parameters: &Parameters) -> (Vec<f32>, Vec<f32>) {
    let MlpShape { n_row, d_model, mid, row_width } = shape;
    let embedding = Matrix::new(parameters.part(EMBEDDING), n_row, d_model);
    let mut hidden = repeat(parameters.part(BIAS_1), n_row);
    matmul(embedding, Matrix::new(parameters.part(WEIGHT_1), mid, d_model).transposed(), &mut hidden);
    for h in &mut hidden {
        *h = h.tanh();
    }
    let mut rows = repeat(parameters.part(BIAS_2), n_row);
    let weight = Matrix::new(parameters.part(WEIGHT_2), row_width, mid).transposed();
    matmul(Matrix::new(&hidden, n_row, mid), weight, &mut rows);
    (rows, hidden)
}

/// The gradient of the parameters, in their order.
pub(crate) fn backward(shape: MlpShape, parameters: &Parameters, hidden: &[f32], d_rows: &[f32]) -> Vec<f32> {
    let MlpShape { n_row, d_model, mid, row_width } = shape;
    let d_rows = Matrix::new(d_rows, n_row, row_width);
    let mut d_hidden = vec![0.0; n_row * mid];
    matmul(d_rows, Matrix::new(parameters.part(WEIGHT_2), row_width, mid), &mut d_hidden);
    for (d, h) in d_hidden.iter_mut().zip(hidden) {
        *d *= 1.0 - h * h;
    }
    let d_inner = Matrix::new(&d_hidden, n_row, mid);

    let mut gradient = vec![0.0; parameters.values().len()];
    let mut rest = gradient.as_mut_slice();
    let mut part = |i: usize| {
        let (part, behind) = std::mem::take(&mut rest).split_at_mut(parameters.part(i).len());
        rest = behind;
        part
    };
    let embedding = Matrix::new(parameters.part(EMBEDDING), n_row, d_model);
    matmul(d_inner, Matrix::new(parameters.part(WEIGHT_1), mid, d_model), part(EMBEDDING));
    matmul(d_inner.transposed(), embedding, part(WEIGHT_1));
    sum_rows(&d_hidden, part(BIAS_1));
    matmul(d_rows.transposed(), Matrix::new(hidden, n_row, mid), part(WEIGHT_2));
    sum_rows(d_rows.values(), part(BIAS_2));
    gradient
}

fn repeat(row: &[f32], n_row: usize) -> Vec<f32> {
    row.repeat(n_row)
}

fn sum_rows(values: &[f32], out: &mut [f32]) {
    for row in values.chunks_exact(out.len()) {
        for (o, v) in out.iter_mut().zip(row) {
            *o += v;
        }
    }
}

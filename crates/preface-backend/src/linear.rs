//! Matrix products: a sum of terms, then an epilogue.
//!
//! `acc[i, o] = sum over terms of sum_k x[i, k] W[o, k]` (plain) or `x[i, k] W[k, o]` (transposed), then `+ bias`,
//! then the [`Epilogue`]. A low-rank delta is a second term.

use crate::{Activation, Backend, BlockMatrix};

/// Which way a stored weight `[n_out, n_in]` is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `x W^T`: from `n_in` to `n_out` columns, as the model applies it.
    Plain,
    /// `x W`: from `n_out` to `n_in` columns, the gradient's way back.
    Transposed,
}

/// One product of a sum.
pub struct Term<'a, B: Backend> {
    /// The rows that are multiplied.
    pub x: &'a B::Rows,
    /// The weight, stored once for both directions.
    pub weight: &'a B::Weight,
    /// Which way it is used.
    pub direction: Direction,
}

/// What happens to the sum before it is stored.
pub enum Epilogue<'a, B: Backend> {
    /// `out = acc`
    Store,
    /// `out = acc + bias`
    Bias(&'a B::Vector),
    /// `out = residual + acc + bias`
    Residual {
        /// Same shape as `out`.
        residual: &'a B::Rows,
        /// `[n_out]`
        bias: Option<&'a B::Vector>,
    },
    /// `keep = acc + bias; out = activation(keep)`: `keep` has [`Activation::input_width`] columns.
    Activate {
        /// Function and gating.
        activation: Activation,
        /// `[n_out]`
        bias: Option<&'a B::Vector>,
        /// Receives the activation's input for the backward; none in generation.
        keep: Option<&'a mut B::Rows>,
    },
    /// `out = acc * activation'(kept)`: for a gate `[acc * up * f'(gate) | acc * f(gate)]`.
    ActivateGrad {
        /// Function and gating.
        activation: Activation,
        /// What [`Epilogue::Activate`] kept.
        kept: &'a B::Rows,
    },
}

/// A matrix on the host, `[n_row, n_column]` row-major, on its way into a [`Backend::Weight`].
#[derive(Clone, Debug)]
pub struct HostMatrix {
    /// Output features.
    pub n_row: usize,
    /// Input features.
    pub n_column: usize,
    /// `n_row * n_column` values.
    pub values: Vec<f32>,
}

/// Some output features of a weight, as they come to a backend.
#[derive(Clone, Debug)]
pub enum WeightPart {
    /// Numbers, stored in the backend's precision.
    Values(HostMatrix),
    /// Quantised blocks.
    Blocks(BlockMatrix),
}

impl WeightPart {
    /// `(output features, input features)`
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::Values(matrix) => (matrix.n_row, matrix.n_column),
            Self::Blocks(matrix) => (matrix.n_row(), matrix.n_column()),
        }
    }
}

//! Row norms.
//!
//! RMS: `out = w * x / sqrt(mean(x^2) + epsilon)`; layer norm: `out = w * (x - mean) / sqrt(var + epsilon) + b`.

use crate::Backend;

/// Which statistics a norm divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Root mean square (Llama).
    Rms,
    /// Mean and variance (GPT-2, BART).
    Layer,
}

/// A norm's parameters.
pub struct Norm<B: Backend> {
    /// Which statistics it divides by.
    pub kind: NormKind,
    /// Added to the mean square or the variance.
    pub epsilon: f32,
    /// `[width]`
    pub weight: B::Vector,
    /// `[width]`
    pub bias: Option<B::Vector>,
}

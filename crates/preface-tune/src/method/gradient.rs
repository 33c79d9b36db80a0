//! A flat gradient, wherever it lies.

use std::ops::{Deref, DerefMut};

use preface_backend::Backend;

/// The gradient of a method's parameters, in their order.
pub enum Gradient<B: Backend> {
    /// Computed on the host.
    Computed(Vec<f32>),
    /// As the backward left it: nothing was copied.
    Moved(B::Host),
}

impl<B: Backend> Deref for Gradient<B> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Computed(values) => values,
            Self::Moved(values) => values,
        }
    }
}

impl<B: Backend> DerefMut for Gradient<B> {
    fn deref_mut(&mut self) -> &mut [f32] {
        match self {
            Self::Computed(values) => values,
            Self::Moved(values) => values,
        }
    }
}

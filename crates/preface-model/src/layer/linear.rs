//! A weight and its optional bias: `y = x W^T + b`.

use preface_backend::{Backend, Direction, Epilogue, Term};

/// `[n_out, n_in]` and `[n_out]`.
pub(crate) struct Linear<B: Backend> {
    pub weight: B::Weight,
    pub bias: Option<B::Vector>,
}

impl<B: Backend> Linear<B> {
    /// The products of the forward.
    pub fn term<'a>(&'a self, x: &'a B::Rows) -> [Term<'a, B>; 1] {
        [Term { x, weight: &self.weight, direction: Direction::Plain }]
    }

    /// The products that carry a gradient from the output back to the input.
    pub fn back<'a>(&'a self, d_out: &'a B::Rows) -> [Term<'a, B>; 1] {
        [Term { x: d_out, weight: &self.weight, direction: Direction::Transposed }]
    }

    /// Stores the products, with the bias where there is one.
    pub fn plain(&self) -> Epilogue<'_, B> {
        self.bias.as_ref().map_or(Epilogue::Store, Epilogue::Bias)
    }
}

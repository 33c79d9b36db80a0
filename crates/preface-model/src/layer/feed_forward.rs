//! The feed-forward layer: `x + W_down f(W_up norm(x))`, where `f` may be a gate.

use preface_backend::{Activation, Backend, Epilogue, Norm, Storage};

use super::Linear;

/// Norm, products and activation.
pub(crate) struct FeedForward<B: Backend> {
    pub norm: Norm<B>,
    /// `[gate | up]` where the activation is gated.
    pub up: Linear<B>,
    pub activation: Activation,
    pub down: Linear<B>,
    /// Width behind the activation.
    pub d_ff: usize,
}

/// What the backward needs.
pub(crate) struct FeedForwardKept<B: Backend> {
    x: B::Rows,
    activation_input: B::Rows,
}

impl<B: Backend> FeedForward<B> {
    /// `[n_row, d_model]` to the same; keeps what the backward needs.
    pub fn forward_keep(&self, backend: &B, x: B::Rows) -> (B::Rows, FeedForwardKept<B>) {
        let (n_row, _) = backend.shape(&x);
        let width = self.activation.input_width(self.d_ff);
        let mut activation_input = backend.rows(n_row, width, Storage::Compact);
        let out = self.run(backend, &x, Some(&mut activation_input));
        (out, FeedForwardKept { x: backend.compact(x), activation_input })
    }

    /// The same without a backward in view.
    pub fn forward(&self, backend: &B, x: &B::Rows) -> B::Rows {
        self.run(backend, x, None)
    }

    fn run(&self, backend: &B, x: &B::Rows, keep: Option<&mut B::Rows>) -> B::Rows {
        let (n_row, d_model) = backend.shape(x);
        let mut normed = backend.rows(n_row, d_model, Storage::Compact);
        backend.norm(&self.norm, x, &mut normed);
        let mut activated = backend.rows(n_row, self.d_ff, Storage::Compact);
        let epilogue = Epilogue::Activate { activation: self.activation, bias: self.up.bias.as_ref(), keep };
        backend.linear(&self.up.term(&normed), epilogue, &mut activated);
        let mut out = backend.rows(n_row, d_model, Storage::Exact);
        let epilogue = Epilogue::Residual { residual: x, bias: self.down.bias.as_ref() };
        backend.linear(&self.down.term(&activated), epilogue, &mut out);
        out
    }

    /// Adds to `d_x` (the gradient of the layer's output, which is also that of its residual) what flows through the
    /// products.
    pub fn backward(&self, backend: &B, kept: &FeedForwardKept<B>, d_x: &mut B::Rows) {
        let (n_row, d_model) = backend.shape(d_x);
        let width = self.activation.input_width(self.d_ff);
        let mut d_input = backend.rows(n_row, width, Storage::Compact);
        let epilogue = Epilogue::ActivateGrad { activation: self.activation, kept: &kept.activation_input };
        backend.linear(&self.down.back(d_x), epilogue, &mut d_input);
        let mut d_normed = backend.rows(n_row, d_model, Storage::Exact);
        backend.linear(&self.up.back(&d_input), Epilogue::Store, &mut d_normed);
        backend.norm_backward(&self.norm, &kept.x, &d_normed, d_x);
    }
}

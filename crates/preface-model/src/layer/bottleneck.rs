//! A bottleneck behind a block: `x + W_up relu(W_down norm(x) + b_down) + b_up`.
//!
//! With an up-projection of zeros it gives `x`: training starts from the bare model.

use preface_backend::{Activation, Backend, Direction, Epilogue, Function, Storage, Term};

use super::Context;
use crate::AttachmentsGrad;
use crate::attachments::Bottleneck;

const RELU: Activation = Activation { function: Function::Relu, gated: false };

/// What the backward needs.
pub(crate) struct BottleneckKept<B: Backend> {
    x: B::Rows,
    activation_input: B::Rows,
    activated: B::Rows,
}

impl<B: Backend> Bottleneck<B> {
    /// `[n_row, d_model]` to the same; keeps what the backward needs.
    pub(crate) fn forward_keep(&self, context: &Context<'_, B>, x: B::Rows) -> (B::Rows, BottleneckKept<B>) {
        let (out, activation_input, activated) = self.run(context, &x);
        (out, BottleneckKept { x, activation_input, activated })
    }

    /// The same without a backward in view.
    pub(crate) fn forward(&self, context: &Context<'_, B>, x: &B::Rows) -> B::Rows {
        self.run(context, x).0
    }

    fn run(&self, context: &Context<'_, B>, x: &B::Rows) -> (B::Rows, B::Rows, B::Rows) {
        let backend = context.backend;
        let (n_row, d_model) = backend.shape(x);
        let (width, _) = backend.weight_shape(&self.down);
        let normed = self.normed(context, x);
        let mut input = backend.rows(n_row, width, Storage::Compact);
        let mut activated = backend.rows(n_row, width, Storage::Compact);
        let term = Term { x: &normed, weight: &self.down, direction: Direction::Plain };
        let epilogue =
            Epilogue::Activate { activation: RELU, bias: Some(&self.down_bias), keep: Some(&mut input) };
        backend.linear(&[term], epilogue, &mut activated);
        let mut out = backend.rows(n_row, d_model, Storage::Exact);
        let term = Term { x: &activated, weight: &self.up, direction: Direction::Plain };
        let epilogue = Epilogue::Residual { residual: x, bias: Some(&self.up_bias) };
        backend.linear(&[term], epilogue, &mut out);
        (out, input, activated)
    }

    fn normed(&self, context: &Context<'_, B>, x: &B::Rows) -> B::Rows {
        let (n_row, d_model) = context.backend.shape(x);
        let mut normed = context.backend.rows(n_row, d_model, Storage::Compact);
        context.backend.norm(&self.norm, x, &mut normed);
        normed
    }

    /// Adds the gradients of its parameters to `grads` and, where `below` is wanted, what flows through it to `d_x`.
    pub(crate) fn backward(
        &self,
        context: &Context<'_, B>,
        kept: &BottleneckKept<B>,
        d_x: &mut B::Rows,
        grads: &mut AttachmentsGrad<B>,
        below: bool,
    ) {
        let backend = context.backend;
        let (n_row, d_model) = backend.shape(d_x);
        let (width, _) = backend.weight_shape(&self.down);
        let [norm, down, up] = self.grads;
        let flat = &mut grads.flat;
        backend.weight_grad(&kept.activated, d_x, up.weight, flat);
        if let Some(bias) = up.bias {
            backend.bias_grad(d_x, bias, flat);
        }
        let mut d_input = backend.rows(n_row, width, Storage::Compact);
        let term = Term { x: &*d_x, weight: &self.up, direction: Direction::Transposed };
        let epilogue = Epilogue::ActivateGrad { activation: RELU, kept: &kept.activation_input };
        backend.linear(&[term], epilogue, &mut d_input);
        backend.weight_grad(&self.normed(context, &kept.x), &d_input, down.weight, flat);
        if let Some(bias) = down.bias {
            backend.bias_grad(&d_input, bias, flat);
        }
        let mut d_normed = backend.rows(n_row, d_model, Storage::Exact);
        let term = Term { x: &d_input, weight: &self.down, direction: Direction::Transposed };
        backend.linear(&[term], Epilogue::Store, &mut d_normed);
        backend.norm_grad(&self.norm, &kept.x, &d_normed, norm.weight, norm.bias, flat);
        if below {
            backend.norm_backward(&self.norm, &kept.x, &d_normed, d_x);
        }
    }
}

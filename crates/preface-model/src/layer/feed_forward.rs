//! The feed-forward layer: `x + W_down f(W_up norm(x))`, where `f` may be a gate.

use preface_backend::{Activation, Backend, Epilogue, Norm, Storage};

use super::{Context, Linear};
use crate::{AttachmentsGrad, Part};

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
    /// Behind the activation, where something is trained that takes it in.
    activated: Option<B::Rows>,
}

impl<B: Backend> FeedForward<B> {
    /// `[n_row, d_model]` to the same; keeps what the backward needs.
    pub fn forward_keep(&self, context: &Context<'_, B>, x: B::Rows) -> (B::Rows, FeedForwardKept<B>) {
        let (n_row, _) = context.backend.shape(&x);
        let width = self.activation.input_width(self.d_ff);
        let mut activation_input = context.backend.rows(n_row, width, Storage::Compact);
        let (out, activated) = self.run(context, &x, Some(&mut activation_input));
        let activated = context.attachments.wants_input(self.down.site).then_some(activated);
        (out, FeedForwardKept { x: context.backend.compact(x), activation_input, activated })
    }

    /// The same without a backward in view.
    pub fn forward(&self, context: &Context<'_, B>, x: &B::Rows) -> B::Rows {
        self.run(context, x, None).0
    }

    /// The sum, and what stands behind the activation.
    fn run(&self, context: &Context<'_, B>, x: &B::Rows, keep: Option<&mut B::Rows>) -> (B::Rows, B::Rows) {
        let (n_row, _) = context.backend.shape(x);
        let normed = context.normed(&self.norm, x);
        let mut activated = context.backend.rows(n_row, self.d_ff, Storage::Compact);
        let epilogue = Epilogue::Activate { activation: self.activation, bias: self.up.bias.as_ref(), keep };
        self.up.forward(context, &normed, epilogue, &mut activated);
        (context.add_to_residual(&self.down, &activated, x), activated)
    }

    /// Adds to `grads` those of what is trained in the layer and, where `below` is wanted, to `d_x` (the gradient of the
    /// layer's output, which is also that of its residual) what flows through the products.
    pub fn backward(
        &self,
        context: &Context<'_, B>,
        kept: &FeedForwardKept<B>,
        d_x: &mut B::Rows,
        grads: &mut AttachmentsGrad<B>,
        below: bool,
    ) {
        let backend = context.backend;
        let (n_row, d_model) = backend.shape(d_x);
        let width = self.activation.input_width(self.d_ff);
        let mut d_input = backend.rows(n_row, width, Storage::Compact);
        let epilogue = Epilogue::ActivateGrad { activation: self.activation, kept: &kept.activation_input };
        let dropped = context.branch_gradient(&self.down, d_x);
        let d_branch = dropped.as_ref().unwrap_or(d_x);
        self.down.backward(context, kept.activated.as_ref(), d_branch, epilogue, &mut d_input, grads);
        let normed = context.normed_input(&self.norm, &self.up, &kept.x);
        let mut d_normed = backend.rows(n_row, d_model, Storage::Exact);
        self.up.backward(context, normed.as_ref(), &d_input, Epilogue::Store, &mut d_normed, grads);
        context.norm_parameters_backward(
            &self.norm,
            self.up.site.sibling(Part::FeedForwardNorm),
            &kept.x,
            &d_normed,
            grads,
        );
        if below {
            backend.norm_backward(&self.norm, &kept.x, &d_normed, d_x);
        }
    }
}

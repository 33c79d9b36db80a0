//! The feed-forward layer: `x + W_down f(W_up norm(x))`, where `f` may be a gate; or `norm(x + W_down f(W_up x))`.

use preface_backend::{Activation, Backend, Epilogue, Storage};

use super::sublayer::{Sublayer, SublayerKept};
use super::{Context, Linear};
use crate::{AttachmentsGrad, Part};

/// Norm, products and activation.
pub(crate) struct FeedForward<B: Backend> {
    pub norm: Sublayer<B>,
    /// `[gate | up]` where the activation is gated.
    pub up: Linear<B>,
    pub activation: Activation,
    pub down: Linear<B>,
    /// Width behind the activation.
    pub d_ff: usize,
}

/// What the backward needs.
pub(crate) struct FeedForwardKept<B: Backend> {
    input: SublayerKept<B>,
    activation_input: B::Rows,
}

impl<B: Backend> FeedForward<B> {
    /// `[n_row, d_model]` to the same; keeps what the backward needs.
    pub fn forward_keep(&self, context: &Context<'_, B>, x: B::Rows) -> (B::Rows, FeedForwardKept<B>) {
        let (n_row, _) = context.backend.shape(&x);
        let width = self.activation.input_width(self.d_ff);
        let mut activation_input = context.backend.rows(n_row, width, Storage::Compact);
        let sum = self.run(context, &x, Some(&mut activation_input));
        let (out, input) = self.norm.after_keep(context, &self.up, x, sum);
        (out, FeedForwardKept { input, activation_input })
    }

    /// The same without a backward in view.
    pub fn forward(&self, context: &Context<'_, B>, x: &B::Rows) -> B::Rows {
        self.norm.after(context.backend, self.run(context, x, None))
    }

    /// The residual with what the layer gives.
    fn run(&self, context: &Context<'_, B>, x: &B::Rows, keep: Option<&mut B::Rows>) -> B::Rows {
        let (n_row, _) = context.backend.shape(x);
        let normed = self.norm.before(context, x);
        let mut activated = context.backend.rows(n_row, self.d_ff, Storage::Compact);
        let epilogue = Epilogue::Activate { activation: self.activation, bias: self.up.bias.as_ref(), keep };
        self.up.forward(context, normed.as_ref().unwrap_or(x), epilogue, &mut activated);
        let activated = self.dropped(context, &activated, Storage::Compact).unwrap_or(activated);
        context.add_to_residual(&self.down, &activated, x)
    }

    /// What the last product took in, from what is kept: it is as wide as that, and cheap to have again.
    fn activated(&self, context: &Context<'_, B>, input: &B::Rows) -> B::Rows {
        let (n_row, _) = context.backend.shape(input);
        let mut activated = context.backend.rows(n_row, self.d_ff, Storage::Compact);
        context.backend.activate(self.activation, input, &mut activated);
        self.dropped(context, &activated, Storage::Compact).unwrap_or(activated)
    }

    /// What stands behind the activation under its dropout, or its gradient; none where nothing is dropped.
    fn dropped(&self, context: &Context<'_, B>, x: &B::Rows, storage: Storage) -> Option<B::Rows> {
        context.dropped(context.attachments.dropout.activation, self.up.site, x, storage)
    }

    fn has_dropout(&self, context: &Context<'_, B>) -> bool {
        context.masks.is_some() && context.attachments.dropout.activation > 0.0
    }

    /// Adds to `grads` those of what is trained in the layer and, where `below` is wanted, turns the gradient of the layer's
    /// output into that of its input.
    pub fn backward(
        &self,
        context: &Context<'_, B>,
        kept: &FeedForwardKept<B>,
        d_x: &mut B::Rows,
        grads: &mut AttachmentsGrad<B>,
        below: bool,
    ) {
        let backend = context.backend;
        let norm_site = self.up.site.sibling(Part::FeedForwardNorm);
        self.norm.after_backward(context, norm_site, &kept.input, d_x, grads);
        let (n_row, _) = backend.shape(d_x);
        let width = self.activation.input_width(self.d_ff);
        let mut d_input = backend.rows(n_row, width, Storage::Compact);
        let dropped = context.branch_gradient(&self.down, d_x);
        let d_branch = dropped.as_ref().unwrap_or(d_x);
        let (activation, kept_input) = (self.activation, &kept.activation_input);
        let is_wanted = context.attachments.wants_input(self.down.site);
        let activated = is_wanted.then(|| self.activated(context, kept_input));
        let activated = activated.as_ref();
        if self.has_dropout(context) {
            let mut d_activated = backend.rows(n_row, self.d_ff, Storage::Exact);
            self.down.backward(context, activated, d_branch, Epilogue::Store, &mut d_activated, grads);
            let d_activated = self.dropped(context, &d_activated, Storage::Exact).unwrap_or(d_activated);
            backend.activation_grad(activation, kept_input, &d_activated, &mut d_input);
        } else {
            let epilogue = Epilogue::ActivateGrad { activation, kept: kept_input };
            self.down.backward(context, activated, d_branch, epilogue, &mut d_input, grads);
        }
        self.norm.before_backward(context, &self.up, norm_site, &kept.input, &d_input, d_x, grads, below);
    }
}

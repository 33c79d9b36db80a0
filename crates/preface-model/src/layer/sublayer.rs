//! Where a layer's norm stands: `x + f(norm(x))` or `norm(x + f(x))`.
//!
//! Backward of the first: the residual's gradient is that of the output, and `f`'s way back ends in the norm's. Of the
//! second: first through the norm, then both ways.

use preface_backend::{Backend, Epilogue, Norm, Storage};

use super::{Context, Linear};
use crate::{AttachmentsGrad, NormPlace, Site};

/// A norm and its place.
pub(crate) struct Sublayer<B: Backend> {
    pub norm: Norm<B>,
    pub place: NormPlace,
}

/// What the backward needs of a layer's input.
pub(crate) struct SublayerKept<B: Backend> {
    /// What was normalised: the input, or the sum.
    norm_input: B::Rows,
    /// The input, where it is not that and something is trained that takes it in.
    input: Option<B::Rows>,
}

impl<B: Backend> Sublayer<B> {
    /// The norm of `x`, where it stands in front; none where the layer takes `x` itself.
    pub fn before(&self, context: &Context<'_, B>, x: &B::Rows) -> Option<B::Rows> {
        (self.place == NormPlace::Before).then(|| context.normed(&self.norm, x))
    }

    /// The layer's output from `sum`, the residual with what the layer gives.
    pub fn after(&self, backend: &B, sum: B::Rows) -> B::Rows {
        match self.place {
            NormPlace::Before => sum,
            NormPlace::After => {
                let (n_row, width) = backend.shape(&sum);
                let mut normed = backend.rows(n_row, width, Storage::Exact);
                backend.norm(&self.norm, &sum, &mut normed);
                normed
            }
        }
    }

    /// The same, and what the backward needs of the input `x` of the layer's product `first` and of `sum`.
    pub fn after_keep(
        &self,
        context: &Context<'_, B>,
        first: &Linear<B>,
        x: B::Rows,
        sum: B::Rows,
    ) -> (B::Rows, SublayerKept<B>) {
        let backend = context.backend;
        match self.place {
            NormPlace::Before => (sum, SublayerKept { norm_input: backend.compact(x), input: None }),
            NormPlace::After => {
                let (n_row, width) = backend.shape(&sum);
                let mut normed = backend.rows(n_row, width, Storage::Exact);
                backend.norm(&self.norm, &sum, &mut normed);
                let input = context.attachments.wants_input(first.site).then(|| backend.compact(x));
                (normed, SublayerKept { norm_input: backend.compact(sum), input })
            }
        }
    }

    /// Turns the gradient of the output into that of the sum.
    pub fn after_backward(
        &self,
        context: &Context<'_, B>,
        site: Site,
        kept: &SublayerKept<B>,
        d_x: &mut B::Rows,
        grads: &mut AttachmentsGrad<B>,
    ) {
        if self.place == NormPlace::Before {
            return;
        }
        let backend = context.backend;
        let (n_row, width) = backend.shape(d_x);
        let mut d_sum = backend.rows(n_row, width, Storage::Exact);
        backend.zero(&mut d_sum);
        context.norm_parameters_backward(&self.norm, site, &kept.norm_input, d_x, grads);
        backend.norm_backward(&self.norm, &kept.norm_input, d_x, &mut d_sum);
        *d_x = d_sum;
    }

    /// Whether a norm in front is trained.
    pub fn trained_before(&self, context: &Context<'_, B>, site: Site) -> bool {
        self.place == NormPlace::Before && context.attachments.trained.contains_key(&site)
    }

    /// From the gradient of the layer's first product to that of what is trained in it and in a norm in front of it (at
    /// `site`) and, where `below` is wanted, of the layer's input, which is added to `d_x`, the gradient of the sum.
    #[expect(clippy::too_many_arguments, reason = "two operands, two gradients and where they end")]
    pub fn before_backward(
        &self,
        context: &Context<'_, B>,
        first: &Linear<B>,
        site: Site,
        kept: &SublayerKept<B>,
        d_first: &B::Rows,
        d_x: &mut B::Rows,
        grads: &mut AttachmentsGrad<B>,
        below: bool,
    ) {
        let backend = context.backend;
        let (n_row, _) = backend.shape(d_first);
        let (_, width) = backend.shape(d_x);
        let normed = match self.place {
            NormPlace::Before => context.normed_input(&self.norm, first, &kept.norm_input),
            NormPlace::After => None,
        };
        let input = normed.as_ref().or(kept.input.as_ref());
        if !below && !self.trained_before(context, site) {
            first.parameters_backward(context, input, d_first, grads);
            return;
        }
        let mut d_input = backend.rows(n_row, width, Storage::Compact);
        first.backward(context, input, d_first, Epilogue::Store, &mut d_input, grads);
        match self.place {
            NormPlace::Before => {
                context.norm_parameters_backward(&self.norm, site, &kept.norm_input, &d_input, grads);
                if below {
                    backend.norm_backward(&self.norm, &kept.norm_input, &d_input, d_x);
                }
            }
            NormPlace::After => backend.add(&d_input, d_x),
        }
    }
}

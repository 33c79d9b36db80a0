//! Norms ahead of a layer.

use preface_backend::{Backend, Norm, Storage};

use super::{Context, Linear};
use crate::{AttachmentsGrad, Site};

impl<B: Backend> Context<'_, B> {
    /// `norm(x)`, as an operand of products.
    pub fn normed(&self, norm: &Norm<B>, x: &B::Rows) -> B::Rows {
        let (n_row, d_model) = self.backend.shape(x);
        let mut normed = self.backend.rows(n_row, d_model, Storage::Compact);
        self.backend.norm(norm, x, &mut normed);
        normed
    }

    /// `norm(x)` again, where something is trained in `linear` that takes it in.
    pub fn normed_input(&self, norm: &Norm<B>, linear: &Linear<B>, x: &B::Rows) -> Option<B::Rows> {
        self.attachments.wants_input(linear.site).then(|| self.normed(norm, x))
    }

    /// The gradients of a norm's parameters, where they are trained.
    pub fn norm_parameters_backward(
        &self,
        norm: &Norm<B>,
        site: Site,
        x: &B::Rows,
        d_out: &B::Rows,
        grads: &mut AttachmentsGrad<B>,
    ) {
        if let Some(place) = self.attachments.trained.get(&site) {
            self.backend.norm_grad(norm, x, d_out, place.weight, place.bias, &mut grads.flat);
        }
    }
}

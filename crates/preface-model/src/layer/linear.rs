//! A weight and its optional bias, with what is attached to its site: `y = x W^T + b + x A^T B^T`.

use preface_backend::{Backend, Direction, Epilogue, Storage, Term};

use super::{Context, RowMasks};
use crate::attachments::LowRank;
use crate::{AttachmentsGrad, Site};

/// `[n_out, n_in]` and `[n_out]`.
pub(crate) struct Linear<B: Backend> {
    pub site: Site,
    pub weight: B::Weight,
    pub bias: Option<B::Vector>,
}

impl<B: Backend> LowRank<B> {
    fn masks<'a>(&self, context: &Context<'a, B>) -> Option<&'a RowMasks<B>> {
        context.masks.filter(|_| self.dropout > 0.0)
    }
}

/// Masks of the input of a low-rank delta: other than those of the model's own dropout at the same site.
const INPUT_MASKS: u32 = 1 << 22;

impl<B: Backend> Linear<B> {
    /// Stores the products, with the bias where there is one.
    pub fn plain(&self) -> Epilogue<'_, B> {
        self.bias.as_ref().map_or(Epilogue::Store, Epilogue::Bias)
    }

    /// `out = epilogue(x W^T + x A^T B^T)`
    pub fn forward(
        &self,
        context: &Context<'_, B>,
        x: &B::Rows,
        epilogue: Epilogue<'_, B>,
        out: &mut B::Rows,
    ) {
        let own = Term { x, weight: &self.weight, direction: Direction::Plain };
        match context.attachments.low_rank.get(&self.site) {
            None => context.backend.linear(&[own], epilogue, out),
            Some(delta) => {
                let hidden = self.hidden(context, delta, x);
                let term = Term { x: &hidden, weight: &delta.up, direction: Direction::Plain };
                context.backend.linear(&[own, term], epilogue, out);
            }
        }
    }

    /// `out = epilogue(d_out W + d_out B A)`, the gradient of the input; and the gradients of what is trained at this
    /// site. `x` is needed where [`crate::Attachments::wants_input`] says so.
    pub fn backward(
        &self,
        context: &Context<'_, B>,
        x: Option<&B::Rows>,
        d_out: &B::Rows,
        epilogue: Epilogue<'_, B>,
        out: &mut B::Rows,
        grads: &mut AttachmentsGrad<B>,
    ) {
        let back = |weight| Term { x: d_out, weight, direction: Direction::Transposed };
        match self.parameters_backward(context, x, d_out, grads) {
            None => context.backend.linear(&[back(&self.weight)], epilogue, out),
            Some((delta, d_hidden)) => {
                let low = Term { x: &d_hidden, weight: &delta.down, direction: Direction::Transposed };
                if delta.masks(context).is_none() {
                    return context.backend.linear(&[back(&self.weight), low], epilogue, out);
                }
                // The mask falls on the delta's share alone, ahead of the epilogue.
                let (n_row, _) = context.backend.shape(d_out);
                let (_, n_in) = context.backend.weight_shape(&delta.down);
                let mut share = context.backend.rows(n_row, n_in, Storage::Exact);
                context.backend.linear(&[low], Epilogue::Store, &mut share);
                let share = self.masked(context, delta, &share).unwrap_or(share);
                let with_share = Epilogue::Residual { residual: &share, bias: None };
                let back = [back(&self.weight)];
                match epilogue {
                    Epilogue::Store => context.backend.linear(&back, with_share, out),
                    Epilogue::Residual { residual, bias: None } => {
                        context.backend.linear(&back, with_share, out);
                        context.backend.add(residual, out);
                    }
                    Epilogue::ActivateGrad { activation, kept } => {
                        let mut sum = context.backend.rows(n_row, n_in, Storage::Exact);
                        context.backend.linear(&back, with_share, &mut sum);
                        context.backend.activation_grad(activation, kept, &sum, out);
                    }
                    _ => unreachable!("gradients have no bias and are not activated"),
                }
            }
        }
    }

    /// The gradients of what is trained at this site alone; the delta and the gradient of its inner rows, if there is one.
    pub fn parameters_backward<'a>(
        &self,
        context: &Context<'a, B>,
        x: Option<&B::Rows>,
        d_out: &B::Rows,
        grads: &mut AttachmentsGrad<B>,
    ) -> Option<(&'a LowRank<B>, B::Rows)> {
        let Context { backend, attachments, .. } = context;
        let input = || x.expect("the input of a trained module is kept");
        if let Some(place) = attachments.trained.get(&self.site) {
            backend.weight_grad(input(), d_out, place.weight, &mut grads.flat);
            if let Some(bias) = place.bias {
                backend.bias_grad(d_out, bias, &mut grads.flat);
            }
        }
        let delta = attachments.low_rank.get(&self.site)?;
        let hidden = self.hidden(context, delta, input());
        backend.weight_grad(&hidden, d_out, delta.up_grad, &mut grads.flat);
        let (n_row, rank) = backend.shape(&hidden);
        let mut d_hidden = backend.rows(n_row, rank, Storage::Compact);
        let term = Term { x: d_out, weight: &delta.up, direction: Direction::Transposed };
        backend.linear(&[term], Epilogue::Store, &mut d_hidden);
        let masked = self.masked(context, delta, input());
        let x = masked.as_ref().unwrap_or_else(|| input());
        backend.weight_grad(x, &d_hidden, delta.down_grad, &mut grads.flat);
        Some((delta, d_hidden))
    }

    /// `x A^T`, dropout on `x` included.
    fn hidden(&self, context: &Context<'_, B>, delta: &LowRank<B>, x: &B::Rows) -> B::Rows {
        let masked = self.masked(context, delta, x);
        let x = masked.as_ref().unwrap_or(x);
        let (n_row, _) = context.backend.shape(x);
        let (rank, _) = context.backend.weight_shape(&delta.down);
        let mut hidden = context.backend.rows(n_row, rank, Storage::Compact);
        let term = Term { x, weight: &delta.down, direction: Direction::Plain };
        context.backend.linear(&[term], Epilogue::Store, &mut hidden);
        hidden
    }

    /// Rows as wide as the delta's input under its mask, if there is one.
    fn masked(&self, context: &Context<'_, B>, delta: &LowRank<B>, x: &B::Rows) -> Option<B::Rows> {
        let (n_row, width) = context.backend.shape(x);
        let masks = delta.masks(context)?.of(n_row);
        let mut out = context.backend.rows(n_row, width, Storage::Exact);
        context.backend.dropout(masks, delta.dropout, self.site.number() | INPUT_MASKS, x, &mut out);
        Some(out)
    }
}

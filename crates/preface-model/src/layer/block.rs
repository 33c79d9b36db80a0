//! A pre-norm transformer block: attention, then feed-forward, each added to the residual stream.

use preface_backend::Backend;

use super::attention::{AttentionKept, AttentionLayer, Context, Text};
use super::feed_forward::{FeedForward, FeedForwardKept};
use crate::AttachmentsGrad;

/// One block.
pub(crate) struct Block<B: Backend> {
    pub attention: AttentionLayer<B>,
    pub feed_forward: FeedForward<B>,
}

/// What the backward of a block needs.
pub(crate) struct BlockKept<B: Backend> {
    attention: AttentionKept<B>,
    feed_forward: FeedForwardKept<B>,
}

impl<B: Backend> Block<B> {
    /// `[n_row, d_model]` to the same; keeps what the backward needs.
    pub fn forward_keep(
        &self,
        context: &Context<'_, B>,
        layer: usize,
        x: B::Rows,
    ) -> (B::Rows, BlockKept<B>) {
        let (x, attention) = self.attention.forward_keep(context, layer, x);
        let (x, feed_forward) = self.feed_forward.forward_keep(context.backend, x);
        (x, BlockKept { attention, feed_forward })
    }

    /// The same without a backward in view.
    pub fn forward(&self, context: &Context<'_, B>, layer: usize, x: &B::Rows, text: Text<'_, B>) -> B::Rows {
        let x = self.attention.forward(context, layer, x, text);
        self.feed_forward.forward(context.backend, &x)
    }

    /// Turns the gradient of the output into that of the input, in place. With `stop` nothing below this block is
    /// wanted, and `d_x` is left without the attention's share.
    pub fn backward(
        &self,
        context: &Context<'_, B>,
        layer: usize,
        kept: &BlockKept<B>,
        d_x: &mut B::Rows,
        grads: &mut AttachmentsGrad<B>,
        stop: bool,
    ) {
        self.feed_forward.backward(context.backend, &kept.feed_forward, d_x);
        self.attention.backward(context, layer, &kept.attention, d_x, grads, stop);
    }
}

//! A pre-norm transformer block: attention, then feed-forward, each added to the residual stream.

use preface_backend::Backend;

use super::attention::{AttentionKept, AttentionLayer, Context, Text};
use super::bottleneck::BottleneckKept;
use super::feed_forward::{FeedForward, FeedForwardKept};
use crate::attachments::{Bottleneck, Depth, Step};
use crate::{AttachmentsGrad, Stack};

/// One block.
pub(crate) struct Block<B: Backend> {
    pub attention: AttentionLayer<B>,
    pub feed_forward: FeedForward<B>,
}

/// What the backward of a block needs.
pub(crate) struct BlockKept<B: Backend> {
    attention: AttentionKept<B>,
    feed_forward: FeedForwardKept<B>,
    bottleneck: Option<BottleneckKept<B>>,
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
        let (mut x, feed_forward) = self.feed_forward.forward_keep(context, x);
        let mut bottleneck = None;
        if let Some(attached) = Self::bottleneck(context, layer) {
            let (out, kept) = attached.forward_keep(context, x);
            (x, bottleneck) = (out, Some(kept));
        }
        (x, BlockKept { attention, feed_forward, bottleneck })
    }

    /// The same without a backward in view.
    pub fn forward(&self, context: &Context<'_, B>, layer: usize, x: &B::Rows, text: Text<'_, B>) -> B::Rows {
        let x = self.attention.forward(context, layer, x, text);
        let x = self.feed_forward.forward(context, &x);
        match Self::bottleneck(context, layer) {
            Some(attached) => attached.forward(context, &x),
            None => x,
        }
    }

    /// What is attached behind the block.
    fn bottleneck<'a>(context: &Context<'a, B>, layer: usize) -> Option<&'a Bottleneck<B>> {
        context.attachments.bottlenecks.get(&(Stack::Decoder, layer))
    }

    /// Turns the gradient of the output into that of the input, in place. Steps below `lowest` are not run: nothing
    /// there is trained, and `d_x` then is the gradient of no row of theirs.
    pub fn backward(
        &self,
        context: &Context<'_, B>,
        layer: usize,
        kept: &BlockKept<B>,
        d_x: &mut B::Rows,
        grads: &mut AttachmentsGrad<B>,
        lowest: Depth,
    ) {
        let at = |step| Depth::block(layer, step);
        if let (Some(attached), Some(kept)) = (Self::bottleneck(context, layer), &kept.bottleneck) {
            attached.backward(context, kept, d_x, grads, lowest < at(Step::Bottleneck));
        }
        if lowest <= at(Step::FeedForward) {
            let below = lowest < at(Step::FeedForward);
            self.feed_forward.backward(context, &kept.feed_forward, d_x, grads, below);
        }
        if lowest <= at(Step::Attention) {
            let below = lowest < at(Step::Attention);
            self.attention.backward(context, layer, &kept.attention, d_x, grads, below);
        }
    }
}

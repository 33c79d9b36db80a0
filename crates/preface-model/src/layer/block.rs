//! A transformer block: attention, cross-attention where the model has an encoder and this is its decoder, feed-forward.

use preface_backend::Backend;

use super::attention::{AttentionKept, AttentionLayer, Context, Text, TextGrad};
use super::bottleneck::BottleneckKept;
use super::cross::{Cross, CrossKept, CrossLayer};
use super::feed_forward::{FeedForward, FeedForwardKept};
use crate::AttachmentsGrad;
use crate::attachments::{Bottleneck, Depth, Step};

/// One block.
pub(crate) struct Block<B: Backend> {
    pub attention: AttentionLayer<B>,
    pub cross: Option<CrossLayer<B>>,
    pub feed_forward: FeedForward<B>,
}

/// What the blocks of a pass share.
pub(crate) struct Pass<'a, B: Backend> {
    /// Self-attention, and everything else that is the stack's own.
    pub own: Context<'a, B>,
    /// Cross-attention, in the decoder of an encoder-decoder.
    pub cross: Option<Cross<'a, B>>,
}

/// What the backward of a block needs.
pub(crate) struct BlockKept<B: Backend> {
    attention: AttentionKept<B>,
    cross: Option<CrossKept<B>>,
    feed_forward: FeedForwardKept<B>,
    bottleneck: Option<BottleneckKept<B>>,
}

impl<B: Backend> Block<B> {
    /// `[n_row, d_model]` to the same; keeps what the backward needs.
    pub fn forward_keep(&self, pass: &Pass<'_, B>, layer: usize, x: B::Rows) -> (B::Rows, BlockKept<B>) {
        let (mut x, attention) = self.attention.forward_keep(&pass.own, layer, x, None);
        let mut cross_kept = None;
        if let Some((cross_layer, cross)) = self.cross(pass) {
            let (out, kept) = cross_layer.forward_keep(cross, layer, x);
            (x, cross_kept) = (out, Some(kept));
        }
        let (mut x, feed_forward) = self.feed_forward.forward_keep(&pass.own, x);
        let mut bottleneck = None;
        if let Some(attached) = Self::bottleneck(&pass.own, layer) {
            let (out, kept) = attached.forward_keep(&pass.own, x);
            (x, bottleneck) = (out, Some(kept));
        }
        (x, BlockKept { attention, cross: cross_kept, feed_forward, bottleneck })
    }

    /// The same without a backward in view.
    pub fn forward(&self, pass: &Pass<'_, B>, layer: usize, x: &B::Rows, text: Text<'_, B>) -> B::Rows {
        let mut x = self.attention.forward(&pass.own, layer, x, text);
        if let Some((cross_layer, cross)) = self.cross(pass) {
            x = cross_layer.forward(cross, layer, &x);
        }
        let x = self.feed_forward.forward(&pass.own, &x);
        match Self::bottleneck(&pass.own, layer) {
            Some(attached) => attached.forward(&pass.own, &x),
            None => x,
        }
    }

    /// The cross-attention with what it sees.
    fn cross<'p, 'a>(&'p self, pass: &'p Pass<'a, B>) -> Option<(&'p CrossLayer<B>, &'p Cross<'a, B>)> {
        let cross = || pass.cross.as_ref().expect("a decoder runs on an encoder's output");
        self.cross.as_ref().map(|layer| (layer, cross()))
    }

    /// What is attached behind the block.
    fn bottleneck<'a>(context: &Context<'a, B>, layer: usize) -> Option<&'a Bottleneck<B>> {
        context.attachments.bottlenecks.get(&(context.side(), layer))
    }

    /// Turns the gradient of the output into that of the input, in place, and adds that of the encoder's output to
    /// `d_states` where it is wanted. Steps below `lowest` are not run: nothing there is trained, and `d_x` then is the
    /// gradient of no row of theirs.
    #[expect(clippy::too_many_arguments, reason = "two ways for gradients, and where they end")]
    pub fn backward(
        &self,
        pass: &Pass<'_, B>,
        layer: usize,
        kept: &BlockKept<B>,
        d_x: &mut B::Rows,
        d_states: Option<&mut B::Rows>,
        grads: &mut AttachmentsGrad<B>,
        lowest: Depth,
    ) {
        let own = &pass.own;
        let at = |step| Depth::block(layer, step);
        let below = |step| lowest < at(step);
        if let (Some(attached), Some(kept)) = (Self::bottleneck(own, layer), &kept.bottleneck) {
            attached.backward(own, kept, d_x, grads, below(Step::Bottleneck));
        }
        if lowest <= at(Step::FeedForward) {
            self.feed_forward.backward(own, &kept.feed_forward, d_x, grads, below(Step::FeedForward));
        }
        if let (Some((cross_layer, cross)), Some(kept)) = (self.cross(pass), &kept.cross)
            && lowest <= at(Step::Cross)
        {
            cross_layer.backward(cross, layer, kept, d_x, d_states, grads, below(Step::Cross));
        }
        if lowest <= at(Step::Attention) {
            let below = below(Step::Attention);
            self.attention.backward(own, layer, &kept.attention, TextGrad::Own, d_x, grads, below);
        }
    }
}

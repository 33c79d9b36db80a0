//! A stack of blocks: the whole of a decoder-only model between embedding and head, or one side of an encoder-decoder.

use std::ops::Range;

use preface_backend::{Backend, Norm, Storage};

use super::{BiasTable, Block, Context, Kept, Pass, Text};
use crate::attachments::{Depth, Step};
use crate::{AttachmentsGrad, Site};

/// Weights of a stack.
pub(crate) struct BlockStack<B: Backend> {
    /// A row for each position, added to the embedding.
    pub position_embedding: Option<B::Weight>,
    /// `[n_position, head_dim]`, where positions are rotary.
    pub rotary: Option<B::Rows>,
    /// What distances add to scores.
    pub relative_bias: Option<BiasTable<B>>,
    pub embedding_norm: Option<Norm<B>>,
    pub blocks: Vec<Block<B>>,
    pub final_norm: Option<Norm<B>>,
}

impl<B: Backend> BlockStack<B> {
    /// Token embeddings with their norm, where the stack has one, and its dropout.
    pub fn enter(&self, context: &Context<'_, B>, x: B::Rows) -> B::Rows {
        let x = match &self.embedding_norm {
            None => x,
            Some(norm) => {
                let (n_row, width) = context.backend.shape(&x);
                let mut normed = context.backend.rows(n_row, width, Storage::Exact);
                context.backend.norm(norm, &x, &mut normed);
                normed
            }
        };
        context.entry_dropout(&x).unwrap_or(x)
    }

    /// The gradient of the embeddings `x` from that of [`BlockStack::enter`]; `x` is asked for where there is a norm.
    pub fn enter_backward(
        &self,
        context: &Context<'_, B>,
        x: impl FnOnce() -> B::Rows,
        d_out: B::Rows,
        grads: &mut AttachmentsGrad<B>,
    ) -> B::Rows {
        let d_out = context.entry_dropout(&d_out).unwrap_or(d_out);
        let Some(norm) = &self.embedding_norm else { return d_out };
        context.norm_backward(norm, Site::EmbeddingNorm(context.side()), &x(), &d_out, grads)
    }

    /// Some blocks, one after the other.
    pub fn forward(&self, pass: &Pass<'_, B>, layers: Range<usize>, x: B::Rows) -> B::Rows {
        layers.fold(x, |x, layer| self.blocks[layer].forward(pass, layer, &x, Text::Own))
    }

    /// All blocks from number `first` on; keeps what the backward needs.
    pub fn forward_keep(
        &self,
        pass: &Pass<'_, B>,
        first: usize,
        mut x: B::Rows,
        recompute: bool,
    ) -> (B::Rows, Vec<Kept<B>>) {
        let mut kept = Vec::with_capacity(self.blocks.len() - first);
        for (layer, block) in self.blocks.iter().enumerate().skip(first) {
            let (next, block_kept) = Kept::forward(block, pass, layer, x, recompute);
            x = next;
            kept.push(block_kept);
        }
        (x, kept)
    }

    /// From the gradient of the last block's output down to the lowest thing that is trained, whose input's gradient it
    /// returns; that of the encoder's output is added to `d_states` where it is wanted. `first` and `kept` are those of
    /// the forward.
    #[expect(clippy::too_many_arguments, reason = "two ways for gradients, and where they end")]
    pub fn backward(
        &self,
        pass: &Pass<'_, B>,
        first: usize,
        mut kept: Vec<Kept<B>>,
        mut d_x: B::Rows,
        mut d_states: Option<&mut B::Rows>,
        grads: &mut AttachmentsGrad<B>,
        lowest: Depth,
    ) -> B::Rows {
        for (layer, block) in self.blocks.iter().enumerate().skip(first).rev() {
            let kept = kept.pop().expect("one entry for each block from the first on");
            if lowest <= Depth::block(layer, Step::Bottleneck) {
                kept.backward(block, pass, layer, &mut d_x, d_states.as_deref_mut(), grads, lowest);
            }
        }
        d_x
    }

    /// The final norm with its dropout, stored as products take their operands; none where `x` stays itself.
    pub fn leave(&self, context: &Context<'_, B>, x: &B::Rows) -> Option<B::Rows> {
        let normed = self.final_norm.as_ref().map(|norm| context.normed(norm, x));
        let dropped = context.exit_dropout(normed.as_ref().unwrap_or(x), Storage::Compact);
        dropped.or(normed)
    }

    /// The gradient of the last block's output, from that of [`BlockStack::leave`].
    pub fn leave_backward(
        &self,
        context: &Context<'_, B>,
        x: &B::Rows,
        d_out: B::Rows,
        grads: &mut AttachmentsGrad<B>,
    ) -> B::Rows {
        let d_out = context.exit_dropout(&d_out, Storage::Exact).unwrap_or(d_out);
        let Some(norm) = &self.final_norm else { return d_out };
        context.norm_backward(norm, Site::FinalNorm(context.side()), x, &d_out, grads)
    }
}

impl<B: Backend> Context<'_, B> {
    /// Dropout of what enters the stack, or of its gradient.
    fn entry_dropout(&self, x: &B::Rows) -> Option<B::Rows> {
        let site = Site::EmbeddingNorm(self.side());
        self.dropped(self.attachments.dropout.embedding, site, x, Storage::Exact)
    }

    /// Dropout of what the stack gives, or of its gradient.
    fn exit_dropout(&self, x: &B::Rows, storage: Storage) -> Option<B::Rows> {
        self.dropped(self.attachments.dropout.output, Site::FinalNorm(self.side()), x, storage)
    }

    /// The gradient of a norm's input, those of its parameters where they are trained.
    fn norm_backward(
        &self,
        norm: &Norm<B>,
        site: Site,
        x: &B::Rows,
        d_out: &B::Rows,
        grads: &mut AttachmentsGrad<B>,
    ) -> B::Rows {
        self.norm_parameters_backward(norm, site, x, d_out, grads);
        let (n_row, width) = self.backend.shape(d_out);
        let mut d_x = self.backend.rows(n_row, width, Storage::Exact);
        self.backend.zero(&mut d_x);
        self.backend.norm_backward(norm, x, d_out, &mut d_x);
        d_x
    }
}

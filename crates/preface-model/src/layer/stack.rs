//! A stack of blocks: the whole of a decoder-only model between embedding and head, or one side of an encoder-decoder.

use std::ops::Range;

use preface_backend::{Backend, Norm, RelativeBias, Storage};

use super::{Block, Kept, Pass, Text};
use crate::AttachmentsGrad;
use crate::attachments::{Depth, Step};

/// Weights of a stack.
pub(crate) struct BlockStack<B: Backend> {
    /// A row for each position, added to the embedding.
    pub position_embedding: Option<B::Weight>,
    /// `[n_position, head_dim]`, where positions are rotary.
    pub rotary: Option<B::Rows>,
    /// What distances add to scores, and the reach of the list.
    pub relative_bias: Option<(B::Vector, usize)>,
    pub embedding_norm: Option<Norm<B>>,
    pub blocks: Vec<Block<B>>,
    pub final_norm: Option<Norm<B>>,
}

impl<B: Backend> BlockStack<B> {
    /// What the distance adds to scores.
    pub fn relative_bias(&self) -> Option<RelativeBias<'_, B>> {
        self.relative_bias.as_ref().map(|(values, reach)| RelativeBias { values, reach: *reach })
    }

    /// Positions and norm of token embeddings.
    pub fn enter(&self, backend: &B, mut x: B::Rows, positions: &B::Index) -> B::Rows {
        if let Some(table) = &self.position_embedding {
            backend.embed_add(table, positions, &mut x);
        }
        match &self.embedding_norm {
            None => x,
            Some(norm) => {
                let (n_row, width) = backend.shape(&x);
                let mut normed = backend.rows(n_row, width, Storage::Exact);
                backend.norm(norm, &x, &mut normed);
                normed
            }
        }
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

    /// The final norm, stored as products take their operands; `x` itself where there is none.
    pub fn leave(&self, backend: &B, x: &B::Rows) -> Option<B::Rows> {
        self.final_norm.as_ref().map(|norm| {
            let (n_row, width) = backend.shape(x);
            let mut normed = backend.rows(n_row, width, Storage::Compact);
            backend.norm(norm, x, &mut normed);
            normed
        })
    }

    /// The gradient of the last block's output, from that of [`BlockStack::leave`].
    pub fn leave_backward(&self, backend: &B, x: &B::Rows, d_out: B::Rows) -> B::Rows {
        let Some(norm) = &self.final_norm else { return d_out };
        let (n_row, width) = backend.shape(&d_out);
        let mut d_x = backend.rows(n_row, width, Storage::Exact);
        backend.zero(&mut d_x);
        backend.norm_backward(norm, x, &d_out, &mut d_x);
        d_x
    }
}

//! What a block leaves for its backward: everything that it needs, or its input alone, from which the rest is computed
//! again when its turn comes. The second way needs one block's intermediates at a time and a forward more.

use preface_backend::Backend;

use super::attention::Text;
use super::block::{Block, BlockKept, Pass};
use crate::AttachmentsGrad;
use crate::attachments::Depth;

/// See the module.
pub(crate) enum Kept<B: Backend> {
    Whole(BlockKept<B>),
    /// Not rounded: what is computed again is equal to the bit.
    Input(B::Rows),
}

impl<B: Backend> Kept<B> {
    /// Runs the block; keeps its input alone if the rest is to be computed again.
    pub fn forward(
        block: &Block<B>,
        pass: &Pass<'_, B>,
        layer: usize,
        x: B::Rows,
        recompute: bool,
    ) -> (B::Rows, Self) {
        if recompute {
            return (block.forward(pass, layer, &x, Text::Own), Self::Input(x));
        }
        let (out, kept) = block.forward_keep(pass, layer, x);
        (out, Self::Whole(kept))
    }

    /// [`Block::backward`].
    #[expect(clippy::too_many_arguments, reason = "those of the block's")]
    pub fn backward(
        self,
        block: &Block<B>,
        pass: &Pass<'_, B>,
        layer: usize,
        d_x: &mut B::Rows,
        d_states: Option<&mut B::Rows>,
        grads: &mut AttachmentsGrad<B>,
        lowest: Depth,
    ) {
        let kept = match self {
            Self::Whole(kept) => kept,
            Self::Input(x) => block.forward_keep(pass, layer, x).1,
        };
        block.backward(pass, layer, &kept, d_x, d_states, grads, lowest);
    }
}

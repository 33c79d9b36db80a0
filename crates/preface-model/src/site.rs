//! Names for the places of a model that a method can act on, the same whatever the family calls its tensors.

use std::fmt;

/// A stack of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stack {
    /// Of an encoder-decoder.
    Encoder,
    /// The only one of a decoder-only model.
    Decoder,
}

/// A part of a block that has parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Norm ahead of the attention.
    AttentionNorm,
    /// Fused product: queries, keys, values.
    Qkv,
    /// From the heads back to the residual stream.
    AttentionOutput,
    /// Norm of the cross-attention.
    CrossNorm,
    /// The decoder's queries in cross-attention.
    CrossQuery,
    /// Keys and values of the encoder's output, fused.
    CrossKeys,
    /// From the heads of cross-attention back to the residual stream.
    CrossOutput,
    /// Norm ahead of the feed-forward layer.
    FeedForwardNorm,
    /// Up to the activation, `[gate | up]` where it is gated.
    Up,
    /// From the activation back to the residual stream.
    Down,
}

/// A module with parameters: a weight, and a bias where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// Token embeddings; the head too, where the model ties them.
    Embedding,
    /// Learned positions.
    Positions,
    /// A module of a block.
    Block {
        /// Which stack.
        stack: Stack,
        /// Number of the block in it.
        layer: usize,
        /// Which module.
        part: Part,
    },
    /// Norm behind the last block.
    FinalNorm,
    /// The head, where it is not the embedding.
    Head,
}

impl Site {
    /// A module of the decoder's block number `layer`.
    pub fn decoder(layer: usize, part: Part) -> Self {
        Self::Block { stack: Stack::Decoder, layer, part }
    }

    /// Another part of the same block.
    pub(crate) fn sibling(self, part: Part) -> Self {
        match self {
            Self::Block { stack, layer, .. } => Self::Block { stack, layer, part },
            other => other,
        }
    }

    /// A number for dropout masks, different for each site.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Embedding => 0,
            Self::Positions => 1,
            Self::FinalNorm => 2,
            Self::Head => 3,
            Self::Block { stack, layer, part } => {
                let within = 16 * layer as u32 + part as u32;
                4 + 2 * within + stack as u32
            }
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedding => f.write_str("embedding"),
            Self::Positions => f.write_str("positions"),
            Self::FinalNorm => f.write_str("final_norm"),
            Self::Head => f.write_str("head"),
            Self::Block { stack, layer, part } => {
                let stack = match stack {
                    Stack::Encoder => "encoder",
                    Stack::Decoder => "decoder",
                };
                let part = match part {
                    Part::AttentionNorm => "attention_norm",
                    Part::Qkv => "qkv",
                    Part::AttentionOutput => "attention_output",
                    Part::CrossNorm => "cross_norm",
                    Part::CrossQuery => "cross_query",
                    Part::CrossKeys => "cross_keys",
                    Part::CrossOutput => "cross_output",
                    Part::FeedForwardNorm => "feed_forward_norm",
                    Part::Up => "up",
                    Part::Down => "down",
                };
                write!(f, "{stack}.{layer}.{part}")
            }
        }
    }
}

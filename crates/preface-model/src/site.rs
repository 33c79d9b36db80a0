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

impl Part {
    /// Whether the part belongs to cross-attention.
    pub(crate) fn is_cross(self) -> bool {
        matches!(self, Self::CrossNorm | Self::CrossQuery | Self::CrossKeys | Self::CrossOutput)
    }
}

/// A module with parameters: a weight, and a bias where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// Token embeddings; the head too, where the model ties them.
    Embedding,
    /// Learned positions of a stack.
    Positions(Stack),
    /// Norm of the embedding as it enters a stack (BART).
    EmbeddingNorm(Stack),
    /// What distances add to the scores of a stack's self-attention (T5): `[n_bucket, n_head]`.
    RelativeBias(Stack),
    /// A module of a block.
    Block {
        /// Which stack.
        stack: Stack,
        /// Number of the block in it.
        layer: usize,
        /// Which module.
        part: Part,
    },
    /// Norm behind the last block of a stack.
    FinalNorm(Stack),
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

    /// The stack that the module belongs to; none if it is that of the whole model.
    pub fn stack(self) -> Option<Stack> {
        match self {
            Self::Embedding | Self::Head => None,
            Self::Positions(stack)
            | Self::EmbeddingNorm(stack)
            | Self::RelativeBias(stack)
            | Self::FinalNorm(stack)
            | Self::Block { stack, .. } => Some(stack),
        }
    }

    /// Whether the module is a norm, whose weight is a vector.
    pub fn is_norm(self) -> bool {
        use Part::{AttentionNorm, CrossNorm, FeedForwardNorm};
        match self {
            Self::EmbeddingNorm(_) | Self::FinalNorm(_) => true,
            Self::Block { part, .. } => matches!(part, AttentionNorm | CrossNorm | FeedForwardNorm),
            Self::Embedding | Self::Positions(_) | Self::RelativeBias(_) | Self::Head => false,
        }
    }

    /// A number for dropout masks, different for each site.
    pub(crate) fn number(self) -> u32 {
        // What lies outside the blocks comes first, then block by block.
        let (group, part) = match self {
            Self::Embedding => (0, 0),
            Self::Positions(_) => (0, 1),
            Self::EmbeddingNorm(_) => (0, 2),
            Self::RelativeBias(_) => (0, 3),
            Self::FinalNorm(_) => (0, 4),
            Self::Head => (0, 5),
            Self::Block { layer, part, .. } => (1 + layer as u32, part as u32),
        };
        2 * (16 * group + part) + self.stack().map_or(0, |stack| stack as u32)
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encoder => "encoder",
            Self::Decoder => "decoder",
        })
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedding => f.write_str("embedding"),
            Self::Positions(stack) => write!(f, "{stack}.positions"),
            Self::EmbeddingNorm(stack) => write!(f, "{stack}.embedding_norm"),
            Self::RelativeBias(stack) => write!(f, "{stack}.relative_bias"),
            Self::FinalNorm(stack) => write!(f, "{stack}.final_norm"),
            Self::Head => f.write_str("head"),
            Self::Block { stack, layer, part } => {
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

//! What distinguishes one model from another: one spec configures the layers of every family.

use preface_backend::{Activation, AttentionShape, NormKind};
use serde::{Deserialize, Serialize};

use crate::PrefixPlace;

/// The model families that can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Llama and what shares its layers (SmolLM2, TinyStories).
    Llama,
    /// GPT-2.
    Gpt2,
    /// BART: an encoder-decoder that normalises behind each layer.
    Bart,
    /// mBART: BART that normalises in front of each layer.
    MBart,
    /// Pegasus: as mBART, with sinusoidal positions and no norm of the embedding.
    Pegasus,
    /// Marian: as BART, with sinusoidal positions and no norm of the embedding.
    Marian,
    /// T5 v1.0 and v1.1 (FLAN): an encoder-decoder with a bias by distance.
    T5,
}

impl Family {
    /// Whether its models are encoder-decoders.
    pub fn has_encoder(self) -> bool {
        match self {
            Self::Llama | Self::Gpt2 => false,
            Self::Bart | Self::MBart | Self::Pegasus | Self::Marian | Self::T5 => true,
        }
    }
}

/// [`ModelSpec::max_positions`] of a model that knows distances only.
pub const UNLIMITED_POSITIONS: usize = u32::MAX as usize;

/// How tokens learn where they stand.
#[derive(Clone, Debug, PartialEq)]
pub enum Positions {
    /// Rotary embedding of queries and keys.
    Rotary(RotarySpec),
    /// A learned table, added to the token embeddings.
    Learned {
        /// Rows in front of the table that no position uses (2 in BART).
        offset: usize,
    },
    /// A table of sines and cosines, added to the token embeddings. One in the file wins over the computed one.
    Sinusoidal,
    /// A bias on the scores of self-attention, by distance and head.
    Relative {
        /// Distances fall into so many buckets.
        n_bucket: usize,
        /// Greater distances fall into the last one.
        max_distance: usize,
    },
}

/// Where a layer's norm stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlace {
    /// `x + layer(norm(x))`
    Before,
    /// `norm(x + layer(x))`
    After,
}

/// Shapes of one stack of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackSpec {
    /// Number of blocks.
    pub n_layer: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key/value heads.
    pub n_kv_head: usize,
    /// Columns of one head.
    pub head_dim: usize,
    /// Width of the feed-forward layer behind the activation.
    pub d_ff: usize,
}

impl StackSpec {
    /// Columns of all key heads of one layer.
    pub fn kv_width(&self) -> usize {
        self.n_kv_head * self.head_dim
    }

    /// Numbers in one prefix row: keys and values of all layers.
    pub fn row_width(&self) -> usize {
        2 * self.n_layer * self.kv_width()
    }
}

/// Frequencies of the rotary embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct RotarySpec {
    /// Base of the geometric series of wavelengths (`rope_theta`).
    pub base: f64,
    /// How the frequencies are stretched for longer texts.
    pub scaling: RotaryScaling,
}

/// Stretching of rotary frequencies.
#[derive(Clone, Debug, PartialEq)]
pub enum RotaryScaling {
    /// As trained.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: long wavelengths divided by `factor`, short ones kept, a ramp between.
    Llama3 {
        /// Divisor of the long wavelengths.
        factor: f64,
        /// Wavelengths longer than `original_max_positions / low_frequency_factor` are long.
        low_frequency_factor: f64,
        /// Wavelengths shorter than `original_max_positions / high_frequency_factor` are short.
        high_frequency_factor: f64,
        /// Positions that the model was first trained with.
        original_max_positions: f64,
    },
    /// A divisor for each frequency, as a GGUF stores them (`rope_freqs.weight`).
    Divisors(Vec<f32>),
}

/// Shapes and kinds of a model's layers. Where a model has an encoder, the sizes that stand here directly are the decoder's.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// Whose layers these are.
    pub family: Family,
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Number of blocks.
    pub n_layer: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key/value heads.
    pub n_kv_head: usize,
    /// Columns of one head; need not be `d_model / n_head`.
    pub head_dim: usize,
    /// Width of the feed-forward layer behind the activation.
    pub d_ff: usize,
    /// Kind of all norms.
    pub norm: NormKind,
    /// Epsilon of all norms.
    pub norm_epsilon: f32,
    /// How tokens learn where they stand.
    pub positions: Positions,
    /// Positions that the model knows, prefix rows included.
    pub max_positions: usize,
    /// The feed-forward layer's activation.
    pub activation: Activation,
    /// Whether the head is the embedding itself.
    pub tied_head: bool,
    /// The encoder, where the model has one.
    pub encoder: Option<StackSpec>,
    /// Where the norms of the layers stand.
    pub norm_place: NormPlace,
    /// Whether a stack's input is normalised (BART).
    pub embedding_norm: bool,
    /// Whether a stack's output is normalised.
    pub final_norm: bool,
    /// Factor on the token embeddings.
    pub embedding_scale: f32,
    /// Whether products of queries and keys are divided by the root of the head's columns.
    pub scaled_attention: bool,
    /// Factor on the logits in front of their bias.
    pub head_scale: f32,
}

impl ModelSpec {
    /// Head counts and scale of the attention layers.
    pub fn attention(&self) -> AttentionShape {
        AttentionShape {
            n_head: self.n_head,
            n_kv_head: self.n_kv_head,
            head_dim: self.head_dim,
            scale: self.attention_scale_of(self.decoder()),
        }
    }

    /// Factor on the products of queries and keys of a stack.
    pub(crate) fn attention_scale_of(&self, stack: StackSpec) -> f32 {
        if self.scaled_attention { (stack.head_dim as f32).powf(-0.5) } else { 1.0 }
    }

    /// The row of a table of positions that a position has.
    pub(crate) fn position_row(&self, position: usize) -> u32 {
        let offset = if let Positions::Learned { offset } = self.positions { offset } else { 0 };
        (position + offset) as u32
    }

    /// Shapes of the decoder (which is the whole of a decoder-only model).
    pub fn decoder(&self) -> StackSpec {
        let &Self { n_layer, n_head, n_kv_head, head_dim, d_ff, .. } = self;
        StackSpec { n_layer, n_head, n_kv_head, head_dim, d_ff }
    }

    /// Shapes of the stack whose keys the rows of a place stand beside; `None` where the model lacks the place.
    pub fn stack(&self, place: PrefixPlace) -> Option<StackSpec> {
        match place {
            PrefixPlace::Decoder => Some(self.decoder()),
            PrefixPlace::Encoder => self.encoder,
            PrefixPlace::Cross => self.encoder.map(|_| self.decoder()),
        }
    }

    /// The self-attention that reads the prompt.
    pub fn prompt_place(&self) -> PrefixPlace {
        if self.encoder.is_some() { PrefixPlace::Encoder } else { PrefixPlace::Decoder }
    }

    /// Shapes of the stack that reads the prompt.
    pub fn prompt_stack(&self) -> StackSpec {
        self.encoder.unwrap_or(self.decoder())
    }

    /// Numbers in one prefix row of a place; 0 where the model lacks it.
    pub fn row_width(&self, place: PrefixPlace) -> usize {
        self.stack(place).map_or(0, |stack| stack.row_width())
    }

    /// Columns of all key heads of one layer.
    pub fn kv_width(&self) -> usize {
        self.n_kv_head * self.head_dim
    }

    /// Numbers in one prefix row of the decoder: keys and values of all layers.
    pub fn prefix_row_width(&self) -> usize {
        self.decoder().row_width()
    }

    /// Parameters of the whole model, the head counted only if it is not the embedding.
    pub fn n_parameter(&self, has_bias: bool) -> usize {
        let norm = if self.norm == NormKind::Layer { 2 * self.d_model } else { self.d_model };
        let stack = |stack: StackSpec, n_attention: usize| {
            let query = stack.n_head * stack.head_dim;
            let qkv = query + 2 * stack.kv_width();
            let up = self.activation.input_width(stack.d_ff);
            let attention_bias = if has_bias { qkv + self.d_model } else { 0 };
            let feed_forward_bias = if has_bias { up + self.d_model } else { 0 };
            let attention = self.d_model * (qkv + query) + attention_bias + norm;
            let feed_forward = self.d_model * (up + stack.d_ff) + feed_forward_bias + norm;
            let positions = match self.positions {
                Positions::Learned { offset } => (self.max_positions + offset) * self.d_model,
                Positions::Relative { n_bucket, .. } => n_bucket * stack.n_head,
                Positions::Rotary(_) | Positions::Sinusoidal => 0,
            };
            let n_norm = usize::from(self.embedding_norm) + usize::from(self.final_norm);
            stack.n_layer * (n_attention * attention + feed_forward) + positions + n_norm * norm
        };
        let tables = self.vocab_size * self.d_model * if self.tied_head { 1 } else { 2 };
        match self.encoder {
            None => tables + stack(self.decoder(), 1),
            Some(encoder) => tables + stack(encoder, 1) + stack(self.decoder(), 2),
        }
    }
}

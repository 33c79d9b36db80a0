//! What distinguishes one model from another: one spec configures the layers of every family.

use preface_backend::{Activation, AttentionShape, NormKind};

/// The model families that can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Llama and what shares its layers (SmolLM2, TinyStories).
    Llama,
    /// GPT-2.
    Gpt2,
}

/// How tokens learn where they stand.
#[derive(Clone, Debug, PartialEq)]
pub enum Positions {
    /// Rotary embedding of queries and keys.
    Rotary(RotarySpec),
    /// A learned table, added to the token embeddings.
    Learned,
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

/// Shapes and kinds of a decoder-only model's layers.
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
}

impl ModelSpec {
    /// Head counts and scale of the attention layers.
    pub fn attention(&self) -> AttentionShape {
        AttentionShape {
            n_head: self.n_head,
            n_kv_head: self.n_kv_head,
            head_dim: self.head_dim,
            scale: (self.head_dim as f32).powf(-0.5),
        }
    }

    /// Columns of all key heads of one layer.
    pub fn kv_width(&self) -> usize {
        self.n_kv_head * self.head_dim
    }

    /// Numbers in one prefix row: keys and values of all layers.
    pub fn prefix_row_width(&self) -> usize {
        2 * self.n_layer * self.kv_width()
    }

    /// Parameters of the whole model, the head counted only if it is not the embedding.
    pub fn n_parameter(&self, has_bias: bool) -> usize {
        let query = self.n_head * self.head_dim;
        let qkv = query + 2 * self.kv_width();
        let up = self.activation.input_width(self.d_ff);
        let norm = if self.norm == NormKind::Layer { 2 * self.d_model } else { self.d_model };
        let bias = if has_bias { qkv + self.d_model + up + self.d_model } else { 0 };
        let block = self.d_model * (qkv + query + up + self.d_ff) + bias + 2 * norm;
        let positions = match self.positions {
            Positions::Learned => self.max_positions * self.d_model,
            Positions::Rotary(_) => 0,
        };
        let tables = self.vocab_size * self.d_model * if self.tied_head { 1 } else { 2 };
        tables + positions + self.n_layer * block + norm
    }
}

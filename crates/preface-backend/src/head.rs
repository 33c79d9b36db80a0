//! The language model's head and its targets.

use crate::Backend;

/// The head: `logits = scale * (x W^T) + bias`.
pub struct Head<'a, B: Backend> {
    /// `[vocab_size, d_model]`; the embedding itself where the model ties them.
    pub weight: &'a B::Weight,
    /// Added to the logits (`final_logits_bias` of BART).
    pub bias: Option<&'a B::Vector>,
    /// 1 for most families; `d_model^-0.5` for T5 with a tied head.
    pub scale: f32,
}

/// A token and how much of the target's mass it carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenWeight {
    /// Token id, below the head's rows.
    pub token: u32,
    /// Its weight.
    pub weight: f32,
}

/// What one row is to predict: `loss = sum over tokens of weight * -log p(token) + uniform / vocab * sum over the
/// vocabulary of -log p`.
///
/// One token with weight 1 is plain cross-entropy; `1 - e` with `uniform = e` is label smoothing; several tokens
/// are several references of one prompt or a teacher's soft targets.
#[derive(Clone, Debug, PartialEq)]
pub struct RowTarget {
    /// Tokens and weights.
    pub tokens: Vec<TokenWeight>,
    /// Mass spread evenly over the vocabulary.
    pub uniform: f32,
}

impl RowTarget {
    /// Plain cross-entropy, smoothed by `label_smoothing` (0 for none).
    pub fn token(token: u32, label_smoothing: f32) -> Self {
        Self { tokens: vec![TokenWeight { token, weight: 1.0 - label_smoothing }], uniform: label_smoothing }
    }
}

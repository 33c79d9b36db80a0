//! The keys and values that the model computes for a text at positions `0..`.
//!
//! A prefix of exactly these rows is the same as really running the text first, so training starts where prompting ends.

use preface_backend::Backend;
use preface_model::{Attachments, Feed, KvCache, Model, ModelError};
use thiserror::Error;

use crate::method::PrefixRows;

/// Why a text cannot be the start of a prefix.
#[derive(Debug, Error, PartialEq)]
pub enum InitTextError {
    /// Fewer tokens than rows.
    #[error(
        "the init text has {n_token} tokens, but the prefix is to have {prefix_len} rows; lengthen the text or lower num_virtual_tokens"
    )]
    TooShort {
        /// Tokens of the text.
        n_token: usize,
        /// Rows wanted.
        prefix_len: usize,
    },
    /// No token at all.
    #[error("the init text has no token")]
    Empty,
    /// Tokens that the model cannot run.
    #[error("the init text cannot be run: {0}")]
    Model(#[from] ModelError),
}

/// Rows of the first `prefix_len` tokens of a text, or of all of them.
///
/// # Errors
/// A text without tokens, with fewer than `prefix_len`, or with more than the model has positions.
pub fn text_rows<B: Backend>(
    model: &Model<B>,
    tokens: &[u32],
    prefix_len: Option<usize>,
) -> Result<PrefixRows, InitTextError> {
    let prefix_len = prefix_len.unwrap_or(tokens.len());
    if tokens.is_empty() || prefix_len == 0 {
        return Err(InitTextError::Empty);
    }
    if tokens.len() < prefix_len {
        return Err(InitTextError::TooShort { n_token: tokens.len(), prefix_len });
    }
    let none = Attachments::none();
    let mut cache = KvCache::new(model, &none);
    let sequence = cache.start(None);
    cache.append(&[Feed { sequence, tokens: &tokens[..prefix_len] }])?;
    Ok(PrefixRows::new(model.spec(), cache.read(sequence)))
}

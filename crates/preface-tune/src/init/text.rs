//! The keys and values that the model computes for a text at positions `0..`.
//!
//! A prefix of exactly these rows is the same as really running the text first, so training starts where prompting ends.
//!
//! In an encoder-decoder each place takes a text in its own terms: rows for the encoder are what the encoder's layers make
//! of a source, those for the decoder what its layers make of a target behind the start token (while it sees that source),
//! and those for cross-attention the keys and values of the encoder's output. Encoders see in both directions, so they
//! read the whole text even where only its first rows are taken.

use preface_backend::Backend;
use preface_model::{Attachments, Feed, KvCache, Model, ModelError, PrefixPlace, SourceFeed};
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
    let prefix_len = taken(tokens, prefix_len)?;
    let none = Attachments::none();
    let mut cache = KvCache::new(model, &none);
    let sequence = cache.start(None);
    cache.append(&[Feed { sequence, tokens: &tokens[..prefix_len] }])?;
    Ok(PrefixRows::new(model.spec(), cache.read(sequence)))
}

/// What an encoder-decoder's rows start from.
#[derive(Clone, Copy, Debug)]
pub struct SeqToSeqText<'a> {
    /// What the encoder reads.
    pub source: &'a [u32],
    /// What the decoder reads: its start token and a text.
    pub target: &'a [u32],
}

impl<'a> SeqToSeqText<'a> {
    /// The side whose tokens a place has rows for.
    pub fn of(self, place: PrefixPlace) -> &'a [u32] {
        match place {
            PrefixPlace::Encoder | PrefixPlace::Cross => self.source,
            PrefixPlace::Decoder => self.target,
        }
    }
}

/// Rows of a place for the first `prefix_len` tokens of its side of `text`, or for all of them; `[prefix_len, row_width]`,
/// row-major.
///
/// # Errors
/// As [`text_rows`], and a model without an encoder.
pub fn placed_text_rows<B: Backend>(
    model: &Model<B>,
    place: PrefixPlace,
    text: SeqToSeqText<'_>,
    prefix_len: Option<usize>,
) -> Result<Vec<f32>, InitTextError> {
    let prefix_len = taken(text.of(place), prefix_len)?;
    let none = Attachments::none();
    let mut cache = KvCache::new(model, &none);
    let mut read = || cache.encode(&[SourceFeed { tokens: text.source, segment: None }]);
    let mut rows = match place {
        PrefixPlace::Encoder => model.encoder_text_rows(text.source)?,
        PrefixPlace::Cross => {
            let sequence = read()?[0];
            cache.read_encoded(sequence)
        }
        PrefixPlace::Decoder => {
            let sequence = read()?[0];
            cache.append(&[Feed { sequence, tokens: &text.target[..prefix_len] }])?;
            cache.read(sequence)
        }
    };
    rows.truncate(prefix_len * model.spec().row_width(place));
    Ok(rows)
}

/// How many rows a text gives.
fn taken(tokens: &[u32], prefix_len: Option<usize>) -> Result<usize, InitTextError> {
    let prefix_len = prefix_len.unwrap_or(tokens.len());
    if tokens.is_empty() || prefix_len == 0 {
        return Err(InitTextError::Empty);
    }
    if tokens.len() < prefix_len {
        return Err(InitTextError::TooShort { n_token: tokens.len(), prefix_len });
    }
    Ok(prefix_len)
}

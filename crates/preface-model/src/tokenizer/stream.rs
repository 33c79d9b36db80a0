//! Decoding while tokens arrive.
//!
//! A token may hold a part of a character, and the text of a token may depend on the one before it (a SentencePiece
//! blank is dropped at the start of a text only). So the last shown tokens are decoded again together with the new ones
//! and what is new is shown, unless it ends in the replacement character: then a character may still be incomplete.

use crate::tokenizer::{Tokenizer, TokenizerError};

/// Decodes ids one at a time; see [`Tokenizer::decode_stream`].
#[derive(Debug)]
pub struct DecodeStream<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    /// The ids that were shown last, then those that are waiting.
    ids: Vec<u32>,
    n_shown: usize,
}

impl<'a> DecodeStream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, skip_special: bool) -> Self {
        Self { tokenizer, skip_special, ids: vec![], n_shown: 0 }
    }

    /// Takes the next id and returns the text that can be shown now, if there is any: whole characters only.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn push(&mut self, id: u32) -> Result<Option<String>, TokenizerError> {
        self.ids.push(id);
        let text = self.waiting()?;
        if text.is_empty() || text.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(None);
        }
        self.ids.drain(..self.n_shown);
        self.n_shown = self.ids.len();
        Ok(Some(text))
    }

    /// The rest at the end of the text; an incomplete character shows as the replacement character.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn finish(self) -> Result<Option<String>, TokenizerError> {
        Some(self.waiting()?).filter(|text| !text.is_empty()).map_or(Ok(None), |text| Ok(Some(text)))
    }

    /// What the waiting ids add to the shown ones.
    fn waiting(&self) -> Result<String, TokenizerError> {
        let shown = self.tokenizer.decode(&self.ids[..self.n_shown], self.skip_special)?;
        let all = self.tokenizer.decode(&self.ids, self.skip_special)?;
        match all.strip_prefix(&shown) {
            Some(new) => Ok(new.to_owned()),
            // Bytes that spoil a character which was complete: it stays as shown, the new ones speak for themselves.
            None => self.tokenizer.decode(&self.ids[self.n_shown..], self.skip_special),
        }
    }
}

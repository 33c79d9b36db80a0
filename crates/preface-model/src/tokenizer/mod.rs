//! Text to token ids and back, over the `tokenizers` crate.
//!
//! A tokenizer comes from a `tokenizer.json` or from the metadata of a GGUF file. Truncation and padding that a
//! `tokenizer.json` may ask for are switched off: rows are packed, and a text is cut only when the user says so.
//!
//! [`TextFormat`] turns a prompt and its completion into ids, the same way for training, evaluation and generation, in
//! decoder-only models (`pair.rs`) and encoder-decoders (`seq2seq.rs`).

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

mod error;
mod format;
mod gguf;
mod pair;
mod pre_tokenizer;
mod seq2seq;
mod special;
mod stream;

pub use self::error::TokenizerError;
pub use self::format::{Separator, Template, TextFormat};
pub use self::pair::{Input, Pair};
pub use self::seq2seq::{TargetConfig, TargetTokens};
pub use self::special::SpecialTokens;
pub use self::stream::DecodeStream;

use crate::weights::bytes::ByteSource;

/// Largest `tokenizer.json` that is accepted; those of 260,000 tokens take about 35 MB.
const FILE_CAP: u64 = 256 << 20;

/// What SentencePiece's models are called: Marian's source, T5's and Pegasus', mBART's, Llama's.
const SENTENCE_PIECE: [&str; 4] =
    ["source.spm", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"];

/// Whether the tokens that a tokenizer puts around a text are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// Whatever the tokenizer adds: `<s> text </s>`, for example.
    AsTokenizer,
    /// The text's own tokens only.
    Without,
}

/// A tokenizer with what is known of its behaviour.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    /// The ids that are put in front of every text.
    front: Vec<u32>,
    /// The ids that are put behind it.
    back: Vec<u32>,
    puts_blank: bool,
    vocab_size: usize,
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a Hugging Face folder.
    ///
    /// # Errors
    /// If the file is absent, too large, or not a tokenizer. A folder that has SentencePiece models in its place is told so.
    pub fn from_folder(folder: &Path) -> Result<Self, TokenizerError> {
        let path = folder.join("tokenizer.json");
        if !path.exists()
            && let Some(&found) = SENTENCE_PIECE.iter().find(|name| folder.join(name).exists())
        {
            return Err(TokenizerError::SentencePiece { path, found });
        }
        Self::from_json(&path, &read_small_file(&path)?)
    }

    /// Takes the text of a `tokenizer.json`; `path` (or a name) is for messages.
    ///
    /// # Errors
    /// If it is not a tokenizer.
    pub fn from_json(path: &Path, json: &[u8]) -> Result<Self, TokenizerError> {
        let malformed = |reason: String| TokenizerError::Malformed { path: path.into(), reason };
        // First as any JSON: the crate panics on some text that is none.
        serde_json::from_slice::<IgnoredAny>(json).map_err(|error| malformed(error.to_string()))?;
        let mut inner = guarded(|| tokenizers::Tokenizer::from_bytes(json)).map_err(malformed)?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| malformed(error.to_string()))?;
        let vocab_size = inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        let (front, back) = (vec![], vec![]);
        let mut tokenizer = Self { inner, path: path.into(), front, back, puts_blank: false, vocab_size };
        (tokenizer.front, tokenizer.back) = tokenizer.find_around()?;
        tokenizer.puts_blank = tokenizer.find_blank()?;
        Ok(tokenizer)
    }

    /// The ids of a text.
    ///
    /// # Errors
    /// If the `tokenizers` crate fails.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>, TokenizerError> {
        Ok(self.encoding(text, special)?.get_ids().to_vec())
    }

    /// The ids of a text that something will follow: with the special tokens that the tokenizer puts in front, without
    /// those that it appends.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = self.front.clone();
        ids.extend_from_slice(self.encoding(text, Special::Without)?.get_ids());
        Ok(ids)
    }

    /// The text of some ids. Ids that are not in the vocabulary have no text.
    ///
    /// # Errors
    /// If the `tokenizers` crate fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TokenizerError> {
        guarded(|| self.inner.decode(ids, skip_special)).map_err(|reason| self.failed("decode", reason))
    }

    /// A decoder that takes ids one at a time.
    pub fn decode_stream(&self, skip_special: bool) -> DecodeStream<'_> {
        DecodeStream::new(self, skip_special)
    }

    /// One more than the highest id: the rows that an embedding must at least have.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of a token as the vocabulary writes it (byte-level tokens in their stand-in characters).
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id as the vocabulary writes it.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The ids that the tokenizer puts in front of every text.
    pub fn front(&self) -> &[u32] {
        &self.front
    }

    /// The ids that the tokenizer puts behind every text.
    pub fn back(&self) -> &[u32] {
        &self.back
    }

    /// Whether the tokenizer puts a token (BOS) in front of every text.
    pub fn adds_bos(&self) -> bool {
        !self.front.is_empty()
    }

    /// Whether a text is encoded as if a blank stood before it (SentencePiece's dummy prefix).
    pub fn puts_blank_before_text(&self) -> bool {
        self.puts_blank
    }

    /// The file that the tokenizer came from, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// SHA-256 of the vocabulary, in hexadecimal: each id with its token, in the order of ids.
    ///
    /// The merges are not part of it: neither their order in memory nor a GGUF file's way of splitting text can be told
    /// from a `tokenizer.json`, while the vocabulary is the same in both.
    pub fn fingerprint(&self) -> String {
        let mut tokens: Vec<(u32, String)> =
            self.inner.get_vocab(true).into_iter().map(|(token, id)| (id, token)).collect();
        tokens.sort_unstable();
        let mut hash = Sha256::new();
        for (id, token) in tokens {
            hash.update(id.to_le_bytes());
            hash.update((token.len() as u64).to_le_bytes());
            hash.update(token);
        }
        hash.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
            hex
        })
    }

    fn encoding(&self, text: &str, special: Special) -> Result<tokenizers::Encoding, TokenizerError> {
        guarded(|| self.inner.encode_fast(text, special == Special::AsTokenizer))
            .map_err(|reason| self.failed("encode a text", reason))
    }

    fn failed(&self, doing: &'static str, reason: String) -> TokenizerError {
        TokenizerError::Failed { path: self.path.clone(), doing, reason }
    }

    /// The ids in front of a text and behind it. They show around a text that has tokens of its own, so one is looked for:
    /// the letter a, else what some token of the vocabulary stands for.
    fn find_around(&self) -> Result<(Vec<u32>, Vec<u32>), TokenizerError> {
        for id in std::iter::once(None).chain((0..1000).map(Some)) {
            let text = match id {
                None => "a".to_owned(),
                Some(id) => self.decode(&[id], true)?,
            };
            if !self.encoding(&text, Special::Without)?.is_empty() {
                let encoding = self.encoding(&text, Special::AsTokenizer)?;
                let added = encoding.get_special_tokens_mask();
                let n_front = added.iter().take_while(|&&added| added == 1).count();
                let n_back = added[n_front..].iter().rev().take_while(|&&added| added == 1).count();
                let ids = encoding.get_ids();
                return Ok((ids[..n_front].to_vec(), ids[ids.len() - n_back..].to_vec()));
            }
        }
        Err(TokenizerError::EncodesNothing { path: self.path.clone() })
    }

    /// Whether the first token of a text without a blank begins with one, in SentencePiece's or the byte-level writing.
    fn find_blank(&self) -> Result<bool, TokenizerError> {
        let first = self.encode("a", Special::Without)?.first().and_then(|&id| self.id_to_token(id));
        Ok(first.is_some_and(|token| token.starts_with(['\u{2581}', 'Ġ'])))
    }
}

/// Runs the `tokenizers` crate on what an untrusted file says. The crate unwraps in places that a hostile file reaches
/// (a decoder of no known type, an added token that ends inside a character); here such a panic becomes an error.
fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    // Nothing is used after a panic but the tokenizer itself, whose only inner state is a cache of finished entries.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            Err(message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic").to_owned())
        }
    }
}

/// The bytes of a file that is never large.
fn read_small_file(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    let source = ByteSource::open(path)?;
    if source.len() > FILE_CAP {
        return Err(TokenizerError::TooLarge { path: path.into(), bytes: source.len(), cap: FILE_CAP });
    }
    Ok(source.read("the file", 0, source.len())?)
}

#[cfg(test)]
mod tests;

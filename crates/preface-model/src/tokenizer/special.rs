//! The ids of the model's own special tokens, from where each format keeps them.

use std::path::Path;

use serde::Deserialize;

use crate::tokenizer::{TargetTokens, Tokenizer, TokenizerError, read_small_file};
use crate::weights::gguf::Metadata;

/// The tokens that begin and end a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// BOS, where the model has one.
    pub bos: Option<u32>,
    /// The end tokens. Any of them stops generation; the first is trained.
    pub end: Vec<u32>,
    /// What stands around the text of an encoder-decoder's decoder; present exactly if the model has an encoder.
    pub target: Option<TargetTokens>,
}

/// The part of `config.json` and `generation_config.json` that is needed here.
#[derive(Deserialize)]
struct Config {
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMany>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl SpecialTokens {
    /// Reads a Hugging Face folder: for each token `generation_config.json` if it names one, else `config.json`.
    ///
    /// # Errors
    /// If a file cannot be read or is malformed. An absent file names nothing.
    pub fn from_folder(folder: &Path) -> Result<Self, TokenizerError> {
        let mut special = Self::default();
        for name in ["generation_config.json", "config.json"] {
            let path = folder.join(name);
            if path.exists() {
                let found = Self::from_config(&path, &read_small_file(&path)?)?;
                special.bos = special.bos.or(found.bos);
                if special.end.is_empty() {
                    special.end = found.end;
                }
            }
        }
        Ok(special)
    }

    /// Reads the text of one such file; `path` (or a name) is for messages.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn from_config(path: &Path, json: &[u8]) -> Result<Self, TokenizerError> {
        let config: Config = serde_json::from_slice(json)
            .map_err(|source| TokenizerError::Json { path: path.into(), source })?;
        let end = match config.eos_token_id {
            None => vec![],
            Some(OneOrMany::One(id)) => vec![id],
            Some(OneOrMany::Many(ids)) => ids,
        };
        Ok(Self { bos: config.bos_token_id, end, target: None })
    }

    /// Reads `tokenizer.ggml.bos_token_id` and `tokenizer.ggml.eos_token_id`.
    ///
    /// # Errors
    /// If one of them is not a token's id.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, TokenizerError> {
        Ok(Self {
            bos: metadata.get("tokenizer.ggml.bos_token_id")?,
            end: metadata.get("tokenizer.ggml.eos_token_id")?.into_iter().collect(),
            target: None,
        })
    }

    /// The end token that is trained.
    ///
    /// # Errors
    /// [`TokenizerError::NoEndToken`] if the model names none.
    pub fn trained_end(&self, tokenizer: &Tokenizer) -> Result<u32, TokenizerError> {
        self.end.first().copied().ok_or_else(|| TokenizerError::NoEndToken { path: tokenizer.path().into() })
    }

    /// Checks that every id is below `vocab_size`, the rows of the model's embedding.
    ///
    /// # Errors
    /// [`TokenizerError::SpecialOutOfRange`] with the id.
    pub fn check(&self, tokenizer: &Tokenizer, vocab_size: usize) -> Result<(), TokenizerError> {
        let all = self
            .bos
            .iter()
            .map(|id| ("bos_token_id", id))
            .chain(self.end.iter().map(|id| ("eos_token_id", id)))
            .chain(self.target.iter().map(|target| ("decoder_start_token_id", &target.start)))
            .chain(self.target.iter().flat_map(|target| &target.front).map(|id| ("forced_bos_token_id", id)));
        for (key, &id) in all {
            if id as usize >= vocab_size {
                let (path, id) = (tokenizer.path().into(), u64::from(id));
                return Err(TokenizerError::SpecialOutOfRange { path, key, id, vocab_size });
            }
        }
        Ok(())
    }
}

//! What can be wrong with a tokenizer, or with a text for it.

use std::path::PathBuf;

use crate::weights::WeightsError;

/// Why a tokenizer could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file cannot be read, or its GGUF metadata is wrong.
    #[error(transparent)]
    File(#[from] WeightsError),
    /// A tokenizer.json or config that is too large to be one.
    #[error("{path}: {bytes} bytes; no such file is larger than {cap}")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The limit.
        cap: u64,
    },
    /// A folder with another kind of tokenizer.
    #[error(
        "{path}: no such file; the folder has {found}, and SentencePiece models cannot be read: `transformers` can write a tokenizer.json from one (save_pretrained of a fast tokenizer)"
    )]
    SentencePiece {
        /// The file that is missing.
        path: PathBuf,
        /// What is there instead.
        found: &'static str,
    },
    /// A tokenizer.json that the `tokenizers` crate refuses.
    #[error("{path}: not a usable tokenizer: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the crate says.
        reason: String,
    },
    /// A config file that is not the JSON it should be.
    #[error("{path}: malformed JSON: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A GGUF file with a tokenizer of another kind.
    #[error(
        "{path}: tokenizer.ggml.model is \"{model}\"; only \"gpt2\" (byte-level BPE) can be read from a GGUF file (use the model's Hugging Face folder with its tokenizer.json)"
    )]
    UnknownModel {
        /// The file.
        path: PathBuf,
        /// The kind.
        model: String,
    },
    /// A GGUF file that splits text in a way that is not known here.
    #[error("{path}: tokenizer.ggml.pre is \"{name}\"; known are {known}")]
    UnknownPreTokenizer {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// The names that are known.
        known: String,
    },
    /// Two ids with one token.
    #[error("{path}: token {token:?} has the ids {first} and {second}")]
    DuplicateToken {
        /// The file.
        path: PathBuf,
        /// The token.
        token: String,
        /// Lower id.
        first: usize,
        /// Higher id.
        second: usize,
    },
    /// A merge that is not two tokens with a blank between them.
    #[error("{path}: merge {index} is {merge:?}, not two tokens with a blank between")]
    BadMerge {
        /// The file.
        path: PathBuf,
        /// Its place in the list, from 0.
        index: usize,
        /// The merge.
        merge: String,
    },
    /// As many types as tokens are needed.
    #[error("{path}: {tokens} tokens, but {types} token types")]
    TypeCount {
        /// The file.
        path: PathBuf,
        /// Number of tokens.
        tokens: usize,
        /// Number of types.
        types: usize,
    },
    /// A special token that is not in the vocabulary.
    #[error("{path}: {key} is {id}, but the vocabulary has {vocab_size} tokens")]
    SpecialOutOfRange {
        /// The file.
        path: PathBuf,
        /// Which special token.
        key: &'static str,
        /// Its id.
        id: u64,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// A tokenizer that makes tokens of nothing.
    #[error("{path}: encodes none of its own tokens' texts")]
    EncodesNothing {
        /// The file.
        path: PathBuf,
    },
    /// The `tokenizers` crate failed on a text or on ids.
    #[error("{path}: cannot {doing}: {reason}")]
    Failed {
        /// The tokenizer's file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the crate says.
        reason: String,
    },
    /// A template without the place for the prompt, or with several.
    #[error("template {template:?} must contain `{{prompt}}` once, but contains it {times} times")]
    Template {
        /// The template.
        template: String,
        /// How often it names the prompt.
        times: usize,
    },
    /// A bare word as separator is most likely a misspelt setting.
    #[error(
        "separator {word:?} is none of `blank`, `none`, `bos`; if the text itself is meant, write `text:{word}`"
    )]
    Separator {
        /// What was given.
        word: String,
    },
    /// A completion without tokens: nothing to learn or to score.
    #[error("the completion {completion:?} has no tokens")]
    EmptyCompletion {
        /// The completion.
        completion: String,
    },
    /// An encoder would have nothing to read.
    #[error("the input {input:?} has no token for the encoder to read")]
    EmptySource {
        /// The input, in its template.
        input: String,
    },
    /// A decoder has nothing to start from.
    #[error("{path}: the model names no token for the decoder to start with (`decoder_start_token_id`)")]
    NoDecoderStart {
        /// The tokenizer's file.
        path: PathBuf,
    },
    /// A completion cannot be closed, a text cannot be ended.
    #[error("{path}: the model names no end token (`eos_token_id`)")]
    NoEndToken {
        /// The tokenizer's file.
        path: PathBuf,
    },
}

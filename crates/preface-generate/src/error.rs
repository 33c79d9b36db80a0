//! Why nothing was generated.

use preface_model::ModelError;
use thiserror::Error;

use crate::SettingsError;

/// An error of generation. Prompts are numbered from 0 in the fields and from 1 in the messages.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum GenerateError {
    /// A setting that makes no sense.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A setting that works on text, without a tokenizer.
    #[error("`{setting}` needs a tokenizer, and this model has none")]
    NeedsTokenizer {
        /// The setting.
        setting: &'static str,
    },
    /// The tokenizer failed.
    #[error("{reason}")]
    Codec {
        /// What it says.
        reason: String,
    },
    /// A text that gives no token to ban.
    #[error("`bad_words`: the tokenizer makes no token of {text:?}")]
    NothingToBan {
        /// The text.
        text: String,
    },
    /// A token that the model does not have.
    #[error("`{setting}` names token id {token}, but the model's vocabulary has {vocab_size} tokens")]
    UnknownToken {
        /// The setting.
        setting: &'static str,
        /// The token.
        token: u32,
        /// Tokens of the model.
        vocab_size: usize,
    },
    /// A prompt without a token.
    #[error("prompt {}: it has no token to start from", prompt + 1)]
    EmptyPrompt {
        /// Which prompt.
        prompt: usize,
    },
    /// A token of a prompt that the model does not have.
    #[error("prompt {}: token id {token} is outside the model's vocabulary of {vocab_size}", prompt + 1)]
    UnknownPromptToken {
        /// Which prompt.
        prompt: usize,
        /// The token.
        token: u32,
        /// Tokens of the model.
        vocab_size: usize,
    },
    /// A prefix that is not attached.
    #[error("prompt {}: it asks for prefix {segment}, but {n_segment} are attached", prompt + 1)]
    UnknownSegment {
        /// Which prompt.
        prompt: usize,
        /// The prefix asked for.
        segment: usize,
        /// Prefixes there are.
        n_segment: usize,
    },
    /// Something for an encoder, but there is none.
    #[error("prompt {}: a source for the encoder, but this model is decoder-only", .prompt + 1)]
    NoEncoder {
        /// Number of the prompt, from 0.
        prompt: usize,
    },
    /// Nothing for the encoder.
    #[error("prompt {}: the encoder has no token to read", .prompt + 1)]
    EmptySource {
        /// Number of the prompt, from 0.
        prompt: usize,
    },
    /// More tokens than the encoder has positions.
    #[error("prompt {}: {source_len} tokens need more than the encoder's {max_positions} positions", .prompt + 1)]
    SourceTooLong {
        /// Number of the prompt, from 0.
        prompt: usize,
        /// Tokens of the source.
        source_len: usize,
        /// Positions of the model.
        max_positions: usize,
    },
    /// A prompt that leaves too little room.
    #[error(
        "prompt {}: {prefix_len} prefix rows, {prompt_len} tokens and `max_new_tokens` = {max_new_tokens} need more than the model's {max_positions} positions",
        prompt + 1
    )]
    TooLong {
        /// Which prompt.
        prompt: usize,
        /// Positions that the prefix takes.
        prefix_len: usize,
        /// Tokens of the prompt.
        prompt_len: usize,
        /// The setting.
        max_new_tokens: usize,
        /// Positions of the model.
        max_positions: usize,
    },
    /// The rules exclude every token.
    #[error("prompt {}: after {n_generated} tokens the settings exclude every token of the vocabulary", prompt + 1)]
    NoTokenLeft {
        /// Which prompt.
        prompt: usize,
        /// Tokens generated until then.
        n_generated: usize,
    },
    /// The model computed something else than numbers.
    #[error("prompt {}: after {n_generated} tokens the model's logits are not finite", prompt + 1)]
    NotFinite {
        /// Which prompt.
        prompt: usize,
        /// Tokens generated until then.
        n_generated: usize,
    },
    /// The observer wanted it so.
    #[error("stopped after {n_finished} of {n_prompt} prompts")]
    Stopped {
        /// Prompts that were finished.
        n_finished: usize,
        /// Prompts asked for.
        n_prompt: usize,
    },
    /// An error of the model.
    #[error(transparent)]
    Model(#[from] ModelError),
}

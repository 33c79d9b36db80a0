//! From text to tokens; the rules of decoder-only models (those of encoder-decoders stand in `seq2seq.rs`).
//!
//! ```text
//! encode(prompt, with the special tokens in front) ++ encode(separator ++ completion) ++ [end]
//! ```
//!
//! The two sides are encoded apart, so the prompt has the same ids in training, where the completion follows, and in
//! generation, where nothing does. A blank or a text between them belongs to the completion: it carries loss, and in
//! generation the model writes it. The BOS separator belongs to the prompt: it carries none, and generation puts it.

use crate::tokenizer::{Separator, Special, SpecialTokens, TextFormat, Tokenizer, TokenizerError};

/// What a model is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    /// Ids that the encoder reads; empty where the model has none.
    pub source: Vec<u32>,
    /// Ids that the decoder continues; in an encoder-decoder its start token.
    pub prompt: Vec<u32>,
}

/// One training or evaluation sequence: `prompt ++ completion`, with loss on every token of the completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Ids that the encoder reads; empty where the model has none.
    pub source: Vec<u32>,
    /// Ids that the decoder is given.
    pub prompt: Vec<u32>,
    /// Ids that it is to write: separator, text, end token. Never empty.
    pub completion: Vec<u32>,
}

impl TextFormat {
    /// A format that takes the prompt as it stands, for artefacts that say nothing about theirs.
    pub fn raw() -> Self {
        Self { separator: Separator::None, template: None }
    }

    /// The ids before the completion, which is where generation begins.
    ///
    /// # Errors
    /// If the `tokenizers` crate fails, or the separator is BOS and the model has neither BOS nor end token;
    /// [`TokenizerError::EmptySource`] if an encoder would have nothing to read.
    pub fn encode_input(
        &self,
        tokenizer: &Tokenizer,
        special: &SpecialTokens,
        prompt: &str,
    ) -> Result<Input, TokenizerError> {
        let filled = self.template.as_ref().map(|template| template.fill(prompt));
        let text = filled.as_deref().unwrap_or(prompt);
        if let Some(target) = &special.target {
            let ids = tokenizer.encode(text, Special::Without)?;
            if ids.is_empty() {
                return Err(TokenizerError::EmptySource { input: text.into() });
            }
            let source = [tokenizer.front(), &ids, tokenizer.back()].concat();
            return Ok(Input { source, prompt: vec![target.start] });
        }
        let mut ids = tokenizer.encode_prompt(text)?;
        if self.separator == Separator::Bos {
            ids.push(special.bos.map_or_else(|| special.trained_end(tokenizer), Ok)?);
        }
        Ok(Input { source: Vec::new(), prompt: ids })
    }

    /// A prompt and its completion.
    ///
    /// # Errors
    /// As [`TextFormat::encode_input`]; [`TokenizerError::EmptyCompletion`] if the completion itself has no tokens;
    /// [`TokenizerError::NoEndToken`] if the model names none.
    pub fn encode_pair(
        &self,
        tokenizer: &Tokenizer,
        special: &SpecialTokens,
        prompt: &str,
        completion: &str,
    ) -> Result<Pair, TokenizerError> {
        // Nothing is separated from nothing: a document without a prompt begins as it stands.
        let is_separated = !prompt.is_empty() && special.target.is_none();
        let separator = if is_separated { self.separator_before(tokenizer, completion) } else { "" };
        let Input { source, prompt } = self.encode_input(tokenizer, special, prompt)?;
        let separated = format!("{separator}{completion}");
        let mut ids = tokenizer.encode(&separated, Special::Without)?;
        // A separator must not pass for a completion. White space may vanish in a normaliser, so it is tried alone.
        let alone_is_empty = || -> Result<bool, TokenizerError> {
            Ok(completion.trim().is_empty() && tokenizer.encode(completion, Special::Without)?.is_empty())
        };
        if ids.is_empty() || alone_is_empty()? {
            return Err(TokenizerError::EmptyCompletion { completion: completion.into() });
        }
        let completion = match &special.target {
            Some(target) => target.labels(&ids),
            None => {
                ids.push(special.trained_end(tokenizer)?);
                ids
            }
        };
        Ok(Pair { source, prompt, completion })
    }

    /// The text that goes before a completion.
    fn separator_before(&self, tokenizer: &Tokenizer, completion: &str) -> &str {
        match &self.separator {
            Separator::Blank if completion.starts_with(char::is_whitespace) => "",
            Separator::Blank if tokenizer.puts_blank_before_text() => "",
            Separator::Blank => " ",
            Separator::Text(text) => text,
            Separator::None | Separator::Bos => "",
        }
    }

    /// A generated text without the separator that the model wrote before it.
    pub fn strip_separator<'a>(&self, generated: &'a str) -> &'a str {
        let separator = match &self.separator {
            Separator::Blank => " ",
            Separator::Text(text) => text,
            Separator::None | Separator::Bos => "",
        };
        generated.strip_prefix(separator).unwrap_or(generated)
    }
}

#[cfg(test)]
mod tests;

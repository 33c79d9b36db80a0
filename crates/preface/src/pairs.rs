//! From examples to token ids, with every length checked before a model is loaded.
//!
//! In an encoder-decoder the two sides have positions of their own: the encoder's text is cut by `max_source_tokens`, the
//! decoder's by `max_length`.

use std::fmt;
use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use preface_data::{Dataset, Example};
use preface_model::tokenizer::{Input, Pair, Separator, SpecialTokens, TextFormat, Tokenizer};
use preface_train::TokenPair;
use serde::Serialize;

use crate::config::sections::Data;
use crate::engine::Source;
use crate::ui;

/// How texts become ids, and how long they may be.
pub struct Encoder<'a> {
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Its special tokens.
    pub special: &'a SpecialTokens,
    /// Template and separator.
    pub format: &'a TextFormat,
    /// Positions of the model.
    pub max_positions: usize,
    /// Positions that trained rows take.
    pub taken: Taken,
    /// Longer sequences are cut to so many tokens; without it they are an error.
    pub max_length: Option<usize>,
    /// What an encoder reads is cut to so many tokens; without it a longer text is an error.
    pub max_source_tokens: Option<usize>,
}

/// Positions that trained rows take of each stack's, beside what it reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Of the encoder's.
    pub encoder: usize,
    /// Of the decoder's, which is the whole of a decoder-only model.
    pub decoder: usize,
}

/// The pairs of a data set.
#[derive(Debug, Default)]
pub struct TokenPairs {
    /// One for each reference, in the data's order.
    pub pairs: Vec<TokenPair>,
    /// Pairs that were cut.
    pub n_truncated: usize,
    /// Inputs of an encoder that were cut, each once however many references it has.
    pub sources_cut: usize,
}

/// Inputs to be answered.
#[derive(Debug, Default)]
pub struct Prompts {
    /// In the order of the prompts.
    pub inputs: Vec<Input>,
    /// Inputs of an encoder that were cut.
    pub sources_cut: usize,
}

/// How much data there is.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PairCounts {
    /// Pairs of an input and an output.
    pub pairs: usize,
    /// Tokens of both sides.
    pub tokens: usize,
    /// Pairs that were cut.
    pub truncated: usize,
    /// Inputs of an encoder that were cut.
    pub sources_truncated: usize,
    /// Tokens of the longest pair.
    pub longest: usize,
}

impl TokenPairs {
    /// How much data there is.
    pub fn counts(&self) -> PairCounts {
        let lengths = || self.pairs.iter().map(TokenPair::n_token);
        PairCounts {
            pairs: self.pairs.len(),
            tokens: lengths().sum(),
            truncated: self.n_truncated,
            sources_truncated: self.sources_cut,
            longest: lengths().max().unwrap_or(0),
        }
    }
}

/// In words.
impl fmt::Display for PairCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pairs, {} tokens, ", ui::count(self.pairs), ui::count(self.tokens))?;
        match self.truncated {
            0 => f.write_str("none truncated")?,
            n => write!(f, "{} truncated", ui::count(n))?,
        }
        match self.sources_truncated {
            0 => Ok(()),
            n => write!(f, ", {} inputs cut by max_source_tokens", ui::count(n)),
        }
    }
}

impl<'a> Encoder<'a> {
    /// For a model whose positions trained rows have `taken`, with the limits that `data` sets.
    pub fn new(source: &'a Source, format: &'a TextFormat, taken: Taken, data: &Data) -> Self {
        Self {
            tokenizer: &source.tokenizer,
            special: &source.special,
            format,
            max_positions: source.files.spec().max_positions,
            taken,
            max_length: data.max_length,
            max_source_tokens: data.max_source_tokens,
        }
    }

    /// All pairs of a data set.
    ///
    /// # Errors
    /// A side without tokens, or a sequence longer than the model's positions: each names file and line.
    pub fn pairs(&self, data: &Dataset) -> Result<TokenPairs> {
        let mut encoded = TokenPairs::default();
        let mut last_cut = None;
        for pair in data.pairs() {
            let at = || place(&data.path, pair.line);
            let ids = self
                .format
                .encode_pair(self.tokenizer, self.special, pair.prompt, pair.completion)
                .map_err(|error| anyhow!("{}: {error}", at()))?;
            let Pair { mut source, mut prompt, mut completion } = ids;
            if self.cut_source(&mut source, &at)? && last_cut.replace(pair.example) != Some(pair.example) {
                encoded.sources_cut += 1;
            }
            let n_token = prompt.len() + completion.len();
            if let Some(max_length) = self.max_length.filter(|max_length| *max_length < n_token) {
                self.shorten(&mut prompt, max_length.saturating_sub(completion.len()));
                completion.truncate(max_length.saturating_sub(prompt.len()).max(1));
                encoded.n_truncated += 1;
            }
            if prompt.len() + completion.len() < 2 {
                return Err(anyhow!(
                    "{}: the pair has {} token, but at least 2 are needed: one to start from and one to predict",
                    at(),
                    prompt.len() + completion.len()
                ));
            }
            // The last token is only predicted, so it needs no position.
            self.check(prompt.len() + completion.len() - 1, &at)?;
            encoded.pairs.push(TokenPair { source, prompt, completion, line: pair.line });
        }
        Ok(encoded)
    }

    /// The ids of the prompts to be answered with at most `max_new_tokens`.
    ///
    /// # Errors
    /// A prompt without tokens, or one that leaves too few positions: each names its place.
    pub fn prompts<'e>(
        &self,
        prompts: impl Iterator<Item = (&'e str, String)>,
        max_new_tokens: usize,
    ) -> Result<Prompts> {
        let mut encoded = Prompts::default();
        for (prompt, place) in prompts {
            let Input { mut source, mut prompt } = self
                .format
                .encode_input(self.tokenizer, self.special, prompt)
                .map_err(|error| anyhow!("{place}: {error}"))?;
            encoded.sources_cut += usize::from(self.cut_source(&mut source, &|| place.clone())?);
            if let Some(max_length) = self.max_length {
                self.shorten(&mut prompt, max_length.saturating_sub(max_new_tokens).max(1));
            }
            if prompt.is_empty() {
                return Err(anyhow!("{place}: the prompt has no token to start from"));
            }
            self.check(prompt.len() + max_new_tokens - 1, &|| {
                format!("{place}, with {max_new_tokens} tokens for the answer (max_new_tokens)")
            })?;
            encoded.inputs.push(Input { source, prompt });
        }
        Ok(encoded)
    }

    /// Cuts what an encoder reads at the end of its text; what the tokenizer puts behind stays. Tells whether it did.
    fn cut_source(&self, source: &mut Vec<u32>, at: &dyn Fn() -> String) -> Result<bool> {
        let cut = self.max_source_tokens.filter(|most| *most < source.len());
        if let Some(most) = cut {
            let (n_front, back) = (self.tokenizer.front().len(), self.tokenizer.back());
            let room = most.saturating_sub(back.len());
            ensure!(
                room > n_front,
                "`max_source_tokens` is {most}, but the tokenizer alone puts {} tokens around a text",
                n_front + back.len()
            );
            source.truncate(room);
            source.extend_from_slice(back);
        }
        let (n_token, n_row, max_positions) = (source.len(), self.taken.encoder, self.max_positions);
        let room = max_positions.saturating_sub(n_row);
        let beside = if n_row > 0 { format!(" and {n_row} trained rows beside them") } else { String::new() };
        ensure!(
            n_token <= room,
            "{}: the input has {n_token} tokens{beside}, more than the encoder's {max_positions} positions; \
             max_source_tokens = {room} would truncate",
            at(),
        );
        Ok(cut.is_some())
    }

    /// Cuts a prompt at its end; what the tokenizer or the separator puts there stays, and so does the token that a decoder
    /// starts from.
    fn shorten(&self, prompt: &mut Vec<u32>, room: usize) {
        if prompt.len() <= room || self.special.target.is_some() {
            return;
        }
        let separator = match self.format.separator {
            Separator::Bos => prompt.pop(),
            _ => None,
        };
        prompt.truncate(room.saturating_sub(usize::from(separator.is_some())));
        prompt.extend(separator);
    }

    fn check(&self, n_row: usize, at: &dyn Fn() -> String) -> Result<()> {
        let (max_positions, prefix_len) = (self.max_positions, self.taken.decoder);
        if prefix_len + n_row <= max_positions {
            return Ok(());
        }
        let behind =
            if prefix_len > 0 { format!(" behind a prefix of {prefix_len} rows") } else { String::new() };
        Err(anyhow!(
            "{}: {n_row} tokens{behind} need more than the model's {max_positions} positions; \
             max_length = {} would truncate",
            at(),
            max_positions - prefix_len.min(max_positions)
        ))
    }
}

/// `FILE, line N`
pub fn place(path: &Path, line: usize) -> String {
    format!("{}, line {line}", path.display())
}

/// The prompts of examples with their places.
pub fn prompts_of<'e>(path: &'e Path, examples: &'e [Example]) -> impl Iterator<Item = (&'e str, String)> {
    examples.iter().map(move |example| (example.prompt.as_str(), place(path, example.line)))
}

//! From text to tokens, for encoder-decoders.
//!
//! ```text
//! encoder:  encode(prompt, with special tokens)
//! labels:   encode(completion, with special tokens), and [end] where the tokenizer appends none      loss on every label
//! decoder:  [decoder start] ++ labels without the last
//! ```
//!
//! BART's tokenizer writes `<s> y </s>`, T5's `y </s>`; one without a post-processor writes `y`. There is no separator:
//! the two sides never stand in one text.

use crate::tokenizer::{SpecialTokens, TextFormat, Tokenizer, TokenizerError};

/// One training or evaluation sequence of an encoder-decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seq2SeqPair {
    /// What the encoder reads. Never empty.
    pub source: Vec<u32>,
    /// What the decoder is given: its start token.
    pub start: Vec<u32>,
    /// What it is to write. Never empty.
    pub labels: Vec<u32>,
}

impl TextFormat {
    /// What the encoder reads of a prompt.
    ///
    /// # Errors
    /// If the `tokenizers` crate fails; [`TokenizerError::EmptySource`] if nothing is left to read.
    pub fn encode_source(&self, tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<u32>, TokenizerError> {
        let ids = match &self.template {
            Some(template) => tokenizer.encode_with_special(&template.fill(prompt))?,
            None => tokenizer.encode_with_special(prompt)?,
        };
        if ids.is_empty() {
            return Err(TokenizerError::EmptySource { prompt: prompt.into() });
        }
        Ok(ids)
    }

    /// A prompt and its completion.
    ///
    /// # Errors
    /// As [`TextFormat::encode_source`]; [`TokenizerError::EmptyCompletion`] if the completion itself has no tokens;
    /// [`TokenizerError::NoDecoderStart`] or [`TokenizerError::NoEndToken`] if the model names none.
    pub fn encode_seq2seq(
        &self,
        tokenizer: &Tokenizer,
        special: &SpecialTokens,
        prompt: &str,
        completion: &str,
    ) -> Result<Seq2SeqPair, TokenizerError> {
        let source = self.encode_source(tokenizer, prompt)?;
        let mut labels = tokenizer.encode_with_special(completion)?;
        if labels.len() == tokenizer.n_special_around() {
            return Err(TokenizerError::EmptyCompletion { completion: completion.into() });
        }
        if !tokenizer.appended().iter().any(|id| special.end.contains(id)) {
            labels.push(special.trained_end(tokenizer)?);
        }
        Ok(Seq2SeqPair { source, start: vec![special.decoder_start(tokenizer)?], labels })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    /// Words of one letter each, with what a post-processor puts around a text.
    fn tokenizer(post_processor: serde_json::Value) -> Tokenizer {
        let json = json!({
            "version": "1.0",
            "added_tokens": [],
            "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": false},
            "post_processor": post_processor,
            "model": {"type": "WordLevel", "vocab": {"<s>": 0, "<pad>": 1, "</s>": 2, "a": 3, "b": 4, "<unk>": 5}, "unk_token": "<unk>"},
        });
        Tokenizer::from_json(Path::new("test"), json.to_string().as_bytes()).unwrap()
    }

    fn bart() -> Tokenizer {
        let around = json!({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": true, "add_prefix_space": false});
        tokenizer(around)
    }

    fn t5() -> Tokenizer {
        let piece = |text: &str| json!({"Sequence": {"id": text, "type_id": 0}});
        let end = json!({"SpecialToken": {"id": "</s>", "type_id": 0}});
        tokenizer(json!({
            "type": "TemplateProcessing",
            "single": [piece("A"), end],
            "pair": [piece("A"), piece("B")],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}},
        }))
    }

    fn special() -> SpecialTokens {
        SpecialTokens { end: vec![2], decoder_start: Some(1), ..SpecialTokens::default() }
    }

    #[test]
    fn each_tokenizer_puts_its_own_tokens_around_source_and_target() {
        let format = TextFormat::raw();
        let pair = |source: &[u32], labels: &[u32]| Seq2SeqPair {
            source: source.into(),
            start: vec![1],
            labels: labels.into(),
        };
        for (tokenizer, want) in [
            (bart(), pair(&[0, 3, 2], &[0, 4, 3, 2])),
            (t5(), pair(&[3, 2], &[4, 3, 2])),
            (tokenizer(json!(null)), pair(&[3], &[4, 3, 2])),
        ] {
            assert_eq!(format.encode_seq2seq(&tokenizer, &special(), "a", "ba").unwrap(), want);
        }
    }

    #[test]
    fn the_template_is_the_sources_and_the_start_falls_back_to_bos() {
        let format = TextFormat { template: Some("b{prompt}".parse().unwrap()), ..TextFormat::raw() };
        let special = SpecialTokens { bos: Some(0), end: vec![2], decoder_start: None };
        let pair = format.encode_seq2seq(&t5(), &special, "a", "a").unwrap();
        assert_eq!((pair.source.as_slice(), pair.start.as_slice()), (&[4, 3, 2][..], &[0][..]));
    }

    #[test]
    fn nothing_to_read_nothing_to_write_and_no_start_are_errors() {
        let format = TextFormat::raw();
        let error = |tokenizer: &Tokenizer, special: &SpecialTokens, prompt, completion| {
            format.encode_seq2seq(tokenizer, special, prompt, completion).unwrap_err()
        };
        let bare = tokenizer(json!(null));
        assert!(matches!(error(&bare, &special(), "", "a"), TokenizerError::EmptySource { .. }));
        assert!(matches!(error(&bart(), &special(), "a", ""), TokenizerError::EmptyCompletion { .. }));
        let no_start = SpecialTokens { decoder_start: None, ..special() };
        let message = error(&t5(), &no_start, "a", "a").to_string();
        assert!(message.contains("decoder_start_token_id"), "{message}");
        let no_end = SpecialTokens { end: vec![], ..special() };
        assert!(matches!(error(&bare, &no_end, "a", "a"), TokenizerError::NoEndToken { .. }));
        // The tokenizer's own start is something to read.
        assert_eq!(format.encode_source(&t5(), "").unwrap(), [2]);
    }
}

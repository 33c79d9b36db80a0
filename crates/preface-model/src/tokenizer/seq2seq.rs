//! From text to tokens, for encoder-decoders.
//!
//! ```text
//! the encoder reads   encode(x), with everything that the tokenizer puts around a text
//! labels              front ++ encode(y) ++ back, all with loss
//! the decoder reads   start ++ labels without the last
//! ```
//!
//! | | x | labels | start |
//! |---|---|---|---|
//! | BART | `<s> x </s>` | `<s> y </s>` | `</s>` |
//! | Pegasus, T5 | `x </s>` | `y </s>` | padding |
//! | Marian | `x </s>` | `y </s>` | padding |
//! | mBART (cc25) | `x </s> en_XX` | `y </s> ro_RO` | `ro_RO` |
//! | mBART-50 | `en_XX x </s>` | `fr_XX y </s>` | `</s>` |
//!
//! What stands around a text is the tokenizer's own (its post-processor), around a target too, but for mBART's language:
//! the file knows one, the source's. The target's is `forced_bos_token_id` where languages stand in front and
//! `decoder_start_token_id` where they stand behind the end token, which is where `transformers` has them from. A target
//! always ends with an end token, the tokenizer adding one or not.
//!
//! One `tokenizer.json` serves both sides: Marian's two SentencePiece models are read only from one that joins them.

use std::path::Path;

use serde::Deserialize;

use crate::tokenizer::{SpecialTokens, Tokenizer, TokenizerError, read_small_file};

/// What stands around the text that a decoder writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetTokens {
    /// What the decoder begins to read with (`decoder_start_token_id`).
    pub start: u32,
    /// Ahead of a target's text.
    pub front: Vec<u32>,
    /// Behind it; holds an end token.
    pub back: Vec<u32>,
}

/// What `config.json` and `generation_config.json` say of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct TargetConfig {
    /// Decoding starts with it.
    pub decoder_start_token_id: Option<u32>,
    /// Every target starts with it.
    pub forced_bos_token_id: Option<u32>,
}

impl TargetConfig {
    /// Reads a Hugging Face folder: for each token `generation_config.json` if it names one, else `config.json`.
    ///
    /// # Errors
    /// If a file cannot be read or is malformed. An absent file names nothing.
    pub fn from_folder(folder: &Path) -> Result<Self, TokenizerError> {
        let mut config = Self::default();
        for name in ["generation_config.json", "config.json"] {
            let path = folder.join(name);
            if path.exists() {
                let found: Self = serde_json::from_slice(&read_small_file(&path)?)
                    .map_err(|source| TokenizerError::Json { path, source })?;
                config.decoder_start_token_id =
                    config.decoder_start_token_id.or(found.decoder_start_token_id);
                config.forced_bos_token_id = config.forced_bos_token_id.or(found.forced_bos_token_id);
            }
        }
        Ok(config)
    }
}

impl TargetTokens {
    /// The targets of a model with this tokenizer and these ends.
    ///
    /// # Errors
    /// [`TokenizerError::NoDecoderStart`] and [`TokenizerError::NoEndToken`] if the model names none.
    pub fn new(
        tokenizer: &Tokenizer,
        special: &SpecialTokens,
        config: TargetConfig,
    ) -> Result<Self, TokenizerError> {
        let TargetConfig { decoder_start_token_id, forced_bos_token_id } = config;
        let (mut front, mut back) = (tokenizer.front().to_vec(), tokenizer.back().to_vec());
        let end = back.iter().position(|id| special.end.contains(id));
        let language = end.filter(|end| end + 2 == back.len()).map(|end| end + 1);
        let start = decoder_start_token_id.or_else(|| language.map(|at| back[at])).or(special.bos);
        let start = start.ok_or_else(|| TokenizerError::NoDecoderStart { path: tokenizer.path().into() })?;
        if let Some(at) = language {
            back[at] = start;
        }
        if let ([first], Some(forced)) = (front.as_mut_slice(), forced_bos_token_id) {
            *first = forced;
        }
        if end.is_none() {
            back.push(special.trained_end(tokenizer)?);
        }
        Ok(Self { start, front, back })
    }

    /// The labels of a target that has these ids of its own.
    pub fn labels(&self, text: &[u32]) -> Vec<u32> {
        [&self.front, text, &self.back].concat()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tokenizer::{Pair, TextFormat};

    const WORDS: [&str; 10] = ["<s>", "<pad>", "</s>", "<unk>", "en_XX", "ro_RO", "one", "two", "unu", "doi"];

    /// A tokenizer of words that puts these tokens around a text.
    fn tokenizer(front: &[u32], back: &[u32]) -> Tokenizer {
        let special = |id: &u32| json!({"SpecialToken": {"id": WORDS[*id as usize], "type_id": 0}});
        let text = json!({"Sequence": {"id": "A", "type_id": 0}});
        let single: Vec<Value> =
            front.iter().map(special).chain([text]).chain(back.iter().map(special)).collect();
        let named = |id: &u32| {
            let word = WORDS[*id as usize];
            (word.to_owned(), json!({"id": word, "ids": [id], "tokens": [word]}))
        };
        let specials: serde_json::Map<String, Value> = front.iter().chain(back).map(named).collect();
        let vocabulary: serde_json::Map<String, Value> =
            WORDS.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
        let added: Vec<Value> = (0..6)
            .map(|id| {
                json!({"id": id, "content": WORDS[id], "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true})
            })
            .collect();
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "decoder": null,
            "added_tokens": added, "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": specials},
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
        });
        Tokenizer::from_json("x".as_ref(), json.to_string().as_bytes()).unwrap()
    }

    /// The pair (one two, unu doi) of a model whose config has this decoder start and forced first token.
    fn pair(front: &[u32], back: &[u32], start: Option<u32>, forced: Option<u32>) -> Pair {
        let tokenizer = tokenizer(front, back);
        let config = TargetConfig { decoder_start_token_id: start, forced_bos_token_id: forced };
        let mut special = SpecialTokens { end: vec![2], ..SpecialTokens::default() };
        special.target = Some(TargetTokens::new(&tokenizer, &special, config).unwrap());
        TextFormat::raw().encode_pair(&tokenizer, &special, "one two", "unu doi").unwrap()
    }

    #[track_caller]
    fn check(got: Pair, source: &[u32], start: u32, labels: &[u32]) {
        assert_eq!(got, Pair { source: source.into(), prompt: vec![start], completion: labels.into() });
    }

    #[test]
    fn texts_stand_between_the_tokens_of_their_family() {
        let bart = pair(&[0], &[2], Some(2), Some(0));
        check(bart, &[0, 6, 7, 2], 2, &[0, 8, 9, 2]);
        let t5 = pair(&[], &[2], Some(1), None);
        check(t5, &[6, 7, 2], 1, &[8, 9, 2]);
        let cc25 = pair(&[], &[2, 4], Some(5), None);
        check(cc25, &[6, 7, 2, 4], 5, &[8, 9, 2, 5]);
        let mbart_50 = pair(&[4], &[2], Some(2), Some(5));
        check(mbart_50, &[4, 6, 7, 2], 2, &[5, 8, 9, 2]);
    }

    #[test]
    fn a_target_ends_even_where_the_tokenizer_adds_nothing() {
        check(pair(&[], &[], Some(1), None), &[6, 7], 1, &[8, 9, 2]);
    }

    #[test]
    fn without_a_start_of_its_own_a_model_starts_as_transformers_does() {
        // Its training moves the language from the end to the front.
        check(pair(&[], &[2, 4], None, None), &[6, 7, 2, 4], 4, &[8, 9, 2, 4]);
        let tokenizer = tokenizer(&[0], &[2]);
        let with_bos = SpecialTokens { bos: Some(0), end: vec![2], target: None };
        let start = |special: &SpecialTokens| TargetTokens::new(&tokenizer, special, TargetConfig::default());
        assert_eq!(start(&with_bos).unwrap().start, 0);
        let error = start(&SpecialTokens { bos: None, ..with_bos }).unwrap_err();
        assert!(error.to_string().contains("decoder_start_token_id"), "{error}");
    }

    #[test]
    fn a_template_stands_around_the_source_and_a_separator_nowhere() {
        let tokenizer = tokenizer(&[], &[2]);
        let mut special = SpecialTokens { end: vec![2], ..SpecialTokens::default() };
        let config = TargetConfig { decoder_start_token_id: Some(1), ..TargetConfig::default() };
        special.target = Some(TargetTokens::new(&tokenizer, &special, config).unwrap());
        let format = TextFormat { template: Some("two {prompt}".parse().unwrap()), ..TextFormat::default() };
        let got = format.encode_pair(&tokenizer, &special, "one", "unu").unwrap();
        check(got, &[7, 6, 2], 1, &[8, 2]);
        for (source, target) in [("", "unu"), ("one", ""), ("one", "  ")] {
            let error = TextFormat::raw().encode_pair(&tokenizer, &special, source, target).unwrap_err();
            let is_right = match error {
                TokenizerError::EmptySource { .. } => source.is_empty(),
                TokenizerError::EmptyCompletion { .. } => !source.is_empty(),
                _ => false,
            };
            assert!(is_right, "{source:?} {target:?}");
        }
    }
}

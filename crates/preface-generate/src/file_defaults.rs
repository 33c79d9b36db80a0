//! What a model's own files say of generation: `generation_config.json`, else the same keys of `config.json`.
//!
//! Encoder-decoders are published with the search that they were made for: beams, lengths, forced tokens. It applies where
//! the user says nothing. Sampling never does: an answer is drawn at random only for who asks for it. `max_length` and
//! `min_length` count the decoder's start token, which is no new one.

use serde_json::Value;
use thiserror::Error;

/// Defaults under the names of [`crate::GenerationSettings`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileDefaults {
    /// The file's name.
    pub file: String,
    /// One for each setting that the file names.
    pub values: Vec<FileDefault>,
    /// What the file asks for and we cannot do, as `key = value`.
    pub unknown: Vec<String>,
}

/// A setting as a file has it.
#[derive(Clone, Debug, PartialEq)]
pub struct FileDefault {
    /// Its name.
    pub setting: &'static str,
    /// Its value.
    pub value: Value,
    /// The file's key.
    pub key: &'static str,
}

/// A value that a key cannot have.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("`{key}` is {got}, expected {expected}")]
pub struct FileDefaultError {
    /// The key.
    pub key: &'static str,
    /// Its value.
    pub got: String,
    /// What would do.
    pub expected: &'static str,
}

/// What a value must be.
#[derive(Clone, Copy)]
enum Kind {
    Count,
    Number,
    Switch,
    EarlyStopping,
    Token,
    TokenLists,
    /// A count that includes the decoder's start token.
    Length,
}

/// Keys, what they set, and what they must be. Of two keys for one setting the first wins.
const KEYS: [(&str, &str, Kind); 13] = [
    ("num_beams", "num_beams", Kind::Count),
    ("max_new_tokens", "max_new_tokens", Kind::Count),
    ("max_length", "max_new_tokens", Kind::Length),
    ("min_new_tokens", "min_new_tokens", Kind::Count),
    ("min_length", "min_new_tokens", Kind::Length),
    ("length_penalty", "length_penalty", Kind::Number),
    ("no_repeat_ngram_size", "no_repeat_ngram_size", Kind::Count),
    ("repetition_penalty", "repetition_penalty", Kind::Number),
    ("early_stopping", "early_stopping", Kind::EarlyStopping),
    ("bad_words_ids", "bad_words_ids", Kind::TokenLists),
    ("forced_bos_token_id", "forced_bos_token_id", Kind::Token),
    ("forced_eos_token_id", "forced_eos_token_id", Kind::Token),
    ("renormalize_logits", "renormalize_logits", Kind::Switch),
];

/// Keys of rules that we do not have, with the values that switch them off.
const UNKNOWN: [(&str, f64); 8] = [
    ("diversity_penalty", 0.0),
    ("num_beam_groups", 1.0),
    ("encoder_no_repeat_ngram_size", 0.0),
    ("encoder_repetition_penalty", 1.0),
    ("penalty_alpha", 0.0),
    ("suppress_tokens", 0.0),
    ("begin_suppress_tokens", 0.0),
    ("exponential_decay_length_penalty", 0.0),
];

impl FileDefaults {
    /// Takes the contents of the file called `file`; null says nothing.
    ///
    /// # Errors
    /// A value that its key cannot have.
    pub fn read(file: &str, json: &Value) -> Result<Self, FileDefaultError> {
        let mut values: Vec<FileDefault> = Vec::new();
        for (key, setting, kind) in KEYS {
            let value = &json[key];
            let is_taken = values.iter().any(|default| default.setting == setting);
            if value.is_null() || is_taken {
                continue;
            }
            let value = kind.check(value).ok_or_else(|| FileDefaultError {
                key,
                got: value.to_string(),
                expected: kind.expected(),
            })?;
            values.push(FileDefault { setting, value, key });
        }
        let is_on = |value: &Value, neutral: f64| match value {
            Value::Null => false,
            Value::Array(tokens) => !tokens.is_empty(),
            other => other.as_f64() != Some(neutral),
        };
        let unknown = UNKNOWN
            .iter()
            .filter(|(key, neutral)| is_on(&json[*key], *neutral))
            .map(|(key, _)| format!("{key} = {}", json[*key]));
        Ok(Self { file: file.into(), values, unknown: unknown.collect() })
    }
}

impl Kind {
    /// The value as the setting has it, if it can be one.
    fn check(self, value: &Value) -> Option<Value> {
        let is_token = |value: &Value| value.as_u64().is_some_and(|id| u32::try_from(id).is_ok());
        let is_valid = match self {
            Self::Count => value.as_u64().is_some(),
            Self::Number => value.as_f64().is_some(),
            Self::Switch => value.is_boolean(),
            Self::EarlyStopping => value.is_boolean() || value == "never",
            Self::Token => is_token(value),
            Self::TokenLists => value.as_array().is_some_and(|lists| {
                lists.iter().all(|list| list.as_array().is_some_and(|ids| ids.iter().all(is_token)))
            }),
            Self::Length => return value.as_u64().map(|length| length.saturating_sub(1).into()),
        };
        is_valid.then(|| match self {
            // A whole number is one too.
            Self::Number => value.as_f64().into(),
            _ => value.clone(),
        })
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Count | Self::Length => "a whole number, at least 0",
            Self::Number => "a number",
            Self::Switch => "true or false",
            Self::EarlyStopping => "true, false or \"never\"",
            Self::Token => "a token's id",
            Self::TokenLists => "lists of token ids",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_published_config_becomes_our_settings_without_its_sampling() {
        // Of facebook/bart-large-cnn, with keys of sampling beside them.
        let json = json!({
            "bos_token_id": 0, "decoder_start_token_id": 2, "early_stopping": true, "eos_token_id": 2,
            "forced_bos_token_id": 0, "forced_eos_token_id": 2, "length_penalty": 2.0, "max_length": 142,
            "min_length": 56, "no_repeat_ngram_size": 3, "num_beams": 4, "pad_token_id": 1,
            "do_sample": true, "temperature": 0.5, "top_k": 10, "top_p": null,
        });
        let defaults = FileDefaults::read("generation_config.json", &json).unwrap();
        let values: serde_json::Map<String, Value> =
            defaults.values.iter().map(|d| (d.setting.to_owned(), d.value.clone())).collect();
        let expected = json!({
            "num_beams": 4, "max_new_tokens": 141, "min_new_tokens": 55, "length_penalty": 2.0,
            "no_repeat_ngram_size": 3, "early_stopping": true, "forced_bos_token_id": 0, "forced_eos_token_id": 2,
        });
        assert_eq!(Value::Object(values), expected);
        assert!(defaults.unknown.is_empty());
    }

    #[test]
    fn new_tokens_go_before_lengths_and_null_says_nothing() {
        let read = |json: &Value| FileDefaults::read("x", json).unwrap();
        let both = read(&json!({"max_length": 20, "max_new_tokens": 30, "min_length": 0}));
        let values: Vec<(&str, &Value, &str)> =
            both.values.iter().map(|d| (d.setting, &d.value, d.key)).collect();
        let expected =
            [("max_new_tokens", &json!(30), "max_new_tokens"), ("min_new_tokens", &json!(0), "min_length")];
        assert_eq!(values, expected);
        assert!(read(&json!({"num_beams": null})).values.is_empty());
    }

    #[test]
    fn what_we_cannot_do_is_named_unless_it_is_off() {
        let off = json!({"num_beam_groups": 1, "diversity_penalty": 0.0, "suppress_tokens": []});
        assert!(FileDefaults::read("x", &off).unwrap().unknown.is_empty());
        let on = json!({"num_beam_groups": 2, "suppress_tokens": [5]});
        assert_eq!(
            FileDefaults::read("x", &on).unwrap().unknown,
            ["num_beam_groups = 2", "suppress_tokens = [5]"]
        );
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_named() {
        for (json, key) in [
            (json!({"num_beams": -1}), "num_beams"),
            (json!({"num_beams": "four"}), "num_beams"),
            (json!({"length_penalty": true}), "length_penalty"),
            (json!({"early_stopping": 1}), "early_stopping"),
            (json!({"bad_words_ids": [5]}), "bad_words_ids"),
            (json!({"forced_eos_token_id": [2, 3]}), "forced_eos_token_id"),
            (json!({"max_length": 1.5}), "max_length"),
        ] {
            let error = FileDefaults::read("x", &json).unwrap_err();
            assert_eq!(error.key, key);
            assert!(error.to_string().contains("expected"), "{error}");
        }
    }
}

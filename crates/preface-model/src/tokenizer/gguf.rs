//! The byte-level BPE tokenizer inside a GGUF file.
//!
//! The metadata holds the vocabulary, the merges, the type of each token and the name of the pre-tokenizer. From these
//! the `tokenizer.json` is written that they stand for, so both sources run the same code.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::tokenizer::pre_tokenizer::PreTokenizer;
use crate::tokenizer::{Tokenizer, TokenizerError};
use crate::weights::gguf::Metadata;

/// What a token is for, as `tokenizer.ggml.token_type` numbers it.
mod token_type {
    pub(super) const UNKNOWN: u64 = 2;
    pub(super) const CONTROL: u64 = 3;
    pub(super) const USER_DEFINED: u64 = 4;
    /// A row of the embedding that no token uses.
    pub(super) const UNUSED: u64 = 5;
}

impl Tokenizer {
    /// Makes the tokenizer that a GGUF file's metadata describes.
    ///
    /// # Errors
    /// If it is of another kind than byte-level BPE (`gpt2`), splits text in a way that is not known here, or contradicts
    /// itself.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let path = metadata.path();
        let model: &str = metadata.require("tokenizer.ggml.model")?;
        if model != "gpt2" {
            return Err(TokenizerError::UnknownModel { path: path.into(), model: model.into() });
        }
        let name: &str = metadata.get("tokenizer.ggml.pre")?.unwrap_or("default");
        let Some(pre_tokenizer) = PreTokenizer::from_name(name) else {
            let known = PreTokenizer::known();
            return Err(TokenizerError::UnknownPreTokenizer { path: path.into(), name: name.into(), known });
        };
        let tokens: &[String] = metadata.require("tokenizer.ggml.tokens")?;
        let types = token_types(metadata, tokens)?;
        let json = json!({
            "version": "1.0",
            "added_tokens": added_tokens(tokens, &types),
            "normalizer": pre_tokenizer.normalizer(),
            "pre_tokenizer": pre_tokenizer.pre_tokenizer(),
            "post_processor": post_processor(metadata, tokens, pre_tokenizer)?,
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "model": {
                "type": "BPE",
                "ignore_merges": pre_tokenizer.ignores_merges(),
                "vocab": vocabulary(path, tokens, &types)?,
                "merges": merges(path, metadata.require("tokenizer.ggml.merges")?)?,
            },
        });
        Self::from_json(path, json.to_string().as_bytes())
    }
}

/// The type of each token. Those that a special key names are control tokens whatever the list says.
fn token_types(metadata: &Metadata, tokens: &[String]) -> Result<Vec<u64>, TokenizerError> {
    const NORMAL: u64 = 1;
    let mut types =
        metadata.get::<Vec<u64>>("tokenizer.ggml.token_type")?.unwrap_or_else(|| vec![NORMAL; tokens.len()]);
    if types.len() != tokens.len() {
        let path = metadata.path().into();
        return Err(TokenizerError::TypeCount { path, tokens: tokens.len(), types: types.len() });
    }
    for key in ["tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"] {
        if let Some(id) = special_id(metadata, tokens, key)? {
            types[id] = token_type::CONTROL;
        }
    }
    Ok(types)
}

/// A special token's id, checked against the vocabulary.
fn special_id(
    metadata: &Metadata,
    tokens: &[String],
    key: &'static str,
) -> Result<Option<usize>, TokenizerError> {
    let Some(id) = metadata.get::<u64>(key)? else { return Ok(None) };
    match usize::try_from(id) {
        Ok(index) if index < tokens.len() => Ok(Some(index)),
        _ => {
            let (path, vocab_size) = (metadata.path().into(), tokens.len());
            Err(TokenizerError::SpecialOutOfRange { path, key, id, vocab_size })
        }
    }
}

/// Token to id. Unused rows are left out: `tokenizer.json` does not know them either.
fn vocabulary(path: &Path, tokens: &[String], types: &[u64]) -> Result<Map<String, Value>, TokenizerError> {
    let mut ids: HashMap<&str, usize> = HashMap::with_capacity(tokens.len());
    let mut vocabulary = Map::new();
    for (id, token) in tokens.iter().enumerate().filter(|(id, _)| types[*id] != token_type::UNUSED) {
        if let Some(first) = ids.insert(token, id) {
            return Err(TokenizerError::DuplicateToken {
                path: path.into(),
                token: token.clone(),
                first,
                second: id,
            });
        }
        vocabulary.insert(token.clone(), id.into());
    }
    Ok(vocabulary)
}

/// The tokens that are found in a text before it is cut, and those that decoding can skip.
fn added_tokens(tokens: &[String], types: &[u64]) -> Vec<Value> {
    let added =
        |kind: u64| matches!(kind, token_type::UNKNOWN | token_type::CONTROL | token_type::USER_DEFINED);
    tokens
        .iter()
        .enumerate()
        .filter(|(id, token)| added(types[*id]) && !token.is_empty())
        .map(|(id, token)| {
            json!({
                "id": id, "content": token, "special": types[id] != token_type::USER_DEFINED,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            })
        })
        .collect()
}

/// The pairs, split at the blank. A token never holds a blank: byte-level text writes it as another character.
fn merges(path: &Path, lines: &[String]) -> Result<Vec<Value>, TokenizerError> {
    let split = |(index, merge): (usize, &String)| match merge.split_once(' ') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() && !right.contains(' ') => {
            Ok(json!([left, right]))
        }
        _ => Err(TokenizerError::BadMerge { path: path.into(), index, merge: merge.clone() }),
    };
    lines.iter().enumerate().map(split).collect()
}

/// Puts BOS in front and EOS after, where the file says so.
fn post_processor(
    metadata: &Metadata,
    tokens: &[String],
    pre_tokenizer: PreTokenizer,
) -> Result<Value, TokenizerError> {
    let sides = [
        ("tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id", pre_tokenizer.adds_bos()),
        ("tokenizer.ggml.add_eos_token", "tokenizer.ggml.eos_token_id", false),
    ];
    let mut special_tokens = Map::new();
    let mut around = [None, None];
    for (side, (flag, key, default)) in around.iter_mut().zip(sides) {
        if metadata.get::<bool>(flag)?.unwrap_or(default)
            && let Some(id) = special_id(metadata, tokens, key)?
        {
            let token = &tokens[id];
            special_tokens.insert(token.clone(), json!({"id": token, "ids": [id], "tokens": [token]}));
            *side = Some(json!({"SpecialToken": {"id": token, "type_id": 0}}));
        }
    }
    if special_tokens.is_empty() {
        return Ok(Value::Null);
    }
    let [front, back] = around;
    let text = |name: &str| json!({"Sequence": {"id": name, "type_id": 0}});
    let single: Vec<Value> = [front.clone(), Some(text("A")), back.clone()].into_iter().flatten().collect();
    let pair: Vec<Value> = [front.clone(), Some(text("A")), back.clone(), front, Some(text("B")), back]
        .into_iter()
        .flatten()
        .collect();
    Ok(
        json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special_tokens}),
    )
}

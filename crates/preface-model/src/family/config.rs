//! One way to ask a config.json or a GGUF's metadata for a value.

use std::path::Path;

use serde_json::Value;

use crate::load::LoadError;
use crate::weights::{GgufFile, TensorSource};

/// What a value is called in either source; empty where a source has no such key. Dots lead into nested objects of a
/// config.json.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub hugging_face: &'static str,
    pub gguf: &'static str,
}

/// Where a model's shapes are written.
pub(crate) enum Config<'a> {
    HuggingFace { path: &'a Path, json: &'a Value },
    Gguf(&'a GgufFile),
}

impl Config<'_> {
    pub fn path(&self) -> &Path {
        match self {
            Self::HuggingFace { path, .. } => path,
            Self::Gguf(file) => file.path(),
        }
    }

    /// Whether a config.json has this key (and not null).
    pub fn has(&self, name: &str) -> bool {
        matches!(self, Self::HuggingFace { json, .. } if lookup(json, name).is_some())
    }

    pub fn count(&self, key: Key) -> Result<usize, LoadError> {
        self.optional_count(key)?.ok_or_else(|| self.missing(key))
    }

    pub fn count_or(&self, key: Key, default: usize) -> Result<usize, LoadError> {
        Ok(self.optional_count(key)?.unwrap_or(default))
    }

    pub fn number(&self, key: Key) -> Result<f64, LoadError> {
        self.optional_number(key)?.ok_or_else(|| self.missing(key))
    }

    pub fn number_or(&self, key: Key, default: f64) -> Result<f64, LoadError> {
        Ok(self.optional_number(key)?.unwrap_or(default))
    }

    pub fn text(&self, key: Key) -> Result<String, LoadError> {
        self.optional_text(key)?.ok_or_else(|| self.missing(key))
    }

    pub fn text_or(&self, key: Key, default: &str) -> Result<String, LoadError> {
        Ok(self.optional_text(key)?.unwrap_or_else(|| default.into()))
    }

    /// Only a config.json has flags that we read.
    pub fn flag_or(&self, key: Key, default: bool) -> Result<bool, LoadError> {
        let Self::HuggingFace { json, .. } = self else { return Ok(default) };
        match lookup(json, key.hugging_face) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, "true or false", value)),
        }
    }

    /// Rows of the embedding: a GGUF may say so only through the length of its token list.
    pub fn vocab_size(&self, key: Key) -> Result<usize, LoadError> {
        if let (Self::Gguf(file), None) = (self, self.optional_count(key)?)
            && let Some(info) = file.info("token_embd.weight")
        {
            return Ok(info.n_rows());
        }
        self.count(key)
    }

    /// Whether the head is the embedding: a config.json says so, a GGUF simply has no tensor of its own for it.
    pub fn tied_head(&self, default: bool, gguf_head: &str) -> Result<bool, LoadError> {
        match self {
            Self::HuggingFace { .. } => {
                self.flag_or(Key { hugging_face: "tie_word_embeddings", gguf: "" }, default)
            }
            Self::Gguf(file) => Ok(file.info(gguf_head).is_none()),
        }
    }

    /// A one-dimensional tensor of a GGUF that is rather part of its config.
    pub fn gguf_vector(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, LoadError> {
        match self {
            Self::Gguf(file) if file.info(name).is_some() => {
                Ok(Some(file.read_shaped(name, &[len])?.to_f32()))
            }
            _ => Ok(None),
        }
    }

    pub fn unsupported(&self, key: Key, got: &str, known: &str) -> LoadError {
        LoadError::Unsupported {
            path: self.path().into(),
            key: self.name(key).into(),
            got: got.into(),
            known: known.into(),
        }
    }

    /// An error naming the key unless `holds`.
    pub fn require(&self, holds: bool, key: Key, want: &'static str) -> Result<(), LoadError> {
        if holds {
            return Ok(());
        }
        let got = self.optional_count(key)?.map_or_else(|| "no value".into(), |count| count.to_string());
        Err(LoadError::WrongValue { path: self.path().into(), key: self.name(key).into(), want, got })
    }

    fn optional_count(&self, key: Key) -> Result<Option<usize>, LoadError> {
        const WANT: &str = "a whole number from 1 up to 2^32";
        let count = match self {
            Self::HuggingFace { json, .. } => match lookup(json, key.hugging_face) {
                None => return Ok(None),
                Some(value) => value.as_u64().ok_or_else(|| self.wrong(key, WANT, value))?,
            },
            Self::Gguf(_) if key.gguf.is_empty() => return Ok(None),
            Self::Gguf(file) => match file.metadata().get::<u64>(key.gguf)? {
                None => return Ok(None),
                Some(count) => count,
            },
        };
        if count == 0 || count > u64::from(u32::MAX) {
            return Err(self.wrong(key, WANT, &Value::from(count)));
        }
        Ok(Some(count as usize))
    }

    fn optional_number(&self, key: Key) -> Result<Option<f64>, LoadError> {
        match self {
            Self::HuggingFace { json, .. } => match lookup(json, key.hugging_face) {
                None => Ok(None),
                Some(value) => value.as_f64().map(Some).ok_or_else(|| self.wrong(key, "a number", value)),
            },
            Self::Gguf(_) if key.gguf.is_empty() => Ok(None),
            Self::Gguf(file) => Ok(file.metadata().get::<f32>(key.gguf)?.map(f64::from)),
        }
    }

    fn optional_text(&self, key: Key) -> Result<Option<String>, LoadError> {
        match self {
            Self::HuggingFace { json, .. } => match lookup(json, key.hugging_face) {
                None => Ok(None),
                Some(value) => match value.as_str() {
                    Some(text) => Ok(Some(text.into())),
                    None => Err(self.wrong(key, "a string", value)),
                },
            },
            Self::Gguf(_) if key.gguf.is_empty() => Ok(None),
            Self::Gguf(file) => Ok(file.metadata().get::<&str>(key.gguf)?.map(Into::into)),
        }
    }

    fn name(&self, key: Key) -> &'static str {
        match self {
            Self::HuggingFace { .. } => key.hugging_face,
            Self::Gguf(_) => key.gguf,
        }
    }

    fn missing(&self, key: Key) -> LoadError {
        LoadError::MissingKey { path: self.path().into(), key: self.name(key).into() }
    }

    fn wrong(&self, key: Key, want: &'static str, got: &Value) -> LoadError {
        LoadError::WrongValue {
            path: self.path().into(),
            key: self.name(key).into(),
            want,
            got: got.to_string(),
        }
    }
}

/// The value under a dotted name; null counts as absent.
fn lookup<'a>(json: &'a Value, name: &str) -> Option<&'a Value> {
    if name.is_empty() {
        return None;
    }
    let value = name.split('.').try_fold(json, |value, part| value.get(part))?;
    (!value.is_null()).then_some(value)
}

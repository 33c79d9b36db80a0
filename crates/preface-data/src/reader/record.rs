//! A JSON object whose keys are asked for by name, with errors that say what is there instead.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::Fault;
use crate::linearise::Triple;

/// One JSON object.
pub(crate) struct Record(Map<String, Value>);

impl Record {
    pub fn new(object: Map<String, Value>) -> Self {
        Self(object)
    }

    /// The object in `value`; `what` names it in the error.
    pub fn from_value(value: Value, what: &str) -> Result<Self, Fault> {
        match value {
            Value::Object(object) => Ok(Self(object)),
            other => Err(wrong_type(what, "an object", &other)),
        }
    }

    /// An error that names all keys of `keys` that are absent, and those that are there.
    pub fn require(&self, keys: &[&str]) -> Result<(), Fault> {
        let missing: Vec<String> =
            keys.iter().filter(|key| !self.0.contains_key(**key)).map(|key| (*key).to_owned()).collect();
        match missing.is_empty() {
            true => Ok(()),
            false if self.0.contains_key("messages") => Err(Fault::Chat),
            false => Err(Fault::MissingKeys { missing, found: self.0.keys().cloned().collect() }),
        }
    }

    pub fn has(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|value| !value.is_null())
    }

    /// The text under `key`.
    pub fn text(&self, key: &str) -> Result<String, Fault> {
        match self.get(key)? {
            Value::String(text) => Ok(text.clone()),
            Value::Array(items) if items.iter().any(Value::is_object) => Err(Fault::Chat),
            other => Err(wrong_type(&format!("`{key}`"), "a string", other)),
        }
    }

    /// The texts under `key`.
    pub fn texts(&self, key: &str) -> Result<Vec<String>, Fault> {
        self.list(key)?
            .iter()
            .enumerate()
            .map(|(index, item)| text_of(item, &format!("item {} of `{key}`", index + 1)))
            .collect()
    }

    /// The items under `key`.
    pub fn list(&self, key: &str) -> Result<&[Value], Fault> {
        match self.get(key)? {
            Value::Array(items) => Ok(items),
            other => Err(wrong_type(&format!("`{key}`"), "a list", other)),
        }
    }

    /// The lists of three texts under `key`.
    pub fn triples(&self, key: &str) -> Result<Vec<Triple>, Fault> {
        self.list(key)?
            .iter()
            .enumerate()
            .map(|(index, item)| triple_of(item, &format!("item {} of `{key}`", index + 1)))
            .collect()
    }

    /// Every other key with a short value as text: strings, numbers and truth values as they are, of a list of texts
    /// each text once. Nothing and deeper values are left out.
    pub fn fields(&self, used: &[&str]) -> BTreeMap<String, String> {
        let others = self.0.iter().filter(|(key, _)| !used.contains(&key.as_str()));
        others.filter_map(|(key, value)| Some((key.clone(), field_of(value)?))).collect()
    }

    fn get(&self, key: &str) -> Result<&Value, Fault> {
        self.require(&[key])?;
        Ok(&self.0[key])
    }
}

fn text_of(value: &Value, what: &str) -> Result<String, Fault> {
    match value {
        Value::String(text) => Ok(text.clone()),
        other => Err(wrong_type(what, "a string", other)),
    }
}

fn triple_of(value: &Value, what: &str) -> Result<Triple, Fault> {
    let Value::Array(parts) = value else { return Err(wrong_type(what, "a list of 3 strings", value)) };
    let [subject, property, object] = parts.as_slice() else {
        return Err(Fault::Triple { found: parts.len() });
    };
    Ok([text_of(subject, what)?, text_of(property, what)?, text_of(object, what)?])
}

fn field_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Array(items) => distinct(items.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?),
        Value::Null | Value::Object(_) => None,
    }
}

/// `a,b` of `a, b, a`; nothing of nothing.
pub(crate) fn distinct(texts: Vec<&str>) -> Option<String> {
    let mut seen: Vec<&str> = Vec::new();
    for text in texts {
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    (!seen.is_empty()).then(|| seen.join(","))
}

fn wrong_type(what: &str, expected: &'static str, found: &Value) -> Fault {
    Fault::WrongType { what: what.to_owned(), expected, found: kind(found) }
}

/// What a JSON value is, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

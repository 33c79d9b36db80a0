//! What stands around a prompt and between it and its completion: saved with a run and with its artefact, so that
//! training, evaluation and generation agree.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::tokenizer::TokenizerError;

/// What stands between prompt and completion.
///
/// Written as one string: `blank`, `none`, `bos`, or the text itself (`" ->"`, `"\n"`). A text that is a bare word is
/// most likely a misspelt setting and must be written `text:word`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Separator {
    /// One blank, as part of the completion; none where the completion begins with white space or the tokenizer puts a
    /// blank before every text.
    #[default]
    Blank,
    /// Nothing.
    None,
    /// This text, as part of the completion.
    Text(String),
    /// The BOS token (else the end token) after the prompt, without loss: the paper's form for GPT-2.
    Bos,
}

/// How a prompt is written before it is encoded, such as `Describe: {prompt}`. Contains `{prompt}` exactly once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template(String);

/// From text to tokens: what a run decides about it. The methods stand in `pair.rs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TextFormat {
    /// What stands between prompt and completion.
    pub separator: Separator,
    /// How a prompt is written; as it stands if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
}

const PLACE: &str = "{prompt}";

impl Template {
    /// The prompt in its place.
    pub fn fill(&self, prompt: &str) -> String {
        self.0.replacen(PLACE, prompt, 1)
    }
}

impl TryFrom<String> for Template {
    type Error = TokenizerError;
    fn try_from(template: String) -> Result<Self, TokenizerError> {
        match template.matches(PLACE).count() {
            1 => Ok(Self(template)),
            times => Err(TokenizerError::Template { template, times }),
        }
    }
}

impl FromStr for Template {
    type Err = TokenizerError;
    fn from_str(template: &str) -> Result<Self, TokenizerError> {
        template.to_owned().try_into()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.0
    }
}

impl FromStr for Separator {
    type Err = TokenizerError;
    fn from_str(written: &str) -> Result<Self, TokenizerError> {
        Ok(match written {
            "blank" => Self::Blank,
            "none" => Self::None,
            "bos" => Self::Bos,
            _ => match written.strip_prefix("text:") {
                Some(text) => Self::Text(text.into()),
                None if is_bare_word(written) => {
                    return Err(TokenizerError::Separator { word: written.into() });
                }
                None => Self::Text(written.into()),
            },
        })
    }
}

fn is_bare_word(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        && text.contains(|c: char| c.is_ascii_alphanumeric())
}

impl fmt::Display for Separator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("blank"),
            Self::None => f.write_str("none"),
            Self::Bos => f.write_str("bos"),
            Self::Text(text) if is_bare_word(text) || text.starts_with("text:") => write!(f, "text:{text}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl Serialize for Separator {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Separator {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_separator_survives_being_written() {
        let texts = ["", "\n", " ->", "bos", "none", "text:x", "word", "=", " = ", "--", "ß"];
        let separators = texts.map(|text| Separator::Text(text.into()));
        for separator in separators.into_iter().chain([Separator::Blank, Separator::None, Separator::Bos]) {
            let json = serde_json::to_string(&separator).unwrap();
            assert_eq!(serde_json::from_str::<Separator>(&json).unwrap(), separator, "{json}");
        }
    }

    #[test]
    fn a_misspelt_separator_is_an_error_that_says_how_to_mean_it() {
        let error = "boss".parse::<Separator>().unwrap_err().to_string();
        assert!(error.contains("`blank`, `none`, `bos`") && error.contains("text:boss"), "{error}");
        assert_eq!("text:boss".parse::<Separator>().unwrap(), Separator::Text("boss".into()));
    }

    #[test]
    fn a_template_has_one_place_for_the_prompt() {
        for (text, n) in [("", 0), ("Describe:", 0), ("{Prompt}", 0), ("{prompt} {prompt}", 2)] {
            let error = text.parse::<Template>().unwrap_err();
            assert!(matches!(error, TokenizerError::Template { times, .. } if times == n), "{text}: {error}");
        }
        let template: Template = "{x} {prompt} =>".parse().unwrap();
        assert_eq!(template.fill("{prompt}"), "{x} {prompt} =>", "what the prompt says is not a place");
    }

    #[test]
    fn a_format_is_the_default_where_it_says_nothing() {
        assert_eq!(serde_json::from_str::<TextFormat>("{}").unwrap(), TextFormat::default());
        assert_eq!(serde_json::to_string(&TextFormat::default()).unwrap(), r#"{"separator":"blank"}"#);
        let format: TextFormat =
            serde_json::from_str(r#"{"separator":"bos","template":"Q: {prompt}"}"#).unwrap();
        assert_eq!(format.separator, Separator::Bos);
        assert!(serde_json::from_str::<TextFormat>(r#"{"template":"Q:"}"#).is_err());
    }
}

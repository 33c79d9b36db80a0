//! What stands around a prompt: a text with `{prompt}` in it.
//!
//! A template belongs to the input as the model sees it, so the one a prefix was trained with is saved beside it and
//! used again in generation. The separator between prompt and completion is no part of it: that one depends on the
//! tokenizer and is decided where text becomes tokens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const PLACE: &str = "{prompt}";

/// A text around the prompt, `{prompt}` by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Template {
    before: String,
    after: String,
}

/// A template that does not say where the prompt goes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the template `{template}` must hold {PLACE} exactly once, found it {found} times")]
pub struct TemplateError {
    /// The template that came.
    pub template: String,
    /// How often `{prompt}` stands in it.
    pub found: usize,
}

impl Template {
    /// The prompt inside the template. A prompt may hold `{prompt}` itself: it is put in once.
    pub fn apply(&self, prompt: &str) -> String {
        [self.before.as_str(), prompt, self.after.as_str()].concat()
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(template: &str) -> Result<Self, TemplateError> {
        match template.split(PLACE).collect::<Vec<_>>().as_slice() {
            [before, after] => Ok(Self { before: (*before).to_owned(), after: (*after).to_owned() }),
            parts => Err(TemplateError { template: template.to_owned(), found: parts.len() - 1 }),
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.apply(PLACE))
    }
}

impl TryFrom<String> for Template {
    type Error = TemplateError;

    fn try_from(template: String) -> Result<Self, TemplateError> {
        template.parse()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_template_leaves_the_prompt_as_it_stands() {
        for prompt in ["", "a b", " {prompt} "] {
            assert_eq!(Template::default().apply(prompt), prompt);
        }
        assert_eq!("{prompt}".parse::<Template>().unwrap(), Template::default());
    }

    #[test]
    fn a_template_goes_around_the_prompt_and_survives_being_saved() {
        let template: Template = "Facts: {prompt}\nText:".parse().unwrap();
        assert_eq!(template.apply("| a : b : c"), "Facts: | a : b : c\nText:");
        let json = serde_json::to_string(&template).unwrap();
        assert_eq!(json, "\"Facts: {prompt}\\nText:\"");
        assert_eq!(serde_json::from_str::<Template>(&json).unwrap(), template);
    }

    #[test]
    fn a_template_without_its_place_or_with_two_is_refused() {
        assert_eq!("Text:".parse::<Template>().unwrap_err().found, 0);
        assert_eq!("{prompt}{prompt}".parse::<Template>().unwrap_err().found, 2);
    }
}

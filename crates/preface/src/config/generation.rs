//! Settings of generation, from four places.
//!
//! ```text
//! ours  <  the files of an encoder-decoder  <  what a recipe sets  <  what was typed        each later one wins
//! ```
//!
//! A published encoder-decoder names the search that it was made for (`generation_config.json`): its beams, lengths and
//! forced tokens apply where nothing else is said. What gives way because of something typed does so silently: beams to
//! `do_sample`, the least length to a smaller greatest one, and a length that nobody typed to the positions there are.

use anyhow::Result;
use preface_generate::{FileDefaults, GenerationSettings};
use preface_model::Family;
use toml::Value;

use super::{Typed, section, setting, write};
use crate::ui;

/// What defaults depend on in a model.
#[derive(Clone, Debug)]
pub struct ModelFacts {
    /// A recipe may depend on it.
    pub family: Family,
    /// Positions of the decoder.
    pub max_positions: usize,
    /// What its files say of generation.
    pub files: FileDefaults,
}

/// The model's own defaults that apply in the end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FromFiles {
    /// The file's name.
    pub file: String,
    /// `setting = value`, with the file's key where it has another name.
    pub taken: Vec<String>,
    /// What the file asks for and we cannot do.
    pub unknown: Vec<String>,
}

#[cfg(test)]
impl ModelFacts {
    /// A model of this family whose files say nothing.
    pub fn of_family(family: Family) -> Self {
        Self { family, max_positions: preface_model::UNLIMITED_POSITIONS, files: FileDefaults::default() }
    }
}

impl FromFiles {
    /// Tells the user.
    pub fn announce(&self) {
        if !self.taken.is_empty() {
            ui::fact("generation", &format!("{}: {}", self.file, self.taken.join(", ")));
        }
        if !self.unknown.is_empty() {
            ui::fact(
                "",
                &format!("what {} asks for and is not done here: {}", self.file, self.unknown.join(", ")),
            );
        }
    }
}

/// The settings, and which of them are the model's. `n_before` positions of the decoder are taken by a prefix.
///
/// # Errors
/// A value that no setting can have.
pub fn resolve(
    typed: &Typed,
    recipe: &GenerationSettings,
    model: &ModelFacts,
    n_before: usize,
) -> Result<(GenerationSettings, FromFiles)> {
    let ours = write::table(&GenerationSettings::default());
    let of_recipe = write::table(recipe);
    let mut values = of_recipe.clone();
    let mut from_files = Vec::new();
    for default in &model.files.values {
        let is_the_recipes = of_recipe.get(default.setting) != ours.get(default.setting);
        if !is_the_recipes && !typed.has(default.setting) {
            let value = Value::try_from(&default.value).expect("a number, text or list is TOML too");
            values.insert(default.setting.into(), value);
            from_files.push(default);
        }
    }
    let number = |values: &toml::Table, name: &str| {
        let typed = typed.get(name).or_else(|| values.get(name));
        typed.and_then(Value::as_integer).expect("a count of tokens has a default")
    };
    let is_free = |name| !typed.has(name);
    if typed.get("do_sample").and_then(Value::as_bool) == Some(true) && is_free("num_beams") {
        values.insert("num_beams".into(), 1.into());
    }
    if model.family.has_encoder() && is_free("max_new_tokens") {
        // The start token needs a position, the last token none.
        let room = model.max_positions.saturating_sub(n_before).max(1);
        let room = i64::try_from(room).unwrap_or(i64::MAX);
        values.insert("max_new_tokens".into(), number(&values, "max_new_tokens").min(room).into());
    }
    if is_free("min_new_tokens") {
        let least = number(&values, "min_new_tokens").min(number(&values, "max_new_tokens"));
        values.insert("min_new_tokens".into(), least.into());
    }
    let settings: GenerationSettings =
        serde::Deserialize::deserialize(values.clone()).map_err(|error: toml::de::Error| {
            typed.wrong(format!("{}: {}", model.files.file, error.message().trim()))
        })?;
    let settings = section(typed, setting::GENERATION, &settings)?;
    let taken = from_files
        .iter()
        .map(|default| {
            let value = &values[default.setting];
            let written = match default.key == default.setting {
                true => String::new(),
                false => format!(" ({})", default.key),
            };
            format!("{} = {value}{written}", default.setting)
        })
        .collect();
    let FileDefaults { file, unknown, .. } = model.files.clone();
    Ok((settings, FromFiles { file, taken, unknown }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::recipe;

    fn facts(json: serde_json::Value) -> ModelFacts {
        let files = FileDefaults::read("generation_config.json", &json).unwrap();
        ModelFacts { max_positions: 64, files, ..ModelFacts::of_family(Family::Bart) }
    }

    fn resolved(typed: &str, model: &ModelFacts) -> (GenerationSettings, FromFiles) {
        let typed = Typed::new(toml::from_str(typed).unwrap());
        let recipe = recipe::recipe(typed.text("recipe").unwrap_or("default"), model.family);
        resolve(&typed, &recipe.generation, model, 10).unwrap()
    }

    #[test]
    fn the_files_give_way_to_what_is_typed_and_go_before_our_own() {
        let model = facts(json!({"num_beams": 4, "max_length": 21, "length_penalty": 2, "do_sample": true}));
        let (settings, from) = resolved("", &model);
        assert_eq!((settings.num_beams, settings.max_new_tokens, settings.length_penalty), (4, 20, 2.0));
        assert!(!settings.do_sample, "sampling never comes from a file");
        assert_eq!(from.taken, ["num_beams = 4", "max_new_tokens = 20 (max_length)", "length_penalty = 2.0"]);
        let (settings, from) = resolved("num_beams = 1\nmax_new_tokens = 7", &model);
        assert_eq!((settings.num_beams, settings.max_new_tokens, settings.length_penalty), (1, 7, 2.0));
        assert_eq!(from.taken, ["length_penalty = 2.0"]);
    }

    #[test]
    fn a_recipes_own_values_go_before_the_files() {
        let model = facts(json!({"num_beams": 4, "length_penalty": 2.0, "no_repeat_ngram_size": 3}));
        let (settings, _) = resolved("recipe = \"2021\"", &model);
        assert_eq!((settings.num_beams, settings.length_penalty, settings.no_repeat_ngram_size), (6, 0.8, 3));
    }

    #[test]
    fn what_nobody_typed_gives_way_to_what_is_typed_and_to_the_positions() {
        let model = facts(json!({"num_beams": 4, "max_length": 512, "min_length": 31}));
        let (settings, from) = resolved("", &model);
        assert_eq!((settings.max_new_tokens, settings.min_new_tokens), (54, 30), "10 of 64 are the prefix's");
        assert!(from.taken.contains(&"max_new_tokens = 54 (max_length)".to_owned()), "{from:?}");
        let (settings, _) = resolved("max_new_tokens = 20\ndo_sample = true", &model);
        assert_eq!((settings.max_new_tokens, settings.min_new_tokens, settings.num_beams), (20, 20, 1));
        assert_eq!(resolved("max_new_tokens = 500", &model).0.max_new_tokens, 500, "checked with the inputs");
        // Nothing of this touches a decoder-only model.
        let model = ModelFacts { max_positions: 64, ..ModelFacts::of_family(Family::Llama) };
        assert_eq!(resolved("", &model).0, GenerationSettings::default());
    }
}

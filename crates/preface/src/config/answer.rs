//! The configuration of commands that only generate: `generate` and `eval`.

use anyhow::Result;
use preface_generate::GenerationSettings;
use preface_model::tokenizer::{Separator, TextFormat};
use serde::Serialize;

use super::sections::{Compute, Data};
use super::setting::{self, Kind, Table, often, rarely};
use super::{FromFiles, ModelFacts, Typed, fit_family, generation, recipe, section};

/// The recipe and the size of a batch.
pub const ANSWERS: Table = Table {
    heading: "Run",
    settings: &[
        rarely("recipe", Kind::Choice(recipe::NAMES), "Where the defaults of generation come from"),
        often("batch_size", Kind::Integer, "Inputs worked on at once (never changes an answer)"),
    ],
};

/// Everything that decides an answer, given a model and what is attached to it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AnswerConfig {
    /// How data is read.
    #[serde(flatten)]
    pub data: Data,
    /// From text to tokens.
    #[serde(flatten)]
    pub text: TextFormat,
    /// Generation.
    #[serde(flatten)]
    pub generation: GenerationSettings,
    /// What of it is the model's own.
    #[serde(skip)]
    pub from_files: FromFiles,
    /// Inputs worked on at once.
    pub batch_size: usize,
    /// How it is computed.
    #[serde(flatten)]
    pub compute: Compute,
}

impl AnswerConfig {
    /// Tables of `generate` and `eval`, in the order of the help text.
    pub const TABLES: &[Table] =
        &[ANSWERS, setting::CHANCE, setting::GENERATION, setting::DATA, setting::TEXT, setting::COMPUTE];

    /// Inputs worked on at once where nothing else is asked for.
    pub const BATCH_SIZE: usize = 16;

    /// How it is computed: needed before there is a model.
    ///
    /// # Errors
    /// A value that cannot be.
    pub fn compute_of(typed: &Typed) -> Result<Compute> {
        section(typed, setting::COMPUTE, &Compute::default())
    }

    /// Fills in what was not typed, over the text format that belongs to the adapter, whose prefix takes `n_before`
    /// positions.
    ///
    /// # Errors
    /// A value that no setting can have, or settings that exclude each other.
    pub fn resolve(typed: &Typed, model: &ModelFacts, text: &TextFormat, n_before: usize) -> Result<Self> {
        fit_family(typed, model.family)?;
        let recipe = recipe::recipe(typed.text("recipe").unwrap_or("default"), model.family);
        let generation = GenerationSettings { seed: typed.seed(), ..recipe.generation };
        let (generation, from_files) = generation::resolve(typed, &generation, model, n_before)?;
        let mut text = text.clone();
        if model.family.has_encoder() {
            text.separator = Separator::None;
        }
        let batch_size = typed.get("batch_size").and_then(toml::Value::as_integer);
        let config = Self {
            data: section(typed, setting::DATA, &Data::default())?,
            text: section(typed, setting::TEXT, &text)?,
            generation,
            from_files,
            batch_size: batch_size.map_or(Self::BATCH_SIZE, |size| usize::try_from(size).unwrap_or(1)),
            compute: Self::compute_of(typed)?,
        };
        if config.batch_size == 0 {
            return Err(typed.wrong("`batch_size` is 0, expected at least 1".into()));
        }
        config.generation.validate().map_err(|error| typed.wrong(error.to_string()))?;
        Ok(config)
    }
}

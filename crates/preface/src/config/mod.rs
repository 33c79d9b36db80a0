//! Configuration in two stages: what was typed -> one resolved, validated, serialisable [`RunConfig`].
//!
//! ```text
//! recipe  <  configuration file  <  flags and --set        each later one wins
//! ```
//!
//! Typed values are a flat table under the names of [`setting`]; a section is its defaults, as a table, overlaid with
//! what was typed, read back as a struct. `run.toml` is that table written out, so it is read by the same path.

mod answer;
mod generation;
mod places;
pub mod recipe;
pub mod sections;
pub mod setting;
mod typed;
mod write;

use anyhow::{Context, Result, ensure};
use preface_generate::GenerationSettings;
use preface_model::tokenizer::TextFormat;
use preface_model::{Family, PrefixPlace};
use preface_train::TrainSettings;
use preface_tune::AdamSettings;
use preface_tune::init::Init;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use answer::AnswerConfig;
pub use generation::{FromFiles, ModelFacts};
use recipe::Recipe;
use sections::{Compute, Data, Method, MethodName, Places, Prefix, Run, TrainData, Training};
use setting::Table;
pub use typed::{RECORDED, Typed};
pub use write::Recorded;

/// Tables of `train`, in the order of the help text.
pub const TRAIN_TABLES: &[Table] = &[
    setting::RUN,
    setting::CHANCE,
    setting::TRAINING,
    setting::PREFIX,
    setting::PLACES,
    setting::METHOD,
    setting::DATA,
    setting::TRAIN_DATA,
    setting::TEXT,
    setting::GENERATION,
    setting::COMPUTE,
];

/// Every setting of a training run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunConfig {
    /// What is run.
    pub run: Run,
    /// Seed of everything random.
    pub seed: u64,
    /// The loop.
    pub training: Training,
    /// The prefix.
    pub prefix: Prefix,
    /// The prefix of an encoder-decoder.
    pub places: Places,
    /// The methods without rows.
    pub method: Method,
    /// How data is read.
    pub data: Data,
    /// What only training reads of the data.
    pub train_data: TrainData,
    /// From text to tokens.
    pub text: TextFormat,
    /// Generation, for metrics that need answers.
    pub generation: GenerationSettings,
    /// What of it is the model's own.
    pub from_files: FromFiles,
    /// How it is computed.
    pub compute: Compute,
    /// Whether the recipe writes WebNLG's inputs with the leading blank of 2021.
    pub leading_blank: bool,
}

impl RunConfig {
    /// The model that was typed: it must be opened before the rest can be resolved, because a recipe depends on its
    /// family.
    ///
    /// # Errors
    /// If there is none.
    pub fn model_of(typed: &Typed) -> Result<String> {
        typed.required("model", "a Hugging Face folder, a .gguf file or builtin:NAME")
    }

    /// Whether the model that was typed is to start from random weights: then it is opened without any.
    pub fn is_from_scratch(typed: &Typed) -> bool {
        typed.get("from_scratch").and_then(toml::Value::as_bool).unwrap_or(false)
    }

    /// Fills in what was not typed and checks everything.
    ///
    /// # Errors
    /// A value that no setting can have, or settings that exclude each other.
    pub fn resolve(typed: &Typed, model: &ModelFacts) -> Result<Self> {
        let name = typed.text("recipe").unwrap_or("default").to_owned();
        let from_scratch = Self::is_from_scratch(typed);
        let unnamed = if from_scratch { MethodName::FineTune } else { MethodName::default() };
        let method_name = typed.get("method").cloned().map_or(Ok(unnamed), |word| {
            MethodName::deserialize(word).map_err(|error| typed.wrong(error.to_string()))
        })?;
        let recipe = recipe::recipe(&name, model.family).of_method(method_name);
        let recipe = if from_scratch { recipe.of_new_model() } else { recipe };
        let Recipe { prefix, places, method, training, generation, separator, leading_blank } = recipe;
        belong(typed, method_name)?;
        fit_family(typed, model.family)?;
        let run = Run {
            model: Self::model_of(typed)?,
            train: typed.required("train", "the training data")?,
            valid: None,
            method: method_name,
            recipe: name,
        };
        let seed = typed.seed();
        let prefix = section(typed, setting::PREFIX, &prefix)?;
        let places = places::resolve(typed, places, model.family, method_name)?;
        let decoder_len = places.own_len(PrefixPlace::Decoder).or(prefix.num_virtual_tokens).unwrap_or(0);
        let n_before = match method_name {
            MethodName::Prefix => places.first_position(decoder_len),
            // In an encoder-decoder they stand in the encoder.
            MethodName::PromptTuning | MethodName::Infix if !model.family.has_encoder() => decoder_len,
            _ => 0,
        };
        let generation = GenerationSettings { seed, ..generation };
        let (generation, from_files) = generation::resolve(typed, &generation, model, n_before)?;
        let mut config = Self {
            run: section(typed, setting::RUN, &run)?,
            seed,
            training: section(typed, setting::TRAINING, &training)?,
            prefix,
            places,
            method: section(typed, setting::METHOD, &method)?,
            data: section(typed, setting::DATA, &Data::default())?,
            train_data: section(typed, setting::TRAIN_DATA, &TrainData::default())?,
            text: section(typed, setting::TEXT, &TextFormat { separator, template: None })?,
            generation,
            from_files,
            compute: section(typed, setting::COMPUTE, &Compute::default())?,
            leading_blank,
        };
        config.settle_init(typed)?;
        config.validate().map_err(|reason| typed.wrong(reason))?;
        Ok(config)
    }

    /// `init_text` means `init = text`, and a text brings its own number of rows.
    fn settle_init(&mut self, typed: &Typed) -> Result<()> {
        let prefix = &mut self.prefix;
        if prefix.init_text.is_some() && !typed.has("init") {
            prefix.init = Init::Text;
        }
        if self.places.init_text_decoder.is_some() && prefix.init_text.is_none() {
            return Err(typed.wrong(
                "init_text_decoder is given, but no init_text: the decoder's text is written behind a source"
                    .into(),
            ));
        }
        match (prefix.init, &prefix.init_text) {
            (Init::Text, None) => {
                let because = if self.run.recipe == "direct" {
                    "recipe = direct starts from a text: it"
                } else {
                    "init = text"
                };
                return Err(typed.wrong(format!(
                    "{because} needs init_text, such as --init-text \"Describe the following facts:\""
                )));
            }
            (Init::Random | Init::Zeros, Some(_)) => {
                return Err(typed.wrong("init_text is given, but init is not text".into()));
            }
            _ => {}
        }
        if self.run.method.has_rows() && prefix.init == Init::Text && !typed.has("num_virtual_tokens") {
            prefix.num_virtual_tokens = None;
        }
        Ok(())
    }

    fn validate(&self) -> Result<(), String> {
        let Self { training, prefix, method, .. } = self;
        let require = |holds: bool, name: &str, got: &dyn std::fmt::Display, expected: &str| {
            if holds { Ok(()) } else { Err(format!("`{name}` is {got}, expected {expected}")) }
        };
        let share = |value: f64| (0.0..1.0).contains(&value);
        let above = |value: f64| value.is_finite() && value > 0.0;
        let counts = [
            ("per_device_train_batch_size", training.per_device_train_batch_size),
            ("gradient_accumulation_steps", training.gradient_accumulation_steps),
            ("max_tokens_per_batch", training.max_tokens_per_batch.unwrap_or(1)),
            ("logging_steps", training.logging_steps as usize),
            ("eval_generate_samples", training.eval_generate_samples),
            ("encoder_hidden_size", prefix.encoder_hidden_size),
            ("r", method.r),
            ("top_layers", method.top_layers),
            ("num_virtual_tokens", prefix.num_virtual_tokens.unwrap_or(1)),
            ("num_virtual_tokens_encoder", self.places.num_virtual_tokens_encoder.unwrap_or(1)),
            ("num_virtual_tokens_decoder", self.places.num_virtual_tokens_decoder.unwrap_or(1)),
            ("num_virtual_tokens_cross", self.places.num_virtual_tokens_cross.unwrap_or(1)),
            ("max_steps", training.max_steps.map_or(1, |steps| steps as usize)),
            ("max_length", self.data.max_length.unwrap_or(1)),
            ("max_source_tokens", self.data.max_source_tokens.unwrap_or(1)),
            ("max_train_samples", self.train_data.max_train_samples.unwrap_or(1)),
            ("max_eval_samples", self.data.max_eval_samples.unwrap_or(1)),
        ];
        for (name, count) in counts {
            require(count > 0, name, &count, "at least 1")?;
        }
        let numbers = [
            ("trainable_share", method.trainable_share),
            ("lora_alpha", method.lora_alpha),
            ("learning_rate", training.learning_rate),
            ("num_train_epochs", training.num_train_epochs),
        ];
        for (name, number) in numbers {
            require(above(number), name, &number, "a number above 0")?;
        }
        let shares = [
            ("adam_beta1", training.adam_beta1),
            ("adam_beta2", training.adam_beta2),
            ("label_smoothing_factor", training.label_smoothing_factor),
            ("prefix_dropout", prefix.prefix_dropout),
            ("lora_dropout", method.lora_dropout),
        ];
        for (name, number) in shares {
            require(share(number), name, &number, "a number from 0 to below 1")?;
        }
        let at_least_0 = [
            ("weight_decay", training.weight_decay),
            ("adam_epsilon", training.adam_epsilon),
            ("max_grad_norm", training.max_grad_norm),
        ];
        for (name, number) in at_least_0 {
            require(number.is_finite() && number >= 0.0, name, &number, "a number, at least 0")?;
        }
        let needs_valid = [
            ("early_stopping_patience", training.early_stopping_patience > 0),
            ("metric_for_best_model", training.metric_for_best_model != preface_train::EVAL_LOSS),
        ];
        for (name, is_set) in needs_valid {
            if is_set && self.run.valid.is_none() {
                return Err(format!("`{name}` needs validation data (--valid)"));
            }
        }
        self.generation.validate().map_err(|error| error.to_string())
    }

    /// Settings of the loop, with `max_steps`, `eval_steps` and the rows of the longest pair as the data decides them.
    ///
    /// # Errors
    /// A token budget that the longest pair does not fit into.
    pub fn train_settings(&self, max_steps: u64, eval_steps: u64, longest: usize) -> Result<TrainSettings> {
        const TOKENS_PER_BATCH: usize = 4096;
        let training = &self.training;
        let max_tokens_per_batch = training.max_tokens_per_batch.unwrap_or(TOKENS_PER_BATCH.max(longest));
        ensure!(
            max_tokens_per_batch >= longest,
            "`max_tokens_per_batch` is {max_tokens_per_batch}, but the longest pair needs {longest}: raise it, or cut \
             longer pairs with max_length"
        );
        Ok(TrainSettings {
            max_steps,
            batch_by: training.batch_by,
            per_device_train_batch_size: training.per_device_train_batch_size,
            gradient_accumulation_steps: training.gradient_accumulation_steps,
            learning_rate: training.learning_rate,
            lr_scheduler_type: training.lr_scheduler_type,
            warmup_steps: training.warmup_steps,
            adam: AdamSettings {
                beta_1: training.adam_beta1 as f32,
                beta_2: training.adam_beta2 as f32,
                epsilon: training.adam_epsilon as f32,
                weight_decay: training.weight_decay as f32,
            },
            max_grad_norm: training.max_grad_norm,
            loss_norm: training.loss_norm,
            label_smoothing_factor: training.label_smoothing_factor as f32,
            prefix_dropout: self.prefix.prefix_dropout as f32,
            seed: self.seed,
            logging_steps: training.logging_steps,
            eval_steps,
            save_steps: training.save_steps,
            save_total_limit: training.save_total_limit,
            early_stopping_patience: training.early_stopping_patience,
            load_best_model_at_end: training.load_best_model_at_end,
            metric_for_best_model: training.metric_for_best_model.clone(),
            max_tokens_per_batch,
        })
    }
}

/// The defaults, overlaid with what was typed for `table`.
fn section<S: Serialize + DeserializeOwned>(typed: &Typed, table: Table, defaults: &S) -> Result<S> {
    let mut values = toml::Table::try_from(defaults).context("a section is a table")?;
    for setting in table.settings {
        if let Some(value) = typed.get(setting.name) {
            values.insert(setting.name.to_owned(), value.clone());
        }
    }
    S::deserialize(values).map_err(|error| typed.wrong(error.to_string().trim().replace('\n', " ")))
}

/// The default of every setting that has one, under the recipe `default`, for the help text.
pub fn defaults() -> toml::Table {
    let Recipe { prefix, method, training, generation, separator, .. } =
        recipe::recipe("default", Family::Llama);
    let tables = [
        write::table(&training),
        write::table(&prefix),
        write::table(&method),
        write::table(&TextFormat { separator, template: None }),
        write::table(&generation),
        write::table(&Compute::default()),
    ];
    let recipe = [("recipe".to_owned(), "default".into())];
    tables.into_iter().flatten().chain(recipe).collect()
}

/// Refuses a typed setting that models of a family cannot have: it would silently do nothing.
fn fit_family(typed: &Typed, family: Family) -> Result<()> {
    let of_encoders = ["max_source_tokens"];
    let has_encoder = family.has_encoder();
    if let Some(name) = of_encoders.into_iter().find(|name| !has_encoder && typed.has(name)) {
        return Err(
            typed.wrong(format!("`{name}` is a setting of encoder-decoders; this model is decoder-only"))
        );
    }
    // What a run of such a model has in its run.toml.
    let is_none = typed.text("separator") == Some("none");
    if has_encoder && typed.has("separator") && !is_none {
        return Err(typed.wrong(
            "`separator` is a setting of decoder-only models; an encoder-decoder reads and writes two texts"
                .into(),
        ));
    }
    Ok(())
}

/// Refuses a typed setting of another method: it would silently do nothing.
fn belong(typed: &Typed, method: MethodName) -> Result<()> {
    let settings =
        [setting::PREFIX, setting::PLACES, setting::METHOD].into_iter().flat_map(|table| table.settings);
    let mut of_others = settings.filter(|setting| !method.has_setting(setting.name));
    let word = write::table(&Named { method })["method"].clone();
    match of_others.find(|setting| typed.has(setting.name)) {
        Some(setting) => Err(typed.wrong(format!("`{}` is no setting of method = {word}", setting.name))),
        None => Ok(()),
    }
}

#[derive(Serialize)]
struct Named {
    method: MethodName,
}

/// The nearest of some names, if it is near: at most a third of the typed letters differ.
pub fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = typed.chars().count().div_ceil(3);
    names
        .map(|name| (strsim::damerau_levenshtein(typed, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(lines: &str) -> Typed {
        let text = format!("model = \"m\"\ntrain = \"t\"\n{lines}");
        Typed::new(toml::from_str(&text).unwrap())
    }

    fn resolved(lines: &str) -> RunConfig {
        RunConfig::resolve(&typed(lines), &ModelFacts::of_family(Family::Llama)).unwrap()
    }

    #[test]
    fn what_is_written_resolves_to_the_same() {
        let recorded = Recorded {
            preface_version: "0".into(),
            train_sha256: "a".into(),
            valid_sha256: None,
            model_fingerprint: "b".into(),
            precision: "f32".into(),
            tier: "scalar".into(),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        for lines in [
            "",
            "recipe = \"2021\"\nvalid = \"v\"\nearly_stopping_patience = 3",
            "init_text = \"a \\\"quoted\\\" text\"\nseparator = \"\\n\"\ntemplate = \"Q: {prompt}\"",
            "stop_strings = [\"x\\ny\"]\nbad_words_ids = [[1, 2]]\nearly_stopping = \"never\"\nmax_length = 7",
        ] {
            let config = resolved(lines);
            fs_err::write(&path, config.to_toml(&recorded)).unwrap();
            let again = Typed::default().with_file(&path, TRAIN_TABLES).unwrap();
            assert_eq!(
                RunConfig::resolve(&again, &ModelFacts::of_family(Family::Llama)).unwrap(),
                config,
                "{lines}"
            );
        }
    }

    #[test]
    fn a_recipe_depends_on_the_family_and_gives_way_to_what_is_typed() {
        let lines = "recipe = \"2021\"\nnum_virtual_tokens = 7";
        let on = |family| RunConfig::resolve(&typed(lines), &ModelFacts::of_family(family)).unwrap();
        use preface_model::tokenizer::Separator;
        assert_eq!(on(Family::Gpt2).text.separator, Separator::Bos);
        assert_eq!(on(Family::Llama).text.separator, Separator::Blank);
        assert_eq!(on(Family::Llama).prefix.num_virtual_tokens, Some(7));
        assert_eq!(on(Family::Llama).generation.num_beams, 5);
    }

    #[test]
    fn an_init_text_brings_its_rows_unless_they_are_typed() {
        assert_eq!(resolved("").prefix.num_virtual_tokens, Some(10));
        assert_eq!(resolved("init_text = \"a b\"").prefix.num_virtual_tokens, None);
        assert_eq!(resolved("init_text = \"a b\"").prefix.init, Init::Text);
        let both = "init_text = \"a b\"\nnum_virtual_tokens = 2";
        assert_eq!(resolved(both).prefix.num_virtual_tokens, Some(2));
        for wrong in ["init = \"text\"", "init = \"zeros\"\ninit_text = \"a\"", "recipe = \"direct\""] {
            assert!(
                RunConfig::resolve(&typed(wrong), &ModelFacts::of_family(Family::Llama)).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn one_seed_serves_training_and_generation() {
        assert_eq!(resolved("seed = 9").seed, 9);
        assert_eq!(resolved("seed = 9").generation.seed, 9);
    }
}

//! The settings as data: name, kind and one line of help each.
//!
//! Flags, `--set`, configuration files, the help text and the suggestion for a misspelt name are all made from these
//! tables. Defaults stand elsewhere, once: in [`super::recipe`].

use toml::Value;

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name in configuration files and `--set`; the flag has dashes for underscores.
    pub name: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// What it does.
    pub about: &'static str,
    /// Whether `-h` shows it, or `--help` only.
    pub frequent: bool,
    /// A second name of its flag.
    pub alias: Option<&'static str>,
}

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A whole number, at least 0.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`; as a flag, alone for `true`.
    Switch,
    /// Any text.
    Text,
    /// A list of texts; as a flag, given once for each.
    Texts,
    /// A list of these words; as a flag, with commas between them.
    Words(&'static [&'static str]),
    /// A list of lists of token ids.
    TokenLists,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// Settings that belong together.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Heading in the help text and in `run.toml`.
    pub heading: &'static str,
    /// Its settings, in the order in which they are shown.
    pub settings: &'static [Setting],
}

impl Kind {
    /// A value that was typed.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        let toml = |text: &str| -> Option<Value> {
            toml::from_str::<toml::Table>(&format!("value = {text}")).ok()?.remove("value")
        };
        let value = match self {
            Self::Text | Self::Choice(_) => Value::String(text.into()),
            Self::Integer => text.parse().map_or_else(|_| Value::String(text.into()), Value::Integer),
            Self::Number => text.parse().map_or_else(|_| Value::String(text.into()), Value::Float),
            Self::Texts => match toml(text) {
                Some(list @ Value::Array(_)) => list,
                _ => Value::Array(vec![Value::String(text.into())]),
            },
            Self::Words(_) => match toml(text) {
                Some(list @ Value::Array(_)) => list,
                _ => Value::Array(text.split(',').map(|word| word.trim().into()).collect()),
            },
            Self::Switch | Self::TokenLists => toml(text).unwrap_or_else(|| Value::String(text.into())),
        };
        self.check(value)
    }

    /// The value, if it is of this kind; numbers are accepted where a text is wanted (`recipe = 2021`).
    pub fn check(self, value: Value) -> Result<Value, String> {
        let found = describe(&value);
        let wrong = || Err(format!("expected {}, found {found}", self.expected()));
        match (self, value) {
            (Self::Integer, Value::Integer(number)) if number >= 0 => Ok(Value::Integer(number)),
            (Self::Number, Value::Float(number)) if number.is_finite() => Ok(Value::Float(number)),
            (Self::Number, Value::Integer(number)) => Ok(Value::Float(number as f64)),
            (Self::Switch, Value::Boolean(on)) => Ok(Value::Boolean(on)),
            (Self::Text, Value::String(text)) => Ok(Value::String(text)),
            (Self::Text, value @ (Value::Integer(_) | Value::Float(_))) => {
                Ok(Value::String(value.to_string()))
            }
            (Self::Texts, Value::Array(list)) if list.iter().all(Value::is_str) => Ok(Value::Array(list)),
            (Self::Words(words), Value::Array(list))
                if list.iter().all(|word| word.as_str().is_some_and(|word| words.contains(&word))) =>
            {
                Ok(Value::Array(list))
            }
            (Self::TokenLists, Value::Array(lists)) if lists.iter().all(is_token_list) => {
                Ok(Value::Array(lists))
            }
            (Self::Choice(words), value) => {
                let word = match &value {
                    Value::String(word) => word.clone(),
                    Value::Integer(_) | Value::Boolean(_) => value.to_string(),
                    _ => return wrong(),
                };
                if words.contains(&word.as_str()) { Ok(Value::String(word)) } else { wrong() }
            }
            _ => wrong(),
        }
    }

    fn expected(self) -> String {
        match self {
            Self::Integer => "a whole number, at least 0".into(),
            Self::Number => "a number".into(),
            Self::Switch => "true or false".into(),
            Self::Text => "a text".into(),
            Self::Texts => "a list of texts".into(),
            Self::TokenLists => "a list of lists of token ids, such as [[198], [628, 5]]".into(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Words(words) => format!("some of {}", words.join(", ")),
        }
    }
}

fn is_token_list(list: &Value) -> bool {
    let is_token = |id: &Value| id.as_integer().is_some_and(|id| u32::try_from(id).is_ok());
    list.as_array().is_some_and(|ids| ids.iter().all(is_token))
}

fn describe(value: &Value) -> String {
    match value {
        Value::Table(_) => "a table".into(),
        other => format!("`{}`", other.to_string().trim_matches('"')),
    }
}

/// A setting that `-h` shows.
pub const fn often(name: &'static str, kind: Kind, about: &'static str) -> Setting {
    Setting { name, kind, about, frequent: true, alias: None }
}

/// A setting that only `--help` shows.
pub const fn rarely(name: &'static str, kind: Kind, about: &'static str) -> Setting {
    Setting { name, kind, about, frequent: false, alias: None }
}

/// What is run.
pub const RUN: Table = Table {
    heading: "Run",
    settings: &[
        often("model", Kind::Text, "Hugging Face folder, .gguf file or builtin:NAME"),
        often("train", Kind::Text, "Training data"),
        often("valid", Kind::Text, "Validation data: evaluation, early stopping, choice of the best"),
        often("method", Kind::Choice(super::sections::MethodName::NAMES), "What is trained"),
        often("recipe", Kind::Choice(super::recipe::NAMES), "Where all other defaults come from"),
    ],
};

/// How it is computed.
pub const COMPUTE: Table = Table {
    heading: "Computing",
    settings: &[
        often("precision", Kind::Choice(&["auto", "f32", "bf16"]), "Precision of the matrix products"),
        often("threads", Kind::Integer, "Threads (never changes a result) [default: all CPUs]"),
        rarely(
            "tier",
            Kind::Choice(&["auto", "scalar", "neon", "avx2", "avx512", "avx512bf16"]),
            "Instruction set of the kernels [default: the best there is]",
        ),
        often(
            "weights",
            Kind::Choice(&preface_model::WeightFormat::NAMES),
            "How weights are kept [default: auto, in bf16 training bf16]",
        ),
    ],
};

/// How data is read.
pub const DATA: Table = Table {
    heading: "Data",
    settings: &[
        rarely("data_format", Kind::Text, "Form of the data files [default: recognised]"),
        rarely(
            "linearisation",
            Kind::Choice(&["e2e", "webnlg", "webnlg-2021", "dart"]),
            "How structured inputs become text [default: the data's own]",
        ),
        rarely(
            "lexicalisations",
            Kind::Choice(&["good", "all"]),
            "Which of WebNLG's references are read [default: good to train, all to score]",
        ),
        often(
            "max_length",
            Kind::Integer,
            "Cut longer sequences to so many tokens [default: they are an error]",
        ),
        often(
            "max_source_tokens",
            Kind::Integer,
            "Encoder-decoders: cut longer inputs to so many tokens [default: they are an error]",
        ),
        Setting {
            alias: Some("max-samples"),
            ..often("max_eval_samples", Kind::Integer, "Evaluate on so many inputs, drawn by the seed")
        },
    ],
};

/// What only training reads of the data.
pub const TRAIN_DATA: Table = Table {
    heading: "Data",
    settings: &[often("max_train_samples", Kind::Integer, "Train on so many pairs, drawn by the seed")],
};

/// From text to tokens.
pub const TEXT: Table = Table {
    heading: "Data",
    settings: &[
        rarely("separator", Kind::Text, "Between prompt and completion: blank, none, bos, or a text"),
        rarely("template", Kind::Text, "Around the prompt, such as \"Facts: {prompt}\""),
    ],
};

/// The prefix.
pub const PREFIX: Table = Table {
    heading: "Prefix",
    settings: &[
        often("num_virtual_tokens", Kind::Integer, "Rows of the prefix or soft prompt"),
        rarely("prefix_projection", Kind::Switch, "Train through an MLP that is dropped afterwards"),
        rarely("encoder_hidden_size", Kind::Integer, "Width of that MLP"),
        often("init", Kind::Choice(&["random", "zeros", "text"]), "Where the rows start"),
        often("init_text", Kind::Text, "Text that they start from; implies init = text"),
        rarely(
            "mlp_text_init",
            Kind::Choice(&["exact", "fit"]),
            "How an MLP starts from a text: added to it, or fitted as in the paper",
        ),
        rarely("num_frozen_tokens", Kind::Integer, "First rows that stay as they start"),
        rarely("prefix_dropout", Kind::Number, "Dropout on the prefix rows"),
    ],
};

/// The prefix of an encoder-decoder.
pub const PLACES: Table = Table {
    heading: "Prefix of an encoder-decoder",
    settings: &[
        rarely(
            "places",
            Kind::Words(&["encoder", "decoder", "cross"]),
            "Where there are rows: encoder, decoder, cross (the decoder's attention to the encoder) [default: all]",
        ),
        rarely(
            "num_virtual_tokens_encoder",
            Kind::Integer,
            "Rows in the encoder [default: num_virtual_tokens]",
        ),
        rarely(
            "num_virtual_tokens_decoder",
            Kind::Integer,
            "Rows in the decoder [default: num_virtual_tokens]",
        ),
        rarely(
            "num_virtual_tokens_cross",
            Kind::Integer,
            "Rows in cross-attention [default: num_virtual_tokens]",
        ),
        rarely(
            "decoder_positions",
            Kind::Choice(&["after_prefix", "from_zero"]),
            "Where the decoder's text starts [default: after_prefix; recipe 2021: from_zero]",
        ),
        rarely(
            "init_text_decoder",
            Kind::Text,
            "Text that the decoder's rows start from, where it is another than init_text",
        ),
    ],
};

/// The methods without rows.
pub const METHOD: Table = Table {
    heading: "Other methods",
    settings: &[
        rarely(
            "trainable_share",
            Kind::Number,
            "adapter: share of the model's parameters; decides the width",
        ),
        rarely("r", Kind::Integer, "lora: rank"),
        rarely("lora_alpha", Kind::Number, "lora: factor on a delta, over the rank"),
        rarely("lora_dropout", Kind::Number, "lora: dropout on a delta's input"),
        rarely(
            "target_modules",
            Kind::Texts,
            "lora: modules by their names in transformers [default: as PEFT: q_proj and v_proj, or c_attn]",
        ),
        rarely(
            "top_layers",
            Kind::Integer,
            "top-layers: blocks from the top that are trained, with the final norm",
        ),
        rarely(
            "from_scratch",
            Kind::Switch,
            "fine-tune: start from random weights; the model is a folder with config.json and a tokenizer",
        ),
    ],
};

/// The training loop.
pub const TRAINING: Table = Table {
    heading: "Training",
    settings: &[
        often("learning_rate", Kind::Number, "Highest learning rate"),
        often("num_train_epochs", Kind::Number, "Passes over the training data"),
        often("max_steps", Kind::Integer, "Optimizer steps, instead of epochs"),
        often("per_device_train_batch_size", Kind::Integer, "Pairs of a step"),
        rarely(
            "batch_by",
            Kind::Choice(&["pair", "prompt"]),
            "Draw single pairs, or whole prompts until the step has its pairs",
        ),
        rarely("gradient_accumulation_steps", Kind::Integer, "Factor on the pairs of a step"),
        rarely("lr_scheduler_type", Kind::Choice(&["linear", "cosine", "constant"]), "How the rate falls"),
        rarely("warmup_steps", Kind::Integer, "Steps in which the rate rises"),
        rarely("weight_decay", Kind::Number, "Decay of AdamW"),
        rarely("adam_beta1", Kind::Number, "Decay of the first moment"),
        rarely("adam_beta2", Kind::Number, "Decay of the second moment"),
        rarely("adam_epsilon", Kind::Number, "Added to the root of the second moment"),
        rarely("max_grad_norm", Kind::Number, "Larger gradients are scaled down to this norm; 0 is off"),
        rarely(
            "loss_norm",
            Kind::Choice(&["per-token", "per-sequence"]),
            "What the summed loss of a step is divided by",
        ),
        rarely("label_smoothing_factor", Kind::Number, "Share of a target spread over the vocabulary"),
        rarely(
            "recompute",
            Kind::Switch,
            "Keep less of the forward and compute it again: slower, same result",
        ),
        rarely(
            "max_tokens_per_batch",
            Kind::Integer,
            "Tokens run at once (never changes the step) [default: 4096, or the longest pair]",
        ),
        rarely("logging_steps", Kind::Integer, "Steps between logged ones"),
        rarely("eval_steps", Kind::Integer, "Steps between evaluations; 0 is never [default: an epoch]"),
        rarely("save_steps", Kind::Integer, "Steps between checkpoints; 0 is never"),
        rarely("save_total_limit", Kind::Integer, "Newest checkpoints that are kept; 0 is all"),
        rarely(
            "metric_for_best_model",
            Kind::Text,
            "eval_loss, or a metric of generated answers (bleu, rougeL, ...)",
        ),
        rarely("eval_generate_samples", Kind::Integer, "Inputs that such a metric is measured on"),
        rarely(
            "early_stopping_patience",
            Kind::Integer,
            "Stop after so many evaluations without gain; 0 is off",
        ),
        rarely(
            "load_best_model_at_end",
            Kind::Switch,
            "Keep the prefix of the best evaluation, not the last",
        ),
    ],
};

/// Generation, under Hugging Face's names.
pub const GENERATION: Table = Table {
    heading: "Generation",
    settings: &[
        often("max_new_tokens", Kind::Integer, "Tokens after which an answer ends"),
        often("min_new_tokens", Kind::Integer, "Tokens before which it does not end"),
        often("num_beams", Kind::Integer, "Hypotheses followed side by side; 1 is off"),
        rarely("length_penalty", Kind::Number, "Power of the length that a beam's score is divided by"),
        rarely("length_norm", Kind::Choice(&["generated", "total"]), "Which length that is"),
        rarely("early_stopping", Kind::Choice(&["false", "true", "never"]), "When beams stop"),
        often("do_sample", Kind::Switch, "Draw tokens at random"),
        often("temperature", Kind::Number, "Below 1 bolder, above 1 more random"),
        often("top_k", Kind::Integer, "Draw among so many best tokens; 0 is off"),
        often("top_p", Kind::Number, "Draw among the best with this probability together; 1 is off"),
        rarely("min_p", Kind::Number, "Draw among those with this share of the best one's probability"),
        rarely("repetition_penalty", Kind::Number, "Divides the scores of tokens that came before; 1 is off"),
        rarely("no_repeat_ngram_size", Kind::Integer, "No sequence of so many tokens twice; 0 is off"),
        rarely("stop_strings", Kind::Texts, "Texts that end an answer"),
        rarely("bad_words", Kind::Texts, "Texts that must not come"),
        rarely("bad_words_ids", Kind::TokenLists, "The same as token ids"),
        rarely("forced_bos_token_id", Kind::Integer, "First token of every answer (mBART-50's language)"),
        rarely("forced_eos_token_id", Kind::Integer, "Token at max_new_tokens"),
        rarely("renormalize_logits", Kind::Switch, "Make scores probabilities again after all rules"),
    ],
};

/// What chance there is.
pub const CHANCE: Table =
    Table { heading: "Run", settings: &[often("seed", Kind::Integer, "Seed of everything random")] };

/// The setting with this name.
pub fn find(tables: &[Table], name: &str) -> Option<Setting> {
    tables.iter().flat_map(|table| table.settings).find(|setting| setting.name == name).copied()
}

/// Why a name is unknown, with the nearest known one.
pub fn unknown(tables: &[Table], name: &str) -> String {
    let names = tables.iter().flat_map(|table| table.settings).map(|setting| setting.name);
    match super::nearest(&name.replace('-', "_"), names) {
        Some(nearest) => format!("unknown setting `{name}`; did you mean `{nearest}`?"),
        None => format!("unknown setting `{name}`; `--help` lists all"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AnswerConfig, TRAIN_TABLES, defaults};

    #[test]
    fn every_default_belongs_to_a_setting_and_no_name_stands_twice() {
        for tables in [TRAIN_TABLES, AnswerConfig::TABLES] {
            let mut names: Vec<&str> =
                tables.iter().flat_map(|table| table.settings).map(|setting| setting.name).collect();
            names.sort_unstable();
            let n = names.len();
            names.dedup();
            assert_eq!(names.len(), n);
        }
        for (name, value) in defaults() {
            let setting = find(TRAIN_TABLES, &name).unwrap_or_else(|| panic!("`{name}` is no setting"));
            assert!(setting.kind.check(value.clone()).is_ok(), "{name} = {value}");
        }
    }

    #[test]
    fn values_are_read_as_their_kind() {
        let read = |kind: Kind, text: &str| kind.parse(text);
        assert_eq!(read(Kind::Integer, "12"), Ok(Value::Integer(12)));
        assert_eq!(read(Kind::Number, "5e-3"), Ok(Value::Float(5e-3)));
        assert_eq!(read(Kind::Number, "1"), Ok(Value::Float(1.0)));
        assert_eq!(read(Kind::Text, "12"), Ok(Value::String("12".into())));
        assert_eq!(read(Kind::Switch, "true"), Ok(Value::Boolean(true)));
        let texts = Value::Array(vec!["a".into(), "b".into()]);
        assert_eq!(read(Kind::Texts, "[\"a\", \"b\"]"), Ok(texts));
        assert_eq!(read(Kind::Texts, "[a"), Ok(Value::Array(vec!["[a".into()])));
        let places = Kind::Words(&["encoder", "decoder"]);
        let both = Value::Array(vec!["encoder".into(), "decoder".into()]);
        assert_eq!(read(places, "encoder, decoder"), Ok(both.clone()));
        assert_eq!(read(places, "[\"encoder\", \"decoder\"]"), Ok(both));
        assert!(read(places, "encoder,dekoder").unwrap_err().contains("some of encoder, decoder"));
        assert!(read(Kind::TokenLists, "[[1, 2], [3]]").is_ok());
        for (kind, text) in [
            (Kind::Integer, "-1"),
            (Kind::Integer, "1.5"),
            (Kind::Number, "nan"),
            (Kind::Number, "inf"),
            (Kind::Switch, "yes"),
            (Kind::TokenLists, "[[-1]]"),
            (Kind::TokenLists, "[1]"),
            (Kind::Choice(&["a"]), "b"),
        ] {
            assert!(read(kind, text).unwrap_err().contains(text), "{kind:?} {text}");
        }
        // A number in a file where a text is meant.
        assert_eq!(Kind::Choice(&["2021"]).check(Value::Integer(2021)), Ok(Value::String("2021".into())));
    }
}

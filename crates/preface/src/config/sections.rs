//! The sections of a resolved configuration: what every setting is in the end. Nothing is optional here that has a
//! default; what is `Option` says in its comment what its absence means.

use preface_data::sampler::BatchBy;
use preface_data::{Form, Lexicalisations, Linearisation};
use preface_model::PrefixPlace;
use preface_train::{LossNorm, Schedule};
use preface_tune::DecoderPositions;
use preface_tune::init::{Init, MlpTextInit};
use serde::{Deserialize, Serialize};

/// What is run. See [`super::setting::RUN`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Folder, file or `builtin:` name.
    pub model: String,
    /// Training data.
    pub train: String,
    /// Validation data, if there is any.
    pub valid: Option<String>,
    /// What is trained.
    pub method: MethodName,
    /// Where the other defaults came from.
    pub recipe: String,
}

/// The methods that there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MethodName {
    /// Rows of keys and values.
    #[default]
    Prefix,
    /// Rows between prompt and completion.
    Infix,
    /// Rows in the place of embeddings.
    PromptTuning,
    /// Bottlenecks behind the blocks.
    Adapter,
    /// Low-rank deltas.
    Lora,
    /// All weights.
    FineTune,
    /// The weights of the top blocks.
    TopLayers,
}

impl MethodName {
    /// The words for them in settings.
    pub const NAMES: &[&str] =
        &["prefix", "infix", "prompt-tuning", "adapter", "lora", "fine-tune", "top-layers"];

    /// Whether it trains rows among those of the text.
    pub fn has_rows(self) -> bool {
        matches!(self, Self::Prefix | Self::Infix | Self::PromptTuning)
    }

    /// Whether a setting of [`super::setting::PREFIX`] or [`super::setting::METHOD`] is one of its own.
    pub fn has_setting(self, name: &str) -> bool {
        const OF_PREFIX: [&str; 3] = ["mlp_text_init", "num_frozen_tokens", "prefix_dropout"];
        let of_rows = super::setting::PREFIX.settings.iter().any(|setting| setting.name == name);
        match of_rows {
            true => self == Self::Prefix || self.has_rows() && !OF_PREFIX.contains(&name),
            false => self.settings().contains(&name),
        }
    }

    /// Settings of [`super::setting::METHOD`] that it has.
    fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Prefix | Self::Infix | Self::PromptTuning => &[],
            Self::FineTune => &["from_scratch"],
            Self::Adapter => &["trainable_share"],
            Self::Lora => &["r", "lora_alpha", "lora_dropout", "target_modules"],
            Self::TopLayers => &["top_layers"],
        }
    }
}

/// Settings of the methods that have no rows. See [`super::setting::METHOD`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// Share of the model's parameters that adapters have.
    pub trainable_share: f64,
    /// Rank.
    pub r: usize,
    /// Factor on a delta, over the rank.
    pub lora_alpha: f64,
    /// Probability.
    pub lora_dropout: f64,
    /// The family's own if absent.
    pub target_modules: Option<Vec<String>>,
    /// Blocks from the top.
    pub top_layers: usize,
    /// Whether the weights start random, as those of a new model.
    pub from_scratch: bool,
}

/// How it is computed. See [`super::setting::COMPUTE`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compute {
    /// `auto`, `f32` or `bf16`.
    pub precision: String,
    /// Threads; all CPUs if absent.
    pub threads: Option<usize>,
    /// `auto` or a tier's name.
    pub tier: String,
    /// A name of [`preface_model::WeightFormat`]; what suits the command if absent.
    pub weights: Option<String>,
}

/// How data is read. See [`super::setting::DATA`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// Recognised from the file if absent.
    pub data_format: Option<Form>,
    /// The form's own if absent.
    pub linearisation: Option<Linearisation>,
    /// `good` to train and `all` to score if absent.
    pub lexicalisations: Option<Lexicalisations>,
    /// Without it a sequence longer than the model's positions is an error.
    pub max_length: Option<usize>,
    /// Without it a source longer than the encoder's positions is an error.
    pub max_source_tokens: Option<usize>,
    /// All if absent.
    pub max_eval_samples: Option<usize>,
}

/// See [`super::setting::TRAIN_DATA`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainData {
    /// All if absent.
    pub max_train_samples: Option<usize>,
}

/// The prefix. See [`super::setting::PREFIX`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prefix {
    /// As many rows as the init text has tokens if absent.
    pub num_virtual_tokens: Option<usize>,
    /// Whether there is an MLP.
    pub prefix_projection: bool,
    /// Its width.
    pub encoder_hidden_size: usize,
    /// Where the rows start.
    pub init: Init,
    /// Present exactly if `init` is `text`.
    pub init_text: Option<String>,
    /// How an MLP starts from a text.
    pub mlp_text_init: MlpTextInit,
    /// First rows that are not trained.
    pub num_frozen_tokens: usize,
    /// Probability.
    pub prefix_dropout: f64,
}

/// The prefix of an encoder-decoder; everything is absent for a decoder-only model. See [`super::setting::PLACES`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// Where there are rows.
    pub places: Option<Vec<PrefixPlace>>,
    /// `num_virtual_tokens` if absent.
    pub num_virtual_tokens_encoder: Option<usize>,
    /// The same.
    pub num_virtual_tokens_decoder: Option<usize>,
    /// The same.
    pub num_virtual_tokens_cross: Option<usize>,
    /// Where the decoder's text starts.
    pub decoder_positions: Option<DecoderPositions>,
    /// `init_text` if absent.
    pub init_text_decoder: Option<String>,
}

/// The loop. See [`super::setting::TRAINING`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    pub learning_rate: f64,
    pub num_train_epochs: f64,
    /// If absent, as many as the epochs have.
    pub max_steps: Option<u64>,
    pub per_device_train_batch_size: usize,
    pub batch_by: BatchBy,
    pub gradient_accumulation_steps: usize,
    pub lr_scheduler_type: Schedule,
    pub warmup_steps: u64,
    pub weight_decay: f64,
    pub adam_beta1: f64,
    pub adam_beta2: f64,
    pub adam_epsilon: f64,
    pub max_grad_norm: f64,
    pub loss_norm: LossNorm,
    pub label_smoothing_factor: f64,
    pub recompute: bool,
    /// If absent, 4096 or what the longest pair needs.
    pub max_tokens_per_batch: Option<usize>,
    pub logging_steps: u64,
    /// If absent, those of an epoch.
    pub eval_steps: Option<u64>,
    pub save_steps: u64,
    pub save_total_limit: usize,
    pub metric_for_best_model: String,
    pub eval_generate_samples: usize,
    pub early_stopping_patience: u64,
    pub load_best_model_at_end: bool,
}

impl Default for Compute {
    fn default() -> Self {
        Self { precision: "auto".into(), threads: None, tier: "auto".into(), weights: None }
    }
}

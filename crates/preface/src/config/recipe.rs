//! The recipes: where every default comes from.
//!
//! - `default`: the MLP form with today's training, the best of our measured runs.
//! - `2021`: Li and Liang's settings for table-to-text (learning rate 5e-5 on the summed loss, no warm-up, beam 5). On
//!   GPT-2 its separator is the BOS token, and WebNLG is written with the blank ahead of the first bar. On an
//!   encoder-decoder, generation is theirs for XSum: beam 6, length penalty 0.8, 10 to 61 tokens.
//! - `direct`: rows trained directly from the model's own keys and values of a text (the task's description), the first
//!   one kept as attention sink.

use preface_data::sampler::BatchBy;
use preface_generate::{GenerationSettings, LengthNorm};
use preface_model::tokenizer::Separator;
use preface_model::{Family, PrefixPlace};
use preface_train::{EVAL_LOSS, LossNorm, Schedule};
use preface_tune::DecoderPositions;
use preface_tune::init::{Init, MlpTextInit};

use super::sections::{Method, MethodName, Places, Prefix, Training};

/// All recipes.
pub const NAMES: &[&str] = &["default", "2021", "direct"];

/// The defaults that depend on the recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Of the prefix.
    pub prefix: Prefix,
    /// Of the prefix of an encoder-decoder.
    pub places: Places,
    /// Of the methods without rows.
    pub method: Method,
    /// Of the loop.
    pub training: Training,
    /// Of generation.
    pub generation: GenerationSettings,
    /// Between prompt and completion.
    pub separator: Separator,
    /// Whether WebNLG's inputs begin with a blank.
    pub leading_blank: bool,
}

/// The recipe of this name on a model of this family.
///
/// # Panics
/// If there is none; names are checked where they are typed.
pub fn recipe(name: &str, family: Family) -> Recipe {
    let mut recipe = default();
    if family.has_encoder() {
        recipe.separator = Separator::None;
        recipe.places.places = Some(PrefixPlace::ALL.into());
        recipe.places.decoder_positions = Some(DecoderPositions::AfterPrefix);
    }
    match name {
        "default" => {}
        "2021" => {
            recipe.prefix.num_virtual_tokens = Some(5);
            recipe.training.learning_rate = 5e-5;
            recipe.training.num_train_epochs = 5.0;
            recipe.training.per_device_train_batch_size = 5;
            recipe.training.warmup_steps = 0;
            recipe.training.loss_norm = LossNorm::PerSequence;
            recipe.generation.num_beams = 5;
            recipe.generation.length_norm = LengthNorm::Total;
            recipe.leading_blank = true;
            if family.has_encoder() {
                recipe.generation.num_beams = 6;
                recipe.generation.length_penalty = 0.8;
                // Their lengths of 11 and 62 count the start token.
                recipe.generation.min_new_tokens = 10;
                recipe.generation.max_new_tokens = 61;
            } else {
                // The authors ban tokens 628 and 198, which GPT-2 writes them with.
                recipe.generation.bad_words = vec!["\n\n".into(), "\n".into()];
            }
            if family == Family::Gpt2 {
                recipe.separator = Separator::Bos;
            }
            if family.has_encoder() {
                // Their runs on XSum (tables 6 and A.2), with the loss of their BART code.
                recipe.prefix.num_virtual_tokens = Some(100);
                recipe.prefix.encoder_hidden_size = 800;
                recipe.training.num_train_epochs = 30.0;
                recipe.training.per_device_train_batch_size = 14;
                recipe.training.loss_norm = LossNorm::PerToken;
                recipe.places.decoder_positions = Some(DecoderPositions::FromZero);
            }
        }
        "direct" => {
            recipe.prefix.num_virtual_tokens = None;
            recipe.prefix.prefix_projection = false;
            recipe.prefix.init = Init::Text;
            recipe.prefix.num_frozen_tokens = 1;
            recipe.training.learning_rate = 2e-2;
        }
        other => unreachable!("recipe {other} was checked when it was typed"),
    }
    recipe
}

impl Recipe {
    /// The defaults that another method than prefix tuning has: its usual learning rate, and the loss of the paper's
    /// baselines, which is the token mean.
    #[must_use]
    pub fn of_method(mut self, method: MethodName) -> Self {
        if method == MethodName::Prefix {
            return self;
        }
        self.prefix.num_frozen_tokens = 0;
        // An infix is the prefix's rows in another place.
        if method == MethodName::Infix {
            return self;
        }
        let is_2021 = self.training.loss_norm == LossNorm::PerSequence;
        self.training.loss_norm = LossNorm::PerToken;
        self.training.learning_rate = match method {
            MethodName::Prefix | MethodName::Infix | MethodName::PromptTuning => 1e-2,
            MethodName::Adapter if is_2021 => 8e-5,
            MethodName::Adapter => 1e-3,
            MethodName::Lora => 2e-4,
            MethodName::FineTune | MethodName::TopLayers => 5e-5,
        };
        self.prefix.prefix_projection = false;
        self
    }

    /// The defaults of a model that starts from random weights.
    #[must_use]
    pub fn of_new_model(mut self) -> Self {
        self.training.learning_rate = 1e-3;
        self
    }
}

fn default() -> Recipe {
    Recipe {
        method: Method {
            trainable_share: 0.03,
            r: 8,
            lora_alpha: 16.0,
            lora_dropout: 0.0,
            target_modules: None,
            top_layers: 2,
            from_scratch: false,
        },
        places: Places::default(),
        prefix: Prefix {
            num_virtual_tokens: Some(10),
            prefix_projection: true,
            encoder_hidden_size: 512,
            init: Init::Random,
            init_text: None,
            mlp_text_init: MlpTextInit::Exact,
            num_frozen_tokens: 0,
            prefix_dropout: 0.0,
        },
        training: Training {
            learning_rate: 1e-3,
            num_train_epochs: 1.0,
            max_steps: None,
            per_device_train_batch_size: 8,
            batch_by: BatchBy::Pair,
            gradient_accumulation_steps: 1,
            lr_scheduler_type: Schedule::Linear,
            warmup_steps: 20,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: 1.0,
            loss_norm: LossNorm::PerToken,
            label_smoothing_factor: 0.0,
            recompute: false,
            max_tokens_per_batch: None,
            logging_steps: 1,
            eval_steps: None,
            save_steps: 500,
            save_total_limit: 1,
            metric_for_best_model: EVAL_LOSS.into(),
            eval_generate_samples: 200,
            early_stopping_patience: 0,
            load_best_model_at_end: true,
        },
        generation: GenerationSettings::default(),
        separator: Separator::Blank,
        leading_blank: false,
    }
}

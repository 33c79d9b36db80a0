//! From settings to a method: one arm for each.

use anyhow::{Result, bail};
use preface_backend::{Backend, Reference};
use preface_model::{Model, ModelDropout};
use preface_tune::artefact::ModelFolder;
use preface_tune::init::{Init, InitTextError, text_rows};
use preface_tune::{
    Adapter, FineTune, Infix, Lora, LoraSettings, Method, Prefix, PromptTuning, Reparametrisation, Tuned,
};

use super::Job;
use crate::config::sections::MethodName;

/// What a method's vector is to hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// Its start.
    Loaded,
    /// Nothing, where it is as long as the model: for planning.
    Planned,
}

impl Job {
    /// The method at its start.
    ///
    /// # Errors
    /// Settings that do not fit the model.
    pub(super) fn method<B: Backend>(
        &self,
        model: &Model<B>,
        numbers: Numbers,
    ) -> Result<Box<dyn Method<B>>> {
        let (spec, seed, settings) = (model.spec(), self.config.seed, &self.config.method);
        Ok(match self.config.run.method {
            MethodName::Prefix => self.prefix(model)?,
            MethodName::Infix => Box::new(self.infix(model)?),
            MethodName::PromptTuning => Box::new(self.prompt_tuning(model)?),
            MethodName::Adapter => {
                let width = Adapter::width_of_share(spec, settings.trainable_share, n_parameter(model))?;
                Box::new(Adapter::new(spec, width, self.dropout()?, seed))
            }
            MethodName::Lora => Box::new(Lora::new(spec, self.lora_settings(), seed)?),
            MethodName::FineTune => self.weights(model, Tuned::All, numbers)?,
            MethodName::TopLayers => self.weights(model, Tuned::Top(settings.top_layers), numbers)?,
        })
    }

    fn prefix<B: Backend>(&self, model: &Model<B>) -> Result<Box<dyn Method<B>>> {
        let prefix = &self.config.prefix;
        let (spec, seed, frozen) = (model.spec(), self.config.seed, prefix.num_frozen_tokens);
        let reparametrisation = match prefix.prefix_projection {
            true => {
                Reparametrisation::Mlp { mid: prefix.encoder_hidden_size, text_init: prefix.mlp_text_init }
            }
            false => Reparametrisation::Direct,
        };
        if let Some(placed) = &self.placed {
            return Ok(Box::new(placed.prefix(&self.config, model, reparametrisation)?));
        }
        Ok(Box::new(match prefix.init {
            Init::Text => {
                let rows = text_rows(model, &self.init_tokens, prefix.num_virtual_tokens)?;
                Prefix::from_rows(spec, rows, reparametrisation, frozen, seed)?
            }
            init => Prefix::new(spec, self.n_row, reparametrisation, init, frozen, seed)?,
        }))
    }

    fn prompt_tuning<B: Backend>(&self, model: &Model<B>) -> Result<PromptTuning> {
        let (prefix, spec, seed) = (&self.config.prefix, model.spec(), self.config.seed);
        Ok(match self.init_embeddings(model)? {
            None => PromptTuning::new(spec, self.n_row, self.mid(), prefix.init, seed),
            Some(rows) => PromptTuning::from_rows(spec, rows, self.mid(), seed),
        })
    }

    fn infix<B: Backend>(&self, model: &Model<B>) -> Result<Infix> {
        let (prefix, spec, seed) = (&self.config.prefix, model.spec(), self.config.seed);
        Ok(match self.init_embeddings(model)? {
            None => Infix::new(spec, self.n_row, self.mid(), prefix.init, seed),
            Some(rows) => Infix::from_embeddings(spec, rows, self.mid(), seed),
        })
    }

    /// Width of the MLP, if there is one.
    fn mid(&self) -> Option<usize> {
        let prefix = &self.config.prefix;
        prefix.prefix_projection.then_some(prefix.encoder_hidden_size)
    }

    /// Embeddings of the text that rows start from, if they start from one.
    fn init_embeddings<B: Backend>(&self, model: &Model<B>) -> Result<Option<Vec<f32>>> {
        if self.config.prefix.init != Init::Text {
            return Ok(None);
        }
        let (n_token, prefix_len) = (self.init_tokens.len(), self.n_row);
        if n_token == 0 {
            return Err(InitTextError::Empty.into());
        }
        if n_token < prefix_len {
            return Err(InitTextError::TooShort { n_token, prefix_len }.into());
        }
        Ok(Some(PromptTuning::embeddings_of(model, &self.init_tokens[..prefix_len])))
    }

    fn lora_settings(&self) -> LoraSettings {
        let settings = &self.config.method;
        let targets = settings.target_modules.clone();
        LoraSettings {
            r: settings.r,
            lora_alpha: settings.lora_alpha,
            lora_dropout: settings.lora_dropout,
            target_modules: targets.unwrap_or_else(|| Lora::default_targets(self.source.files.spec())),
        }
    }

    /// Masters are read from the files: the model that is trained may hold them rounded.
    fn weights<B: Backend>(
        &self,
        model: &Model<B>,
        tuned: Tuned,
        numbers: Numbers,
    ) -> Result<Box<dyn Method<B>>> {
        let dropout = self.dropout()?;
        if tuned == Tuned::All && self.source.files.folder_files()?.is_none() {
            bail!(
                "{}: a fine-tuned model is saved as a Hugging Face folder, and a GGUF file lacks what that needs; name the \
                 folder that the file was made from",
                self.source.name
            );
        }
        Ok(Box::new(match numbers {
            Numbers::Planned => FineTune::outline(model, tuned, dropout)?,
            Numbers::Loaded => FineTune::new(&self.source.files.load(Reference)?, tuned, dropout)?,
        }))
    }

    /// The model's own dropout, which the baselines train with.
    fn dropout(&self) -> Result<ModelDropout> {
        Ok(self.source.files.dropout()?)
    }

    /// What a fine-tuned model needs beside its weights.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn model_folder(&self) -> Result<Option<ModelFolder>> {
        if self.config.run.method != MethodName::FineTune {
            return Ok(None);
        }
        let Some((config, others)) = self.source.files.folder_files()? else { return Ok(None) };
        Ok(Some(ModelFolder { config, others, constants: self.source.files.constant_tensors()? }))
    }

    /// The method with what decides its size.
    pub(super) fn method_in_words(&self) -> String {
        let (prefix, settings, spec) = (&self.config.prefix, &self.config.method, self.source.files.spec());
        let start = match prefix.init {
            Init::Random => "random start",
            Init::Zeros => "start at zero",
            Init::Text => "start from a text",
        };
        let form = match prefix.prefix_projection {
            true => format!("through an MLP of width {}", prefix.encoder_hidden_size),
            false => "trained directly".into(),
        };
        let len = self.n_row;
        let rows = match &self.placed {
            Some(placed) => format!("{},", placed.in_words()),
            None => format!("{len} rows"),
        };
        match self.config.run.method {
            MethodName::Prefix => format!("prefix of {rows} {form}, {start}"),
            MethodName::Infix => {
                let place = match spec.encoder {
                    Some(_) => "behind what the encoder reads",
                    None => "between prompt and completion",
                };
                format!("infix of {len} rows {place} {form}, {start}")
            }
            MethodName::PromptTuning => {
                let place = if spec.encoder.is_some() { "ahead of what the encoder reads " } else { "" };
                format!("soft prompt of {len} rows {place}{form}, {start}")
            }
            MethodName::Adapter => {
                let n_model = self.n_model_parameter();
                let width = Adapter::width_of_share(spec, settings.trainable_share, n_model).unwrap_or(0);
                let share = 100.0 * Adapter::n_parameter(spec, width) as f64 / n_model as f64;
                format!("adapters of width {width} ({share:.2} % of the model)")
            }
            MethodName::Lora => {
                let LoraSettings { r, lora_alpha, target_modules, .. } = self.lora_settings();
                format!("LoRA of rank {r}, alpha {lora_alpha}, on {}", target_modules.join(", "))
            }
            MethodName::FineTune if settings.from_scratch => "all weights, from a random start".into(),
            MethodName::FineTune => "fine-tuning of all weights".into(),
            MethodName::TopLayers => {
                format!("fine-tuning of the top {} blocks and the final norm", settings.top_layers)
            }
        }
    }

    fn n_model_parameter(&self) -> usize {
        let has_bias = self.source.files.spec().norm == preface_backend::NormKind::Layer;
        self.source.files.spec().n_parameter(has_bias)
    }
}

fn n_parameter<B: Backend>(model: &Model<B>) -> usize {
    model.parameter_shapes().iter().map(preface_model::ParameterShape::n_parameter).sum()
}

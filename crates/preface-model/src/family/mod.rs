//! What differs between families: how a config is read and what the tensors are called.
//!
//! A family is one small file with two functions, [`spec`] and [`names`]; the layers are shared by all.

mod bart;
mod config;
mod gpt2;
mod initial;
mod llama;
mod t5;

pub(crate) use config::{Config, Key};
pub(crate) use initial::tensors as initial_tensors;

use crate::load::LoadError;
use crate::weights::TensorSource;
use crate::{Family, ModelDropout, ModelSpec};

/// What a model type is called in a config.json (`model_type`) and in a GGUF (`general.architecture`).
const KNOWN: [(&str, Family); 7] = [
    ("llama", Family::Llama),
    ("gpt2", Family::Gpt2),
    ("bart", Family::Bart),
    ("mbart", Family::MBart),
    ("pegasus", Family::Pegasus),
    ("marian", Family::Marian),
    ("t5", Family::T5),
];

/// The way a source names its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    HuggingFace,
    Gguf,
}

/// Names of the tensors outside the blocks. All names are without the ending `.weight` or `.bias`.
pub(crate) struct Names {
    /// Any of these: an encoder-decoder may name its one table after either side.
    pub embedding: &'static [&'static str],
    pub head: &'static str,
    /// `[1, vocab_size]`, in files that have it; the whole name.
    pub head_bias: Option<&'static str>,
    /// A tensor name in front of which some files have this word, others nothing.
    pub optional_prefix: &'static str,
    pub decoder: StackNames,
    pub encoder: Option<StackNames>,
    /// Linear weights are stored `[n_in, n_out]`.
    pub transposed: bool,
    /// Rotary pairs are stored side by side (`2i`, `2i + 1`), not half a head apart.
    pub interleaved_rotary: bool,
}

impl Names {
    /// The name as a file has it: some files leave out the first word of all names.
    pub fn resolve(&self, weights: &dyn TensorSource, name: &str) -> String {
        let short = name.strip_prefix(self.optional_prefix).unwrap_or(name);
        let is_short = weights.info(name).is_none() && weights.info(short).is_some();
        if is_short { short.into() } else { name.into() }
    }
}

/// Names of a stack's tensors.
#[derive(Clone, Copy)]
pub(crate) struct StackNames {
    pub position_embedding: Option<&'static str>,
    pub embedding_norm: Option<&'static str>,
    /// `[n_bucket, n_head]`
    pub relative_bias: Option<&'static str>,
    pub final_norm: &'static str,
    /// Names inside block number `n`.
    pub layer: fn(n: usize) -> LayerNames,
}

impl StackNames {
    /// What most stacks have not.
    const PLAIN: Self = Self {
        position_embedding: None,
        embedding_norm: None,
        relative_bias: None,
        final_norm: "",
        layer: |_| unreachable!("every family names its layers"),
    };
}

/// Names of a block's tensors. Several names are parts stacked along the output features.
pub(crate) struct LayerNames {
    pub attention_norm: String,
    pub qkv: Vec<String>,
    pub attention_output: String,
    pub feed_forward_norm: String,
    pub up: Vec<String>,
    pub down: String,
    pub cross: Option<CrossNames>,
}

/// Names of the tensors of a block's cross-attention.
pub(crate) struct CrossNames {
    pub norm: String,
    pub query: String,
    /// Keys, then values.
    pub keys: [String; 2],
    pub output: String,
}

/// Reads the spec of whatever family the config names.
pub(crate) fn spec(config: &Config<'_>) -> Result<ModelSpec, LoadError> {
    match family(config)? {
        Family::Llama => llama::spec(config),
        Family::Gpt2 => gpt2::spec(config),
        family @ (Family::Bart | Family::MBart | Family::Pegasus | Family::Marian) => {
            bart::spec(config, family)
        }
        Family::T5 => t5::spec(config),
    }
}

/// The tensor names of a model in one of the namings.
pub(crate) fn names(spec: &ModelSpec, naming: Naming) -> Names {
    match spec.family {
        Family::Llama => llama::names(naming),
        Family::Gpt2 => gpt2::names(naming),
        Family::Bart | Family::MBart | Family::Pegasus | Family::Marian => bart::names(spec),
        Family::T5 => t5::names(spec),
    }
}

/// The dropout that a family's config names, with the defaults of `transformers`.
pub(crate) fn dropout(family: Family, config: &serde_json::Value) -> ModelDropout {
    let probability = |key: &str, default: f64| config[key].as_f64().unwrap_or(default) as f32;
    match family {
        Family::Gpt2 => ModelDropout {
            embedding: probability("embd_pdrop", 0.1),
            residual: probability("resid_pdrop", 0.1),
            attention: probability("attn_pdrop", 0.1),
            ..ModelDropout::default()
        },
        Family::Llama => {
            ModelDropout { attention: probability("attention_dropout", 0.0), ..ModelDropout::default() }
        }
        Family::Bart | Family::MBart | Family::Pegasus | Family::Marian => {
            let dropout = probability("dropout", 0.1);
            ModelDropout {
                embedding: dropout,
                residual: dropout,
                attention: probability("attention_dropout", 0.0),
                activation: probability("activation_dropout", 0.0),
                output: 0.0,
            }
        }
        Family::T5 => {
            let dropout = probability("dropout_rate", 0.1);
            ModelDropout {
                embedding: dropout,
                residual: dropout,
                attention: dropout,
                activation: dropout,
                output: dropout,
            }
        }
    }
}

fn family(config: &Config<'_>) -> Result<Family, LoadError> {
    let key = Key { hugging_face: "model_type", gguf: "general.architecture" };
    let name = config.text(key)?;
    match KNOWN.iter().find(|(known, _)| *known == name) {
        Some((_, family)) => Ok(*family),
        None => Err(LoadError::UnknownArchitecture {
            path: config.path().into(),
            got: name,
            known: KNOWN.map(|(known, _)| known).join(", "),
        }),
    }
}

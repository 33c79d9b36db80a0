//! `adapter_config.json`, as PEFT writes and reads it for prefix tuning.
//!
//! PEFT counts *key/value* heads in `num_attention_heads`, and `token_dim` is their width together, not the model's.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::json::read_json;
use super::{ArtefactError, PEFT_VERSION};
use crate::PrefixRows;
use preface_model::ModelSpec;

/// What kind of model an adapter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Decoder-only.
    Causal,
    /// Encoder-decoder.
    Seq2Seq,
}

impl Task {
    pub fn of(spec: &ModelSpec) -> Self {
        if spec.encoder.is_some() { Self::Seq2Seq } else { Self::Causal }
    }

    /// PEFT's `task_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Causal => "CAUSAL_LM",
            Self::Seq2Seq => "SEQ_2_SEQ_LM",
        }
    }

    /// PEFT's `num_transformer_submodules`.
    pub fn n_stack(self) -> usize {
        match self {
            Self::Causal => 1,
            Self::Seq2Seq => 2,
        }
    }

    /// Checks that rows for such models are given to one; `model` is its name, `config` the file that says the task.
    ///
    /// # Errors
    /// [`ArtefactError::Settings`] if the model is of the other kind.
    pub fn check(self, config: &Path, model: &str, has_encoder: bool) -> Result<(), ArtefactError> {
        let (of, is) = match (self, has_encoder) {
            (Self::Causal, true) => ("a decoder-only model", "an encoder-decoder"),
            (Self::Seq2Seq, false) => ("an encoder-decoder", "decoder-only"),
            _ => return Ok(()),
        };
        let reason = format!("`task_type` = {}: the rows are of {of}, but {model} is {is}", self.name());
        Err(ArtefactError::Settings { path: config.into(), reason })
    }

    /// The class of `transformers` that loads such a model.
    pub fn model_class(self) -> &'static str {
        match self {
            Self::Causal => "AutoModelForCausalLM",
            Self::Seq2Seq => "AutoModelForSeq2SeqLM",
        }
    }

    /// What the hub calls it.
    pub fn pipeline(self) -> &'static str {
        match self {
            Self::Causal => "text-generation",
            Self::Seq2Seq => "text2text-generation",
        }
    }
}

/// The keys that PEFT writes, in its order.
#[derive(Serialize)]
struct Written<'a> {
    auto_mapping: Option<()>,
    base_model_name_or_path: Option<&'a str>,
    encoder_hidden_size: usize,
    inference_mode: bool,
    init_weights: Option<()>,
    modules_to_save: Option<()>,
    num_attention_heads: usize,
    num_layers: usize,
    num_transformer_submodules: usize,
    num_virtual_tokens: usize,
    peft_type: &'static str,
    peft_version: &'static str,
    prefix_projection: bool,
    revision: Option<()>,
    task_type: &'static str,
    token_dim: usize,
}

/// The keys that we need. Others, such as the projection's, say how the rows were trained and not what they are.
#[derive(Deserialize)]
struct Read {
    base_model_name_or_path: Option<String>,
    task_type: Option<String>,
    num_transformer_submodules: Option<usize>,
    num_virtual_tokens: usize,
    num_layers: usize,
    num_attention_heads: usize,
    token_dim: usize,
}

/// What the config says of the rows.
pub(super) struct AdapterConfig {
    pub task: Task,
    pub base_model: Option<String>,
    pub prefix_len: usize,
    pub n_layer: usize,
    pub n_kv_head: usize,
    pub head_dim: usize,
}

/// The bytes of the file beside the rows of a decoder-only model.
pub(super) fn write(rows: &PrefixRows, base_model: Option<&str>) -> Vec<u8> {
    let sizes = [rows.prefix_len, rows.n_layer, rows.n_kv_head, rows.head_dim];
    super::json::to_bytes(&written(Task::Causal, sizes, base_model))
}

/// The config of `[prefix_len, n_layer, n_kv_head, head_dim]`.
pub(super) fn written(
    task: Task,
    [prefix_len, n_layer, n_kv_head, head_dim]: [usize; 4],
    base_model: Option<&str>,
) -> impl Serialize {
    let token_dim = n_kv_head * head_dim;
    Written {
        auto_mapping: None,
        base_model_name_or_path: base_model,
        // PEFT's default. Nothing reads it: there is no projection.
        encoder_hidden_size: token_dim,
        inference_mode: true,
        init_weights: None,
        modules_to_save: None,
        num_attention_heads: n_kv_head,
        num_layers: n_layer,
        num_transformer_submodules: task.n_stack(),
        num_virtual_tokens: prefix_len,
        peft_type: PREFIX_TUNING,
        peft_version: PEFT_VERSION,
        prefix_projection: false,
        revision: None,
        task_type: task.name(),
        token_dim,
    }
}

pub(super) const PREFIX_TUNING: &str = "PREFIX_TUNING";

impl AdapterConfig {
    pub fn read(path: &Path) -> Result<Self, ArtefactError> {
        // The type first: another method's config lacks our keys, and that is not what is wrong with it.
        #[derive(Deserialize)]
        struct Kind {
            peft_type: String,
        }
        let value: serde_json::Value = read_json(path)?;
        let json = |source| ArtefactError::Json { path: path.into(), source };
        let Kind { peft_type } = Kind::deserialize(&value).map_err(json)?;
        if peft_type != PREFIX_TUNING {
            return Err(ArtefactError::OtherMethod { path: path.into(), got: peft_type });
        }
        Read::deserialize(&value).map_err(json)?.check(path)
    }

    pub fn row_width(&self) -> usize {
        2 * self.n_layer * self.n_kv_head * self.head_dim
    }
}

impl Read {
    fn check(self, path: &Path) -> Result<AdapterConfig, ArtefactError> {
        let wrong = |key, got: String, want| ArtefactError::WrongValue { path: path.into(), key, got, want };
        let task = match (self.task_type.as_deref(), self.num_transformer_submodules) {
            (Some("SEQ_2_SEQ_LM"), _) | (None, Some(2)) => Task::Seq2Seq,
            (Some("CAUSAL_LM"), _) | (None, _) => Task::Causal,
            (Some(task), _) => return Err(wrong("task_type", task.into(), "CAUSAL_LM or SEQ_2_SEQ_LM")),
        };
        if let Some(n) = self.num_transformer_submodules.filter(|n| *n != task.n_stack()) {
            let want = "1 for a decoder-only model (CAUSAL_LM), 2 for an encoder-decoder (SEQ_2_SEQ_LM)";
            return Err(wrong("num_transformer_submodules", n.to_string(), want));
        }
        for (key, n) in [
            ("num_virtual_tokens", self.num_virtual_tokens),
            ("num_layers", self.num_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("token_dim", self.token_dim),
        ] {
            if n == 0 || n > LARGEST {
                return Err(wrong(key, n.to_string(), "between 1 and 1000000"));
            }
        }
        if !self.token_dim.is_multiple_of(self.num_attention_heads) {
            let got = self.token_dim.to_string();
            return Err(wrong("token_dim", got, "a multiple of `num_attention_heads` (the kv heads)"));
        }
        Ok(AdapterConfig {
            task,
            base_model: self.base_model_name_or_path,
            prefix_len: self.num_virtual_tokens,
            n_layer: self.num_layers,
            n_kv_head: self.num_attention_heads,
            head_dim: self.token_dim / self.num_attention_heads,
        })
    }
}

/// Largest size that is believed; no product of these overflows 64 bits.
const LARGEST: usize = 1_000_000;

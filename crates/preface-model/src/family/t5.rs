//! T5 v1.0 and v1.1 (FLAN): RMS norms, no biases, a bias on the scores by distance, unscaled attention.
//!
//! v1.0 has a ReLU, v1.1 a gated GELU. `d_kv` need not be `d_model / num_heads`. The head is `lm_head` where the file has
//! one, else the embedding; in front of it states are scaled by `d_model^-0.5`, unless `tie_word_embeddings` or
//! `scale_decoder_outputs` is false: v1.1 files say so although newer ones tie the head nevertheless.

use preface_backend::{Activation, Function, NormKind};

use super::{Config, CrossNames, Key, LayerNames, Names, StackNames};
use crate::load::LoadError;
use crate::{Family, ModelSpec, NormPlace, Positions, StackSpec, UNLIMITED_POSITIONS};

const FEED_FORWARD: Key = key("feed_forward_proj");
const N_BUCKET: Key = key("relative_attention_num_buckets");
const MAX_DISTANCE: Key = key("relative_attention_max_distance");
/// Greatest distance that is believed: the list of biases is twice as long for each head.
const LARGEST_DISTANCE: usize = 1 << 16;

const fn key(hugging_face: &'static str) -> Key {
    Key { hugging_face, gguf: "" }
}

/// Reads a `T5Config`. `tied_head` is what the config means; which it is the weights decide.
pub(crate) fn spec(config: &Config<'_>) -> Result<ModelSpec, LoadError> {
    let (d_model, n_layer) = (config.count(key("d_model"))?, config.count(key("num_layers"))?);
    let n_head = config.count(key("num_heads"))?;
    let stack = |n_layer| -> Result<StackSpec, LoadError> {
        let (head_dim, d_ff) = (config.count(key("d_kv"))?, config.count(key("d_ff"))?);
        Ok(StackSpec { n_layer, n_head, n_kv_head: n_head, head_dim, d_ff })
    };
    let encoder = stack(n_layer)?;
    let decoder = stack(config.count_or(key("num_decoder_layers"), n_layer)?)?;
    let (n_bucket, max_distance) = (config.count_or(N_BUCKET, 32)?, config.count_or(MAX_DISTANCE, 128)?);
    config.require(n_bucket % 4 == 0, N_BUCKET, "a multiple of 4 (two directions, half of them exact)")?;
    config.require(
        max_distance > n_bucket / 2 && max_distance <= LARGEST_DISTANCE,
        MAX_DISTANCE,
        "more than half of the buckets, and at most 65536",
    )?;
    let says_untied = !config.flag_or(key("tie_word_embeddings"), true)?;
    let scaled = !says_untied && config.flag_or(key("scale_decoder_outputs"), true)?;
    Ok(ModelSpec {
        family: Family::T5,
        vocab_size: config.vocab_size(key("vocab_size"))?,
        d_model,
        n_layer: decoder.n_layer,
        n_head,
        n_kv_head: n_head,
        head_dim: decoder.head_dim,
        d_ff: decoder.d_ff,
        norm: NormKind::Rms,
        norm_epsilon: config.number_or(key("layer_norm_epsilon"), 1e-6)? as f32,
        positions: Positions::Relative { n_bucket, max_distance },
        max_positions: UNLIMITED_POSITIONS,
        activation: activation(config)?,
        tied_head: !says_untied,
        encoder: Some(encoder),
        norm_place: NormPlace::Before,
        embedding_norm: false,
        final_norm: true,
        embedding_scale: 1.0,
        scaled_attention: false,
        head_scale: if scaled { (d_model as f32).powf(-0.5) } else { 1.0 },
    })
}

fn activation(config: &Config<'_>) -> Result<Activation, LoadError> {
    let name = config.text_or(FEED_FORWARD, "relu")?;
    let (function, gated) = match name.as_str() {
        "relu" => (Function::Relu, false),
        "gelu" => (Function::Gelu, false),
        "gelu_new" => (Function::GeluTanh, false),
        // `gated-gelu` means the approximation by tanh, as transformers reads it.
        "gated-gelu" | "gated-gelu_new" => (Function::GeluTanh, true),
        "gated-relu" => (Function::Relu, true),
        "gated-silu" => (Function::Silu, true),
        other => {
            let known = "relu, gelu, gelu_new, gated-gelu, gated-gelu_new, gated-relu, gated-silu";
            return Err(config.unsupported(FEED_FORWARD, other, known));
        }
    };
    Ok(Activation { function, gated })
}

/// Names of `T5ForConditionalGeneration`. The biases of the first layer hold for all.
pub(crate) fn names(spec: &ModelSpec) -> Names {
    let gated = spec.activation.gated;
    Names {
        embedding: &["shared", "encoder.embed_tokens", "decoder.embed_tokens"],
        head: "lm_head",
        head_bias: None,
        optional_prefix: "",
        decoder: StackNames {
            position_embedding: None,
            embedding_norm: None,
            relative_bias: Some("decoder.block.0.layer.0.SelfAttention.relative_attention_bias"),
            final_norm: "decoder.final_layer_norm",
            layer: if gated {
                |n| layer("decoder", n, true, true)
            } else {
                |n| layer("decoder", n, true, false)
            },
        },
        encoder: Some(StackNames {
            position_embedding: None,
            embedding_norm: None,
            relative_bias: Some("encoder.block.0.layer.0.SelfAttention.relative_attention_bias"),
            final_norm: "encoder.final_layer_norm",
            layer: if gated {
                |n| layer("encoder", n, false, true)
            } else {
                |n| layer("encoder", n, false, false)
            },
        }),
        transposed: false,
        interleaved_rotary: false,
    }
}

fn layer(side: &str, n: usize, has_cross: bool, gated: bool) -> LayerNames {
    let name = |part: usize, rest: &str| format!("{side}.block.{n}.layer.{part}.{rest}");
    let last = if has_cross { 2 } else { 1 };
    let up: &[&str] = if gated { &["wi_0", "wi_1"] } else { &["wi"] };
    LayerNames {
        attention_norm: name(0, "layer_norm"),
        qkv: ["q", "k", "v"].map(|part| name(0, &format!("SelfAttention.{part}"))).into(),
        attention_output: name(0, "SelfAttention.o"),
        feed_forward_norm: name(last, "layer_norm"),
        up: up.iter().map(|part| name(last, &format!("DenseReluDense.{part}"))).collect(),
        down: name(last, "DenseReluDense.wo"),
        cross: has_cross.then(|| CrossNames {
            norm: name(1, "layer_norm"),
            query: name(1, "EncDecAttention.q"),
            keys: ["k", "v"].map(|part| name(1, &format!("EncDecAttention.{part}"))),
            output: name(1, "EncDecAttention.o"),
        }),
    }
}

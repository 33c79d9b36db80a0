//! Llama and what shares its layers: RMS norms, rotary positions, grouped key/value heads, a SiLU gate, no biases
//! (or some, where the file has them).

use preface_backend::{Activation, Function, NormKind};

use super::{Config, Key, LayerNames, Names, Naming, StackNames};
use crate::load::LoadError;
use crate::{Family, ModelSpec, NormPlace, Positions, RotaryScaling, RotarySpec};

const VOCAB: Key = Key { hugging_face: "vocab_size", gguf: "llama.vocab_size" };
const D_MODEL: Key = Key { hugging_face: "hidden_size", gguf: "llama.embedding_length" };
const N_LAYER: Key = Key { hugging_face: "num_hidden_layers", gguf: "llama.block_count" };
const N_HEAD: Key = Key { hugging_face: "num_attention_heads", gguf: "llama.attention.head_count" };
const N_KV_HEAD: Key = Key { hugging_face: "num_key_value_heads", gguf: "llama.attention.head_count_kv" };
const HEAD_DIM: Key = Key { hugging_face: "head_dim", gguf: "llama.attention.key_length" };
const D_FF: Key = Key { hugging_face: "intermediate_size", gguf: "llama.feed_forward_length" };
const EPSILON: Key = Key { hugging_face: "rms_norm_eps", gguf: "llama.attention.layer_norm_rms_epsilon" };
const MAX_POSITIONS: Key = Key { hugging_face: "max_position_embeddings", gguf: "llama.context_length" };
const ACTIVATION: Key = Key { hugging_face: "hidden_act", gguf: "" };

/// Reads a `LlamaConfig` or the `llama.*` keys of a GGUF.
pub(crate) fn spec(config: &Config<'_>) -> Result<ModelSpec, LoadError> {
    let (d_model, n_head) = (config.count(D_MODEL)?, config.count(N_HEAD)?);
    let activation = config.text_or(ACTIVATION, "silu")?;
    if activation != "silu" {
        return Err(config.unsupported(ACTIVATION, &activation, "silu"));
    }
    let n_kv_head = config.count_or(N_KV_HEAD, n_head)?;
    let head_dim = config.count_or(HEAD_DIM, d_model / n_head)?;
    config.require(n_head % n_kv_head == 0, N_KV_HEAD, "a divisor of the number of attention heads")?;
    config.require(head_dim % 2 == 0, HEAD_DIM, "even (rotary embedding works on pairs)")?;
    Ok(ModelSpec {
        family: Family::Llama,
        vocab_size: config.vocab_size(VOCAB)?,
        d_model,
        n_layer: config.count(N_LAYER)?,
        n_head,
        n_kv_head,
        head_dim,
        d_ff: config.count(D_FF)?,
        norm: NormKind::Rms,
        norm_epsilon: config.number(EPSILON)? as f32,
        positions: Positions::Rotary(rotary(config, head_dim)?),
        max_positions: config.count(MAX_POSITIONS)?,
        activation: Activation { function: Function::Silu, gated: true },
        tied_head: config.tied_head(false, "output.weight")?,
        encoder: None,
        norm_place: NormPlace::Before,
        embedding_norm: false,
        final_norm: true,
        embedding_scale: 1.0,
        scaled_attention: true,
        head_scale: 1.0,
    })
}

/// Hugging Face wrote `rope_theta` and `rope_scaling` before version 5 and writes `rope_parameters` since.
fn rotary(config: &Config<'_>, head_dim: usize) -> Result<RotarySpec, LoadError> {
    const BASE: f64 = 10_000.0;
    if let Some(divisors) = config.gguf_vector("rope_freqs.weight", head_dim / 2)? {
        let base = config.number_or(Key { hugging_face: "", gguf: "llama.rope.freq_base" }, BASE)?;
        return Ok(RotarySpec { base, scaling: RotaryScaling::Divisors(divisors) });
    }
    let newer = config.has("rope_parameters");
    let key = |new: &'static str, old: &'static str, gguf: &'static str| Key {
        hugging_face: if newer { new } else { old },
        gguf,
    };
    let base =
        config.number_or(key("rope_parameters.rope_theta", "rope_theta", "llama.rope.freq_base"), BASE)?;
    let mut kind = key("rope_parameters.rope_type", "rope_scaling.rope_type", "llama.rope.scaling.type");
    if !newer && config.has("rope_scaling.type") {
        kind.hugging_face = "rope_scaling.type";
    }
    let factor = key("rope_parameters.factor", "rope_scaling.factor", "llama.rope.scaling.factor");
    let low = key("rope_parameters.low_freq_factor", "rope_scaling.low_freq_factor", "");
    let high = key("rope_parameters.high_freq_factor", "rope_scaling.high_freq_factor", "");
    let original = key(
        "rope_parameters.original_max_position_embeddings",
        "rope_scaling.original_max_position_embeddings",
        "",
    );
    let scaling = match config.text_or(kind, "default")?.as_str() {
        "default" | "none" => RotaryScaling::None,
        "linear" => RotaryScaling::Linear { factor: config.number(factor)? },
        "llama3" => RotaryScaling::Llama3 {
            factor: config.number(factor)?,
            low_frequency_factor: config.number(low)?,
            high_frequency_factor: config.number(high)?,
            original_max_positions: config.number(original)?,
        },
        other => return Err(config.unsupported(kind, other, "default, linear, llama3")),
    };
    Ok(RotarySpec { base, scaling })
}

/// Names of `LlamaForCausalLM` and of llama.cpp's converter, which also interleaves the rotary pairs.
pub(crate) fn names(naming: Naming) -> Names {
    match naming {
        Naming::HuggingFace => Names {
            embedding: &["model.embed_tokens"],
            head: "lm_head",
            head_bias: None,
            optional_prefix: "model.",
            decoder: StackNames {
                position_embedding: None,
                final_norm: "model.norm",
                layer: |n| {
                    let name = |part: &str| format!("model.layers.{n}.{part}");
                    LayerNames {
                        attention_norm: name("input_layernorm"),
                        qkv: ["q", "k", "v"].map(|part| name(&format!("self_attn.{part}_proj"))).into(),
                        attention_output: name("self_attn.o_proj"),
                        feed_forward_norm: name("post_attention_layernorm"),
                        up: ["gate", "up"].map(|part| name(&format!("mlp.{part}_proj"))).into(),
                        down: name("mlp.down_proj"),
                        cross: None,
                    }
                },
                ..StackNames::PLAIN
            },
            encoder: None,
            transposed: false,
            interleaved_rotary: false,
        },
        Naming::Gguf => Names {
            embedding: &["token_embd"],
            head: "output",
            head_bias: None,
            optional_prefix: "",
            decoder: StackNames {
                position_embedding: None,
                final_norm: "output_norm",
                layer: |n| {
                    let name = |part: &str| format!("blk.{n}.{part}");
                    LayerNames {
                        attention_norm: name("attn_norm"),
                        qkv: ["q", "k", "v"].map(|part| name(&format!("attn_{part}"))).into(),
                        attention_output: name("attn_output"),
                        feed_forward_norm: name("ffn_norm"),
                        up: ["gate", "up"].map(|part| name(&format!("ffn_{part}"))).into(),
                        down: name("ffn_down"),
                        cross: None,
                    }
                },
                ..StackNames::PLAIN
            },
            encoder: None,
            transposed: false,
            interleaved_rotary: true,
        },
    }
}

//! GPT-2: layer norms, learned positions, a fused query/key/value product, GELU, biases everywhere, tied head.

use preface_backend::{Activation, Function, NormKind};

use super::{Config, Key, LayerNames, Names, Naming, StackNames};
use crate::load::LoadError;
use crate::{Family, ModelSpec, NormPlace, Positions};

const VOCAB: Key = Key { hugging_face: "vocab_size", gguf: "gpt2.vocab_size" };
const D_MODEL: Key = Key { hugging_face: "n_embd", gguf: "gpt2.embedding_length" };
const N_LAYER: Key = Key { hugging_face: "n_layer", gguf: "gpt2.block_count" };
const N_HEAD: Key = Key { hugging_face: "n_head", gguf: "gpt2.attention.head_count" };
const D_FF: Key = Key { hugging_face: "n_inner", gguf: "gpt2.feed_forward_length" };
const EPSILON: Key = Key { hugging_face: "layer_norm_epsilon", gguf: "gpt2.attention.layer_norm_epsilon" };
const MAX_POSITIONS: Key = Key { hugging_face: "n_positions", gguf: "gpt2.context_length" };
const ACTIVATION: Key = Key { hugging_face: "activation_function", gguf: "" };

/// Options of `GPT2Config` that change the arithmetic, with the only value that is supported.
const FIXED: [(&str, bool); 3] = [
    ("scale_attn_weights", true),
    ("scale_attn_by_inverse_layer_idx", false),
    ("add_cross_attention", false),
];

/// Reads a `GPT2Config` or the `gpt2.*` keys of a GGUF.
pub(crate) fn spec(config: &Config<'_>) -> Result<ModelSpec, LoadError> {
    let (d_model, n_head) = (config.count(D_MODEL)?, config.count(N_HEAD)?);
    let activation = config.text_or(ACTIVATION, "gelu_new")?;
    if activation != "gelu_new" && activation != "gelu_pytorch_tanh" {
        return Err(config.unsupported(ACTIVATION, &activation, "gelu_new, gelu_pytorch_tanh"));
    }
    for (name, want) in FIXED {
        let key = Key { hugging_face: name, gguf: "" };
        if config.flag_or(key, want)? != want {
            return Err(config.unsupported(key, &(!want).to_string(), &want.to_string()));
        }
    }
    config.require(d_model % n_head == 0, N_HEAD, "a divisor of the embedding's width")?;
    Ok(ModelSpec {
        family: Family::Gpt2,
        vocab_size: config.vocab_size(VOCAB)?,
        d_model,
        n_layer: config.count(N_LAYER)?,
        n_head,
        n_kv_head: n_head,
        head_dim: d_model / n_head,
        d_ff: config.count_or(D_FF, 4 * d_model)?,
        norm: NormKind::Layer,
        norm_epsilon: config.number_or(EPSILON, 1e-5)? as f32,
        positions: Positions::Learned { offset: 0 },
        max_positions: config.count(MAX_POSITIONS)?,
        activation: Activation { function: Function::GeluTanh, gated: false },
        tied_head: config.tied_head(true, "output.weight")?,
        encoder: None,
        norm_place: NormPlace::Before,
        embedding_norm: false,
        final_norm: true,
        embedding_scale: 1.0,
        scaled_attention: true,
        head_scale: 1.0,
    })
}

/// Names of `GPT2LMHeadModel` (whose linear layers store `[n_in, n_out]`) and of llama.cpp's converter.
pub(crate) fn names(naming: Naming) -> Names {
    match naming {
        Naming::HuggingFace => Names {
            embedding: &["transformer.wte"],
            head: "lm_head",
            head_bias: None,
            optional_prefix: "transformer.",
            decoder: StackNames {
                position_embedding: Some("transformer.wpe"),
                final_norm: "transformer.ln_f",
                layer: |n| {
                    let name = |part: &str| format!("transformer.h.{n}.{part}");
                    LayerNames {
                        attention_norm: name("ln_1"),
                        qkv: vec![name("attn.c_attn")],
                        attention_output: name("attn.c_proj"),
                        feed_forward_norm: name("ln_2"),
                        up: vec![name("mlp.c_fc")],
                        down: name("mlp.c_proj"),
                        cross: None,
                    }
                },
                ..StackNames::PLAIN
            },
            encoder: None,
            transposed: true,
            interleaved_rotary: false,
        },
        Naming::Gguf => Names {
            embedding: &["token_embd"],
            head: "output",
            head_bias: None,
            optional_prefix: "",
            decoder: StackNames {
                position_embedding: Some("position_embd"),
                final_norm: "output_norm",
                layer: |n| {
                    let name = |part: &str| format!("blk.{n}.{part}");
                    LayerNames {
                        attention_norm: name("attn_norm"),
                        qkv: vec![name("attn_qkv")],
                        attention_output: name("attn_output"),
                        feed_forward_norm: name("ffn_norm"),
                        up: vec![name("ffn_up")],
                        down: name("ffn_down"),
                        cross: None,
                    }
                },
                ..StackNames::PLAIN
            },
            encoder: None,
            transposed: false,
            interleaved_rotary: false,
        },
    }
}

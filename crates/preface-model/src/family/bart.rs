//! BART and its relatives: encoder-decoders with layer norms, biases everywhere and `final_logits_bias`.
//!
//! | family | norms | embedding norm | final norm | positions |
//! |---|---|---|---|---|
//! | BART | behind each layer | yes | no | learned, from row 2 of their table |
//! | mBART | in front | yes | yes | learned, from row 2 |
//! | Pegasus | in front | no | yes | sines |
//! | Marian | behind | no | no | sines |
//!
//! All of them scale the embedding by the root of its width if `scale_embedding` says so, and tie the head to it unless
//! `tie_word_embeddings` is false.

use preface_backend::{Activation, Function, NormKind};

use super::{Config, CrossNames, Key, LayerNames, Names, StackNames};
use crate::load::LoadError;
use crate::{Family, ModelSpec, NormPlace, Positions, StackSpec};

const D_MODEL: Key = key("d_model");
const MAX_POSITIONS: Key = key("max_position_embeddings");
const ACTIVATION: Key = key("activation_function");
const KNOWN_ACTIVATIONS: &str = "gelu, gelu_new, gelu_pytorch_tanh, relu, swish, silu";

/// A key that only a config.json has.
const fn key(hugging_face: &'static str) -> Key {
    Key { hugging_face, gguf: "" }
}

/// Reads a `BartConfig`, `MBartConfig`, `PegasusConfig` or `MarianConfig`.
pub(crate) fn spec(config: &Config<'_>, family: Family) -> Result<ModelSpec, LoadError> {
    let d_model = config.count(D_MODEL)?;
    let encoder = stack(
        config,
        d_model,
        [key("encoder_layers"), key("encoder_attention_heads"), key("encoder_ffn_dim")],
    )?;
    let decoder = stack(
        config,
        d_model,
        [key("decoder_layers"), key("decoder_attention_heads"), key("decoder_ffn_dim")],
    )?;
    let shared = key("share_encoder_decoder_embeddings");
    if family == Family::Marian && !config.flag_or(shared, true)? {
        return Err(config.unsupported(shared, "false", "true"));
    }
    let norms_in_front = matches!(family, Family::MBart | Family::Pegasus);
    let learned = matches!(family, Family::Bart | Family::MBart);
    let scaled = config.flag_or(key("scale_embedding"), false)?;
    Ok(ModelSpec {
        family,
        vocab_size: config.vocab_size(key("vocab_size"))?,
        d_model,
        n_layer: decoder.n_layer,
        n_head: decoder.n_head,
        n_kv_head: decoder.n_kv_head,
        head_dim: decoder.head_dim,
        d_ff: decoder.d_ff,
        norm: NormKind::Layer,
        norm_epsilon: 1e-5,
        positions: if learned { Positions::Learned { offset: 2 } } else { Positions::Sinusoidal },
        max_positions: config.count(MAX_POSITIONS)?,
        activation: Activation { function: activation(config)?, gated: false },
        tied_head: config.tied_head(true, "")?,
        encoder: Some(encoder),
        norm_place: if norms_in_front { NormPlace::Before } else { NormPlace::After },
        embedding_norm: learned,
        final_norm: norms_in_front,
        embedding_scale: if scaled { (d_model as f32).sqrt() } else { 1.0 },
        scaled_attention: true,
        head_scale: 1.0,
    })
}

fn stack(config: &Config<'_>, d_model: usize, keys: [Key; 3]) -> Result<StackSpec, LoadError> {
    let [n_layer, n_head, d_ff] = [config.count(keys[0])?, config.count(keys[1])?, config.count(keys[2])?];
    config.require(d_model.is_multiple_of(n_head), keys[1], "a divisor of the embedding's width")?;
    Ok(StackSpec { n_layer, n_head, n_kv_head: n_head, head_dim: d_model / n_head, d_ff })
}

fn activation(config: &Config<'_>) -> Result<Function, LoadError> {
    match config.text_or(ACTIVATION, "gelu")?.as_str() {
        "gelu" => Ok(Function::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" => Ok(Function::GeluTanh),
        "relu" => Ok(Function::Relu),
        "swish" | "silu" => Ok(Function::Silu),
        other => Err(config.unsupported(ACTIVATION, other, KNOWN_ACTIVATIONS)),
    }
}

/// Names of `BartForConditionalGeneration` and its relatives.
pub(crate) fn names(spec: &ModelSpec) -> Names {
    let norm = |name| spec.embedding_norm.then_some(name);
    Names {
        embedding: &["model.shared", "model.decoder.embed_tokens", "model.encoder.embed_tokens"],
        head: "lm_head",
        head_bias: Some("final_logits_bias"),
        optional_prefix: "model.",
        decoder: StackNames {
            position_embedding: Some("model.decoder.embed_positions"),
            embedding_norm: norm("model.decoder.layernorm_embedding"),
            relative_bias: None,
            final_norm: "model.decoder.layer_norm",
            layer: |n| layer("decoder", n, true),
        },
        encoder: Some(StackNames {
            position_embedding: Some("model.encoder.embed_positions"),
            embedding_norm: norm("model.encoder.layernorm_embedding"),
            relative_bias: None,
            final_norm: "model.encoder.layer_norm",
            layer: |n| layer("encoder", n, false),
        }),
        transposed: false,
        interleaved_rotary: false,
    }
}

fn layer(side: &str, n: usize, has_cross: bool) -> LayerNames {
    let name = |part: &str| format!("model.{side}.layers.{n}.{part}");
    LayerNames {
        attention_norm: name("self_attn_layer_norm"),
        qkv: ["q", "k", "v"].map(|part| name(&format!("self_attn.{part}_proj"))).into(),
        attention_output: name("self_attn.out_proj"),
        feed_forward_norm: name("final_layer_norm"),
        up: vec![name("fc1")],
        down: name("fc2"),
        cross: has_cross.then(|| CrossNames {
            norm: name("encoder_attn_layer_norm"),
            query: name("encoder_attn.q_proj"),
            keys: ["k", "v"].map(|part| name(&format!("encoder_attn.{part}_proj"))),
            output: name("encoder_attn.out_proj"),
        }),
    }
}

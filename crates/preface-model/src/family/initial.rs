//! How the weights of each family start, as `transformers` starts them.
//!
//! Matrices and embeddings are normal with a deviation of `initializer_range` (`init_std` in BART and its relatives; 0.02
//! without either), norms one, biases zero, the row of the filling token zero where `transformers` has it so.
//!
//! - GPT-2 divides the deviation of what writes to the residual stream by the root of how often that happens.
//! - T5 has deviations of its own, times `initializer_factor`: 1 for embedding and head, `d^-1/2` for what reads `d` numbers,
//!   queries besides divided by the root of a head's columns, because its scores are not.

use serde_json::Value;

use crate::weights::Start;
use crate::{Family, ModelSpec, Part, Site};

/// Name, shape and start of every tensor.
pub(crate) fn tensors(spec: &ModelSpec, config: &Value) -> Vec<(String, Vec<usize>, Start)> {
    let mut tensors = Vec::new();
    for site in spec.sites() {
        let n_in = spec.n_in(site);
        for (number, part) in spec.hugging_face_parts(site).into_iter().enumerate() {
            let n_row = part.rows.len();
            let shape = match (site.is_norm(), part.transposed) {
                (true, _) => vec![n_row],
                (false, true) => vec![n_in, n_row],
                (false, false) => vec![n_row, n_in],
            };
            tensors.push((format!("{}.weight", part.module), shape, start(spec, config, site, number)));
            if has_bias(spec, config, site) {
                tensors.push((format!("{}.bias", part.module), vec![n_row], Start::Constant(0.0)));
            }
        }
    }
    tensors
}

fn has_bias(spec: &ModelSpec, config: &Value, site: Site) -> bool {
    let flag = |key: &str| config[key].as_bool().unwrap_or(false);
    match (spec.family, site) {
        (Family::T5, _) => false,
        (Family::Llama, Site::Block { part: Part::Qkv | Part::AttentionOutput, .. }) => {
            flag("attention_bias")
        }
        (Family::Llama, Site::Block { part: Part::Up | Part::Down, .. }) => flag("mlp_bias"),
        (Family::Llama, _) => false,
        (_, site) => site.is_norm() || matches!(site, Site::Block { .. }),
    }
}

/// Of part number `number` of a site.
fn start(spec: &ModelSpec, config: &Value, site: Site, number: usize) -> Start {
    let value = |key: &str| config[key].as_f64();
    let factor = if spec.family == Family::T5 { value("initializer_factor").unwrap_or(1.0) } else { 1.0 };
    if site.is_norm() {
        return Start::Constant(factor as f32);
    }
    let range = value("initializer_range").or(value("init_std")).filter(|&std| std > 0.0).unwrap_or(0.02);
    let std = match (spec.family, site) {
        (Family::T5, _) => factor * t5_std(spec, site, number),
        (Family::Gpt2, Site::Block { part: Part::AttentionOutput | Part::Down, .. }) => {
            range / (2.0 * spec.n_layer as f64).sqrt()
        }
        _ => range,
    };
    let fills_up = site == Site::Embedding && !matches!(spec.family, Family::Gpt2 | Family::T5);
    let zero_row = config["pad_token_id"].as_u64().filter(|_| fills_up).map(|row| row as usize);
    Start::Normal { std, zero_row }
}

fn t5_std(spec: &ModelSpec, site: Site, number: usize) -> f64 {
    let root = |n: usize| (n as f64).powf(-0.5);
    match site {
        Site::Block { part: Part::Qkv | Part::CrossQuery, .. } if number == 0 => {
            root(spec.d_model * spec.head_dim)
        }
        Site::Block { .. } => root(spec.n_in(site)),
        Site::RelativeBias(_) => root(spec.d_model),
        _ => 1.0,
    }
}

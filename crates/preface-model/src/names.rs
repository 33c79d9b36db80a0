//! What `transformers` calls the parts of a module.
//!
//! Products that are fused here (queries, keys and values; gate and up) are several modules there in most families: each is
//! a range of the fused output features.

use std::ops::Range;

use crate::family::{self, Naming};
use crate::{ModelSpec, Part, Site};

/// A module of `transformers`, and which output features of ours it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPart {
    /// Such as `model.layers.0.self_attn.q_proj`; its tensors have the endings `.weight` and `.bias`.
    pub module: String,
    /// Output features.
    pub rows: Range<usize>,
    /// Whether its weight is stored `[n_in, n_out]`.
    pub transposed: bool,
}

impl ModelSpec {
    /// The modules of `transformers` that make up one of ours, in the order of their features.
    pub fn hugging_face_parts(&self, site: Site) -> Vec<NamedPart> {
        let names = family::names(self, Naming::HuggingFace);
        let whole = |module: &str, n_row, transposed| {
            vec![NamedPart { module: module.into(), rows: 0..n_row, transposed }]
        };
        let Site::Block { layer, part, .. } = site else {
            return match site {
                Site::Embedding => whole(names.embedding[0], self.vocab_size, false),
                Site::Positions => {
                    let name = names.decoder.position_embedding.expect("a model with learned positions");
                    whole(name, self.max_positions, false)
                }
                Site::Head => whole(names.head, self.vocab_size, false),
                Site::FinalNorm | Site::Block { .. } => whole(names.decoder.final_norm, self.d_model, false),
            };
        };
        let block = (names.decoder.layer)(layer);
        let query = self.n_head * self.head_dim;
        let (modules, sizes) = match part {
            Part::AttentionNorm => return whole(&block.attention_norm, self.d_model, false),
            Part::FeedForwardNorm => return whole(&block.feed_forward_norm, self.d_model, false),
            Part::CrossNorm | Part::CrossQuery | Part::CrossKeys | Part::CrossOutput => {
                unreachable!("the methods that train modules are for decoder-only models")
            }
            Part::Qkv => (block.qkv, vec![query, self.kv_width(), self.kv_width()]),
            Part::AttentionOutput => (vec![block.attention_output], vec![self.d_model]),
            Part::Up if self.activation.gated => (block.up, vec![self.d_ff; 2]),
            Part::Up => (block.up, vec![self.d_ff]),
            Part::Down => (vec![block.down], vec![self.d_model]),
        };
        // Fused there too: one module of all features.
        let sizes = if modules.len() == 1 { vec![sizes.iter().sum()] } else { sizes };
        let mut first = 0;
        let parts = modules.into_iter().zip(sizes).map(|(module, size)| {
            let rows = first..first + size;
            first = rows.end;
            NamedPart { module, rows, transposed: names.transposed }
        });
        parts.collect()
    }
}

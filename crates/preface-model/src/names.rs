//! What `transformers` calls the parts of a module.
//!
//! Products that are fused here (queries, keys and values; gate and up) are several modules there in most families: each is
//! a range of the fused output features.

use std::ops::Range;

use crate::family::{self, Naming};
use crate::{Family, ModelSpec, Part, Positions, Site, Stack};

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
        let side = |stack: Stack| match stack {
            Stack::Encoder => (
                names.encoder.expect("a site of a model with an encoder"),
                self.encoder.unwrap_or(self.decoder()),
            ),
            Stack::Decoder => (names.decoder, self.decoder()),
        };
        let whole = |module: &str, n_row| {
            vec![NamedPart { module: module.into(), rows: 0..n_row, transposed: false }]
        };
        let (stack, layer, part) = match site {
            Site::Embedding => return whole(names.embedding[0], self.vocab_size),
            Site::Head => return whole(names.head, self.vocab_size),
            Site::Positions(stack) => {
                let name = side(stack).0.position_embedding.expect("a model with learned positions");
                return whole(name, self.position_row(self.max_positions) as usize);
            }
            Site::EmbeddingNorm(stack) => {
                let name = side(stack).0.embedding_norm.expect("a model with a norm of the embedding");
                return whole(name, self.d_model);
            }
            Site::RelativeBias(stack) => {
                let Positions::Relative { n_bucket, .. } = self.positions else {
                    unreachable!("a site of a model with relative positions");
                };
                let name = side(stack).0.relative_bias.expect("a model with relative positions");
                return whole(name, n_bucket);
            }
            Site::FinalNorm(stack) => return whole(side(stack).0.final_norm, self.d_model),
            Site::Block { stack, layer, part } => (stack, layer, part),
        };
        let (stack_names, shapes) = side(stack);
        let block = (stack_names.layer)(layer);
        let cross = || block.cross.as_ref().expect("a site of a model with cross-attention");
        let (query, kv_width) = (shapes.n_head * shapes.head_dim, shapes.kv_width());
        let (modules, sizes) = match part {
            Part::AttentionNorm => return whole(&block.attention_norm, self.d_model),
            Part::CrossNorm => return whole(&cross().norm, self.d_model),
            Part::FeedForwardNorm => return whole(&block.feed_forward_norm, self.d_model),
            Part::Qkv => (block.qkv, vec![query, kv_width, kv_width]),
            Part::AttentionOutput => (vec![block.attention_output], vec![self.d_model]),
            Part::CrossQuery => (vec![cross().query.clone()], vec![query]),
            Part::CrossKeys => (cross().keys.to_vec(), vec![kv_width; 2]),
            Part::CrossOutput => (vec![cross().output.clone()], vec![self.d_model]),
            Part::Up if self.activation.gated => (block.up, vec![shapes.d_ff; 2]),
            Part::Up => (block.up, vec![shapes.d_ff]),
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

    /// All modules with parameters, from the embedding to the head.
    pub fn sites(&self) -> Vec<Site> {
        const PARTS: [Part; 10] = [
            Part::AttentionNorm,
            Part::Qkv,
            Part::AttentionOutput,
            Part::CrossNorm,
            Part::CrossQuery,
            Part::CrossKeys,
            Part::CrossOutput,
            Part::FeedForwardNorm,
            Part::Up,
            Part::Down,
        ];
        // A table of sines is not trained, in `transformers` neither.
        let learned = matches!(self.positions, Positions::Learned { .. });
        let relative = matches!(self.positions, Positions::Relative { .. });
        let encoder = self.encoder.map(|encoder| (Stack::Encoder, encoder.n_layer));
        let stacks = encoder.into_iter().chain([(Stack::Decoder, self.n_layer)]);
        let stacks = stacks.flat_map(|(stack, n_layer)| {
            let has_cross = stack == Stack::Decoder && self.encoder.is_some();
            let parts = PARTS.into_iter().filter(move |part| has_cross || !part.is_cross());
            let blocks = (0..n_layer)
                .flat_map(move |layer| parts.clone().map(move |part| Site::Block { stack, layer, part }));
            let before = [
                learned.then_some(Site::Positions(stack)),
                self.embedding_norm.then_some(Site::EmbeddingNorm(stack)),
                relative.then_some(Site::RelativeBias(stack)),
            ];
            let last = self.final_norm.then_some(Site::FinalNorm(stack));
            before.into_iter().flatten().chain(blocks).chain(last)
        });
        let head = (!self.tied_head).then_some(Site::Head);
        std::iter::once(Site::Embedding).chain(stacks).chain(head).collect()
    }

    /// Columns of a module's weight; 1 of a norm's.
    pub fn n_in(&self, site: Site) -> usize {
        let shapes = |stack| match stack {
            Stack::Encoder => self.encoder.expect("a site of a model with an encoder"),
            Stack::Decoder => self.decoder(),
        };
        match site {
            Site::Block { stack, part: Part::AttentionOutput | Part::CrossOutput, .. } => {
                shapes(stack).n_head * shapes(stack).head_dim
            }
            Site::Block { stack, part: Part::Down, .. } => shapes(stack).d_ff,
            Site::RelativeBias(stack) => shapes(stack).n_head,
            norm if norm.is_norm() => 1,
            _ => self.d_model,
        }
    }

    /// The linear modules of all blocks, stack by stack.
    pub fn linear_sites(&self) -> Vec<Site> {
        let is_linear = |site: &Site| matches!(site, Site::Block { .. }) && !site.is_norm();
        self.sites().into_iter().filter(is_linear).collect()
    }

    /// Tensors that hold the embedding once more: with a head of its own, `transformers` shares nothing of the BART family's,
    /// and starts anew what a file lacks.
    pub fn embedding_copies(&self) -> Vec<String> {
        let is_needed = self.encoder.is_some() && !self.tied_head && self.family != Family::T5;
        let modules = family::names(self, Naming::HuggingFace).embedding[1..].iter().filter(|_| is_needed);
        modules.map(|module| format!("{module}.weight")).collect()
    }

    /// Tensors that no method trains but a whole model has where its file has them: a bias on the logits, tables of sines.
    pub fn constant_tensors(&self) -> Vec<String> {
        let names = family::names(self, Naming::HuggingFace);
        let is_table = self.positions == Positions::Sinusoidal;
        let stacks = names.encoder.into_iter().chain([names.decoder]).filter(|_| is_table);
        let tables = stacks.filter_map(|stack| stack.position_embedding.map(|name| format!("{name}.weight")));
        names.head_bias.map(str::to_owned).into_iter().chain(tables).collect()
    }
}

//! A frozen decoder-only language model: forward, loss, and the gradient of what is attached to it.

use std::ops::Range;

use preface_backend::{
    AttentionPlan, Backend, Direction, Epilogue, Head, KeyRun, Norm, QueryRun, Storage, Term,
};

use crate::attachments::{Depth, Step};
use crate::inputs::{InputCache, TextKey};
use crate::layer::{Block, Context, Kept, Selected, Text};
use crate::soft::SoftRows;
use crate::{Attachments, AttachmentsGrad, Batch, InputStorage, ModelSpec, Site};

/// Weights on a backend.
pub struct Model<B: Backend> {
    pub(crate) backend: B,
    pub(crate) spec: ModelSpec,
    pub(crate) embedding: B::Weight,
    pub(crate) position_embedding: Option<B::Weight>,
    pub(crate) rotary: Option<B::Rows>,
    pub(crate) blocks: Vec<Block<B>>,
    pub(crate) final_norm: Norm<B>,
    /// The head where it is not the embedding.
    pub(crate) own_head: Option<B::Weight>,
    pub(crate) recompute: bool,
    pub(crate) inputs: Option<InputCache>,
}

impl<B: Backend> Model<B> {
    /// Shapes and kinds of the layers.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// What the model runs on.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Whether a block keeps only its input for the backward and computes the rest again: less memory, a forward more,
    /// the same result to the bit.
    pub fn set_recompute(&mut self, recompute: bool) {
        self.recompute = recompute;
    }

    /// Keeps up to `max_bytes` of inputs of the lowest block that something is attached to or trained in, text by text, so
    /// that what lies below it is run once. From then on that input is rounded as `storage` says, kept or not.
    pub fn keep_inputs(&mut self, storage: InputStorage, max_bytes: usize) {
        self.inputs = Some(InputCache::new(storage, max_bytes));
    }

    /// Bytes that the weights occupy as stored.
    pub fn weight_bytes(&self) -> usize {
        let blocks = self.blocks.iter().flat_map(|block| {
            [
                &block.attention.qkv.weight,
                &block.attention.output.weight,
                &block.feed_forward.up.weight,
                &block.feed_forward.down.weight,
            ]
        });
        let tables = self.own_head.iter().chain(&self.position_embedding).chain([&self.embedding]);
        blocks.chain(tables).map(|weight| self.backend.weight_bytes(weight)).sum()
    }

    /// Negative log-likelihood in nats of every row that has a target, in the batch's order: where sequences share rows,
    /// that of all their targets there.
    pub fn loss(&self, batch: &Batch<B>, attachments: &Attachments<B>) -> Vec<f32> {
        let context = self.context(batch, attachments, Some(&batch.selected));
        let (first, x) = self.enter(&context, batch);
        let x = self.run(&context, first..self.blocks.len(), x);
        let normed = self.normed(&x);
        let mut loss = self.backend.rows(batch.selected.n_row, 1, Storage::Exact);
        self.backend.head_loss(&self.head(), &normed, &batch.targets, &mut loss, None);
        self.backend.read(&loss)
    }

    /// The same, and the gradient of the *sum* of all target losses, added to `grads`.
    pub fn loss_and_gradient(
        &self,
        batch: &Batch<B>,
        attachments: &Attachments<B>,
        grads: &mut AttachmentsGrad<B>,
    ) -> Vec<f32> {
        let backend = &self.backend;
        let context = self.context(batch, attachments, Some(&batch.selected));
        let ((first, mut x), mut kept) = (self.enter(&context, batch), Vec::new());
        for (layer, block) in self.blocks.iter().enumerate().skip(first) {
            let (next, block_kept) = Kept::forward(block, &context, layer, x, self.recompute);
            x = next;
            kept.push(block_kept);
        }

        let normed = self.normed(&x);
        let (n_loss, d_model) = (batch.selected.n_row, self.spec.d_model);
        let mut loss = backend.rows(n_loss, 1, Storage::Exact);
        let mut d_normed = backend.rows(n_loss, d_model, Storage::Exact);
        backend.head_loss(&self.head(), &normed, &batch.targets, &mut loss, Some(&mut d_normed));

        let mut d_x = backend.rows(n_loss, d_model, Storage::Exact);
        backend.zero(&mut d_x);
        backend.norm_backward(&self.final_norm, &x, &d_normed, &mut d_x);
        context.norm_parameters_backward(&self.final_norm, Site::FinalNorm, &x, &d_normed, grads);
        drop(x);
        let head_site = if self.own_head.is_some() { Site::Head } else { Site::Embedding };
        if let Some(place) = attachments.trained.get(&head_site) {
            backend.head_grad(&self.head(), &normed, &batch.targets, place.weight, &mut grads.flat);
        }
        let lowest = attachments.lowest();
        for (layer, block) in self.blocks.iter().enumerate().skip(first).rev() {
            let kept = kept.pop().expect("one entry for each block from the first on");
            if lowest <= Depth::block(layer, Step::Bottleneck) {
                kept.backward(block, &context, layer, &mut d_x, grads, lowest);
            }
        }
        if lowest == Depth::INPUT {
            self.embed_backward(&context, batch, d_x, grads);
        }
        backend.read(&loss)
    }

    /// Gradients of the tables and of a soft prompt, where they are trained.
    fn embed_backward(
        &self,
        context: &Context<'_, B>,
        batch: &Batch<B>,
        d_x: B::Rows,
        grads: &mut AttachmentsGrad<B>,
    ) {
        let (backend, attachments) = (&self.backend, context.attachments);
        let d_x = self.dropped(context, &d_x).unwrap_or(d_x);
        for (site, ids) in [(Site::Embedding, &batch.ids), (Site::Positions, &batch.positions)] {
            if let Some(place) = attachments.trained.get(&site) {
                backend.embed_grad(ids, 1.0, &d_x, place.weight, &mut grads.flat);
            }
        }
        if let (Some(soft), Some(prompt)) = (&batch.soft, &attachments.soft_prompt) {
            soft.backward(backend, prompt, &d_x, &mut grads.flat);
        }
    }

    /// Rows of the embedding under its dropout, or their gradient; none where nothing is dropped.
    fn dropped(&self, context: &Context<'_, B>, x: &B::Rows) -> Option<B::Rows> {
        let probability = context.attachments.dropout.embedding;
        let masks = context.masks.filter(|_| probability > 0.0)?;
        let (n_row, d_model) = self.backend.shape(x);
        let mut out = self.backend.rows(n_row, d_model, Storage::Exact);
        self.backend.dropout(masks.of(n_row), probability, Site::Embedding.number(), x, &mut out);
        Some(out)
    }

    /// Logits `[n_row, vocab_size]` of every row of the batch, row-major. For tests and inspection: it stores them
    /// whole.
    pub fn logits(&self, batch: &Batch<B>, attachments: &Attachments<B>) -> Vec<f32> {
        let context = self.context(batch, attachments, None);
        let x = self.run(&context, 0..self.blocks.len(), self.embed(&context, batch));
        self.backend.read(&self.head_logits(&x))
    }

    /// `[n_row, vocab_size]` from the last block's output.
    pub(crate) fn head_logits(&self, x: &B::Rows) -> B::Rows {
        let normed = self.normed(x);
        let (n_row, _) = self.backend.shape(x);
        let mut logits = self.backend.rows(n_row, self.spec.vocab_size, Storage::Exact);
        let term = Term { x: &normed, weight: self.head().weight, direction: Direction::Plain };
        self.backend.linear(&[term], Epilogue::Store, &mut logits);
        logits
    }

    pub(crate) fn head(&self) -> Head<'_, B> {
        Head { weight: self.own_head.as_ref().unwrap_or(&self.embedding), bias: None, scale: 1.0 }
    }

    /// Token embeddings and rows of the soft prompt, with learned positions where the model has them.
    pub(crate) fn embed_tokens(
        &self,
        context: &Context<'_, B>,
        ids: &B::Index,
        soft: Option<&SoftRows<B>>,
        n_row: usize,
    ) -> B::Rows {
        let mut x = self.backend.rows(n_row, self.spec.d_model, Storage::Exact);
        self.backend.embed(&self.embedding, ids, 1.0, &mut x);
        if let (Some(soft), Some(prompt)) = (soft, &context.attachments.soft_prompt) {
            soft.embed(&self.backend, prompt, &mut x);
        }
        if let Some(table) = &self.position_embedding {
            self.backend.embed_add(table, context.positions, &mut x);
        }
        self.dropped(context, &x).unwrap_or(x)
    }

    fn embed(&self, context: &Context<'_, B>, batch: &Batch<B>) -> B::Rows {
        self.embed_tokens(context, &batch.ids, batch.soft.as_ref(), batch.n_row)
    }

    /// The lowest block that is run for its own sake, and its input.
    fn enter(&self, context: &Context<'_, B>, batch: &Batch<B>) -> (usize, B::Rows) {
        let first = context.attachments.n_frozen_block(self.blocks.len());
        let x = match &self.inputs {
            Some(inputs) if first > 0 && batch.masks.is_none() => self.kept_input(inputs, batch, first),
            _ => self.run(context, 0..first, self.embed(context, batch)),
        };
        (first, x)
    }

    /// The input of block `layer`, of which nothing that is attached changes a number.
    fn kept_input(&self, inputs: &InputCache, batch: &Batch<B>, layer: usize) -> B::Rows {
        let width = self.spec.d_model;
        let mut values = vec![0.0; batch.n_row * width];
        for text in &batch.texts {
            let key = TextKey { layer, tokens: text.tokens.clone() };
            let kept = inputs.rows(&key, || self.text_input(&text.tokens, layer));
            for (&row, kept) in text.rows.iter().zip(kept.chunks_exact(width)) {
                values[row * width..(row + 1) * width].copy_from_slice(kept);
            }
        }
        self.backend.rows_from(&values, width, Storage::Exact)
    }

    /// The input of block `layer` for a text alone.
    fn text_input(&self, tokens: &[u32], layer: usize) -> Vec<f32> {
        let rows = 0..tokens.len();
        let own =
            KeyRun { store: 0, rows: rows.clone(), causal_from: Some(0), bias_from: None, dropout: None };
        let run = QueryRun { rows: rows.clone(), first_position: 0, keys: vec![own] };
        let context = Context {
            backend: &self.backend,
            spec: &self.spec,
            rotary: self.rotary.as_ref(),
            positions: &self.backend.index(&rows.map(|row| row as u32).collect::<Vec<_>>()),
            plan: &self.backend.plan(&AttentionPlan { runs: vec![run] }),
            selected: None,
            attachments: &Attachments::none(),
            masks: None,
        };
        let x = self.embed_tokens(&context, &self.backend.index(tokens), None, tokens.len());
        self.backend.read(&self.run(&context, 0..layer, x))
    }

    /// Some blocks, one after the other.
    fn run(&self, context: &Context<'_, B>, layers: Range<usize>, x: B::Rows) -> B::Rows {
        layers.fold(x, |x, layer| self.blocks[layer].forward(context, layer, &x, Text::Own))
    }

    fn normed(&self, x: &B::Rows) -> B::Rows {
        let (n_row, d_model) = self.backend.shape(x);
        let mut normed = self.backend.rows(n_row, d_model, Storage::Compact);
        self.backend.norm(&self.final_norm, x, &mut normed);
        normed
    }

    fn context<'a>(
        &'a self,
        batch: &'a Batch<B>,
        attachments: &'a Attachments<B>,
        selected: Option<&'a Selected<B>>,
    ) -> Context<'a, B> {
        Context {
            backend: &self.backend,
            spec: &self.spec,
            rotary: self.rotary.as_ref(),
            positions: &batch.positions,
            plan: &batch.plan,
            selected,
            attachments,
            masks: batch.masks.as_ref(),
        }
    }
}

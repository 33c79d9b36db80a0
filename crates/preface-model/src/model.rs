//! A frozen language model, decoder-only or encoder-decoder: forward, loss, and the gradient of what is attached to it.

use preface_backend::{AttentionPlan, Backend, Direction, Epilogue, Head, KeyRun, QueryRun, Storage, Term};

use crate::attachments::Depth;
use crate::batch::{Prefix, Text};
use crate::encoder_batch::{EncoderBatch, EncoderRows};
use crate::inputs::{InputCache, TextKey};
use crate::layer::{BlockStack, Context, Cross, Encoded, Kept, Pass, RowMasks, Selected};
use crate::soft::SoftRows;
use crate::{
    Attachments, AttachmentsGrad, Batch, InputStorage, ModelSpec, PerPlace, PrefixPlace, Site, Stack,
};

/// Weights on a backend.
pub struct Model<B: Backend> {
    pub(crate) backend: B,
    pub(crate) spec: ModelSpec,
    pub(crate) embedding: B::Weight,
    pub(crate) encoder: Option<BlockStack<B>>,
    pub(crate) decoder: BlockStack<B>,
    /// The head where it is not the embedding.
    pub(crate) own_head: Option<B::Weight>,
    /// Added to the logits, where the model has it.
    pub(crate) head_bias: Option<HeadBias<B>>,
    pub(crate) recompute: bool,
    pub(crate) inputs: Option<InputCache>,
}

/// A number for each token, on the backend for the loss and here for logits.
pub(crate) struct HeadBias<B: Backend> {
    pub vector: B::Vector,
    pub values: Vec<f32>,
}

/// What a decoder's rows see of an encoder.
pub(crate) struct CrossRows<'a, B: Backend> {
    /// Which of its rows each sees.
    pub plan: &'a B::Plan,
    /// Dropout masks of the encoder's rows; none where nothing is dropped.
    pub masks: Option<&'a RowMasks<B>>,
    pub encoded: Encoded<'a, B>,
}

/// What the rows of a decoder's pass are.
#[derive(Clone, Copy)]
pub(crate) struct PassRows<'a, B: Backend> {
    pub positions: &'a B::Index,
    /// Who sees whom.
    pub plan: &'a B::Plan,
    /// The attached prefixes as a cache stores them; none where they are taken as they are attached.
    pub compact_prefixes: Option<&'a [PerPlace<B::Rows>]>,
    /// Which of them are a soft prompt's.
    pub soft: Option<&'a SoftRows<B>>,
    /// Their dropout masks; none where nothing is dropped.
    pub masks: Option<&'a RowMasks<B>>,
}

/// An encoder's pass, with what its backward needs.
struct EncoderKept<B: Backend> {
    /// The lowest thing in it that is trained: the backward ends there.
    lowest: Depth,
    /// The lowest block that kept something.
    first: usize,
    /// The last block's output.
    x: B::Rows,
    /// The encoder's output.
    states: B::Rows,
    blocks: Vec<Kept<B>>,
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
    /// that what lies below it is run once. From then on that input is rounded as `storage` says, kept or not. In an
    /// encoder-decoder it is the encoder's output that is kept, source by source, while nothing is attached to the encoder or
    /// trained in it.
    pub fn keep_inputs(&mut self, storage: InputStorage, max_bytes: usize) {
        self.inputs = Some(InputCache::new(storage, max_bytes));
    }

    /// Bytes that the weights occupy as stored.
    pub fn weight_bytes(&self) -> usize {
        let stacks = || self.encoder.iter().chain([&self.decoder]);
        let blocks = stacks().flat_map(|stack| &stack.blocks).flat_map(|block| {
            let cross = block.cross.iter().flat_map(|cross| {
                [&cross.attention.qkv.weight, &cross.keys.weight, &cross.attention.output.weight]
            });
            cross.chain([
                &block.attention.qkv.weight,
                &block.attention.output.weight,
                &block.feed_forward.up.weight,
                &block.feed_forward.down.weight,
            ])
        });
        let positions = stacks().filter_map(|stack| stack.position_embedding.as_ref());
        let tables = self.own_head.iter().chain(positions).chain([&self.embedding]);
        blocks.chain(tables).map(|weight| self.backend.weight_bytes(weight)).sum()
    }

    /// Negative log-likelihood in nats of every row that has a target, in the batch's order: where sequences share rows,
    /// that of all their targets there.
    pub fn loss(&self, batch: &Batch<B>, attachments: &Attachments<B>) -> Vec<f32> {
        let states = self.encode_batch(batch, attachments);
        let pass = self.decoder_pass(batch, attachments, states.as_ref(), Some(&batch.selected));
        let (first, x) = self.enter(&pass, batch);
        let x = self.decoder.forward(&pass, first..self.decoder.blocks.len(), x);
        let normed = self.decoder.leave(&pass.own, &x);
        let mut loss = self.backend.rows(batch.selected.n_row, 1, Storage::Exact);
        self.backend.head_loss(&self.head(), normed.as_ref().unwrap_or(&x), &batch.targets, &mut loss, None);
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
        // With nothing attached to the encoder or trained in it its output is a constant.
        let encoder = match (&batch.encoder, attachments.lowest(Stack::Encoder)) {
            (Some(sources), Some(lowest)) => Some(self.encode_keep(sources, attachments, lowest)),
            _ => None,
        };
        let constant = if encoder.is_none() { self.encode_batch(batch, attachments) } else { None };
        let states = encoder.as_ref().map(|encoder| &encoder.states).or(constant.as_ref());

        let pass = self.decoder_pass(batch, attachments, states, Some(&batch.selected));
        let (first, x) = self.enter(&pass, batch);
        let (x, kept) = self.decoder.forward_keep(&pass, first, x, self.recompute);
        let normed = self.decoder.leave(&pass.own, &x);
        let (n_loss, d_model) = (batch.selected.n_row, self.spec.d_model);
        let mut loss = backend.rows(n_loss, 1, Storage::Exact);
        let mut d_normed = backend.rows(n_loss, d_model, Storage::Exact);
        let head_input = normed.as_ref().unwrap_or(&x);
        backend.head_loss(&self.head(), head_input, &batch.targets, &mut loss, Some(&mut d_normed));

        let head_site = if self.own_head.is_some() { Site::Head } else { Site::Embedding };
        if let Some(place) = attachments.trained.get(&head_site) {
            backend.head_grad(&self.head(), head_input, &batch.targets, place.weight, &mut grads.flat);
        }
        let d_x = self.decoder.leave_backward(&pass.own, &x, d_normed, grads);
        drop((x, normed));
        let mut d_states = encoder.as_ref().map(|encoder| {
            let (n_row, width) = backend.shape(&encoder.states);
            let mut rows = backend.rows(n_row, width, Storage::Exact);
            backend.zero(&mut rows);
            rows
        });
        let lowest = attachments.lowest(Stack::Decoder).unwrap_or(Depth::ABOVE);
        let d_x = self.decoder.backward(&pass, first, kept, d_x, d_states.as_mut(), grads, lowest);
        if lowest == Depth::INPUT {
            self.embed_backward(&pass.own, &batch.ids, batch.n_row, d_x, grads);
        }
        if let (Some(sources), Some(encoder), Some(d_states)) = (&batch.encoder, encoder, d_states) {
            let (stack, pass) = (self.encoder_stack(), self.encoder_pass(sources, attachments));
            let EncoderKept { lowest, first, x, blocks, .. } = encoder;
            let d_x = stack.leave_backward(&pass.own, &x, d_states, grads);
            let d_x = stack.backward(&pass, first, blocks, d_x, None, grads, lowest);
            if lowest == Depth::INPUT {
                self.embed_backward(&pass.own, &sources.ids, sources.n_row, d_x, grads);
            }
        }
        backend.read(&loss)
    }

    /// Gradients of what makes a stack's input, where it is trained: tables, norm, a soft prompt.
    fn embed_backward(
        &self,
        context: &Context<'_, B>,
        ids: &B::Index,
        n_row: usize,
        d_x: B::Rows,
        grads: &mut AttachmentsGrad<B>,
    ) {
        let (backend, attachments, side) = (&self.backend, context.attachments, context.side());
        let x = || self.embedded(context, ids, n_row);
        let d_x = self.stack(side).enter_backward(context, x, d_x, grads);
        let scale = self.spec.embedding_scale;
        let tables = [(Site::Embedding, ids, scale), (Site::Positions(side), context.positions, 1.0)];
        for (site, ids, scale) in tables {
            if let Some(place) = attachments.trained.get(&site) {
                backend.embed_grad(ids, scale, &d_x, place.weight, &mut grads.flat);
            }
        }
        if let (Some(soft), Some(prompt)) = (context.soft, &attachments.soft_prompt) {
            soft.backward(backend, prompt, &d_x, &mut grads.flat);
        }
    }

    /// Logits `[n_row, vocab_size]` of every row of the batch, row-major. For tests and inspection: it stores them
    /// whole.
    pub fn logits(&self, batch: &Batch<B>, attachments: &Attachments<B>) -> Vec<f32> {
        let states = self.encode_batch(batch, attachments);
        let pass = self.decoder_pass(batch, attachments, states.as_ref(), None);
        let all = 0..self.decoder.blocks.len();
        let x = self.decoder.forward(&pass, all, self.embed(&pass.own, batch));
        self.head_logits(&self.decoder.leave(&pass.own, &x).unwrap_or(x)).to_vec()
    }

    /// The output of the encoder, `[n_row, d_model]`, for sources that are packed.
    pub(crate) fn encode(&self, sources: &EncoderBatch<B>, attachments: &Attachments<B>) -> B::Rows {
        let (stack, pass) = (self.encoder_stack(), self.encoder_pass(sources, attachments));
        let x = self.embed_tokens(&pass.own, &sources.ids, sources.n_row);
        let x = stack.forward(&pass, 0..stack.blocks.len(), x);
        stack.leave(&pass.own, &x).unwrap_or(x)
    }

    /// `[n_row, vocab_size]`, row-major, from the decoder's output.
    pub(crate) fn head_logits(&self, x: &B::Rows) -> B::Host {
        let backend = &self.backend;
        let (n_row, _) = backend.shape(x);
        let mut logits = backend.rows(n_row, self.spec.vocab_size, Storage::Exact);
        let term = Term { x, weight: self.head().weight, direction: Direction::Plain };
        backend.linear(&[term], Epilogue::Store, &mut logits);
        let mut logits = backend.to_host(logits);
        if self.spec.head_scale != 1.0 {
            logits.iter_mut().for_each(|logit| *logit *= self.spec.head_scale);
        }
        if let Some(bias) = &self.head_bias {
            for row in logits.chunks_exact_mut(bias.values.len()) {
                row.iter_mut().zip(&bias.values).for_each(|(logit, bias)| *logit += bias);
            }
        }
        logits
    }

    pub(crate) fn head(&self) -> Head<'_, B> {
        Head {
            weight: self.own_head.as_ref().unwrap_or(&self.embedding),
            bias: self.head_bias.as_ref().map(|bias| &bias.vector),
            scale: self.spec.head_scale,
        }
    }

    /// A stack's input: token embeddings and rows of the soft prompt, with positions and norm where the model has them.
    pub(crate) fn embed_tokens(&self, context: &Context<'_, B>, ids: &B::Index, n_row: usize) -> B::Rows {
        self.stack(context.side()).enter(context, self.embedded(context, ids, n_row))
    }

    /// The same ahead of the norm.
    fn embedded(&self, context: &Context<'_, B>, ids: &B::Index, n_row: usize) -> B::Rows {
        let mut x = self.backend.rows(n_row, self.spec.d_model, Storage::Exact);
        self.backend.embed(&self.embedding, ids, self.spec.embedding_scale, &mut x);
        if let (Some(soft), Some(prompt)) = (context.soft, &context.attachments.soft_prompt) {
            soft.embed(&self.backend, prompt, &mut x);
        }
        if let Some(table) = &self.stack(context.side()).position_embedding {
            self.backend.embed_add(table, context.positions, &mut x);
        }
        x
    }

    fn embed(&self, context: &Context<'_, B>, batch: &Batch<B>) -> B::Rows {
        self.embed_tokens(context, &batch.ids, batch.n_row)
    }

    /// The lowest block of the decoder that is run for its own sake, and its input.
    fn enter(&self, pass: &Pass<'_, B>, batch: &Batch<B>) -> (usize, B::Rows) {
        let first = pass.own.attachments.n_frozen_block(self.decoder.blocks.len());
        let x = match &self.inputs {
            Some(inputs) if first > 0 && batch.masks.is_none() && self.encoder.is_none() => {
                self.kept_input(inputs, batch, first)
            }
            _ => self.decoder.forward(pass, 0..first, self.embed(&pass.own, batch)),
        };
        (first, x)
    }

    /// The input of block `layer`, of which nothing that is attached changes a number.
    fn kept_input(&self, inputs: &InputCache, batch: &Batch<B>, layer: usize) -> B::Rows {
        let key = |text: &Text| TextKey { stack: Stack::Decoder, layer, tokens: text.tokens.clone() };
        let rows = batch
            .texts
            .iter()
            .map(|text| (text, inputs.rows(&key(text), || self.text_input(&text.tokens, layer))));
        self.backend.rows_from(&self.gathered(batch.n_row, rows), self.spec.d_model, Storage::Exact)
    }

    /// The encoder's output, of which nothing that is attached changes a number. Only products take it.
    fn kept_states(&self, inputs: &InputCache, sources: &EncoderBatch<B>) -> B::Rows {
        let layer = self.encoder_stack().blocks.len();
        let key = |text: &Text| TextKey { stack: Stack::Encoder, layer, tokens: text.tokens.clone() };
        let rows = sources
            .texts
            .iter()
            .map(|text| (text, inputs.rows(&key(text), || self.source_states(&text.tokens))));
        self.backend.rows_from(&self.gathered(sources.n_row, rows), self.spec.d_model, Storage::Compact)
    }

    /// The rows of texts, each in its place of the packed matrix.
    fn gathered<'t>(&self, n_row: usize, rows: impl Iterator<Item = (&'t Text, Vec<f32>)>) -> Vec<f32> {
        let width = self.spec.d_model;
        let mut values = vec![0.0; n_row * width];
        for (text, kept) in rows {
            for (&row, kept) in text.rows.iter().zip(kept.chunks_exact(width)) {
                values[row * width..(row + 1) * width].copy_from_slice(kept);
            }
        }
        values
    }

    /// The encoder's output for a source alone.
    fn source_states(&self, tokens: &[u32]) -> Vec<f32> {
        let none = Attachments::none();
        let mut rows = EncoderRows::new(&self.spec, &none);
        rows.push(tokens, &Prefix::of(&none, None), None, None);
        let source = rows.upload(&self.backend, &AttentionPlan::default());
        self.backend.read(&self.encode(&source, &none))
    }

    /// The input of block `layer` for a text alone.
    fn text_input(&self, tokens: &[u32], layer: usize) -> Vec<f32> {
        let (rows, from) = (0..tokens.len(), Some(0));
        let own = KeyRun { store: 0, rows: rows.clone(), causal_from: from, bias_from: from, dropout: None };
        let run = QueryRun { rows: rows.clone(), first_position: 0, keys: vec![own] };
        let positions = self.backend.index(&rows.map(|row| self.spec.position_row(row)).collect::<Vec<_>>());
        let plan = self.backend.plan(&AttentionPlan { runs: vec![run] });
        let none = Attachments::none();
        let rows =
            PassRows { positions: &positions, plan: &plan, compact_prefixes: None, soft: None, masks: None };
        let pass = self.pass(rows, None, &none, None);
        let x = self.embed_tokens(&pass.own, &self.backend.index(tokens), tokens.len());
        self.backend.read(&self.decoder.forward(&pass, 0..layer, x))
    }

    fn encode_batch(&self, batch: &Batch<B>, attachments: &Attachments<B>) -> Option<B::Rows> {
        let is_constant = attachments.encoder_is_constant();
        batch.encoder.as_ref().map(|sources| match &self.inputs {
            Some(inputs) if is_constant && sources.masks.is_none() => self.kept_states(inputs, sources),
            _ => self.encode(sources, attachments),
        })
    }

    fn encode_keep(
        &self,
        sources: &EncoderBatch<B>,
        attachments: &Attachments<B>,
        lowest: Depth,
    ) -> EncoderKept<B> {
        let (stack, pass) = (self.encoder_stack(), self.encoder_pass(sources, attachments));
        let first = lowest.first_block(stack.blocks.len());
        let x = self.embed_tokens(&pass.own, &sources.ids, sources.n_row);
        let x = stack.forward(&pass, 0..first, x);
        let (x, blocks) = stack.forward_keep(&pass, first, x, self.recompute);
        let states = stack.leave(&pass.own, &x);
        let states = states.unwrap_or_else(|| {
            let (n_row, width) = self.backend.shape(&x);
            let mut copy = self.backend.rows(n_row, width, Storage::Exact);
            let all = self.backend.index(&(0..n_row as u32).collect::<Vec<_>>());
            self.backend.gather(&x, 0..width, &all, &mut copy);
            copy
        });
        EncoderKept { lowest, first, x, states, blocks }
    }

    fn encoder_stack(&self) -> &BlockStack<B> {
        self.encoder.as_ref().expect("a batch has sources only where the model has an encoder")
    }

    fn stack(&self, side: Stack) -> &BlockStack<B> {
        match side {
            Stack::Encoder => self.encoder_stack(),
            Stack::Decoder => &self.decoder,
        }
    }

    /// What the encoder's layers share.
    pub(crate) fn encoder_context<'a>(
        &'a self,
        sources: &'a EncoderBatch<B>,
        attachments: &'a Attachments<B>,
    ) -> Context<'a, B> {
        let stack = self.encoder_stack();
        Context {
            backend: &self.backend,
            place: PrefixPlace::Encoder,
            rotary: stack.rotary.as_ref(),
            positions: &sources.positions,
            relative_bias: stack.relative_bias.as_ref(),
            plan: &sources.plan,
            last_plan: None,
            selected: None,
            n_layer: stack.blocks.len(),
            attachments,
            compact_prefixes: None,
            soft: sources.soft.as_ref(),
            masks: sources.masks.as_ref(),
        }
    }

    pub(crate) fn encoder_pass<'a>(
        &'a self,
        sources: &'a EncoderBatch<B>,
        attachments: &'a Attachments<B>,
    ) -> Pass<'a, B> {
        Pass { own: self.encoder_context(sources, attachments), cross: None }
    }

    fn decoder_pass<'a>(
        &'a self,
        batch: &'a Batch<B>,
        attachments: &'a Attachments<B>,
        states: Option<&'a B::Rows>,
        selected: Option<&'a Selected<B>>,
    ) -> Pass<'a, B> {
        let cross = match (&batch.encoder, states) {
            (Some(sources), Some(states)) => {
                let (plan, masks) = (&sources.cross_plan, sources.masks.as_ref());
                Some(CrossRows { plan, masks, encoded: Encoded::States(states) })
            }
            _ => None,
        };
        let Batch { positions, plan, soft, masks, .. } = batch;
        let (soft, masks) = (soft.as_ref(), masks.as_ref());
        let rows = PassRows { positions, plan, compact_prefixes: None, soft, masks };
        self.pass(rows, cross, attachments, selected)
    }

    /// What the decoder's blocks share.
    pub(crate) fn pass<'a>(
        &'a self,
        rows: PassRows<'a, B>,
        cross: Option<CrossRows<'a, B>>,
        attachments: &'a Attachments<B>,
        selected: Option<&'a Selected<B>>,
    ) -> Pass<'a, B> {
        let PassRows { positions, plan, compact_prefixes, soft, masks } = rows;
        let own = Context {
            backend: &self.backend,
            place: PrefixPlace::Decoder,
            rotary: self.decoder.rotary.as_ref(),
            positions,
            relative_bias: self.decoder.relative_bias.as_ref(),
            plan,
            last_plan: selected.map(|selected| &selected.plan),
            selected,
            n_layer: self.decoder.blocks.len(),
            attachments,
            compact_prefixes,
            soft,
            masks,
        };
        let cross = cross.map(|CrossRows { plan, masks: source_masks, encoded }| {
            let context = Context {
                place: PrefixPlace::Cross,
                rotary: None,
                relative_bias: None,
                plan,
                last_plan: selected.and_then(|selected| selected.cross_plan.as_ref()),
                // The rows that come have been selected already.
                selected: None,
                ..own
            };
            Cross { context, source: Context { masks: source_masks, ..context }, encoded }
        });
        Pass { own, cross }
    }
}

#[cfg(test)]
mod tests {
    use preface_backend::Reference;

    use super::*;
    use crate::{ModelFiles, PerPlace, Segment, Sequence};

    #[test]
    fn sources_are_kept_once_each_and_only_while_the_encoder_is_constant() {
        let folder = testkit::golden_folder().join("encoder_decoder/bart");
        let mut model = ModelFiles::open(folder.to_str().unwrap()).unwrap().load(Reference).unwrap();
        model.keep_inputs(InputStorage::F32, 1 << 20);
        let n_kept = |model: &Model<Reference>| model.inputs.as_ref().unwrap().n_text();
        let sequence = |source, segment| Sequence {
            source,
            tokens: &[2, 20, 21],
            first_target: 1,
            segment,
            prefix_dropout: None,
            masks: None,
        };
        let run =
            |model: &Model<Reference>, attachments: &Attachments<Reference>, sequences: &[Sequence<'_>]| {
                let batch = Batch::pack(&Reference, &model.spec, attachments, sequences, 0.0).unwrap();
                model.loss_and_gradient(&batch, attachments, &mut attachments.zero_grad(&Reference))
            };
        let rows = |place| vec![0.5; model.spec.row_width(place)];
        let (encoder, cross) = (rows(PrefixPlace::Encoder), rows(PrefixPlace::Cross));
        let attach = |rows: PerPlace<&[f32]>| Attachments {
            segments: vec![Segment::in_places(&Reference, rows, 0, &model.spec)],
            ..Attachments::none()
        };
        let in_encoder = attach(PerPlace { encoder: &encoder, decoder: &[], cross: &[] });
        run(&model, &in_encoder, &[sequence(&[7, 8], Some(0))]);
        assert_eq!(n_kept(&model), 0);
        let beside_it = attach(PerPlace { encoder: &[], decoder: &[], cross: &cross });
        let (a, b, c) = (&[7, 8][..], &[9, 10, 11][..], &[7][..]);
        run(&model, &beside_it, &[sequence(a, Some(0)), sequence(b, Some(0)), sequence(a, Some(0))]);
        assert_eq!(n_kept(&model), 2);
        run(&model, &beside_it, &[sequence(b, Some(0)), sequence(c, None)]);
        assert_eq!(n_kept(&model), 3);
    }
}

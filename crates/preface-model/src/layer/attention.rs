//! Self-attention with a fused query/key/value product: `x + W_o attend(W_qkv norm(x))`.
//!
//! Columns of the fused product: queries `[n_head * head_dim]`, then keys and values `[n_kv_head * head_dim]` each.
//! Rotary embedding turns queries and keys in place; the backward turns their gradients back.

use preface_backend::{AttentionCall, Backend, Epilogue, HeadSpan, KeyStore, Norm, Place, Rotation, Storage};

use super::{Linear, RowMasks};
use crate::attachments::layer_store;
use crate::{Attachments, AttachmentsGrad, ModelSpec, Part};

/// Norm, products and their order.
pub(crate) struct AttentionLayer<B: Backend> {
    pub norm: Norm<B>,
    pub qkv: Linear<B>,
    pub output: Linear<B>,
}

/// What all layers of a pass share.
pub(crate) struct Context<'a, B: Backend> {
    pub backend: &'a B,
    pub spec: &'a ModelSpec,
    /// `[n_position, head_dim]`, where positions are rotary.
    pub rotary: Option<&'a B::Rows>,
    pub positions: &'a B::Index,
    pub plan: &'a B::Plan,
    /// Rows that the last layer gives; all if absent.
    pub selected: Option<&'a Selected<B>>,
    pub attachments: &'a Attachments<B>,
    /// Dropout masks of the rows; none where nothing is dropped.
    pub masks: Option<&'a RowMasks<B>>,
}

/// The rows of a pass that are wanted of the last layer. Of the others it computes nothing but keys and values.
pub(crate) struct Selected<B: Backend> {
    pub n_row: usize,
    /// Their numbers in the pass.
    pub rows: B::Index,
    /// Who sees whom, with the selected rows as queries.
    pub plan: B::Plan,
}

impl<B: Backend> Context<'_, B> {
    /// The rows that are wanted of `layer`, if not all.
    fn selected(&self, layer: usize) -> Option<&Selected<B>> {
        self.selected.filter(|_| layer + 1 == self.spec.n_layer)
    }

    /// The selected rows of `x`.
    fn pick(&self, selected: &Selected<B>, x: &B::Rows, storage: Storage) -> B::Rows {
        let (_, width) = self.backend.shape(x);
        let mut picked = self.backend.rows(selected.n_row, width, storage);
        self.backend.gather(x, 0..width, &selected.rows, &mut picked);
        picked
    }
}

/// Where the text's keys and values are read from (store 0 of the plan).
pub(crate) enum Text<'a, B: Backend> {
    /// The rows of this pass.
    Own,
    /// A layer's cache `[n_slot, 2 * kv_width]`, after the rows of this pass were put into their slots.
    Cache { rows: &'a mut B::Rows, slots: &'a B::Index },
}

/// What the backward needs.
pub(crate) struct AttentionKept<B: Backend> {
    x: B::Rows,
    qkv: B::Rows,
    /// The selected rows of `qkv`, where only some are wanted.
    picked: Option<B::Rows>,
    log_sum_exp: B::Rows,
    /// What the heads give, where something is trained that takes it in.
    attended: Option<B::Rows>,
}

impl<B: Backend> AttentionLayer<B> {
    /// `[n_row, d_model]` to the same (the selected rows of it, in the last layer); keeps what the backward needs.
    pub fn forward_keep(
        &self,
        context: &Context<'_, B>,
        layer: usize,
        x: B::Rows,
    ) -> (B::Rows, AttentionKept<B>) {
        let qkv = self.project(context, &x);
        let picked = context.selected(layer).map(|selected| context.pick(selected, &qkv, Storage::Compact));
        let (n_query, _) = context.backend.shape(picked.as_ref().unwrap_or(&qkv));
        let mut log_sum_exp = context.backend.rows(n_query, context.spec.n_head, Storage::Exact);
        let operands = Operands::new(context, layer, &qkv, picked.as_ref(), None);
        let (out, attended) = self.attend(context, layer, &x, &operands, Some(&mut log_sum_exp));
        let attended = context.attachments.wants_input(self.output.site).then_some(attended);
        (out, AttentionKept { x: context.backend.compact(x), qkv, picked, log_sum_exp, attended })
    }

    /// The same without a backward in view.
    pub fn forward(&self, context: &Context<'_, B>, layer: usize, x: &B::Rows, text: Text<'_, B>) -> B::Rows {
        let qkv = self.project(context, x);
        let picked = context.selected(layer).map(|selected| context.pick(selected, &qkv, Storage::Compact));
        let cache = match text {
            Text::Own => None,
            Text::Cache { rows, slots } => {
                let first = context.spec.attention().query_width();
                context.backend.scatter(&qkv, first..first + 2 * context.spec.kv_width(), slots, rows);
                Some(&*rows)
            }
        };
        let operands = Operands::new(context, layer, &qkv, picked.as_ref(), cache);
        self.attend(context, layer, x, &operands, None).0
    }

    /// Turns the gradient of the layer's output (which is also that of its residual) into that of its input, and adds
    /// to `grads` what reaches the prefixes and what else is trained in it. Unless `below` is wanted, `d_x` means nothing
    /// afterwards.
    pub fn backward(
        &self,
        context: &Context<'_, B>,
        layer: usize,
        kept: &AttentionKept<B>,
        d_x: &mut B::Rows,
        grads: &mut AttachmentsGrad<B>,
        below: bool,
    ) {
        let Context { backend, spec, .. } = context;
        let (n_row, n_query) = (backend.shape(&kept.qkv).0, backend.shape(d_x).0);
        let norm_site = self.qkv.site.sibling(Part::AttentionNorm);
        let norm_trained = context.attachments.trained.contains_key(&norm_site);
        // Without any of these, only the prefixes ask for a gradient.
        let stop = !below && !norm_trained && !context.attachments.wants_input(self.qkv.site);
        let shape = spec.attention();
        let mut d_attended = backend.rows(n_query, shape.query_width(), Storage::Exact);
        let dropped = context.branch_gradient(&self.output, d_x);
        let d_branch = dropped.as_ref().unwrap_or(d_x);
        let attended = kept.attended.as_ref();
        self.output.backward(context, attended, d_branch, Epilogue::Store, &mut d_attended, grads);

        let operands = Operands::new(context, layer, &kept.qkv, kept.picked.as_ref(), None);
        let qkv_width = shape.query_width() + 2 * shape.kv_width();
        let zeros = |n_row: usize, width| {
            let mut rows = backend.rows(if stop { 0 } else { n_row }, width, Storage::Exact);
            backend.zero(&mut rows);
            rows
        };
        let mut d_qkv = zeros(n_row, qkv_width);
        let mut d_picked = kept.picked.as_ref().map(|_| zeros(n_query, qkv_width));
        // Gradients lie where their values lie.
        let mut buffers: Vec<&mut B::Rows> = vec![&mut d_qkv];
        buffers.extend(grads.segments.iter_mut());
        buffers.extend(d_picked.as_mut());
        let d_query = (!stop).then_some(operands.query);
        let d_stores: Vec<Option<KeyStore>> =
            operands.stores.iter().enumerate().map(|(i, store)| (i > 0 || !stop).then_some(*store)).collect();
        let call = operands.call(context, layer);
        backend.attention_backward(&call, &kept.log_sum_exp, &d_attended, d_query, &d_stores, &mut buffers);
        if stop {
            return;
        }
        if let (Some(selected), Some(d_picked)) = (context.selected(layer), d_picked) {
            // The other rows' queries and residuals reach nothing.
            backend.scatter_add(&d_picked, &selected.rows, &mut d_qkv);
            let mut d_all = zeros(n_row, spec.d_model);
            backend.scatter_add(d_x, &selected.rows, &mut d_all);
            *d_x = d_all;
        }
        self.rotate(context, Rotation::Backward, &mut d_qkv);
        let normed = context.normed_input(&self.norm, &self.qkv, &kept.x);
        if !below && !norm_trained {
            self.qkv.parameters_backward(context, normed.as_ref(), &d_qkv, grads);
            return;
        }
        let mut d_normed = backend.rows(n_row, spec.d_model, Storage::Exact);
        self.qkv.backward(context, normed.as_ref(), &d_qkv, Epilogue::Store, &mut d_normed, grads);
        context.norm_parameters_backward(&self.norm, norm_site, &kept.x, &d_normed, grads);
        if below {
            backend.norm_backward(&self.norm, &kept.x, &d_normed, d_x);
        }
    }

    fn project(&self, context: &Context<'_, B>, x: &B::Rows) -> B::Rows {
        let Context { backend, spec, .. } = context;
        let (n_row, _) = backend.shape(x);
        let shape = spec.attention();
        let normed = context.normed(&self.norm, x);
        let mut qkv = backend.rows(n_row, shape.query_width() + 2 * shape.kv_width(), Storage::Compact);
        self.qkv.forward(context, &normed, self.qkv.plain(), &mut qkv);
        self.rotate(context, Rotation::Forward, &mut qkv);
        qkv
    }

    fn rotate(&self, context: &Context<'_, B>, rotation: Rotation, qkv: &mut B::Rows) {
        let Some(table) = context.rotary else { return };
        let spec = context.spec;
        // Queries and keys stand side by side: one span.
        let heads =
            HeadSpan { first_column: 0, n_head: spec.n_head + spec.n_kv_head, head_dim: spec.head_dim };
        context.backend.rotary(table, context.positions, heads, rotation, qkv);
    }

    /// The sum, and what the heads give.
    fn attend(
        &self,
        context: &Context<'_, B>,
        layer: usize,
        x: &B::Rows,
        operands: &Operands<'_, B>,
        log_sum_exp: Option<&mut B::Rows>,
    ) -> (B::Rows, B::Rows) {
        let Context { backend, spec, .. } = context;
        let picked = context.selected(layer).map(|selected| context.pick(selected, x, Storage::Exact));
        let residual = picked.as_ref().unwrap_or(x);
        let (n_query, _) = backend.shape(residual);
        let mut attended = backend.rows(n_query, spec.attention().query_width(), Storage::Compact);
        backend.attention(&operands.call(context, layer), &mut attended, log_sum_exp);
        (context.add_to_residual(&self.output, &attended, residual), attended)
    }
}

/// What attention reads: buffer 0 is the fused product, 1.. the segments, then the text's cache if there is one, then
/// the selected rows of the fused product if there are any.
struct Operands<'a, B: Backend> {
    sources: Vec<&'a B::Rows>,
    query: Place,
    /// Store 0 is the text, segment `i` is store `1 + i`.
    stores: Vec<KeyStore>,
}

impl<'a, B: Backend> Operands<'a, B> {
    fn new(
        context: &Context<'a, B>,
        layer: usize,
        qkv: &'a B::Rows,
        picked: Option<&'a B::Rows>,
        cache: Option<&'a B::Rows>,
    ) -> Self {
        let Context { spec, attachments, .. } = context;
        let segments = attachments.segments.iter().map(|segment| &segment.rows);
        let mut sources: Vec<&B::Rows> = std::iter::once(qkv).chain(segments).collect();
        let (buffer, column) = match cache {
            None => (0, spec.attention().query_width()),
            Some(_) => (sources.len(), 0),
        };
        let text = KeyStore {
            keys: Place { buffer, column },
            values: Place { buffer, column: column + spec.kv_width() },
        };
        let segments = (0..attachments.segments.len()).map(|segment| layer_store(spec, layer, 1 + segment));
        let stores = std::iter::once(text).chain(segments).collect();
        sources.extend(cache);
        let query = Place { buffer: picked.map_or(0, |_| sources.len()), column: 0 };
        sources.extend(picked);
        Self { sources, query, stores }
    }

    fn call<'c>(&'c self, context: &'c Context<'_, B>, layer: usize) -> AttentionCall<'c, B> {
        AttentionCall {
            shape: context.spec.attention(),
            layer: layer as u32,
            plan: context.selected(layer).map_or(context.plan, |selected| &selected.plan),
            sources: &self.sources,
            query: self.query,
            stores: &self.stores,
            relative_bias: None,
        }
    }
}

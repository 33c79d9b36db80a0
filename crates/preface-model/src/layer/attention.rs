//! Self-attention with a fused query/key/value product: `x + W_o attend(W_qkv norm(x))`.
//!
//! Columns of the fused product: queries `[n_head * head_dim]`, then keys and values `[n_kv_head * head_dim]` each.
//! Rotary embedding turns queries and keys in place; the backward turns their gradients back.

use preface_backend::{AttentionCall, Backend, Epilogue, HeadSpan, KeyStore, Norm, Place, Rotation, Storage};

use super::Linear;
use crate::attachments::layer_store;
use crate::{Attachments, AttachmentsGrad, ModelSpec};

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
    pub attachments: &'a Attachments<B>,
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
    log_sum_exp: B::Rows,
}

impl<B: Backend> AttentionLayer<B> {
    /// `[n_row, d_model]` to the same; keeps what the backward needs.
    pub fn forward_keep(
        &self,
        context: &Context<'_, B>,
        layer: usize,
        x: B::Rows,
    ) -> (B::Rows, AttentionKept<B>) {
        let (n_row, _) = context.backend.shape(&x);
        let qkv = self.project(context, &x);
        let mut log_sum_exp = context.backend.rows(n_row, context.spec.n_head, Storage::Exact);
        let out = self.attend(context, layer, &x, &qkv, &Text::Own, Some(&mut log_sum_exp));
        (out, AttentionKept { x, qkv, log_sum_exp })
    }

    /// The same without a backward in view.
    pub fn forward(&self, context: &Context<'_, B>, layer: usize, x: &B::Rows, text: Text<'_, B>) -> B::Rows {
        let qkv = self.project(context, x);
        if let Text::Cache { rows, slots } = text {
            let spec = context.spec;
            let first = spec.attention().query_width();
            context.backend.scatter(&qkv, first..first + 2 * spec.kv_width(), slots, rows);
            self.attend(context, layer, x, &qkv, &Text::Cache { rows, slots }, None)
        } else {
            self.attend(context, layer, x, &qkv, &Text::Own, None)
        }
    }

    /// Adds to `d_x` (the gradient of the layer's output, which is also that of its residual) what flows through the
    /// attention, and to `grads` what reaches the prefixes. With `stop` nothing below is wanted and `d_x` stays.
    pub fn backward(
        &self,
        context: &Context<'_, B>,
        layer: usize,
        kept: &AttentionKept<B>,
        d_x: &mut B::Rows,
        grads: &mut AttachmentsGrad<B>,
        stop: bool,
    ) {
        let Context { backend, spec, .. } = context;
        let (n_row, _) = backend.shape(d_x);
        let shape = spec.attention();
        let mut d_attended = backend.rows(n_row, shape.query_width(), Storage::Exact);
        backend.linear(&self.output.back(d_x), Epilogue::Store, &mut d_attended);

        let sources = sources(&kept.qkv, None, context.attachments);
        let stores = stores(spec, layer, &Text::<B>::Own, context.attachments);
        let call = AttentionCall {
            shape,
            layer: layer as u32,
            plan: context.plan,
            sources: &sources,
            query: Place { buffer: 0, column: 0 },
            stores: &stores,
        };
        let qkv_width = shape.query_width() + 2 * shape.kv_width();
        let mut d_qkv = backend.rows(if stop { 0 } else { n_row }, qkv_width, Storage::Exact);
        backend.zero(&mut d_qkv);
        // Gradients lie where their values lie: buffer 0 is the text, the others are the segments.
        let d_query = (!stop).then_some(Place { buffer: 0, column: 0 });
        let d_stores: Vec<Option<KeyStore>> =
            stores.iter().enumerate().map(|(i, store)| (i > 0 || !stop).then_some(*store)).collect();
        let mut buffers: Vec<&mut B::Rows> = vec![&mut d_qkv];
        buffers.extend(grads.segments.iter_mut());
        backend.attention_backward(&call, &kept.log_sum_exp, &d_attended, d_query, &d_stores, &mut buffers);
        if stop {
            return;
        }
        self.rotate(context, Rotation::Backward, &mut d_qkv);
        let mut d_normed = backend.rows(n_row, spec.d_model, Storage::Exact);
        backend.linear(&self.qkv.back(&d_qkv), Epilogue::Store, &mut d_normed);
        backend.norm_backward(&self.norm, &kept.x, &d_normed, d_x);
    }

    fn project(&self, context: &Context<'_, B>, x: &B::Rows) -> B::Rows {
        let Context { backend, spec, .. } = context;
        let (n_row, _) = backend.shape(x);
        let shape = spec.attention();
        let mut normed = backend.rows(n_row, spec.d_model, Storage::Compact);
        backend.norm(&self.norm, x, &mut normed);
        let mut qkv = backend.rows(n_row, shape.query_width() + 2 * shape.kv_width(), Storage::Exact);
        backend.linear(&self.qkv.term(&normed), self.qkv.plain(), &mut qkv);
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

    fn attend(
        &self,
        context: &Context<'_, B>,
        layer: usize,
        x: &B::Rows,
        qkv: &B::Rows,
        text: &Text<'_, B>,
        log_sum_exp: Option<&mut B::Rows>,
    ) -> B::Rows {
        let Context { backend, spec, .. } = context;
        let (n_row, _) = backend.shape(x);
        let shape = spec.attention();
        let cache = match text {
            Text::Own => None,
            Text::Cache { rows, .. } => Some(&**rows),
        };
        let sources = sources(qkv, cache, context.attachments);
        let stores = stores(spec, layer, text, context.attachments);
        let call = AttentionCall {
            shape,
            layer: layer as u32,
            plan: context.plan,
            sources: &sources,
            query: Place { buffer: 0, column: 0 },
            stores: &stores,
        };
        let mut attended = backend.rows(n_row, shape.query_width(), Storage::Compact);
        backend.attention(&call, &mut attended, log_sum_exp);
        let mut out = backend.rows(n_row, spec.d_model, Storage::Exact);
        let epilogue = Epilogue::Residual { residual: x, bias: self.output.bias.as_ref() };
        backend.linear(&self.output.term(&attended), epilogue, &mut out);
        out
    }
}

/// Buffer 0 is the fused product, 1.. the segments, the last one the cache if there is one.
fn sources<'a, B: Backend>(
    qkv: &'a B::Rows,
    cache: Option<&'a B::Rows>,
    attachments: &'a Attachments<B>,
) -> Vec<&'a B::Rows> {
    let segments = attachments.segments.iter().map(|segment| &segment.rows);
    std::iter::once(qkv).chain(segments).chain(cache).collect()
}

/// Store 0 is the text, segment `i` is store `1 + i`.
fn stores<B: Backend>(
    spec: &ModelSpec,
    layer: usize,
    text: &Text<'_, B>,
    attachments: &Attachments<B>,
) -> Vec<KeyStore> {
    let (buffer, column) = match text {
        Text::Own => (0, spec.attention().query_width()),
        Text::Cache { .. } => (1 + attachments.segments.len(), 0),
    };
    let own = KeyStore {
        keys: Place { buffer, column },
        values: Place { buffer, column: column + spec.kv_width() },
    };
    let segments = (0..attachments.segments.len()).map(|segment| layer_store(spec, layer, 1 + segment));
    std::iter::once(own).chain(segments).collect()
}

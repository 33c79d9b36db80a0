//! Attention with its norm and residual: `x + W_o attend(W_qkv norm(x))`, or `norm(x + W_o attend(W_qkv x))` where the
//! norm stands behind the layer.
//!
//! In self-attention the product is fused; its columns are queries `[n_head * head_dim]`, then keys and values
//! `[n_kv_head * head_dim]` each. In cross-attention it gives queries alone, and keys and values come from the encoder's
//! output. Rotary embedding turns queries and keys in place; the backward turns their gradients back.

use preface_backend::{
    AttentionCall, AttentionDropout, AttentionShape, Backend, Epilogue, HeadSpan, KeyStore, Place, Rotation,
    Storage,
};

use super::sublayer::{Sublayer, SublayerKept};
use super::{BiasTable, Linear, RowMasks};
use crate::attachments::{AddedRows, layer_store};
use crate::soft::SoftRows;
use crate::{Attachments, AttachmentsGrad, Part, PerPlace, PrefixPlace, Site, Stack};

/// Norm, products and their order.
pub(crate) struct AttentionLayer<B: Backend> {
    pub norm: Sublayer<B>,
    pub shape: AttentionShape,
    pub qkv: Linear<B>,
    pub output: Linear<B>,
}

/// What all layers of a pass share.
pub(crate) struct Context<'a, B: Backend> {
    pub backend: &'a B,
    /// Whose prefix rows these layers see.
    pub place: PrefixPlace,
    /// `[n_position, head_dim]`, where positions are rotary.
    pub rotary: Option<&'a B::Rows>,
    pub positions: &'a B::Index,
    pub relative_bias: Option<&'a BiasTable<B>>,
    pub plan: &'a B::Plan,
    /// The plan of the last layer, where it has other rows than the others.
    pub last_plan: Option<&'a B::Plan>,
    /// Rows that the last layer gives; all if absent.
    pub selected: Option<&'a Selected<B>>,
    /// Number of layers of the stack.
    pub n_layer: usize,
    pub attachments: &'a Attachments<B>,
    /// The attached prefixes as a cache stores them; none where they are taken as they are attached.
    pub compact_prefixes: Option<&'a [PerPlace<B::Rows>]>,
    /// Rows of a soft prompt among those of the pass.
    pub soft: Option<&'a SoftRows<B>>,
    /// Dropout masks of the rows; none where nothing is dropped.
    pub masks: Option<&'a RowMasks<B>>,
}

impl<B: Backend> Clone for Context<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for Context<'_, B> {}

/// The rows of a pass that are wanted of the last layer. Of the others it computes nothing but keys and values.
pub(crate) struct Selected<B: Backend> {
    pub n_row: usize,
    /// Their numbers in the pass.
    pub rows: B::Index,
    /// Who sees whom, with the selected rows as queries.
    pub plan: B::Plan,
    /// The same for what they see of the encoder.
    pub cross_plan: Option<B::Plan>,
}

impl<B: Backend> Context<'_, B> {
    /// The stack whose layers these are.
    pub fn side(&self) -> Stack {
        self.place.stack()
    }

    /// The rows that are wanted of `layer`, if not all.
    fn selected(&self, layer: usize) -> Option<&Selected<B>> {
        self.selected.filter(|_| layer + 1 == self.n_layer)
    }

    /// Who sees whom in `layer`.
    fn plan(&self, layer: usize) -> &B::Plan {
        self.last_plan.filter(|_| layer + 1 == self.n_layer).unwrap_or(self.plan)
    }

    /// What is added to keys and values of a soft prompt's rows, and which rows these are.
    fn soft_added(&self) -> Option<(&SoftRows<B>, &AddedRows<B>)> {
        let soft = self.soft.filter(|_| self.place != PrefixPlace::Cross)?;
        Some((soft, self.attachments.soft_prompt.as_ref()?.added.as_ref()?))
    }

    /// The selected rows of `x`.
    fn pick(&self, selected: &Selected<B>, x: &B::Rows, storage: Storage) -> B::Rows {
        let (_, width) = self.backend.shape(x);
        let mut picked = self.backend.rows(selected.n_row, width, storage);
        self.backend.gather(x, 0..width, &selected.rows, &mut picked);
        picked
    }
}

/// Where keys and values of no prefix are read from (store 0 of the plan).
pub(crate) enum Text<'a, B: Backend> {
    /// The rows of this pass.
    Own,
    /// A layer's cache `[n_slot, 2 * kv_width]`, after the rows of this pass were put into their slots.
    Cache { rows: &'a mut B::Rows, slots: &'a B::Index },
    /// Keys and values `[n_row, 2 * kv_width]` of the encoder's output.
    Encoded(&'a B::Rows),
}

/// The same for the backward.
pub(crate) enum TextGrad<'a, B: Backend> {
    /// The rows of this pass.
    Own,
    /// Keys and values of the encoder's output, and where their gradient is added, if it is wanted.
    Encoded { rows: &'a B::Rows, grad: Option<&'a mut B::Rows> },
}

/// What the backward needs.
pub(crate) struct AttentionKept<B: Backend> {
    input: SublayerKept<B>,
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
        encoded: Option<&B::Rows>,
    ) -> (B::Rows, AttentionKept<B>) {
        let qkv = self.project(context, layer, &x);
        let picked = context.selected(layer).map(|selected| context.pick(selected, &qkv, Storage::Compact));
        let (n_query, _) = context.backend.shape(picked.as_ref().unwrap_or(&qkv));
        let mut log_sum_exp = context.backend.rows(n_query, self.shape.n_head, Storage::Exact);
        let operands = self.operands(context, layer, &qkv, picked.as_ref(), encoded);
        let (sum, attended) = self.attend(context, layer, &x, &operands, Some(&mut log_sum_exp));
        let attended = context.attachments.wants_input(self.output.site).then_some(attended);
        let (out, input) = self.norm.after_keep(context, &self.qkv, x, sum);
        (out, AttentionKept { input, qkv, picked, log_sum_exp, attended })
    }

    /// The same without a backward in view.
    pub fn forward(&self, context: &Context<'_, B>, layer: usize, x: &B::Rows, text: Text<'_, B>) -> B::Rows {
        let qkv = self.project(context, layer, x);
        let picked = context.selected(layer).map(|selected| context.pick(selected, &qkv, Storage::Compact));
        let elsewhere = match text {
            Text::Own => None,
            Text::Cache { rows, slots } => {
                let first = self.shape.query_width();
                context.backend.scatter(&qkv, first..first + 2 * self.shape.kv_width(), slots, rows);
                Some(&*rows)
            }
            Text::Encoded(rows) => Some(rows),
        };
        let operands = self.operands(context, layer, &qkv, picked.as_ref(), elsewhere);
        let (sum, _) = self.attend(context, layer, x, &operands, None);
        self.norm.after(context.backend, sum)
    }

    /// Turns the gradient of the layer's output into that of its input, and adds to `grads` what reaches the prefixes and
    /// what else is trained in it. Unless `below` is wanted, `d_x` means nothing afterwards.
    #[expect(clippy::too_many_arguments, reason = "two places of keys, two of gradients")]
    pub fn backward(
        &self,
        context: &Context<'_, B>,
        layer: usize,
        kept: &AttentionKept<B>,
        text: TextGrad<'_, B>,
        d_x: &mut B::Rows,
        grads: &mut AttachmentsGrad<B>,
        below: bool,
    ) {
        let backend = context.backend;
        let (n_row, n_query) = (backend.shape(&kept.qkv).0, backend.shape(d_x).0);
        let shape = self.shape;
        let norm_site = self.norm_site();
        // Without any of these, only the prefixes ask for a gradient.
        let norm_trained = self.norm.trained_before(context, norm_site);
        let stop = !below && !norm_trained && !context.attachments.wants_input(self.qkv.site);
        self.norm.after_backward(context, norm_site, &kept.input, d_x, grads);
        let mut d_attended = backend.rows(n_query, shape.query_width(), Storage::Compact);
        let dropped = context.branch_gradient(&self.output, d_x);
        let d_branch = dropped.as_ref().unwrap_or(d_x);
        let attended = kept.attended.as_ref();
        self.output.backward(context, attended, d_branch, Epilogue::Store, &mut d_attended, grads);

        let (_, qkv_width) = backend.shape(&kept.qkv);
        let zeros = |n_row: usize, width| {
            let mut rows = backend.rows(if stop { 0 } else { n_row }, width, Storage::Exact);
            backend.zero(&mut rows);
            rows
        };
        let mut d_qkv = zeros(n_row, qkv_width);
        let mut d_picked = kept.picked.as_ref().map(|_| zeros(n_query, qkv_width));
        let mut unwanted = zeros(0, 2 * shape.kv_width());
        let (encoded, d_text, text_wanted) = match text {
            TextGrad::Own => (None, None, !stop),
            TextGrad::Encoded { rows, grad } => {
                let wanted = grad.is_some();
                (Some(rows), Some(grad.unwrap_or(&mut unwanted)), wanted)
            }
        };
        let operands = self.operands(context, layer, &kept.qkv, kept.picked.as_ref(), encoded);
        let d_query = (!stop).then_some(operands.query);
        let wanted = |i: usize| if i == 0 { text_wanted } else { true };
        let d_stores: Vec<Option<KeyStore>> =
            operands.stores.iter().enumerate().map(|(i, store)| wanted(i).then_some(*store)).collect();
        let call = self.call(&operands, context, layer, n_query);
        if let (Some(table), Some(place)) =
            (context.relative_bias, context.attachments.trained.get(&Site::RelativeBias(context.side())))
        {
            let (places, flat) = (table.places(), &mut grads.flat);
            backend.attention_bias_grad(&call, &kept.log_sum_exp, &d_attended, places, place.weight, flat);
        }
        // Gradients lie where their values lie.
        let mut buffers: Vec<&mut B::Rows> = vec![&mut d_qkv];
        buffers.extend(grads.segments.iter_mut().map(|segment| segment.get_mut(context.place)));
        buffers.extend(d_text);
        buffers.extend(d_picked.as_mut());
        backend.attention_backward(&call, &kept.log_sum_exp, &d_attended, d_query, &d_stores, &mut buffers);
        if stop {
            return;
        }
        if let (Some(selected), Some(d_picked)) = (context.selected(layer), d_picked) {
            // The other rows' queries and residuals reach nothing.
            backend.scatter_add(&d_picked, &selected.rows, &mut d_qkv);
            let mut d_all = zeros(n_row, backend.shape(d_x).1);
            backend.scatter_add(d_x, &selected.rows, &mut d_all);
            *d_x = d_all;
        }
        self.rotate(context, Rotation::Backward, &mut d_qkv);
        if let Some((soft, added)) = context.soft_added() {
            soft.add_backward(backend, added, layer, &d_qkv, &mut grads.flat);
        }
        self.norm.before_backward(context, &self.qkv, norm_site, &kept.input, &d_qkv, d_x, grads, below);
    }

    fn norm_site(&self) -> Site {
        let is_cross = matches!(self.qkv.site, Site::Block { part: Part::CrossQuery, .. });
        self.qkv.site.sibling(if is_cross { Part::CrossNorm } else { Part::AttentionNorm })
    }

    fn project(&self, context: &Context<'_, B>, layer: usize, x: &B::Rows) -> B::Rows {
        let backend = context.backend;
        let (n_row, _) = backend.shape(x);
        let normed = self.norm.before(context, x);
        let (width, _) = backend.weight_shape(&self.qkv.weight);
        let mut qkv = backend.rows(n_row, width, Storage::Compact);
        self.qkv.forward(context, normed.as_ref().unwrap_or(x), self.qkv.plain(), &mut qkv);
        if let Some((soft, added)) = context.soft_added() {
            soft.add(backend, added, layer, &mut qkv);
        }
        self.rotate(context, Rotation::Forward, &mut qkv);
        qkv
    }

    fn rotate(&self, context: &Context<'_, B>, rotation: Rotation, qkv: &mut B::Rows) {
        let Some(table) = context.rotary else { return };
        let AttentionShape { n_head, n_kv_head, head_dim, .. } = self.shape;
        // Queries and keys stand side by side: one span.
        let heads = HeadSpan { first_column: 0, n_head: n_head + n_kv_head, head_dim };
        context.backend.rotary(table, context.positions, heads, rotation, qkv);
    }

    /// The residual stream with the attention's output added, and what the heads give.
    fn attend(
        &self,
        context: &Context<'_, B>,
        layer: usize,
        x: &B::Rows,
        operands: &Operands<'_, B>,
        log_sum_exp: Option<&mut B::Rows>,
    ) -> (B::Rows, B::Rows) {
        let backend = context.backend;
        let picked = context.selected(layer).map(|selected| context.pick(selected, x, Storage::Exact));
        let residual = picked.as_ref().unwrap_or(x);
        let (n_query, _) = backend.shape(residual);
        let mut attended = backend.rows(n_query, self.shape.query_width(), Storage::Compact);
        let call = self.call(operands, context, layer, n_query);
        backend.attention(&call, &mut attended, log_sum_exp);
        (context.add_to_residual(&self.output, &attended, residual), attended)
    }

    fn operands<'a>(
        &self,
        context: &Context<'a, B>,
        layer: usize,
        qkv: &'a B::Rows,
        picked: Option<&'a B::Rows>,
        elsewhere: Option<&'a B::Rows>,
    ) -> Operands<'a, B> {
        let (shape, segments) = (self.shape, &context.attachments.segments);
        let mut sources = vec![qkv];
        match context.compact_prefixes {
            Some(compact) => sources.extend(compact.iter().map(|rows| rows.get(context.place))),
            None => sources.extend(segments.iter().map(|segment| segment.rows.get(context.place))),
        }
        let (buffer, column) = match elsewhere {
            None => (0, shape.query_width()),
            Some(_) => (sources.len(), 0),
        };
        let text = KeyStore {
            keys: Place { buffer, column },
            values: Place { buffer, column: column + shape.kv_width() },
        };
        let prefixes = (0..segments.len()).map(|segment| layer_store(shape.kv_width(), layer, 1 + segment));
        let stores = std::iter::once(text).chain(prefixes).collect();
        sources.extend(elsewhere);
        let query = Place { buffer: picked.map_or(0, |_| sources.len()), column: 0 };
        sources.extend(picked);
        Operands { sources, query, stores }
    }

    fn call<'c>(
        &self,
        operands: &'c Operands<'_, B>,
        context: &'c Context<'_, B>,
        layer: usize,
        n_query: usize,
    ) -> AttentionCall<'c, B> {
        let probability = context.attachments.dropout.attention;
        let dropout = context.masks.filter(|_| probability > 0.0).map(|masks| AttentionDropout {
            masks: masks.of(n_query),
            probability,
            layer: self.qkv.site.number() | ATTENTION_MASKS,
        });
        AttentionCall {
            shape: self.shape,
            layer: layer as u32,
            plan: context.plan(layer),
            sources: &operands.sources,
            query: operands.query,
            stores: &operands.stores,
            relative_bias: context.relative_bias.map(BiasTable::of_distances),
            dropout,
        }
    }
}

/// Masks of attention's probabilities: other than those of dropout elsewhere at the same site.
const ATTENTION_MASKS: u32 = 1 << 21;

/// What attention reads: buffer 0 is the fused product, 1.. the segments, then the cache or the encoder's keys if there
/// are any, then the selected rows of the fused product if there are any.
struct Operands<'a, B: Backend> {
    sources: Vec<&'a B::Rows>,
    query: Place,
    /// Store 0 is the text, segment `i` is store `1 + i`.
    stores: Vec<KeyStore>,
}

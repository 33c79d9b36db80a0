//! Cross-attention: the decoder's queries on keys and values of the encoder's output.
//!
//! Keys and values are one product of the encoder's output, `[n_row, 2 * kv_width]`, the same for all of the decoder's
//! rows: made once for an input, however long the answer is and however many beams it has.

use preface_backend::{Backend, Epilogue, Storage};

use super::Linear;
use super::attention::{AttentionKept, AttentionLayer, Context, Text, TextGrad};
use crate::AttachmentsGrad;

/// Attention whose own product gives queries alone, and the product for keys and values.
pub(crate) struct CrossLayer<B: Backend> {
    pub attention: AttentionLayer<B>,
    pub keys: Linear<B>,
}

/// What a pass of the decoder sees of the encoder.
pub(crate) struct Cross<'a, B: Backend> {
    /// Plan and prefix rows of cross-attention.
    pub context: Context<'a, B>,
    /// The same with the dropout masks of the encoder's rows, of which keys and values are made.
    pub source: Context<'a, B>,
    pub encoded: Encoded<'a, B>,
}

/// The encoder's side of cross-attention.
pub(crate) enum Encoded<'a, B: Backend> {
    /// The encoder's output `[n_row, d_model]`.
    States(&'a B::Rows),
    /// Keys and values of each layer.
    Keys(&'a [B::Rows]),
}

/// What the backward needs.
pub(crate) struct CrossKept<B: Backend> {
    attention: AttentionKept<B>,
    keys: B::Rows,
}

impl<B: Backend> CrossLayer<B> {
    /// Keys and values of the encoder's output.
    pub fn project(&self, context: &Context<'_, B>, states: &B::Rows) -> B::Rows {
        let backend = context.backend;
        let (n_row, _) = backend.shape(states);
        let (width, _) = backend.weight_shape(&self.keys.weight);
        let mut keys = backend.rows(n_row, width, Storage::Compact);
        self.keys.forward(context, states, self.keys.plain(), &mut keys);
        keys
    }

    /// `[n_row, d_model]` to the same; keeps what the backward needs.
    pub fn forward_keep(&self, cross: &Cross<'_, B>, layer: usize, x: B::Rows) -> (B::Rows, CrossKept<B>) {
        let Encoded::States(states) = &cross.encoded else {
            unreachable!("training runs on the encoder's output");
        };
        let keys = self.project(&cross.source, states);
        let (out, attention) = self.attention.forward_keep(&cross.context, layer, x, Some(&keys));
        (out, CrossKept { attention, keys })
    }

    /// The same without a backward in view.
    pub fn forward(&self, cross: &Cross<'_, B>, layer: usize, x: &B::Rows) -> B::Rows {
        let run = |keys: &B::Rows| self.attention.forward(&cross.context, layer, x, Text::Encoded(keys));
        match &cross.encoded {
            Encoded::States(states) => run(&self.project(&cross.source, states)),
            Encoded::Keys(keys) => run(&keys[layer]),
        }
    }

    /// Turns the gradient of the output into that of the input, adds to `grads` what reaches the prefixes, and to
    /// `d_states`, where it is wanted, the gradient of the encoder's output.
    #[expect(clippy::too_many_arguments, reason = "as attention, and one more way for gradients")]
    pub fn backward(
        &self,
        cross: &Cross<'_, B>,
        layer: usize,
        kept: &CrossKept<B>,
        d_x: &mut B::Rows,
        d_states: Option<&mut B::Rows>,
        grads: &mut AttachmentsGrad<B>,
        below: bool,
    ) {
        let context = &cross.context;
        let backend = context.backend;
        let (n_row, width) = backend.shape(&kept.keys);
        let wanted = d_states.is_some() || context.attachments.wants_input(self.keys.site);
        let mut d_keys = wanted.then(|| {
            let mut rows = backend.rows(n_row, width, Storage::Exact);
            backend.zero(&mut rows);
            rows
        });
        let text = TextGrad::Encoded { rows: &kept.keys, grad: d_keys.as_mut() };
        self.attention.backward(context, layer, &kept.attention, text, d_x, grads, below);
        let Some(d_keys) = d_keys else { return };
        let Encoded::States(states) = cross.encoded else {
            unreachable!("training runs on the encoder's output");
        };
        match d_states {
            None => {
                self.keys.parameters_backward(&cross.source, Some(states), &d_keys, grads);
            }
            Some(d_states) => {
                let mut sum = backend.rows(n_row, backend.shape(d_states).1, Storage::Exact);
                let epilogue = Epilogue::Residual { residual: d_states, bias: None };
                self.keys.backward(&cross.source, Some(states), &d_keys, epilogue, &mut sum, grads);
                *d_states = sum;
            }
        }
    }
}

//! Keys and values that an encoder's layers make of a text.

use preface_backend::{AttentionPlan, Backend, Storage};

use crate::batch::{Prefix, check_source};
use crate::encoder_batch::EncoderRows;
use crate::layer::Text;
use crate::{Attachments, Model, ModelError};

impl<B: Backend> Model<B> {
    /// What every token of `tokens` is to the others in each layer of the encoder, in the layout of its prefix rows:
    /// `[len, 2 * n_layer * kv_width]`, row-major.
    ///
    /// # Errors
    /// A model without an encoder, no token, one outside the vocabulary, or more than the model has positions.
    pub fn encoder_text_rows(&self, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        let Some(stack) = &self.encoder else { return Err(ModelError::NoEncoder { sequence: 0 }) };
        check_source(&self.spec, 0, tokens, 0)?;
        let (backend, none) = (&self.backend, Attachments::none());
        let mut sources = EncoderRows::new(&self.spec, &none);
        sources.push(tokens, &Prefix::of(&none, None), None, None);
        let sources = sources.upload(backend, &AttentionPlan::default());
        let pass = self.encoder_pass(&sources, &none);
        let slots = backend.index(&(0..tokens.len() as u32).collect::<Vec<_>>());
        let (n_layer, width) = (stack.blocks.len(), 2 * stack.blocks[0].attention.shape.kv_width());
        let mut values = vec![0.0; tokens.len() * n_layer * width];
        let mut x = self.embed_tokens(&pass.own, &sources.ids, sources.n_row);
        for (layer, block) in stack.blocks.iter().enumerate() {
            let mut rows = backend.rows(tokens.len(), width, Storage::Compact);
            x = block.forward(&pass, layer, &x, Text::Cache { rows: &mut rows, slots: &slots });
            let mut exact = backend.rows(tokens.len(), width, Storage::Exact);
            backend.gather(&rows, 0..width, &slots, &mut exact);
            let kept = backend.read(&exact);
            for (row, kept) in values.chunks_exact_mut(n_layer * width).zip(kept.chunks_exact(width)) {
                row[layer * width..(layer + 1) * width].copy_from_slice(kept);
            }
        }
        Ok(values)
    }
}

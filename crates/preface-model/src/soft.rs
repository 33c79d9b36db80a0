//! Rows of a soft prompt among the rows of a pass.
//!
//! Ahead of a text, or behind its prompt, they stand as ids behind the vocabulary, so that packing, positions, caching and
//! the sharing of beginnings treat them as tokens; only the embedding takes their rows from elsewhere, and every layer adds
//! what is trained for it to their keys and values.

use preface_backend::{Backend, Storage};

use crate::attachments::{AddedRows, SoftPlace, SoftPrompt};

/// Which rows of a pass are rows of the soft prompt.
pub(crate) struct SoftRows<B: Backend> {
    n_row: usize,
    /// Rows of the pass.
    rows: B::Index,
    /// Rows of the soft prompt.
    ids: B::Index,
}

impl<B: Backend> SoftPrompt<B> {
    /// `tokens`, of which the first `prompt_len` are the prompt, with the ids that stand for the soft prompt's rows.
    pub(crate) fn among(&self, vocab_size: usize, tokens: &[u32], prompt_len: usize) -> Vec<u32> {
        let (before, behind) = tokens.split_at(match self.place {
            SoftPlace::Start => 0,
            SoftPlace::BehindPrompt => prompt_len,
        });
        let ids = (0..self.len).map(|row| (vocab_size + row) as u32);
        before.iter().copied().chain(ids).chain(behind.iter().copied()).collect()
    }
}

impl<B: Backend> SoftRows<B> {
    /// Finds them in `ids` and puts a token in their place; none if there are none.
    pub fn take(backend: &B, vocab_size: usize, ids: &mut [u32]) -> Option<Self> {
        let (mut rows, mut soft) = (Vec::new(), Vec::new());
        for (row, id) in ids.iter_mut().enumerate() {
            if *id as usize >= vocab_size {
                rows.push(row as u32);
                soft.push(*id - vocab_size as u32);
                *id = 0;
            }
        }
        let n_row = rows.len();
        (n_row > 0).then(|| Self { n_row, rows: backend.index(&rows), ids: backend.index(&soft) })
    }

    /// Puts the soft prompt's rows into `x`.
    pub fn embed(&self, backend: &B, prompt: &SoftPrompt<B>, x: &mut B::Rows) {
        let (_, d_model) = backend.shape(x);
        let mut picked = backend.rows(self.n_row, d_model, Storage::Exact);
        backend.gather(&prompt.rows, 0..d_model, &self.ids, &mut picked);
        backend.scatter(&picked, 0..d_model, &self.rows, x);
    }

    /// Adds the gradient of the soft prompt's rows.
    pub fn backward(&self, backend: &B, prompt: &SoftPrompt<B>, d_x: &B::Rows, flat: &mut B::Rows) {
        backend.embed_grad(&self.ids, 1.0, &self.picked(backend, d_x), prompt.grad, flat);
    }

    /// Adds what is trained for a layer to the keys and values of its fused product.
    pub fn add(&self, backend: &B, added: &AddedRows<B>, layer: usize, qkv: &mut B::Rows) {
        let (_, width) = backend.shape(qkv);
        let mut rows = backend.rows(self.n_row, width, Storage::Exact);
        backend.gather(&added.layers[layer], 0..width, &self.ids, &mut rows);
        backend.scatter_add(&rows, &self.rows, qkv);
    }

    /// The gradient of that.
    pub fn add_backward(
        &self,
        backend: &B,
        added: &AddedRows<B>,
        layer: usize,
        d_qkv: &B::Rows,
        flat: &mut B::Rows,
    ) {
        let (len, width) = backend.shape(&added.layers[layer]);
        let first = added.grad + layer * len * width;
        backend.embed_grad(&self.ids, 1.0, &self.picked(backend, d_qkv), first, flat);
    }

    fn picked(&self, backend: &B, d_x: &B::Rows) -> B::Rows {
        let (_, width) = backend.shape(d_x);
        let mut picked = backend.rows(self.n_row, width, Storage::Exact);
        backend.gather(d_x, 0..width, &self.rows, &mut picked);
        picked
    }
}

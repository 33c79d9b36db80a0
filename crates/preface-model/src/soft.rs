//! Rows of a soft prompt among the rows of a pass.
//!
//! Ahead of a text they stand as ids behind the vocabulary, so that packing, positions, caching and the sharing of
//! beginnings treat them as tokens; only the embedding takes their rows from elsewhere.

use preface_backend::{Backend, Storage};

use crate::attachments::SoftPrompt;

/// Which rows of a pass are rows of the soft prompt.
pub(crate) struct SoftRows<B: Backend> {
    n_row: usize,
    /// Rows of the pass.
    rows: B::Index,
    /// Rows of the soft prompt.
    ids: B::Index,
}

/// The ids that stand for the rows of a soft prompt, ahead of `tokens`.
pub(crate) fn behind_soft_prompt(vocab_size: usize, soft_len: usize, tokens: &[u32]) -> Vec<u32> {
    (0..soft_len).map(|row| (vocab_size + row) as u32).chain(tokens.iter().copied()).collect()
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
        let (_, d_model) = backend.shape(d_x);
        let mut picked = backend.rows(self.n_row, d_model, Storage::Exact);
        backend.gather(d_x, 0..d_model, &self.rows, &mut picked);
        backend.embed_grad(&self.ids, 1.0, &picked, prompt.grad, flat);
    }
}

//! The end of a layer: its product is added to the residual stream, after dropout where the model has it.

use preface_backend::{Backend, Epilogue, Storage};

use super::{Context, Linear};

/// Which dropout mask falls on each row of a pass.
pub(crate) struct RowMasks<B: Backend> {
    /// For all rows.
    pub all: B::Masks,
    /// Number of all rows.
    pub n_row: usize,
    /// For the rows that the last layer gives.
    pub selected: B::Masks,
}

impl<B: Backend> RowMasks<B> {
    /// The masks of a matrix of `n_row` rows. (If all rows are selected, the two are the same.)
    pub fn of(&self, n_row: usize) -> &B::Masks {
        if n_row == self.n_row { &self.all } else { &self.selected }
    }
}

impl<B: Backend> Context<'_, B> {
    /// `residual + dropout(x W^T + b)`
    pub fn add_to_residual(&self, linear: &Linear<B>, x: &B::Rows, residual: &B::Rows) -> B::Rows {
        let backend = self.backend;
        let (n_row, d_model) = backend.shape(residual);
        let mut out = backend.rows(n_row, d_model, Storage::Exact);
        let Some(masks) = self.residual_masks() else {
            let epilogue = Epilogue::Residual { residual, bias: linear.bias.as_ref() };
            linear.forward(self, x, epilogue, &mut out);
            return out;
        };
        let mut branch = backend.rows(n_row, d_model, Storage::Exact);
        linear.forward(self, x, linear.plain(), &mut branch);
        let probability = self.attachments.dropout.residual;
        backend.dropout(masks.of(n_row), probability, linear.site.number(), &branch, &mut out);
        backend.add(residual, &mut out);
        out
    }

    /// The gradient of the product from that of the sum: another matrix only where there is dropout.
    pub fn branch_gradient(&self, linear: &Linear<B>, d_out: &B::Rows) -> Option<B::Rows> {
        let masks = self.residual_masks()?;
        let (n_row, d_model) = self.backend.shape(d_out);
        let mut d_branch = self.backend.rows(n_row, d_model, Storage::Exact);
        let probability = self.attachments.dropout.residual;
        self.backend.dropout(masks.of(n_row), probability, linear.site.number(), d_out, &mut d_branch);
        Some(d_branch)
    }

    fn residual_masks(&self) -> Option<&RowMasks<B>> {
        self.masks.filter(|_| self.attachments.dropout.residual > 0.0)
    }
}

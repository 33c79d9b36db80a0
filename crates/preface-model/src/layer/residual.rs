//! The end of a layer: its product is added to the residual stream, after dropout where the model has it.

use preface_backend::{Backend, Epilogue, RowMask, Storage};

use super::{Context, Linear};
use crate::Site;

/// Which dropout mask falls on each row of a pass.
pub(crate) struct RowMasks<B: Backend> {
    /// For all rows.
    pub all: B::Masks,
    /// Number of all rows.
    pub n_row: usize,
    /// For the rows that the last layer gives, where they are not all.
    pub selected: Option<B::Masks>,
}

impl<B: Backend> RowMasks<B> {
    /// If every row has a mask; `selected` numbers the rows that the last layer gives, where they are not all.
    pub fn new(backend: &B, masks: &[Option<RowMask>], selected: Option<&[u32]>) -> Option<Self> {
        let masks = masks.iter().copied().collect::<Option<Vec<RowMask>>>()?;
        let selected = selected.map(|rows| rows.iter().map(|&row| masks[row as usize]).collect::<Vec<_>>());
        let selected = selected.map(|masks| backend.masks(&masks));
        Some(Self { n_row: masks.len(), all: backend.masks(&masks), selected })
    }

    /// The masks of a matrix of `n_row` rows: all or the selected ones.
    pub fn of(&self, n_row: usize) -> &B::Masks {
        let selected = || self.selected.as_ref().expect("rows that are not all are the selected ones");
        if n_row == self.n_row { &self.all } else { selected() }
    }
}

impl<B: Backend> Context<'_, B> {
    /// `x` under dropout of the given probability at a site, stored as asked for; none where nothing is dropped.
    pub fn dropped(&self, probability: f32, site: Site, x: &B::Rows, storage: Storage) -> Option<B::Rows> {
        let masks = self.masks.filter(|_| probability > 0.0)?;
        let (n_row, width) = self.backend.shape(x);
        let mut out = self.backend.rows(n_row, width, storage);
        self.backend.dropout(masks.of(n_row), probability, site.number(), x, &mut out);
        Some(out)
    }

    /// `residual + dropout(x W^T + b)`
    pub fn add_to_residual(&self, linear: &Linear<B>, x: &B::Rows, residual: &B::Rows) -> B::Rows {
        let backend = self.backend;
        let (n_row, d_model) = backend.shape(residual);
        let mut out = backend.rows(n_row, d_model, Storage::Exact);
        if self.masks.is_none() || self.attachments.dropout.residual == 0.0 {
            let epilogue = Epilogue::Residual { residual, bias: linear.bias.as_ref() };
            linear.forward(self, x, epilogue, &mut out);
            return out;
        }
        linear.forward(self, x, linear.plain(), &mut out);
        let mut sum = self.branch_gradient(linear, &out).unwrap_or(out);
        backend.add(residual, &mut sum);
        sum
    }

    /// The gradient of the product from that of the sum: another matrix only where there is dropout.
    pub fn branch_gradient(&self, linear: &Linear<B>, d_out: &B::Rows) -> Option<B::Rows> {
        self.dropped(self.attachments.dropout.residual, linear.site, d_out, Storage::Exact)
    }
}

//! All that the model knows of a trained method.
//!
//! A *segment* is a prefix: for each layer `prefix_len` rows of keys and values that every query of the sequences
//! which name it sees, ahead of the text. Its rows are laid out as in the artefact: row `i` holds, one after the
//! other, K of layer 0, V of layer 0, K of layer 1, ... each `n_kv_head * head_dim` wide, K rows after rotary
//! embedding. They are not copied per sequence, so a batch may mix sequences with different prefixes.

use preface_backend::{Backend, KeyStore, Place, Storage};

use crate::ModelSpec;

/// The prefixes of a batch.
pub struct Attachments<B: Backend> {
    /// Prefixes, named by their index.
    pub segments: Vec<Segment<B>>,
}

/// One prefix.
pub struct Segment<B: Backend> {
    /// Number of rows; the text's positions start here.
    pub prefix_len: usize,
    /// `[prefix_len, 2 * n_layer * n_kv_head * head_dim]`
    pub rows: B::Rows,
}

/// Gradient of each segment's rows, in the same layout; sums over everything that was run backward into it.
pub struct AttachmentsGrad<B: Backend> {
    /// One for each segment.
    pub segments: Vec<B::Rows>,
}

impl<B: Backend> Attachments<B> {
    /// Nothing attached: the bare model.
    pub fn none() -> Self {
        Self { segments: Vec::new() }
    }

    /// One prefix of the given rows.
    pub fn prefix(backend: &B, rows: &[f32], spec: &ModelSpec) -> Self {
        Self { segments: vec![Segment::new(backend, rows, spec)] }
    }

    /// A gradient of zeros.
    pub fn zero_grad(&self, backend: &B) -> AttachmentsGrad<B> {
        let zeros = |segment: &Segment<B>| {
            let (n_row, width) = backend.shape(&segment.rows);
            let mut rows = backend.rows(n_row, width, Storage::Exact);
            backend.zero(&mut rows);
            rows
        };
        AttachmentsGrad { segments: self.segments.iter().map(zeros).collect() }
    }
}

impl<B: Backend> Segment<B> {
    /// A prefix of the given rows (row-major, [`ModelSpec::prefix_row_width`] wide).
    pub fn new(backend: &B, rows: &[f32], spec: &ModelSpec) -> Self {
        let width = spec.prefix_row_width();
        Self { prefix_len: rows.len() / width, rows: backend.rows_from(rows, width, Storage::Exact) }
    }
}

/// Where a layer's keys and values stand in a matrix of prefix rows that is buffer number `buffer` of a call.
pub(crate) fn layer_store(spec: &ModelSpec, layer: usize, buffer: usize) -> KeyStore {
    let width = spec.kv_width();
    KeyStore {
        keys: Place { buffer, column: 2 * layer * width },
        values: Place { buffer, column: (2 * layer + 1) * width },
    }
}

//! One description of attention for everything: causal text, prefixes, cached pages, shared prompts, beams, an
//! encoder's rows.
//!
//! Keys and values lie in *stores* (row matrices). For each run of query rows the plan lists key runs, pieces of
//! stores, and the softmax goes over all of them together:
//!
//! ```text
//! score(q, k) = scale * <q, k> + bias(position of k - position of q)     for every key row that the query may see
//! out(q)      = sum_k softmax(score)(q, k) v_k
//! ```
//!
//! So a prefix is not copied per sequence: it is a run that many query runs name, its gradient the sum over all of
//! them. Grouped heads: query head `h` reads key head `h / (n_head / n_kv_head)`. The bias exists where the call has
//! one ([`RelativeBias`]) and the run says where its keys stand.

use std::ops::Range;

use crate::{Backend, Dropout};

/// Head counts and scale of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub n_head: usize,
    /// Key/value heads; divides `n_head`.
    pub n_kv_head: usize,
    /// Columns of one head.
    pub head_dim: usize,
    /// Factor on the scores, `head_dim^-0.5` for most families.
    pub scale: f32,
}

impl AttentionShape {
    /// Columns of all query heads.
    pub fn query_width(&self) -> usize {
        self.n_head * self.head_dim
    }

    /// Columns of all key (or value) heads.
    pub fn kv_width(&self) -> usize {
        self.n_kv_head * self.head_dim
    }
}

/// Where a matrix of heads starts: a buffer of the call and its first column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index into [`AttentionCall::sources`] (or the gradients).
    pub buffer: usize,
    /// First column.
    pub column: usize,
}

/// A place for keys and one for values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyStore {
    /// Keys, `n_kv_head * head_dim` columns.
    pub keys: Place,
    /// Values, `n_kv_head * head_dim` columns.
    pub values: Place,
}

/// Where the gradients of a store go.
pub type StoreGrad = KeyStore;

/// A run of key rows.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyRun {
    /// Index into [`AttentionCall::stores`].
    pub store: usize,
    /// Rows of the store.
    pub rows: Range<usize>,
    /// `Some(p)`: key row `j` of the run stands at position `p + j` and is seen only by queries at that position or
    /// later. `None`: every query of the run sees every row (prefixes, earlier context, an encoder).
    pub causal_from: Option<usize>,
    /// `Some(p)`: key row `j` of the run stands at position `p + j` as the relative bias counts. `None`: the run has no
    /// bias, as T5's encoder prefixes.
    pub bias_from: Option<usize>,
    /// Mask over the run's K and V elements; element number `(row in run * 2 + is_value) * kv_width + column`.
    pub dropout: Option<Dropout>,
}

/// A run of query rows that see the same key runs.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryRun {
    /// Rows of the query matrix (and of `out`).
    pub rows: Range<usize>,
    /// Position of the first of them.
    pub first_position: usize,
    /// What they see. A query must see at least one key.
    pub keys: Vec<KeyRun>,
}

/// Who sees whom, the same for every layer of a pass. Query runs do not overlap.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttentionPlan {
    /// The runs.
    pub runs: Vec<QueryRun>,
}

/// What a distance adds to the scores of a head (T5).
pub struct RelativeBias<'a, B: Backend> {
    /// `[n_head, 2 * reach + 1]`, row-major: entry `reach + d` of a head is for keys that stand `d` positions after the
    /// query (`d < 0`: before it).
    pub values: &'a B::Vector,
    /// Greater distances count as this one.
    pub reach: usize,
}

/// The operands of one layer's attention.
pub struct AttentionCall<'a, B: Backend> {
    /// Head counts and scale.
    pub shape: AttentionShape,
    /// Number of the layer: dropout masks depend on it.
    pub layer: u32,
    /// Who sees whom.
    pub plan: &'a B::Plan,
    /// The matrices that `query` and `stores` name.
    pub sources: &'a [&'a B::Rows],
    /// Where the queries are.
    pub query: Place,
    /// Where keys and values are.
    pub stores: &'a [KeyStore],
    /// Added to the scores of key runs that have a position.
    pub relative_bias: Option<RelativeBias<'a, B>>,
    /// Dropout of the probabilities.
    pub dropout: Option<AttentionDropout<'a, B>>,
}

/// Dropout of attention's probabilities, behind the softmax: what a query gets of a key is multiplied by
/// [`RowMask::attention_factor`](crate::RowMask::attention_factor), the others' shares stay what they are.
///
/// Keys are numbered as the plan lists them, from 0 on for each run of queries, those of all runs through, seen or not.
pub struct AttentionDropout<'a, B: Backend> {
    /// For each row of queries.
    pub masks: &'a B::Masks,
    /// Probability, in `0..1`.
    pub probability: f32,
    /// Number of the place in the model.
    pub layer: u32,
}

impl<B: Backend> Clone for AttentionDropout<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for AttentionDropout<'_, B> {}

impl<B: Backend> Clone for RelativeBias<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for RelativeBias<'_, B> {}

impl<B: Backend> RelativeBias<'_, B> {
    /// Number of the entry for a query and a key at these positions.
    pub fn entry(&self, head: usize, query_position: usize, key_position: usize) -> usize {
        let distance = (key_position + self.reach).saturating_sub(query_position);
        head * (2 * self.reach + 1) + distance.min(2 * self.reach)
    }
}

impl KeyRun {
    /// Rows of the run that a query at `position` sees: the first so many.
    pub fn visible(&self, position: usize) -> usize {
        match self.causal_from {
            None => self.rows.len(),
            Some(first) => (position + 1).saturating_sub(first).min(self.rows.len()),
        }
    }
}

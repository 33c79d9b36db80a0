//! The operations that a transformer's forward and backward need, and their plain-loop reference.
//!
//! Everything works on *packed rows*: a matrix `[n_row, width]` in which the tokens of all sequences of a
//! batch stand one under the other, without padding. The layer code of `preface-model` is written once over
//! [`Backend`], in explicit forward/backward pairs; there is no tape and no graph.
//!
//! Three rules keep the list implementable on any device:
//!
//! 1. Rows, weights and index lists are associated types. Host memory appears only in the transfer operations
//!    (`rows_from`, `weight`, `vector`, `index`, `plan`, `targets`, `write`, `read`).
//! 2. No other operation returns a value to the host. A training step reads once, at its end.
//! 3. Gradients are *added* to their buffers wherever several terms meet (attention, embeddings, norms, weights), so
//!    that callers never need to know who writes first.
//!
//! Gradients of weights are operations of their own, run only when asked for. All of a pass lie in one flat buffer
//! `[1, n]`, each from its first element on, so that a method's gradient is that buffer and nothing is moved.
//!
//! [`Reference`] implements the list with plain loops that accumulate in `f64`: it is the specification, the
//! oracle of every other backend, and what [`conformance::check`] compares with.
#![forbid(unsafe_code)]

mod activation;
mod attention;
pub mod blocks;
pub mod conformance;
mod counting;
mod dropout;
mod head;
mod linear;
mod norm;
mod reference;

pub use activation::{Activation, Function};
pub use attention::{
    AttentionCall, AttentionDropout, AttentionPlan, AttentionShape, KeyRun, KeyStore, Place, QueryRun,
    RelativeBias, StoreGrad,
};
pub use blocks::{BlockFormat, BlockMatrix};
pub use counting::{CountedRows, CountedWeight, Counting, SizeOf};
pub use dropout::{Dropout, RowMask};
pub use head::{Head, RowTarget, TokenWeight};
pub use linear::{Direction, Epilogue, HostMatrix, Term, WeightPart};
pub use norm::{Norm, NormKind};
pub use reference::{Reference, ReferenceRows, ReferenceWeight};

use std::ops::{DerefMut, Range};

/// How a row matrix may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// `f32`: the residual stream, gradients that are summed, anything read back.
    Exact,
    /// The precision of the backend's matrix products: bf16 where it computes in bf16, else `f32`.
    Compact,
}

/// A contiguous group of heads inside the columns of a row matrix, as rotary embedding sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadSpan {
    /// First column of the first head.
    pub first_column: usize,
    /// Number of heads, each `head_dim` columns wide.
    pub n_head: usize,
    /// Columns of one head.
    pub head_dim: usize,
}

/// Rotation by the position's angle, or back (the transpose, which is its inverse).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// Forward.
    Forward,
    /// Backward: the gradient's way through [`Rotation::Forward`].
    Backward,
}

/// What a backend computes with, for logs, artefacts and benches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// `cpu`, `reference`, ...
    pub name: &'static str,
    /// `f32` or `bf16`: precision of the matrix products' operands.
    pub precision: &'static str,
    /// Instruction-set tier, such as `avx512`.
    pub tier: String,
    /// Worker threads.
    pub threads: usize,
}

/// The operations. See the crate's documentation for the rules that all of them follow.
///
/// Shapes are `[n_row, width]`, row-major in meaning whatever the storage. Operations panic when shapes do not
/// fit each other: that is an error of the layer code, never of a user's file.
pub trait Backend: Send + Sync + Sized + 'static {
    /// A matrix of activations or gradients.
    type Rows: Send + Sync;
    /// A stored weight matrix `[n_out, n_in]`.
    type Weight: Send + Sync;
    /// A parameter vector in `f32` (norm weights, biases).
    type Vector: Send + Sync;
    /// A list of row numbers, token ids or positions.
    type Index: Send + Sync;
    /// An uploaded [`AttentionPlan`].
    type Plan: Send + Sync;
    /// Uploaded targets of [`Backend::head_loss`].
    type Targets: Send + Sync;
    /// Which dropout mask falls on each row.
    type Masks: Send + Sync;
    /// Rows that were moved to the host.
    type Host: DerefMut<Target = [f32]> + Send;

    /// What this backend computes with.
    fn describe(&self) -> Description;

    // ---- transfer -------------------------------------------------------------------------------------------

    /// New rows with unspecified (but initialised) content.
    fn rows(&self, n_row: usize, width: usize, storage: Storage) -> Self::Rows;
    /// New rows holding `values` (row-major).
    fn rows_from(&self, values: &[f32], width: usize, storage: Storage) -> Self::Rows;
    /// Overwrites `rows` with `values` (row-major, of the same size).
    fn write(&self, values: &[f32], rows: &mut Self::Rows);
    /// The content, row-major. The one way back to the host.
    fn read(&self, rows: &Self::Rows) -> Vec<f32>;
    /// `(n_row, width)`.
    fn shape(&self, rows: &Self::Rows) -> (usize, usize);
    /// A weight made of matrices stacked along their output features, so that query, key and value (or gate and
    /// up) are one product. All parts have the same `n_in`.
    fn weight(&self, parts: Vec<HostMatrix>) -> Self::Weight {
        self.stored_weight(parts.into_iter().map(WeightPart::Values).collect())
    }
    /// The same of parts that may be blocks: a backend may keep those as they are, and multiplies with exactly the
    /// values that they decode to where [`Description::precision`] is `f32`.
    fn stored_weight(&self, parts: Vec<WeightPart>) -> Self::Weight;
    /// `(n_out, n_in)`.
    fn weight_shape(&self, weight: &Self::Weight) -> (usize, usize);
    /// Bytes that the weight occupies as stored.
    fn weight_bytes(&self, weight: &Self::Weight) -> usize;
    /// Uploads a parameter vector.
    fn vector(&self, values: &[f32]) -> Self::Vector;
    /// Uploads a list of row numbers, token ids or positions.
    fn index(&self, values: &[u32]) -> Self::Index;
    /// Uploads an attention plan, used by every layer of a pass.
    fn plan(&self, plan: &AttentionPlan) -> Self::Plan;
    /// Uploads what each row of the head is to predict.
    fn targets(&self, targets: &[RowTarget]) -> Self::Targets;

    // ---- rows -----------------------------------------------------------------------------------------------

    /// `rows = 0`.
    fn zero(&self, rows: &mut Self::Rows);
    /// The same rows, rounded to [`Storage::Compact`]: for what is kept from forward to backward. Rows that are stored
    /// so already are given back.
    fn compact(&self, rows: Self::Rows) -> Self::Rows;
    /// `out[i] = x[index[i], columns]`.
    fn gather(&self, x: &Self::Rows, columns: Range<usize>, index: &Self::Index, out: &mut Self::Rows);
    /// `out[index[i]] = x[i, columns]`; `index` names no row twice.
    fn scatter(&self, x: &Self::Rows, columns: Range<usize>, index: &Self::Index, out: &mut Self::Rows);
    /// `out[index[i]] += x[i]`; `index` names no row twice.
    fn scatter_add(&self, x: &Self::Rows, index: &Self::Index, out: &mut Self::Rows);
    /// `out[i] = scale * table[ids[i]]`.
    fn embed(&self, table: &Self::Weight, ids: &Self::Index, scale: f32, out: &mut Self::Rows);
    /// `out[i] += table[ids[i]]` (learned positions).
    fn embed_add(&self, table: &Self::Weight, ids: &Self::Index, out: &mut Self::Rows);

    // ---- layers ---------------------------------------------------------------------------------------------

    /// `out = epilogue(sum over terms of x W^T)`; see [`Term`] and [`Epilogue`].
    fn linear(&self, terms: &[Term<'_, Self>], epilogue: Epilogue<'_, Self>, out: &mut Self::Rows);
    /// `out = norm(x)`, row by row; see [`Norm`].
    fn norm(&self, norm: &Norm<Self>, x: &Self::Rows, out: &mut Self::Rows);
    /// `d_x += d norm(x) / dx` applied to `d_out`; the statistics are recomputed from `x`.
    fn norm_backward(&self, norm: &Norm<Self>, x: &Self::Rows, d_out: &Self::Rows, d_x: &mut Self::Rows);
    /// Rotary embedding in place. `table` is `[n_position, head_dim]`: the cosines of `head_dim / 2` frequencies,
    /// then their sines; column `i` of a head is paired with column `i + head_dim / 2`.
    fn rotary(
        &self,
        table: &Self::Rows,
        positions: &Self::Index,
        heads: HeadSpan,
        rotation: Rotation,
        rows: &mut Self::Rows,
    );
    /// Softmax attention over runs of keys; see [`AttentionCall`]. Writes `out[.., n_head * head_dim]` and, if
    /// asked for, `log_sum_exp[.., n_head]` (natural logarithm of the sum of exponentials of the scaled scores).
    fn attention(
        &self,
        call: &AttentionCall<'_, Self>,
        out: &mut Self::Rows,
        log_sum_exp: Option<&mut Self::Rows>,
    );
    /// Adds to `grads[place.buffer]` what `d_out` gives to the queries (`d_query`, none if not wanted) and to the
    /// keys and values of each store (`d_stores`, in the order of `call.stores`).
    fn attention_backward(
        &self,
        call: &AttentionCall<'_, Self>,
        log_sum_exp: &Self::Rows,
        d_out: &Self::Rows,
        d_query: Option<Place>,
        d_stores: &[Option<StoreGrad>],
        grads: &mut [&mut Self::Rows],
    );
    /// Cross-entropy of `softmax(scale * (x W^T) + bias)` against the targets, one row of `x` for each.
    /// `loss[i, 0]` gets the weighted negative log-likelihood of row `i` in nats; `d_x`, if wanted, the gradient
    /// of the sum of all of them. The logits are never stored whole.
    fn head_loss(
        &self,
        head: &Head<'_, Self>,
        x: &Self::Rows,
        targets: &Self::Targets,
        loss: &mut Self::Rows,
        d_x: Option<&mut Self::Rows>,
    );

    // ---- what is trained ------------------------------------------------------------------------------------

    /// The content of [`Storage::Exact`] rows, row-major, moved rather than copied where rows lie in host memory.
    fn to_host(&self, rows: Self::Rows) -> Self::Host;
    /// The numbers of a weight as stored, row-major.
    fn read_weight(&self, weight: &Self::Weight) -> Vec<f32>;
    /// The numbers of a parameter vector.
    fn read_vector(&self, vector: &Self::Vector) -> Vec<f32>;
    /// Puts `values` (row-major, as many as there are) in the place of a weight's numbers, rounded to how it is stored.
    fn update(&self, values: &[f32], weight: &mut Self::Weight);
    /// Puts `values` in the place of a vector's numbers.
    fn update_vector(&self, values: &[f32], vector: &mut Self::Vector);
    /// Whether weights keep every bit of what [`Backend::update`] puts into them.
    fn weights_are_exact(&self) -> bool;
    /// Gives free memory that is kept for rows back to the system.
    fn give_back(&self) {}
    /// Uploads which mask falls on each row.
    fn masks(&self, rows: &[RowMask]) -> Self::Masks;
    /// `out[i, j] = x[i, j] * factor(masks[i], probability, layer, j)`: dropout, and its own backward.
    fn dropout(
        &self,
        masks: &Self::Masks,
        probability: f32,
        layer: u32,
        x: &Self::Rows,
        out: &mut Self::Rows,
    );
    /// `out = activation(kept)`: what [`Epilogue::Activate`] gave, from what it kept.
    fn activate(&self, activation: Activation, kept: &Self::Rows, out: &mut Self::Rows);
    /// `out = d * activation'(kept)`: [`Epilogue::ActivateGrad`] of a sum that is there already.
    fn activation_grad(
        &self,
        activation: Activation,
        kept: &Self::Rows,
        d: &Self::Rows,
        out: &mut Self::Rows,
    );
    /// `out += x`
    fn add(&self, x: &Self::Rows, out: &mut Self::Rows);
    /// `grads[first + o * n_in + k] += sum_i d_out[i, o] x[i, k]`: the gradient of a weight `[n_out, n_in]`. The
    /// operands are rounded as those of the other products are.
    fn weight_grad(&self, x: &Self::Rows, d_out: &Self::Rows, first: usize, grads: &mut Self::Rows);
    /// `grads[first + o] += sum_i d_out[i, o]`: the gradient of a bias.
    fn bias_grad(&self, d_out: &Self::Rows, first: usize, grads: &mut Self::Rows);
    /// The gradients of a norm's weight, from `grads[weight]` on, and of its bias, from `grads[bias]` on.
    fn norm_grad(
        &self,
        norm: &Norm<Self>,
        x: &Self::Rows,
        d_out: &Self::Rows,
        weight: usize,
        bias: Option<usize>,
        grads: &mut Self::Rows,
    );
    /// `grads[first + ids[i] * width + j] += scale * d_out[i, j]`: the gradient of a table; `ids` may name a row often.
    fn embed_grad(
        &self,
        ids: &Self::Index,
        scale: f32,
        d_out: &Self::Rows,
        first: usize,
        grads: &mut Self::Rows,
    );
    /// The gradient of a relative bias: what each pair of a query and a key gives to the score of its entry
    /// ([`RelativeBias::entry`]) is added to `grads[first + places[entry]]`. Several entries may have one place.
    fn attention_bias_grad(
        &self,
        call: &AttentionCall<'_, Self>,
        log_sum_exp: &Self::Rows,
        d_out: &Self::Rows,
        places: &Self::Index,
        first: usize,
        grads: &mut Self::Rows,
    );
    /// Adds the gradient of the head's weight, for the loss that [`Backend::head_loss`] gives, from `grads[first]` on.
    fn head_grad(
        &self,
        head: &Head<'_, Self>,
        x: &Self::Rows,
        targets: &Self::Targets,
        first: usize,
        grads: &mut Self::Rows,
    );
}

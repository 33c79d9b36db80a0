//! The CPU backend: kernels and threads.
//!
//! - `tier`, `simd`: instruction sets, chosen once at run time; kernels are written once over vectors.
//! - `pool`: threads, and their `patience`. Results are the same to the bit for any number of them: every sum runs over fixed pieces in a
//!   fixed order.
//! - `buffers`, `storage`, `scratch`: memory, used again and again.
//! - `memory`: that of weights.
//! - `groups`: weights of plain numbers, `blocks`: quantised ones.
//! - one file for each operation: `rows`, `linear` (over `product`), `norm`, `rotary`, `attention`, `head`.
//!
//! ```
//! use preface_backend::{Backend, Storage};
//! use preface_cpu::{CpuBackend, CpuOptions};
//!
//! let backend = CpuBackend::new(CpuOptions::default())?;
//! let rows = backend.rows_from(&[1.0, 2.0, 3.0, 4.0], 2, Storage::Exact);
//! assert_eq!(backend.shape(&rows), (2, 2));
//! # Ok::<(), preface_cpu::CpuError>(())
//! ```

mod activation;
mod attention;
mod blocks;
mod buffers;
mod chunk;
mod division;
mod dropout;
mod groups;
#[cfg(test)]
mod guard;
mod head;
mod head_grad;
mod linear;
mod memory;
mod norm;
mod parameter_grads;
mod patience;
mod peak;
mod pool;
mod product;
mod rotary;
mod rows;
mod scratch;
mod simd;
mod storage;
#[cfg(test)]
mod tests;
mod tier;
mod weight_grad;

use std::ops::{Deref, DerefMut, Range};

use preface_backend::{
    Activation, AttentionCall, AttentionPlan, Backend, Description, Epilogue, Head, HeadSpan, HostMatrix,
    Norm, Place, Rotation, RowMask, RowTarget, Storage, StoreGrad, Term, WeightPart,
};

pub use attention::CpuPlan;
pub use storage::{CpuRows, CpuWeight};
pub use tier::Tier;

use buffers::Buffers;
use memory::WeightMemory;
use pool::Pool;
use simd::{Kernel, Simd};
use storage::{Element, ReadWeight, View, ViewMut};

/// Why a backend could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// The CPU lacks the instructions of the tier that was asked for.
    #[error("this CPU has no {tier} instructions; it has: {available}")]
    MissingTier {
        /// The tier.
        tier: &'static str,
        /// What the CPU has.
        available: String,
    },
    /// No thread to compute with.
    #[error("the number of threads must be at least 1, got 0")]
    NoThreads,
    /// The system gave no thread.
    #[error("cannot start {threads} threads")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Precision of weights, compact rows and the products' operands. Sums are in `f32` always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Everything in `f32`.
    F32,
    /// Weights and compact rows in bf16.
    Bf16,
}

impl Precision {
    /// bf16 where the CPU multiplies it natively, else `f32`.
    pub fn auto() -> Self {
        if Tier::best() == Tier::Avx512Bf16 { Self::Bf16 } else { Self::F32 }
    }

    /// Bytes of a number of a weight or of compact rows.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// How to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuOptions {
    /// Precision of the products.
    pub precision: Precision,
    /// Threads, the caller's included.
    pub threads: usize,
    /// Instruction set; the best that the CPU has if none is forced.
    pub tier: Option<Tier>,
}

impl Default for CpuOptions {
    /// Automatic precision and tier, a thread for each CPU that the process may use.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { precision: Precision::auto(), threads, tier: None }
    }
}

/// The backend.
pub struct CpuBackend {
    precision: Precision,
    tier: Tier,
    pool: Pool,
    buffers: Buffers,
    memory: WeightMemory,
}

/// A parameter vector.
pub struct CpuVector(Vec<f32>);

/// Row numbers, token ids or positions.
pub struct CpuIndex(Vec<u32>);

/// What rows of the head are to predict.
pub struct CpuTargets(Vec<RowTarget>);

/// Which dropout mask falls on each row.
pub struct CpuMasks(Vec<RowMask>);

/// `f32` rows as host memory.
pub struct CpuHost(CpuRows);

impl Deref for CpuHost {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        let View::F32(values) = self.0.view() else { unreachable!("checked when it was made") };
        values
    }
}

impl DerefMut for CpuHost {
    fn deref_mut(&mut self) -> &mut [f32] {
        let ViewMut::F32(values) = self.0.view_mut() else { unreachable!("checked when it was made") };
        values
    }
}

impl CpuBackend {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the CPU lacks the forced tier, if there is to be no thread, or if the system gives none.
    pub fn new(options: CpuOptions) -> Result<Self, CpuError> {
        let tier = options.tier.unwrap_or_else(Tier::best).require()?;
        let threads = options.threads;
        if threads == 0 {
            return Err(CpuError::NoThreads);
        }
        let pool = Pool::new(threads).map_err(|source| CpuError::Threads { threads, source })?;
        let (buffers, memory) = (Buffers::default(), WeightMemory::default());
        Ok(Self { precision: options.precision, tier, pool, buffers, memory })
    }

    /// Bytes that rows of this shape occupy, for plans that are made without a backend.
    pub fn row_bytes(precision: Precision, n_row: usize, width: usize, storage: Storage) -> usize {
        CpuRows::bytes(n_row, width, element(precision, storage))
    }

    fn element(&self, storage: Storage) -> Element {
        element(self.precision, storage)
    }
}

fn element(precision: Precision, storage: Storage) -> Element {
    match (storage, precision) {
        (Storage::Compact, Precision::Bf16) => Element::Bf16,
        _ => Element::F32,
    }
}

/// Copies all elements of a view, converting.
struct Copy<'a>(ViewMut<'a>, View<'a>);

impl Kernel for Copy<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        self.0.copy(simd, self.1);
    }
}

impl Backend for CpuBackend {
    type Rows = CpuRows;
    type Weight = CpuWeight;
    type Vector = CpuVector;
    type Index = CpuIndex;
    type Plan = CpuPlan;
    type Targets = CpuTargets;
    type Masks = CpuMasks;
    type Host = CpuHost;

    fn describe(&self) -> Description {
        Description {
            name: "cpu",
            precision: self.precision.name(),
            tier: self.tier.name().to_owned(),
            threads: self.pool.threads(),
        }
    }

    fn rows(&self, n_row: usize, width: usize, storage: Storage) -> CpuRows {
        CpuRows::new(&self.buffers, n_row, width, self.element(storage))
    }

    fn rows_from(&self, values: &[f32], width: usize, storage: Storage) -> CpuRows {
        assert_eq!(values.len() % width, 0, "rows_from: {} values of width {width}", values.len());
        let mut rows = self.rows(values.len() / width, width, storage);
        self.write(values, &mut rows);
        rows
    }

    fn write(&self, values: &[f32], rows: &mut CpuRows) {
        self.tier.run(Copy(rows.view_mut(), View::F32(values)));
    }

    fn read(&self, rows: &CpuRows) -> Vec<f32> {
        let mut values = vec![0.0; rows.n_row * rows.width];
        self.tier.run(Copy(ViewMut::F32(&mut values), rows.view()));
        values
    }

    fn shape(&self, rows: &CpuRows) -> (usize, usize) {
        (rows.n_row, rows.width)
    }

    fn weight(&self, parts: Vec<HostMatrix>) -> CpuWeight {
        CpuWeight::new(self, parts.into_iter().map(WeightPart::Values).collect(), None)
    }

    fn stored_weight(&self, parts: Vec<WeightPart>) -> CpuWeight {
        // Those of a model, which come once and stay.
        CpuWeight::new(self, parts, Some(&self.memory))
    }

    fn weight_shape(&self, weight: &CpuWeight) -> (usize, usize) {
        (weight.n_out, weight.n_in)
    }

    fn weight_bytes(&self, weight: &CpuWeight) -> usize {
        weight.bytes()
    }

    fn vector(&self, values: &[f32]) -> CpuVector {
        CpuVector(values.to_vec())
    }

    fn index(&self, values: &[u32]) -> CpuIndex {
        CpuIndex(values.to_vec())
    }

    fn plan(&self, plan: &AttentionPlan) -> CpuPlan {
        CpuPlan::new(plan)
    }

    fn targets(&self, targets: &[RowTarget]) -> CpuTargets {
        CpuTargets(targets.to_vec())
    }

    fn zero(&self, rows: &mut CpuRows) {
        rows::zero(self, rows);
    }

    fn compact(&self, rows: CpuRows) -> CpuRows {
        if rows.element == self.element(Storage::Compact) {
            return rows;
        }
        let mut compact = self.rows(rows.n_row, rows.width, Storage::Compact);
        rows::copy(self, &rows, &mut compact);
        compact
    }

    fn gather(&self, x: &CpuRows, columns: Range<usize>, index: &CpuIndex, out: &mut CpuRows) {
        rows::gather(self, x, columns, &index.0, out);
    }

    fn scatter(&self, x: &CpuRows, columns: Range<usize>, index: &CpuIndex, out: &mut CpuRows) {
        rows::scatter(self, x, columns, &index.0, out);
    }

    fn scatter_add(&self, x: &CpuRows, index: &CpuIndex, out: &mut CpuRows) {
        rows::scatter_add(self, x, &index.0, out);
    }

    fn embed(&self, table: &CpuWeight, ids: &CpuIndex, scale: f32, out: &mut CpuRows) {
        rows::embed(self, table, &ids.0, scale, out);
    }

    fn embed_add(&self, table: &CpuWeight, ids: &CpuIndex, out: &mut CpuRows) {
        rows::embed_add(self, table, &ids.0, out);
    }

    fn linear(&self, terms: &[Term<'_, Self>], epilogue: Epilogue<'_, Self>, out: &mut CpuRows) {
        linear::linear(self, terms, epilogue, out);
    }

    fn norm(&self, norm: &Norm<Self>, x: &CpuRows, out: &mut CpuRows) {
        norm::forward(self, norm, x, out);
    }

    fn norm_backward(&self, norm: &Norm<Self>, x: &CpuRows, d_out: &CpuRows, d_x: &mut CpuRows) {
        norm::backward(self, norm, x, d_out, d_x);
    }

    fn rotary(
        &self,
        table: &CpuRows,
        positions: &CpuIndex,
        heads: HeadSpan,
        rotation: Rotation,
        rows: &mut CpuRows,
    ) {
        rotary::rotary(self, table, &positions.0, heads, rotation, rows);
    }

    fn attention(
        &self,
        call: &AttentionCall<'_, Self>,
        out: &mut CpuRows,
        log_sum_exp: Option<&mut CpuRows>,
    ) {
        attention::forward(self, call, out, log_sum_exp);
    }

    fn attention_backward(
        &self,
        call: &AttentionCall<'_, Self>,
        log_sum_exp: &CpuRows,
        d_out: &CpuRows,
        d_query: Option<Place>,
        d_stores: &[Option<StoreGrad>],
        grads: &mut [&mut CpuRows],
    ) {
        attention::backward(self, call, log_sum_exp, d_out, d_query, d_stores, grads);
    }

    fn attention_bias_grad(
        &self,
        call: &AttentionCall<'_, Self>,
        log_sum_exp: &CpuRows,
        d_out: &CpuRows,
        places: &CpuIndex,
        first: usize,
        grads: &mut CpuRows,
    ) {
        attention::bias_grad(self, call, log_sum_exp, d_out, &places.0, first, grads);
    }

    fn head_loss(
        &self,
        head: &Head<'_, Self>,
        x: &CpuRows,
        targets: &CpuTargets,
        loss: &mut CpuRows,
        d_x: Option<&mut CpuRows>,
    ) {
        head::loss(self, head, x, &targets.0, loss, d_x);
    }

    fn to_host(&self, rows: CpuRows) -> CpuHost {
        assert_eq!(rows.element, Element::F32, "to_host: exact rows");
        CpuHost(rows)
    }

    fn read_weight(&self, weight: &CpuWeight) -> Vec<f32> {
        let mut values = vec![0.0; weight.n_out * weight.n_in];
        self.tier.run(ReadWeight { weight, to: &mut values });
        values
    }

    fn read_vector(&self, vector: &CpuVector) -> Vec<f32> {
        vector.0.clone()
    }

    fn update(&self, values: &[f32], weight: &mut CpuWeight) {
        weight.update(self, values);
    }

    fn update_vector(&self, values: &[f32], vector: &mut CpuVector) {
        vector.0.copy_from_slice(values);
    }

    fn weights_are_exact(&self) -> bool {
        self.precision == Precision::F32
    }

    fn give_back(&self) {
        self.buffers.give_back();
    }

    fn masks(&self, rows: &[RowMask]) -> CpuMasks {
        CpuMasks(rows.to_vec())
    }

    fn dropout(&self, masks: &CpuMasks, probability: f32, layer: u32, x: &CpuRows, out: &mut CpuRows) {
        dropout::dropout(self, &masks.0, probability, layer, x, out);
    }

    fn activate(&self, activation: Activation, kept: &CpuRows, out: &mut CpuRows) {
        activation::forward(self, activation, kept, out);
    }

    fn activation_grad(&self, activation: Activation, kept: &CpuRows, d: &CpuRows, out: &mut CpuRows) {
        activation::grad(self, activation, kept, d, out);
    }

    fn add(&self, x: &CpuRows, out: &mut CpuRows) {
        dropout::add(self, x, out);
    }

    fn weight_grad(&self, x: &CpuRows, d_out: &CpuRows, first: usize, grads: &mut CpuRows) {
        weight_grad::weight_grad(self, x, d_out, first, grads);
    }

    fn bias_grad(&self, d_out: &CpuRows, first: usize, grads: &mut CpuRows) {
        parameter_grads::bias_grad(self, d_out, first, grads);
    }

    fn norm_grad(
        &self,
        norm: &Norm<Self>,
        x: &CpuRows,
        d_out: &CpuRows,
        weight: usize,
        bias: Option<usize>,
        grads: &mut CpuRows,
    ) {
        parameter_grads::norm_grad(self, norm, x, d_out, weight, bias, grads);
    }

    fn embed_grad(&self, ids: &CpuIndex, scale: f32, d_out: &CpuRows, first: usize, grads: &mut CpuRows) {
        parameter_grads::embed_grad(self, &ids.0, scale, d_out, first, grads);
    }

    fn head_grad(
        &self,
        head: &Head<'_, Self>,
        x: &CpuRows,
        targets: &CpuTargets,
        first: usize,
        grads: &mut CpuRows,
    ) {
        head_grad::head_grad(self, head, x, &targets.0, first, grads);
    }
}

//! A backend that computes nothing and counts what its rows would occupy.
//!
//! Running the layer code over it tells what a step needs before the step, or even the weights, are there: rows are
//! allocated and dropped in the same order, so the most that was alive at once is the plan.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    Activation, AttentionCall, AttentionPlan, Backend, Description, Epilogue, Head, HeadSpan, Norm, Place,
    Rotation, RowMask, RowTarget, Storage, StoreGrad, Term, WeightPart,
};

/// Bytes of a matrix of so many rows and columns.
pub type SizeOf = dyn Fn(usize, usize, Storage) -> usize + Send + Sync;

/// Counts for another backend.
#[derive(Clone)]
pub struct Counting {
    size_of: Arc<SizeOf>,
    bytes_per_number: usize,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Tally {
    weights: AtomicUsize,
    /// Bytes now, and the most so far.
    rows: Mutex<(usize, usize)>,
}

/// Rows without content.
pub struct CountedRows {
    n_row: usize,
    width: usize,
    bytes: usize,
    tally: Arc<Tally>,
}

/// The shape of a weight.
pub struct CountedWeight {
    n_out: usize,
    n_in: usize,
    bytes: usize,
}

impl Counting {
    /// Counts for a backend whose rows occupy what `size_of` says and whose weights `bytes_per_number`.
    pub fn new(size_of: Arc<SizeOf>, bytes_per_number: usize) -> Self {
        Self { size_of, bytes_per_number, tally: Arc::default() }
    }

    /// Bytes of all weights and vectors that were made.
    pub fn weight_total(&self) -> usize {
        self.tally.weights.load(Ordering::Relaxed)
    }

    /// Bytes of the rows that are alive.
    pub fn rows_now(&self) -> usize {
        self.tally.lock().0
    }

    /// The most bytes of rows that were alive at once.
    pub fn rows_peak(&self) -> usize {
        self.tally.lock().1
    }
}

impl Tally {
    fn lock(&self) -> std::sync::MutexGuard<'_, (usize, usize)> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, bytes: usize) {
        let mut rows = self.lock();
        rows.0 += bytes;
        rows.1 = rows.1.max(rows.0);
    }
}

impl Drop for CountedRows {
    fn drop(&mut self) {
        self.tally.lock().0 -= self.bytes;
    }
}

impl Backend for Counting {
    type Rows = CountedRows;
    type Weight = CountedWeight;
    type Vector = usize;
    type Index = usize;
    type Plan = ();
    type Targets = usize;
    type Masks = ();
    type Host = Vec<f32>;

    fn describe(&self) -> Description {
        Description { name: "counting", precision: "none", tier: "none".into(), threads: 0 }
    }

    fn rows(&self, n_row: usize, width: usize, storage: Storage) -> CountedRows {
        let bytes = (self.size_of)(n_row, width, storage);
        self.tally.take(bytes);
        CountedRows { n_row, width, bytes, tally: Arc::clone(&self.tally) }
    }

    fn rows_from(&self, values: &[f32], width: usize, storage: Storage) -> CountedRows {
        self.rows(values.len() / width, width, storage)
    }

    fn write(&self, _: &[f32], _: &mut CountedRows) {}

    fn read(&self, rows: &CountedRows) -> Vec<f32> {
        vec![0.0; rows.n_row * rows.width]
    }

    fn shape(&self, rows: &CountedRows) -> (usize, usize) {
        (rows.n_row, rows.width)
    }

    fn stored_weight(&self, parts: Vec<WeightPart>) -> CountedWeight {
        let n_out = parts.iter().map(|part| part.shape().0).sum();
        let n_in = parts[0].shape().1;
        let bytes = |part: &WeightPart| match part {
            WeightPart::Values(matrix) => matrix.n_row * matrix.n_column * self.bytes_per_number,
            WeightPart::Blocks(matrix) => matrix.n_byte(),
        };
        let bytes = parts.iter().map(bytes).sum();
        self.tally.weights.fetch_add(bytes, Ordering::Relaxed);
        CountedWeight { n_out, n_in, bytes }
    }

    fn weight_shape(&self, weight: &CountedWeight) -> (usize, usize) {
        (weight.n_out, weight.n_in)
    }

    fn weight_bytes(&self, weight: &CountedWeight) -> usize {
        weight.bytes
    }

    fn vector(&self, values: &[f32]) -> usize {
        self.tally.weights.fetch_add(size_of_val(values), Ordering::Relaxed);
        values.len()
    }

    fn index(&self, values: &[u32]) -> usize {
        values.len()
    }

    fn plan(&self, _: &AttentionPlan) {}

    fn targets(&self, targets: &[RowTarget]) -> usize {
        targets.len()
    }

    fn to_host(&self, rows: CountedRows) -> Vec<f32> {
        self.read(&rows)
    }

    fn read_weight(&self, weight: &CountedWeight) -> Vec<f32> {
        vec![0.0; weight.n_out * weight.n_in]
    }

    fn read_vector(&self, vector: &usize) -> Vec<f32> {
        vec![0.0; *vector]
    }

    fn update(&self, _: &[f32], _: &mut CountedWeight) {}

    fn update_vector(&self, _: &[f32], _: &mut usize) {}

    fn weights_are_exact(&self) -> bool {
        self.bytes_per_number == size_of::<f32>()
    }

    fn masks(&self, _: &[RowMask]) {}

    fn dropout(&self, (): &(), _: f32, _: u32, _: &CountedRows, _: &mut CountedRows) {}

    fn activate(&self, _: Activation, _: &CountedRows, _: &mut CountedRows) {}

    fn activation_grad(&self, _: Activation, _: &CountedRows, _: &CountedRows, _: &mut CountedRows) {}

    fn add(&self, _: &CountedRows, _: &mut CountedRows) {}

    fn weight_grad(&self, _: &CountedRows, _: &CountedRows, _: usize, _: &mut CountedRows) {}

    fn bias_grad(&self, _: &CountedRows, _: usize, _: &mut CountedRows) {}

    fn norm_grad(
        &self,
        _: &Norm<Self>,
        _: &CountedRows,
        _: &CountedRows,
        _: usize,
        _: Option<usize>,
        _: &mut CountedRows,
    ) {
    }

    fn embed_grad(&self, _: &usize, _: f32, _: &CountedRows, _: usize, _: &mut CountedRows) {}

    fn attention_bias_grad(
        &self,
        _: &AttentionCall<'_, Self>,
        _: &CountedRows,
        _: &CountedRows,
        _: &usize,
        _: usize,
        _: &mut CountedRows,
    ) {
    }

    fn head_grad(&self, _: &Head<'_, Self>, _: &CountedRows, _: &usize, _: usize, _: &mut CountedRows) {}

    fn zero(&self, _: &mut CountedRows) {}

    fn compact(&self, rows: CountedRows) -> CountedRows {
        let compact = (self.size_of)(rows.n_row, rows.width, Storage::Compact);
        if compact == rows.bytes { rows } else { self.rows(rows.n_row, rows.width, Storage::Compact) }
    }

    fn gather(&self, _: &CountedRows, _: Range<usize>, _: &usize, _: &mut CountedRows) {}

    fn scatter(&self, _: &CountedRows, _: Range<usize>, _: &usize, _: &mut CountedRows) {}

    fn scatter_add(&self, _: &CountedRows, _: &usize, _: &mut CountedRows) {}

    fn embed(&self, _: &CountedWeight, _: &usize, _: f32, _: &mut CountedRows) {}

    fn embed_add(&self, _: &CountedWeight, _: &usize, _: &mut CountedRows) {}

    fn linear(&self, _: &[Term<'_, Self>], _: Epilogue<'_, Self>, _: &mut CountedRows) {}

    fn norm(&self, _: &Norm<Self>, _: &CountedRows, _: &mut CountedRows) {}

    fn norm_backward(&self, _: &Norm<Self>, _: &CountedRows, _: &CountedRows, _: &mut CountedRows) {}

    fn rotary(&self, _: &CountedRows, _: &usize, _: HeadSpan, _: Rotation, _: &mut CountedRows) {}

    fn attention(&self, _: &AttentionCall<'_, Self>, _: &mut CountedRows, _: Option<&mut CountedRows>) {}

    fn attention_backward(
        &self,
        _: &AttentionCall<'_, Self>,
        _: &CountedRows,
        _: &CountedRows,
        _: Option<Place>,
        _: &[Option<StoreGrad>],
        _: &mut [&mut CountedRows],
    ) {
    }

    fn head_loss(
        &self,
        _: &Head<'_, Self>,
        _: &CountedRows,
        _: &usize,
        _: &mut CountedRows,
        _: Option<&mut CountedRows>,
    ) {
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostMatrix;

    fn counting() -> Counting {
        let size_of = |n_row, width, storage| n_row * width * if storage == Storage::Exact { 4 } else { 2 };
        Counting::new(Arc::new(size_of), 2)
    }

    #[test]
    fn the_peak_is_what_was_alive_at_once() {
        let counting = counting();
        let first = counting.rows(3, 5, Storage::Exact);
        drop(counting.rows(2, 5, Storage::Compact));
        let second = counting.rows(1, 5, Storage::Exact);
        assert_eq!((counting.rows_now(), counting.rows_peak()), (80, 80));
        drop(first);
        assert_eq!((counting.rows_now(), counting.rows_peak()), (20, 80));
        drop(second);
        assert_eq!((counting.rows_now(), counting.rows_peak()), (0, 80));
    }

    #[test]
    fn compacted_rows_take_their_new_size_and_compact_ones_nothing_more() {
        let counting = counting();
        let rows = counting.compact(counting.rows(4, 4, Storage::Exact));
        assert_eq!((counting.rows_now(), counting.rows_peak()), (32, 96));
        let rows = counting.compact(rows);
        assert_eq!((counting.rows_now(), counting.rows_peak()), (32, 96));
        drop(rows);
    }

    #[test]
    fn weights_are_counted_as_they_are_stored() {
        let counting = counting();
        let part = |n_row| HostMatrix { n_row, n_column: 3, values: Vec::new() };
        let weight = counting.weight(vec![part(2), part(5)]);
        assert_eq!((counting.weight_shape(&weight), counting.weight_bytes(&weight)), ((7, 3), 42));
        counting.vector(&[0.0; 3]);
        assert_eq!(counting.weight_total(), 42 + 12);
    }
}

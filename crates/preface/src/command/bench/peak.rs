//! What the machine can do: the fastest matrix product of our own, and reading memory.

use std::time::Instant;

use preface_backend::{Backend, Direction, Epilogue, HostMatrix, Storage, Term};
use rayon::prelude::*;

/// Rows, inputs and outputs of the product.
const SIZE: usize = 1024;
/// More than any cache holds.
const READ_BYTES: usize = 256 << 20;
const TRIES: usize = 8;

/// Operations a second of a large product in the backend's precision: the best of some.
pub fn product<B: Backend>(backend: &B) -> f64 {
    let values: Vec<f32> = (0..SIZE * SIZE).map(|i| ((i * 37) % 101) as f32 / 101.0 - 0.5).collect();
    let weight = backend.weight(vec![HostMatrix { n_row: SIZE, n_column: SIZE, values: values.clone() }]);
    let x = backend.rows_from(&values, SIZE, Storage::Compact);
    let mut out = backend.rows(SIZE, SIZE, Storage::Exact);
    let seconds = best(|| {
        let term = Term { x: &x, weight: &weight, direction: Direction::Plain };
        backend.linear(&[term], Epilogue::Store, &mut out);
    });
    2.0 * (SIZE as f64).powi(3) / seconds
}

/// Bytes a second that all threads together read.
pub fn read_bandwidth() -> f64 {
    let values: Vec<u64> = (0..READ_BYTES / size_of::<u64>()).map(|i| i as u64).collect();
    let share = values.len() / rayon::current_num_threads();
    let seconds = best(|| {
        let sum = values.par_chunks(share).map(|part| part.iter().fold(0u64, |sum, x| sum.wrapping_add(*x)));
        std::hint::black_box(sum.reduce(|| 0, u64::wrapping_add));
    });
    READ_BYTES as f64 / seconds
}

fn best(mut run: impl FnMut()) -> f64 {
    let times = (0..TRIES).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

//! What the machine can do: the products' instruction alone, and reading memory.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use preface_cpu::CpuBackend;
use rayon::prelude::*;

/// More than any cache holds.
const READ_BYTES: usize = 256 << 20;
const TRIES: usize = 8;
/// Tasks of multiply-adds for each thread: some ten milliseconds.
const TASKS: usize = 64;

/// How long the peak is looked for: on two virtual CPUs, two threads ran at the speed of one for most of a second now and
/// then, which made shares of the peak of more than all of it.
const PEAK_TIME: Duration = Duration::from_millis(1500);

/// Operations a second of multiply-adds in the backend's precision on all its threads: the best of some tries.
pub fn product(backend: &CpuBackend, threads: usize) -> f64 {
    let start = Instant::now();
    let mut most = 0.0_f64;
    while start.elapsed() < PEAK_TIME {
        let mut operations = 0.0;
        let seconds = best(|| operations = backend.multiply_adds(TASKS * threads));
        most = most.max(operations / seconds);
    }
    most
}

/// Bytes a second that so many threads together read.
///
/// # Errors
/// If what was read does not add up.
pub fn read_bandwidth(threads: usize) -> Result<f64> {
    let n = READ_BYTES / size_of::<u64>();
    let values: Vec<u64> = (0..n as u64).collect();
    let mut got = 0;
    let seconds = best(|| {
        let parts = values.par_chunks(n.div_ceil(threads));
        // Many sums side by side: one would wait for its own additions.
        got = parts.map(|part| part.iter().fold(0u64, |sum, x| sum.wrapping_add(*x))).sum();
    });
    let want = n as u64 * (n as u64 - 1) / 2;
    ensure!(got == want, "the sum of what was read is {got}, expected {want}");
    Ok(READ_BYTES as f64 / seconds)
}

/// Seconds of the fastest of some runs.
pub fn best(mut run: impl FnMut()) -> f64 {
    let times = (0..TRIES).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

//! What the arithmetic of the products can reach: their instruction alone, on registers, on all threads.

use crate::simd::{Kernel, Simd};
use crate::{CpuBackend, Precision};

/// Sums that are independent of each other: more than the instruction's latency hides, and no more than 16 registers hold
/// (a sum in memory would wait for itself).
const SUMS: usize = 12;

/// Rounds of a task: some hundred microseconds.
const ROUNDS: usize = 20_000;

impl CpuBackend {
    /// Runs `n_task` tasks of nothing but the multiply-adds of a product in the backend's precision, and returns how many
    /// floating-point operations they were (a multiply-add is two). Divided by the time that it takes, it is the peak that
    /// products are measured against.
    pub fn multiply_adds(&self, n_task: usize) -> f64 {
        let pairs = self.precision == Precision::Bf16;
        self.pool.run(n_task, |_, _| {
            std::hint::black_box(self.tier.run(MultiplyAdds { pairs }));
        });
        let per_task = self.tier.run(PerTask { pairs });
        n_task as f64 * per_task
    }
}

struct MultiplyAdds {
    pairs: bool,
}

impl Kernel for MultiplyAdds {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        if self.pairs {
            rounds(
                simd,
                #[inline(always)]
                |left, right, sum| simd.mul_add_pairs(left, right, sum),
            )
        } else {
            rounds(
                simd,
                #[inline(always)]
                |left, right, sum| simd.mul_add(left, right, sum),
            )
        }
    }
}

#[inline(always)]
fn rounds<S: Simd>(simd: S, step: impl Fn(S::F32, S::F32, S::F32) -> S::F32) -> f32 {
    // Unknown to the compiler, and too small to overflow.
    let [left, right] = [1e-30, 1e-3].map(|x| simd.splat(std::hint::black_box(x)));
    let mut sums = [simd.splat(0.0); SUMS];
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = step(left, right, *sum);
        }
    }
    sums.into_iter().map(|sum| simd.sum(sum)).sum()
}

struct PerTask {
    pairs: bool,
}

impl Kernel for PerTask {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f64 {
        (2 * ROUNDS * SUMS * S::LANES * if self.pairs { 2 } else { 1 }) as f64
    }
}

//! Random values as PyTorch starts its layers.

use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

/// `N(0, 1)`: an embedding, or rows trained directly.
pub(crate) fn normal(n: usize, rng: &mut impl Rng) -> Vec<f32> {
    (0..n).map(|_| StandardNormal.sample(rng)).collect()
}

/// `U(-1/sqrt(fan_in), 1/sqrt(fan_in))`: weights and biases of a linear layer.
pub(crate) fn uniform_fan_in(n: usize, fan_in: usize, rng: &mut impl Rng) -> Vec<f32> {
    let bound = (fan_in as f32).powf(-0.5);
    (0..n).map(|_| rng.random_range(-bound..bound)).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let moments = |values: &[f32]| {
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32)
        };
        let (mean, variance) = moments(&normal(100_000, &mut rng));
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        let uniform = uniform_fan_in(100_000, 16, &mut rng);
        let (mean, variance) = moments(&uniform);
        // Half-width 1/4: variance (1/4)^2 / 3.
        assert!(mean.abs() < 0.01 && (variance - 1.0 / 48.0).abs() < 0.001, "{mean} {variance}");
        assert!(uniform.iter().all(|v| v.abs() <= 0.25));
    }
}

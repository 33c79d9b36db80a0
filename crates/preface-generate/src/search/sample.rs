//! Draws a token with the probability that its score gives it.
//!
//! Every prompt has a generator of its own, keyed by the seed and the prompt's number, and one number is drawn for each
//! token: so an answer does not depend on what else is in the batch. The draw goes through the cumulative sum in the
//! order of the vocabulary and is written out here because the result must stay the same when a crate is updated.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

pub(super) struct Sampler(ChaCha8Rng);

impl Sampler {
    pub(super) fn new(seed: u64, request: usize) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(request as u64);
        Self(generator)
    }

    /// `None` if every token is excluded.
    pub(super) fn draw(&mut self, scores: &[f32]) -> Option<u32> {
        let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if max == f32::NEG_INFINITY {
            return None;
        }
        let weight = |score: f32| f64::from((score - max).exp());
        let total: f64 = scores.iter().map(|&score| weight(score)).sum();
        // 53 random bits: uniform in [0, 1).
        let mut left = (self.0.next_u64() >> 11) as f64 * (0.5f64).powi(53) * total;
        let mut last = None;
        for (token, &score) in scores.iter().enumerate() {
            let weight = weight(score);
            if weight > 0.0 {
                if left < weight {
                    return Some(token as u32);
                }
                left -= weight;
                last = Some(token as u32);
            }
        }
        last // only by rounding
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_as_often_as_their_probability_says() {
        let probabilities = [0.5f32, 0.0, 0.3, 0.2];
        let scores = probabilities.map(f32::ln);
        let mut sampler = Sampler::new(7, 3);
        let mut count = [0; 4];
        let n_draw = 40_000;
        for _ in 0..n_draw {
            count[sampler.draw(&scores).unwrap() as usize] += 1;
        }
        for (count, probability) in count.into_iter().zip(probabilities) {
            let share = f64::from(count) / f64::from(n_draw);
            let probability = f64::from(probability);
            let deviation = (probability * (1.0 - probability) / f64::from(n_draw)).sqrt();
            assert!((share - probability).abs() <= 4.0 * deviation, "{share} for {probability}");
        }
    }

    #[test]
    fn prompts_have_streams_of_their_own_and_a_seed_repeats_them() {
        let draws = |seed, request| {
            let mut sampler = Sampler::new(seed, request);
            (0..32).map(|_| sampler.draw(&[0.0; 50]).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draws(1, 0), draws(1, 0));
        assert_ne!(draws(1, 0), draws(1, 1));
        assert_ne!(draws(1, 0), draws(2, 0));
    }

    #[test]
    fn an_excluded_token_is_never_drawn_and_nothing_is_drawn_from_nothing() {
        let mut sampler = Sampler::new(0, 0);
        let excluded = f32::NEG_INFINITY;
        for _ in 0..100 {
            assert_eq!(sampler.draw(&[excluded, -1e30, excluded]), Some(1));
        }
        assert_eq!(sampler.draw(&[excluded; 3]), None);
        assert_eq!(sampler.draw(&[]), None);
    }
}

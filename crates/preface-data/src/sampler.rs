//! Which pairs a step trains on: epochs of a seeded permutation, cut into steps of a fixed number of pairs.
//!
//! ```text
//! order(epoch) = Fisher-Yates over 0..n with ChaCha8, keyed by (seed, epoch)
//! steps        = order(0) ++ order(1) ++ ..., cut every pairs_per_step
//! ```
//!
//! A step is always full: it runs on into the next epoch, so that every step weighs the same. The generator is keyed
//! by the epoch instead of running on from one to the next, so a [`Position`] of two numbers is all that a checkpoint
//! needs. The shuffle is written out here because the result must stay the same when a crate is updated.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

/// A place in the endless sequence of pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position {
    /// Epochs that are over.
    pub epoch: u64,
    /// Pairs of this epoch that were given out.
    pub index: usize,
}

/// Why there are no steps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SamplerError {
    /// No data.
    #[error("there are no pairs to train on")]
    NoPairs,
    /// A batch size or accumulation of zero.
    #[error("a step needs at least one pair: per_device_train_batch_size x gradient_accumulation_steps is 0")]
    EmptyStep,
    /// A position of other data.
    #[error(
        "position {index} lies beyond the {n_pair} pairs of an epoch: the data has changed since the checkpoint"
    )]
    Position {
        /// The position's index.
        index: usize,
        /// Pairs of the data.
        n_pair: usize,
    },
}

/// Gives out the pairs of one step after the other, without end.
#[derive(Debug, Clone)]
pub struct Sampler {
    n_pair: usize,
    pairs_per_step: usize,
    seed: u64,
    position: Position,
    order: Vec<usize>,
}

impl Sampler {
    /// A sampler over `n_pair` pairs that begins at `position` (`Position::default()` for a new run).
    /// `pairs_per_step` = `per_device_train_batch_size` x `gradient_accumulation_steps`.
    pub fn new(
        n_pair: usize,
        pairs_per_step: usize,
        seed: u64,
        position: Position,
    ) -> Result<Self, SamplerError> {
        if n_pair == 0 {
            return Err(SamplerError::NoPairs);
        }
        if pairs_per_step == 0 {
            return Err(SamplerError::EmptyStep);
        }
        if position.index >= n_pair {
            return Err(SamplerError::Position { index: position.index, n_pair });
        }
        Ok(Self { n_pair, pairs_per_step, seed, position, order: epoch_order(n_pair, seed, position.epoch) })
    }

    /// Where the next step begins: what a checkpoint keeps.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The indices of the next step's pairs. A step larger than the data holds a pair more than once.
    pub fn next_step(&mut self) -> Vec<usize> {
        let mut step = Vec::new();
        while step.len() < self.pairs_per_step {
            let wanted = self.pairs_per_step - step.len();
            let end = self.n_pair.min(self.position.index.saturating_add(wanted));
            step.extend_from_slice(&self.order[self.position.index..end]);
            self.position.index = end;
            if end == self.n_pair {
                self.position = Position { epoch: self.position.epoch + 1, index: 0 };
                self.order = epoch_order(self.n_pair, self.seed, self.position.epoch);
            }
        }
        step
    }

    /// Steps after which every pair was given out `epochs` times at least: `epochs` x pairs / pairs per step, rounded
    /// up; at least one.
    pub fn steps_of_epochs(&self, epochs: f64) -> u64 {
        let steps = (epochs * self.n_pair as f64 / self.pairs_per_step as f64).ceil();
        (steps as u64).max(1)
    }
}

/// The order of one epoch: a permutation of `0..n`.
pub fn epoch_order(n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    shuffled(n, generator(seed, epoch, b"epoch"))
}

/// At most `count` of `0..n` without replacement, ascending. A larger count keeps what a smaller one drew, so that
/// training sets of growing size lie in each other.
pub fn draw(n: usize, count: usize, seed: u64) -> Vec<usize> {
    let mut drawn = shuffled(n, generator(seed, 0, b"draw"));
    drawn.truncate(count);
    drawn.sort_unstable();
    drawn
}

/// ChaCha8 with the key (seed, number, purpose): different purposes give unrelated sequences for the same seed.
fn generator(seed: u64, number: u64, purpose: &[u8]) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&number.to_le_bytes());
    key[16..16 + purpose.len()].copy_from_slice(purpose);
    ChaCha8Rng::from_seed(key)
}

fn shuffled(n: usize, mut generator: ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        // A 64-bit fraction of `last + 1`: off from uniform by less than n / 2^64.
        let other = (u128::from(generator.next_u64()) * (last as u128 + 1)) >> 64;
        order.swap(last, other as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sampler(n_pair: usize, pairs_per_step: usize, seed: u64) -> Sampler {
        Sampler::new(n_pair, pairs_per_step, seed, Position::default()).unwrap()
    }

    #[test]
    fn no_pairs_an_empty_step_and_a_position_of_other_data_are_refused() {
        let start = Position::default();
        assert_eq!(Sampler::new(0, 4, 0, start).unwrap_err(), SamplerError::NoPairs);
        assert_eq!(Sampler::new(4, 0, 0, start).unwrap_err(), SamplerError::EmptyStep);
        let beyond = Position { epoch: 3, index: 4 };
        assert_eq!(
            Sampler::new(4, 2, 0, beyond).unwrap_err(),
            SamplerError::Position { index: 4, n_pair: 4 }
        );
    }

    /// Published runs name a seed: this must never change. Values from tests/fixtures/order.py, written apart.
    #[test]
    fn the_order_of_a_seed_is_pinned() {
        assert_eq!(epoch_order(10, 7, 0), [5, 8, 6, 2, 4, 0, 7, 3, 9, 1]);
        assert_eq!(epoch_order(10, 7, 1), [2, 8, 3, 7, 6, 4, 1, 5, 0, 9]);
        assert_eq!(draw(100, 5, 7), [12, 22, 27, 55, 62]);
    }

    #[test]
    fn one_pair_fills_any_step() {
        assert_eq!(sampler(1, 3, 5).next_step(), [0, 0, 0]);
    }

    #[test]
    fn epochs_and_seeds_give_different_orders() {
        assert_ne!(epoch_order(50, 1, 0), epoch_order(50, 1, 1));
        assert_ne!(epoch_order(50, 1, 0), epoch_order(50, 2, 0));
        assert_ne!(epoch_order(50, 1, 0)[..5], draw(50, 5, 1)[..]);
    }

    #[test]
    fn steps_of_epochs_round_up() {
        assert_eq!(sampler(2000, 8, 0).steps_of_epochs(1.0), 250);
        assert_eq!(sampler(2001, 8, 0).steps_of_epochs(1.0), 251);
        assert_eq!(sampler(100, 8, 0).steps_of_epochs(0.5), 7);
        assert_eq!(sampler(3, 8, 0).steps_of_epochs(0.0), 1);
    }

    #[test]
    fn every_place_of_the_order_is_equally_likely() {
        // 4 pairs have 24 orders; 24,000 epochs give each about 1,000 times (6 standard deviations are 190).
        let mut counts = std::collections::HashMap::new();
        for epoch in 0..24_000 {
            *counts.entry(epoch_order(4, 11, epoch)).or_insert(0_usize) += 1;
        }
        assert_eq!(counts.len(), 24);
        assert!(counts.values().all(|count| (810..1190).contains(count)), "{counts:?}");
    }

    proptest! {
        #[test]
        fn an_epoch_gives_every_pair_once_whatever_the_step(n in 1_usize..60, per_step in 1_usize..20, seed: u64) {
            let mut sampler = sampler(n, per_step, seed);
            let mut given: Vec<usize> = Vec::new();
            while given.len() < 3 * n {
                let step = sampler.next_step();
                prop_assert_eq!(step.len(), per_step);
                given.extend(step);
            }
            for epoch in 0..3 {
                let mut pairs = given[epoch * n..(epoch + 1) * n].to_vec();
                pairs.sort_unstable();
                prop_assert_eq!(pairs, (0..n).collect::<Vec<_>>());
            }
        }

        #[test]
        fn a_resumed_sampler_goes_on_as_the_unbroken_one(n in 1_usize..60, per_step in 1_usize..20, seed: u64, done in 0_usize..30) {
            let mut unbroken = sampler(n, per_step, seed);
            for _ in 0..done {
                unbroken.next_step();
            }
            let mut resumed = Sampler::new(n, per_step, seed, unbroken.position()).unwrap();
            for _ in 0..10 {
                prop_assert_eq!(resumed.next_step(), unbroken.next_step());
                prop_assert_eq!(resumed.position(), unbroken.position());
            }
        }

        #[test]
        fn a_smaller_draw_lies_in_a_larger_one(n in 0_usize..80, a in 0_usize..90, b in 0_usize..90, seed: u64) {
            let (small, large) = (draw(n, a.min(b), seed), draw(n, a.max(b), seed));
            prop_assert_eq!(small.len(), a.min(b).min(n));
            prop_assert!(small.iter().all(|index| large.contains(index)));
            prop_assert!(large.windows(2).all(|two| two[0] < two[1]));
            prop_assert!(large.iter().all(|index| *index < n));
        }
    }
}

//! Which pairs a step trains on: epochs of a seeded permutation, cut into steps of a fixed number of pairs.
//!
//! ```text
//! order(epoch) = Fisher-Yates over 0..n with ChaCha8, keyed by (seed, epoch)
//! steps        = order(0) ++ order(1) ++ ..., cut as soon as a step has pairs_per_step pairs
//! ```
//!
//! What is drawn is a *unit*: one pair, or all pairs of a prompt (`batch_by`). With single pairs every step weighs the
//! same; whole prompts are drawn until the step has its pairs, so it may have some more. A step is always full: it runs
//! on into the next epoch. The generator is keyed by the epoch instead of running on from one to the next, so a
//! [`Position`] of two numbers is all that a checkpoint needs. The shuffle is written out here because the result must
//! stay the same when a crate is updated.

use std::collections::HashMap;
use std::hash::Hash;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

/// A place in the endless sequence of units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position {
    /// Epochs that are over.
    pub epoch: u64,
    /// Units of this epoch that were given out.
    pub index: usize,
}

/// What is drawn as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchBy {
    /// One pair of an input and an output.
    #[default]
    Pair,
    /// An input with all its outputs: they share the input's rows.
    Prompt,
}

/// Pairs in the units in which they are drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units {
    /// Pairs, those of a unit side by side.
    pairs: Vec<usize>,
    /// Where each unit ends.
    ends: Vec<usize>,
}

impl Units {
    /// `n_pair` pairs, of which those with the same `prompt` are one unit if `batch_by` says so.
    pub fn new<P: Eq + Hash>(n_pair: usize, batch_by: BatchBy, prompt: impl Fn(usize) -> P) -> Self {
        match batch_by {
            BatchBy::Pair => Self { pairs: (0..n_pair).collect(), ends: (1..=n_pair).collect() },
            BatchBy::Prompt => {
                let mut groups: Vec<Vec<usize>> = Vec::new();
                let mut of_prompt: HashMap<P, usize> = HashMap::new();
                for pair in 0..n_pair {
                    let group = *of_prompt.entry(prompt(pair)).or_insert(groups.len());
                    if group == groups.len() {
                        groups.push(Vec::new());
                    }
                    groups[group].push(pair);
                }
                let ends = groups.iter().scan(0, |end, group| {
                    *end += group.len();
                    Some(*end)
                });
                Self { ends: ends.collect(), pairs: groups.concat() }
            }
        }
    }

    /// Number of units.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Number of pairs.
    pub fn n_pair(&self) -> usize {
        self.pairs.len()
    }

    fn unit(&self, unit: usize) -> &[usize] {
        let start = if unit == 0 { 0 } else { self.ends[unit - 1] };
        &self.pairs[start..self.ends[unit]]
    }
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
        "position {index} lies beyond the {n_unit} units of an epoch: the data has changed since the checkpoint"
    )]
    Position {
        /// The position's index.
        index: usize,
        /// Units of the data.
        n_unit: usize,
    },
}

/// Gives out the pairs of one step after the other, without end.
#[derive(Debug, Clone)]
pub struct Sampler {
    units: Units,
    pairs_per_step: usize,
    seed: u64,
    position: Position,
    order: Vec<usize>,
}

impl Sampler {
    /// A sampler at the beginning. `pairs_per_step` = `per_device_train_batch_size` x `gradient_accumulation_steps`.
    ///
    /// # Errors
    /// No data, or a step without pairs.
    pub fn new(units: Units, pairs_per_step: usize, seed: u64) -> Result<Self, SamplerError> {
        if units.is_empty() {
            return Err(SamplerError::NoPairs);
        }
        if pairs_per_step == 0 {
            return Err(SamplerError::EmptyStep);
        }
        let order = epoch_order(units.len(), seed, 0);
        Ok(Self { units, pairs_per_step, seed, position: Position::default(), order })
    }

    /// Where the next step begins: what a checkpoint keeps.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Goes to a position that [`Sampler::position`] gave.
    ///
    /// # Errors
    /// If it is one of other data.
    pub fn seek(&mut self, position: Position) -> Result<(), SamplerError> {
        let n_unit = self.units.len();
        if position.index >= n_unit {
            return Err(SamplerError::Position { index: position.index, n_unit });
        }
        self.position = position;
        self.order = epoch_order(n_unit, self.seed, position.epoch);
        Ok(())
    }

    /// The indices of the next step's pairs. A step larger than the data holds a pair more than once.
    pub fn next_step(&mut self) -> Vec<usize> {
        let mut step = Vec::new();
        while step.len() < self.pairs_per_step {
            step.extend_from_slice(self.units.unit(self.order[self.position.index]));
            self.position.index += 1;
            if self.position.index == self.units.len() {
                self.position = Position { epoch: self.position.epoch + 1, index: 0 };
                self.order = epoch_order(self.units.len(), self.seed, self.position.epoch);
            }
        }
        step
    }

    /// Steps in which about `epochs` x all pairs are given out, rounded up; at least one. Steps of whole prompts are of
    /// different size: those of the first epoch stand for all.
    pub fn steps_of_epochs(&self, epochs: f64) -> u64 {
        let mut first = self.clone();
        first.position = Position::default();
        first.order = epoch_order(self.units.len(), self.seed, 0);
        let (mut n_step, mut n_pair) = (0_u32, 0_usize);
        while n_pair < self.units.n_pair() {
            n_pair += first.next_step().len();
            n_step += 1;
        }
        let steps = epochs * self.units.n_pair() as f64 * f64::from(n_step) / n_pair as f64;
        (steps.ceil() as u64).max(1)
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

    fn pairs(n_pair: usize) -> Units {
        Units::new(n_pair, BatchBy::Pair, |pair| pair)
    }

    fn sampler(n_pair: usize, pairs_per_step: usize, seed: u64) -> Sampler {
        Sampler::new(pairs(n_pair), pairs_per_step, seed).unwrap()
    }

    #[test]
    fn no_pairs_an_empty_step_and_a_position_of_other_data_are_refused() {
        assert_eq!(Sampler::new(pairs(0), 4, 0).unwrap_err(), SamplerError::NoPairs);
        assert_eq!(Sampler::new(pairs(4), 0, 0).unwrap_err(), SamplerError::EmptyStep);
        let beyond = Position { epoch: 3, index: 4 };
        assert_eq!(
            sampler(4, 2, 0).seek(beyond).unwrap_err(),
            SamplerError::Position { index: 4, n_unit: 4 }
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
    fn whole_prompts_are_drawn_until_the_step_has_its_pairs() {
        // Prompts of 3, 1 and 2 pairs.
        let prompts = ["a", "b", "a", "c", "a", "c"];
        let units = Units::new(6, BatchBy::Prompt, |pair| prompts[pair]);
        assert_eq!((units.len(), units.n_pair()), (3, 6));
        let groups = [vec![0, 2, 4], vec![1], vec![3, 5]];
        assert_eq!([0, 1, 2].map(|unit| units.unit(unit).to_vec()), groups);
        let mut sampler = Sampler::new(units, 2, 3).unwrap();
        let order: Vec<usize> = (0..20).flat_map(|epoch| epoch_order(3, 3, epoch)).collect();
        let mut drawn = order.into_iter();
        for _ in 0..20 {
            let mut want = Vec::new();
            while want.len() < 2 {
                want.extend(groups[drawn.next().unwrap()].clone());
            }
            assert_eq!(sampler.next_step(), want);
        }
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
        fn a_resumed_sampler_goes_on_as_the_unbroken_one(n in 1_usize..60, per_step in 1_usize..20, seed: u64, done in 0_usize..30, prompts in 1_usize..9) {
            let units = Units::new(n, BatchBy::Prompt, |pair| pair * pair % prompts);
            let mut unbroken = Sampler::new(units.clone(), per_step, seed).unwrap();
            for _ in 0..done {
                unbroken.next_step();
            }
            let mut resumed = Sampler::new(units, per_step, seed).unwrap();
            resumed.seek(unbroken.position()).unwrap();
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

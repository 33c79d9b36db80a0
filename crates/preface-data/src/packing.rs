//! A step cut into micro-batches that fit a token budget.
//!
//! ```text
//! tokens of the step's pairs  [31, 12, 40, 7, 60],  budget 64
//! micro-batches               [0..2, 2..4, 4..5]     (43, 47 and 60 tokens)
//! ```
//!
//! Pairs keep their order and a micro-batch is closed when the next pair would not fit, which gives the fewest
//! micro-batches among all cuts in order. How many tokens some pairs need together is for the caller to say: what they
//! share counts once. The cut only bounds memory: losses and gradients are sums over the step, so it changes neither;
//! and it depends on nothing but the counts, so a resumed run cuts alike.

use std::ops::Range;

/// A pair that is longer than a whole micro-batch may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "pair {pair} of the step needs {tokens} tokens, more than the budget of {budget} tokens for a micro-batch: raise max_tokens_per_batch or shorten the pair"
)]
pub struct PairTooLong {
    /// Index of the pair in the step.
    pub pair: usize,
    /// The tokens that it needs.
    pub tokens: usize,
    /// The budget.
    pub budget: usize,
}

/// Ranges over the `n_pair` pairs of a step, in order and without gap, each of at most `budget` tokens. `tokens` says
/// how many a range of pairs needs; a longer range needs no fewer.
pub fn micro_batches(
    n_pair: usize,
    budget: usize,
    tokens: impl Fn(Range<usize>) -> usize,
) -> Result<Vec<Range<usize>>, PairTooLong> {
    let mut batches = Vec::new();
    let mut start = 0;
    for pair in 0..n_pair {
        if tokens(start..pair + 1) <= budget {
            continue;
        }
        let alone = tokens(pair..pair + 1);
        if alone > budget {
            return Err(PairTooLong { pair, tokens: alone, budget });
        }
        batches.push(start..pair);
        start = pair;
    }
    if start < n_pair {
        batches.push(start..n_pair);
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn micro_batches(counts: &[usize], budget: usize) -> Result<Vec<Range<usize>>, PairTooLong> {
        super::micro_batches(counts.len(), budget, |range| counts[range].iter().sum())
    }

    #[test]
    fn an_empty_step_has_no_micro_batch() {
        assert_eq!(micro_batches(&[], 10), Ok(vec![]));
    }

    #[test]
    fn the_example_of_the_module() {
        assert_eq!(micro_batches(&[31, 12, 40, 7, 60], 64), Ok(vec![0..2, 2..4, 4..5]));
    }

    #[test]
    fn a_pair_may_fill_a_micro_batch_to_the_last_token() {
        assert_eq!(micro_batches(&[64, 32, 32, 1], 64), Ok(vec![0..1, 1..3, 3..4]));
    }

    #[test]
    fn a_pair_longer_than_the_budget_is_named() {
        let error = micro_batches(&[3, 65], 64).unwrap_err();
        assert_eq!(error, PairTooLong { pair: 1, tokens: 65, budget: 64 });
        assert!(error.to_string().contains("pair 1 of the step needs 65 tokens"));
        assert!(micro_batches(&[1], 0).is_err());
    }

    #[test]
    fn what_pairs_share_counts_once() {
        // Two tokens of its own each, and ten that all share.
        let batches = super::micro_batches(5, 14, |range| 10 + 2 * range.len());
        assert_eq!(batches, Ok(vec![0..2, 2..4, 4..5]));
    }

    proptest! {
        #[test]
        fn every_pair_is_in_one_micro_batch_and_none_could_join_the_one_before(
            counts in prop::collection::vec(0_usize..50, 0..40),
            budget in 50_usize..200,
        ) {
            let batches = micro_batches(&counts, budget).unwrap();
            let pairs: Vec<usize> = batches.iter().cloned().flatten().collect();
            prop_assert_eq!(pairs, (0..counts.len()).collect::<Vec<_>>());
            let tokens = |batch: &Range<usize>| counts[batch.clone()].iter().sum::<usize>();
            prop_assert!(batches.iter().all(|batch| !batch.is_empty() && tokens(batch) <= budget));
            prop_assert!(batches.windows(2).all(|two| tokens(&two[0]) + counts[two[1].start] > budget));
        }
    }
}

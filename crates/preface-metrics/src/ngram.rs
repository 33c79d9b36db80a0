//! Word n-grams of a segment, counted exactly: a token becomes a small number, an n-gram an array of them.
//!
//! Orders share one map: an n-gram shorter than the array ends in zeros, and no token has the number zero.

use rustc_hash::FxHashMap;

/// Highest order of the BLEU family.
pub(crate) const BLEU_ORDER: usize = 4;

/// Numbers of the tokens seen, from 1.
#[derive(Default)]
pub(crate) struct Vocabulary<'t> {
    numbers: FxHashMap<&'t str, u32>,
}

impl<'t> Vocabulary<'t> {
    /// Stands for every token that was never interned.
    pub(crate) const UNKNOWN: u32 = u32::MAX;

    /// The token's number, a new one if it has none.
    pub(crate) fn intern(&mut self, token: &'t str) -> u32 {
        let next =
            u32::try_from(self.numbers.len() + 1).expect("a corpus has fewer than 2^32 distinct tokens");
        *self.numbers.entry(token).or_insert(next)
    }

    /// The token's number or [`Self::UNKNOWN`].
    pub(crate) fn get(&self, token: &str) -> u32 {
        self.numbers.get(token).copied().unwrap_or(Self::UNKNOWN)
    }
}

/// Calls `visit(order, ngram)` for every n-gram of orders 1 to `N`, unknown tokens included.
pub(crate) fn for_each_ngram<const N: usize>(numbers: &[u32], mut visit: impl FnMut(usize, [u32; N])) {
    for start in 0..numbers.len() {
        let mut ngram = [0; N];
        for (order, number) in numbers[start..].iter().take(N).enumerate() {
            ngram[order] = *number;
            visit(order + 1, ngram);
        }
    }
}

/// What all BLEUs count of one segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NgramMatches {
    /// N-grams of the hypothesis found in a reference, each at most as often as in the reference that has it most.
    pub(crate) correct: [u64; BLEU_ORDER],
    /// N-grams of the hypothesis.
    pub(crate) total: [u64; BLEU_ORDER],
}

#[derive(Default)]
struct Count {
    hypothesis: u32,
    best_reference: u32,
    this_reference: u32,
}

impl NgramMatches {
    /// Compares token lists.
    pub(crate) fn count(hypothesis: &[&str], references: &[Vec<&str>]) -> Self {
        let mut vocabulary = Vocabulary::default();
        let numbers: Vec<u32> = hypothesis.iter().map(|token| vocabulary.intern(token)).collect();
        let mut counts: FxHashMap<[u32; BLEU_ORDER], Count> = FxHashMap::default();
        counts.reserve(BLEU_ORDER * numbers.len());
        let mut matches = Self::default();
        for_each_ngram(&numbers, |order, ngram| {
            matches.total[order - 1] += 1;
            counts.entry(ngram).or_default().hypothesis += 1;
        });
        for reference in references {
            let numbers: Vec<u32> = reference.iter().map(|token| vocabulary.get(token)).collect();
            for count in counts.values_mut() {
                count.this_reference = 0;
            }
            // Every n-gram from an unknown token on misses; the runs between them are all that can match.
            for run in numbers.split(|number| *number == Vocabulary::UNKNOWN) {
                for_each_ngram::<BLEU_ORDER>(run, |_, ngram| {
                    if let Some(count) = counts.get_mut(&ngram) {
                        count.this_reference += 1;
                        count.best_reference = count.best_reference.max(count.this_reference);
                    }
                });
            }
        }
        for (ngram, count) in &counts {
            let order = ngram.iter().take_while(|number| **number != 0).count();
            matches.correct[order - 1] += u64::from(count.hypothesis.min(count.best_reference));
        }
        matches
    }
}

/// The reference length nearest to the hypothesis's, the shorter of two equally near.
pub(crate) fn closest_length(hypothesis: usize, references: impl Iterator<Item = usize>) -> usize {
    references.min_by_key(|length| (length.abs_diff(hypothesis), *length)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ngram_counts_at_most_as_often_as_in_the_reference_that_has_it_most() {
        let references = [vec!["the", "cat"], vec!["the", "the", "dog"]];
        let matches = NgramMatches::count(&["the", "the", "the", "cat"], &references);
        assert_eq!(matches.correct, [3, 2, 0, 0]);
        assert_eq!(matches.total, [4, 3, 2, 1]);
    }

    #[test]
    fn nothing_against_nothing_matches_nothing() {
        assert_eq!(NgramMatches::count(&[], &[vec![]]), NgramMatches::default());
    }

    #[test]
    fn the_shorter_of_two_equally_near_lengths_wins() {
        assert_eq!(closest_length(5, [7, 3, 9].into_iter()), 3);
    }
}

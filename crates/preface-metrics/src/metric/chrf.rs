//! chrF and chrF++ (Popović, 2015 and 2017) as sacreBLEU computes them.
//!
//! ```text
//! P_n = matches_n / n-grams of the hypothesis      R_n = matches_n / n-grams of the reference
//! chrF = 100 * 5 P R / (4 P + R)                   P, R means over the orders that both sides have (beta = 2)
//! ```
//!
//! Orders: characters without white space, 1 to 6; chrF++ adds words, 1 and 2, with one leading or trailing ASCII
//! punctuation mark split off. Of several references the one with the best sentence score counts. Statistics:
//! `[hypothesis, reference, matches]` for each order; a side without n-grams of an order counts nothing in it.

use crate::ngram::Vocabulary;
use crate::text::{is_python_space, split_python};
use crate::{Metric, MetricError, References, Scorer, Signature};

const CHAR_ORDER: usize = 6;

/// chrF, or chrF++ with words.
#[derive(Clone, Debug, Default)]
pub struct Chrf {
    /// Highest order of word n-grams: 0 is chrF, 2 is chrF++.
    pub word_order: usize,
    /// Lower-case both sides first.
    pub lowercase: bool,
}

/// For each order the sorted n-grams, so that two texts are compared by merging.
struct Ngrams {
    orders: Vec<Vec<u128>>,
}

/// Bits of a character, shifted by one so that 0 stays free.
const CHAR_BITS: u32 = 21;
const WORD_BITS: u32 = 32;

impl Chrf {
    fn ngrams(&self, text: &str, words: &[u32]) -> Ngrams {
        let characters: Vec<u32> =
            text.chars().filter(|c| !is_python_space(*c)).map(|c| u32::from(c) + 1).collect();
        let mut orders: Vec<Vec<u128>> =
            (1..=CHAR_ORDER).map(|order| sorted_windows(&characters, order, CHAR_BITS)).collect();
        orders.extend((1..=self.word_order).map(|order| sorted_windows(words, order, WORD_BITS)));
        Ngrams { orders }
    }

    fn prepare(&self, text: &str) -> String {
        if self.lowercase { text.to_lowercase() } else { text.to_owned() }
    }
}

fn sorted_windows(items: &[u32], order: usize, bits: u32) -> Vec<u128> {
    let pack = |window: &[u32]| window.iter().fold(0u128, |packed, item| packed << bits | u128::from(*item));
    let mut windows: Vec<u128> = items.windows(order).map(pack).collect();
    windows.sort_unstable();
    windows
}

/// Size of the intersection of two sorted multisets.
fn matches(left: &[u128], right: &[u128]) -> usize {
    let (mut i, mut j, mut count) = (0, 0, 0);
    while i < left.len() && j < right.len() {
        match left[i].cmp(&right[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                count += 1;
                i += 1;
                j += 1;
            }
        }
    }
    count
}

/// Words with one mark of ASCII punctuation split off at the end, else at the start.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for word in split_python(text) {
        let mut chars = word.chars();
        let (first, last) = (chars.next(), chars.next_back());
        match (first, last) {
            (_, Some(last)) if last.is_ascii_punctuation() => {
                words.extend([&word[..word.len() - 1], &word[word.len() - 1..]]);
            }
            (Some(first), Some(_)) if first.is_ascii_punctuation() => words.extend([&word[..1], &word[1..]]),
            _ => words.push(word),
        }
    }
    words
}

fn f_score(statistics: &[f64]) -> f64 {
    let (mut precision, mut recall, mut order) = (0.0, 0.0, 0.0);
    for counts in statistics.chunks_exact(3) {
        let (in_hypothesis, in_reference, matched) = (counts[0], counts[1], counts[2]);
        if in_hypothesis > 0.0 && in_reference > 0.0 {
            precision += matched / in_hypothesis;
            recall += matched / in_reference;
            order += 1.0;
        }
    }
    if precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (precision / order, recall / order);
    100.0 * 5.0 * precision * recall / (4.0 * precision + recall)
}

impl Metric for Chrf {
    fn name(&self) -> &'static str {
        if self.word_order == 0 { "chrf" } else { "chrf++" }
    }

    fn signature(&self) -> Signature {
        Signature::new()
            .with("case", if self.lowercase { "lc" } else { "mixed" })
            .with("eff", "yes")
            .with("nc", CHAR_ORDER)
            .with("nw", self.word_order)
            .with("space", "no")
    }

    fn fit(&self, _: &References) -> Result<Box<dyn Scorer + '_>, MetricError> {
        Ok(Box::new(self))
    }
}

impl Scorer for Chrf {
    fn statistics(&self, hypothesis: &str, references: &[String]) -> Vec<f64> {
        let hypothesis = self.prepare(hypothesis);
        let references: Vec<String> = references.iter().map(|text| self.prepare(text)).collect();
        let mut vocabulary = Vocabulary::default();
        let hypothesis_words: Vec<u32> = if self.word_order == 0 { Vec::new() } else { words(&hypothesis) }
            .into_iter()
            .map(|word| vocabulary.intern(word))
            .collect();
        let ours = self.ngrams(&hypothesis, &hypothesis_words);
        let mut best: Option<(f64, Vec<f64>)> = None;
        for reference in &references {
            let reference_words: Vec<u32> = if self.word_order == 0 { Vec::new() } else { words(reference) }
                .into_iter()
                .map(|word| vocabulary.get(word))
                .collect();
            let theirs = self.ngrams(reference, &reference_words);
            let mut statistics = Vec::with_capacity(3 * ours.orders.len());
            for (ours, theirs) in ours.orders.iter().zip(&theirs.orders) {
                let in_hypothesis = if theirs.is_empty() { 0 } else { ours.len() };
                statistics.extend([in_hypothesis, theirs.len(), matches(ours, theirs)].map(|n| n as f64));
            }
            let score = f_score(&statistics);
            if best.as_ref().is_none_or(|(best, _)| score > *best) {
                best = Some((score, statistics));
            }
        }
        best.map(|(_, statistics)| statistics).expect("a segment has a reference")
    }

    fn score(&self, statistics: &[f64]) -> f64 {
        f_score(statistics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mark_is_split_off_at_the_end_first() {
        assert_eq!(words("(well) \"so\". - é! !!"), ["(well", ")", "\"so\"", ".", "-", "é", "!", "!", "!"]);
        assert_eq!(words("(open 日"), ["(", "open", "日"]);
    }
}

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

use std::borrow::Cow;

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

/// The n-grams of a text, all orders from one sort: windows of the highest order, packed with the first item on top and
/// padded with zeros at the end of the text, stay sorted when they are cut to their first n items.
struct Ngrams {
    windows: Vec<u128>,
    bits: usize,
    highest: usize,
    len: usize,
}

/// Bits of a character, shifted by one so that 0 stays free.
const CHAR_BITS: usize = 21;
const WORD_BITS: usize = 32;

impl Ngrams {
    fn new(items: &[u32], highest: usize, bits: usize) -> Self {
        let mask = (1u128 << (bits * highest)) - 1;
        let mut window = 0;
        // From the end, so that each window is the next one with an item pushed in on top.
        let mut windows: Vec<u128> = items
            .iter()
            .rev()
            .map(|item| {
                window = (window >> bits | u128::from(*item) << (bits * (highest - 1))) & mask;
                window
            })
            .collect();
        windows.sort_unstable();
        Self { windows, bits, highest, len: items.len() }
    }

    /// Number of n-grams of an order.
    fn count(&self, order: usize) -> usize {
        (self.len + 1).saturating_sub(order)
    }

    /// Size of the intersection of the multisets of n-grams of an order.
    fn matches(&self, other: &Self, order: usize) -> usize {
        let shift = self.bits * (self.highest - order);
        let item = (1u128 << self.bits) - 1;
        // A window that ends before its n-th item is none of this order.
        let cut = |windows: &[u128], at: &mut usize| {
            loop {
                let ngram = windows.get(*at)? >> shift;
                if ngram & item != 0 {
                    return Some(ngram);
                }
                *at += 1;
            }
        };
        let (mut i, mut j, mut count) = (0, 0, 0);
        while let (Some(left), Some(right)) = (cut(&self.windows, &mut i), cut(&other.windows, &mut j)) {
            i += usize::from(left <= right);
            j += usize::from(right <= left);
            count += usize::from(left == right);
        }
        count
    }
}

/// Characters and words of a text.
struct Text {
    characters: Ngrams,
    words: Ngrams,
}

impl Chrf {
    fn text(&self, text: &str, words: &[u32]) -> Text {
        let characters: Vec<u32> =
            text.chars().filter(|c| !is_python_space(*c)).map(|c| u32::from(c) + 1).collect();
        Text {
            characters: Ngrams::new(&characters, CHAR_ORDER, CHAR_BITS),
            words: Ngrams::new(words, self.word_order.max(1), WORD_BITS),
        }
    }

    /// `[hypothesis, reference, matches]` for each order.
    fn counts(&self, ours: &Text, theirs: &Text) -> Vec<f64> {
        let mut statistics = Vec::with_capacity(3 * (CHAR_ORDER + self.word_order));
        let orders = [
            (&ours.characters, &theirs.characters, CHAR_ORDER),
            (&ours.words, &theirs.words, self.word_order),
        ];
        for (ours, theirs, highest) in orders {
            for order in 1..=highest {
                let in_reference = theirs.count(order);
                let in_hypothesis = if in_reference == 0 { 0 } else { ours.count(order) };
                statistics
                    .extend([in_hypothesis, in_reference, ours.matches(theirs, order)].map(|n| n as f64));
            }
        }
        statistics
    }

    fn prepare<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.lowercase { text.to_lowercase().into() } else { text.into() }
    }

    fn words<'t>(&self, text: &'t str) -> Vec<&'t str> {
        if self.word_order == 0 { Vec::new() } else { words(text) }
    }
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
        let mut vocabulary = Vocabulary::default();
        let words: Vec<u32> =
            self.words(&hypothesis).into_iter().map(|word| vocabulary.intern(word)).collect();
        let ours = self.text(&hypothesis, &words);
        let mut best: Option<(f64, Vec<f64>)> = None;
        for reference in references {
            let reference = self.prepare(reference);
            let words: Vec<u32> =
                self.words(&reference).into_iter().map(|word| vocabulary.get(word)).collect();
            let statistics = self.counts(&ours, &self.text(&reference, &words));
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

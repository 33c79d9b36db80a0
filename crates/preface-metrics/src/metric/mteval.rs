//! BLEU and NIST as the Perl script `mteval-v13a`, in the form that e2e-metrics runs: a segment may have fewer references
//! than another.
//!
//! ```text
//! BLEU = BP * exp(mean of ln p_n)                     n = 1..4, 0..1; an order without match counts 1/2, 1/4, ...
//!                                                     of one, an order without n-grams counts p_n = 1
//! info(w_1..w_n) = log2(count(w_1..w_n-1) / count(w_1..w_n))        counts over all references
//! NIST = penalty * sum over n = 1..5 of (sum of info of the matches of order n) / (n-grams of order n)
//! penalty = exp(-beta ln(r)^2), r = words / (reference words / references a segment), 1 from r = 1 on
//! ```
//!
//! beta is chosen so that the penalty is 1/2 at r = 2/3. The text is tokenized as by
//! [`mteval13a`], with ASCII letters lower-cased. Perl takes the token `0` for nothing, so
//! the info of an n-gram whose first n-1 tokens are a lone `0` is that of a single token; so it is here.
//! The [Python twin](super::e2e) differs in all corners.

use rustc_hash::FxHashMap;

use crate::metric::bleu::{bleu_counts, bleu_statistics};
use crate::ngram::{BLEU_ORDER, Vocabulary, closest_length, for_each_ngram};
use crate::tokenizer::mteval13a;
use crate::{Metric, MetricError, References, Scorer, Signature};

/// Highest order of NIST.
pub(crate) const NIST_ORDER: usize = 5;

/// mteval's BLEU.
#[derive(Clone, Debug, Default)]
pub struct MtevalBleu;

/// mteval's NIST.
#[derive(Clone, Debug, Default)]
pub struct MtevalNist;

/// The line as the script makes it, tokens between single blanks: records are joined, then ASCII letters lower-cased,
/// then tokens separated.
fn normalize(line: &str) -> String {
    let joined = line.split_whitespace().collect::<Vec<_>>().join(" ");
    mteval13a::separate(&joined.to_ascii_lowercase())
}

fn tokens(normalized: &str) -> Vec<&str> {
    normalized.split_whitespace().collect()
}

impl Metric for MtevalBleu {
    fn name(&self) -> &'static str {
        "mteval-bleu"
    }

    fn signature(&self) -> Signature {
        Signature::new().with("as", "mteval-v13a").with("case", "lc").with("tok", "13a").with("smooth", "exp")
    }

    fn fit(&self, _: &References) -> Result<Box<dyn Scorer + '_>, MetricError> {
        Ok(Box::new(self))
    }
}

impl Scorer for MtevalBleu {
    fn statistics(&self, hypothesis: &str, references: &[String]) -> Vec<f64> {
        let hypothesis = normalize(hypothesis);
        let references: Vec<String> = references.iter().map(|text| normalize(text)).collect();
        let hypothesis = tokens(&hypothesis);
        let references: Vec<Vec<&str>> = references.iter().map(|text| tokens(text)).collect();
        let mut statistics = bleu_statistics(&hypothesis, &references);
        // An empty reference pads a segment; only as the first one does it have a length.
        let lengths = references.iter().map(Vec::len).enumerate();
        let lengths = lengths.filter(|(index, length)| *index == 0 || *length > 0).map(|(_, length)| length);
        statistics[1] = closest_length(hypothesis.len(), lengths) as f64;
        statistics
    }

    fn score(&self, statistics: &[f64]) -> f64 {
        let (sys_len, ref_len, correct, total) = bleu_counts(statistics);
        if sys_len == 0.0 {
            return 0.0;
        }
        let mut halving = 1.0;
        let mut sum = 0.0;
        for (correct, total) in correct.iter().zip(&total) {
            if *correct > 0.0 {
                sum += (correct / total).ln();
            } else if *total > 0.0 {
                halving *= 2.0;
                sum -= (halving * total).ln();
            }
        }
        (sum / BLEU_ORDER as f64).exp() * (1.0 - ref_len / sys_len).min(0.0).exp()
    }
}

impl Metric for MtevalNist {
    fn name(&self) -> &'static str {
        "mteval-nist"
    }

    fn signature(&self) -> Signature {
        Signature::new()
            .with("as", "mteval-v13a")
            .with("case", "lc")
            .with("tok", "13a")
            .with("info", "all-refs")
    }

    fn fit(&self, references: &References) -> Result<Box<dyn Scorer + '_>, MetricError> {
        let mut counts = NgramCounts::default();
        for reference in references.segments().iter().flatten() {
            counts.add(tokens(&normalize(reference)));
        }
        Ok(Box::new(FittedMtevalNist { counts }))
    }
}

/// How often each n-gram occurs in the references, by tokens that are numbers.
#[derive(Default)]
pub(crate) struct NgramCounts {
    numbers: FxHashMap<Box<str>, u32>,
    counts: FxHashMap<[u32; NIST_ORDER], u64>,
    /// Number of tokens.
    pub(crate) total: u64,
}

impl NgramCounts {
    /// Counts all n-grams of one more text, up to order 5.
    pub(crate) fn add<'t>(&mut self, tokens: impl IntoIterator<Item = &'t str>) {
        let mut text = Vec::new();
        for token in tokens {
            let next =
                u32::try_from(self.numbers.len() + 1).expect("a corpus has fewer than 2^32 distinct tokens");
            let number = self.numbers.get(token).copied().unwrap_or(next);
            if number == next {
                self.numbers.insert(token.into(), next);
            }
            text.push(number);
        }
        self.total += text.len() as u64;
        for_each_ngram(&text, |_, ngram| *self.counts.entry(ngram).or_default() += 1);
    }

    /// The token's number, [`Vocabulary::UNKNOWN`] for one that no reference holds.
    pub(crate) fn number(&self, token: &str) -> u32 {
        self.numbers.get(token).copied().unwrap_or(Vocabulary::UNKNOWN)
    }

    /// How often the n-gram occurs.
    pub(crate) fn count(&self, ngram: &[u32; NIST_ORDER]) -> u64 {
        self.counts.get(ngram).copied().unwrap_or(0)
    }
}

/// Matches of a hypothesis: `visit(order, n-gram, clipped count)` for every n-gram that some reference of the segment has.
pub(crate) fn clipped_matches(
    hypothesis: &[u32],
    references: &[Vec<u32>],
    mut visit: impl FnMut(usize, &[u32; NIST_ORDER], u64),
) {
    let count = |numbers: &[u32]| {
        let mut counts: FxHashMap<[u32; NIST_ORDER], u64> = FxHashMap::default();
        for_each_ngram(numbers, |_, ngram| *counts.entry(ngram).or_default() += 1);
        counts
    };
    let references: Vec<_> = references.iter().map(|numbers| count(numbers)).collect();
    // In order of the n-grams, so that sums of their weights are the same in every run.
    let mut ours: Vec<_> = count(hypothesis).into_iter().collect();
    ours.sort_unstable();
    for (ngram, count) in &ours {
        let most = references.iter().filter_map(|counts| counts.get(ngram)).max();
        if let Some(most) = most {
            visit(order_of(ngram), ngram, *count.min(most));
        }
    }
}

fn order_of(ngram: &[u32; NIST_ORDER]) -> usize {
    ngram.iter().take_while(|number| **number != 0).count()
}

/// The n-gram without its last token.
pub(crate) fn history(ngram: &[u32; NIST_ORDER]) -> [u32; NIST_ORDER] {
    let mut history = *ngram;
    history[order_of(ngram) - 1] = 0;
    history
}

/// 1 from ratio 1 on, 1/2 at 2/3, 0 at 0.
pub(crate) fn length_penalty(ratio: f64) -> f64 {
    if ratio >= 1.0 {
        1.0
    } else if ratio <= 0.0 {
        0.0
    } else {
        let beta = -(0.5f64.ln()) / 1.5f64.ln().powi(2);
        (-beta * ratio.ln().powi(2)).exp()
    }
}

/// Statistics: `[segments, references that are not empty, reference words, n-grams of orders 1..5, info of orders 1..5]`.
struct FittedMtevalNist {
    counts: NgramCounts,
}

impl FittedMtevalNist {
    fn info(&self, ngram: &[u32; NIST_ORDER]) -> f64 {
        let history = history(ngram);
        let zero = self.counts.number("0");
        let alone = order_of(&history) == 1 && history[0] == zero;
        let before = if history[0] == 0 || alone { self.counts.total } else { self.counts.count(&history) };
        (before as f64 / self.counts.count(ngram) as f64).log2()
    }
}

impl Scorer for FittedMtevalNist {
    fn statistics(&self, hypothesis: &str, references: &[String]) -> Vec<f64> {
        let numbers = |text: &str| -> Vec<u32> {
            tokens(&normalize(text)).into_iter().map(|token| self.counts.number(token)).collect()
        };
        let hypothesis = numbers(hypothesis);
        let references: Vec<Vec<u32>> = references.iter().map(|text| numbers(text)).collect();
        let present = references.iter().filter(|reference| !reference.is_empty()).count();
        let words = references.iter().map(Vec::len).sum::<usize>();
        let mut statistics = vec![1.0, present as f64, words as f64];
        statistics.extend((0..NIST_ORDER).map(|shorter| hypothesis.len().saturating_sub(shorter) as f64));
        let mut infos = [0.0; NIST_ORDER];
        clipped_matches(&hypothesis, &references, |order, ngram, count| {
            infos[order - 1] += self.info(ngram) * count as f64;
        });
        statistics.extend(infos);
        statistics
    }

    fn score(&self, statistics: &[f64]) -> f64 {
        let (segments, present, words) = (statistics[0], statistics[1], statistics[2]);
        let (totals, infos) = statistics[3..].split_at(NIST_ORDER);
        if words == 0.0 {
            return 0.0;
        }
        let sum: f64 = infos.iter().zip(totals).map(|(info, total)| info / total.max(1.0)).sum();
        sum * length_penalty(totals[0] / (words / (present / segments)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_penalty_is_one_half_at_two_thirds() {
        assert!((length_penalty(2.0 / 3.0) - 0.5).abs() < 1e-12);
        assert_eq!([length_penalty(1.2), length_penalty(0.0)], [1.0, 0.0]);
    }

    #[test]
    fn an_empty_reference_is_padding_unless_it_is_the_first() {
        let statistics = |references: [&str; 2]| MtevalBleu.statistics("a", &references.map(String::from));
        assert_eq!(statistics(["a b c", ""])[1], 3.0);
        assert_eq!(statistics(["", "a b c"])[1], 0.0);
    }
}

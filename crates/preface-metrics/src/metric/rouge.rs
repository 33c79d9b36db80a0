//! ROUGE-1, -2, -L and -Lsum (Lin, 2004) as the package rouge-score computes them.
//!
//! ```text
//! ROUGE-n     overlap = sum over n-grams of min(count in reference, count in hypothesis)
//! ROUGE-L     overlap = length of the longest common subsequence
//! ROUGE-Lsum  overlap = clipped hits of the union, per reference sentence, of its subsequences with every hypothesis
//!             sentence; sentences are lines
//! P = overlap / n-grams of the hypothesis,   R = overlap / n-grams of the reference,   F = 2PR / (P + R)
//! ```
//!
//! Tokens are runs of ASCII letters and digits of the lower-cased text: other scripts vanish. Of several references
//! the best F counts, or the mean. The score is the mean F over segments, 0..1; statistics `[sum of F, segments]`.

use rustc_hash::FxHashMap;

use crate::lcs::Columns;
use crate::ngram::Vocabulary;
use crate::stemmer::porter;
use crate::{Metric, MetricError, References, Scorer, Signature};

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RougeVariant {
    /// Single tokens.
    One,
    /// Pairs of tokens.
    Two,
    /// The longest common subsequence of the whole text.
    L,
    /// Unions of longest common subsequences of lines.
    Lsum,
}

/// How several references make one figure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReferenceChoice {
    /// The best of them, each segment and variant for itself.
    #[default]
    Best,
    /// Their mean.
    Average,
}

/// One ROUGE figure, F1.
#[derive(Clone, Debug)]
pub struct Rouge {
    /// What is compared.
    pub variant: RougeVariant,
    /// Whether tokens of more than three characters are stemmed.
    pub stemmer: bool,
    /// How several references make one figure.
    pub references: ReferenceChoice,
}

impl Rouge {
    fn f_measure(&self, hypothesis: &Text, reference: &Text) -> f64 {
        let mut vocabulary = Vocabulary::default();
        let hypothesis_lines = hypothesis.intern(&mut vocabulary);
        let reference_lines = reference.intern(&mut vocabulary);
        let (h, r): (&[u32], &[u32]) = match self.variant {
            RougeVariant::Lsum => return summary_level(&hypothesis_lines, &reference_lines),
            _ => (&hypothesis_lines[0], &reference_lines[0]),
        };
        match self.variant {
            RougeVariant::One => ngram_overlap::<1>(h, r),
            RougeVariant::Two => ngram_overlap::<2>(h, r),
            _ => f_measure(Columns::new(h).lcs_len(r), h.len(), r.len()),
        }
    }

    fn text(&self, text: &str) -> Text {
        let lines: Vec<&str> = match self.variant {
            RougeVariant::Lsum => text.split('\n').collect(),
            _ => vec![text],
        };
        Text { lines: lines.into_iter().map(|line| tokenize(line, self.stemmer)).collect() }
    }
}

/// A text as lines of tokens; one line unless sentences matter.
struct Text {
    lines: Vec<Vec<String>>,
}

impl Text {
    fn intern<'t>(&'t self, vocabulary: &mut Vocabulary<'t>) -> Vec<Vec<u32>> {
        self.lines.iter().map(|line| line.iter().map(|token| vocabulary.intern(token)).collect()).collect()
    }
}

/// Lower-cased runs of ASCII letters and digits, those of more than three characters stemmed if asked for.
pub(crate) fn tokenize(text: &str, stemmer: bool) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit()))
        .filter(|token| !token.is_empty())
        .map(|token| if stemmer && token.len() > 3 { porter::stem(token) } else { token.to_owned() })
        .filter(|token| !token.is_empty())
        .collect()
}

fn f_measure(overlap: usize, hypothesis: usize, reference: usize) -> f64 {
    if overlap == 0 {
        return 0.0;
    }
    let precision = overlap as f64 / hypothesis as f64;
    let recall = overlap as f64 / reference as f64;
    2.0 * precision * recall / (precision + recall)
}

fn ngram_overlap<const N: usize>(hypothesis: &[u32], reference: &[u32]) -> f64 {
    let mut counts: FxHashMap<&[u32], usize> = FxHashMap::default();
    for ngram in hypothesis.windows(N) {
        *counts.entry(ngram).or_default() += 1;
    }
    let mut overlap = 0;
    for ngram in reference.windows(N) {
        if let Some(count) = counts.get_mut(ngram).filter(|count| **count > 0) {
            *count -= 1;
            overlap += 1;
        }
    }
    f_measure(overlap, hypothesis.windows(N).len(), reference.windows(N).len())
}

/// Every hit uses up one occurrence of its token on both sides, so nothing counts twice.
fn summary_level(hypothesis: &[Vec<u32>], reference: &[Vec<u32>]) -> f64 {
    let count = |lines: &[Vec<u32>]| {
        let mut counts: FxHashMap<u32, usize> = FxHashMap::default();
        lines.iter().flatten().for_each(|token| *counts.entry(*token).or_default() += 1);
        counts
    };
    let (mut in_hypothesis, mut in_reference) = (count(hypothesis), count(reference));
    let columns: Vec<Columns> = hypothesis.iter().map(|line| Columns::new(line)).collect();
    let mut hits = 0;
    for line in reference {
        let mut union = vec![false; line.len()];
        for (columns, tokens) in columns.iter().zip(hypothesis) {
            for position in columns.lcs_positions(line, tokens) {
                union[position] = true;
            }
        }
        for (token, _) in line.iter().zip(&union).filter(|(_, hit)| **hit) {
            let left = (in_hypothesis.get_mut(token), in_reference.get_mut(token));
            if let (Some(h @ 1..), Some(r @ 1..)) = left {
                *h -= 1;
                *r -= 1;
                hits += 1;
            }
        }
    }
    let len = |lines: &[Vec<u32>]| lines.iter().map(Vec::len).sum();
    f_measure(hits, len(hypothesis), len(reference))
}

impl Metric for Rouge {
    fn name(&self) -> &'static str {
        match self.variant {
            RougeVariant::One => "rouge1",
            RougeVariant::Two => "rouge2",
            RougeVariant::L => "rougeL",
            RougeVariant::Lsum => "rougeLsum",
        }
    }

    fn signature(&self) -> Signature {
        let choice = match self.references {
            ReferenceChoice::Best => "best",
            ReferenceChoice::Average => "average",
        };
        Signature::new()
            .with("as", "rouge-score")
            .with("measure", "f1")
            .with("stem", if self.stemmer { "porter-nltk" } else { "no" })
            .with("refs", choice)
            .with("mean", "segments")
    }

    fn fit(&self, _: &References) -> Result<Box<dyn Scorer + '_>, MetricError> {
        Ok(Box::new(self))
    }
}

impl Scorer for Rouge {
    fn statistics(&self, hypothesis: &str, references: &[String]) -> Vec<f64> {
        let hypothesis = self.text(hypothesis);
        let scores = references.iter().map(|reference| self.f_measure(&hypothesis, &self.text(reference)));
        let score = match self.references {
            ReferenceChoice::Best => scores.fold(0.0, f64::max),
            ReferenceChoice::Average => scores.sum::<f64>() / references.len() as f64,
        };
        vec![score, 1.0]
    }

    fn score(&self, statistics: &[f64]) -> f64 {
        mean(statistics)
    }
}

/// `[sum, count]` to mean; 0 of nothing.
pub(crate) fn mean(statistics: &[f64]) -> f64 {
    if statistics[1] == 0.0 { 0.0 } else { statistics[0] / statistics[1] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ascii_letters_and_digits_make_tokens() {
        assert_eq!(tokenize("It’s a café-bar, №1! 日本", false), ["it", "s", "a", "caf", "bar", "1"]);
        assert_eq!(tokenize("Running cats run", true), ["run", "cat", "run"]);
    }
}

//! BLEU (Papineni et al., 2002) as sacreBLEU 2 computes it.
//!
//! ```text
//! p_n  = 100 * correct_n / total_n                 n = 1..4, counts clipped by the best reference
//! BP   = exp(1 - ref_len / sys_len)                where sys_len < ref_len, else 1
//! BLEU = BP * exp(mean of ln p_n)                  0..100
//! ```
//!
//! `ref_len` sums the reference length closest to each hypothesis. Statistics of a segment:
//! `[sys_len, ref_len, correct_1..4, total_1..4]`.
//!
//! Smoothing decides what an order without a match counts (Chen and Cherry, 2014, methods 1 to 3). Without smoothing
//! it counts ln 0, which sacreBLEU writes as -9999999999.

use std::str::FromStr;

use crate::ngram::{BLEU_ORDER, NgramMatches, closest_length};
use crate::text::{split_python, trim_end_python};
use crate::tokenizer::{char, intl, mteval13a};
use crate::{Metric, MetricError, References, Scorer, Signature};

/// sacreBLEU's stand-in for ln 0.
pub(crate) const LOG_ZERO: f64 = -9_999_999_999.0;

/// How a line becomes tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BleuTokenizer {
    /// mteval-v13a: ASCII punctuation.
    #[default]
    V13a,
    /// White space only.
    None,
    /// mteval-v14: Unicode punctuation and symbols.
    International,
    /// Single characters.
    Char,
}

/// What an order without any match counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Smoothing {
    /// 1/2, 1/4, ... of a match, halved at each such order.
    #[default]
    Exp,
    /// This share of a match (sacreBLEU's default is 0.1).
    Floor(f64),
    /// This many matches more in every order above the first (sacreBLEU's default is 1).
    AddK(f64),
    /// Nothing: the score is 0.
    None,
}

impl FromStr for BleuTokenizer {
    type Err = MetricError;

    /// sacreBLEU's names: `13a`, `none`, `intl`, `char`.
    fn from_str(name: &str) -> Result<Self, MetricError> {
        let all = [Self::V13a, Self::None, Self::International, Self::Char];
        all.into_iter().find(|tokenizer| tokenizer.name() == name).ok_or_else(|| {
            MetricError::Options(format!("unknown tokenizer `{name}`: expected 13a, none, intl or char"))
        })
    }
}

impl BleuTokenizer {
    fn name(self) -> &'static str {
        match self {
            Self::V13a => "13a",
            Self::None => "none",
            Self::International => "intl",
            Self::Char => "char",
        }
    }
}

impl FromStr for Smoothing {
    type Err = MetricError;

    /// sacreBLEU's names `exp`, `floor`, `add-k`, `none`; `floor=0.05` and `add-k=2` set a value other than its default.
    fn from_str(text: &str) -> Result<Self, MetricError> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let number = |default: f64| match value {
            None => Some(default),
            Some(value) => value.parse().ok().filter(|value: &f64| value.is_finite() && *value > 0.0),
        };
        let smoothing = match (name, value) {
            ("exp", None) => Some(Self::Exp),
            ("none", None) => Some(Self::None),
            ("floor", _) => number(0.1).map(Self::Floor),
            ("add-k", _) => number(1.0).map(Self::AddK),
            _ => None,
        };
        smoothing.ok_or_else(|| {
            let expected = "exp, floor, floor=VALUE, add-k, add-k=VALUE or none, with a VALUE above 0";
            MetricError::Options(format!("unknown smoothing `{text}`: expected {expected}"))
        })
    }
}

/// Settings of BLEU; the default is sacreBLEU's.
#[derive(Clone, Debug, Default)]
pub struct Bleu {
    /// Tokenizer, on both sides.
    pub tokenizer: BleuTokenizer,
    /// Smoothing.
    pub smoothing: Smoothing,
    /// Lower-case both sides first.
    pub lowercase: bool,
    /// Leave out orders that the hypothesis is too short for.
    pub effective_order: bool,
}

impl Bleu {
    fn tokens<'l>(&self, line: &'l mut String) -> Vec<&'l str> {
        if self.lowercase {
            *line = line.to_lowercase();
        }
        line.truncate(trim_end_python(line).len());
        match self.tokenizer {
            BleuTokenizer::V13a => *line = mteval13a::separate(line),
            BleuTokenizer::International => *line = intl::separate(line),
            BleuTokenizer::Char => return char::tokenize(line),
            BleuTokenizer::None => {}
        }
        split_python(line).collect()
    }

    fn smoothing_signature(&self) -> String {
        match self.smoothing {
            Smoothing::Exp => "exp".into(),
            Smoothing::Floor(value) => format!("floor[{value:.2}]"),
            Smoothing::AddK(value) => format!("add-k[{value:.2}]"),
            Smoothing::None => "none".into(),
        }
    }

    /// Score of summed counts, 0..100.
    fn score_of_counts(
        &self,
        sys_len: f64,
        ref_len: f64,
        correct: [f64; BLEU_ORDER],
        total: [f64; BLEU_ORDER],
    ) -> f64 {
        if correct.iter().all(|count| *count == 0.0) {
            return 0.0;
        }
        let mut log_precisions = [LOG_ZERO; BLEU_ORDER];
        let mut order = BLEU_ORDER;
        let mut halving = 1.0;
        for n in 0..BLEU_ORDER {
            let added = match self.smoothing {
                Smoothing::AddK(value) if n > 0 => value,
                _ => 0.0,
            };
            let (correct, total) = (correct[n] + added, total[n] + added);
            if total == 0.0 {
                break;
            }
            if self.effective_order {
                order = n + 1;
            }
            let precision = if correct != 0.0 {
                100.0 * correct / total
            } else {
                match self.smoothing {
                    Smoothing::Exp => {
                        halving *= 2.0;
                        100.0 / (halving * total)
                    }
                    Smoothing::Floor(value) => 100.0 * value / total,
                    Smoothing::AddK(_) | Smoothing::None => 0.0,
                }
            };
            if precision != 0.0 {
                log_precisions[n] = precision.ln();
            }
        }
        let mean = log_precisions[..order].iter().sum::<f64>() / order as f64;
        brevity_penalty(sys_len, ref_len) * mean.exp()
    }
}

/// exp(1 - ref/sys) for a hypothesis that is too short, 0 for an empty one, else 1.
pub(crate) fn brevity_penalty(sys_len: f64, ref_len: f64) -> f64 {
    if sys_len >= ref_len {
        1.0
    } else if sys_len > 0.0 {
        (1.0 - ref_len / sys_len).exp()
    } else {
        0.0
    }
}

/// `[sys_len, ref_len, correct_1..4, total_1..4]`, what every corpus BLEU but NIST's adds up.
pub(crate) fn bleu_statistics(hypothesis: &[&str], references: &[Vec<&str>]) -> Vec<f64> {
    let matches = NgramMatches::count(hypothesis, references);
    let ref_len = closest_length(hypothesis.len(), references.iter().map(Vec::len));
    let mut statistics = vec![hypothesis.len() as f64, ref_len as f64];
    statistics.extend(matches.correct.iter().chain(&matches.total).map(|count| *count as f64));
    statistics
}

/// The counts of [`bleu_statistics`]: lengths of system and reference, correct, total.
pub(crate) fn bleu_counts(statistics: &[f64]) -> (f64, f64, [f64; BLEU_ORDER], [f64; BLEU_ORDER]) {
    let counts = |start: usize| std::array::from_fn(|n| statistics[start + n]);
    (statistics[0], statistics[1], counts(2), counts(2 + BLEU_ORDER))
}

impl Metric for Bleu {
    fn name(&self) -> &'static str {
        "bleu"
    }

    fn signature(&self) -> Signature {
        Signature::new()
            .with("case", if self.lowercase { "lc" } else { "mixed" })
            .with("eff", if self.effective_order { "yes" } else { "no" })
            .with("tok", self.tokenizer.name())
            .with("smooth", self.smoothing_signature())
    }

    fn fit(&self, _: &References) -> Result<Box<dyn Scorer + '_>, MetricError> {
        Ok(Box::new(self))
    }
}

impl Scorer for Bleu {
    fn statistics(&self, hypothesis: &str, references: &[String]) -> Vec<f64> {
        let mut hypothesis = hypothesis.to_owned();
        let mut references = references.to_vec();
        let references: Vec<_> = references.iter_mut().map(|reference| self.tokens(reference)).collect();
        bleu_statistics(&self.tokens(&mut hypothesis), &references)
    }

    fn score(&self, statistics: &[f64]) -> f64 {
        let (sys_len, ref_len, correct, total) = bleu_counts(statistics);
        self.score_of_counts(sys_len, ref_len, correct, total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sacrebleu_choose_tokenizer_and_smoothing() {
        assert_eq!("intl".parse::<BleuTokenizer>().unwrap(), BleuTokenizer::International);
        assert_eq!("floor".parse::<Smoothing>().unwrap(), Smoothing::Floor(0.1));
        assert_eq!("add-k=2".parse::<Smoothing>().unwrap(), Smoothing::AddK(2.0));
        for wrong in ["", "exp=1", "floor=", "floor=-1", "floor=nan", "add"] {
            assert!(wrong.parse::<Smoothing>().is_err(), "{wrong}");
        }
        assert!("14a".parse::<BleuTokenizer>().is_err());
    }

    #[test]
    fn an_empty_hypothesis_scores_nothing() {
        assert_eq!(Bleu::default().score(&Bleu::default().statistics("", &["a".into()])), 0.0);
    }
}

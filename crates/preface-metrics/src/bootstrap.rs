//! How sure a score is, and whether two systems differ: bootstrap, paired bootstrap and paired approximate randomisation
//! as sacreBLEU does them, over the statistics of segments.
//!
//! ```text
//! bootstrap       n samples of N segments drawn with replacement; mean, and half the distance between the 2.5 % quantiles
//! paired          the same samples for both systems: d_i = |score(system) - score(baseline)| in sample i,
//!                 p = (1 + #{ d_i - mean(d) > d }) / (n + 1)
//! randomisation   n trials swap each segment of the two systems with probability 1/2:
//!                 p = (1 + #{ d_i > d }) / (n + 1)
//! ```
//!
//! The draws are those of NumPy's generator for the same seed ([`numpy`]). Sums are exact here; sacreBLEU adds its
//! bootstrap in single precision, which moves its mean and interval in the seventh digit. What a metric fitted on all
//! references (NIST, CIDEr) is kept in every sample.

pub mod numpy;

use rayon::prelude::*;

use self::numpy::Generator;
use crate::statistics::{Confidence, StatisticsTable};
use crate::{MetricError, Scorer, Signature};

/// sacreBLEU's seed.
pub const DEFAULT_SEED: u64 = 12345;
/// Samples whose draws are held in memory at once.
const SAMPLES_AT_ONCE: usize = 64;

/// Number of samples or trials, and the seed of their draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resampling {
    /// Samples of a bootstrap, trials of a randomisation.
    pub samples: usize,
    /// Seed as for NumPy's `default_rng`.
    pub seed: u64,
}

/// How two systems are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairedTest {
    /// The same resamples for both.
    Bootstrap(Resampling),
    /// Segments swapped at random.
    Randomisation(Resampling),
}

impl PairedTest {
    /// sacreBLEU's default: 1000 samples.
    pub const BOOTSTRAP: Self = Self::Bootstrap(Resampling { samples: 1000, seed: DEFAULT_SEED });
    /// sacreBLEU's default: 10,000 trials.
    pub const RANDOMISATION: Self = Self::Randomisation(Resampling { samples: 10_000, seed: DEFAULT_SEED });

    /// Probability of a difference like that between `baseline` and `system` if the two were equally good.
    ///
    /// # Errors
    /// [`MetricError::UnequalCounts`] for tables of unequal length, [`MetricError::Options`] for no samples.
    pub fn p_value(
        &self,
        scorer: &dyn Scorer,
        baseline: &StatisticsTable,
        system: &StatisticsTable,
    ) -> Result<f64, MetricError> {
        if baseline.n_segment() != system.n_segment() {
            let (hypotheses, references) = (system.n_segment(), baseline.n_segment());
            return Err(MetricError::UnequalCounts { hypotheses, references });
        }
        let real = (scorer.score(&baseline.total()) - scorer.score(&system.total())).abs();
        let differences = match self {
            Self::Bootstrap(resampling) => {
                let scores = |table| resampled_scores(scorer, table, resampling);
                let (ours, theirs) = (scores(system)?, scores(baseline)?);
                let mut differences: Vec<f64> =
                    ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).collect();
                let mean = differences.iter().sum::<f64>() / differences.len() as f64;
                differences.iter_mut().for_each(|difference| *difference -= mean);
                differences
            }
            Self::Randomisation(resampling) => swapped_differences(scorer, baseline, system, resampling)?,
        };
        let beyond = differences.iter().filter(|difference| **difference > real).count();
        Ok((beyond + 1) as f64 / (differences.len() + 1) as f64)
    }

    /// The fields that a signature gets: `bs` or `ar`, and `seed`.
    #[must_use]
    pub fn sign(&self, signature: Signature) -> Signature {
        match self {
            Self::Bootstrap(resampling) => resampling.sign(signature),
            Self::Randomisation(Resampling { samples, seed }) => {
                signature.with("ar", samples).with("seed", seed)
            }
        }
    }
}

impl Resampling {
    /// sacreBLEU's default: 1000 samples.
    pub const DEFAULT: Self = Self { samples: 1000, seed: DEFAULT_SEED };

    /// The fields that a signature gets for a bootstrap: `bs` and `seed`.
    #[must_use]
    pub fn sign(&self, signature: Signature) -> Signature {
        signature.with("bs", self.samples).with("seed", self.seed)
    }

    fn check(&self) -> Result<(), MetricError> {
        if self.samples == 0 {
            return Err(MetricError::Options("resampling needs at least one sample".into()));
        }
        Ok(())
    }
}

/// Bootstrap estimate of the corpus score, 95 %.
///
/// # Errors
/// [`MetricError::Options`] for no samples.
pub fn confidence(
    scorer: &dyn Scorer,
    table: &StatisticsTable,
    resampling: &Resampling,
) -> Result<Confidence, MetricError> {
    let mut scores = resampled_scores(scorer, table, resampling)?;
    scores.sort_by(f64::total_cmp);
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    let lower = scores.len() / 40;
    let upper = scores.len() - lower - 1;
    Ok(Confidence { level: 0.95, mean, half_width: 0.5 * (scores[upper] - scores[lower]) })
}

/// The score of each sample, in the order of the draws.
fn resampled_scores(
    scorer: &dyn Scorer,
    table: &StatisticsTable,
    resampling: &Resampling,
) -> Result<Vec<f64>, MetricError> {
    resampling.check()?;
    let n = u32::try_from(table.n_segment()).expect("fewer than 2^32 segments");
    let mut generator = Generator::new(resampling.seed);
    let mut scores = Vec::with_capacity(resampling.samples);
    while scores.len() < resampling.samples {
        let samples = SAMPLES_AT_ONCE.min(resampling.samples - scores.len());
        let draws: Vec<Vec<u32>> =
            (0..samples).map(|_| (0..n).map(|_| generator.below(n)).collect()).collect();
        scores.par_extend(
            draws.par_iter().map(|draw| scorer.score(&table.sum(draw.iter().map(|at| *at as usize)))),
        );
    }
    Ok(scores)
}

/// `|score - score|` of the two systems after each trial's swaps.
fn swapped_differences(
    scorer: &dyn Scorer,
    baseline: &StatisticsTable,
    system: &StatisticsTable,
    resampling: &Resampling,
) -> Result<Vec<f64>, MetricError> {
    resampling.check()?;
    let n = baseline.n_segment();
    // One generator of single bits runs through all trials.
    let mut generator = Generator::new(resampling.seed);
    let mut bits = generator.bits();
    let mut differences = Vec::with_capacity(resampling.samples);
    while differences.len() < resampling.samples {
        let trials = SAMPLES_AT_ONCE.min(resampling.samples - differences.len());
        let keeps: Vec<Vec<bool>> = (0..trials).map(|_| (0..n).map(|_| bits.next_bit()).collect()).collect();
        differences.par_extend(keeps.par_iter().map(|keep| {
            let mut sums = [vec![0.0; baseline.width()], vec![0.0; baseline.width()]];
            for (segment, keep) in keep.iter().enumerate() {
                let rows = [baseline.row(segment), system.row(segment)];
                let rows = if *keep { rows } else { [rows[1], rows[0]] };
                for (sum, row) in sums.iter_mut().zip(rows) {
                    sum.iter_mut().zip(row).for_each(|(total, value)| *total += value);
                }
            }
            (scorer.score(&sums[0]) - scorer.score(&sums[1])).abs()
        }));
    }
    Ok(differences)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::References;
    use crate::metric::bleu::Bleu;

    fn table(hypotheses: &[&str]) -> StatisticsTable {
        let references = References::new(vec![vec!["a b c d e".into()]; hypotheses.len()]).unwrap();
        let hypotheses: Vec<String> = hypotheses.iter().map(|text| (*text).to_owned()).collect();
        StatisticsTable::new(&Bleu::default(), &hypotheses, &references).unwrap()
    }

    #[test]
    fn a_system_against_itself_differs_by_chance() {
        let table = table(&["a b c d e", "a b c d x", "x b c d e"]);
        for test in [PairedTest::BOOTSTRAP, PairedTest::RANDOMISATION] {
            let p = test.p_value(&Bleu::default(), &table, &table).unwrap();
            assert!(p < 0.01 || p == 1.0, "{p}");
        }
    }

    #[test]
    fn one_segment_has_no_spread() {
        let table = table(&["a b c d x"]);
        let confidence = confidence(&Bleu::default(), &table, &Resampling::DEFAULT).unwrap();
        assert_eq!(confidence.half_width, 0.0);
    }

    #[test]
    fn no_samples_are_refused() {
        let table = table(&["a b c d x"]);
        let none = Resampling { samples: 0, seed: 1 };
        assert!(confidence(&Bleu::default(), &table, &none).is_err());
    }
}

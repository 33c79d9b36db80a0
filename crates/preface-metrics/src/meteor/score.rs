//! From an alignment to counts, and from a sum of counts to the score.
//!
//! ```text
//! matches of a side   m = sum over modules i of  weight_i * (delta * content_i + (1 - delta) * function_i)
//! length of a side    l = delta * content words + (1 - delta) * function words
//! P = m / l of the hypothesis,  R = m / l of the reference,  F = 1 / ((1 - alpha) / P + alpha / R)
//! fragmentation       f = chunks / mean number of matched words of the two sides
//! score = F * (1 - gamma * f^beta)
//! ```
//!
//! with the parameters of the ranking task for English, the program's default. A segment that is one chunk on both
//! sides counts no chunk at all.

use super::align::{Aligner, Alignment, Match};
use super::data::MeteorData;
use super::lattice::Line;
use super::{Module, N_MODULE};

const ALPHA: f64 = 0.85;
const BETA: f64 = 0.2;
const GAMMA: f64 = 0.6;
const DELTA: f64 = 0.75;
/// Weight of a word matched by each module.
const MODULE_WEIGHTS: [f64; N_MODULE] = [1.0, 0.6, 0.8, 0.6];

const HYPOTHESIS_LEN: usize = 0;
const REFERENCE_LEN: usize = 1;
const HYPOTHESIS_FUNCTION_WORDS: usize = 2;
const REFERENCE_FUNCTION_WORDS: usize = 3;
/// From each of these on, one count for each module.
const HYPOTHESIS_CONTENT: usize = 4;
const REFERENCE_CONTENT: usize = HYPOTHESIS_CONTENT + N_MODULE;
const HYPOTHESIS_FUNCTION: usize = REFERENCE_CONTENT + N_MODULE;
const REFERENCE_FUNCTION: usize = HYPOTHESIS_FUNCTION + N_MODULE;
const CHUNKS: usize = REFERENCE_FUNCTION + N_MODULE;
/// Number of additive statistics of a segment: lengths, function words, matches by module and kind, chunks.
pub const STATISTICS_WIDTH: usize = CHUNKS + 1;

/// The statistics of a segment, `[STATISTICS_WIDTH]`: those of the reference with the best score, the first of equals.
/// Lines are words separated by blanks, in lower case if case should not count.
pub fn statistics(hypothesis: &str, references: &[String], data: &MeteorData) -> Vec<f64> {
    let hypothesis = Line::new(hypothesis, data);
    let mut best: Option<(f64, Vec<f64>)> = None;
    for reference in references {
        let reference = Line::new(reference, data);
        let alignment = Aligner::new(data).align_lines(&hypothesis, &reference);
        let counts = count(&hypothesis, &reference, &alignment, data);
        let score = score(&counts);
        if best.as_ref().is_none_or(|(other, _)| score > *other) {
            best = Some((score, counts));
        }
    }
    best.map_or_else(|| vec![0.0; STATISTICS_WIDTH], |(_, counts)| counts)
}

fn count(hypothesis: &Line<'_>, reference: &Line<'_>, alignment: &Alignment, data: &MeteorData) -> Vec<f64> {
    let function_words = |line: &Line<'_>| -> Vec<bool> {
        line.words.iter().map(|word| data.function_words.contains(word.to_lowercase().as_str())).collect()
    };
    let (hypothesis_function, reference_function) = (function_words(hypothesis), function_words(reference));
    let number = |flags: &[bool]| flags.iter().filter(|flag| **flag).count() as f64;
    let mut counts = vec![0.0; STATISTICS_WIDTH];
    counts[HYPOTHESIS_LEN] = hypothesis.words.len() as f64;
    counts[REFERENCE_LEN] = reference.words.len() as f64;
    counts[HYPOTHESIS_FUNCTION_WORDS] = number(&hypothesis_function);
    counts[REFERENCE_FUNCTION_WORDS] = number(&reference_function);
    for found in &alignment.matches {
        let Match { module, hypothesis_start, hypothesis_len, reference_start, reference_len } = *found;
        let module = module_index(module);
        for flag in &hypothesis_function[hypothesis_start as usize..][..hypothesis_len as usize] {
            counts[module + if *flag { HYPOTHESIS_FUNCTION } else { HYPOTHESIS_CONTENT }] += 1.0;
        }
        for flag in &reference_function[reference_start as usize..][..reference_len as usize] {
            counts[module + if *flag { REFERENCE_FUNCTION } else { REFERENCE_CONTENT }] += 1.0;
        }
    }
    if !(alignment.chunks == 1 && is_complete(&counts)) {
        counts[CHUNKS] = f64::from(alignment.chunks);
    }
    counts
}

fn module_index(module: Module) -> usize {
    match module {
        Module::Exact => 0,
        Module::Stem => 1,
        Module::Synonym => 2,
        Module::Paraphrase => 3,
    }
}

fn matched(statistics: &[f64], content: usize, function: usize) -> f64 {
    (0..N_MODULE).map(|module| statistics[content + module] + statistics[function + module]).sum()
}

/// Whether every word of both sides is matched.
fn is_complete(statistics: &[f64]) -> bool {
    matched(statistics, HYPOTHESIS_CONTENT, HYPOTHESIS_FUNCTION) == statistics[HYPOTHESIS_LEN]
        && matched(statistics, REFERENCE_CONTENT, REFERENCE_FUNCTION) == statistics[REFERENCE_LEN]
}

/// The score, 0..1, of a sum of statistics; 0 where nothing can be divided.
pub fn score(statistics: &[f64]) -> f64 {
    let share = |content: usize, function: usize, len: usize, function_words: usize| {
        let weigh = |from: usize, delta: f64| {
            (0..N_MODULE).map(move |module| statistics[from + module] * MODULE_WEIGHTS[module] * delta)
        };
        let matches: f64 = weigh(content, DELTA).chain(weigh(function, 1.0 - DELTA)).sum();
        let words = DELTA * (statistics[len] - statistics[function_words])
            + (1.0 - DELTA) * statistics[function_words];
        matches / words
    };
    let precision = share(HYPOTHESIS_CONTENT, HYPOTHESIS_FUNCTION, HYPOTHESIS_LEN, HYPOTHESIS_FUNCTION_WORDS);
    let recall = share(REFERENCE_CONTENT, REFERENCE_FUNCTION, REFERENCE_LEN, REFERENCE_FUNCTION_WORDS);
    let mean = 1.0 / ((1.0 - ALPHA) / precision + ALPHA / recall);
    let matched_words = matched(statistics, HYPOTHESIS_CONTENT, HYPOTHESIS_FUNCTION)
        + matched(statistics, REFERENCE_CONTENT, REFERENCE_FUNCTION);
    let fragmentation = if statistics[CHUNKS] == 1.0 && is_complete(statistics) {
        0.0
    } else {
        statistics[CHUNKS] / (matched_words / 2.0)
    };
    let score = mean * (1.0 - GAMMA * fragmentation.powf(BETA));
    if score.is_nan() { 0.0 } else { score.max(0.0) }
}

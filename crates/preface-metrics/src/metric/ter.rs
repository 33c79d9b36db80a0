//! TER (Snover et al., 2006) as sacreBLEU computes it.
//!
//! ```text
//! TER = 100 * edits / mean reference length       edits = shifts + edit distance of the shifted hypothesis
//! ```
//!
//! Words may be moved as blocks at the price of one edit. Finding the cheapest sequence of shifts is hard, so the best
//! single shift is taken again and again, until none lowers the edit distance or 1000 of them have been tried. The
//! tie-breaking rules decide the figure: [`tercom`](super::tercom) has others. The edit distance looks only at cells
//! near the diagonal. The least edits of all references count, and the mean of their lengths. Statistics:
//! `[edits, mean reference length]`. Text is lower-cased and split at blanks.

use crate::ngram::Vocabulary;
use crate::text::split_python;
use crate::{Direction, Metric, MetricError, References, Scorer, Signature};

/// Longest block that is moved, in words.
const MAX_SHIFT_SIZE: usize = 10;
/// Farthest distance between a block and its match.
const MAX_SHIFT_DISTANCE: usize = 50;
/// Shifts tried for one pair of texts.
const MAX_SHIFT_CANDIDATES: usize = 1000;
/// Cells on either side of the diagonal.
const BEAM_WIDTH: usize = 25;
/// More than any number of edits.
const INFINITE: u32 = u32::MAX / 2;

/// sacreBLEU's TER with its default settings.
#[derive(Clone, Debug, Default)]
pub struct Ter;

/// One step of the way from the reference to the hypothesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edit {
    /// The same word on both sides.
    Keep,
    /// Another word.
    Substitute,
    /// A word of the reference that the hypothesis lacks.
    MissingWord,
    /// A word of the hypothesis that the reference lacks.
    ExtraWord,
}

/// A row of the distance matrix, stored where it was computed; infinite elsewhere.
#[derive(Clone)]
struct Row {
    start: usize,
    cells: Vec<(u32, Edit)>,
}

impl Row {
    fn cost(&self, column: usize) -> u32 {
        column.checked_sub(self.start).and_then(|at| self.cells.get(at)).map_or(INFINITE, |cell| cell.0)
    }

    fn edit(&self, column: usize) -> Edit {
        self.cells[column - self.start].1
    }
}

/// Distance matrix between a hypothesis and a reference; a row for each hypothesis word, and one before the first.
struct Distance<'r> {
    reference: &'r [u32],
    rows: Vec<Row>,
    /// Reference words for each hypothesis word: the slope of the diagonal.
    slope: f64,
    beam: usize,
}

impl<'r> Distance<'r> {
    fn new(hypothesis: &[u32], reference: &'r [u32]) -> Self {
        let n = hypothesis.len();
        let slope = if n == 0 { 1.0 } else { reference.len() as f64 / n as f64 };
        // Rows of a steep diagonal must still overlap.
        let beam = if (BEAM_WIDTH as f64) < slope / 2.0 {
            (slope / 2.0 + BEAM_WIDTH as f64).ceil() as usize
        } else {
            BEAM_WIDTH
        };
        let first = (0..).zip(0..=reference.len()).map(|(cost, _)| (cost, Edit::MissingWord)).collect();
        let mut distance = Self { reference, rows: vec![Row { start: 0, cells: first }], slope, beam };
        for i in 1..=n {
            let mut row = Row { start: 0, cells: Vec::new() };
            distance.fill(i, n, hypothesis[i - 1], &distance.rows[i - 1], &mut row);
            distance.rows.push(row);
        }
        distance
    }

    fn total(&self) -> u32 {
        self.rows.last().expect("there is a row before the first word").cost(self.reference.len())
    }

    /// The distance of another order of the same words, the first `known` of which are in place. `above` and `below`
    /// are scratch.
    fn total_of(&self, hypothesis: &[u32], known: usize, above: &mut Row, below: &mut Row) -> u32 {
        let n = hypothesis.len();
        for i in known + 1..=n {
            let row = if i == known + 1 { &self.rows[known] } else { &*above };
            self.fill(i, n, hypothesis[i - 1], row, below);
            std::mem::swap(above, below);
        }
        if known == n { self.total() } else { above.cost(self.reference.len()) }
    }

    /// Computes row `i` of `n` from the one above it.
    fn fill(&self, i: usize, n: usize, word: u32, above: &Row, row: &mut Row) {
        let width = self.reference.len();
        let diagonal = (i as f64 * self.slope).floor() as usize;
        row.start = diagonal.saturating_sub(self.beam);
        let end = if i == n { width + 1 } else { (width + 1).min(diagonal + self.beam) };
        row.cells.clear();
        let mut left = INFINITE;
        let mut upper_left = row.start.checked_sub(1).map_or(INFINITE, |column| above.cost(column));
        for column in row.start..end {
            let upper = above.cost(column);
            let mut best = (INFINITE, Edit::ExtraWord);
            if column == 0 {
                best.0 = upper + 1;
            } else {
                let equal = word == self.reference[column - 1];
                let edit = if equal { Edit::Keep } else { Edit::Substitute };
                // The order of preference among equals: diagonal, extra word, missing word.
                for candidate in [
                    (upper_left + u32::from(!equal), edit),
                    (upper + 1, Edit::ExtraWord),
                    (left + 1, Edit::MissingWord),
                ] {
                    if candidate.0 < best.0 {
                        best = candidate;
                    }
                }
            }
            left = best.0;
            upper_left = upper;
            row.cells.push(best);
        }
    }

    /// The cheapest edits, from the first word to the last.
    fn trace(&self) -> Vec<Edit> {
        let (mut i, mut j) = (self.rows.len() - 1, self.reference.len());
        let mut edits = Vec::with_capacity(i.max(j));
        while i > 0 || j > 0 {
            let edit = self.rows[i].edit(j);
            edits.push(edit);
            i -= usize::from(edit != Edit::MissingWord);
            j -= usize::from(edit != Edit::ExtraWord);
        }
        edits.reverse();
        edits
    }
}

/// Where the words stand to each other.
struct Alignment {
    /// For each reference word one past the hypothesis word it stands at, 0 before the first.
    after: Vec<usize>,
    /// Reference words without an equal partner.
    reference_error: Vec<bool>,
    /// Hypothesis words without an equal partner.
    hypothesis_error: Vec<bool>,
}

impl Alignment {
    fn new(edits: &[Edit]) -> Self {
        let mut alignment =
            Self { after: Vec::new(), reference_error: Vec::new(), hypothesis_error: Vec::new() };
        for edit in edits {
            let error = *edit != Edit::Keep;
            if *edit != Edit::MissingWord {
                alignment.hypothesis_error.push(error);
            }
            if *edit != Edit::ExtraWord {
                alignment.after.push(alignment.hypothesis_error.len());
                alignment.reference_error.push(error);
            }
        }
        alignment
    }
}

/// Edits between a hypothesis and one reference.
fn edits(hypothesis: &[u32], reference: &[u32]) -> usize {
    if reference.is_empty() {
        return hypothesis.len();
    }
    let mut words = hypothesis.to_vec();
    let mut distance = Distance::new(&words, reference);
    let mut shifts = 0;
    let mut tried = 0;
    while let Some(shift) = best_shift(&words, &distance, &mut tried) {
        if tried >= MAX_SHIFT_CANDIDATES || shift.total >= distance.total() {
            break;
        }
        words = moved(&words, shift.start, shift.length, shift.place);
        distance = Distance::new(&words, reference);
        shifts += 1;
    }
    shifts + distance.total() as usize
}

/// A block, where it goes, and the distance then.
struct Shift {
    total: u32,
    length: usize,
    start: usize,
    place: usize,
}

impl Shift {
    /// Of two shifts the one with the smaller key is better: the least distance, then the longest block, then the one
    /// that starts first, then the one that lands first.
    fn key(&self) -> (u32, std::cmp::Reverse<usize>, usize, usize) {
        (self.total, std::cmp::Reverse(self.length), self.start, self.place)
    }
}

/// The best of all shifts of blocks that are wrong where they are and would be right where they go.
fn best_shift(words: &[u32], distance: &Distance<'_>, tried: &mut usize) -> Option<Shift> {
    let reference = distance.reference;
    let alignment = Alignment::new(&distance.trace());
    let mut best: Option<Shift> = None;
    let mut scratch = [(); 2].map(|()| Row { start: 0, cells: Vec::new() });
    let [above, below] = &mut scratch;
    for start in 0..words.len() {
        let last = (start + MAX_SHIFT_DISTANCE + 1).min(reference.len());
        for target in start.saturating_sub(MAX_SHIFT_DISTANCE)..last {
            let longest = MAX_SHIFT_SIZE.min(words.len() - start).min(reference.len() - target);
            let equal = (0..longest).take_while(|at| words[start + at] == reference[target + at]).count();
            for length in 1..=equal {
                if !alignment.hypothesis_error[start..start + length].contains(&true)
                    || !alignment.reference_error[target..target + length].contains(&true)
                    || (start + 1..=start + length).contains(&alignment.after[target])
                {
                    continue;
                }
                let mut previous = None;
                for offset in 0..=length {
                    // Before the first word of the match, then after each of its words.
                    let place = (target + offset).checked_sub(1).map_or(0, |at| alignment.after[at]);
                    if previous.replace(place) == Some(place) {
                        continue;
                    }
                    let shifted = moved(words, start, length, place);
                    let known = words.iter().zip(&shifted).take_while(|(a, b)| a == b).count();
                    let total = distance.total_of(&shifted, known, above, below);
                    *tried += 1;
                    let shift = Shift { total, length, start, place };
                    if best.as_ref().is_none_or(|best| shift.key() < best.key()) {
                        best = Some(shift);
                    }
                }
                if *tried >= MAX_SHIFT_CANDIDATES {
                    return best;
                }
            }
        }
    }
    best
}

/// The words with a block moved so that it begins where `place` was; inside itself it moves to the right by
/// `place - start`.
fn moved(words: &[u32], start: usize, length: usize, place: usize) -> Vec<u32> {
    let mut out = words.to_vec();
    let end = start + length;
    if place < start {
        out[place..end].rotate_right(length);
    } else if place > end {
        out[start..place].rotate_left(length);
    } else {
        out[start..words.len().min(length + place)].rotate_left(length);
    }
    out
}

impl Metric for Ter {
    fn name(&self) -> &'static str {
        "ter"
    }

    fn signature(&self) -> Signature {
        Signature::new()
            .with("case", "lc")
            .with("tok", "tercom")
            .with("norm", "no")
            .with("punct", "yes")
            .with("asian", "no")
    }

    fn direction(&self) -> Direction {
        Direction::LowerIsBetter
    }

    fn fit(&self, _: &References) -> Result<Box<dyn Scorer + '_>, MetricError> {
        Ok(Box::new(self))
    }
}

impl Scorer for Ter {
    fn statistics(&self, hypothesis: &str, references: &[String]) -> Vec<f64> {
        let hypothesis = hypothesis.to_lowercase();
        let references: Vec<String> = references.iter().map(|text| text.to_lowercase()).collect();
        let mut vocabulary = Vocabulary::default();
        let words: Vec<u32> = split_python(&hypothesis).map(|word| vocabulary.intern(word)).collect();
        let mut least = usize::MAX;
        let mut total_len = 0;
        for reference in &references {
            let reference: Vec<u32> = split_python(reference).map(|word| vocabulary.intern(word)).collect();
            total_len += reference.len();
            least = least.min(edits(&words, &reference));
        }
        vec![least as f64, total_len as f64 / references.len() as f64]
    }

    fn score(&self, statistics: &[f64]) -> f64 {
        100.0 * edit_rate(statistics)
    }
}

/// `[edits, reference words]` to their ratio; edits without any reference word count 1.
pub(crate) fn edit_rate(statistics: &[f64]) -> f64 {
    match (statistics[0], statistics[1]) {
        (edits, words) if words > 0.0 => edits / words,
        (edits, _) if edits > 0.0 => 1.0,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_block_costs_one_edit() {
        let statistics = Ter.statistics("b c d a", &["a b c d".into()]);
        assert_eq!(statistics, [1.0, 4.0]);
    }

    #[test]
    fn a_block_moves_forwards_backwards_and_inside_itself() {
        assert_eq!(moved(&[0, 1, 2, 3, 4], 3, 2, 1), [0, 3, 4, 1, 2]);
        assert_eq!(moved(&[0, 1, 2, 3, 4], 0, 2, 4), [2, 3, 0, 1, 4]);
        assert_eq!(moved(&[0, 1, 2, 3, 4], 1, 2, 2), [0, 3, 1, 2, 4]);
        assert_eq!(moved(&[0, 1, 2, 3, 4], 3, 2, 5), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn nothing_on_either_side_is_no_error() {
        assert_eq!(Ter.statistics("", &[String::new()]), [0.0, 0.0]);
        assert_eq!(Ter.score(&[0.0, 0.0]), 0.0);
        assert_eq!(Ter.score(&Ter.statistics("a b", &[String::new()])), 100.0);
    }
}

//! TER as tercom 0.7.25 computes it, the figure of the WebNLG and DART papers.
//!
//! ```text
//! TER = edits / mean reference length             edits = shifts + edit distance of the shifted hypothesis
//! ```
//!
//! The idea is that of [`ter`](super::ter), the details are not, and they decide the figure: a shift is taken as soon as
//! it is no worse than not shifting (then each further one must be better), long blocks are tried first and short ones
//! not at all once they cannot win, all errors inside a block are one reason to move it, there is no limit to the number
//! of shifts, and the distance matrix is searched by a beam that follows the best cost instead of the diagonal.
//! Statistics: `[edits, mean reference length]`. Text is lower-cased, trimmed and split at ASCII white space.

use rustc_hash::FxHashMap;

use crate::metric::ter::edit_rate;
use crate::{Direction, Metric, MetricError, References, Scorer, Signature};

/// Longest block that is moved, in words.
const MAX_SHIFT_SIZE: usize = 10;
/// Farthest distance that a block is moved.
const MAX_SHIFT_DISTANCE: isize = 50;
/// How much a cell may cost more than the best one of the word before.
const BEAM_WIDTH: u32 = 20;
/// Cells of a distance matrix above which shifts are not searched; tercom itself runs out of memory there.
const MAX_CELLS: usize = 1 << 24;
/// Not computed.
const UNSET: u32 = u32::MAX;

/// tercom's TER with its default settings.
#[derive(Clone, Debug, Default)]
pub struct Tercom;

/// One step of the way from the reference to the hypothesis, by tercom's letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edit {
    /// Blank: the same word on both sides.
    Keep,
    /// S: another word.
    Substitute,
    /// I: a word of the hypothesis that the reference lacks.
    Insert,
    /// D: a word of the reference that the hypothesis lacks.
    Delete,
}

/// A shortest path through the distance matrix.
struct Path {
    cost: u32,
    edits: Vec<Edit>,
}

/// Scratch space of the distance matrix, `[hypothesis + 1, reference + 1]`, kept from call to call.
#[derive(Default)]
struct Matrix {
    cost: Vec<u32>,
    edit: Vec<Edit>,
}

impl Matrix {
    /// Shortest path from the reference to the hypothesis as far as the beam sees it.
    fn shortest_path(&mut self, hypothesis: &[u32], reference: &[u32]) -> Path {
        let stride = reference.len() + 1;
        let cells = stride * (hypothesis.len() + 1);
        self.cost.clear();
        self.cost.resize(cells, UNSET);
        self.edit.resize(cells.max(self.edit.len()), Edit::Keep);
        self.cost[0] = 0;
        let mut best_before = UNSET;
        let (mut first, mut last) = (0, 0);
        for column in 0..=hypothesis.len() {
            let word = hypothesis.get(column);
            let mut best = UNSET;
            let (mut first_seen, mut last_seen) = (None, 0);
            let mut row = first;
            while row <= reference.len() && row <= last {
                let here = column * stride + row;
                let cost = self.cost[here];
                let reached = cost != UNSET;
                let in_beam = word.is_none() || cost <= best_before.saturating_add(BEAM_WIDTH);
                if reached && in_beam {
                    first_seen.get_or_insert(row);
                    last_seen = row + 1;
                    if let Some(word) = word {
                        if row < reference.len() {
                            let equal = *word == reference[row];
                            let next = cost + u32::from(!equal);
                            let edit = if equal { Edit::Keep } else { Edit::Substitute };
                            let improved = self.improve(here + stride + 1, next, edit);
                            // A substitution that improves nothing does not count for the beam, a match does.
                            if improved || equal {
                                best = best.min(next);
                            }
                        }
                        self.improve(here + stride, cost + 1, Edit::Insert);
                    }
                    if row < reference.len() && self.improve(here + 1, cost + 1, Edit::Delete) && row >= last
                    {
                        last = row + 1;
                    }
                }
                row += 1;
            }
            best_before = best;
            first = first_seen.expect("the beam holds at least the cell with the best cost");
            last = last_seen;
        }
        self.read_out(hypothesis.len(), reference.len())
    }

    fn improve(&mut self, cell: usize, cost: u32, edit: Edit) -> bool {
        let improved = cost < self.cost[cell];
        if improved {
            self.cost[cell] = cost;
            self.edit[cell] = edit;
        }
        improved
    }

    fn read_out(&self, mut column: usize, mut row: usize) -> Path {
        let stride = row + 1;
        let cost = self.cost[column * stride + row];
        let mut edits = Vec::with_capacity(row.max(column));
        while row > 0 || column > 0 {
            let edit = self.edit[column * stride + row];
            edits.push(edit);
            row -= usize::from(edit != Edit::Insert);
            column -= usize::from(edit != Edit::Delete);
        }
        edits.reverse();
        Path { cost, edits }
    }
}

/// Where the words stand to each other.
struct Alignment {
    /// For each reference word the hypothesis word it stands at, -1 before the first.
    position: Vec<isize>,
    reference_error: Vec<bool>,
    hypothesis_error: Vec<bool>,
}

impl Alignment {
    fn new(edits: &[Edit]) -> Self {
        let mut alignment =
            Self { position: Vec::new(), reference_error: Vec::new(), hypothesis_error: Vec::new() };
        for edit in edits {
            let error = *edit != Edit::Keep;
            if *edit != Edit::Delete {
                alignment.hypothesis_error.push(error);
            }
            if *edit != Edit::Insert {
                alignment.position.push(alignment.hypothesis_error.len() as isize - 1);
                alignment.reference_error.push(error);
            }
        }
        alignment
    }
}

/// A block of hypothesis words, `start..=end`, and the word after which it goes, -1 for the front.
#[derive(Clone, Copy)]
struct Shift {
    start: usize,
    end: usize,
    after: isize,
}

/// Edits between a hypothesis and one reference.
fn edits(hypothesis: &[u32], reference: &[u32], matrix: &mut Matrix) -> usize {
    if hypothesis.is_empty() || reference.is_empty() {
        return hypothesis.len().max(reference.len());
    }
    if (hypothesis.len() + 1).saturating_mul(reference.len() + 1) > MAX_CELLS {
        return plain_distance(hypothesis, reference);
    }
    let mut words = hypothesis.to_vec();
    let mut path = matrix.shortest_path(&words, reference);
    let mut shifts = 0;
    while let Some((shifted, shifted_path)) = best_shift(&words, reference, &path, matrix) {
        words = shifted;
        path = shifted_path;
        shifts += 1;
    }
    shifts + path.cost as usize
}

/// The shift to make, if one is worth its price.
fn best_shift(
    words: &[u32],
    reference: &[u32],
    path: &Path,
    matrix: &mut Matrix,
) -> Option<(Vec<u32>, Path)> {
    let shifts = possible_shifts(words, reference, &Alignment::new(&path.edits));
    let mut best: Option<(Vec<u32>, Path)> = None;
    // Cost of the best choice so far: the path as it is, or a shift and the path after it.
    let mut best_cost = path.cost;
    for (longer, shifts) in shifts.iter().enumerate().rev() {
        // A block of this length can repair no more than this.
        let most = 2 * (longer as i64 + 1);
        for shift in shifts {
            let repaired = i64::from(path.cost) - i64::from(best_cost);
            if repaired > most || (best.is_some() && repaired == most) {
                break;
            }
            let shifted = moved(words, *shift);
            let after = matrix.shortest_path(&shifted, reference);
            let cost = after.cost + 1;
            if cost < best_cost || (best.is_none() && cost == best_cost) {
                best_cost = cost;
                best = Some((shifted, after));
            }
        }
    }
    best
}

/// All shifts that may repair something, by the length of the block from one word on.
fn possible_shifts(words: &[u32], reference: &[u32], alignment: &Alignment) -> Vec<Vec<Shift>> {
    let mut places: FxHashMap<u32, Vec<usize>> = FxHashMap::default();
    for (place, word) in reference.iter().enumerate() {
        places.entry(*word).or_default().push(place);
    }
    let mut shifts = vec![Vec::new(); MAX_SHIFT_SIZE];
    for start in 0..words.len() {
        let Some(all) = places.get(&words[start]) else { continue };
        let from = start as isize;
        let near = |place: &usize| {
            let to = alignment.position[*place];
            to != from && to - from <= MAX_SHIFT_DISTANCE && from - to - 1 <= MAX_SHIFT_DISTANCE
        };
        if !all.iter().any(near) {
            continue;
        }
        let mut matching = all.clone();
        for (length, word) in words[start..].iter().enumerate().take(MAX_SHIFT_SIZE) {
            let end = start + length;
            matching.retain(|place| reference.get(place + length) == Some(word));
            if matching.is_empty() {
                break;
            }
            if !alignment.hypothesis_error[start..=end].contains(&true) {
                continue;
            }
            let mut movable = false;
            for place in &matching {
                let to = alignment.position[*place];
                let inside = (from..=end as isize).contains(&to);
                if inside || to - from > MAX_SHIFT_DISTANCE || from - to > MAX_SHIFT_DISTANCE {
                    continue;
                }
                movable = true;
                if alignment.reference_error[*place..=place + length].contains(&true) {
                    push_targets(&mut shifts[length], start, end, *place, alignment);
                }
            }
            if !movable {
                break;
            }
        }
    }
    shifts
}

/// The places to which a block may go to meet its match at `place`: before the match, or after one of its words.
fn push_targets(shifts: &mut Vec<Shift>, start: usize, end: usize, place: usize, alignment: &Alignment) {
    if place == 0 {
        shifts.push(Shift { start, end, after: -1 });
    }
    let at_match = alignment.position[place];
    for word in place.saturating_sub(1)..=place + (end - start) {
        let after = alignment.position[word];
        if after != start as isize && (word == place || after != at_match) {
            shifts.push(Shift { start, end, after });
        }
    }
}

fn moved(words: &[u32], shift: Shift) -> Vec<u32> {
    let Shift { start, end, after } = shift;
    let length = end - start + 1;
    let mut out = words.to_vec();
    match usize::try_from(after) {
        Err(_) => out[..=end].rotate_right(length),
        Ok(after) if after < start => out[after + 1..=end].rotate_right(length),
        Ok(after) if after > end => out[start..=after].rotate_left(length),
        Ok(after) => out[start..words.len().min(end + 1 + after - start)].rotate_left(length),
    }
    out
}

/// Edit distance without shifts, two rows at a time.
fn plain_distance(hypothesis: &[u32], reference: &[u32]) -> usize {
    let mut row: Vec<usize> = (0..=reference.len()).collect();
    for (i, word) in hypothesis.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in reference.iter().enumerate() {
            let replaced = diagonal + usize::from(word != other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[reference.len()]
}

/// Java's `\s`, which is also what `trim` leaves to be split.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', '\t', '\n', '\x0b', '\x0c', '\r']).filter(|word| !word.is_empty())
}

impl Metric for Tercom {
    fn name(&self) -> &'static str {
        "tercom"
    }

    fn signature(&self) -> Signature {
        Signature::new()
            .with("case", "lc")
            .with("as", "tercom-0.7.25")
            .with("norm", "no")
            .with("beam", BEAM_WIDTH)
    }

    fn direction(&self) -> Direction {
        Direction::LowerIsBetter
    }

    fn fit(&self, _: &References) -> Result<Box<dyn Scorer + '_>, MetricError> {
        Ok(Box::new(self))
    }
}

impl Scorer for Tercom {
    fn statistics(&self, hypothesis: &str, references: &[String]) -> Vec<f64> {
        let hypothesis = hypothesis.to_lowercase();
        let references: Vec<String> = references.iter().map(|text| text.to_lowercase()).collect();
        let mut vocabulary = crate::ngram::Vocabulary::default();
        let ours: Vec<u32> = words(&hypothesis).map(|word| vocabulary.intern(word)).collect();
        let mut matrix = Matrix::default();
        let mut least = usize::MAX;
        let mut total_len = 0;
        for reference in &references {
            let reference: Vec<u32> = words(reference).map(|word| vocabulary.intern(word)).collect();
            total_len += reference.len();
            least = least.min(edits(&ours, &reference, &mut matrix));
        }
        vec![least as f64, total_len as f64 / references.len() as f64]
    }

    fn score(&self, statistics: &[f64]) -> f64 {
        edit_rate(statistics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_block_costs_one_edit() {
        assert_eq!(Tercom.statistics("b c d a", &["a b c d".into()]), [1.0, 4.0]);
    }

    #[test]
    fn without_words_on_one_side_every_word_of_the_other_is_an_edit() {
        assert_eq!(Tercom.statistics("", &["a b".into(), "a b c".into()]), [2.0, 2.5]);
        assert_eq!(Tercom.statistics("a", &[String::new()]), [1.0, 0.0]);
        assert_eq!(Tercom.statistics(" ", &[String::new()]), [0.0, 0.0]);
    }

    #[test]
    fn a_block_moves_to_the_front_forwards_backwards_and_inside_itself() {
        let words = [0, 1, 2, 3, 4];
        let moved = |start, end, after| moved(&words, Shift { start, end, after });
        assert_eq!(moved(3, 4, -1), [3, 4, 0, 1, 2]);
        assert_eq!(moved(3, 4, 0), [0, 3, 4, 1, 2]);
        assert_eq!(moved(0, 1, 3), [2, 3, 0, 1, 4]);
        assert_eq!(moved(1, 2, 2), [0, 3, 1, 2, 4]);
        assert_eq!(moved(3, 4, 4), [0, 1, 2, 3, 4]);
    }
}

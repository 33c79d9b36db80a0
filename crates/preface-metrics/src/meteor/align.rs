//! The best alignment of two lines: a beam search over the lattice of matches, from left to right over the reference.
//!
//! A path decides at each reference word which match begins there, or none. Paths are ranked by covered words (exact
//! matches count 1 a word and side, others 0.5, rounded down after each addition as the original's integers do), then by
//! few chunks (runs of matches that are contiguous in both lines), then by small total distance; ties keep the order in
//! which the paths arose. The best 40 go on.
//!
//! Two habits of the original are kept because they decide ties: the sum of distances of a *new* path lacks the match
//! just taken, which is added to the path it came from instead, and hence to that path's later children; and sums
//! wrap at 32 bits.

use std::rc::Rc;

use super::Module;
use super::data::MeteorData;
pub use super::lattice::Match;
use super::lattice::{Lattice, Line};

const BEAM_WIDTH: usize = 40;
const NO_MATCH: u32 = u32::MAX;

/// The chosen matches of two lines, by position in the reference, without overlaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alignment {
    /// The matches.
    pub matches: Vec<Match>,
    /// Number of runs of matches that are contiguous in both lines.
    pub chunks: u32,
}

/// Aligns lines with METEOR's tables.
#[derive(Clone, Copy, Debug)]
pub struct Aligner<'d> {
    data: &'d MeteorData,
}

impl<'d> Aligner<'d> {
    /// An aligner over these tables.
    pub fn new(data: &'d MeteorData) -> Self {
        Self { data }
    }

    /// The best alignment of two lines of words separated by blanks.
    pub fn align(&self, hypothesis: &str, reference: &str) -> Alignment {
        self.align_lines(&Line::new(hypothesis, self.data), &Line::new(reference, self.data))
    }

    pub(super) fn align_lines(&self, hypothesis: &Line<'_>, reference: &Line<'_>) -> Alignment {
        let lattice = Lattice::new(hypothesis, reference, self.data);
        let matches = Search::new(&lattice, hypothesis.words.len()).run();
        let chunks = count_chunks(&matches);
        Alignment { matches, chunks }
    }
}

fn count_chunks(matches: &[Match]) -> u32 {
    let continues = |pair: &&[Match]| {
        pair[0].reference_start + pair[0].reference_len == pair[1].reference_start
            && pair[0].hypothesis_start + pair[0].hypothesis_len == pair[1].hypothesis_start
    };
    matches.len() as u32 - matches.windows(2).filter(continues).count() as u32
}

/// A set of hypothesis words, shared between paths until one of them changes it.
#[derive(Clone)]
struct WordSet(Rc<[u64]>);

impl WordSet {
    fn meets(&self, start: u32, len: u32) -> bool {
        (start..start + len).any(|word| self.0[word as usize / 64] >> (word % 64) & 1 == 1)
    }

    fn with(&self, start: u32, len: u32) -> Self {
        let mut words = self.0.to_vec();
        (start..start + len).for_each(|word| words[word as usize / 64] |= 1 << (word % 64));
        Self(words.into())
    }
}

/// What ranks a path, smaller first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    minus_words: i32,
    chunks: i32,
    distance: i32,
}

#[derive(Clone)]
struct Path {
    hypothesis_words: i32,
    reference_words: i32,
    chunks: i32,
    distance: i32,
    /// Reference word behind the last match or skipped word.
    next: u32,
    /// Hypothesis word behind the last match; none after a skipped word.
    last_end: Option<u32>,
    used: WordSet,
    /// Last chosen match in the trail.
    trail: u32,
}

impl Path {
    fn rank(&self) -> Rank {
        Rank {
            minus_words: -(self.hypothesis_words + self.reference_words),
            chunks: self.chunks,
            distance: self.distance,
        }
    }

    /// Goes on over a match; the caller keeps account of words used, distance and trail.
    fn take(&mut self, found: &Match) {
        self.hypothesis_words = add_words(self.hypothesis_words, found.hypothesis_len, found.module);
        self.reference_words = add_words(self.reference_words, found.reference_len, found.module);
        if self.last_end.is_some_and(|end| end != found.hypothesis_start) {
            self.chunks += 1;
        }
        self.next = found.reference_start + found.reference_len;
        self.last_end = Some(found.hypothesis_start + found.hypothesis_len);
    }

    /// Goes on without a match.
    fn skip(&mut self) {
        if self.last_end.take().is_some() {
            self.chunks += 1;
        }
        self.next += 1;
    }
}

fn add_words(words: i32, len: u32, module: Module) -> i32 {
    match module {
        Module::Exact => words + len as i32,
        _ => words + len as i32 / 2,
    }
}

fn distance(found: &Match) -> i32 {
    found.reference_start.abs_diff(found.hypothesis_start) as i32
}

/// A way to go on from a path of the beam.
struct Step<'l> {
    rank: Rank,
    /// Index of the path in the beam.
    path: usize,
    /// The match to take; none leaves the path as it now stands.
    choice: Option<&'l Match>,
}

struct Search<'l> {
    lattice: &'l Lattice,
    /// `[n_reference_word]` the match that begins there and meets no other.
    certain: Vec<Option<Match>>,
    /// `[n_reference_word]` whether a certain match covers the word.
    taken: Vec<bool>,
    /// Chosen matches, each with the one before it.
    trail: Vec<(Match, u32)>,
    beam: Vec<Path>,
}

impl<'l> Search<'l> {
    fn new(lattice: &'l Lattice, n_hypothesis: usize) -> Self {
        let n_reference = lattice.at.len();
        let mut certain = vec![None; n_reference];
        let mut taken = vec![false; n_reference];
        let mut used = vec![0u64; n_hypothesis.div_ceil(64)];
        for matches in &lattice.at {
            let [found] = matches.as_slice() else { continue };
            let reference =
                found.reference_start as usize..(found.reference_start + found.reference_len) as usize;
            let hypothesis =
                found.hypothesis_start as usize..(found.hypothesis_start + found.hypothesis_len) as usize;
            let alone = lattice.reference_cover[reference.clone()].iter().all(|cover| *cover == 1)
                && lattice.hypothesis_cover[hypothesis.clone()].iter().all(|cover| *cover == 1);
            if alone {
                certain[reference.start] = Some(*found);
                taken[reference].fill(true);
                hypothesis.for_each(|word| used[word / 64] |= 1 << (word % 64));
            }
        }
        let start = Path {
            hypothesis_words: 0,
            reference_words: 0,
            chunks: 0,
            distance: 0,
            next: 0,
            last_end: None,
            used: WordSet(used.into()),
            trail: NO_MATCH,
        };
        Self { lattice, certain, taken, trail: Vec::new(), beam: vec![start] }
    }

    fn run(mut self) -> Vec<Match> {
        for at in 0..self.lattice.at.len() {
            self.advance(at);
        }
        // The last chunk of each path is closed only now, among the best by the ranks before.
        for path in &mut self.beam {
            path.chunks += i32::from(path.last_end.is_some());
        }
        self.beam.sort_by_key(Path::rank);
        let mut matches = Vec::new();
        let mut trail = self.beam[0].trail;
        while let Some((found, before)) = self.trail.get(trail as usize) {
            matches.push(*found);
            trail = *before;
        }
        matches.reverse();
        matches
    }

    /// Takes all paths over the reference word `at` and keeps the best.
    fn advance(&mut self, at: usize) {
        let mut steps = Vec::new();
        for index in 0..self.beam.len() {
            let path = &mut self.beam[index];
            if (path.next as usize) > at {
                // Still within a match.
            } else if let Some(found) = &self.certain[at] {
                path.take(found);
                path.distance = path.distance.wrapping_add(distance(found));
                self.trail.push((*found, path.trail));
                path.trail = self.trail.len() as u32 - 1;
            } else {
                for found in &self.lattice.at[at] {
                    let reference = at..at + found.reference_len as usize;
                    let is_used = self.taken[reference].contains(&true)
                        || path.used.meets(found.hypothesis_start, found.hypothesis_len);
                    if is_used {
                        continue;
                    }
                    let mut child = Rank { ..path.rank() };
                    child.minus_words =
                        -(add_words(path.hypothesis_words, found.hypothesis_len, found.module)
                            + add_words(path.reference_words, found.reference_len, found.module));
                    if path.last_end.is_some_and(|end| end != found.hypothesis_start) {
                        child.chunks += 1;
                    }
                    steps.push(Step { rank: child, path: index, choice: Some(found) });
                    path.distance = path.distance.wrapping_add(distance(found));
                }
                path.skip();
            }
            steps.push(Step { rank: path.rank(), path: index, choice: None });
        }
        self.keep_best(steps);
    }

    fn keep_best(&mut self, mut steps: Vec<Step<'l>>) {
        steps.sort_by_key(|step| step.rank);
        steps.truncate(BEAM_WIDTH);
        let before = std::mem::take(&mut self.beam);
        for step in steps {
            // Skipping a word has changed nothing of the path that a child takes over.
            let path = &before[step.path];
            self.beam.push(match step.choice {
                None => path.clone(),
                Some(found) => {
                    self.trail.push((*found, path.trail));
                    Path {
                        hypothesis_words: add_words(
                            path.hypothesis_words,
                            found.hypothesis_len,
                            found.module,
                        ),
                        reference_words: add_words(path.reference_words, found.reference_len, found.module),
                        chunks: step.rank.chunks,
                        distance: step.rank.distance,
                        next: found.reference_start + found.reference_len,
                        last_end: Some(found.hypothesis_start + found.hypothesis_len),
                        used: path.used.with(found.hypothesis_start, found.hypothesis_len),
                        trail: self.trail.len() as u32 - 1,
                    }
                }
            });
        }
    }
}

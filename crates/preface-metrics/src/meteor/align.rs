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

/// Words of one block of a [`WordSet`].
const BLOCK: usize = 1024;

/// A set of hypothesis words, in blocks that paths share until one of them changes it.
#[derive(Clone)]
struct WordSet(Vec<Rc<[u64; BLOCK / 64]>>);

impl WordSet {
    fn none_of(n_word: usize) -> Self {
        Self(std::iter::repeat_n(Rc::new([0; BLOCK / 64]), n_word.div_ceil(BLOCK)).collect())
    }

    fn meets(&self, start: u32, len: u32) -> bool {
        (start as usize..(start + len) as usize)
            .any(|word| self.0[word / BLOCK][word % BLOCK / 64] >> (word % 64) & 1 == 1)
    }

    fn insert(&mut self, start: u32, len: u32) {
        for word in start as usize..(start + len) as usize {
            Rc::make_mut(&mut self.0[word / BLOCK])[word % BLOCK / 64] |= 1 << (word % 64);
        }
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

/// The best steps so far, in order; of equals those that came first.
#[derive(Default)]
struct Best<'l>(Vec<Step<'l>>);

impl<'l> Best<'l> {
    fn offer(&mut self, step: Step<'l>) {
        if self.0.len() == BEAM_WIDTH {
            if self.0.last().is_some_and(|worst| worst.rank <= step.rank) {
                return;
            }
            self.0.pop();
        }
        let at = self.0.partition_point(|other| other.rank <= step.rank);
        self.0.insert(at, step);
    }
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
        let mut used = WordSet::none_of(n_hypothesis);
        for matches in &lattice.at {
            let [found] = matches.as_slice() else { continue };
            let reference =
                found.reference_start as usize..(found.reference_start + found.reference_len) as usize;
            let hypothesis =
                found.hypothesis_start as usize..(found.hypothesis_start + found.hypothesis_len) as usize;
            let alone = lattice.reference_cover[reference.clone()].iter().all(|cover| *cover == 1)
                && lattice.hypothesis_cover[hypothesis].iter().all(|cover| *cover == 1);
            if alone {
                certain[reference.start] = Some(*found);
                taken[reference].fill(true);
                used.insert(found.hypothesis_start, found.hypothesis_len);
            }
        }
        let start = Path {
            hypothesis_words: 0,
            reference_words: 0,
            chunks: 0,
            distance: 0,
            next: 0,
            last_end: None,
            used,
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
        let mut best = Best::default();
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
                    best.offer(Step { rank: child, path: index, choice: Some(found) });
                    path.distance = path.distance.wrapping_add(distance(found));
                }
                path.skip();
            }
            best.offer(Step { rank: path.rank(), path: index, choice: None });
        }
        self.go_on(best.0);
    }

    fn go_on(&mut self, steps: Vec<Step<'l>>) {
        let before = std::mem::take(&mut self.beam);
        for step in steps {
            // Skipping a word has changed nothing of the path that a child takes over.
            let path = &before[step.path];
            self.beam.push(match step.choice {
                None => path.clone(),
                Some(found) => {
                    self.trail.push((*found, path.trail));
                    let mut used = path.used.clone();
                    used.insert(found.hypothesis_start, found.hypothesis_len);
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
                        used,
                        trail: self.trail.len() as u32 - 1,
                    }
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNSETS: &str = "cheap\n1\ninexpensive\n1 2\nkid\n3\nchild\n3\n";
    const PARAPHRASES: &str = "0.5\nnear to\nclose by\n0.2\nfamily friendly\ngood for kids\n";

    fn align(hypothesis: &str, reference: &str) -> Alignment {
        let data = MeteorData::of_texts("the\nis\n", SYNSETS, PARAPHRASES);
        Aligner::new(&data).align(hypothesis, reference)
    }

    /// Start and length.
    type Span = (u32, u32);

    /// Module, span in the reference, span in the hypothesis.
    fn spans(alignment: &Alignment) -> Vec<(Module, Span, Span)> {
        let span = |found: &Match| {
            (
                found.module,
                (found.reference_start, found.reference_len),
                (found.hypothesis_start, found.hypothesis_len),
            )
        };
        alignment.matches.iter().map(span).collect()
    }

    #[test]
    fn empty_lines_have_an_empty_alignment() {
        for (hypothesis, reference) in [("", ""), ("a", ""), ("", "a"), ("a", "b")] {
            let alignment = align(hypothesis, reference);
            assert!(alignment.matches.is_empty());
            assert_eq!(alignment.chunks, 0);
        }
    }

    #[test]
    fn equal_lines_are_one_chunk() {
        let alignment = align("the cat the cat", "the cat the cat");
        assert_eq!(alignment.chunks, 1);
        assert_eq!(alignment.matches.len(), 4);
    }

    #[test]
    fn each_module_finds_what_the_ones_before_it_do_not() {
        let alignment = align("pubs inexpensive good for kids", "pub cheap family friendly");
        assert_eq!(
            spans(&alignment),
            [
                (Module::Stem, (0, 1), (0, 1)),
                (Module::Synonym, (1, 1), (1, 1)),
                (Module::Paraphrase, (2, 2), (2, 3)),
            ]
        );
        assert_eq!(alignment.chunks, 1);
    }

    #[test]
    fn a_paraphrase_is_found_in_the_direction_that_the_table_does_not_have() {
        let alignment = align("near to", "close by");
        assert_eq!(spans(&alignment), [(Module::Paraphrase, (0, 2), (0, 2))]);
    }

    #[test]
    fn fewer_chunks_win_among_equal_coverage() {
        // The first `the` of the hypothesis would do as well, but would cut the line in two.
        let alignment = align("the pub the cheap pub", "the cheap pub");
        assert_eq!(alignment.chunks, 1);
        assert_eq!(alignment.matches[0].hypothesis_start, 2);
    }

    #[test]
    fn no_word_is_matched_twice() {
        let alignment = align("pub", "pub pub pub");
        assert_eq!(alignment.matches.len(), 1);
    }

    #[test]
    fn words_with_the_same_java_hash_are_the_same_word() {
        assert_eq!(spans(&align("Aa", "BB")), [(Module::Exact, (0, 1), (0, 1))]);
    }

    #[test]
    fn a_long_line_of_one_word_is_aligned_in_bounded_time() {
        let long = "a ".repeat(100_000);
        let alignment = align(&long, &format!("b {long}"));
        assert!(alignment.matches.len() > 50_000, "{}", alignment.matches.len());
    }
}

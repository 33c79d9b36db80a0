//! All matches between the words of two lines, from which the best alignment is chosen.
//!
//! For each position of the reference the matches that begin there, in the order exact, stem, synonym, paraphrase, and
//! within a module by position in the hypothesis. The order is part of the result: the search breaks ties by it.

use rustc_hash::FxHashMap;

use super::data::MeteorData;
use super::{Module, java};

/// Matches that are kept for a pair of lines, spread evenly over the reference. Up to 20 million pairs of words all are
/// kept; beyond, only those nearest to the same position in the other line, so that time and memory stay bounded for a
/// line of any length, which the original's do not.
const MAX_MATCHES: usize = 20_000_000;
/// Matches of one position that are always kept.
const MIN_MATCHES_HERE: usize = 64;

/// Words of the hypothesis that stand for words of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// How they match.
    pub module: Module,
    /// First word in the reference.
    pub reference_start: u32,
    /// Number of words in the reference.
    pub reference_len: u32,
    /// First word in the hypothesis.
    pub hypothesis_start: u32,
    /// Number of words in the hypothesis.
    pub hypothesis_len: u32,
}

/// A line's words with all that matching asks of them.
#[derive(Clone, Debug)]
pub(super) struct Line<'t> {
    /// `[n_word]`
    pub(super) words: Vec<&'t str>,
    /// `[n_word]` keys of the words.
    pub(super) keys: Vec<i32>,
    stem_keys: Vec<i32>,
    synsets: Vec<Vec<u32>>,
    phrase_words: Vec<u32>,
}

impl<'t> Line<'t> {
    pub(super) fn new(line: &'t str, data: &MeteorData) -> Self {
        let words: Vec<&str> = java::words(line).collect();
        Self {
            keys: words.iter().map(|word| java::hash_code(word)).collect(),
            stem_keys: words.iter().map(|word| java::hash_code(&data.stem(word))).collect(),
            synsets: words.iter().map(|word| data.synonyms.of(word)).collect(),
            phrase_words: words.iter().map(|word| data.paraphrases.word(word)).collect(),
            words,
        }
    }
}

/// The matches of two lines.
#[derive(Clone, Debug)]
pub(super) struct Lattice {
    /// `[n_reference_word]` the matches that begin there.
    pub(super) at: Vec<Vec<Match>>,
    /// `[n_hypothesis_word]` number of matches over the word.
    pub(super) hypothesis_cover: Vec<u32>,
    /// `[n_reference_word]` number of matches over the word.
    pub(super) reference_cover: Vec<u32>,
    max_here: usize,
}

impl Lattice {
    pub(super) fn new(hypothesis: &Line<'_>, reference: &Line<'_>, data: &MeteorData) -> Self {
        let n_reference = reference.words.len();
        let mut lattice = Self {
            at: vec![Vec::new(); n_reference],
            hypothesis_cover: vec![0; hypothesis.words.len()],
            reference_cover: vec![0; n_reference],
            max_here: (MAX_MATCHES / n_reference.max(1)).max(MIN_MATCHES_HERE),
        };
        lattice.add_exact(hypothesis, reference);
        // Equal lines need no other module, and the search cannot err on them.
        if hypothesis.keys != reference.keys {
            lattice.add_stems(hypothesis, reference);
            lattice.add_synonyms(hypothesis, reference);
            lattice.add_paraphrases(hypothesis, reference, data);
        }
        lattice
    }

    /// Adds a match unless its position is full.
    fn add(&mut self, found: Match) {
        let here = &mut self.at[found.reference_start as usize];
        if here.len() >= self.max_here {
            return;
        }
        here.push(found);
        let cover = |counts: &mut [u32], start: u32, len: u32| {
            counts[start as usize..][..len as usize].iter_mut().for_each(|count| *count += 1);
        };
        cover(&mut self.hypothesis_cover, found.hypothesis_start, found.hypothesis_len);
        cover(&mut self.reference_cover, found.reference_start, found.reference_len);
    }

    /// Adds matches of single words.
    fn add_words(&mut self, module: Module, reference_at: usize, hypothesis_at: impl Iterator<Item = u32>) {
        for at in hypothesis_at {
            self.add(Match {
                module,
                reference_start: reference_at as u32,
                reference_len: 1,
                hypothesis_start: at,
                hypothesis_len: 1,
            });
        }
    }

    /// Those of `places`, which rise, that are nearest to `at`, as many as its position still has room for.
    fn nearest<'p>(&self, places: &'p [u32], at: usize) -> &'p [u32] {
        let room = self.max_here - self.at[at].len();
        let centre = places.partition_point(|place| (*place as usize) < at);
        let start = centre.saturating_sub(room / 2).min(places.len().saturating_sub(room));
        &places[start..places.len().min(start + room)]
    }

    fn add_exact(&mut self, hypothesis: &Line<'_>, reference: &Line<'_>) {
        let places = Places::new(&hypothesis.keys);
        for (at, key) in reference.keys.iter().enumerate() {
            let nearest = self.nearest(places.of(key), at);
            self.add_words(Module::Exact, at, nearest.iter().copied());
        }
    }

    fn add_stems(&mut self, hypothesis: &Line<'_>, reference: &Line<'_>) {
        let places = Places::new(&hypothesis.stem_keys);
        for (at, key) in reference.stem_keys.iter().enumerate() {
            let other_word = |place: &u32| hypothesis.keys[*place as usize] != reference.keys[at];
            let nearest = self.nearest(places.of(key), at);
            self.add_words(Module::Stem, at, nearest.iter().copied().filter(other_word));
        }
    }

    fn add_synonyms(&mut self, hypothesis: &Line<'_>, reference: &Line<'_>) {
        let mut places: FxHashMap<u32, Vec<u32>> = FxHashMap::default();
        for (at, synsets) in hypothesis.synsets.iter().enumerate() {
            for synset in synsets {
                places.entry(*synset).or_default().push(at as u32);
            }
        }
        let mut of_word: FxHashMap<&str, Vec<u32>> = FxHashMap::default();
        for (at, word) in reference.words.iter().enumerate() {
            let synonyms = of_word.entry(word).or_insert_with(|| {
                let synsets = reference.synsets[at].iter();
                let mut synonyms: Vec<u32> =
                    synsets.filter_map(|synset| places.get(synset)).flatten().copied().collect();
                synonyms.sort_unstable();
                synonyms.dedup();
                synonyms.retain(|place| hypothesis.keys[*place as usize] != reference.keys[at]);
                synonyms
            });
            let nearest = self.nearest(synonyms, at);
            self.add_words(Module::Synonym, at, nearest.iter().copied());
        }
    }

    /// Phrases of the reference with a paraphrase in the hypothesis, then phrases of the hypothesis with a paraphrase in
    /// the reference. A pair that the table has in both directions gives two matches.
    fn add_paraphrases(&mut self, hypothesis: &Line<'_>, reference: &Line<'_>, data: &MeteorData) {
        let table = &data.paraphrases;
        paraphrases(table, reference, hypothesis, |reference_span, hypothesis_span| {
            self.add_phrases(reference_span, hypothesis_span);
        });
        paraphrases(table, hypothesis, reference, |hypothesis_span, reference_span| {
            self.add_phrases(reference_span, hypothesis_span);
        });
    }

    fn add_phrases(&mut self, reference: (usize, usize), hypothesis: (usize, usize)) {
        self.add(Match {
            module: Module::Paraphrase,
            reference_start: reference.0 as u32,
            reference_len: reference.1 as u32,
            hypothesis_start: hypothesis.0 as u32,
            hypothesis_len: hypothesis.1 as u32,
        });
    }
}

/// Calls `found` with (start, length) of each phrase of `from` and of each place of a paraphrase of it in `to`.
fn paraphrases(
    table: &super::paraphrase::ParaphraseTable,
    from: &Line<'_>,
    to: &Line<'_>,
    mut found: impl FnMut((usize, usize), (usize, usize)),
) {
    let places = Places::new(&to.phrase_words);
    for start in 0..from.phrase_words.len() {
        for (len, links) in table.prefixes(&from.phrase_words[start..]) {
            for link in links {
                let paraphrase = table.phrase(*link);
                let Some(first) = paraphrase.first() else { continue };
                for at in places.of(first) {
                    let at = *at as usize;
                    if to.phrase_words[at..].starts_with(paraphrase) {
                        found((start, len), (at, paraphrase.len()));
                    }
                }
            }
        }
    }
}

/// Where each value stands in a list, in rising order.
struct Places<'v, T> {
    values: &'v [T],
    order: Vec<u32>,
}

impl<'v, T: Ord> Places<'v, T> {
    fn new(values: &'v [T]) -> Self {
        let mut order: Vec<u32> = (0..values.len() as u32).collect();
        order.sort_by(|a, b| values[*a as usize].cmp(&values[*b as usize]));
        Self { values, order }
    }

    fn of(&self, value: &T) -> &[u32] {
        let start = self.order.partition_point(|place| self.values[*place as usize] < *value);
        let len = self.order[start..].partition_point(|place| self.values[*place as usize] == *value);
        &self.order[start..start + len]
    }
}

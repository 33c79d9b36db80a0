//! The paraphrase table: pairs of phrases of one to seven words, five million of them.
//!
//! Compact form: words are numbered in alphabetical order, phrases are runs of word numbers sorted as such, and the
//! links of phrase `p` are the phrases `links[link_starts[p]..link_starts[p + 1]]`, in the order of the original table,
//! which decides ties in the search for the best alignment. Sorted phrases are a trie without pointers: all phrases that
//! begin with the words read so far are neighbours, and each further word narrows the range by two binary searches.
//! The whole is five arrays of 32-bit numbers and one text, and is read from its file as it stands.

use std::io::{BufRead, Read, Write};
use std::ops::Range;

use rustc_hash::FxHashMap;

use super::java;

/// First bytes of the file, with the version of its form.
const MAGIC: &[u8; 16] = b"preface-meteor-1";
/// More entries than this no array has; a damaged header must not allocate more.
const MAX_LEN: u32 = 1 << 28;

/// Number of a word that the table does not hold.
pub(super) const UNKNOWN: u32 = u32::MAX;

/// The paraphrase table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ParaphraseTable {
    /// `[n_word + 1]` offsets into `text`.
    word_starts: Vec<u32>,
    text: String,
    /// `[n_phrase + 1]` offsets into `phrase_words`.
    phrase_starts: Vec<u32>,
    phrase_words: Vec<u32>,
    /// `[n_phrase + 1]` offsets into `links`.
    link_starts: Vec<u32>,
    links: Vec<u32>,
}

impl ParaphraseTable {
    /// Reads METEOR's text form: three lines an entry, a probability (not used), a phrase, a paraphrase of it.
    ///
    /// # Errors
    /// What `table` gives.
    pub(super) fn build(mut table: impl BufRead) -> std::io::Result<Self> {
        let mut numbers = Numbering::default();
        let mut pairs: Vec<(u32, u32)> = Vec::new();
        let mut line = String::new();
        let mut next_line = |line: &mut String| {
            line.clear();
            table.read_line(line)
        };
        while next_line(&mut line)? > 0 {
            next_line(&mut line)?;
            let phrase = numbers.phrase(&line);
            next_line(&mut line)?;
            pairs.push((phrase, numbers.phrase(&line)));
        }
        Ok(numbers.finish(&pairs))
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    /// The number of a word, [`UNKNOWN`] if no phrase has it.
    pub(super) fn word(&self, word: &str) -> u32 {
        let n_word = self.word_starts.len().saturating_sub(1);
        let at = partition(0..n_word, |index| self.word_text(index) < word);
        if at < n_word && self.word_text(at) == word { at as u32 } else { UNKNOWN }
    }

    /// The words of a phrase.
    pub(super) fn phrase(&self, phrase: u32) -> &[u32] {
        &self.phrase_words[span(&self.phrase_starts, phrase as usize)]
    }

    /// Every phrase that `words` begins with, shortest first: its length and its paraphrases.
    pub(super) fn prefixes<'t>(&'t self, words: &'t [u32]) -> impl Iterator<Item = (usize, &'t [u32])> + 't {
        let mut range = 0..self.phrase_starts.len().saturating_sub(1);
        words.iter().enumerate().map_while(move |(depth, word)| {
            let at_depth = |phrase: usize| self.phrase(phrase as u32).get(depth).copied();
            let begin = partition(range.clone(), |phrase| at_depth(phrase).is_none_or(|other| other < *word));
            let end = partition(begin..range.end, |phrase| at_depth(phrase) == Some(*word));
            range = begin..end;
            let whole = (begin < end && self.phrase(begin as u32).len() == depth + 1)
                .then(|| &self.links[span(&self.link_starts, begin)]);
            (begin < end).then_some((depth + 1, whole.unwrap_or(&[])))
        })
    }

    fn word_text(&self, word: usize) -> &str {
        &self.text[span(&self.word_starts, word)]
    }

    /// Writes the compact form.
    ///
    /// # Errors
    /// What `file` gives.
    pub(super) fn write(&self, file: &mut impl Write) -> std::io::Result<()> {
        file.write_all(MAGIC)?;
        for array in
            [&self.word_starts, &self.phrase_starts, &self.phrase_words, &self.link_starts, &self.links]
        {
            file.write_all(&(array.len() as u32).to_le_bytes())?;
        }
        file.write_all(&(self.text.len() as u32).to_le_bytes())?;
        for array in
            [&self.word_starts, &self.phrase_starts, &self.phrase_words, &self.link_starts, &self.links]
        {
            let bytes: Vec<u8> = array.iter().flat_map(|value| value.to_le_bytes()).collect();
            file.write_all(&bytes)?;
        }
        file.write_all(self.text.as_bytes())
    }

    /// Reads what [`Self::write`] wrote, checking every offset and number.
    ///
    /// # Errors
    /// What `file` gives, or what is wrong with its content.
    pub(super) fn read(file: &mut impl Read) -> std::io::Result<Self> {
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic)?;
        check(&magic == MAGIC, "no paraphrase table of this version")?;
        let mut lens = [0; 6];
        for len in &mut lens {
            let mut bytes = [0; 4];
            file.read_exact(&mut bytes)?;
            *len = u32::from_le_bytes(bytes);
            check(*len <= MAX_LEN, "an array of the paraphrase table is too long")?;
        }
        let table = Self {
            word_starts: read_array(file, lens[0])?,
            phrase_starts: read_array(file, lens[1])?,
            phrase_words: read_array(file, lens[2])?,
            link_starts: read_array(file, lens[3])?,
            links: read_array(file, lens[4])?,
            text: String::from_utf8(read_bytes(file, lens[5] as usize)?)
                .map_err(|_| invalid("the words of the paraphrase table are not UTF-8"))?,
        };
        let n_word = table.word_starts.len().saturating_sub(1) as u32;
        let n_phrase = table.phrase_starts.len().saturating_sub(1) as u32;
        check(
            starts_fit(&table.word_starts, table.text.len()),
            "the words of the paraphrase table do not fit",
        )?;
        check(
            table.word_starts.iter().all(|start| table.text.is_char_boundary(*start as usize)),
            "a word of the paraphrase table begins within a character",
        )?;
        check(
            starts_fit(&table.phrase_starts, table.phrase_words.len())
                && table.phrase_words.iter().all(|word| *word < n_word),
            "the phrases of the paraphrase table do not fit",
        )?;
        check(
            table.link_starts.len() == table.phrase_starts.len()
                && starts_fit(&table.link_starts, table.links.len())
                && table.links.iter().all(|phrase| *phrase < n_phrase),
            "the links of the paraphrase table do not fit",
        )?;
        Ok(table)
    }
}

/// Words and phrases in the order of their first appearance.
#[derive(Default)]
struct Numbering {
    words: FxHashMap<String, u32>,
    phrases: FxHashMap<Box<[u32]>, u32>,
}

impl Numbering {
    fn phrase(&mut self, line: &str) -> u32 {
        let mut words = Vec::new();
        for word in java::words(line) {
            let next = self.words.len() as u32;
            words.push(match self.words.get(word) {
                Some(number) => *number,
                None => *self.words.entry(word.to_owned()).or_insert(next),
            });
        }
        let next = self.phrases.len() as u32;
        *self.phrases.entry(words.into()).or_insert(next)
    }

    /// Renumbers words and phrases in sorted order and groups the pairs by their first phrase.
    fn finish(self, pairs: &[(u32, u32)]) -> ParaphraseTable {
        let mut table =
            ParaphraseTable { word_starts: vec![0], phrase_starts: vec![0], ..Default::default() };
        let mut words: Vec<(String, u32)> = self.words.into_iter().collect();
        words.sort_unstable();
        let mut new_word = vec![0; words.len()];
        for (new, (word, old)) in words.iter().enumerate() {
            new_word[*old as usize] = new as u32;
            table.text.push_str(word);
            table.word_starts.push(table.text.len() as u32);
        }
        let mut phrases: Vec<(Box<[u32]>, u32)> = self.phrases.into_iter().collect();
        for (phrase, _) in &mut phrases {
            phrase.iter_mut().for_each(|word| *word = new_word[*word as usize]);
        }
        phrases.sort_unstable();
        let mut new_phrase = vec![0; phrases.len()];
        for (new, (phrase, old)) in phrases.iter().enumerate() {
            new_phrase[*old as usize] = new as u32;
            table.phrase_words.extend_from_slice(phrase);
            table.phrase_starts.push(table.phrase_words.len() as u32);
        }
        let mut pairs: Vec<(u32, u32)> =
            pairs.iter().map(|(a, b)| (new_phrase[*a as usize], new_phrase[*b as usize])).collect();
        pairs.sort_by_key(|(phrase, _)| *phrase);
        table.links = pairs.iter().map(|(_, paraphrase)| *paraphrase).collect();
        table.link_starts = vec![0; phrases.len() + 1];
        for (phrase, _) in pairs {
            table.link_starts[phrase as usize + 1] += 1;
        }
        for index in 1..table.link_starts.len() {
            table.link_starts[index] += table.link_starts[index - 1];
        }
        table
    }
}

/// The first index of `range` for which `before` does not hold.
fn partition(range: Range<usize>, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low.midpoint(high);
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

fn span(starts: &[u32], index: usize) -> Range<usize> {
    starts[index] as usize..starts[index + 1] as usize
}

/// Whether offsets begin at 0, never fall and end at `len`.
fn starts_fit(starts: &[u32], len: usize) -> bool {
    starts.first() == Some(&0) && starts.is_sorted() && starts.last() == Some(&(len as u32))
}

fn read_array(file: &mut impl Read, len: u32) -> std::io::Result<Vec<u32>> {
    let bytes = read_bytes(file, len as usize * 4)?;
    Ok(bytes
        .chunks_exact(4)
        .map(|value| u32::from_le_bytes([value[0], value[1], value[2], value[3]]))
        .collect())
}

/// Reads exactly `len` bytes, allocating no more than the file turns out to hold.
fn read_bytes(file: &mut impl Read, len: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(len as u64).read_to_end(&mut bytes)?;
    check(bytes.len() == len, "the paraphrase table ends too early")?;
    Ok(bytes)
}

fn check(holds: bool, what: &'static str) -> std::io::Result<()> {
    if holds { Ok(()) } else { Err(invalid(what)) }
}

fn invalid(what: &'static str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "0.5\nlow price\ncheap\n0.1\nlow\nsmall\n0.2\nlow price\nnot dear\n0.3\ncheap\nlow price\n";

    fn prefixes(table: &ParaphraseTable, line: &str) -> Vec<(usize, Vec<String>)> {
        let words: Vec<u32> = line.split(' ').map(|word| table.word(word)).collect();
        let text = |phrase: &u32| {
            let words: Vec<&str> =
                table.phrase(*phrase).iter().map(|word| table.word_text(*word as usize)).collect();
            words.join(" ")
        };
        table.prefixes(&words).map(|(len, links)| (len, links.iter().map(text).collect())).collect()
    }

    #[test]
    fn all_phrases_at_the_start_of_a_line_are_found_with_their_paraphrases_in_table_order() {
        let table = ParaphraseTable::build(TEXT.as_bytes()).unwrap();
        let found = prefixes(&table, "low price here");
        assert_eq!(
            found,
            [(1, vec!["small".to_owned()]), (2, vec!["cheap".to_owned(), "not dear".to_owned()])]
        );
        assert_eq!(prefixes(&table, "here"), []);
        assert_eq!(table.len(), 4);
    }

    #[test]
    fn a_beginning_that_is_no_phrase_of_its_own_has_no_paraphrases() {
        let table = ParaphraseTable::build("1\na b c\nd\n".as_bytes()).unwrap();
        assert_eq!(prefixes(&table, "a b c"), [(1, vec![]), (2, vec![]), (3, vec!["d".to_owned()])]);
    }

    #[test]
    fn what_was_written_is_read_back() {
        let table = ParaphraseTable::build(TEXT.as_bytes()).unwrap();
        let mut file = Vec::new();
        table.write(&mut file).unwrap();
        assert_eq!(ParaphraseTable::read(&mut file.as_slice()).unwrap(), table);
    }

    #[test]
    fn no_change_of_one_byte_and_no_truncation_makes_reading_panic() {
        let mut file = Vec::new();
        ParaphraseTable::build(TEXT.as_bytes()).unwrap().write(&mut file).unwrap();
        for at in 0..file.len() {
            assert!(ParaphraseTable::read(&mut &file[..at]).is_err());
            let mut damaged = file.clone();
            damaged[at] ^= 0xFF;
            if let Ok(table) = ParaphraseTable::read(&mut damaged.as_slice()) {
                prefixes(&table, "low price");
            }
        }
    }

    #[test]
    fn an_empty_table_matches_nothing() {
        let table = ParaphraseTable::build(&b""[..]).unwrap();
        assert_eq!(table.word("a"), UNKNOWN);
        assert_eq!(table.prefixes(&[UNKNOWN]).count(), 0);
    }
}

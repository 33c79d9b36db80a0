//! METEOR's tables for English, as [`install`](super::install) has put them into a folder.

use std::io::BufReader;
use std::path::Path;

use rust_stemmers::{Algorithm, Stemmer};
use rustc_hash::FxHashSet;

use super::normalizer::Normalizer;
use super::paraphrase::ParaphraseTable;
use super::synonym::SynonymDictionary;
use crate::MetricError;

/// Names of the files in the folder.
pub(super) const FUNCTION_WORDS: &str = "english.words";
pub(super) const PREFIXES: &str = "english.prefixes";
pub(super) const EXCEPTIONS: &str = "english.exceptions";
pub(super) const SYNSETS: &str = "english.synsets";
pub(super) const PARAPHRASES: &str = "paraphrase-en.table";

/// All tables, read-only; about 150 MB.
pub struct MeteorData {
    pub(super) normalizer: Normalizer,
    pub(super) function_words: FxHashSet<String>,
    pub(super) synonyms: SynonymDictionary,
    pub(super) paraphrases: ParaphraseTable,
    stemmer: Stemmer,
}

impl MeteorData {
    /// Reads the tables from `folder`.
    ///
    /// # Errors
    /// [`MetricError::MissingData`] if a file is not there, with the command that brings it; [`MetricError::Io`] and
    /// [`MetricError::Malformed`] for files that cannot be read.
    pub fn open(folder: &Path) -> Result<Self, MetricError> {
        let read = |name: &str| {
            let path = folder.join(name);
            if path.is_file() { Ok(fs_err::read_to_string(path)?) } else { Err(missing(&path)) }
        };
        let normalizer = Normalizer::new(&read(PREFIXES)?);
        let function_words = read(FUNCTION_WORDS)?.lines().map(str::to_owned).collect();
        let synonyms = SynonymDictionary::parse(&read(EXCEPTIONS)?, &read(SYNSETS)?)
            .map_err(|(line, what)| MetricError::Malformed { path: folder.join(SYNSETS), line, what })?;
        let table = folder.join(PARAPHRASES);
        if !table.is_file() {
            return Err(missing(&table));
        }
        let paraphrases = ParaphraseTable::read(&mut BufReader::new(fs_err::File::open(&table)?))
            .map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", table.display())))?;
        Ok(Self {
            normalizer,
            function_words,
            synonyms,
            paraphrases,
            stemmer: Stemmer::create(Algorithm::English),
        })
    }

    /// Small tables in memory, for tests of the stages.
    #[cfg(test)]
    pub(super) fn of_texts(function_words: &str, synsets: &str, paraphrases: &str) -> Self {
        Self {
            normalizer: Normalizer::new("Mr\nNo #NUMERIC_ONLY#\n"),
            function_words: function_words.lines().map(str::to_owned).collect(),
            synonyms: SynonymDictionary::parse("", synsets).expect("the test's synsets are numbers"),
            paraphrases: ParaphraseTable::build(paraphrases.as_bytes()).expect("memory does not fail"),
            stemmer: Stemmer::create(Algorithm::English),
        }
    }

    /// The error of whoever asks for METEOR and has no folder with its tables.
    pub fn not_installed() -> MetricError {
        missing_data("METEOR's tables (WordNet synsets, paraphrases, function words)".to_owned())
    }

    /// The normaliser behind `-norm`.
    pub fn normalizer(&self) -> &Normalizer {
        &self.normalizer
    }

    pub(super) fn stem<'w>(&self, word: &'w str) -> std::borrow::Cow<'w, str> {
        self.stemmer.stem(word)
    }
}

impl std::fmt::Debug for MeteorData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeteorData").field("paraphrases", &self.paraphrases.len()).finish_non_exhaustive()
    }
}

fn missing(path: &Path) -> MetricError {
    missing_data(format!("METEOR's tables ({} is not there)", path.display()))
}

fn missing_data(what: String) -> MetricError {
    MetricError::MissingData {
        metric: "meteor",
        what,
        remedy: "get them with `preface assets add meteor PATH`, where PATH is the wheel of pycocoevalcap 1.2 or a folder \
                 with meteor-1.5.jar and data/paraphrase-en.gz"
            .to_owned(),
    }
}

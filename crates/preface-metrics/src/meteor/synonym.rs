//! WordNet synsets of words and of their base forms.
//!
//! A word's base form comes from the list of exceptions (`mice`: `mouse`), else from the first of twenty suffix rules
//! whose result WordNet knows (WordNet's own `morphy` rules: nouns, verbs, adjectives).

use rustc_hash::FxHashMap;

use super::java;

/// Ending of an inflected form, ending of the base form; in the order of trial.
const SUFFIX_RULES: [(&str, &str); 20] = [
    ("s", ""),
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
    ("s", ""),
    ("ies", "y"),
    ("es", "e"),
    ("es", ""),
    ("ed", "e"),
    ("ed", ""),
    ("ing", "e"),
    ("ing", ""),
    ("er", ""),
    ("est", ""),
    ("er", "e"),
    ("est", "e"),
];

/// Synsets of words.
#[derive(Clone, Debug, Default)]
pub(super) struct SynonymDictionary {
    bases: FxHashMap<Box<str>, Vec<Box<str>>>,
    synsets: FxHashMap<Box<str>, Box<[u32]>>,
}

impl SynonymDictionary {
    /// Reads pairs of lines: a base form and its irregular forms; a word and the numbers of its synsets.
    ///
    /// # Errors
    /// The line (from 1) of `synsets` where a number was expected, and what stands there.
    pub(super) fn parse(exceptions: &str, synsets: &str) -> Result<Self, (usize, String)> {
        let mut dictionary = Self::default();
        let mut lines = exceptions.lines();
        while let (Some(base), Some(forms)) = (lines.next(), lines.next()) {
            for form in java::words(forms) {
                dictionary.bases.entry(form.into()).or_default().push(base.into());
            }
        }
        let mut lines = synsets.lines().enumerate();
        while let (Some((_, word)), Some((line, numbers))) = (lines.next(), lines.next()) {
            let mut sets = Vec::new();
            for number in java::words(numbers) {
                sets.push(
                    number.parse().map_err(|_| (line + 1, format!("expected a synset, found `{number}`")))?,
                );
            }
            dictionary.synsets.insert(word.into(), sets.into());
        }
        Ok(dictionary)
    }

    /// The synsets of a word and of its base forms, in rising order, each once.
    pub(super) fn of(&self, word: &str) -> Vec<u32> {
        let mut sets = self.own(word).to_vec();
        match self.bases.get(word) {
            Some(bases) => bases.iter().for_each(|base| sets.extend_from_slice(self.own(base))),
            None => sets.extend_from_slice(self.base_form(word).map_or(&[][..], |base| self.own(&base))),
        }
        sets.sort_unstable();
        sets.dedup();
        sets
    }

    fn own(&self, word: &str) -> &[u32] {
        self.synsets.get(word).map_or(&[], |sets| sets)
    }

    /// The base form by rule. A word that ends in `ful` would get that ending back, but no rule's ending is one of its.
    fn base_form(&self, word: &str) -> Option<String> {
        if word.ends_with("ss") || word.encode_utf16().count() <= 2 {
            return Some(word.to_owned());
        }
        SUFFIX_RULES
            .iter()
            .filter_map(|(inflected, base)| word.strip_suffix(inflected).map(|stem| format!("{stem}{base}")))
            .find(|base| self.synsets.contains_key(base.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dictionary() -> SynonymDictionary {
        let exceptions = "mouse\nmice\n";
        let synsets = "mouse\n1 2\ncheap\n3\ninexpensive\n3 4\ndish\n5\nman\n6\nss\n7\n";
        SynonymDictionary::parse(exceptions, synsets).unwrap()
    }

    #[test]
    fn a_word_has_the_synsets_of_its_irregular_base_form() {
        assert_eq!(dictionary().of("mice"), [1, 2]);
    }

    #[test]
    fn a_word_has_the_synsets_of_the_first_base_form_that_is_known() {
        assert_eq!(dictionary().of("dishes"), [5]);
        assert_eq!(dictionary().of("cheaper"), [3]);
        assert_eq!(dictionary().of("men"), [6]);
        assert!(dictionary().of("unknown").is_empty());
        assert!(dictionary().of("").is_empty());
    }

    #[test]
    fn a_synset_that_is_no_number_is_reported_with_its_line() {
        let (line, what) = SynonymDictionary::parse("", "word\n1 x\n").unwrap_err();
        assert_eq!((line, what.as_str()), (2, "expected a synset, found `x`"));
    }
}

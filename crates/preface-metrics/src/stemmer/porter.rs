//! Porter's stemmer (1980) with the extensions of NLTK, as rouge-score uses it.
//!
//! A word is `[C](VC)^m[V]`, C a run of consonants, V of vowels, y a vowel after a consonant; m is its *measure*. Five
//! steps replace suffixes under conditions on the stem that is left. In each list the first suffix that fits decides,
//! whether its condition holds or not. NLTK's extensions: a table of irregular words, words of two letters stay, *ies*
//! and *ied* of four letters become *ie*, *y* becomes *i* only after a consonant, *alli*, *bli*, *fulli*, *logi*.

/// Whole words that no rule gets right.
const IRREGULAR: &[(&str, &str)] = &[
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// Suffix and replacement, for stems of positive measure.
const STEP_2: &[(&str, &str)] = &[
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

const STEP_3: &[(&str, &str)] = &[
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
];

/// Suffixes that fall after stems of measure above one.
const STEP_4: &[&str] = &[
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism",
    "ate", "iti", "ous", "ive", "ize",
];

/// The stem of a word of ASCII lower-case letters and digits; digits count as consonants.
pub fn stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(irregular, _)| *irregular == word) {
        return (*stem).to_owned();
    }
    if word.len() <= 2 {
        return word.to_owned();
    }
    let mut word = word.to_owned();
    plural(&mut word);
    past_and_gerund(&mut word);
    final_y(&mut word);
    double_suffixes(&mut word);
    replace_first(&mut word, STEP_3);
    long_suffixes(&mut word);
    final_e(&mut word);
    if word.ends_with("ll") && measure(&word[..word.len() - 1]) > 1 {
        word.pop();
    }
    word
}

/// Step 1a.
fn plural(word: &mut String) {
    if word.ends_with("ies") && word.len() == 4 {
        word.pop();
    } else if word.ends_with("sses") || word.ends_with("ies") {
        word.truncate(word.len() - 2);
    } else if word.ends_with('s') && !word.ends_with("ss") {
        word.pop();
    }
}

/// Step 1b.
fn past_and_gerund(word: &mut String) {
    if word.ends_with("ied") {
        word.truncate(word.len() - if word.len() == 4 { 1 } else { 2 });
        return;
    }
    if let Some(stem) = word.strip_suffix("eed") {
        if measure(stem) > 0 {
            word.pop();
        }
        return;
    }
    let Some(stem) = ["ed", "ing"]
        .into_iter()
        .find_map(|suffix| word.strip_suffix(suffix).filter(|stem| contains_vowel(stem)))
    else {
        return;
    };
    word.truncate(stem.len());
    if ["at", "bl", "iz"].iter().any(|ending| word.ends_with(ending)) {
        word.push('e');
    } else if ends_double_consonant(word) {
        if !word.ends_with(['l', 's', 'z']) {
            word.pop();
        }
    } else if measure(word) == 1 && ends_consonant_vowel_consonant(word) {
        word.push('e');
    }
}

/// Step 1c.
fn final_y(word: &mut String) {
    if let Some(stem) = word.strip_suffix('y')
        && stem.len() > 1
        && consonants(stem).last() == Some(&true)
    {
        word.pop();
        word.push('i');
    }
}

/// Step 2.
fn double_suffixes(word: &mut String) {
    if word.strip_suffix("alli").is_some_and(|stem| measure(stem) > 0) {
        word.truncate(word.len() - 2);
        double_suffixes(word);
    } else if !replace_first(word, STEP_2)
        && let Some(stem) = word.strip_suffix("ogi")
        && stem.ends_with('l')
        && measure(stem) > 0
    {
        word.pop();
    }
}

/// Applies the first rule whose suffix fits, if the stem's measure is positive; whether one fitted.
fn replace_first(word: &mut String, rules: &[(&str, &str)]) -> bool {
    let Some((suffix, replacement)) = rules.iter().find(|(suffix, _)| word.ends_with(suffix)) else {
        return false;
    };
    let stem_len = word.len() - suffix.len();
    if measure(&word[..stem_len]) > 0 {
        word.truncate(stem_len);
        word.push_str(replacement);
    }
    true
}

/// Step 4.
fn long_suffixes(word: &mut String) {
    if let Some(suffix) = STEP_4.iter().find(|suffix| word.ends_with(**suffix)) {
        let stem = &word[..word.len() - suffix.len()];
        if measure(stem) > 1 && (*suffix != "ion" || stem.ends_with(['s', 't'])) {
            word.truncate(stem.len());
        }
    }
}

/// Step 5a.
fn final_e(word: &mut String) {
    if let Some(stem) = word.strip_suffix('e') {
        let m = measure(stem);
        if m > 1 || (m == 1 && !ends_consonant_vowel_consonant(stem)) {
            word.pop();
        }
    }
}

/// Whether each letter is a consonant.
fn consonants(word: &str) -> Vec<bool> {
    let mut flags: Vec<bool> = Vec::with_capacity(word.len());
    for letter in word.bytes() {
        flags.push(match letter {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => flags.last().is_none_or(|before| !before),
            _ => true,
        });
    }
    flags
}

/// Number of changes from vowel to consonant.
fn measure(stem: &str) -> usize {
    consonants(stem).windows(2).filter(|pair| !pair[0] && pair[1]).count()
}

fn contains_vowel(stem: &str) -> bool {
    consonants(stem).contains(&false)
}

fn ends_double_consonant(word: &str) -> bool {
    let letters = word.as_bytes();
    letters.len() >= 2
        && letters[letters.len() - 1] == letters[letters.len() - 2]
        && consonants(word).last() == Some(&true)
}

/// As *wil*, but not when it ends in w, x or y; of two letters, vowel and consonant.
fn ends_consonant_vowel_consonant(word: &str) -> bool {
    match consonants(word)[..] {
        [false, true] => true,
        [.., true, false, true] => !word.ends_with(['w', 'x', 'y']),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::stem;

    #[test]
    fn examples_of_the_paper_and_of_the_extensions() {
        for (word, expected) in [
            ("caresses", "caress"),
            ("ponies", "poni"),
            ("ties", "tie"),
            ("dying", "die"),
            ("died", "die"),
            ("agreed", "agre"),
            ("hopping", "hop"),
            ("falling", "fall"),
            ("filing", "file"),
            ("happy", "happi"),
            ("enjoy", "enjoy"),
            ("relational", "relat"),
            ("radically", "radic"),
            ("geology", "geolog"),
            ("adoption", "adopt"),
            ("controlling", "control"),
            ("18l", "18l"),
        ] {
            assert_eq!(stem(word), expected, "{word}");
        }
    }
}

//! WebNLG: `| s : p : o | s : p : o`, from the `modifiedtripleset`.
//!
//! The authors' training reader writes ` | ` ahead of every triple, the first one included; their test reader leaves
//! it out for the first *entry of the file*, as it tests the wrong index. So every input but one of theirs begins with
//! ` | `, and ours all do. The default form drops the blank ahead of the first bar, since a template may put one there.

use super::{Triple, triple};

/// `| s : p : o | s : p : o`.
pub(super) fn linearise(triples: &[Triple]) -> String {
    let parts: Vec<String> = triples.iter().map(|[s, p, o]| format!("| {}", triple(s, p, o))).collect();
    parts.join(" ")
}

/// ` | s : p : o | s : p : o`: what the authors' training reader wrote, character for character.
pub(super) fn linearise_2021(triples: &[Triple]) -> String {
    format!(" {}", linearise(triples))
}

#[cfg(test)]
mod tests {
    use super::super::to_triples;
    use super::*;

    #[test]
    fn every_triple_has_its_bar_the_first_included() {
        let triples = to_triples(&[["Aarhus", "leaderName", "Jacob_Bundsgaard"], ["A", "b", "\"C, D\""]]);
        assert_eq!(linearise(&triples), "| Aarhus : leaderName : Jacob_Bundsgaard | A : b : \"C, D\"");
        assert_eq!(linearise(&triples[..1]), "| Aarhus : leaderName : Jacob_Bundsgaard");
    }

    #[test]
    fn the_form_of_2021_has_a_blank_ahead_of_the_first_bar() {
        let triples = to_triples(&[["s", "P", "o"], ["s", "q", "r"]]);
        assert_eq!(linearise_2021(&triples), " | s : P : o | s : q : r");
    }
}

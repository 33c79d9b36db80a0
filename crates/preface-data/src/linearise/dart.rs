//! DART: `s : rel : o | s : rel : o`, the relation in lower case, no bar ahead of the first triple.

use super::{Triple, triple};

/// The triples as text, in their order.
pub(super) fn linearise(triples: &[Triple]) -> String {
    let parts: Vec<String> = triples.iter().map(|[s, p, o]| triple(s, &p.to_lowercase(), o)).collect();
    parts.join(" | ")
}

#[cfg(test)]
mod tests {
    use super::super::to_triples;
    use super::*;

    #[test]
    fn only_the_relation_is_lower_cased() {
        let triples = to_triples(&[
            ["Mars Hill College", "JOINED", "1973"],
            ["[TABLECONTEXT]", "[TITLE]", "Mars Hill, North Carolina"],
        ]);
        assert_eq!(
            linearise(&triples),
            "Mars Hill College : joined : 1973 | [TABLECONTEXT] : [title] : Mars Hill, North Carolina"
        );
    }
}

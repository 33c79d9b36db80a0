//! What was computed, as sacreBLEU writes it: `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:...`.
//!
//! Two scores may be compared if and only if their signatures are equal.

use std::fmt;

use crate::References;

/// An ordered list of `key:value` fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    fields: Vec<(&'static str, String)>,
}

impl Signature {
    /// A signature without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a field.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.fields.push((key, value.to_string()));
        self
    }

    /// Puts the number of references in front (`var` if it varies) and this crate's version at the end.
    #[must_use]
    pub fn complete(mut self, references: &References) -> Self {
        let count = references.uniform_count().map_or_else(|| "var".into(), |count| count.to_string());
        self.fields.insert(0, ("nrefs", count));
        self.with("version", concat!("preface-", env!("CARGO_PKG_VERSION")))
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.fields.iter().enumerate() {
            let separator = if index == 0 { "" } else { "|" };
            write!(f, "{separator}{key}:{value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order_and_the_count_of_references_leads() {
        let references = References::new(vec![vec!["a".into()], vec!["b".into(), "c".into()]]).unwrap();
        let signature = Signature::new().with("case", "mixed").with("tok", "13a").complete(&references);
        let version = concat!("version:preface-", env!("CARGO_PKG_VERSION"));
        assert_eq!(signature.to_string(), format!("nrefs:var|case:mixed|tok:13a|{version}"));
    }
}

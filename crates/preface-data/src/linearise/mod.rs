//! Structured inputs as one line of text, the form in which a language model reads them.
//!
//! The forms are those of Li and Liang (2021), because published numbers depend on them; one file for each data set.

mod dart;
mod e2e;
mod webnlg;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Fault, UnknownName};

/// Subject, property (relation) and object.
pub type Triple = [String; 3];

/// How a structured input is written as text. In configuration it goes by its [`name`](Linearisation::name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Linearisation {
    /// Meaning representations: `name : Blue Spice | Type : coffee shop | area : city centre`.
    E2e,
    /// Triples: `| s : p : o | s : p : o`, a bar ahead of every triple.
    Webnlg,
    /// As [`Webnlg`](Self::Webnlg), with the blank ahead of the first bar that the authors' training reader wrote.
    Webnlg2021,
    /// Triples: `s : p : o | s : p : o`, the relation in lower case.
    Dart,
}

impl Linearisation {
    /// Every linearisation.
    pub const ALL: [Self; 4] = [Self::E2e, Self::Webnlg, Self::Webnlg2021, Self::Dart];

    /// Its name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::E2e => "e2e",
            Self::Webnlg => "webnlg",
            Self::Webnlg2021 => "webnlg-2021",
            Self::Dart => "dart",
        }
    }

    /// A list of triples as text.
    pub fn triples(self, triples: &[Triple]) -> Result<String, Fault> {
        if triples.is_empty() {
            return Err(Fault::NoTriples);
        }
        match self {
            Self::Webnlg => Ok(webnlg::linearise(triples)),
            Self::Webnlg2021 => Ok(webnlg::linearise_2021(triples)),
            Self::Dart => Ok(dart::linearise(triples)),
            Self::E2e => Err(Fault::Linearisation { linearisation: self, input: "triples" }),
        }
    }

    /// A meaning representation, `name[Blue Spice], area[city centre]`, as text.
    pub fn meaning_representation(self, representation: &str) -> Result<String, Fault> {
        match self {
            Self::E2e => e2e::linearise(representation),
            Self::Webnlg | Self::Webnlg2021 | Self::Dart => {
                Err(Fault::Linearisation { linearisation: self, input: "meaning representations" })
            }
        }
    }
}

/// `s : p : o`, common to both data sets of triples.
fn triple(subject: &str, property: &str, object: &str) -> String {
    format!("{subject} : {property} : {object}")
}

impl fmt::Display for Linearisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Linearisation {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::ALL.into_iter().find(|linearisation| linearisation.name() == name).ok_or_else(|| UnknownName {
            what: "linearisation",
            got: name.to_owned(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}

impl TryFrom<String> for Linearisation {
    type Error = UnknownName;

    fn try_from(name: String) -> Result<Self, UnknownName> {
        name.parse()
    }
}

impl From<Linearisation> for String {
    fn from(linearisation: Linearisation) -> Self {
        linearisation.name().to_owned()
    }
}

#[cfg(test)]
pub(crate) fn to_triples(triples: &[[&str; 3]]) -> Vec<Triple> {
    triples.iter().map(|triple| triple.map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_and_an_unknown_one_lists_the_known() {
        for linearisation in Linearisation::ALL {
            assert_eq!(linearisation.name().parse::<Linearisation>().unwrap(), linearisation);
            let json = serde_json::to_string(&linearisation).unwrap();
            assert_eq!(serde_json::from_str::<Linearisation>(&json).unwrap(), linearisation);
        }
        let message = "WebNLG".parse::<Linearisation>().unwrap_err().to_string();
        assert!(message.contains("`WebNLG`") && message.contains("webnlg-2021"), "{message}");
    }

    #[test]
    fn no_triples_is_an_error_in_every_form() {
        for linearisation in Linearisation::ALL {
            assert_eq!(linearisation.triples(&[]), Err(Fault::NoTriples));
        }
    }

    #[test]
    fn a_linearisation_of_another_input_is_refused_by_name() {
        let triples = to_triples(&[["s", "p", "o"]]);
        assert!(Linearisation::E2e.triples(&triples).unwrap_err().to_string().contains("`e2e`"));
        let refused = Linearisation::Dart.meaning_representation("name[x]").unwrap_err().to_string();
        assert!(refused.contains("`dart`") && refused.contains("meaning representations"), "{refused}");
    }
}

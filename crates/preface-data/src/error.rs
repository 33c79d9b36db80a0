//! What can be wrong with a data file: each error names the file, the place in it, and the reason.

use std::fmt;
use std::path::PathBuf;

use crate::form::Form;
use crate::linearise::Linearisation;

/// Why a data file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file or folder is absent or unreadable; the message of `fs_err` names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// There is no byte but white space in the file.
    #[error("{}: the file is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A folder without any file that can be read.
    #[error("{}: no .xml file in this folder or below (a folder is read as WebNLG's XML release)", path.display())]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A folder was given with a form that lies in one file.
    #[error("{}: a folder can only be read as {}, not as {form}", path.display(), Form::WebnlgXml)]
    FolderForm {
        /// The folder.
        path: PathBuf,
        /// The form that was asked for.
        form: Form,
    },
    /// Bytes that are no UTF-8.
    #[error("{}, line {line}: not valid UTF-8 (byte {byte} of the file)", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Line of the first bad byte, from 1.
        line: usize,
        /// Offset of the first bad byte, from 0.
        byte: usize,
    },
    /// Neither name nor content is of a form that is known.
    #[error("{}: not a form that is known: {found}. Known forms:\n{}", path.display(), Form::table())]
    UnrecognisedForm {
        /// The file.
        path: PathBuf,
        /// What was found in its place.
        found: String,
    },
    /// The comment filter left nothing.
    #[error(
        "{}: none of the {dropped} references could be kept: only lexicalisations with the comment `good` were asked for, and blank ones are left out",
        path.display()
    )]
    AllDropped {
        /// The file or folder.
        path: PathBuf,
        /// References that were left out.
        dropped: usize,
    },
    /// One line or entry is wrong.
    #[error("{}, {place}: {fault}", path.display())]
    At {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        place: Place,
        /// What is wrong there.
        fault: Fault,
    },
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A line, from 1.
    Line(usize),
    /// An entry of a JSON list, from 1.
    Entry(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Entry(entry) => write!(f, "entry {entry}"),
        }
    }
}

/// What is wrong with one line or entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not JSON.
    #[error("malformed JSON: {0}")]
    Json(String),
    /// JSON, but of another type than the place needs.
    #[error("{what} must be {expected}, found {found}")]
    WrongType {
        /// The key or thing.
        what: String,
        /// The type that is needed.
        expected: &'static str,
        /// The type that came.
        found: &'static str,
    },
    /// Keys that the form needs are absent.
    #[error("needs {}, found {}", quoted(missing), if found.is_empty() { "no key".to_owned() } else { quoted(found) })]
    MissingKeys {
        /// The absent keys.
        missing: Vec<String>,
        /// The keys that are there.
        found: Vec<String>,
    },
    /// Chat data.
    #[error(
        "chat data (message lists) is not supported yet; give the text as {{\"prompt\": ..., \"completion\": ...}}"
    )]
    Chat,
    /// An example without any output.
    #[error("has no reference")]
    NoReferences,
    /// An output without a visible character.
    #[error("reference {number} of {count} is empty: there is nothing to learn or to compare with")]
    EmptyReference {
        /// Which, from 1.
        number: usize,
        /// Of how many.
        count: usize,
    },
    /// A meaning representation that is not `name[value], name[value]`.
    #[error("malformed meaning representation at `{at}`: expected `name[value], name[value], ...`")]
    MeaningRepresentation {
        /// The part that could not be read.
        at: String,
    },
    /// A triple that has not three parts.
    #[error("a triple must have 3 parts (subject, property, object), found {found}")]
    Triple {
        /// How many it has.
        found: usize,
    },
    /// An example without any triple or slot.
    #[error("has no triples")]
    NoTriples,
    /// A linearisation of another kind of input.
    #[error("linearisation `{linearisation}` does not apply to {input}")]
    Linearisation {
        /// The linearisation that was asked for.
        linearisation: Linearisation,
        /// What the file holds.
        input: &'static str,
    },
    /// Not XML, or not WebNLG's.
    #[error("malformed XML: {0}")]
    Xml(String),
    /// Not CSV.
    #[error("malformed CSV: {0}")]
    Csv(String),
}

/// A place and what is wrong there: readers return it, and the file's name is added once, by the data set.
#[derive(Debug)]
pub(crate) struct Located {
    pub place: Place,
    pub fault: Fault,
}

impl Fault {
    pub(crate) fn at(self, place: Place) -> Located {
        Located { place, fault: self }
    }
}

/// A name that is not one of a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{got}`; known: {known}")]
pub struct UnknownName {
    /// What was to be named.
    pub what: &'static str,
    /// The name that came.
    pub got: String,
    /// The names that are known.
    pub known: String,
}

/// `` `a`, `b` `` of at most eight keys: a hostile line may have any number.
fn quoted(keys: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text: Vec<String> = keys.iter().take(SHOWN).map(|key| format!("`{}`", shortened(key))).collect();
    if keys.len() > SHOWN {
        text.push(format!("and {} more", keys.len() - SHOWN));
    }
    text.join(", ")
}

/// The first 60 characters: messages quote a file, but never a whole document of it.
pub(crate) fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

//! One file for each form: from text to examples.
//!
//! A reader of JSONL turns one object into a [`Draft`]; a reader of a published file walks the whole file. Checks that
//! hold for every form (some reference, none blank) stand here, once.

mod dart_json;
mod e2e_csv;
mod e2e_jsonl;
mod instruction;
pub(crate) mod jsonl;
mod line_counter;
mod prompt_completion;
mod prompt_references;
mod record;
mod summary;
mod text;
mod triples_jsonl;
mod webnlg_json;
mod webnlg_xml;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Fault, Located, Place};
use crate::example::Example;
use crate::form::Form;
use crate::linearise::Linearisation;
use record::Record;

/// Which of WebNLG's lexicalisations count as references, by the comment of the crowd workers' check. Other forms
/// have no comments and ignore it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lexicalisations {
    /// Only those with the comment `good`: what the authors train on (and validate with).
    Good,
    /// All: what the test set is scored with.
    #[default]
    All,
}

impl Lexicalisations {
    fn keep(self, comment: Option<&str>) -> bool {
        self == Self::All || comment == Some("good")
    }
}

/// The examples of one file.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub examples: Vec<Example>,
    /// References left out: by [`Lexicalisations::Good`], or blank ones in a published file.
    pub dropped_references: usize,
}

/// What one line or entry says, before the checks.
struct Draft {
    prompt: String,
    references: Vec<String>,
    fields: BTreeMap<String, String>,
}

/// Reads a whole file. `linearisation` is used by forms with structured inputs and ignored by the others.
pub(crate) fn read(
    text: &str,
    form: Form,
    linearisation: Option<Linearisation>,
    lexicalisations: Lexicalisations,
) -> Result<Read, Located> {
    let linearisation = linearisation.or(form.default_linearisation());
    match (form, linearisation) {
        (Form::E2eCsv, Some(linearisation)) => e2e_csv::read(text, linearisation),
        (Form::WebnlgXml, Some(linearisation)) => webnlg_xml::read(text, linearisation, lexicalisations),
        (Form::WebnlgJson, Some(linearisation)) => webnlg_json::read(text, linearisation, lexicalisations),
        (Form::DartJson, Some(linearisation)) => dart_json::read(text, linearisation),
        (Form::E2eJsonl, Some(linearisation)) => {
            jsonl::read(text, |line| e2e_jsonl::read(line, linearisation))
        }
        (Form::WebnlgJsonl | Form::DartJsonl, Some(linearisation)) => {
            jsonl::read(text, |line| triples_jsonl::read(line, linearisation))
        }
        (Form::PromptCompletion, _) => jsonl::read(text, prompt_completion::read),
        (Form::PromptReferences, _) => jsonl::read(text, prompt_references::read),
        (Form::Instruction, _) => jsonl::read(text, instruction::read),
        (Form::Text, _) => jsonl::read(text, text::read),
        (Form::Summary, _) => jsonl::read(text, summary::read),
        (form, None) => unreachable!("{form} has a default linearisation"),
    }
}

impl Draft {
    /// The example, if it has references and all of them say something.
    fn checked(self, place: Place) -> Result<Example, Located> {
        let (Place::Line(line) | Place::Entry(line)) = place;
        let Self { prompt, references, fields } = self;
        if references.is_empty() {
            return Err(Fault::NoReferences.at(place));
        }
        if let Some(index) = references.iter().position(|reference| reference.trim().is_empty()) {
            return Err(Fault::EmptyReference { number: index + 1, count: references.len() }.at(place));
        }
        Ok(Example { prompt, references, line, fields })
    }
}

/// References of a data set, without the stray white space at their ends that its tools ignore too.
fn trimmed(references: Vec<String>) -> Vec<String> {
    references.into_iter().map(|reference| reference.trim().to_owned()).collect()
}

/// The prompt of a line that needs nothing else.
pub(crate) fn prompt_of(object: Map<String, Value>) -> Result<String, Fault> {
    Record::new(object).text("prompt")
}

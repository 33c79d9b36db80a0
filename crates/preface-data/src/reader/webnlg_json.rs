//! WebNLG 2017 as one JSON object, the form that the benchmark's own tool writes and the authors read:
//!
//! ```text
//! {"entries": [{"1": {"category": "Airport",
//!                     "modifiedtripleset": [{"subject": "...", "property": "...", "object": "..."}],
//!                     "lexicalisations": [{"comment": "good", "lex": "..."}]}}, {"2": ...}]}
//! ```

use serde_json::Value;

use super::record::Record;
use super::{Draft, Lexicalisations, Read};
use crate::error::{Fault, Located, Place};
use crate::linearise::{Linearisation, Triple};

pub(super) fn read(
    text: &str,
    linearisation: Linearisation,
    lexicalisations: Lexicalisations,
) -> Result<Read, Located> {
    let file: Value = serde_json::from_str(text)
        .map_err(|error| Fault::Json(error.to_string()).at(Place::Line(error.line().max(1))))?;
    let file = Record::from_value(file, "the file").map_err(|fault| fault.at(Place::Line(1)))?;
    let entries = file.list("entries").map_err(|fault| fault.at(Place::Line(1)))?;

    let mut read = Read::default();
    for (index, entry) in entries.iter().enumerate() {
        let place = Place::Entry(index + 1);
        let (draft, dropped) =
            entry_of(entry, linearisation, lexicalisations).map_err(|fault| fault.at(place))?;
        read.dropped_references += dropped;
        if dropped == 0 || !draft.references.is_empty() {
            read.examples.push(draft.checked(place)?);
        }
    }
    Ok(read)
}

/// The entry and how many of its lexicalisations the filter took.
fn entry_of(
    entry: &Value,
    linearisation: Linearisation,
    lexicalisations: Lexicalisations,
) -> Result<(Draft, usize), Fault> {
    // Every entry is wrapped in an object whose only key is its number.
    let entry = match entry {
        Value::Object(wrapper) if wrapper.len() == 1 => wrapper.values().next().cloned().unwrap_or_default(),
        other => other.clone(),
    };
    let entry = Record::from_value(entry, "the entry")?;
    entry.require(&["modifiedtripleset", "lexicalisations"])?;

    let triples: Vec<Triple> =
        entry.list("modifiedtripleset")?.iter().map(triple_of).collect::<Result<_, _>>()?;
    let mut references = Vec::new();
    let mut dropped = 0;
    for lexicalisation in entry.list("lexicalisations")? {
        let lexicalisation = Record::from_value(lexicalisation.clone(), "a lexicalisation")?;
        let comment = lexicalisation.has("comment").then(|| lexicalisation.text("comment")).transpose()?;
        let text = lexicalisation.text("lex")?;
        match lexicalisations.keep(comment.as_deref()) {
            true => references.push(text.trim().to_owned()),
            false => dropped += 1,
        }
    }
    let fields = entry.fields(&["modifiedtripleset", "lexicalisations", "originaltriplesets"]);
    Ok((Draft { prompt: linearisation.triples(&triples)?, references, fields }, dropped))
}

fn triple_of(triple: &Value) -> Result<Triple, Fault> {
    let triple = Record::from_value(triple.clone(), "a triple")?;
    triple.require(&["subject", "property", "object"])?;
    Ok([triple.text("subject")?, triple.text("property")?, triple.text("object")?])
}

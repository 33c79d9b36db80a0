//! The published JSON of DART v1.1.1:
//!
//! ```text
//! [{"tripleset": [["s", "p", "o"], ...], "annotations": [{"source": "...", "text": "..."}, ...]}, ...]
//! ```
//!
//! Some annotations have no text; the set's own tools pass over them, and so does this reader (they are counted).

use serde_json::Value;

use super::record::{Record, distinct};
use super::{Draft, Read};
use crate::error::{Fault, Located, Place};
use crate::linearise::Linearisation;

pub(super) fn read(text: &str, linearisation: Linearisation) -> Result<Read, Located> {
    let entries: Vec<Value> = serde_json::from_str(text)
        .map_err(|error| Fault::Json(error.to_string()).at(Place::Line(error.line().max(1))))?;
    let mut read = Read::default();
    for (index, entry) in entries.into_iter().enumerate() {
        let place = Place::Entry(index + 1);
        let (draft, blank) = entry_of(entry, linearisation).map_err(|fault| fault.at(place))?;
        read.dropped_references += blank;
        if blank == 0 || !draft.references.is_empty() {
            read.examples.push(draft.checked(place)?);
        }
    }
    Ok(read)
}

/// The entry and how many of its annotations are blank.
fn entry_of(entry: Value, linearisation: Linearisation) -> Result<(Draft, usize), Fault> {
    let entry = Record::from_value(entry, "the entry")?;
    entry.require(&["tripleset", "annotations"])?;
    let prompt = linearisation.triples(&entry.triples("tripleset")?)?;

    let mut references = Vec::new();
    let mut sources = Vec::new();
    let annotations = entry.list("annotations")?;
    for annotation in annotations {
        let annotation = Record::from_value(annotation.clone(), "an annotation")?;
        let text = annotation.text("text")?.trim().to_owned();
        if !text.is_empty() {
            references.push(text);
            sources.extend(annotation.has("source").then(|| annotation.text("source")).transpose()?);
        }
    }
    let blank = annotations.len() - references.len();
    let mut fields = entry.fields(&["tripleset", "annotations"]);
    fields.extend(
        distinct(sources.iter().map(String::as_str).collect()).map(|sources| ("sources".to_owned(), sources)),
    );
    Ok((Draft { prompt, references, fields }, blank))
}

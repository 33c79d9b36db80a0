//! JSONL: one object a line, blank lines skipped.

use serde_json::{Map, Value};

use super::record::{Record, kind};
use super::{Draft, Read};
use crate::error::{Fault, Located, Place};

/// The lines that hold something, with their numbers from 1.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.trim().is_empty())
}

/// The object that a line holds.
pub(crate) fn object(line: &str) -> Result<Map<String, Value>, Fault> {
    match serde_json::from_str(line) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => {
            Err(Fault::WrongType { what: "the line".to_owned(), expected: "an object", found: kind(&other) })
        }
        Err(error) => {
            // The parser counts lines within the one line it was given; only its column says something.
            let message = error.to_string();
            let reason = message.rsplit_once(" at line ").map_or(message.as_str(), |(reason, _)| reason);
            Err(Fault::Json(format!("{reason} (column {})", error.column())))
        }
    }
}

/// Reads every line with the reader of its form.
pub(super) fn read(text: &str, form: impl Fn(&Record) -> Result<Draft, Fault>) -> Result<Read, Located> {
    let example = |(number, line)| {
        let place = Place::Line(number);
        let draft = object(line).and_then(|object| form(&Record::new(object)));
        draft.map_err(|fault| fault.at(place))?.checked(place)
    };
    Ok(Read { examples: lines(text).map(example).collect::<Result<_, _>>()?, dropped_references: 0 })
}

//! `{"text": "..."}`: a document of its own, loss on every token, so the prompt is empty.

use super::Draft;
use super::record::Record;
use crate::error::Fault;

pub(super) fn read(record: &Record) -> Result<Draft, Fault> {
    Ok(Draft {
        prompt: String::new(),
        references: vec![record.text("text")?],
        fields: record.fields(&["text"]),
    })
}

//! `{"prompt": "...", "references": ["...", "..."]}`: all as they stand. A `completion` beside them is not read.

use super::Draft;
use super::record::Record;
use crate::error::Fault;

pub(super) fn read(record: &Record) -> Result<Draft, Fault> {
    record.require(&["prompt", "references"])?;
    Ok(Draft {
        prompt: record.text("prompt")?,
        references: record.texts("references")?,
        fields: record.fields(&["prompt", "references", "completion"]),
    })
}

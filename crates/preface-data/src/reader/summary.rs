//! `{"document": "...", "summary": "..."}` or `{"document": "...", "references": [...]}`: XSum, SciTLDR, DialogSum.
//! Where both stand, `summary` is one of the `references`, so the list is read.

use super::Draft;
use super::record::Record;
use crate::error::Fault;

pub(super) fn read(record: &Record) -> Result<Draft, Fault> {
    let references = if record.has("references") {
        record.require(&["document"])?;
        record.texts("references")?
    } else {
        record.require(&["document", "summary"])?;
        vec![record.text("summary")?]
    };
    Ok(Draft {
        prompt: record.text("document")?,
        references,
        fields: record.fields(&["document", "summary", "references"]),
    })
}

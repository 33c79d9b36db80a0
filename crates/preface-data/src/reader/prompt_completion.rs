//! `{"prompt": "...", "completion": "..."}`: both as they stand.

use super::Draft;
use super::record::Record;
use crate::error::Fault;

pub(super) fn read(record: &Record) -> Result<Draft, Fault> {
    const KEYS: [&str; 2] = ["prompt", "completion"];
    record.require(&KEYS)?;
    Ok(Draft {
        prompt: record.text("prompt")?,
        references: vec![record.text("completion")?],
        fields: record.fields(&KEYS),
    })
}

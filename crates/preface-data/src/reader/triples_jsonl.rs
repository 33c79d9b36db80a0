//! `{"triples": [["s", "p", "o"], ...], "references": [...]}`: WebNLG (with `category`) and DART (with `sources`).
//! The two differ in their linearisation only.

use super::record::Record;
use super::{Draft, trimmed};
use crate::error::Fault;
use crate::linearise::Linearisation;

pub(super) fn read(record: &Record, linearisation: Linearisation) -> Result<Draft, Fault> {
    const KEYS: [&str; 2] = ["triples", "references"];
    record.require(&KEYS)?;
    Ok(Draft {
        prompt: linearisation.triples(&record.triples("triples")?)?,
        references: trimmed(record.texts("references")?),
        fields: record.fields(&KEYS),
    })
}

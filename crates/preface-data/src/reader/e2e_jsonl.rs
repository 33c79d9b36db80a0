//! `{"mr": "name[...], area[...]", "references": [...]}`: E2E, one line for each meaning representation.

use super::record::Record;
use super::{Draft, trimmed};
use crate::error::Fault;
use crate::linearise::Linearisation;

pub(super) fn read(record: &Record, linearisation: Linearisation) -> Result<Draft, Fault> {
    const KEYS: [&str; 2] = ["mr", "references"];
    record.require(&KEYS)?;
    Ok(Draft {
        prompt: linearisation.meaning_representation(&record.text("mr")?)?,
        references: trimmed(record.texts("references")?),
        fields: record.fields(&KEYS),
    })
}

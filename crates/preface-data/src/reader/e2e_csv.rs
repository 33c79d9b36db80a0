//! The published CSV of E2E: a header with `mr` and `ref`, one row for each reference.

use csv::{ErrorKind, Position, ReaderBuilder};

use super::line_counter::LineCounter;
use super::{Draft, Read};
use crate::error::{Fault, Located, Place};
use crate::linearise::Linearisation;

pub(super) fn read(text: &str, linearisation: Linearisation) -> Result<Read, Located> {
    let mut reader = ReaderBuilder::new().from_reader(text.as_bytes());
    let mut rows = Rows(LineCounter::new(text));
    let header = reader.headers().map_err(|error| rows.located(&error))?.clone();
    let header_place = rows.place(header.position());
    let column = |name: &str| header.iter().position(|column| column.trim() == name);
    let (Some(mr), Some(reference)) = (column("mr"), column("ref")) else {
        let missing =
            ["mr", "ref"].into_iter().filter(|name| column(name).is_none()).map(str::to_owned).collect();
        return Err(Fault::MissingKeys { missing, found: header.iter().map(str::to_owned).collect() }
            .at(header_place));
    };

    let mut examples = Vec::new();
    for row in reader.records() {
        let row = row.map_err(|error| rows.located(&error))?;
        let place = rows.place(row.position());
        let prompt = linearisation.meaning_representation(&row[mr]).map_err(|fault| fault.at(place))?;
        let draft =
            Draft { prompt, references: vec![row[reference].trim().to_owned()], fields: Default::default() };
        examples.push(draft.checked(place)?);
    }
    Ok(Read { examples, dropped_references: 0 })
}

/// Lines of rows. The parser's own count is one short after a line that ends in `\r\n`: it takes the `\n` for part of
/// the next row, so the offset is counted on from.
struct Rows<'a>(LineCounter<'a>);

impl Rows<'_> {
    fn place(&mut self, position: Option<&Position>) -> Place {
        Place::Line(self.0.of_content_at(position.map_or(0, Position::byte)))
    }

    fn located(&mut self, error: &csv::Error) -> Located {
        let reason = match error.kind() {
            ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("the row has {len} columns, the header {expected_len}")
            }
            _ => error.to_string(),
        };
        Fault::Csv(reason).at(self.place(error.position()))
    }
}

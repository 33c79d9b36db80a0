//! The published XML of WebNLG 2017:
//!
//! ```text
//! <benchmark><entries>
//!   <entry category="Airport" eid="Id1" size="1">
//!     <originaltripleset>...</originaltripleset>
//!     <modifiedtripleset><mtriple>s | p | o</mtriple></modifiedtripleset>
//!     <lex comment="good" lid="Id1">...</lex>
//!   </entry>
//! </entries></benchmark>
//! ```
//!
//! Inputs come from the modified triples. Nothing in a file can make it grow: entities of a document's own are refused.

use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::escape::{resolve_predefined_entity, unescape};
use quick_xml::events::{BytesStart, Event};

use super::line_counter::LineCounter;
use super::{Draft, Lexicalisations, Read};
use crate::error::{Fault, Located, Place};
use crate::linearise::{Linearisation, Triple};

pub(super) fn read(
    text: &str,
    linearisation: Linearisation,
    lexicalisations: Lexicalisations,
) -> Result<Read, Located> {
    let mut walk = Walk { linearisation, lexicalisations, entry: None, leaf: None, read: Read::default() };
    let mut reader = Reader::from_str(text);
    let mut lines = LineCounter::new(text);
    let mut open: Vec<String> = Vec::new();
    loop {
        // An event's line is the one it begins on, so the offset is taken ahead of it.
        let line = lines.at(reader.buffer_position());
        let event = reader.read_event().map_err(|error| {
            Fault::Xml(error.to_string()).at(Place::Line(lines.at(reader.error_position())))
        })?;
        // What is wrong with an entry as a whole shows at its end, but is looked for at its beginning.
        let line = match (&event, &walk.entry) {
            (Event::End(tag), Some(entry)) if tag.name().as_ref() == "entry" => entry.line,
            _ => line,
        };
        let step = match &event {
            Event::Start(tag) => {
                open.push(tag.name().as_ref().to_owned());
                walk.start(tag, line)
            }
            Event::Empty(tag) => walk.start(tag, line).and_then(|()| walk.end(tag.name().as_ref())),
            Event::End(tag) => {
                open.pop();
                walk.end(tag.name().as_ref())
            }
            Event::Text(text) => walk.text(text.xml10_content().as_ref()),
            Event::CData(text) => walk.text(text.xml10_content().as_ref()),
            Event::GeneralRef(entity) => match entity.resolve_char_ref() {
                Ok(Some(character)) => walk.text(character.encode_utf8(&mut [0; 4])),
                Ok(None) => match resolve_predefined_entity(&entity.xml10_content()) {
                    Some(text) => walk.text(text),
                    None => Err(Fault::Xml(format!("unknown entity `&{};`", entity.xml10_content()))),
                },
                Err(error) => Err(Fault::Xml(error.to_string())),
            },
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => Ok(()),
        };
        step.map_err(|fault| fault.at(Place::Line(line)))?;
    }
    let line = Place::Line(lines.at(reader.buffer_position()));
    match open.last() {
        Some(name) => Err(Fault::Xml(format!("the file ends inside <{name}>")).at(line)),
        None if walk.read.examples.is_empty() && walk.read.dropped_references == 0 => {
            Err(Fault::Xml("no <entry> in the file".to_owned()).at(Place::Line(1)))
        }
        None => Ok(walk.read),
    }
}

/// An entry that is being read.
struct Entry {
    line: usize,
    fields: BTreeMap<String, String>,
    triples: Vec<Triple>,
    references: Vec<String>,
    dropped: usize,
    has_modified_set: bool,
}

/// The element whose text is being gathered.
enum Leaf {
    Triple(String),
    Lexicalisation { text: String, keep: bool },
}

struct Walk {
    linearisation: Linearisation,
    lexicalisations: Lexicalisations,
    entry: Option<Entry>,
    leaf: Option<Leaf>,
    read: Read,
}

impl Walk {
    fn start(&mut self, tag: &BytesStart<'_>, line: usize) -> Result<(), Fault> {
        let name = tag.name();
        let name = name.as_ref();
        if self.leaf.is_some() {
            return Err(Fault::Xml(format!(
                "<{name}> inside a triple or lexicalisation, which hold text only"
            )));
        }
        match (name, &mut self.entry) {
            ("entry", Some(_)) => return Err(Fault::Xml("an <entry> inside an <entry>".to_owned())),
            ("entry", None) => {
                self.entry = Some(Entry {
                    line,
                    fields: attributes(tag)?,
                    triples: Vec::new(),
                    references: Vec::new(),
                    dropped: 0,
                    has_modified_set: false,
                });
            }
            ("modifiedtripleset", Some(entry)) => {
                if entry.has_modified_set {
                    return Err(Fault::Xml("a second <modifiedtripleset> in one <entry>".to_owned()));
                }
                entry.has_modified_set = true;
            }
            ("mtriple", Some(_)) => self.leaf = Some(Leaf::Triple(String::new())),
            ("lex", Some(_)) => {
                let comment = attributes(tag)?.remove("comment");
                let keep = self.lexicalisations.keep(comment.as_deref());
                self.leaf = Some(Leaf::Lexicalisation { text: String::new(), keep });
            }
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, more: &str) -> Result<(), Fault> {
        if let Some(Leaf::Triple(text) | Leaf::Lexicalisation { text, .. }) = &mut self.leaf {
            text.push_str(more);
        }
        Ok(())
    }

    fn end(&mut self, name: &str) -> Result<(), Fault> {
        if name == "entry" {
            return self.finish();
        }
        let Some(entry) = &mut self.entry else { return Ok(()) };
        match self.leaf.take() {
            Some(Leaf::Triple(text)) => entry.triples.push(triple_of(&text)?),
            Some(Leaf::Lexicalisation { text, keep: true }) => entry.references.push(text.trim().to_owned()),
            Some(Leaf::Lexicalisation { keep: false, .. }) => entry.dropped += 1,
            None => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Fault> {
        let Some(entry) = self.entry.take() else { return Ok(()) };
        let place = Place::Line(entry.line);
        self.read.dropped_references += entry.dropped;
        if entry.dropped == 0 || !entry.references.is_empty() {
            let prompt = self.linearisation.triples(&entry.triples)?;
            let draft = Draft { prompt, references: entry.references, fields: entry.fields };
            self.read.examples.push(draft.checked(place).map_err(|located| located.fault)?);
        }
        Ok(())
    }
}

/// `s | p | o`. The bar stands between blanks, so that one inside a name is no border.
fn triple_of(text: &str) -> Result<Triple, Fault> {
    let parts: Vec<&str> = text.trim().splitn(3, " | ").collect();
    match parts.as_slice() {
        [subject, property, object] => Ok([*subject, *property, *object].map(|part| part.trim().to_owned())),
        other => Err(Fault::Triple { found: other.len() }),
    }
}

fn attributes(tag: &BytesStart<'_>) -> Result<BTreeMap<String, String>, Fault> {
    let malformed = |error: &dyn std::fmt::Display| Fault::Xml(error.to_string());
    tag.attributes()
        .map(|attribute| {
            let attribute = attribute.map_err(|error| malformed(&error))?;
            let value = unescape(attribute.value.as_ref()).map_err(|error| malformed(&error))?;
            Ok((attribute.key.as_ref().to_owned(), value.into_owned()))
        })
        .collect()
}

//! One input with the outputs that are right for it.
//!
//! References stay together here because scoring needs them side by side; training takes them apart
//! ([`Dataset::pairs`](crate::Dataset::pairs)).

use std::collections::BTreeMap;

/// An input with one or more outputs, as one line or entry of a file gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The input, linearised; empty for plain documents.
    pub prompt: String,
    /// The outputs, at least one, none of them blank, in file order.
    pub references: Vec<String>,
    /// Where it stood: the line (JSONL, CSV, XML) or the entry (JSON) of its file, counted from 1.
    pub line: usize,
    /// What else the file says of it, such as `category`: for scores of a part of the data.
    pub fields: BTreeMap<String, String>,
}

/// One training pair: an input with one of its outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair<'a> {
    /// The input.
    pub prompt: &'a str,
    /// The output that is learned.
    pub completion: &'a str,
    /// Index of its example in [`Dataset::examples`](crate::Dataset::examples).
    pub example: usize,
    /// The example's [`line`](Example::line), for messages.
    pub line: usize,
}

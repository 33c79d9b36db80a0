//! Damaged files: whatever the bytes, a reader returns examples that hold its promises, or an error.

use preface_data::{DataError, Dataset, Form, Lexicalisations, ReadOptions, prompts_from_bytes};
use proptest::prelude::*;

const FIXTURES: [(&str, &[u8]); 6] = [
    ("excerpt.csv", include_bytes!("fixtures/e2e/excerpt.csv")),
    ("excerpt.jsonl", include_bytes!("fixtures/e2e/excerpt.jsonl")),
    ("dart.json", include_bytes!("fixtures/dart/excerpt.json")),
    ("dart.jsonl", include_bytes!("fixtures/dart/excerpt.jsonl")),
    ("made-up.xml", include_bytes!("fixtures/webnlg-form/made-up.xml")),
    ("made-up.json", include_bytes!("fixtures/webnlg-form/made-up.json")),
];

/// Pieces that mean something to one of the readers.
const PIECES: [&[u8]; 16] = [
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b"<",
    b">",
    b"</entry>",
    b"<entry>",
    b"&",
    b"&#0;",
    b"\n",
    b",",
    b"\xff",
    b"null",
    b"\0",
];

#[derive(Debug, Clone)]
enum Damage {
    Cut(prop::sample::Index),
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, usize),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<prop::sample::Index>;
    prop_oneof![
        place().prop_map(Damage::Cut),
        (place(), any::<u8>()).prop_map(|(at, byte)| Damage::Flip(at, byte)),
        (place(), 0..PIECES.len()).prop_map(|(at, piece)| Damage::Insert(at, piece)),
        (place(), 1_usize..60).prop_map(|(at, count)| Damage::Remove(at, count)),
        (place(), 1_usize..60).prop_map(|(at, count)| Damage::Repeat(at, count)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    let at = |index: &prop::sample::Index, bytes: &[u8]| index.index(bytes.len() + 1);
    match damage {
        Damage::Cut(index) => bytes.truncate(at(index, bytes)),
        Damage::Flip(index, byte) => {
            let at = at(index, bytes);
            if let Some(old) = bytes.get_mut(at) {
                *old = *byte;
            }
        }
        Damage::Insert(index, piece) => {
            let at = at(index, bytes);
            bytes.splice(at..at, PIECES[*piece].iter().copied());
        }
        Damage::Remove(index, count) => {
            let at = at(index, bytes);
            bytes.drain(at..bytes.len().min(at + count));
        }
        Damage::Repeat(index, count) => {
            let at = at(index, bytes);
            let piece = bytes[at..bytes.len().min(at + count)].to_vec();
            bytes.splice(at..at, piece);
        }
    }
}

fn holds_its_promises(read: Result<Dataset, DataError>, n_byte: usize) {
    match read {
        Ok(data) => {
            assert!(!data.examples.is_empty());
            for example in &data.examples {
                assert!(!example.references.is_empty() && example.line > 0);
                assert!(example.references.iter().all(|reference| !reference.trim().is_empty()));
            }
            let n_pair = data.n_pair();
            assert_eq!(data.pairs().count(), n_pair);
            assert_eq!(data.grouped().iter().map(|group| group.references.len()).sum::<usize>(), n_pair);
        }
        // A message quotes a file but does not repeat it.
        Err(error) => assert!(error.to_string().len() < 4000 + n_byte / 4, "{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_damaged_file_is_read_or_refused_in_every_form(
        fixture in 0..FIXTURES.len(),
        damages in prop::collection::vec(damage(), 1..4),
        good: bool,
    ) {
        let (name, bytes) = FIXTURES[fixture];
        let mut bytes = bytes.to_vec();
        damages.iter().for_each(|damage| apply(&mut bytes, damage));
        let lexicalisations = if good { Lexicalisations::Good } else { Lexicalisations::All };
        for form in [None].into_iter().chain(Form::ALL.map(Some)) {
            let options = ReadOptions { form, linearisation: None, lexicalisations };
            holds_its_promises(Dataset::from_bytes(name.as_ref(), &bytes, &options), bytes.len());
        }
        for other in ["x", "x.jsonl", "x.json"] {
            holds_its_promises(Dataset::from_bytes(other.as_ref(), &bytes, &ReadOptions::default()), bytes.len());
        }
        let _ = prompts_from_bytes(name.as_ref(), &bytes);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for form in [None].into_iter().chain(Form::ALL.map(Some)) {
            let options = ReadOptions { form, ..ReadOptions::default() };
            holds_its_promises(Dataset::from_bytes("x".as_ref(), &bytes, &options), bytes.len());
        }
    }
}

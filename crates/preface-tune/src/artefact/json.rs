//! JSON files of an artefact: small, and read as such.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ArtefactError;

/// More than any recipe and scores take.
const CAP: u64 = 16 << 20;

/// Reads a file that is not absurdly large.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ArtefactError> {
    let bytes = fs_err::metadata(path)?.len();
    if bytes > CAP {
        return Err(ArtefactError::TooLarge { path: path.into(), bytes, cap: CAP });
    }
    let text = fs_err::read(path)?;
    serde_json::from_slice(&text).map_err(|source| ArtefactError::Json { path: path.into(), source })
}

/// Indented, with a line feed at the end.
pub(super) fn to_bytes(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("plain structs with string keys");
    bytes.push(b'\n');
    bytes
}

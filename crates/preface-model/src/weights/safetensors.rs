//! One `.safetensors` file: `u64` header length, JSON header, data.
//!
//! The header maps each tensor's name to `{dtype, shape, data_offsets}`. The `safetensors` crate's own parser wants the
//! whole file in one slice, keeps the last of two tensors with one name, and does not say which tensor is wrong; here the
//! header alone is read, then tensor by tensor, and the crate gives the list of element types.

use std::borrow::Cow;
use std::path::Path;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};

use crate::weights::bytes::ByteSource;
use crate::weights::directory::{Directory, Entry};
use crate::weights::json::Pairs;
use crate::weights::{Dtype, StoredTensor, TensorInfo, TensorSource, WeightsError};

/// Largest header that is accepted, as in the `safetensors` crate.
pub(crate) const HEADER_CAP: u64 = 100_000_000;

/// An open `.safetensors` file.
#[derive(Debug)]
pub struct SafetensorsFile {
    source: ByteSource,
    directory: Directory,
}

/// A tensor as the header describes it.
#[derive(Deserialize)]
struct HeaderEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl SafetensorsFile {
    /// Opens a file and checks its header against its length.
    ///
    /// # Errors
    /// Every way in which header and file can disagree has its own [`WeightsError`].
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        Self::from_source(ByteSource::open(path)?)
    }

    /// Reads bytes that are part of the program, such as a built-in model; `name` stands for the path in messages.
    ///
    /// # Errors
    /// As [`SafetensorsFile::open`].
    pub fn from_bytes(name: &str, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self, WeightsError> {
        Self::from_source(ByteSource::memory(Path::new(name), bytes.into()))
    }

    fn from_source(source: ByteSource) -> Result<Self, WeightsError> {
        let length = source.read("the header's length", 0, 8)?;
        let header_len = u64::from_le_bytes(length.try_into().expect("eight bytes were read"));
        if header_len > HEADER_CAP {
            let path = source.path().to_path_buf();
            return Err(WeightsError::HeaderTooLarge { path, bytes: header_len, cap: HEADER_CAP });
        }
        let header = source.read("the header", 8, header_len)?;
        let pairs: Pairs<HeaderEntry> = serde_json::from_slice(&header)
            .map_err(|error| WeightsError::Json { path: source.path().to_path_buf(), source: error })?;
        let entries = pairs
            .0
            .into_iter()
            .map(|(name, entry)| entry.check(source.path(), name))
            .collect::<Result<_, WeightsError>>()?;
        let directory = Directory::new(&source, 8 + header_len, 1, entries)?;
        Ok(Self { source, directory })
    }
}

impl HeaderEntry {
    fn check(self, path: &Path, name: String) -> Result<Entry, WeightsError> {
        let Some(dtype) = dtype_from_name(&self.dtype) else {
            return Err(WeightsError::UnknownDtype { path: path.into(), name, dtype: self.dtype });
        };
        let info = TensorInfo::new(path, name, &self.shape, dtype)?;
        let (begin, end) = self.data_offsets;
        let want = info.n_bytes() as u64;
        if end.checked_sub(begin) != Some(want) {
            let (name, shape) = (info.name().to_owned(), info.shape().to_vec());
            return Err(WeightsError::SizeMismatch {
                path: path.into(),
                name,
                shape,
                dtype,
                want,
                begin,
                end,
            });
        }
        Ok(Entry { info, begin })
    }
}

/// The type of that name in the format, `None` if there is none.
fn dtype_from_name(name: &str) -> Option<Dtype> {
    let deserializer: StrDeserializer<'_, ValueError> = name.into_deserializer();
    Some(match safetensors::Dtype::deserialize(deserializer).ok()? {
        safetensors::Dtype::F32 => Dtype::F32,
        safetensors::Dtype::F16 => Dtype::F16,
        safetensors::Dtype::BF16 => Dtype::BF16,
        other => Dtype::Other(other),
    })
}

impl TensorSource for SafetensorsFile {
    fn path(&self) -> &Path {
        self.source.path()
    }
    fn names(&self) -> Vec<&str> {
        self.directory.names()
    }
    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.directory.info(name)
    }
    fn read(&self, name: &str) -> Result<StoredTensor, WeightsError> {
        self.directory.read(&self.source, name)
    }
}

#[cfg(test)]
mod tests;

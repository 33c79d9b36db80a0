//! A GGUF file: magic, version, counts, metadata, tensor directory, padding, data.
//!
//! Dimensions are stored innermost first; here they are turned round, so that shapes read as in every other format. The
//! layout is that of `ggml/docs/gguf.md`, versions 2 and 3, little endian.

use std::borrow::Cow;
use std::path::Path;

pub(crate) mod blocks;
mod header;
mod metadata;

pub use self::metadata::{Array, FromValue, Metadata, Value};

use self::header::HeaderReader;
use crate::weights::bytes::ByteSource;
use crate::weights::directory::{Directory, Entry};
use crate::weights::{Dtype, StoredTensor, TensorInfo, TensorSource, WeightsError};

const MAGIC: [u8; 4] = *b"GGUF";

/// Alignment of tensors in a file that names none.
const DEFAULT_ALIGNMENT: u32 = 32;

/// Dimensions that a tensor may have (`GGML_MAX_DIMS`).
const MAX_DIMS: u32 = 4;

/// An open GGUF file.
#[derive(Debug)]
pub struct GgufFile {
    source: ByteSource,
    metadata: Metadata,
    directory: Directory,
}

impl GgufFile {
    /// Whether a file begins with the bytes `GGUF`.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn is_gguf(path: &Path) -> Result<bool, WeightsError> {
        let source = ByteSource::open(path)?;
        Ok(source.len() >= 4 && source.read("the magic bytes", 0, 4)? == MAGIC)
    }

    /// Opens a file, reads its metadata and checks its directory against its length.
    ///
    /// # Errors
    /// Every way in which header and file can disagree has its own [`WeightsError`].
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        Self::from_source(ByteSource::open(path)?)
    }

    /// Reads bytes that are in memory; `name` stands for the path in messages.
    ///
    /// # Errors
    /// As [`GgufFile::open`].
    pub fn from_bytes(name: &str, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self, WeightsError> {
        Self::from_source(ByteSource::memory(Path::new(name), bytes.into()))
    }

    fn from_source(source: ByteSource) -> Result<Self, WeightsError> {
        let mut reader = HeaderReader::new(&source);
        if reader.array::<4>("the magic bytes")? != MAGIC {
            return Err(WeightsError::UnknownFormat { path: reader.path() });
        }
        check_version(&mut reader)?;
        // A tensor takes at least a name's length, the number of dimensions, a type and an offset; a pair at least a key's
        // length, a type and one byte.
        let n_tensors = reader.count("tensors", 8 + 4 + 4 + 8)?;
        let n_pairs = reader.count("metadata pairs", 8 + 4 + 1)?;
        let metadata = Metadata::read(&mut reader, n_pairs)?;
        let entries = (0..n_tensors).map(|_| read_entry(&mut reader)).collect::<Result<Vec<_>, _>>()?;

        let alignment = metadata.get::<u32>("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
        if !alignment.is_power_of_two() {
            return Err(WeightsError::BadAlignment { path: reader.path(), alignment });
        }
        let data_start = reader.position().next_multiple_of(alignment.into());
        let directory = Directory::new(&source, data_start, alignment.into(), entries)?;
        Ok(Self { source, metadata, directory })
    }

    /// Config, tokenizer and free text.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

/// Reads the version. A big-endian file shows its version in the upper half.
fn check_version(reader: &mut HeaderReader<'_>) -> Result<(), WeightsError> {
    match reader.u32("the version")? {
        2 | 3 => Ok(()),
        version if version & 0xffff == 0 && version != 0 => {
            Err(WeightsError::GgufBigEndian { path: reader.path() })
        }
        version => Err(WeightsError::GgufVersion { path: reader.path(), version }),
    }
}

/// Reads one line of the tensor directory.
fn read_entry(reader: &mut HeaderReader<'_>) -> Result<Entry, WeightsError> {
    let name = reader.string("a tensor's name")?;
    let n_dims = reader.u32("a tensor's number of dimensions")?;
    if n_dims > MAX_DIMS {
        return Err(WeightsError::TooManyDimensions { path: reader.path(), name, n_dims, cap: MAX_DIMS });
    }
    let mut shape = (0..n_dims).map(|_| reader.u64("a tensor's dimension")).collect::<Result<Vec<_>, _>>()?;
    shape.reverse();
    let number = reader.u32("a tensor's type")?;
    let begin = reader.u64("a tensor's offset")?;
    let Some(dtype) = dtype_from_number(number) else {
        return Err(WeightsError::UnknownDtype { path: reader.path(), name, dtype: type_name(number) });
    };
    Ok(Entry { info: TensorInfo::new(reader.path_ref(), name, &shape, dtype)?, begin })
}

/// The type of that number in `ggml_type`, `None` for those that are not read here.
fn dtype_from_number(number: u32) -> Option<Dtype> {
    Some(match number {
        0 => Dtype::F32,
        1 => Dtype::F16,
        2 => Dtype::Q4_0,
        3 => Dtype::Q4_1,
        6 => Dtype::Q5_0,
        7 => Dtype::Q5_1,
        8 => Dtype::Q8_0,
        10 => Dtype::Q2_K,
        11 => Dtype::Q3_K,
        12 => Dtype::Q4_K,
        13 => Dtype::Q5_K,
        14 => Dtype::Q6_K,
        20 => Dtype::IQ4_NL,
        23 => Dtype::IQ4_XS,
        24 => Dtype::Other(safetensors::Dtype::I8),
        25 => Dtype::Other(safetensors::Dtype::I16),
        26 => Dtype::Other(safetensors::Dtype::I32),
        27 => Dtype::Other(safetensors::Dtype::I64),
        28 => Dtype::Other(safetensors::Dtype::F64),
        30 => Dtype::BF16,
        _ => return None,
    })
}

/// The name of a type that is not read here, for the message.
fn type_name(number: u32) -> String {
    let name = match number {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        21 => "IQ3_S",
        22 => "IQ2_S",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        40 => "NVFP4",
        _ => return format!("number {number}"),
    };
    name.into()
}

impl TensorSource for GgufFile {
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

//! Weights as they lie in files: safetensors (one file, or shards with an index) and GGUF.
//!
//! Files are untrusted. A reader looks at the header only, checks every size, offset and count in it against the length
//! of the file, and refuses what does not add up with an error that names file and tensor. After that a tensor is read
//! into owned memory when it is asked for, one at a time, by positioned reads.
//!
//! ```no_run
//! use preface_model::weights::{TensorSource, Weights};
//!
//! let weights = Weights::open("models/SmolLM2-135M".as_ref())?;
//! let embedding = weights.read("model.embed_tokens.weight")?;
//! println!("{:?} {}", embedding.info().shape(), embedding.info().dtype());
//! let mut first_row = vec![0.0; embedding.info().row_len()];
//! embedding.decode_rows(0..1, &mut first_row);
//! # Ok::<(), preface_model::weights::WeightsError>(())
//! ```

use std::path::Path;

pub(crate) mod bytes;
mod directory;
mod dtype;
mod error;
pub mod gguf;
mod initial;
mod json;
mod safetensors;
mod sharded;
mod tensor;

pub use self::dtype::Dtype;
pub use self::error::WeightsError;
pub use self::gguf::GgufFile;
pub use self::initial::InitialWeights;
pub(crate) use self::initial::Start;
pub use self::safetensors::SafetensorsFile;
pub use self::sharded::ShardedSafetensors;
pub use self::tensor::{StoredTensor, TensorInfo};

/// Tensors by name, whatever the format.
pub trait TensorSource: Send + Sync {
    /// The file, index or `builtin:` name, for messages.
    fn path(&self) -> &Path;

    /// The names of all tensors, in the file's order.
    fn names(&self) -> Vec<&str>;

    /// Shape and type of a tensor, `None` if there is none of that name.
    fn info(&self, name: &str) -> Option<&TensorInfo>;

    /// Reads a tensor's bytes as stored.
    ///
    /// # Errors
    /// If there is no such tensor, its type is no weight's, or the file cannot be read.
    fn read(&self, name: &str) -> Result<StoredTensor, WeightsError>;

    /// Reads a tensor that must have the given shape.
    ///
    /// # Errors
    /// As [`TensorSource::read`], and [`WeightsError::WrongShape`] before anything is read.
    fn read_shaped(&self, name: &str, shape: &[usize]) -> Result<StoredTensor, WeightsError> {
        match self.info(name) {
            Some(info) if info.shape() != shape => Err(WeightsError::WrongShape {
                path: self.path().to_path_buf(),
                name: name.into(),
                got: info.shape().to_vec(),
                want: shape.to_vec(),
            }),
            _ => self.read(name),
        }
    }
}

/// The weights of a model, in whichever format they came.
#[derive(Debug)]
pub enum Weights {
    /// One safetensors file.
    Safetensors(SafetensorsFile),
    /// Several, with an index.
    Sharded(ShardedSafetensors),
    /// A GGUF file, which also carries config and tokenizer.
    Gguf(GgufFile),
    /// No file: a random start.
    Initial(InitialWeights),
}

impl Weights {
    /// Opens a Hugging Face folder, a `.gguf` file (recognised by its first bytes) or a `.safetensors` file.
    ///
    /// # Errors
    /// [`WeightsError::NoWeights`] or [`WeightsError::UnknownFormat`] if it is none of these, else the reader's own.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        if path.is_dir() {
            let (single, index) = (path.join("model.safetensors"), path.join("model.safetensors.index.json"));
            // The order of `transformers`.
            if single.exists() {
                return Ok(Self::Safetensors(SafetensorsFile::open(&single)?));
            }
            if index.exists() {
                return Ok(Self::Sharded(ShardedSafetensors::open(&index)?));
            }
            return Err(WeightsError::NoWeights { folder: path.into() });
        }
        if GgufFile::is_gguf(path)? {
            return Ok(Self::Gguf(GgufFile::open(path)?));
        }
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            return Ok(Self::Safetensors(SafetensorsFile::open(path)?));
        }
        Err(WeightsError::UnknownFormat { path: path.into() })
    }

    /// The format's own reader behind the common interface.
    fn source(&self) -> &dyn TensorSource {
        match self {
            Self::Safetensors(file) => file,
            Self::Sharded(shards) => shards,
            Self::Gguf(file) => file,
            Self::Initial(weights) => weights,
        }
    }
}

impl TensorSource for Weights {
    fn path(&self) -> &Path {
        self.source().path()
    }
    fn names(&self) -> Vec<&str> {
        self.source().names()
    }
    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.source().info(name)
    }
    fn read(&self, name: &str) -> Result<StoredTensor, WeightsError> {
        self.source().read(name)
    }
}

#[cfg(test)]
mod tests;

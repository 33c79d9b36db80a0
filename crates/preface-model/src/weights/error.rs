//! One variant for each way in which a weight file can be wrong. Every message names the file, and the tensor or key
//! where there is one.

use std::path::PathBuf;

use crate::weights::Dtype;

/// Why weights could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The operating system refused.
    #[error("{path}: cannot {doing}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A device, pipe or folder where a file is needed.
    #[error("{path}: not a regular file")]
    NotAFile {
        /// What was given.
        path: PathBuf,
    },
    /// A folder without weights that can be read.
    #[error(
        "{folder}: holds neither model.safetensors nor model.safetensors.index.json (other formats must be converted first)"
    )]
    NoWeights {
        /// The folder.
        folder: PathBuf,
    },
    /// A file that is neither GGUF nor safetensors.
    #[error("{path}: neither a GGUF file (magic bytes \"GGUF\") nor a .safetensors file")]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },

    /// The file ends inside its own header.
    #[error("{path}: truncated: {what} needs {need} bytes at offset {offset}, the file has {file_len}")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What was being read.
        what: &'static str,
        /// Where it begins.
        offset: u64,
        /// Its length in bytes.
        need: u64,
        /// Length of the file.
        file_len: u64,
    },
    /// A header larger than any real one.
    #[error("{path}: its header wants {bytes} bytes, more than the {cap} that are accepted")]
    HeaderTooLarge {
        /// The file.
        path: PathBuf,
        /// Declared or reached size.
        bytes: u64,
        /// The limit.
        cap: u64,
    },
    /// A JSON header or index that does not parse.
    #[error("{path}: malformed JSON: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// Two tensors of one name.
    #[error("{path}: tensor `{name}` is listed twice")]
    DuplicateTensor {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// An element type that is not in the format's list.
    #[error("{path}: tensor `{name}` has the unknown type {dtype}; known are {known}", known = Dtype::DECODABLE)]
    UnknownDtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The type as the file has it.
        dtype: String,
    },
    /// A shape whose size does not fit the address space.
    #[error("{path}: tensor `{name}` of shape {shape:?} and type {dtype} is larger than any memory")]
    SizeOverflow {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Its type.
        dtype: Dtype,
    },
    /// A last dimension that is no whole number of blocks (or of bytes).
    #[error("{path}: tensor `{name}` has rows of {row_len} elements, which {dtype} cannot store (blocks of {block})", block = dtype.block_len())]
    RowNotWholeBlocks {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Elements in a row.
        row_len: usize,
        /// Its type.
        dtype: Dtype,
    },
    /// Shape and stored bytes do not belong together.
    #[error(
        "{path}: tensor `{name}`: shape {shape:?} of {dtype} takes {want} bytes, but the header gives it {begin}..{end}"
    )]
    SizeMismatch {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Its type.
        dtype: Dtype,
        /// Bytes that shape and type take.
        want: u64,
        /// First byte, from the start of the data.
        begin: u64,
        /// One past the last byte.
        end: u64,
    },
    /// A tensor that begins at an offset which the format does not allow.
    #[error("{path}: tensor `{name}` begins at {offset}, which is no multiple of the alignment {alignment}")]
    Misaligned {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// First byte, from the start of the data.
        offset: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// A tensor that reaches beyond the end of the file: truncated, or a hostile offset.
    #[error(
        "{path}: tensor `{name}` takes bytes {begin}..{end} of the data, but the file holds only {data_len}: is it truncated?"
    )]
    OutsideFile {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// First byte, from the start of the data.
        begin: u64,
        /// One past the last byte, saturating.
        end: u64,
        /// Bytes of data in the file.
        data_len: u64,
    },
    /// Two tensors share bytes.
    #[error(
        "{path}: tensor `{name}` begins at {begin}, inside the one before it, which ends at {previous_end}"
    )]
    Overlap {
        /// The file.
        path: PathBuf,
        /// The later tensor.
        name: String,
        /// Its first byte.
        begin: u64,
        /// End of the tensor before it, padding included.
        previous_end: u64,
    },
    /// Bytes between two tensors that belong to none.
    #[error("{path}: tensor `{name}` begins at {begin}, but the one before it ends at {previous_end}: a gap")]
    Gap {
        /// The file.
        path: PathBuf,
        /// The later tensor.
        name: String,
        /// Its first byte.
        begin: u64,
        /// End of the tensor before it, padding included.
        previous_end: u64,
    },
    /// Bytes after the last tensor.
    #[error("{path}: {bytes} bytes after the last tensor belong to none")]
    Tail {
        /// The file.
        path: PathBuf,
        /// Their number.
        bytes: u64,
    },

    /// The index names a file that is not there.
    #[error("{index}: shard `{shard}` is not there")]
    MissingShard {
        /// The index file.
        index: PathBuf,
        /// The shard's name.
        shard: String,
    },
    /// The index names a shard by something else than a plain file name.
    #[error("{index}: shard `{shard}` is not a plain file name in the same folder")]
    ShardOutsideFolder {
        /// The index file.
        index: PathBuf,
        /// The shard's name.
        shard: String,
    },
    /// The index promises a tensor that its shard does not hold.
    #[error("{index}: says that `{shard}` holds tensor `{name}`, but it does not")]
    ShardLacksTensor {
        /// The index file.
        index: PathBuf,
        /// The shard's name.
        shard: String,
        /// The tensor.
        name: String,
    },

    /// A GGUF file of a version with another layout.
    #[error("{path}: GGUF version {version}; versions 2 and 3, little endian, can be read")]
    GgufVersion {
        /// The file.
        path: PathBuf,
        /// The version.
        version: u32,
    },
    /// A big-endian GGUF file.
    #[error("{path}: a big-endian GGUF file; only little endian can be read")]
    GgufBigEndian {
        /// The file.
        path: PathBuf,
    },
    /// More entries announced than the rest of the file could hold.
    #[error("{path}: announces {count} {what}, more than the rest of the file can hold")]
    CountTooLarge {
        /// The file.
        path: PathBuf,
        /// What is counted.
        what: &'static str,
        /// The number.
        count: u64,
    },
    /// A string that is not UTF-8.
    #[error("{path}: {what} at offset {offset} is not UTF-8")]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Which string.
        what: &'static str,
        /// Where it begins.
        offset: u64,
    },
    /// One metadata key twice.
    #[error("{path}: metadata key `{key}` is listed twice")]
    DuplicateKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A metadata value of a type that GGUF does not define.
    #[error("{path}: metadata key `{key}` has the unknown value type {value_type}")]
    UnknownValueType {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The type's number.
        value_type: u32,
    },
    /// Arrays in arrays beyond reason.
    #[error("{path}: metadata key `{key}` nests arrays deeper than {cap} levels")]
    NestedTooDeep {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The limit.
        cap: usize,
    },
    /// An alignment that is zero or no power of two.
    #[error("{path}: general.alignment is {alignment}, which is no power of two")]
    BadAlignment {
        /// The file.
        path: PathBuf,
        /// The value.
        alignment: u32,
    },
    /// More dimensions than the format allows.
    #[error("{path}: tensor `{name}` has {n_dims} dimensions; GGUF allows {cap}")]
    TooManyDimensions {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Their number.
        n_dims: u32,
        /// The limit.
        cap: u32,
    },
    /// A needed metadata key is absent.
    #[error("{path}: has no metadata key `{key}`")]
    MissingKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A metadata value of another type than the key must have.
    #[error("{path}: metadata key `{key}` is {got}, but must be {want}")]
    KeyType {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What the value is.
        got: String,
        /// What it must be.
        want: &'static str,
    },

    /// A tensor that is asked for is absent.
    #[error("{path}: has no tensor `{name}`")]
    MissingTensor {
        /// The file, folder or index.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor that is asked for as a weight has a type that no weight has.
    #[error("{path}: tensor `{name}` has type {dtype}, but a weight must be one of {known}", known = Dtype::DECODABLE)]
    NotAWeight {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        dtype: Dtype,
    },
    /// A tensor has another shape than the model's config says.
    #[error("{path}: tensor `{name}` has shape {got:?}, but the model's config says {want:?}")]
    WrongShape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Shape in the file.
        got: Vec<usize>,
        /// Shape that is needed.
        want: Vec<usize>,
    },
}

//! Model families, weights, tokenizers and layers, forward and backward, over any backend.
//!
//! `weights/` reads files, `tokenizer/` turns text into ids, `family/` knows how a family's files name things, `layer/`
//! holds the layers. [`Model`] runs them: [`Model::loss_and_gradient`] for training, [`KvCache`] for generation. What a
//! method has trained reaches the model only as [`Attachments`].
#![forbid(unsafe_code)]

mod assemble;
mod attachments;
mod batch;
mod builtin;
mod cache;
mod encoder_batch;
mod encoder_text;
mod error;
mod family;
mod fingerprint;
mod inputs;
mod layer;
mod load;
mod model;
mod names;
mod parameters;
mod site;
mod soft;
mod spec;
pub mod tokenizer;
mod trie;
mod weight_format;
pub mod weights;

pub use attachments::{
    AddedRows, Attachments, AttachmentsGrad, Bottleneck, LowRank, ModelDropout, ParameterGrad, PerPlace,
    PrefixPlace, Segment, SoftPlace, SoftPrompt,
};
pub use batch::{Batch, Sequence, Work, packed_rows};
pub use builtin::SCHEME as BUILTIN_SCHEME;
pub use cache::{Feed, KvCache, PAGE_ROWS, SequenceId, SourceFeed};
pub use error::ModelError;
pub use fingerprint::{Fingerprint, Match, Probe, SAME_MODEL_COSINE, Shapes};
pub use inputs::InputStorage;
pub use load::{FolderFiles, LoadError, ModelFiles, NamedTensor};
pub use model::Model;
pub use names::NamedPart;
pub use parameters::ParameterShape;
pub use site::{Part, Site, Stack};
pub use spec::{
    Family, ModelSpec, NormPlace, Positions, RotaryScaling, RotarySpec, StackSpec, UNLIMITED_POSITIONS,
};
pub use weight_format::WeightFormat;

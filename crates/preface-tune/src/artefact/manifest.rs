//! `preface.json`: what PEFT's files have no place for.

use std::path::Path;

use preface_model::Fingerprint;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::json::{read_json, to_bytes};
use super::placed::Places;
use super::{ArtefactError, FORMAT_VERSION};

/// The method whose rows lie in a folder of PEFT's prefix tuning.
pub(super) const PREFIX: &str = "prefix";

/// What is known of a prefix beside its rows: where it belongs, how text goes in front of the model, how it was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The base model's hub id or `builtin:` name, if it has one ([`super::public_name`] says which names are).
    pub base_model: Option<String>,
    /// What the base model is recognised by.
    pub fingerprint: Fingerprint,
    /// How a pair becomes a text: data format, template, separator, linearisation. Whoever runs the model applies it;
    /// here it is only kept.
    pub text: Value,
    /// Every resolved setting of the training run. The model card lists it.
    pub recipe: Value,
    /// Hash of the training data.
    pub data_hash: Option<String>,
    /// What was measured, in the order of importance.
    pub scores: Vec<Score>,
    /// How the run computed.
    pub trained_with: TrainedWith,
}

/// One measured figure, with what is needed to compare it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Name of the metric.
    pub name: String,
    /// The figure.
    pub score: f64,
    /// The metric's signature (references, case, tokenizer, version), or on what it was measured.
    pub signature: String,
}

/// How a run computed. It does not enter the rows' bytes of another run on another tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainedWith {
    /// Precision of the products.
    pub precision: String,
    /// Instruction-set tier of the kernels.
    pub tier: String,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Manifest {
    format_version: u64,
    preface_version: String,
    method: String,
    /// Hash of what all this is about (the name is from when there were prefixes only).
    prefix_sha256: String,
    /// Where the rows of an encoder-decoder's prefix stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    places: Option<Places>,
    #[serde(flatten)]
    description: Description,
}

/// The bytes of the file.
pub(super) fn write(
    method: &str,
    content_hash: String,
    places: Option<Places>,
    description: &Description,
) -> Vec<u8> {
    to_bytes(&Manifest {
        format_version: FORMAT_VERSION,
        preface_version: env!("CARGO_PKG_VERSION").into(),
        method: method.into(),
        prefix_sha256: content_hash,
        places,
        description: description.clone(),
    })
}

/// The method that the file names.
pub(super) fn method(path: &Path) -> Result<String, ArtefactError> {
    #[derive(Deserialize)]
    struct Head {
        method: String,
    }
    let value: Value = read_json(path)?;
    let head = Head::deserialize(&value);
    Ok(head.map_err(|source| ArtefactError::Json { path: path.into(), source })?.method)
}

/// What the file says of an encoder-decoder's prefix.
pub(super) fn places(path: &Path) -> Result<Option<Places>, ArtefactError> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(default)]
        places: Option<Places>,
    }
    let value: Value = read_json(path)?;
    let head = Head::deserialize(&value);
    Ok(head.map_err(|source| ArtefactError::Json { path: path.into(), source })?.places)
}

/// Reads the file that lies beside what has this hash.
pub(super) fn read(
    path: &Path,
    method: &'static str,
    content_hash: String,
) -> Result<Description, ArtefactError> {
    // First what a newer version must still have, then the rest, which it may have changed.
    #[derive(Deserialize)]
    struct Head {
        format_version: u64,
    }
    let value: Value = read_json(path)?;
    let json = |source| ArtefactError::Json { path: path.into(), source };
    let Head { format_version: got } = Head::deserialize(&value).map_err(json)?;
    if got > FORMAT_VERSION {
        return Err(ArtefactError::NewerFormat { path: path.into(), got });
    }
    let manifest = Manifest::deserialize(value).map_err(json)?;
    if manifest.method != method {
        return Err(ArtefactError::MixedMethods { path: path.into(), got: manifest.method, want: method });
    }
    let got = content_hash;
    if manifest.prefix_sha256 != got {
        return Err(ArtefactError::OtherRows { path: path.into(), want: manifest.prefix_sha256, got });
    }
    Ok(manifest.description)
}

//! What can be wrong with an artefact: one variant for each way, each naming the file and what was expected.

use std::path::PathBuf;

use preface_model::weights::WeightsError;
use preface_model::{Fingerprint, SAME_MODEL_COSINE};
use thiserror::Error;

use super::{FORMAT_VERSION, TENSOR};

/// The kinds of adapter_config.json that can be loaded.
const LOADABLE: &str = "PREFIX_TUNING, PROMPT_TUNING and LORA, of PEFT or ours, PREFACE_PREFIX, PREFACE_INFIX, PREFACE_ADAPTER and PREFACE_WEIGHTS";

/// Why an artefact could not be read, does not belong to a model, or could not be written.
#[derive(Debug, Error)]
pub enum ArtefactError {
    /// The system refused; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The folder lacks a file that every artefact has.
    #[error("{folder}: no artefact: the folder has no {file}{hint}")]
    MissingFile {
        /// The folder.
        folder: PathBuf,
        /// The file.
        file: &'static str,
        /// What may be the reason; empty or beginning with a blank.
        hint: &'static str,
    },
    /// A JSON file far larger than any that is written.
    #[error("{path}: {bytes} bytes, more than the {cap} that are read of such a file")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The limit.
        cap: u64,
    },
    /// A JSON file that does not parse, or lacks a key, or has a value of another type.
    #[error("{path}: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What and where.
        source: serde_json::Error,
    },
    /// A value of adapter_config.json that cannot be, or is not supported.
    #[error("{path}: `{key}` is {got}, but must be {want}")]
    WrongValue {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What it is.
        got: String,
        /// What it must be.
        want: &'static str,
    },
    /// An adapter of another method.
    #[error("{path}: an adapter of type {got}; what can be loaded: {LOADABLE}")]
    OtherMethod {
        /// adapter_config.json or preface.json.
        path: PathBuf,
        /// Its type.
        got: String,
    },
    /// Files of two methods in one folder.
    #[error("{path}: was written for method {got}, but what lies beside it is of method {want}")]
    MixedMethods {
        /// preface.json.
        path: PathBuf,
        /// Its method.
        got: String,
        /// That of adapter_config.json.
        want: &'static str,
    },
    /// A value that changes what a method computes in a way that is not supported.
    #[error("{path}: `{key}` = {got} is not supported")]
    Unsupported {
        /// adapter_config.json.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        got: String,
    },
    /// A tensor that the method needs on this model is not there.
    #[error("{path}: has no tensor `{name}`, which {model} needs: trained on another model, or not whole")]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// By whom it is needed.
        model: String,
    },
    /// A tensor of another shape than the model needs.
    #[error("{path}: tensor `{name}` is {got:?}, but {model} needs {want:?}")]
    TensorShape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The shape that it has.
        got: Vec<usize>,
        /// The shape that is needed.
        want: Vec<usize>,
        /// By whom.
        model: String,
    },
    /// Tensors that this model has no place for.
    #[error("{path}: holds tensors that {model} has no place for: {tensors}")]
    NoPlace {
        /// The file.
        path: PathBuf,
        /// Their names.
        tensors: String,
        /// The model.
        model: String,
    },
    /// Rows of a place that are not as many as preface.json says.
    #[error(
        "{path}: tensor `{name}` has {got} rows, but {manifest} says `num_virtual_tokens` = {want}{shared}",
        manifest = super::MANIFEST,
        shared = if *.is_shared { ", shared by all places" } else { "" }
    )]
    PlaceLength {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: &'static str,
        /// Its rows.
        got: usize,
        /// The rows that it should have.
        want: usize,
        /// Whether all places should have so many.
        is_shared: bool,
    },
    /// A value that is not finite.
    #[error("{path}: tensor `{name}` holds {value}")]
    TensorNotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What stands there.
        value: f32,
    },
    /// Settings in the folder that do not fit the model.
    #[error("{path}: {reason}")]
    Settings {
        /// adapter_config.json.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A newer layout than this version knows.
    #[error("{path}: format version {got}; this version of preface reads up to {FORMAT_VERSION}: update it")]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        got: u64,
    },
    /// The tensors' file is broken.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The file holds an MLP but not what it evaluates to.
    #[error(
        "{path}: holds the reparametrisation ({tensors}) but no `{TENSOR}`: it is a training state; \
         PEFT's `save_pretrained` evaluates it"
    )]
    Unevaluated {
        /// The file.
        path: PathBuf,
        /// The names of its tensors.
        tensors: String,
    },
    /// Tensors that would have to act on the model, but that we do not know.
    #[error("{path}: holds tensors beside `{TENSOR}` that cannot be applied: {tensors}")]
    UnknownTensors {
        /// The file.
        path: PathBuf,
        /// Their names.
        tensors: String,
    },
    /// Rows of another shape than the config beside them or the model has.
    #[error(
        "{path}: tensor `{TENSOR}` is {got:?}, but {model} needs {want:?} \
         (prefix rows x keys and values of all layers x kv heads x head_dim)"
    )]
    PrefixShape {
        /// The file.
        path: PathBuf,
        /// The shape that it has.
        got: Vec<usize>,
        /// The shape that is needed.
        want: Vec<usize>,
        /// By whom.
        model: String,
    },
    /// A value that is not finite.
    #[error("{path}: tensor `{TENSOR}` holds {value} in row {row}, {part} of layer {layer}")]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// Row of the prefix.
        row: usize,
        /// Layer of the model.
        layer: usize,
        /// Keys or values.
        part: &'static str,
        /// What stands there.
        value: f32,
    },
    /// preface.json was written for other rows.
    #[error(
        "{path}: describes rows with the hash {want}, but those beside it have {got}: the files were mixed, \
         or changed by another program (without {file} the rows load, unchecked)",
        file = super::MANIFEST
    )]
    OtherRows {
        /// preface.json.
        path: PathBuf,
        /// The hash in it.
        want: String,
        /// The hash of the rows.
        got: String,
    },
    /// Trained on a model of another architecture or size.
    #[error(
        "{path} was trained on another model than {model}:\n  trained on {trained}\n  {model} is {given}"
    )]
    OtherModel {
        /// The artefact.
        path: PathBuf,
        /// The model that was given.
        model: String,
        /// The fingerprint in the artefact.
        trained: Box<Fingerprint>,
        /// The fingerprint of the model.
        given: Box<Fingerprint>,
    },
    /// Trained with another tokenizer.
    #[error(
        "{path} was trained with another tokenizer than that of {model}:\n  trained on {trained}\n  {model} is {given}"
    )]
    OtherTokenizer {
        /// The artefact.
        path: PathBuf,
        /// The model that was given.
        model: String,
        /// The fingerprint in the artefact.
        trained: Box<Fingerprint>,
        /// The fingerprint of the model.
        given: Box<Fingerprint>,
    },
    /// Trained on other weights of the same architecture.
    #[error(
        "{path} was trained on other weights than those of {model} (cosine {cosine:.3} where one model in two \
         precisions has {SAME_MODEL_COSINE} and more):\n  trained on {trained}\n  {model} is {given}"
    )]
    OtherWeights {
        /// The artefact.
        path: PathBuf,
        /// The model that was given.
        model: String,
        /// Likeness of the weights.
        cosine: f64,
        /// The fingerprint in the artefact.
        trained: Box<Fingerprint>,
        /// The fingerprint of the model.
        given: Box<Fingerprint>,
    },
    /// Something else than a file stands where a file of the artefact has to.
    #[error("{path}: in the way: not a regular file, so it is not replaced")]
    InTheWay {
        /// What stands there.
        path: PathBuf,
    },
}

//! What a finished run leaves to be shared and served: a folder that PEFT loads as an adapter.
//!
//! | file | holds | PEFT |
//! |---|---|---|
//! | `adapter_model.safetensors` | the rows, [`PrefixRows`] | reads |
//! | `adapter_config.json` | their shape and the kind of adapter | reads |
//! | `preface.json` | [`Description`]: fingerprint of the base model, text form, recipe, data hash, scores | ignores |
//! | `README.md` | the model card | ignores |
//!
//! `docs/format.md` describes each file. The MLP that a prefix was trained through is not among them: it is evaluated
//! once, and what resumes a run is the checkpoint.
//!
//! A folder that PEFT wrote has no `preface.json`. It loads, but all that can be checked of it are its shapes, and
//! prompts are taken as they stand.
//!
//! ```no_run
//! use preface_model::{Fingerprint, ModelFiles};
//! use preface_tune::artefact::{Artefact, OtherWeights};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let files = ModelFiles::open("models/SmolLM2-135M")?;
//! let fingerprint = Fingerprint::new(files.spec(), files.weights(), files.tokenizer()?.0.fingerprint())?;
//! let artefact = Artefact::open("runs/webnlg".as_ref())?;
//! if let Some(warning) = artefact.check_base("models/SmolLM2-135M", &fingerprint, OtherWeights::Refused)? {
//!     eprintln!("warning: {warning}");
//! }
//! println!("{} rows", artefact.rows.prefix_len);
//! # Ok(())
//! # }
//! ```

mod adapter_config;
mod base_model;
mod card;
mod error;
mod form;
mod json;
mod manifest;
mod placed;
mod replace;
mod rows;
mod soft;
mod tensors;
mod trained;

use std::fmt;
use std::path::{Path, PathBuf};

use preface_model::{Fingerprint, Match, ModelSpec, Shapes};

use crate::PrefixRows;
use adapter_config::{AdapterConfig, Task};

pub use base_model::public_name;
pub use error::ArtefactError;
pub use manifest::{Description, Score, TrainedWith};
pub use replace::replace_files;
pub use trained::{MODEL, MODEL_CONFIG, ModelFolder, Opened, TensorArtefact, write_trained};

/// Layout of preface.json that this version writes; it reads this one and older ones.
pub const FORMAT_VERSION: u64 = 1;

/// The file with the rows.
pub const TENSORS: &str = "adapter_model.safetensors";
/// The file with their shape.
pub const CONFIG: &str = "adapter_config.json";
/// The file that is ours alone.
pub const MANIFEST: &str = "preface.json";
/// The model card.
pub const CARD: &str = "README.md";

/// Name of the rows' tensor.
const TENSOR: &str = "prompt_embeddings";
/// The version of PEFT whose keys are written; PEFT warns of keys that it does not know by it.
const PEFT_VERSION: &str = "0.21.2";

/// A trained prefix, as it lies in a folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Artefact {
    /// The folder.
    pub path: PathBuf,
    /// The rows.
    pub rows: PrefixRows,
    /// What else is known of them: nothing if PEFT wrote the folder.
    pub description: Option<Description>,
    /// The base model's name in adapter_config.json. PEFT also writes paths there.
    pub base_model: Option<String>,
}

/// Whether rows that were trained on other weights of the same architecture may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherWeights {
    /// They are an error.
    Refused,
    /// The user insists: they are a warning.
    Allowed,
}

/// What a user should know of an artefact that is loaded nevertheless.
#[derive(Clone, Debug, PartialEq)]
pub enum Warning {
    /// There is no preface.json: only shapes could be compared.
    Unchecked {
        /// The artefact.
        path: PathBuf,
    },
    /// The weights are near those of the training, but not the same.
    OtherPrecision {
        /// Likeness of the weights.
        cosine: f64,
        /// The fingerprint in the artefact.
        trained: Box<Fingerprint>,
        /// The fingerprint of the model.
        given: Box<Fingerprint>,
    },
    /// The weights are others, and the user insisted.
    OtherWeights {
        /// Likeness of the weights.
        cosine: f64,
        /// The fingerprint in the artefact.
        trained: Box<Fingerprint>,
        /// The fingerprint of the model.
        given: Box<Fingerprint>,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unchecked { path } => write!(
                f,
                "{} has no {MANIFEST}: whether it was trained on this model cannot be checked beyond its shapes, and \
                 prompts are taken as they stand",
                path.display()
            ),
            Self::OtherPrecision { cosine, trained, given } => write!(
                f,
                "the prefix was trained on this model in another precision or quantisation, or on a light fine-tune of \
                 it (cosine of the weights {cosine:.6}):\n  trained on {trained}\n  running on {given}"
            ),
            Self::OtherWeights { cosine, trained, given } => write!(
                f,
                "the prefix was trained on other weights (cosine {cosine:.3}); it is used because you insist:\
                 \n  trained on {trained}\n  running on {given}"
            ),
        }
    }
}

impl Artefact {
    /// Reads a folder of ours or of PEFT's, with the rows of a decoder-only model.
    ///
    /// # Errors
    /// Every way in which a folder can be no such prefix has its variant of [`ArtefactError`].
    pub fn open(folder: &Path) -> Result<Self, ArtefactError> {
        let config_path = existing(folder, CONFIG)?;
        let config = AdapterConfig::read(&config_path)?;
        if config.task != Task::Causal {
            let (key, got) = ("task_type", config.task.name().into());
            let want = "CAUSAL_LM for the rows of a decoder-only model";
            return Err(ArtefactError::WrongValue { path: config_path, key, got, want });
        }
        let rows = tensors::read(&existing(folder, TENSORS)?, &config)?;
        let manifest = folder.join(MANIFEST);
        let description = manifest
            .exists()
            .then(|| manifest::read(&manifest, manifest::PREFIX, rows.content_hash()))
            .transpose()?;
        Ok(Self { path: folder.into(), rows, description, base_model: config.base_model })
    }

    /// Checks that the rows have the shape of the model `model` (its path or name, for the message).
    ///
    /// # Errors
    /// [`ArtefactError::PrefixShape`]; [`ArtefactError::Settings`] for an encoder-decoder, whose rows have another form.
    pub fn check_shape(&self, model: &str, spec: &ModelSpec) -> Result<(), ArtefactError> {
        Task::Causal.check(&self.path.join(CONFIG), model, spec.encoder.is_some())?;
        self.check_sizes(model, spec.n_layer, spec.n_kv_head, spec.head_dim)
    }

    /// Checks that the rows belong to the model with this fingerprint: other shapes or another tokenizer are refused,
    /// other weights too unless they are `allowed`.
    ///
    /// # Errors
    /// As [`Artefact::check_shape`]; [`ArtefactError::OtherModel`], [`ArtefactError::OtherTokenizer`] or
    /// [`ArtefactError::OtherWeights`].
    pub fn check_base(
        &self,
        model: &str,
        given: &Fingerprint,
        allowed: OtherWeights,
    ) -> Result<Option<Warning>, ArtefactError> {
        let warning = check_base(&self.path, self.description.as_ref(), model, given, allowed)?;
        // The fingerprint beside the rows may have been edited: the rows themselves have the last word.
        let Shapes { n_layer, n_kv_head, head_dim, encoder, .. } = given.shapes;
        Task::Causal.check(&self.path.join(CONFIG), model, encoder.is_some())?;
        self.check_sizes(model, n_layer, n_kv_head, head_dim)?;
        Ok(warning)
    }

    fn check_sizes(
        &self,
        model: &str,
        n_layer: usize,
        n_kv_head: usize,
        head_dim: usize,
    ) -> Result<(), ArtefactError> {
        let (got, want) = (self.rows.shape(), [self.rows.prefix_len, 2 * n_layer, n_kv_head, head_dim]);
        if got == want {
            return Ok(());
        }
        let (path, model) = (self.path.join(TENSORS), model.to_owned());
        Err(ArtefactError::PrefixShape { path, got: got.into(), want: want.into(), model })
    }
}

/// Whether what lies in `path` was trained on the model with this fingerprint.
fn check_base(
    path: &Path,
    description: Option<&Description>,
    model: &str,
    given: &Fingerprint,
    allowed: OtherWeights,
) -> Result<Option<Warning>, ArtefactError> {
    let Some(Description { fingerprint: trained, .. }) = description else {
        return Ok(Some(Warning::Unchecked { path: path.into() }));
    };
    let (path, model) = (path.to_owned(), model.to_owned());
    let difference = trained.compare(given);
    let (trained, given) = (Box::new(trained.clone()), Box::new(given.clone()));
    match (difference, allowed) {
        (Match::Same, _) => Ok(None),
        (Match::OtherPrecision { cosine }, _) => Ok(Some(Warning::OtherPrecision { cosine, trained, given })),
        (Match::OtherWeights { cosine }, OtherWeights::Allowed) => {
            Ok(Some(Warning::OtherWeights { cosine, trained, given }))
        }
        (Match::OtherWeights { cosine }, OtherWeights::Refused) => {
            Err(ArtefactError::OtherWeights { path, model, cosine, trained, given })
        }
        (Match::OtherTokenizer, _) => Err(ArtefactError::OtherTokenizer { path, model, trained, given }),
        (Match::OtherShapes, _) => Err(ArtefactError::OtherModel { path, model, trained, given }),
    }
}

/// Writes the four files of an artefact into `folder`, beside whatever a run keeps there. Files of an earlier artefact
/// are replaced, all or none. Equal rows and descriptions give equal bytes, on every machine.
///
/// A base model's name that is a path is left out (see [`public_name`]).
///
/// # Errors
/// [`ArtefactError::NotFinite`] for rows that could not be read again, [`ArtefactError::InTheWay`], or what the system
/// says. The folder is then as it was.
///
/// # Panics
/// If the rows are not as long as their sizes say.
pub fn write(folder: &Path, rows: &PrefixRows, description: &Description) -> Result<(), ArtefactError> {
    assert_eq!(rows.values.len(), rows.prefix_len * rows.row_width(), "whole rows");
    tensors::check_finite(&folder.join(TENSORS), rows)?;
    let base_model = description.base_model.as_deref().and_then(public_name);
    let description = Description { base_model: base_model.map(Into::into), ..description.clone() };
    replace_files(
        folder,
        &[
            (TENSORS, tensors::write(rows)),
            (CONFIG, adapter_config::write(rows, base_model)),
            (MANIFEST, manifest::write(manifest::PREFIX, rows.content_hash(), None, &description)),
            (CARD, card::write(&card::Subject::prefix(rows), &description)),
        ],
    )
}

fn existing(folder: &Path, file: &'static str) -> Result<PathBuf, ArtefactError> {
    let path = folder.join(file);
    if path.is_file() {
        return Ok(path);
    }
    let hint = if !folder.is_dir() {
        " (and is itself no folder)"
    } else if file == TENSORS && folder.join("adapter_model.bin").exists() {
        " (adapter_model.bin is a pickle, which is not read: save it again as safetensors)"
    } else {
        ""
    };
    Err(ArtefactError::MissingFile { folder: folder.into(), file, hint })
}

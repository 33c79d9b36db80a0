//! A model's files: config, weights, tokenizer.
//!
//! [`ModelFiles::open`] reads config and headers only; [`ModelFiles::load`] then reads the weights tensor by tensor
//! (`assemble`), so that beside the model itself at most one layer's product is in memory.

use std::path::{Path, PathBuf};

use preface_backend::{Backend, Counting};
use serde_json::Value;
use thiserror::Error;

use crate::family::{self, Config, Naming};
use crate::layer::sinusoidal_table;
use crate::tokenizer::{SpecialTokens, TargetConfig, TargetTokens, Tokenizer, TokenizerError};
use crate::weights::{InitialWeights, SafetensorsFile, TensorSource, Weights, WeightsError};
use crate::{Family, Model, ModelDropout, ModelSpec, WeightFormat, assemble, builtin};

/// What can be wrong with a model's files.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Nothing at the path, or something that is no model.
    #[error("{path}: {reason}; a model is a Hugging Face folder, a .gguf file or {builtin}", builtin = builtin::NAMES)]
    NotAModel {
        /// What was asked for.
        path: PathBuf,
        /// Why it is none.
        reason: String,
    },
    /// A `builtin:` name that does not exist.
    #[error("no built-in model `{name}`; there is {builtin}", builtin = builtin::NAMES)]
    UnknownBuiltin {
        /// What was asked for.
        name: String,
    },
    /// A file that cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A JSON file that does not parse.
    #[error("{path}: not valid JSON: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A weight file that is broken, or lacks a tensor, or has one of another shape.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A tokenizer that cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A config without a key that its family needs.
    #[error("{path}: the config has no `{key}`")]
    MissingKey {
        /// The config.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A config value that cannot be.
    #[error("{path}: `{key}` is {got}, expected {want}")]
    WrongValue {
        /// The config.
        path: PathBuf,
        /// The key.
        key: String,
        /// What it must be.
        want: &'static str,
        /// What it is.
        got: String,
    },
    /// A config value that is possible but not supported.
    #[error("{path}: `{key}` = {got} is not supported (supported: {known})")]
    Unsupported {
        /// The config.
        path: PathBuf,
        /// The key.
        key: String,
        /// What it is.
        got: String,
        /// What it may be.
        known: String,
    },
    /// A family that we do not have.
    #[error("{path}: unknown architecture `{got}` (known: {known})")]
    UnknownArchitecture {
        /// The config.
        path: PathBuf,
        /// Its name.
        got: String,
        /// The names that we know.
        known: String,
    },
    /// The tokenizer can give ids that the embedding has no row for.
    #[error("{path}: the tokenizer has {tokenizer} tokens, but the embedding only {embedding} rows")]
    VocabularyTooLarge {
        /// The model.
        path: PathBuf,
        /// Ids of the tokenizer.
        tokenizer: usize,
        /// Rows of the embedding.
        embedding: usize,
    },
}

/// The bytes of config.json, and the other files by name.
pub type FolderFiles = (Vec<u8>, Vec<(String, Vec<u8>)>);

/// A tensor of a file: name, shape, values.
pub type NamedTensor = (String, Vec<usize>, Vec<f32>);

/// A model's files, opened and checked but not yet loaded.
pub struct ModelFiles {
    path: PathBuf,
    weights: Weights,
    naming: Naming,
    spec: ModelSpec,
}

impl ModelFiles {
    /// Opens a Hugging Face folder, a `.gguf` file or `builtin:NAME`.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn open(name: &str) -> Result<Self, LoadError> {
        if let Some(name) = name.strip_prefix(builtin::SCHEME) {
            return Self::open_builtin(name);
        }
        let path = PathBuf::from(name);
        if !path.exists() {
            return Err(LoadError::NotAModel { path, reason: "no such file or folder".into() });
        }
        if path.is_dir() {
            if !path.join("config.json").exists() {
                return Err(LoadError::NotAModel { path, reason: "the folder has no config.json".into() });
            }
            let config_path = path.join("config.json");
            let json = read_json(&config_path)?;
            let mut spec = family::spec(&Config::HuggingFace { path: &config_path, json: &json })?;
            let weights = Weights::open(&path)?;
            if spec.family == Family::T5 {
                spec.tied_head = weights.info("lm_head.weight").is_none();
            }
            return Ok(Self { path, weights, naming: Naming::HuggingFace, spec });
        }
        match Weights::open(&path)? {
            Weights::Gguf(file) => {
                let spec = family::spec(&Config::Gguf(&file))?;
                Ok(Self { path, weights: Weights::Gguf(file), naming: Naming::Gguf, spec })
            }
            _ => Err(LoadError::NotAModel {
                path,
                reason: "weights alone carry no config; name the folder that holds them".into(),
            }),
        }
    }

    fn open_builtin(name: &str) -> Result<Self, LoadError> {
        let files = builtin::find(name).ok_or_else(|| LoadError::UnknownBuiltin { name: name.into() })?;
        let path = PathBuf::from(format!("{}{name}", builtin::SCHEME));
        let json = serde_json::from_str(files.config)
            .map_err(|source| LoadError::Json { path: path.clone(), source })?;
        let spec = family::spec(&Config::HuggingFace { path: &path, json: &json })?;
        let weights = SafetensorsFile::from_bytes(&path.to_string_lossy(), files.weights)?;
        Ok(Self { path, weights: Weights::Safetensors(weights), naming: Naming::HuggingFace, spec })
    }

    /// A model that starts from random weights, as `transformers` starts one of its family: a folder with config.json, or
    /// `builtin:NAME`. Weights that lie with it are left alone.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn untrained(name: &str, seed: u64) -> Result<Self, LoadError> {
        let (path, config_path, json) = match name.strip_prefix(builtin::SCHEME) {
            Some(name) => {
                let files =
                    builtin::find(name).ok_or_else(|| LoadError::UnknownBuiltin { name: name.into() })?;
                let path = PathBuf::from(format!("{}{name}", builtin::SCHEME));
                let json = serde_json::from_str(files.config)
                    .map_err(|source| LoadError::Json { path: path.clone(), source })?;
                (path.clone(), path, json)
            }
            None => {
                let path = PathBuf::from(name);
                let config_path = path.join("config.json");
                if !config_path.exists() {
                    let reason =
                        "a model from scratch needs a folder with config.json and a tokenizer".into();
                    return Err(LoadError::NotAModel { path, reason });
                }
                let json = read_json(&config_path)?;
                (path, config_path, json)
            }
        };
        let spec = family::spec(&Config::HuggingFace { path: &config_path, json: &json })?;
        // A config is not trusted with more: every layer's tensors are listed.
        const MOST_LAYERS: usize = 10_000;
        let n_layer = spec.n_layer + spec.encoder.map_or(0, |encoder| encoder.n_layer);
        if n_layer > MOST_LAYERS {
            let (key, got) = ("number of layers".into(), n_layer.to_string());
            return Err(LoadError::WrongValue { path: config_path, key, want: "at most 10000", got });
        }
        let weights = InitialWeights::new(&config_path, seed, family::initial_tensors(&spec, &json))?;
        Ok(Self { path, weights: Weights::Initial(weights), naming: Naming::HuggingFace, spec })
    }

    /// What was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Shapes and kinds of the layers.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// What the files call their tensors.
    pub(crate) fn naming(&self) -> Naming {
        self.naming
    }

    /// The tensors as stored.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The text of config.json, and the other files of a model folder that a changed copy of the model needs (the
    /// tokenizer's, generation_config.json), by name. None of a GGUF, which has neither.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn folder_files(&self) -> Result<Option<FolderFiles>, LoadError> {
        const OTHERS: [&str; 10] = [
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "added_tokens.json",
            "vocab.json",
            "merges.txt",
            "vocab.txt",
            "tokenizer.model",
            "chat_template.jinja",
        ];
        if let Some(name) = self.path.to_string_lossy().strip_prefix(builtin::SCHEME) {
            let files = builtin::find(name).ok_or_else(|| LoadError::UnknownBuiltin { name: name.into() })?;
            let tokenizer = ("tokenizer.json".to_owned(), files.tokenizer.as_bytes().to_vec());
            return Ok(Some((files.config.as_bytes().to_vec(), vec![tokenizer])));
        }
        if matches!(self.weights, Weights::Gguf(_)) {
            return Ok(None);
        }
        let mut others = Vec::new();
        for name in OTHERS {
            let path = self.path.join(name);
            if path.is_file() {
                others.push((name.to_owned(), fs_err::read(path)?));
            }
        }
        Ok(Some((fs_err::read(self.path.join("config.json"))?, others)))
    }

    /// Tensors that no method trains but a whole model holds, where the files have them; of a Pegasus its tables of sines in any
    /// case.
    ///
    /// # Errors
    /// A tensor that cannot be read.
    pub fn constant_tensors(&self) -> Result<Vec<NamedTensor>, LoadError> {
        let names = family::names(&self.spec, self.naming);
        let mut tensors = Vec::new();
        for name in self.spec.constant_tensors() {
            let stored = names.resolve(&self.weights, &name);
            // `transformers` computes a table of sines that a file lacks, but of Pegasus alone it calls it missing.
            let is_missed = self.spec.family == Family::Pegasus && name.ends_with("embed_positions.weight");
            if let Some(info) = self.weights.info(&stored) {
                let shape = info.shape().to_vec();
                let values = self.weights.read_shaped(&stored, &shape)?.to_f32();
                tensors.push((name, shape, values));
            } else if is_missed {
                let shape = vec![self.spec.max_positions, self.spec.d_model];
                tensors.push((name, shape, sinusoidal_table(self.spec.max_positions, self.spec.d_model)));
            }
        }
        Ok(tensors)
    }

    /// Probabilities of the dropout that the model was trained with, as its config says; none of a GGUF, which does not.
    ///
    /// # Errors
    /// A config that cannot be read.
    pub fn dropout(&self) -> Result<ModelDropout, LoadError> {
        let Some((config, _)) = self.folder_files()? else { return Ok(ModelDropout::default()) };
        let path = self.path.clone();
        let json = serde_json::from_slice(&config).map_err(|source| LoadError::Json { path, source })?;
        Ok(family::dropout(self.spec.family, &json))
    }

    /// What an encoder-decoder's decoder starts with, as far as its configs name it: for runs that have ids and no text.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn decoder_start(&self) -> Result<Option<u32>, LoadError> {
        match self.spec.encoder {
            None => Ok(None),
            Some(_) => Ok(TargetConfig::from_folder(&self.path)?.decoder_start_token_id),
        }
    }

    /// The file that an encoder-decoder's defaults of generation stand in, by its name: `generation_config.json`, else
    /// `config.json`. None of a decoder-only model, which has no search that it was made for.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn generation_config(&self) -> Result<Option<(&'static str, Value)>, LoadError> {
        if self.spec.encoder.is_none() {
            return Ok(None);
        }
        let exists = |name: &&str| self.path.join(name).exists();
        let Some(name) = ["generation_config.json", "config.json"].into_iter().find(exists) else {
            return Ok(None);
        };
        Ok(Some((name, read_json(&self.path.join(name))?)))
    }

    /// The tokenizer that lies with the model, and the ids that begin and end its texts.
    ///
    /// # Errors
    /// If there is none, it does not parse, or it knows tokens that the embedding has no rows for.
    pub fn tokenizer(&self) -> Result<(Tokenizer, SpecialTokens), LoadError> {
        let name = self.path.to_string_lossy();
        let (tokenizer, mut special) = match (&self.weights, name.strip_prefix(builtin::SCHEME)) {
            (_, Some(name)) => {
                let files =
                    builtin::find(name).ok_or_else(|| LoadError::UnknownBuiltin { name: name.into() })?;
                (
                    Tokenizer::from_json(&self.path, files.tokenizer.as_bytes())?,
                    SpecialTokens::from_config(&self.path, files.config.as_bytes())?,
                )
            }
            (Weights::Gguf(file), None) => {
                (Tokenizer::from_gguf(file.metadata())?, SpecialTokens::from_gguf(file.metadata())?)
            }
            _ => (Tokenizer::from_folder(&self.path)?, SpecialTokens::from_folder(&self.path)?),
        };
        if tokenizer.vocab_size() > self.spec.vocab_size {
            return Err(LoadError::VocabularyTooLarge {
                path: self.path.clone(),
                tokenizer: tokenizer.vocab_size(),
                embedding: self.spec.vocab_size,
            });
        }
        if self.spec.encoder.is_some() {
            let config = TargetConfig::from_folder(&self.path)?;
            special.target = Some(TargetTokens::new(&tokenizer, &special, config)?);
        }
        special.check(&tokenizer, self.spec.vocab_size)?;
        Ok((tokenizer, special))
    }

    /// Reads the weights into a model on `backend`, as the file stores them.
    ///
    /// # Errors
    /// A tensor that is missing, has another shape than the config says, or cannot be read.
    pub fn load<B: Backend>(&self, backend: B) -> Result<Model<B>, LoadError> {
        self.load_as(backend, WeightFormat::Auto)
    }

    /// Reads the weights into a model on `backend`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_as<B: Backend>(&self, backend: B, format: WeightFormat) -> Result<Model<B>, LoadError> {
        assemble::model(self, backend, format, true)
    }

    /// The model without its weights' numbers, on a backend that only counts: for a plan of the memory that a run will
    /// need, made before anything is read.
    ///
    /// # Errors
    /// As [`ModelFiles::load`], as far as headers tell.
    pub fn outline(&self, backend: Counting, format: WeightFormat) -> Result<Model<Counting>, LoadError> {
        assemble::model(self, backend, format, false)
    }
}

fn read_json(path: &Path) -> Result<Value, LoadError> {
    let text = fs_err::read_to_string(path)?;
    serde_json::from_str(&text).map_err(|source| LoadError::Json { path: path.into(), source })
}

//! From files to a model on a backend.
//!
//! [`ModelFiles::open`] reads config and headers only; [`ModelFiles::load`] then reads the weights tensor by tensor, so
//! that beside the model itself at most one layer's product is in memory.

use std::path::{Path, PathBuf};

use preface_backend::{AttentionShape, Backend, Counting, HostMatrix, Norm, NormKind, Storage, WeightPart};
use serde_json::Value;
use thiserror::Error;

use crate::family::{self, Config, CrossNames, LayerNames, Names, Naming, StackNames};
use crate::layer::{
    AttentionLayer, BiasTable, Block, BlockStack, CrossLayer, FeedForward, Linear, Sublayer, rotary_table,
    sinusoidal_table,
};
use crate::model::HeadBias;
use crate::tokenizer::{SpecialTokens, TargetConfig, TargetTokens, Tokenizer, TokenizerError};
use crate::weight_format::Keep;
use crate::weights::{InitialWeights, SafetensorsFile, TensorSource, Weights, WeightsError};
use crate::{
    Family, Model, ModelDropout, ModelSpec, Part, Positions, PrefixPlace, Site, Stack, StackSpec,
    WeightFormat, builtin,
};

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
        self.build(backend, format, true)
    }

    /// The model without its weights' numbers, on a backend that only counts: for a plan of the memory that a run will
    /// need, made before anything is read.
    ///
    /// # Errors
    /// As [`ModelFiles::load`], as far as headers tell.
    pub fn outline(&self, backend: Counting, format: WeightFormat) -> Result<Model<Counting>, LoadError> {
        self.build(backend, format, false)
    }

    fn build<B: Backend>(
        &self,
        backend: B,
        format: WeightFormat,
        with_numbers: bool,
    ) -> Result<Model<B>, LoadError> {
        let names = family::names(&self.spec, self.naming);
        let keep = Keep::new(format, &self.weights);
        let loader = Loader { backend: &backend, files: self, names: &names, keep, with_numbers };
        let spec = &self.spec;
        let embedding = loader.table(loader.first_of(names.embedding), spec.vocab_size)?;
        let encoder = match (spec.encoder, &names.encoder) {
            (Some(stack), Some(names)) => Some(loader.stack(names, stack, PrefixPlace::Encoder)?),
            _ => None,
        };
        let decoder = loader.stack(&names.decoder, spec.decoder(), PrefixPlace::Decoder)?;
        let own_head = if spec.tied_head { None } else { Some(loader.table(names.head, spec.vocab_size)?) };
        let head_bias = match names.head_bias {
            Some(name) if self.weights.info(name).is_some() => {
                let values = loader.shaped(name, &[1, spec.vocab_size])?;
                Some(HeadBias { vector: backend.vector(&values), values })
            }
            _ => None,
        };
        let spec = spec.clone();
        Ok(Model {
            backend,
            spec,
            embedding,
            encoder,
            decoder,
            own_head,
            head_bias,
            recompute: false,
            inputs: None,
        })
    }
}

struct Loader<'a, B: Backend> {
    backend: &'a B,
    files: &'a ModelFiles,
    names: &'a Names,
    keep: Keep,
    /// Without them matrices have shapes only, and vectors are zeros.
    with_numbers: bool,
}

impl<B: Backend> Loader<'_, B> {
    fn stack(
        &self,
        names: &StackNames,
        shapes: StackSpec,
        place: PrefixPlace,
    ) -> Result<BlockStack<B>, LoadError> {
        let spec = &self.files.spec;
        let side = if place == PrefixPlace::Encoder { Stack::Encoder } else { Stack::Decoder };
        let mut stack = BlockStack {
            position_embedding: None,
            rotary: None,
            relative_bias: None,
            embedding_norm: names.embedding_norm.map(|name| self.norm(name)).transpose()?,
            blocks: (0..shapes.n_layer)
                .map(|n| {
                    self.block(&(names.layer)(n), shapes, |part| Site::Block { stack: side, layer: n, part })
                })
                .collect::<Result<_, _>>()?,
            final_norm: if spec.final_norm { Some(self.norm(names.final_norm)?) } else { None },
        };
        match (&spec.positions, names.position_embedding, names.relative_bias) {
            (Positions::Learned { offset }, Some(name), _) => {
                stack.position_embedding = Some(self.table(name, spec.max_positions + offset)?);
            }
            (Positions::Sinusoidal, Some(name), _) if self.has_weight(name) => {
                stack.position_embedding = Some(self.table(name, spec.max_positions)?);
            }
            (Positions::Sinusoidal, ..) => {
                let values = match self.with_numbers {
                    true => sinusoidal_table(spec.max_positions, spec.d_model),
                    false => Vec::new(),
                };
                let table = HostMatrix { n_row: spec.max_positions, n_column: spec.d_model, values };
                stack.position_embedding = Some(self.backend.weight(vec![table]));
            }
            (Positions::Rotary(rotary), ..) => {
                let table = rotary_table(rotary, spec.head_dim, spec.max_positions);
                stack.rotary = Some(self.backend.rows_from(&table, spec.head_dim, Storage::Exact));
            }
            (&Positions::Relative { n_bucket, max_distance }, _, Some(name)) => {
                let both_directions = place == PrefixPlace::Encoder;
                let table = self.shaped(&format!("{name}.weight"), &[n_bucket, shapes.n_head])?;
                stack.relative_bias = Some(BiasTable::new(
                    self.backend,
                    table,
                    n_bucket,
                    shapes.n_head,
                    max_distance,
                    both_directions,
                ));
            }
            _ => unreachable!("a family names the tables that its positions need"),
        }
        Ok(stack)
    }

    fn block(
        &self,
        names: &LayerNames,
        stack: StackSpec,
        site: impl Fn(Part) -> Site,
    ) -> Result<Block<B>, LoadError> {
        let spec = &self.files.spec;
        let shape = AttentionShape {
            n_head: stack.n_head,
            n_kv_head: stack.n_kv_head,
            head_dim: stack.head_dim,
            scale: spec.attention_scale_of(stack),
        };
        let (query_width, kv_width) = (shape.query_width(), shape.kv_width());
        let qkv_rows = split(&names.qkv, &[query_width, kv_width, kv_width]);
        let up_rows = match spec.activation.gated {
            true => split(&names.up, &[stack.d_ff, stack.d_ff]),
            false => vec![stack.d_ff],
        };
        let interleaved = self.names.interleaved_rotary;
        Ok(Block {
            attention: AttentionLayer {
                norm: self.sublayer(&names.attention_norm)?,
                shape,
                qkv: self.linear(site(Part::Qkv), &names.qkv, &qkv_rows, spec.d_model, interleaved)?,
                output: self.one(
                    site(Part::AttentionOutput),
                    &names.attention_output,
                    spec.d_model,
                    query_width,
                )?,
            },
            cross: names.cross.as_ref().map(|names| self.cross(names, shape, &site)).transpose()?,
            feed_forward: FeedForward {
                norm: self.sublayer(&names.feed_forward_norm)?,
                up: self.linear(site(Part::Up), &names.up, &up_rows, spec.d_model, false)?,
                activation: spec.activation,
                down: self.one(site(Part::Down), &names.down, spec.d_model, stack.d_ff)?,
                d_ff: stack.d_ff,
            },
        })
    }

    fn cross(
        &self,
        names: &CrossNames,
        shape: AttentionShape,
        site: &impl Fn(Part) -> Site,
    ) -> Result<CrossLayer<B>, LoadError> {
        let d_model = self.files.spec.d_model;
        let (query_width, kv_width) = (shape.query_width(), shape.kv_width());
        Ok(CrossLayer {
            attention: AttentionLayer {
                norm: self.sublayer(&names.norm)?,
                shape,
                qkv: self.one(site(Part::CrossQuery), &names.query, query_width, d_model)?,
                output: self.one(site(Part::CrossOutput), &names.output, d_model, query_width)?,
            },
            keys: self.linear(site(Part::CrossKeys), &names.keys, &[kv_width, kv_width], d_model, false)?,
        })
    }

    fn sublayer(&self, name: &str) -> Result<Sublayer<B>, LoadError> {
        Ok(Sublayer { norm: self.norm(name)?, place: self.files.spec.norm_place })
    }

    fn one(&self, site: Site, name: &str, n_row: usize, n_column: usize) -> Result<Linear<B>, LoadError> {
        self.linear(site, std::slice::from_ref(&name.to_owned()), &[n_row], n_column, false)
    }

    /// The first of some names that the file has; the first of all if it has none, for the message.
    fn first_of(&self, names: &'static [&'static str]) -> &'static str {
        names.iter().find(|name| self.has_weight(name)).unwrap_or(&names[0])
    }

    fn has_weight(&self, name: &str) -> bool {
        let weights = &self.files.weights;
        weights.info(&self.names.resolve(weights, &format!("{name}.weight"))).is_some()
    }

    /// Stacks the named parts. With `interleaved_rotary` the first two (queries and keys) come with their rotary pairs
    /// side by side and are put half a head apart.
    fn linear(
        &self,
        site: Site,
        names: &[String],
        n_rows: &[usize],
        n_column: usize,
        interleaved_rotary: bool,
    ) -> Result<Linear<B>, LoadError> {
        let (mut parts, mut biases) = (Vec::new(), Vec::new());
        for (part, (name, &n_row)) in names.iter().zip(n_rows).enumerate() {
            let mut matrix = self.matrix(name, n_row, n_column)?;
            let mut bias = self.bias(name, n_row)?;
            if interleaved_rotary && part < 2 {
                let head_dim = self.files.spec.head_dim;
                if self.with_numbers {
                    matrix = rows_from_pairs(matrix, head_dim);
                }
                bias = bias.map(|bias| halves_from_pairs(&bias, head_dim, 1));
            }
            parts.push(matrix);
            biases.push(bias);
        }
        // All or nothing: a stack of which only some parts have a bias gets zeros for the others.
        let bias = biases.iter().any(Option::is_some).then(|| {
            let zeros = biases.into_iter().zip(n_rows).map(|(b, &n)| b.unwrap_or_else(|| vec![0.0; n]));
            self.backend.vector(&zeros.flatten().collect::<Vec<f32>>())
        });
        Ok(Linear { site, weight: self.backend.stored_weight(parts), bias })
    }

    fn norm(&self, name: &str) -> Result<Norm<B>, LoadError> {
        let spec = &self.files.spec;
        let weight = self.vector(&format!("{name}.weight"), spec.d_model)?;
        let bias = match spec.norm {
            NormKind::Rms => None,
            NormKind::Layer => {
                Some(self.backend.vector(&self.vector(&format!("{name}.bias"), spec.d_model)?))
            }
        };
        let weight = self.backend.vector(&weight);
        Ok(Norm { kind: spec.norm, epsilon: spec.norm_epsilon, weight, bias })
    }

    /// A matrix of which every row belongs to a token or position: never stored transposed.
    fn table(&self, name: &str, n_row: usize) -> Result<B::Weight, LoadError> {
        let n_column = self.files.spec.d_model;
        if !self.with_numbers {
            return Ok(self.backend.stored_weight(vec![self.outlined(name, n_row, n_column)]));
        }
        let tensor = self.files.weights.read_shaped(
            &self.names.resolve(&self.files.weights, &format!("{name}.weight")),
            &[n_row, n_column],
        )?;
        Ok(self.backend.stored_weight(vec![self.keep.stored(tensor, n_row, n_column)]))
    }

    fn matrix(&self, name: &str, n_row: usize, n_column: usize) -> Result<WeightPart, LoadError> {
        if !self.with_numbers {
            return Ok(self.outlined(name, n_row, n_column));
        }
        let name = self.names.resolve(&self.files.weights, &format!("{name}.weight"));
        if !self.names.transposed {
            let tensor = self.files.weights.read_shaped(&name, &[n_row, n_column])?;
            return Ok(self.keep.stored(tensor, n_row, n_column));
        }
        let stored = self.files.weights.read_shaped(&name, &[n_column, n_row])?.to_f32();
        let values = (0..n_row).flat_map(|row| stored[row..].iter().step_by(n_row).copied()).collect();
        Ok(self.keep.values(HostMatrix { n_row, n_column, values }))
    }

    /// A matrix of which the shape and the way it will be kept are known.
    fn outlined(&self, name: &str, n_row: usize, n_column: usize) -> WeightPart {
        let name = self.names.resolve(&self.files.weights, &format!("{name}.weight"));
        // A matrix that has to be turned is decoded first.
        let stored = self.files.weights.info(&name).filter(|_| !self.names.transposed);
        self.keep.outline(stored.and_then(|info| info.dtype().block_format()), n_row, n_column)
    }

    fn bias(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, LoadError> {
        let name = format!("{name}.bias");
        let exists = self.files.weights.info(&self.names.resolve(&self.files.weights, &name)).is_some();
        exists.then(|| self.vector(&name, len)).transpose()
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        self.shaped(name, &[len])
    }

    /// A small tensor; zeros where numbers are not wanted.
    fn shaped(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        if !self.with_numbers {
            return Ok(vec![0.0; shape.iter().product()]);
        }
        Ok(self.files.weights.read_shaped(&self.names.resolve(&self.files.weights, name), shape)?.to_f32())
    }
}

/// Rows of each named part: the parts themselves, or all of them in one.
fn split(names: &[String], parts: &[usize]) -> Vec<usize> {
    if names.len() == parts.len() { parts.to_vec() } else { vec![parts.iter().sum()] }
}

/// [`halves_from_pairs`] for a matrix.
fn rows_from_pairs(matrix: WeightPart, head_dim: usize) -> WeightPart {
    match matrix {
        WeightPart::Values(matrix) => {
            let values = halves_from_pairs(&matrix.values, head_dim, matrix.n_column);
            WeightPart::Values(HostMatrix { values, ..matrix })
        }
        WeightPart::Blocks(matrix) => {
            let order: Vec<usize> = halves_from_pairs(&(0..matrix.n_row()).collect::<Vec<_>>(), head_dim, 1);
            WeightPart::Blocks(matrix.reordered(|row| order[row]))
        }
    }
}

/// Reorders the rows of each head from `(a0 b0 a1 b1 ...)` to `(a0 a1 ... b0 b1 ...)`.
fn halves_from_pairs<T: Copy>(values: &[T], head_dim: usize, n_column: usize) -> Vec<T> {
    values
        .chunks_exact(head_dim * n_column)
        .flat_map(|head| {
            let row = |i: usize| &head[i * n_column..(i + 1) * n_column];
            (0..head_dim).step_by(2).chain((1..head_dim).step_by(2)).flat_map(row).copied()
        })
        .collect()
}

fn read_json(path: &Path) -> Result<Value, LoadError> {
    let text = fs_err::read_to_string(path)?;
    serde_json::from_str(&text).map_err(|source| LoadError::Json { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotary_pairs_are_put_half_a_head_apart() {
        // Two heads of 4 rows and 1 column.
        let values = [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0];
        let want = [0.0, 2.0, 1.0, 3.0, 10.0, 12.0, 11.0, 13.0];
        assert_eq!(halves_from_pairs(&values, 4, 1), want);
    }
}

//! The folders of the methods beside prefix tuning.
//!
//! | method | files | who else loads it |
//! |---|---|---|
//! | LoRA | `adapter_config.json` (LORA), `adapter_model.safetensors` with `base_model.model.MODULE.lora_A.weight` and `lora_B.weight` | PEFT |
//! | prompt tuning | `adapter_config.json` (PROMPT_TUNING), one tensor `prompt_embeddings` `[len, d_model]` | PEFT |
//! | infix tuning | `adapter_config.json` (PREFACE_INFIX), `infix_embeddings` `[len, d_model]`, `infix_key_values` `[len, 2 * n_layer * n_kv_head * head_dim]` | nobody |
//! | adapters | `adapter_config.json` (PREFACE_ADAPTER), `layers.N.{norm,down,up}.{weight,bias}` | nobody |
//! | top layers | `adapter_config.json` (PREFACE_WEIGHTS), the changed tensors under their names in `transformers` | its `load_state_dict(strict=False)` |
//! | fine-tuning | a model folder: `config.json`, `model.safetensors`, the tokenizer's files | `transformers` |
//!
//! `preface.json` and `README.md` lie beside them as beside a prefix.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use preface_backend::Backend;
use preface_model::weights::{SafetensorsFile, TensorSource};
use preface_model::{Fingerprint, Model, ModelDropout, ModelSpec, NamedTensor, ParameterShape, Stack};
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::adapter_config::{AdapterConfig, PREFIX_TUNING, Task};
use super::form::Form;
use super::json::{read_json, to_bytes};
use super::placed::{PREFACE_PREFIX, PlacedPrefixFiles};
use super::soft::SoftFiles;
use super::{
    Artefact, ArtefactError, CARD, CONFIG, Description, MANIFEST, OtherWeights, TENSORS, Warning, card,
    manifest, public_name, replace_files,
};
use crate::{
    Adapter, FineTune, Infix, Lora, LoraSettings, Method, PlacedPrefix, Prefix, PromptTuning,
    Reparametrisation, Trained, Tuned,
};

/// The weights of a fine-tuned model.
pub const MODEL: &str = "model.safetensors";
/// Its config.
pub const MODEL_CONFIG: &str = "config.json";

pub(super) const LORA: &str = "LORA";
pub(super) const PROMPT_TUNING: &str = "PROMPT_TUNING";
pub(super) const INFIX: &str = "PREFACE_INFIX";
pub(super) const ADAPTER: &str = "PREFACE_ADAPTER";
pub(super) const WEIGHTS: &str = "PREFACE_WEIGHTS";
const FINE_TUNE: &str = "fine-tune";
pub(super) const PROMPT_EMBEDDINGS: &str = "prompt_embeddings";
pub(super) const INFIX_EMBEDDINGS: &str = "infix_embeddings";
pub(super) const INFIX_KEY_VALUES: &str = "infix_key_values";

/// What PEFT puts in front of a module's name.
pub(super) const PEFT_PREFIX: &str = "base_model.model.";

/// Any folder that a training run leaves or PEFT writes.
#[derive(Clone, Debug, PartialEq)]
pub enum Opened {
    /// Prefix tuning of a decoder-only model.
    Prefix(Artefact),
    /// Any other method, and prefix tuning of an encoder-decoder.
    Tensors(TensorArtefact),
}

/// A folder of a method beside prefix tuning.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorArtefact {
    path: PathBuf,
    /// The file with the tensors.
    file: PathBuf,
    kind: Kind,
    tensors: Tensors,
    description: Option<Description>,
    base_model: Option<String>,
}

/// What the tensors are.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    PlacedPrefix(PlacedPrefixFiles),
    Lora(LoraSettings),
    PromptTuning(SoftFiles),
    Infix(SoftFiles),
    Adapter { width: usize },
    Weights(Tuned),
}

/// Shape and values by name.
pub(super) type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

impl Opened {
    /// Reads a folder of ours or of PEFT's.
    ///
    /// # Errors
    /// Every way in which a folder can be none has its variant of [`ArtefactError`].
    pub fn open(folder: &Path) -> Result<Self, ArtefactError> {
        #[derive(Deserialize)]
        struct Head {
            peft_type: String,
        }
        let (config_path, manifest_path) = (folder.join(CONFIG), folder.join(MANIFEST));
        if !config_path.exists() && folder.join(MODEL).exists() && manifest_path.exists() {
            let method = manifest::method(&manifest_path)?;
            if method != FINE_TUNE {
                return Err(ArtefactError::OtherMethod { path: manifest_path, got: method });
            }
            return TensorArtefact::open(folder, MODEL, Kind::Weights(Tuned::All), None).map(Self::Tensors);
        }
        if !config_path.exists() {
            return Artefact::open(folder).map(Self::Prefix);
        }
        let value: Value = read_json(&config_path)?;
        let json = |source| ArtefactError::Json { path: config_path.clone(), source };
        let Head { peft_type } = Head::deserialize(&value).map_err(json)?;
        let kind = match peft_type.as_str() {
            LORA => {
                refuse_variants(&config_path, &value)?;
                Kind::Lora(LoraSettings::deserialize(&value).map_err(json)?)
            }
            PROMPT_TUNING => Kind::PromptTuning(SoftFiles::read(&config_path, &value)?),
            INFIX => Kind::Infix(SoftFiles::read(&config_path, &value)?),
            ADAPTER => Kind::Adapter { width: number(&config_path, &value, "width")? },
            WEIGHTS => Kind::Weights(Tuned::Top(number(&config_path, &value, "top_layers")?)),
            PREFIX_TUNING => {
                let config = AdapterConfig::read(&config_path)?;
                if config.task == Task::Causal {
                    return Artefact::open(folder).map(Self::Prefix);
                }
                return TensorArtefact::open_placed(folder, Some(&config), config.base_model.clone())
                    .map(Self::Tensors);
            }
            PREFACE_PREFIX => {
                let base_model = value["base_model_name_or_path"].as_str().map(Into::into);
                return TensorArtefact::open_placed(folder, None, base_model).map(Self::Tensors);
            }
            _ => return Artefact::open(folder).map(Self::Prefix),
        };
        let base_model = value["base_model_name_or_path"].as_str().map(Into::into);
        TensorArtefact::open(folder, TENSORS, kind, base_model).map(Self::Tensors)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        match self {
            Self::Prefix(artefact) => &artefact.path,
            Self::Tensors(artefact) => &artefact.path,
        }
    }

    /// What else is known: nothing if PEFT wrote the folder.
    pub fn description(&self) -> Option<&Description> {
        match self {
            Self::Prefix(artefact) => artefact.description.as_ref(),
            Self::Tensors(artefact) => artefact.description.as_ref(),
        }
    }

    /// The base model's name in adapter_config.json.
    pub fn base_model(&self) -> Option<&str> {
        match self {
            Self::Prefix(artefact) => artefact.base_model.as_deref(),
            Self::Tensors(artefact) => artefact.base_model.as_deref(),
        }
    }

    /// The method's name in settings.
    pub fn method_name(&self) -> &'static str {
        match self {
            Self::Prefix(_) => manifest::PREFIX,
            Self::Tensors(artefact) => artefact.kind.method_name(),
        }
    }

    /// The rows of an encoder-decoder's prefix and where the decoder's text starts, in words; nothing of anything else.
    pub fn places_in_words(&self) -> Option<String> {
        match self {
            Self::Tensors(TensorArtefact { kind: Kind::PlacedPrefix(prefix), .. }) => {
                let start = prefix.places.first_position();
                Some(format!("rows: {}; the decoder's text starts at {start}", prefix.in_words()))
            }
            _ => None,
        }
    }

    /// Hash of all numbers: equal only for equal ones.
    pub fn content_hash(&self) -> String {
        match self {
            Self::Prefix(artefact) => artefact.rows.content_hash(),
            Self::Tensors(artefact) => artefact.kind.content_hash(&artefact.tensors),
        }
    }

    /// Numbers in the folder.
    pub fn n_number(&self) -> usize {
        match self {
            Self::Prefix(artefact) => artefact.rows.values.len(),
            Self::Tensors(artefact) => artefact.tensors.values().map(|(_, values)| values.len()).sum(),
        }
    }

    /// Positions of a stack of the model that its rows take.
    pub fn n_position(&self, spec: &ModelSpec, stack: Stack) -> usize {
        match (self, stack) {
            (Self::Prefix(artefact), Stack::Decoder) => artefact.rows.prefix_len,
            (Self::Tensors(TensorArtefact { kind: Kind::PlacedPrefix(prefix), .. }), Stack::Decoder) => {
                prefix.places.first_position()
            }
            (
                Self::Tensors(TensorArtefact { kind: Kind::PromptTuning(soft) | Kind::Infix(soft), .. }),
                stack,
            ) => soft.n_position(spec, stack),
            _ => 0,
        }
    }

    /// Checks that it belongs to the model with this fingerprint, as [`Artefact::check_base`].
    ///
    /// # Errors
    /// As there.
    pub fn check_base(
        &self,
        model: &str,
        given: &Fingerprint,
        allowed: OtherWeights,
    ) -> Result<Option<Warning>, ArtefactError> {
        match self {
            Self::Prefix(artefact) => artefact.check_base(model, given, allowed),
            Self::Tensors(TensorArtefact { path, description, .. }) => {
                super::check_base(path, description.as_ref(), model, given, allowed)
            }
        }
    }

    /// The method that attaches it to `model` (`name` is for messages).
    ///
    /// # Errors
    /// Tensors that are missing, have other shapes than the model needs, or no place in it.
    pub fn method<B: Backend>(
        &self,
        name: &str,
        model: &Model<B>,
    ) -> Result<Box<dyn Method<B>>, ArtefactError> {
        let spec = model.spec();
        match self {
            Self::Prefix(artefact) => {
                artefact.check_shape(name, spec)?;
                let rows = artefact.rows.clone();
                let prefix = Prefix::from_rows(spec, rows, Reparametrisation::Direct, 0, 0)
                    .expect("rows that are all trained");
                Ok(Box::new(prefix))
            }
            Self::Tensors(artefact) => artefact.method(name, model),
        }
    }
}

impl Kind {
    fn method_name(&self) -> &'static str {
        match self {
            Self::PlacedPrefix(_) => manifest::PREFIX,
            Self::Lora(_) => "lora",
            Self::PromptTuning(_) => "prompt-tuning",
            Self::Infix(_) => "infix",
            Self::Adapter { .. } => "adapter",
            Self::Weights(Tuned::All) => FINE_TUNE,
            Self::Weights(Tuned::Top(_)) => "top-layers",
        }
    }

    /// Hash of all numbers, and of what decides where the text behind them stands.
    pub(super) fn content_hash(&self, tensors: &Tensors) -> String {
        match self {
            Self::PlacedPrefix(prefix) => hash(tensors, prefix.places.hashed()),
            _ => hash(tensors, ""),
        }
    }
}

/// Options of PEFT's LoRA that change what it computes, with the values that leave it as it is.
fn refuse_variants(path: &Path, config: &Value) -> Result<(), ArtefactError> {
    let neutral = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text == "none",
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    const VARIANTS: [&str; 12] = [
        "bias",
        "use_dora",
        "use_rslora",
        "use_qalora",
        "use_bdlora",
        "lora_bias",
        "rank_pattern",
        "alpha_pattern",
        "modules_to_save",
        "layers_to_transform",
        "layer_replication",
        "target_parameters",
    ];
    match VARIANTS.into_iter().find(|key| !neutral(&config[*key])) {
        Some(key) => Err(ArtefactError::Unsupported {
            path: path.into(),
            key: key.into(),
            got: config[key].to_string(),
        }),
        None => Ok(()),
    }
}

/// A size in the config.
pub(super) fn number(path: &Path, config: &Value, key: &'static str) -> Result<usize, ArtefactError> {
    const LARGEST: u64 = 1_000_000;
    match config[key].as_u64() {
        Some(n) if (1..=LARGEST).contains(&n) => Ok(n as usize),
        _ => Err(ArtefactError::WrongValue {
            path: path.into(),
            key,
            got: config[key].to_string(),
            want: "between 1 and 1000000",
        }),
    }
}

impl TensorArtefact {
    fn open(
        folder: &Path,
        file: &'static str,
        kind: Kind,
        base_model: Option<String>,
    ) -> Result<Self, ArtefactError> {
        let file = super::existing(folder, file)?;
        let tensors = read_tensors(&file, kind == Kind::Weights(Tuned::All))?;
        Self::described(folder, file, kind, tensors, base_model)
    }

    /// The prefix of an encoder-decoder; `config` is adapter_config.json, where that is PEFT's.
    fn open_placed(
        folder: &Path,
        config: Option<&AdapterConfig>,
        base_model: Option<String>,
    ) -> Result<Self, ArtefactError> {
        let file = super::existing(folder, TENSORS)?;
        let tensors = read_tensors(&file, false)?;
        let kind = Kind::PlacedPrefix(PlacedPrefixFiles::read(&file, &tensors, config)?);
        Self::described(folder, file, kind, tensors, base_model)
    }

    fn described(
        folder: &Path,
        file: PathBuf,
        kind: Kind,
        tensors: Tensors,
        base_model: Option<String>,
    ) -> Result<Self, ArtefactError> {
        let path = folder.join(MANIFEST);
        let read = || manifest::read(&path, kind.method_name(), kind.content_hash(&tensors));
        let description = path.exists().then(read).transpose()?;
        Ok(Self { path: folder.into(), file, kind, tensors, description, base_model })
    }

    fn method<B: Backend>(&self, name: &str, model: &Model<B>) -> Result<Box<dyn Method<B>>, ArtefactError> {
        let spec = model.spec();
        let reader = Reader { artefact: self, model: name, used: Vec::new(), failed: None };
        let config = self.path.join(CONFIG);
        let settings = |reason: String| ArtefactError::Settings { path: config.clone(), reason };
        match &self.kind {
            Kind::PlacedPrefix(prefix) => {
                Task::Seq2Seq.check(&config, name, spec.encoder.is_some())?;
                let mut reader = reader;
                let rows = prefix.rows(name, spec, |tensor, shape| reader.take(tensor, shape));
                let rows = rows.map_err(settings)?;
                reader.finish()?;
                Ok(Box::new(PlacedPrefix::from_rows(spec, rows)))
            }
            Kind::PromptTuning(soft) => {
                soft.check(&config, name, spec)?;
                let mut reader = reader;
                let mut rows = reader.take(PROMPT_EMBEDDINGS, &[soft.n_stored(), spec.d_model]);
                reader.finish()?;
                rows.truncate(soft.len * spec.d_model);
                Ok(Box::new(PromptTuning::from_rows(spec, rows, None, 0)))
            }
            Kind::Infix(soft) => {
                soft.check(&config, name, spec)?;
                let mut reader = reader;
                let embeddings = reader.take(INFIX_EMBEDDINGS, &[soft.len, spec.d_model]);
                let added = reader.take(INFIX_KEY_VALUES, &[soft.len, spec.row_width(spec.prompt_place())]);
                reader.finish()?;
                Ok(Box::new(Infix::from_rows(spec, embeddings, added)))
            }
            Kind::Lora(config) => {
                let mut reader = reader;
                let r = config.r;
                let lora = Lora::assemble(spec, config.clone(), |module| {
                    let tensor = |part: &str| format!("{PEFT_PREFIX}{}.{part}.weight", module.name);
                    let down = reader.take(&tensor("lora_A"), &[r, module.n_in]);
                    (down, reader.take(&tensor("lora_B"), &[module.rows.len(), r]))
                });
                let lora = lora.map_err(|error| settings(error.to_string()))?;
                reader.finish()?;
                Ok(Box::new(lora))
            }
            Kind::Adapter { width } => {
                let mut reader = reader;
                let mut adapter = Adapter::new(spec, *width, ModelDropout::default(), 0);
                let parameters = Method::<B>::parameters_mut(&mut adapter);
                for part in 0..parameters.ranges().len() {
                    let range = parameters.ranges()[part].clone();
                    parameters.part_mut(part).copy_from_slice(&reader.take(&range.name, &range.shape));
                }
                reader.finish()?;
                Ok(Box::new(adapter))
            }
            Kind::Weights(tuned) => {
                let mut reader = reader;
                // Those of the model stand in it already.
                reader.used.extend(spec.constant_tensors());
                reader.used.extend(spec.embedding_copies());
                let weights = FineTune::assemble(model, *tuned, ModelDropout::default(), |shape| {
                    reader.module(spec, shape)
                });
                let weights = weights.map_err(|error| settings(error.to_string()))?;
                reader.finish()?;
                Ok(Box::new(weights))
            }
        }
    }
}

/// A whole model may bar tokens by a bias of minus infinity; what was trained is finite.
fn read_tensors(file: &Path, is_model: bool) -> Result<Tensors, ArtefactError> {
    let is_wrong = |value: &f32| value.is_nan() || value.is_infinite() && !is_model;
    let source = SafetensorsFile::open(file)?;
    let mut tensors = Tensors::new();
    for name in source.names() {
        let tensor = source.read(name)?;
        let (shape, values) = (tensor.info().shape().to_vec(), tensor.to_f32());
        if let Some(&value) = values.iter().find(|value| is_wrong(value)) {
            return Err(ArtefactError::TensorNotFinite { path: file.into(), name: name.into(), value });
        }
        tensors.insert(name.into(), (shape, values));
    }
    Ok(tensors)
}

/// Takes tensors out of a folder and notes what does not fit; the first error is told at the end, so that a method can be
/// assembled without errors of its own.
struct Reader<'a> {
    artefact: &'a TensorArtefact,
    model: &'a str,
    used: Vec<String>,
    failed: Option<ArtefactError>,
}

impl Reader<'_> {
    fn take(&mut self, name: &str, want: &[usize]) -> Vec<f32> {
        let (path, model) = (self.artefact.file.clone(), self.model.to_owned());
        self.used.push(name.into());
        let error = match self.artefact.tensors.get(name) {
            Some((shape, values)) if shape == want => return values.clone(),
            Some((shape, _)) => ArtefactError::TensorShape {
                path,
                name: name.into(),
                got: shape.clone(),
                want: want.into(),
                model,
            },
            None => ArtefactError::MissingTensor { path, name: name.into(), model },
        };
        self.failed.get_or_insert(error);
        vec![0.0; want.iter().product()]
    }

    /// A module's weight and bias from the tensors that it is in `transformers`.
    fn module(&mut self, spec: &ModelSpec, shape: &ParameterShape) -> (Vec<f32>, Option<Vec<f32>>) {
        let [_, n_in] = shape.weight;
        let is_vector = shape.site.is_norm();
        let (mut weight, mut bias) = (Vec::with_capacity(shape.n_weight()), Vec::new());
        for part in spec.hugging_face_parts(shape.site) {
            let (name, n_row) = (format!("{}.weight", part.module), part.rows.len());
            match (is_vector, part.transposed) {
                (true, _) => weight.extend(self.take(&name, &[n_row])),
                (false, false) => weight.extend(self.take(&name, &[n_row, n_in])),
                (false, true) => weight.extend(transposed(&self.take(&name, &[n_in, n_row]), n_row)),
            }
            if shape.bias.is_some() {
                bias.extend(self.take(&format!("{}.bias", part.module), &[n_row]));
            }
        }
        (weight, shape.bias.map(|_| bias))
    }

    fn finish(self) -> Result<(), ArtefactError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let unused: Vec<&str> = self
            .artefact
            .tensors
            .keys()
            .map(String::as_str)
            .filter(|name| !self.used.iter().any(|used| used == name))
            .collect();
        match unused.is_empty() {
            true => Ok(()),
            false => Err(ArtefactError::NoPlace {
                path: self.artefact.file.clone(),
                tensors: unused.join(", "),
                model: self.model.into(),
            }),
        }
    }
}

/// `[n_row, n_column]` from `[n_column, n_row]` and back.
pub(super) fn transposed(values: &[f32], n_column: usize) -> impl Iterator<Item = f32> {
    (0..n_column).flat_map(move |column| values[column..].iter().step_by(n_column).copied())
}

/// SHA-256 of all names, shapes and values, and of some text.
fn hash(tensors: &Tensors, text: &str) -> String {
    let mut hash = Sha256::new();
    for (name, (shape, values)) in tensors {
        hash.update(name.as_bytes());
        for size in shape {
            hash.update((*size as u64).to_le_bytes());
        }
        for value in values {
            hash.update(value.to_le_bytes());
        }
    }
    hash.update(text);
    hash.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
        hex
    })
}

/// The files of a model folder beside its weights, by name: what fine-tuning copies.
#[derive(Clone, Debug, Default)]
pub struct ModelFolder {
    /// `config.json`.
    pub config: Vec<u8>,
    /// The tokenizer's files, `generation_config.json` and the like.
    pub others: Vec<(String, Vec<u8>)>,
    /// Tensors that nothing trains.
    pub constants: Vec<NamedTensor>,
}

/// Writes the folder of what was trained on a model of this shape. `model` is needed for fine-tuning alone.
///
/// # Errors
/// As [`super::write`].
///
/// # Panics
/// If all weights were trained and there is no `model`.
pub fn write_trained(
    folder: &Path,
    trained: &Trained,
    spec: &ModelSpec,
    description: &Description,
    model: Option<&ModelFolder>,
) -> Result<String, ArtefactError> {
    let base_model = description.base_model.as_deref().and_then(public_name);
    let form = match trained {
        Trained::Prefix(rows) => {
            super::write(folder, rows, description)?;
            return Ok(rows.content_hash());
        }
        Trained::PlacedPrefix(rows) => Form::placed_prefix(rows, spec, base_model),
        Trained::PromptTuning(prompt) => Form::prompt_tuning(prompt, spec, base_model),
        Trained::Infix(infix) => Form::infix(infix, spec, base_model),
        Trained::Lora(lora) => Form::lora(lora, spec, base_model),
        Trained::Adapter(adapter) => Form::adapter(adapter, spec, base_model),
        Trained::Weights(weights) => Form::weights(weights, spec, base_model),
    };
    let Form { kind, mut tensors, config, subject } = form;
    let is_model = kind == Kind::Weights(Tuned::All);
    let name = if is_model { MODEL } else { TENSORS };
    for (tensor, (_, values)) in &tensors {
        if let Some(&value) = values.iter().find(|value| !value.is_finite()) {
            return Err(ArtefactError::TensorNotFinite {
                path: folder.join(name),
                name: tensor.clone(),
                value,
            });
        }
    }
    // What nothing trains may hold anything: a bias of minus infinity bars a token.
    let constants = model.filter(|_| is_model).into_iter().flat_map(|model| model.constants.clone());
    tensors.extend(constants.map(|(name, shape, values)| (name, (shape, values))));
    let description = Description { base_model: base_model.map(Into::into), ..description.clone() };
    let content_hash = kind.content_hash(&tensors);
    let places = if let Kind::PlacedPrefix(prefix) = &kind { Some(prefix.places.clone()) } else { None };
    let mut files: Vec<(&str, Vec<u8>)> = vec![
        (name, bytes(tensors)),
        (MANIFEST, manifest::write(kind.method_name(), content_hash.clone(), places, &description)),
        (CARD, card::write(&subject, &description)),
    ];
    match model.filter(|_| is_model) {
        Some(model) => {
            files.push((MODEL_CONFIG, in_f32(&folder.join(MODEL_CONFIG), &model.config)?));
            files.extend(model.others.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())));
        }
        None => {
            assert!(!is_model, "a fine-tuned model needs its config");
            files.push((CONFIG, config));
        }
    }
    replace_files(folder, &files)?;
    Ok(content_hash)
}

/// The config of a model whose weights are now stored in `f32`.
fn in_f32(path: &Path, config: &[u8]) -> Result<Vec<u8>, ArtefactError> {
    let json = |source| ArtefactError::Json { path: path.into(), source };
    let mut value: Value = serde_json::from_slice(config).map_err(json)?;
    if let Some(config) = value.as_object_mut() {
        let key = if config.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
        config.insert(key.into(), "float32".into());
    }
    Ok(to_bytes(&value))
}

fn bytes(tensors: Tensors) -> Vec<u8> {
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, (shape, values))| {
            (name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("values of that shape");
        (name.as_str(), view)
    });
    let note = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    serialize(views, Some(note)).expect("tensors of valid shapes")
}

//! Reader of the golden files: `tests/golden/NAME/case.safetensors` with `case.json` beside it, as the `make.py` of that folder wrote them.
//!
//! These are our own files, so anything wrong with one is a fault of the repository: the errors say which command makes it again.

use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// What can be wrong with a golden file.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// A file is absent or cannot be read.
    #[error("{source}\n  make the golden files of this case with: cargo xtask golden {name}")]
    Missing {
        /// The case.
        name: String,
        /// What the system said, with the path.
        source: std::io::Error,
    },
    /// A file is not what `make.py` writes.
    #[error("{path}: {reason}\n  make it again with: cargo xtask golden {name}")]
    Malformed {
        /// The case.
        name: String,
        /// The file.
        path: PathBuf,
        /// What was expected or what the parser said.
        reason: String,
    },
    /// There is no tensor of that name.
    #[error("golden case {name} has no tensor `{tensor}`; it has: {has}")]
    NoTensor {
        /// The case.
        name: String,
        /// The name asked for.
        tensor: String,
        /// The names there are.
        has: String,
    },
}

/// A tensor of a golden file, its values as f32 whatever they are stored in.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub data: Vec<f32>,
}

impl Tensor {
    /// Row `index` of the outermost dimension.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, index: usize) -> &[f32] {
        let width: usize = self.shape[1..].iter().product();
        &self.data[index * width..(index + 1) * width]
    }
}

/// Token ids of a prompt and of its completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What carries no loss.
    pub prompt: Vec<u32>,
    /// What is learned.
    pub completion: Vec<u32>,
}

/// `tests/golden` of this repository.
pub fn golden_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

/// A golden case: metadata and tensors.
#[derive(Debug)]
pub struct Golden {
    name: String,
    folder: PathBuf,
    meta: Value,
    tensors: Vec<(String, Tensor)>,
}

impl Golden {
    /// Reads `tests/golden/NAME/case.json` and, where it lies beside it, `case.safetensors`.
    ///
    /// # Errors
    /// [`GoldenError::Missing`] without a `case.json`, [`GoldenError::Malformed`] if a file does not parse.
    pub fn open(name: &str) -> Result<Self, GoldenError> {
        Self::open_in(&golden_folder(), name)
    }

    fn open_in(root: &Path, name: &str) -> Result<Self, GoldenError> {
        let folder = root.join(name);
        let json = folder.join("case.json");
        let malformed = |path: &Path, reason: String| GoldenError::Malformed {
            name: name.into(),
            path: path.into(),
            reason,
        };
        let missing = |source| GoldenError::Missing { name: name.into(), source };
        let text = fs_err::read_to_string(&json).map_err(missing)?;
        let meta: Value = serde_json::from_str(&text).map_err(|e| malformed(&json, e.to_string()))?;
        let path = folder.join("case.safetensors");
        let tensors = if path.exists() {
            let bytes = fs_err::read(&path).map_err(missing)?;
            read_tensors(&bytes).map_err(|reason| malformed(&path, reason))?
        } else {
            Vec::new()
        };
        Ok(Self { name: name.into(), folder, meta, tensors })
    }

    /// The folder of the case, for the other files that lie there, such as `model/`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All of `case.json`.
    pub fn meta(&self) -> &Value {
        &self.meta
    }

    /// A value of `case.json` by JSON pointer, such as `/losses/prefix.token_mean`.
    ///
    /// # Errors
    /// [`GoldenError::Malformed`] if there is none.
    pub fn value(&self, pointer: &str) -> Result<&Value, GoldenError> {
        self.meta.pointer(pointer).ok_or_else(|| self.malformed(format!("nothing at {pointer}")))
    }

    /// A number of `case.json` by JSON pointer.
    ///
    /// # Errors
    /// [`GoldenError::Malformed`] if there is none.
    pub fn number(&self, pointer: &str) -> Result<f64, GoldenError> {
        let value = self.value(pointer)?;
        value.as_f64().ok_or_else(|| self.malformed(format!("{pointer} is {value}, not a number")))
    }

    /// A list of numbers of `case.json` by JSON pointer, such as `/models/tiny_llama/runs/mlp/loss`.
    ///
    /// # Errors
    /// [`GoldenError::Malformed`] if there is none.
    pub fn numbers(&self, pointer: &str) -> Result<Vec<f64>, GoldenError> {
        let value = self.value(pointer)?;
        value
            .as_array()
            .and_then(|list| list.iter().map(Value::as_f64).collect())
            .ok_or_else(|| self.malformed(format!("{pointer} is not a list of numbers")))
    }

    /// A list of token ids of `case.json` by JSON pointer, such as `/pairs/0/prompt`.
    ///
    /// # Errors
    /// [`GoldenError::Malformed`] if there is none.
    pub fn token_ids(&self, pointer: &str) -> Result<Vec<u32>, GoldenError> {
        let value = self.value(pointer)?;
        value
            .as_array()
            .and_then(|list| list.iter().map(|v| v.as_u64().and_then(|id| u32::try_from(id).ok())).collect())
            .ok_or_else(|| self.malformed(format!("{pointer} is not a list of token ids")))
    }

    /// A list of `{"prompt": ids, "completion": ids}` of `case.json` by JSON pointer, such as `/pairs`.
    ///
    /// # Errors
    /// [`GoldenError::Malformed`] if there is none.
    pub fn pairs(&self, pointer: &str) -> Result<Vec<Pair>, GoldenError> {
        let list = self.value(pointer)?.as_array();
        let count = list.ok_or_else(|| self.malformed(format!("{pointer} is not a list")))?.len();
        let side = |i: usize, key: &str| self.token_ids(&format!("{pointer}/{i}/{key}"));
        (0..count)
            .map(|i| Ok(Pair { prompt: side(i, "prompt")?, completion: side(i, "completion")? }))
            .collect()
    }

    /// A tensor by name.
    ///
    /// # Errors
    /// [`GoldenError::NoTensor`], which lists the names there are.
    pub fn tensor(&self, name: &str) -> Result<&Tensor, GoldenError> {
        let found = self.tensors.iter().find(|(has, _)| has == name);
        found.map(|(_, tensor)| tensor).ok_or_else(|| GoldenError::NoTensor {
            name: self.name.clone(),
            tensor: name.into(),
            has: self.tensors.iter().map(|(has, _)| has.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// Names of all tensors, sorted.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|(name, _)| name.as_str())
    }

    fn malformed(&self, reason: String) -> GoldenError {
        GoldenError::Malformed { name: self.name.clone(), path: self.folder.join("case.json"), reason }
    }
}

fn read_tensors(bytes: &[u8]) -> Result<Vec<(String, Tensor)>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let mut tensors = Vec::new();
    for (name, view) in file.tensors() {
        let raw = view.data();
        let data = match view.dtype() {
            Dtype::F32 => raw.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            Dtype::F16 => raw.as_chunks::<2>().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
            Dtype::BF16 => raw.as_chunks::<2>().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
            other => return Err(format!("tensor `{name}` is {other:?}, expected F32, F16 or BF16")),
        };
        tensors.push((name, Tensor { shape: view.shape().to_vec(), data }));
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_case_names_the_command_that_makes_it() {
        let error = Golden::open("no_such_case").expect_err("there is no such case").to_string();
        assert!(error.contains("cargo xtask golden no_such_case") && error.contains("case.json"), "{error}");
    }

    #[test]
    fn files_that_do_not_parse_are_named() {
        let root = tempfile::tempdir().unwrap();
        let case = root.path().join("broken");
        fs_err::create_dir_all(&case).unwrap();
        fs_err::write(case.join("case.json"), "{").unwrap();
        let error = Golden::open_in(root.path(), "broken").expect_err("half an object").to_string();
        assert!(error.contains("case.json") && error.contains("cargo xtask golden broken"), "{error}");
        fs_err::write(case.join("case.json"), "{}").unwrap();
        fs_err::write(case.join("case.safetensors"), b"short").unwrap();
        let error = Golden::open_in(root.path(), "broken").expect_err("not safetensors").to_string();
        assert!(error.contains("case.safetensors"), "{error}");
    }

    #[test]
    fn shapes_of_the_tiny_llama_case_agree_with_its_metadata() {
        let golden = Golden::open("tiny_llama").unwrap();
        let count = |key: &str| golden.number(key).unwrap() as usize;
        let width = 2 * count("/n_layer") * count("/n_kv_head") * count("/head_dim");
        let rows = golden.tensor("prompt_embeddings").unwrap();
        assert_eq!(rows.shape, [count("/prefix_len"), width]);
        assert_eq!(rows.data.len(), count("/prefix_len") * width);
        assert_eq!(rows.row(1), &rows.data[width..2 * width]);
        for (i, pair) in golden.pairs("/pairs").unwrap().iter().enumerate() {
            let logits = golden.tensor(&format!("logits.prefix.{i}")).unwrap();
            assert_eq!(logits.shape, [pair.prompt.len() + pair.completion.len(), 97]);
        }
        let error = golden.tensor("logits").expect_err("no tensor of that name").to_string();
        assert!(error.contains("grad.token_mean"), "{error}");
        assert!(golden.number("/pairs").is_err() && golden.token_ids("/losses").is_err());
    }

    #[test]
    fn half_precisions_are_read_as_the_values_they_hold() {
        let bytes = fs_err::read(golden_folder().join("tiny_llama_bf16/model/model.safetensors")).unwrap();
        let tensors = read_tensors(&bytes).unwrap();
        let norm = &tensors.iter().find(|(name, _)| name == "model.norm.weight").unwrap().1;
        assert_eq!(norm.shape, [32]);
        assert!(norm.data.iter().all(|&v| bf16::from_f32(v).to_f32() == v && (v - 1.0).abs() < 2.0));
        assert!(norm.data.iter().any(|&v| v != 1.0));
    }
}

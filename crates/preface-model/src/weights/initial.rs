//! Weights of a model that nobody has trained: each tensor is drawn when it is asked for.
//!
//! A tensor is a function of the seed and its name, so the order of reading changes nothing, and a run that is resumed draws
//! what it began with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use sha2::{Digest, Sha256};

use super::{Dtype, StoredTensor, TensorInfo, TensorSource, WeightsError};

/// The largest tensor that is believed, in elements: a config is not trusted with more memory.
const MOST: u64 = 1 << 29;

/// How a tensor starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Start {
    /// The same everywhere.
    Constant(f32),
    /// Normally distributed about zero.
    Normal {
        /// Standard deviation.
        std: f64,
        /// A row of zeros: that of the token which fills up.
        zero_row: Option<usize>,
    },
}

/// See the module.
#[derive(Debug)]
pub struct InitialWeights {
    path: PathBuf,
    seed: u64,
    tensors: BTreeMap<String, (TensorInfo, Start)>,
}

impl InitialWeights {
    /// Tensors of these names, shapes and starts; `path` is for messages.
    pub(crate) fn new(
        path: &Path,
        seed: u64,
        tensors: Vec<(String, Vec<usize>, Start)>,
    ) -> Result<Self, WeightsError> {
        let described = tensors.into_iter().map(|(name, shape, start)| {
            let sizes: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
            let n_element = sizes.iter().try_fold(1u64, |product, &n| product.checked_mul(n));
            if n_element.is_none_or(|n| n > MOST) {
                let (path, dtype) = (path.to_path_buf(), Dtype::F32);
                return Err(WeightsError::SizeOverflow { path, name, shape: sizes, dtype });
            }
            let info = TensorInfo::new(path, name.clone(), &sizes, Dtype::F32)?;
            Ok((name, (info, start)))
        });
        Ok(Self { path: path.into(), seed, tensors: described.collect::<Result<_, _>>()? })
    }
}

impl TensorSource for InitialWeights {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|(info, _)| info)
    }

    fn read(&self, name: &str) -> Result<StoredTensor, WeightsError> {
        let Some((info, start)) = self.tensors.get(name) else {
            return Err(WeightsError::MissingTensor { path: self.path.clone(), name: name.into() });
        };
        let n: usize = info.shape().iter().product();
        let values: Vec<f32> = match *start {
            Start::Constant(value) => vec![value; n],
            Start::Normal { std, zero_row } => {
                let digest = Sha256::digest(name.as_bytes());
                let of_name = u64::from_le_bytes(digest[..8].try_into().expect("eight of 32 bytes"));
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ of_name);
                let mut draw = || -> f64 { StandardNormal.sample(&mut rng) };
                let mut values: Vec<f32> = (0..n).map(|_| (std * draw()) as f32).collect();
                let row_len = info.row_len();
                if let Some(row) = zero_row.and_then(|row| values.chunks_exact_mut(row_len).nth(row)) {
                    row.fill(0.0);
                }
                values
            }
        };
        let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
        Ok(StoredTensor::new(info.clone(), bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(seed: u64) -> InitialWeights {
        let normal = Start::Normal { std: 0.5, zero_row: Some(1) };
        let tensors = vec![
            ("a".into(), vec![100, 200], normal),
            ("b".into(), vec![100, 200], normal),
            ("one".into(), vec![7], Start::Constant(1.0)),
        ];
        InitialWeights::new(Path::new("test"), seed, tensors).unwrap()
    }

    #[test]
    fn a_tensor_is_a_function_of_seed_and_name() {
        let read = |seed, name| weights(seed).read(name).unwrap().to_f32();
        assert_eq!(read(1, "a"), read(1, "a"));
        assert_ne!(read(1, "a"), read(2, "a"));
        assert_ne!(read(1, "a"), read(1, "b"));
        assert_eq!(read(1, "one"), [1.0; 7]);
    }

    #[test]
    fn moments_are_those_asked_for_and_the_named_row_is_zero() {
        let values = weights(3).read("a").unwrap().to_f32();
        let variance = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        assert!((variance.sqrt() - 0.5).abs() < 0.01, "{variance}");
        assert!(values[200..400].iter().all(|v| *v == 0.0) && values[0] != 0.0);
    }

    #[test]
    fn a_tensor_larger_than_any_memory_is_refused() {
        for shape in [vec![1 << 40, 1 << 40], vec![1 << 31]] {
            let tensors = vec![("a".into(), shape, Start::Constant(0.0))];
            let error = InitialWeights::new(Path::new("test"), 0, tensors).unwrap_err();
            assert!(matches!(error, WeightsError::SizeOverflow { .. }), "{error}");
        }
    }
}

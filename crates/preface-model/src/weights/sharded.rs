//! A model split over several safetensors files: `model.safetensors.index.json` maps each tensor's name to its file.
//!
//! The index decides; a tensor that a shard holds beside those the index names is not seen.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::weights::bytes::ByteSource;
use crate::weights::json::Pairs;
use crate::weights::safetensors::HEADER_CAP;
use crate::weights::{SafetensorsFile, StoredTensor, TensorInfo, TensorSource, WeightsError};

/// All shards of a model, open.
#[derive(Debug)]
pub struct ShardedSafetensors {
    index_path: PathBuf,
    shards: Vec<SafetensorsFile>,
    /// Names in the order of the index.
    names: Vec<String>,
    shard_of: HashMap<String, usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: Pairs<String>,
}

impl ShardedSafetensors {
    /// Opens the index and every shard that it names.
    ///
    /// # Errors
    /// A malformed index, a shard that is absent or lies elsewhere, a tensor that its shard lacks, and every error of
    /// [`SafetensorsFile::open`].
    pub fn open(index_path: &Path) -> Result<Self, WeightsError> {
        let source = ByteSource::open(index_path)?;
        if source.len() > HEADER_CAP {
            let path = index_path.to_path_buf();
            return Err(WeightsError::HeaderTooLarge { path, bytes: source.len(), cap: HEADER_CAP });
        }
        let json = source.read("the index", 0, source.len())?;
        let index: Index = serde_json::from_slice(&json)
            .map_err(|error| WeightsError::Json { path: index_path.to_path_buf(), source: error })?;

        let mut sharded =
            Self { index_path: index_path.into(), shards: vec![], names: vec![], shard_of: HashMap::new() };
        let mut opened: HashMap<String, usize> = HashMap::new();
        for (name, shard) in index.weight_map.0 {
            let at = match opened.get(&shard) {
                Some(&at) => at,
                None => {
                    sharded.shards.push(open_shard(index_path, &shard)?);
                    opened.insert(shard.clone(), sharded.shards.len() - 1);
                    sharded.shards.len() - 1
                }
            };
            if sharded.shards[at].info(&name).is_none() {
                return Err(WeightsError::ShardLacksTensor { index: index_path.into(), shard, name });
            }
            if sharded.shard_of.insert(name.clone(), at).is_some() {
                return Err(WeightsError::DuplicateTensor { path: index_path.into(), name });
            }
            sharded.names.push(name);
        }
        Ok(sharded)
    }
}

/// Opens a shard that lies beside the index. The name comes from a downloaded file: it must not lead anywhere else.
fn open_shard(index_path: &Path, shard: &str) -> Result<SafetensorsFile, WeightsError> {
    let mut components = Path::new(shard).components();
    let (Some(Component::Normal(file_name)), None) = (components.next(), components.next()) else {
        return Err(WeightsError::ShardOutsideFolder { index: index_path.into(), shard: shard.into() });
    };
    let path = index_path.with_file_name(file_name);
    if !path.exists() {
        return Err(WeightsError::MissingShard { index: index_path.into(), shard: shard.into() });
    }
    SafetensorsFile::open(&path)
}

impl TensorSource for ShardedSafetensors {
    fn path(&self) -> &Path {
        &self.index_path
    }
    fn names(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }
    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.shards[*self.shard_of.get(name)?].info(name)
    }
    fn read(&self, name: &str) -> Result<StoredTensor, WeightsError> {
        match self.shard_of.get(name) {
            Some(&shard) => self.shards[shard].read(name),
            None => Err(WeightsError::MissingTensor { path: self.index_path.clone(), name: name.into() }),
        }
    }
}

#[cfg(test)]
mod tests;

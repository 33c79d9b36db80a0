//! The tensors of one file and where their bytes lie.
//!
//! A file of weights is believed only when its tensors cover its data exactly: no tensor reaches outside, no two share a
//! byte, nothing lies between them (but the padding that the format prescribes) and nothing after. What is not covered
//! could hide anything, and what is covered twice is a mistake of the writer.

use std::collections::HashMap;
use std::path::Path;

use crate::weights::bytes::ByteSource;
use crate::weights::{StoredTensor, TensorInfo, WeightsError};

/// One tensor and its first byte, counted from the start of the data.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) info: TensorInfo,
    pub(crate) begin: u64,
}

impl Entry {
    /// One past the last byte. Saturates: a begin so large lies outside every file anyway.
    fn end(&self) -> u64 {
        self.begin.saturating_add(self.info.n_bytes() as u64)
    }
}

/// The validated list of a file's tensors, in the order of the file's own list.
#[derive(Debug)]
pub(crate) struct Directory {
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
    data_start: u64,
}

impl Directory {
    /// Checks that `entries` cover the bytes from `data_start` to the end of the file, each beginning at a multiple of
    /// `alignment` (a power of two).
    pub(crate) fn new(
        source: &ByteSource,
        data_start: u64,
        alignment: u64,
        entries: Vec<Entry>,
    ) -> Result<Self, WeightsError> {
        let path = source.path();
        let mut index = HashMap::with_capacity(entries.len());
        for (i, entry) in entries.iter().enumerate() {
            if index.insert(entry.info.name().to_owned(), i).is_some() {
                return Err(WeightsError::DuplicateTensor {
                    path: path.into(),
                    name: entry.info.name().into(),
                });
            }
        }
        check_cover(path, source.len().saturating_sub(data_start), alignment, &entries)?;
        Ok(Self { entries, index, data_start })
    }

    /// Names in the file's order.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.entries.iter().map(|entry| entry.info.name()).collect()
    }

    /// What is known of one tensor.
    pub(crate) fn info(&self, name: &str) -> Option<&TensorInfo> {
        Some(&self.entries[*self.index.get(name)?].info)
    }

    /// Reads one tensor's bytes.
    pub(crate) fn read(&self, source: &ByteSource, name: &str) -> Result<StoredTensor, WeightsError> {
        let path = || source.path().to_path_buf();
        let Some(&i) = self.index.get(name) else {
            return Err(WeightsError::MissingTensor { path: path(), name: name.into() });
        };
        let Entry { info, begin } = &self.entries[i];
        if !info.dtype().is_decodable() {
            return Err(WeightsError::NotAWeight { path: path(), name: name.into(), dtype: info.dtype() });
        }
        let bytes = source.read("a tensor", self.data_start + begin, info.n_bytes() as u64)?;
        Ok(StoredTensor::new(info.clone(), bytes))
    }
}

/// The checks that the module's head names, in the order of how much they explain.
fn check_cover(path: &Path, data_len: u64, alignment: u64, entries: &[Entry]) -> Result<(), WeightsError> {
    let name = |entry: &Entry| entry.info.name().to_owned();
    for entry in entries {
        if entry.end() > data_len {
            let (begin, end) = (entry.begin, entry.end());
            return Err(WeightsError::OutsideFile {
                path: path.into(),
                name: name(entry),
                begin,
                end,
                data_len,
            });
        }
        if !entry.begin.is_multiple_of(alignment) {
            let offset = entry.begin;
            return Err(WeightsError::Misaligned { path: path.into(), name: name(entry), offset, alignment });
        }
    }
    let mut in_order: Vec<&Entry> = entries.iter().collect();
    in_order.sort_by_key(|entry| (entry.begin, entry.end()));
    let mut previous_end = 0;
    for entry in in_order {
        let begin = entry.begin;
        if begin < previous_end {
            return Err(WeightsError::Overlap { path: path.into(), name: name(entry), begin, previous_end });
        }
        if begin > previous_end {
            return Err(WeightsError::Gap { path: path.into(), name: name(entry), begin, previous_end });
        }
        // Within the file's length, hence no overflow: the alignment is far below 2^63.
        previous_end = entry.end().next_multiple_of(alignment);
    }
    if data_len > previous_end {
        return Err(WeightsError::Tail { path: path.into(), bytes: data_len - previous_end });
    }
    Ok(())
}

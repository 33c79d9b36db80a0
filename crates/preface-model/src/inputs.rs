//! Inputs of a layer, kept from epoch to epoch.
//!
//! Where nothing below a layer is trained, its input is a function of the text alone: fine-tuning of the top layers, or
//! a decoder that is trained behind a frozen encoder, whose output is the input of every cross-attention. It is computed
//! once for each text and then read.
//!
//! What is used is always what would be kept, rounded to how it is kept, and always computed from the text alone: so a
//! result depends neither on what the cache happens to hold nor on which texts came together, and a resumed run equals
//! the unbroken one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use half::bf16;

use crate::Stack;

/// What an input depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TextKey {
    /// Whose blocks.
    pub stack: Stack,
    /// Blocks that the text has run through.
    pub layer: usize,
    pub tokens: Vec<u32>,
}

/// How numbers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputStorage {
    /// As they were computed.
    F32,
    /// Rounded.
    Bf16,
}

/// A bounded store. When it is full, what is not in it is computed every time.
pub(crate) struct InputCache {
    storage: InputStorage,
    max_bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    texts: HashMap<TextKey, Arc<Rows>>,
    bytes: usize,
}

enum Rows {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

impl InputCache {
    pub fn new(storage: InputStorage, max_bytes: usize) -> Self {
        Self { storage, max_bytes, kept: Mutex::default() }
    }

    /// The rows of a text, computed if they are not kept.
    pub fn rows(&self, key: &TextKey, compute: impl FnOnce() -> Vec<f32>) -> Vec<f32> {
        if let Some(rows) = self.lock().texts.get(key).map(Arc::clone) {
            return rows.to_f32();
        }
        let rows = Arc::new(Rows::new(compute(), self.storage));
        let bytes = rows.bytes() + size_of_val(key.tokens.as_slice());
        let mut kept = self.lock();
        if kept.bytes + bytes <= self.max_bytes {
            kept.bytes += bytes;
            kept.texts.insert(key.clone(), Arc::clone(&rows));
        }
        drop(kept);
        rows.to_f32()
    }

    /// Texts that are kept.
    #[cfg(test)]
    pub fn n_text(&self) -> usize {
        self.lock().texts.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    fn new(values: Vec<f32>, storage: InputStorage) -> Self {
        match storage {
            InputStorage::F32 => Self::F32(values),
            InputStorage::Bf16 => Self::Bf16(values.into_iter().map(bf16::from_f32).collect()),
        }
    }

    fn to_f32(&self) -> Vec<f32> {
        match self {
            Self::F32(values) => values.clone(),
            Self::Bf16(values) => values.iter().map(|value| value.to_f32()).collect(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::F32(values) => size_of_val(values.as_slice()),
            Self::Bf16(values) => size_of_val(values.as_slice()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(layer: usize, tokens: &[u32]) -> TextKey {
        TextKey { stack: Stack::Decoder, layer, tokens: tokens.into() }
    }

    #[test]
    fn a_text_is_computed_once_and_another_layer_or_text_is_another() {
        let cache = InputCache::new(InputStorage::F32, 1000);
        let mut n = 0.0;
        let mut ask = |key: &TextKey| {
            cache.rows(key, || {
                n += 1.0;
                vec![n]
            })
        };
        assert_eq!(ask(&key(1, &[5, 6])), [1.0]);
        assert_eq!(ask(&key(2, &[5, 6])), [2.0]);
        assert_eq!(ask(&key(1, &[5])), [3.0]);
        assert_eq!(ask(&key(1, &[5, 6])), [1.0]);
    }

    #[test]
    fn what_is_not_kept_is_rounded_all_the_same() {
        for max_bytes in [0, 1000] {
            let cache = InputCache::new(InputStorage::Bf16, max_bytes);
            let rounded = cache.rows(&key(1, &[5]), || vec![1.001]);
            assert_eq!(rounded, [1.0]);
            assert_eq!(cache.rows(&key(1, &[5]), || vec![1.001]), rounded);
        }
    }

    #[test]
    fn a_full_cache_takes_no_more() {
        // Four bytes of rows and four of the token, each.
        let cache = InputCache::new(InputStorage::F32, 20);
        for token in 0..3 {
            cache.rows(&key(1, &[token]), || vec![0.0]);
        }
        let kept = cache.lock();
        assert_eq!((kept.texts.len(), kept.bytes), (2, 16));
    }
}

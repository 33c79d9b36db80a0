//! Which model a trained file belongs to.
//!
//! A prefix is worth something only in front of the very model it was trained on, and a path or a name proves nothing.
//! So a file carries three things about its base model, and they are compared in this order:
//!
//! 1. *shapes*, which decide whether the rows fit at all;
//! 2. the *tokenizer's* hash: under another one the same text becomes other tokens;
//! 3. a *probe* of the weights: a few numbers of three matrices.
//!
//! Two probes of one model stored in two precisions are not equal but nearly parallel, so they are compared by
//!
//! ```text
//! cosine = min over the three matrices of  a . b / (|a| |b|)
//! ```
//!
//! Measured on SmolLM2-135M against its f32 weights (quantised by the `gguf` package where it can):
//!
//! | stored as | cosine of the probes |
//! |---|---|
//! | f32 as safetensors, the same in a GGUF | equal numbers |
//! | f16 | 0.999 999 96 |
//! | bf16 | 0.999 999 1 |
//! | Q8_0 | 0.999 98 |
//! | Q5_0 | 0.998 8 |
//! | Q4_0 | 0.995 |
//! | 3 bits and a minimum in blocks of 32, rounded to nearest | 0.986 |
//! | 2 bits and a minimum in blocks of 32, rounded to nearest | 0.910 |
//! | the same matrices upside down, as those of a foreign model would be | -0.14 |
//!
//! The probe cannot tell a light fine-tune from a quantisation: both move the weights by a little. It says so where it
//! warns. The matrices are three that every source stores without reordering (a GGUF interleaves the rotary pairs of
//! queries and keys) and that are small enough to be read on the way: not the embedding.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::family::{self, Names, Naming};
use crate::weights::{TensorSource, Weights, WeightsError};
use crate::{Family, ModelSpec, StackSpec};

/// Numbers that are taken of each matrix.
const PER_MATRIX: usize = 64;

/// Lowest cosine at which two probes are taken for one model in two precisions: below what even 2 bits leave (see the
/// module's table), far above what foreign models have in common (the cosine of 64 numbers that know nothing of each
/// other deviates from 0 by 0.125).
pub const SAME_MODEL_COSINE: f64 = 0.9;

/// What a base model is recognised by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Kind and sizes of the layers.
    pub shapes: Shapes,
    /// Hash of the tokenizer.
    pub tokenizer: String,
    /// Some numbers of some matrices.
    pub probe: Vec<Probe>,
}

/// The sizes that decide whether a trained file fits a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shapes {
    /// Name of the family.
    pub family: String,
    /// Number of blocks.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Query heads.
    pub n_head: usize,
    /// Key/value heads.
    pub n_kv_head: usize,
    /// Columns of one head.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the feed-forward layer.
    pub d_ff: usize,
    /// The encoder, where the model has one; the sizes above are then the decoder's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<StackSpec>,
}

/// Numbers of one matrix, on a walk through its rows and columns, rounded to four significant digits: finer than bf16,
/// so that rounding hides no other precision, and short in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Which matrix, by its role: the same word whatever the file calls it.
    pub matrix: String,
    /// The numbers. One that is not finite counts as 0.
    #[serde(with = "words")]
    pub values: Vec<f32>,
}

/// A list of numbers as one string, so that an indented JSON file does not give each a line.
mod words {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
        let words: Vec<String> = values.iter().map(f32::to_string).collect();
        serializer.serialize_str(&words.join(" "))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
        let words = String::deserialize(deserializer)?;
        words.split_whitespace().map(|word| word.parse().map_err(D::Error::custom)).collect()
    }
}

/// What comparing two fingerprints gives: the first difference in the order of the module's head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Match {
    /// Equal in everything.
    Same,
    /// The same model in another precision or quantisation, or a light fine-tune of it.
    OtherPrecision {
        /// Of the probes.
        cosine: f64,
    },
    /// The same architecture and tokenizer with other weights.
    OtherWeights {
        /// Of the probes.
        cosine: f64,
    },
    /// The same shapes, but other token ids.
    OtherTokenizer,
    /// Another architecture or other sizes.
    OtherShapes,
}

impl Fingerprint {
    /// The fingerprint of a model; `tokenizer` is the hash that its tokenizer gives of itself
    /// ([`crate::tokenizer::Tokenizer::fingerprint`]).
    ///
    /// # Errors
    /// A probed matrix that is missing, has another shape than the spec says, or cannot be read.
    pub fn new(spec: &ModelSpec, weights: &Weights, tokenizer: String) -> Result<Self, WeightsError> {
        Ok(Self { shapes: Shapes::of(spec), tokenizer, probe: probe(spec, weights)? })
    }

    /// How `other` differs from this one.
    pub fn compare(&self, other: &Self) -> Match {
        if self.shapes != other.shapes {
            return Match::OtherShapes;
        }
        if self.tokenizer != other.tokenizer {
            return Match::OtherTokenizer;
        }
        if self.probe == other.probe {
            return Match::Same;
        }
        let cosine = self.cosine(other);
        if cosine >= SAME_MODEL_COSINE {
            Match::OtherPrecision { cosine }
        } else {
            Match::OtherWeights { cosine }
        }
    }

    /// The least cosine over the matrices; 0 where the probes were not taken of the same places.
    fn cosine(&self, other: &Self) -> f64 {
        let comparable = |(a, b): (&Probe, &Probe)| a.matrix == b.matrix && a.values.len() == b.values.len();
        if self.probe.len() != other.probe.len() || !self.probe.iter().zip(&other.probe).all(comparable) {
            return 0.0;
        }
        let pairs = self.probe.iter().zip(&other.probe);
        pairs.map(|(a, b)| cosine(&a.values, &b.values)).fold(1.0, f64::min)
    }

    /// A short hash of the probe, to be shown.
    fn weights_id(&self) -> String {
        let mut hash = Sha256::new();
        for value in self.probe.iter().flat_map(|probe| &probe.values) {
            hash.update(value.to_le_bytes());
        }
        hash.finalize()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// One line: shapes, and the beginnings of the two hashes.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokenizer: String = self.tokenizer.chars().take(8).collect();
        write!(f, "{}, tokenizer {tokenizer}, weights {}", self.shapes, self.weights_id())
    }
}

impl Shapes {
    /// The sizes of a model.
    pub fn of(spec: &ModelSpec) -> Self {
        let family = match spec.family {
            Family::Llama => "llama",
            Family::Gpt2 => "gpt2",
            Family::Bart => "bart",
            Family::MBart => "mbart",
            Family::Pegasus => "pegasus",
            Family::Marian => "marian",
            Family::T5 => "t5",
        };
        Self {
            family: family.into(),
            n_layer: spec.n_layer,
            d_model: spec.d_model,
            n_head: spec.n_head,
            n_kv_head: spec.n_kv_head,
            head_dim: spec.head_dim,
            vocab_size: spec.vocab_size,
            d_ff: spec.d_ff,
            encoder: spec.encoder,
        }
    }
}

impl fmt::Display for Shapes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, n_layer, d_model, n_head, n_kv_head, head_dim, vocab_size, d_ff, encoder } = self;
        write!(
            f,
            "{family} of {n_layer} layers, width {d_model}, {n_head} heads on {n_kv_head} kv heads of {head_dim}, \
             feed-forward {d_ff}, vocabulary {vocab_size}"
        )?;
        match encoder {
            None => Ok(()),
            Some(StackSpec { n_layer, n_head, head_dim, d_ff, .. }) => {
                write!(f, "; encoder of {n_layer} layers, {n_head} heads of {head_dim}, feed-forward {d_ff}")
            }
        }
    }
}

/// Values of the first layer, down-projection of the middle one, attention output of the last: spread over the depth and
/// over the kinds of matrices.
fn probe(spec: &ModelSpec, weights: &Weights) -> Result<Vec<Probe>, WeightsError> {
    let naming = if matches!(weights, Weights::Gguf(_)) { Naming::Gguf } else { Naming::HuggingFace };
    let names = family::names(spec, naming);
    let [first, middle, last] =
        [0, spec.n_layer / 2, spec.n_layer.saturating_sub(1)].map(|layer| (names.decoder.layer)(layer));
    let query_width = spec.n_head * spec.head_dim;
    // Queries, keys and values stand one under the other, in one matrix or in three.
    let fused = first.qkv.len() == 1;
    let values = Matrix {
        role: "values of the first layer",
        name: first.qkv.last().map_or("", String::as_str),
        n_stored_row: spec.kv_width() + if fused { query_width + spec.kv_width() } else { 0 },
        n_row: spec.kv_width(),
        n_column: spec.d_model,
    };
    let down = Matrix {
        role: "down-projection of the middle layer",
        name: &middle.down,
        n_stored_row: spec.d_model,
        n_row: spec.d_model,
        n_column: spec.d_ff,
    };
    let output = Matrix {
        role: "attention output of the last layer",
        name: &last.attention_output,
        n_stored_row: spec.d_model,
        n_row: spec.d_model,
        n_column: query_width,
    };
    [values, down, output].iter().map(|matrix| matrix.probe(&names, weights)).collect()
}

/// A matrix `[n_row, n_column]` by its logical shape: the last `n_row` of the `n_stored_row` rows that the file has.
struct Matrix<'a> {
    role: &'static str,
    name: &'a str,
    n_stored_row: usize,
    n_row: usize,
    n_column: usize,
}

impl Matrix<'_> {
    fn probe(&self, names: &Names, weights: &Weights) -> Result<Probe, WeightsError> {
        let name = names.resolve(weights, &format!("{}.weight", self.name));
        let shape = [self.n_stored_row, self.n_column];
        let shape = if names.transposed { [shape[1], shape[0]] } else { shape };
        let tensor = weights.read_shaped(&name, &shape)?;
        let mut stored_row = vec![0.0; shape[1]];
        let mut value_at = |stored: usize, at: usize| {
            tensor.decode_rows(stored..stored + 1, &mut stored_row);
            stored_row[at]
        };
        let values = (0..PER_MATRIX).map(|i| {
            let (row, column) = self.place(i);
            let row = self.n_stored_row - self.n_row + row;
            rounded(if names.transposed { value_at(column, row) } else { value_at(row, column) })
        });
        Ok(Probe { matrix: self.role.into(), values: values.collect() })
    }

    /// Rows evenly spaced; columns by steps of the golden section, which come close to no earlier one.
    fn place(&self, i: usize) -> (usize, usize) {
        const GOLDEN_SECTION: f64 = 0.618_033_988_749_894_9;
        let column = (i as f64 * GOLDEN_SECTION).fract() * self.n_column as f64;
        (i * self.n_row / PER_MATRIX, column as usize)
    }
}

fn rounded(value: f32) -> f32 {
    if !value.is_finite() {
        return 0.0;
    }
    format!("{value:.3e}").parse().expect("a number just printed")
}

/// 0 where either side is all zeros, or holds what is no number: a file may say anything.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let norm = (dot(a, a) * dot(b, b)).sqrt();
    if norm > 0.0 && norm.is_finite() { dot(a, b) / norm } else { 0.0 }
}

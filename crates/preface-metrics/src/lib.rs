//! Scores of generated text, equal to the official scripts and on their scales.
//!
//! Every metric is one chain: `segment -> additive statistics -> score`.
//!
//! ```text
//! references --fit--> Scorer          what the references of the whole corpus fix (NIST and CIDEr weights)
//! (hypothesis, references of one segment) --statistics--> vector of f64
//! sum over any set of segments --score--> number
//! ```
//!
//! A sentence score is the sum over one segment, a corpus score the sum over all, a slice the sum over some, a
//! bootstrap sample the sum over a resample, a shard a partial sum. No metric needs code of its own for these.
//!
//! ```
//! use preface_metrics::{MetricOptions, References, evaluate, registry};
//! let references = References::new(vec![vec!["the cat is on the mat".into()]])?;
//! let metrics = registry::build("bleu", &MetricOptions::default())?;
//! let scores = evaluate(&metrics, &["the cat is on the mat".into()], &references)?;
//! assert!((scores[0].score - 100.0).abs() < 1e-9);
//! assert!(scores[0].signature.starts_with("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|"));
//! # Ok::<(), preface_metrics::MetricError>(())
//! ```
#![forbid(unsafe_code)]

pub mod bootstrap;
pub mod corpus;
mod error;
mod lcs;
pub mod meteor;
pub mod metric;
mod ngram;
pub mod prepare;
pub mod read;
pub mod registry;
pub mod report;
pub mod signature;
pub mod slice;
pub mod statistics;
pub mod stemmer;
mod text;
pub mod tokenizer;

pub use corpus::References;
pub use error::MetricError;
pub use metric::{Direction, Metric, Scorer};
pub use registry::MetricOptions;
pub use signature::Signature;
pub use statistics::{Confidence, Score, StatisticsTable, evaluate};

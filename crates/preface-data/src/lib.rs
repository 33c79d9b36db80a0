//! Training and evaluation data: files of (input, output) text pairs in, [`Example`]s out. Knows no model and no tokenizer.
//!
//! ```text
//! bytes -> form (recognised or given) -> reader -> Example { prompt, references }      reader/, linearise/
//! Dataset -> pairs (one per reference) -> steps of a seeded shuffle -> micro-batches   dataset, sampler, packing
//! Dataset -> grouped (one per prompt)  -> scoring                                      dataset
//! ```
//!
//! Everything here works on whole texts, so that the same example gives the same prompt in training, evaluation and
//! generation; how a prompt becomes tokens is decided once, beside the tokenizer.
//!
//! ```
//! use preface_data::{Dataset, ReadOptions};
//! let file = br#"{"mr":"name[Aromi], eatType[pub]","references":["Aromi is a pub.","A pub: Aromi."]}"#;
//! let data = Dataset::from_bytes("tiny.jsonl".as_ref(), file, &ReadOptions::default())?;
//! assert_eq!(data.examples[0].prompt, "name : Aromi | Type : pub");
//! assert_eq!(data.pairs().count(), 2);
//! # Ok::<(), preface_data::DataError>(())
//! ```
#![forbid(unsafe_code)]

mod dataset;
mod error;
mod example;
mod folder;
mod form;
pub mod linearise;
pub mod packing;
mod prompts;
mod reader;
pub mod sampler;

pub use dataset::{Dataset, ReadOptions};
pub use error::{DataError, Fault, Place, UnknownName};
pub use example::{Example, Pair};
pub use form::Form;
pub use linearise::Linearisation;
pub use prompts::{prompts_from_bytes, read_prompts};
pub use reader::Lexicalisations;

//! Greedy, sampling and beam search over batches of sequences.
//!
//! A [`Generator`] binds a model, its attachments and checked [`GenerationSettings`]; [`Generator::run`] answers
//! [`Request`]s. `processor/` holds the rules that change scores, `search/` the ways to choose tokens by them,
//! `generator.rs` the batch.
#![forbid(unsafe_code)]

mod early_stopping;
mod error;
mod generator;
mod processor;
mod request;
mod search;
mod settings;
mod stop;

pub use early_stopping::EarlyStopping;
pub use error::GenerateError;
pub use generator::Generator;
pub use request::{Finish, Generation, Observer, Request, TextCodec};
pub use settings::{GenerationSettings, LengthNorm, SettingsError};

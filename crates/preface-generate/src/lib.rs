//! Greedy, sampling and beam search over batches of sequences.
//!
//! A [`Generator`] binds a model, its attachments and checked [`GenerationSettings`]; [`Generator::run`] answers
//! [`Request`]s. `processor/` holds the rules that change scores, `search/` the ways to choose tokens by them,
//! `generator.rs` the batch.
//!
//! ```
//! use preface_backend::Reference;
//! use preface_generate::{Finish, GenerationSettings, Generator, Request};
//! use preface_model::{Attachments, ModelFiles};
//!
//! let files = ModelFiles::open("builtin:stories260k")?;
//! let (tokenizer, special) = files.tokenizer()?;
//! let model = files.load(Reference)?;
//! let attachments = Attachments::none();
//! let settings = GenerationSettings { max_new_tokens: 5, num_beams: 2, ..GenerationSettings::default() };
//! let generator = Generator::new(&model, &attachments, &settings, &special.end, None)?;
//! let requests = [Request { source: Vec::new(), prompt: tokenizer.encode_prompt("Once upon a")?, segment: None }];
//! let answers = generator.run(&requests, 8, &mut ())?;
//! assert_eq!(answers[0].token_ids.len(), 5);
//! assert_eq!(answers[0].finish, Finish::Length);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod codec;
mod early_stopping;
mod error;
mod file_defaults;
mod generator;
mod processor;
mod request;
mod search;
mod settings;
mod stop;

pub use codec::TextCodec;
pub use early_stopping::EarlyStopping;
pub use error::GenerateError;
pub use file_defaults::{FileDefault, FileDefaultError, FileDefaults};
pub use generator::Generator;
pub use request::{Finish, Generation, Observer, Request};
pub use settings::{GenerationSettings, LengthNorm, SettingsError};

//! The methods that are trained beside a frozen model, where they start, and the files that they are kept in.
//!
//! `method/` has one file for each method, `init/` one for each start, `artefact/` what is saved.
#![forbid(unsafe_code)]

pub mod adam;
pub mod artefact;
pub mod init;
mod matmul;
pub mod method;

pub use adam::{Adam, AdamSettings};
pub use method::{
    Adapter, AdapterError, DecoderPositions, FineTune, FineTuneError, Gradient, Infix, Lora, LoraError,
    LoraSettings, Method, Parameters, PlaceStart, PlacedPrefix, PlacedRows, PlacesError, Prefix, PrefixError,
    PrefixRows, PromptTuning, Reparametrisation, Trained, Tuned,
};

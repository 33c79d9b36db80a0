//! Generation over the tiny models of `tests/golden/generation` and the reference backend.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod behaviour;
mod encoder_decoder;
mod fixture;
mod identities;
mod transformers;
mod transliteration;

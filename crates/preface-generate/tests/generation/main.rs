//! Generation over the tiny models of `tests/golden/generation` and the reference backend.

mod behaviour;
mod fixture;
mod identities;
mod transformers;

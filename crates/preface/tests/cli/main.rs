//! The binary as a user meets it. One file for each command or kind of failure; a whole program of its own, so that it is
//! linked once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bad_input;
mod common;
mod demo_bench;
mod disk_full;
mod encoder_decoder;
mod eval_score;
mod families;
mod generate;
mod help;
mod inspect;
mod methods;
mod places;
mod train;
mod wrong_use;

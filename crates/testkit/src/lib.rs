//! What the tests of the other crates compare with, and what they read: one comparator of tensors ([`close()`]), the golden files of
//! `tests/golden` ([`Golden`]), finite differences ([`finite_difference`]) and broken copies of good files ([`mutate`]).
//!
//! The comparator has one scale for a whole tensor, its root mean square, because the error of a sum of products grows with the size of its
//! terms and not with the size of what is left after they cancel. Checks are written so that NaN fails them.
#![forbid(unsafe_code)]

mod close;
mod difference;
mod golden;
pub mod mutate;

pub use close::{Mismatch, Tolerance, assert_close, close, cosine, rms};
pub use difference::{check_gradient, finite_difference};
pub use golden::{Golden, GoldenError, Pair, Tensor, golden_folder};

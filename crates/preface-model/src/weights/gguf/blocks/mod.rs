//! Quantised blocks of GGUF that only decode: one file for each family. Those that a backend keeps as they are lie in
//! [`preface_backend::blocks`].
//!
//! Each function takes one stored block and writes its elements, bit-equal to the `gguf` Python package:
//! `tests/golden/gguf_types` proves it for both.

pub(crate) mod iq4;
pub(crate) mod q2_k;
pub(crate) mod q3_k;
pub(crate) mod q5_k;

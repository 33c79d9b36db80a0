//! Comparators and golden files for the tests of the other crates.
#![forbid(unsafe_code)]

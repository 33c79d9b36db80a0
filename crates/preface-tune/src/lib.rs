//! The methods that are trained: prefixes and their reparametrisation.
#![forbid(unsafe_code)]

//! The operations that a transformer's forward and backward need, and their plain-loop reference.
#![forbid(unsafe_code)]

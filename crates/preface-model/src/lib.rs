//! Model families, weights, tokenizers and layers, forward and backward, over any backend.
#![forbid(unsafe_code)]

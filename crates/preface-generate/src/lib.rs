//! Greedy, sampling and beam search over batches of sequences.
#![forbid(unsafe_code)]

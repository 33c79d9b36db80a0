//! Scores of generated text: BLEU and its relatives, natively.
#![forbid(unsafe_code)]

//! What can be wrong with what a model is given to run.

use thiserror::Error;

/// An error of running a model. `sequence` is the number of the sequence in its batch.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ModelError {
    /// A token id that the embedding has no row for.
    #[error("sequence {sequence}: token id {token} is outside the model's vocabulary of {vocab_size}")]
    UnknownToken {
        /// Number in the batch.
        sequence: usize,
        /// The token.
        token: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// No token of the sequence can carry loss.
    #[error("sequence {sequence}: nothing to predict in {n_token} tokens")]
    NothingToPredict {
        /// Number in the batch.
        sequence: usize,
        /// Tokens of the sequence.
        n_token: usize,
    },
    /// Something for an encoder, but there is none.
    #[error("sequence {sequence}: a source for the encoder, but this model is decoder-only")]
    NoEncoder {
        /// Number in the batch.
        sequence: usize,
    },
    /// Nothing for the encoder.
    #[error("sequence {sequence}: the encoder has no token to read")]
    NoSource {
        /// Number in the batch.
        sequence: usize,
    },
    /// More rows than the model has positions for.
    #[error(
        "sequence {sequence}: {n_row} tokens behind a prefix of {prefix_len} rows need more than the model's {max_positions} positions"
    )]
    TooLong {
        /// Number in the batch.
        sequence: usize,
        /// Tokens that need a position.
        n_row: usize,
        /// Positions that the prefix takes.
        prefix_len: usize,
        /// Positions of the model.
        max_positions: usize,
    },
}

//! Where a prefix starts.
//!
//! The start matters more than anything else with little data (figure 5 of the paper): random values are well below
//! real words, task words slightly best. With the whole data set it makes no difference.

mod fit;
mod random;
mod text;

use serde::{Deserialize, Serialize};

pub(crate) use fit::fit_mlp;
pub(crate) use random::{normal, uniform_fan_in};
pub use text::{InitTextError, SeqToSeqText, placed_text_rows, text_rows};

/// Where the rows of a prefix start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// As the authors' code: standard normal rows, or the MLP as PyTorch starts its layers.
    #[default]
    Random,
    /// Rows of zeros; under the MLP, a last layer of zeros.
    Zeros,
    /// The keys and values that the model itself computes for a text.
    Text,
}

/// How an MLP is made to give the rows of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MlpTextInit {
    /// `P = P_text + MLP(P')` with the MLP's last layer starting at zero: exact, and immediate.
    #[default]
    Exact,
    /// The paper's: the MLP is fitted to the rows (Adam, learning rate 1e-4, 500 steps, mean squared error).
    Fit,
}

//! METEOR 1.5 for English (Denkowski and Lavie, 2014), equal to its Java program.
//!
//! ```text
//! hypothesis, reference --normalizer--> words --lattice--> all matches (exact, stem, synonym, paraphrase)
//!                                             --align----> the matches of the best path, found by beam search
//!                                             --score----> counts, and from their sum the score
//! ```
//!
//! `data` holds the tables that the last three steps need. They are not part of this crate: [`install`] takes them from
//! the program's own distribution.

mod align;
mod data;
mod install;
mod java;
mod lattice;
mod normalizer;
mod paraphrase;
mod score;
mod synonym;

pub use align::{Aligner, Alignment, Match};
pub use data::MeteorData;
pub use install::{InstallError, Installed, install};
pub use normalizer::Normalizer;
pub use score::{STATISTICS_WIDTH, score, statistics};

/// The four ways in which words may match, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// The same word.
    Exact,
    /// The same stem (Snowball English).
    Stem,
    /// A common WordNet synset.
    Synonym,
    /// An entry of the paraphrase table, one to seven words on either side.
    Paraphrase,
}

/// Number of modules.
pub const N_MODULE: usize = 4;

//! Tokenizers of the reference tools, one file each.

pub mod char;
pub mod intl;
pub mod mteval13a;
pub mod ptb;

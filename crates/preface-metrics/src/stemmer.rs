//! Stemmers of the reference tools, one file each.

pub mod porter;

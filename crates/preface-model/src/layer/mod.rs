//! The layers, forward and backward side by side, written once over any backend.

mod attention;
mod block;
mod feed_forward;
mod linear;
mod rotary;

pub(crate) use attention::{AttentionLayer, Context, Selected, Text};
pub(crate) use block::{Block, BlockKept};
pub(crate) use feed_forward::FeedForward;
pub(crate) use linear::Linear;
pub(crate) use rotary::rotary_table;

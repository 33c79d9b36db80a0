//! The layers, forward and backward side by side, written once over any backend.

mod attention;
mod block;
mod feed_forward;
mod kept;
mod linear;
mod rotary;

pub(crate) use attention::{AttentionLayer, Context, Selected, Text};
pub(crate) use block::Block;
pub(crate) use feed_forward::FeedForward;
pub(crate) use kept::Kept;
pub(crate) use linear::Linear;
pub(crate) use rotary::rotary_table;

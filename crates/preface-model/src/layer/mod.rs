//! The layers, forward and backward side by side, written once over any backend.

mod attention;
mod block;
mod bottleneck;
mod feed_forward;
mod kept;
mod linear;
mod norm;
mod residual;
mod rotary;

pub(crate) use attention::{AttentionLayer, Context, Selected, Text};
pub(crate) use block::Block;
pub(crate) use feed_forward::FeedForward;
pub(crate) use kept::Kept;
pub(crate) use linear::Linear;
pub(crate) use residual::RowMasks;
pub(crate) use rotary::rotary_table;

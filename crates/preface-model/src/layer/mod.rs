//! The layers, forward and backward side by side, written once over any backend.

mod attention;
mod block;
mod bottleneck;
mod cross;
mod feed_forward;
mod kept;
mod linear;
mod norm;
mod positions;
mod residual;
mod rotary;
mod stack;
mod sublayer;

pub(crate) use attention::{AttentionLayer, Context, Selected, Text};
pub(crate) use block::{Block, Pass};
pub(crate) use cross::{Cross, CrossLayer, Encoded};
pub(crate) use feed_forward::FeedForward;
pub(crate) use kept::Kept;
pub(crate) use linear::Linear;
pub(crate) use positions::{BiasTable, sinusoidal_table};
pub(crate) use residual::RowMasks;
pub(crate) use rotary::rotary_table;
pub(crate) use stack::BlockStack;
pub(crate) use sublayer::Sublayer;

//! Loss, optimizer, schedule, loop and checkpoints.
#![forbid(unsafe_code)]

//! A shard on a reactor of its own, in front of it scripted hosts that are due their share, peers that say nothing, and peers
//! that take nothing.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod buffers;
mod half_open;
mod pressure;
mod shares;
mod stage;

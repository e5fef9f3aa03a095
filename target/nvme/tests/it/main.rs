//! The front end driven by a scripted host, over a block layer that keeps its blocks in maps.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are its own"
)]

mod abort;
mod admin;
mod asking;
mod copy;
mod cost;
mod events;
mod fabrics;
mod features;
mod fused;
mod host;
mod hostile;
mod io;
mod logs;
mod memory;
mod term;
mod transfer;
mod world;

//! Commands on the medium over a real block layer and a pool in memory.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking, and their numbers are small"
)]

mod world;

mod any;
mod checks;
mod copy;
mod provisioning;
mod reserve;
mod tasks;
mod transfer;
mod unit;

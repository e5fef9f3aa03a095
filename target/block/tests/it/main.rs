//! The block layer over real pools: in memory, and on a disk that is in memory, too.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking, and their numbers are small"
)]

#[macro_use]
mod world;

mod copy;
mod drills;
mod marks;
mod pairs;
mod reservations;
mod service;
mod slow;

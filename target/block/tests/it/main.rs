//! The block layer over a real memory pool.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking, and their numbers are small"
)]

mod copy;
mod drills;
mod marks;
mod pairs;
mod service;
mod slow;
mod world;

//! The front end driven by a scripted initiator, over the real block layer and a memory pool.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are its own"
)]

mod cost;
mod digests;
mod discovery;
mod ends;
mod initiator;
mod login;
mod manage;
mod numbering;
mod order;
mod pdu;
mod pings;
mod reads;
mod wire;
mod world;
mod writes;

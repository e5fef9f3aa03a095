//! The API as its users meet it: the real router, a real SQLite file and a scripted target on a real socket.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod auth;
mod changes;
mod drills;
mod hosts;
mod incidents;
mod lasting_pools;
mod plane;
mod reports;
mod scripted_target;
mod shows;
mod statuses;

//! The management plane: what is wanted (pools, volumes, subsystems, hosts, grants), kept in SQLite and brought to the
//! target; and what the target says (counters, incidents), kept and shown. Over HTTP with JSON.
//!
//! `http` parses and renders, `app` decides, `db` keeps; `reconcile` and `target` speak with the data plane.

pub mod app;
pub mod clock;
mod db;
pub mod error;
pub mod http;
pub mod listen;
pub mod names;
pub mod reconcile;
pub mod target;

//! Fuzzing both front ends, over the real block layer and a real memory pool; and iSCSI's negotiation by itself.
//!
//! Each target reads its input as a script of small steps, plays it against a fresh world, and then demands what holds
//! whatever a peer did: no panic, every PDU of the target's well formed, every command answered once at most, another host's
//! connection at work with its data as it left them, and, when everything is closed, nothing left over: no ticket, no room
//! reserved, no attachment, controller or session.
//!
//! | target | what varies |
//! |---|---|
//! | [`framer`] | bytes and their cuts; all cuts have to give the same answers |
//! | [`connection`] | bytes on a connection that may have got as far as an I/O queue |
//! | [`admin`] | Connect, properties, admin commands, resets, time, over several connections |
//! | [`io`] | fields and data of well-framed I/O commands, digests, PI, flow control |
//! | [`stateful`] | a valid session with PDUs changed, dropped, doubled, swapped and cut |
//! | [`login`] | iSCSI Login Requests over two connections: stages, keys, CHAP, sessions that take another's place |
//! | [`text`] | iSCSI Text Requests of discovery and normal sessions |
//! | [`iscsi::framer`] | bytes and their cuts on an iSCSI session; all cuts have to give the same answers |
//! | [`iscsi::connection`] | iSCSI requests of any kind, numbers, data and task management, over several sessions |
//! | [`iscsi::cdb`] | SCSI commands of every kind, with any CDB and any parameter list |
//! | [`iscsi::stateful`] | a valid iSCSI session with PDUs changed, dropped, doubled, swapped and cut |

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a fuzzer fails by panicking, and its numbers are small"
)]

pub mod admin;
mod bystander;
pub mod connection;
pub mod framer;
mod input;
pub mod io;
pub mod iscsi;
mod link;
pub mod login;
mod medium;
mod portal;
pub mod stateful;
pub mod text;
mod wire;
mod world;

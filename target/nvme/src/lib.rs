//! An NVMe/TCP target as a pure state machine: NVMe Base 2.1, NVM Command Set 1.1, NVMe/TCP 1.1.
//!
//! A [`Connection`] takes bytes in any cut, completions of the block layer and readings of the clock, and gives back
//! batches of bytes to send. It owns no socket, no thread and no timer, and reads no clock, so all of it can be driven by a
//! test. Payload goes from the receive buffer straight into the block layer's slots, and from there by reference into a send.
//!
//! | module | what it decides |
//! |---|---|
//! | `wire` | the bytes of every structure |
//! | `framer` | where a PDU starts and ends, and whether its header may stand |
//! | `connection` | commands in flight, data transfers, responses |
//! | `sgl` | whether a command's data descriptor fits its transfer |
//! | `fabrics` | Connect, properties, Disconnect |
//! | `admin` | Identify, log pages, features, events, keep-alive |
//! | `discovery` | who is told about which subsystem |
//! | `io` | I/O commands to block commands, with their protection information |
//! | `namespaces` | which volume a namespace is, and how it looks to this host |
//! | `directory` | the controllers of all cores |
//! | `subsystem` | what the controllers of one subsystem share: events to be kept, features of namespaces |
//! | `health` | what a controller has moved, and what has failed |
//!
//! A connection carries one queue: the admin queue of a controller, one of its I/O queues, or the admin queue of a
//! discovery controller. The queues of one controller may live on different cores; what they share is in
//! `controller`, and is written only when queues come and go.

#![forbid(unsafe_code)]

mod admin;
mod connection;
mod controller;
mod directory;
mod discovery;
mod fabrics;
mod framer;
mod health;
mod io;
mod limits;
mod namespaces;
mod sgl;
mod slots;
mod status;
mod subsystem;
mod term;
mod wire;

pub use connection::{Connection, Context, command_cost};
pub use directory::{Directory, DirectoryConfig, H2cDataMax, KeptEvents, KeptSubsystem};

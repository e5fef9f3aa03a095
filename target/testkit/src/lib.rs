//! A scripted NVMe/TCP host for tests (and, in [`iscsi`], an iSCSI initiator): it controls every byte that it sends and shows every byte that it gets.
//!
//! The wire formats here are written from the specifications (NVM Express Base 2.1, NVM Command Set 1.1,
//! NVMe over TCP Transport 1.1) and share no code with the target, so that a mistake in the target is not
//! mirrored in its tests. Everything blocks, with time limits; nothing here is meant to be fast. The load
//! generator `holdfast-bench` uses the same formats behind its own non-blocking engine.
//!
//! A test reads like a story:
//!
//! ```no_run
//! use holdfast_testkit::{Io, Options, Session, pi};
//!
//! # fn main() -> Result<(), holdfast_testkit::Error> {
//! let mut host = Session::open("127.0.0.1:4420", "nqn.2026-11.io.example:a", "nqn.2026-11.io.holdfast:s", Options::default())?;
//! let format = host.admin().namespace_format(1)?;
//! let mut blocks = format.pi().protect(&vec![7; 4096 * 32], 4096, pi::Tags::counting(100));
//! pi::flip_tuple_bit(&mut blocks, 4096, 8, 31, 3);
//! let done = host.io(1).write(1, &Io::at(100, 32).check_all().ref_tag(100), &blocks)?;
//! assert!(done.status().is(2, 0x82) && done.status().dnr);
//! # Ok(()) }
//! ```
//!
//! Layers, outermost last: [`wire`] (PDUs, commands, completions as bytes), [`Connection`] (one TCP
//! connection, digests, raw access for hostile peers), [`Queue`] (commands in flight and their data),
//! [`Session`] (one association: the Admin Queue and its I/O queues).
#![forbid(unsafe_code)]

mod admin;
mod connection;
mod copy;
mod crc;
mod error;
mod identify;
mod io;
pub mod iscsi;
pub mod load;
mod log;
pub mod pi;
mod queue;
mod session;
pub mod wire;

pub use admin::{ConnectCommand, Property};
pub use connection::{ConnectOptions, Connection};
pub use copy::{Copy, SourceRange};
pub use error::Error;
pub use identify::{ControllerData, DiscoveryEntry, DiscoveryLog, NamespaceFormat};
pub use io::{DeallocateRange, Io};
pub use log::{ErrorEntry, LogPage};
pub use queue::{Command, Completion, Placement, Queue, TransferTrace};
pub use session::{Options, Session, host_id_of};

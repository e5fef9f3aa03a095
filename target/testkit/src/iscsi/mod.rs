//! A scripted iSCSI initiator for tests: it controls every byte that it sends and shows every byte that it gets.
//!
//! The wire formats here are written from RFC 7143 (iSCSI), SAM-5, SPC-4 and SBC-4 and share no code with the target, so
//! that a mistake in the target is not mirrored in its tests. Everything blocks, with time limits.
//!
//! ```no_run
//! use holdfast_testkit::iscsi::{Login, Medium, Op, Scsi, Session};
//!
//! # fn main() -> Result<(), holdfast_testkit::Error> {
//! let login = Login::new("iqn.2026-11.io.example:a", "iqn.2026-11.io.holdfast:s");
//! let mut session = Session::open("127.0.0.1:3260", &login)?;
//! let cdb = Medium::at(100, 8).protect(1).cdb16(Op::Write);
//! let done = session.run(Scsi::write(0, cdb, vec![7; 520 * 8]))?;
//! let sense = done.sense.expect("the tuples are wrong");
//! assert!(sense.is(0xb, 0x10, 0x01) && sense.information == Some(100));
//! # Ok(()) }
//! ```
//!
//! Layers, outermost last: [`Pdu`] (bytes), [`text`] (keys and values), [`Connection`] (digests, raw access for hostile
//! peers), [`Login`] (negotiation and CHAP), [`Session`] (command window, transfers, task management).

mod cdb;
mod chap;
mod connection;
mod login;
mod pdu;
mod sense;
mod session;
mod task;
pub mod text;

pub use cdb::{
    Medium, Op, inquiry, mode_sense10, read_capacity16, report_luns, request_sense, test_unit_ready,
    vital_page,
};
pub use chap::{Algorithm, Chap, Identity};
pub use connection::Connection;
pub use login::{Login, LoginAnswer, Params};
pub use pdu::{BHS_LEN, Pdu, RESERVED_TAG, opcode};
pub use sense::{FieldPointer, Sense};
pub use session::Session;
pub use task::{Attribute, Done, Residual, Scsi, status};

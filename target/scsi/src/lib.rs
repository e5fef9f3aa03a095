//! SCSI as a direct-access block device sees it, without any transport: SPC-4, SBC-4, SAM-5.
//!
//! Nothing here does I/O, keeps state or allocates while it decodes, and no bytes of a peer make it panic.
//!
//! | module | what it decides |
//! |---|---|
//! | [`cdb`] | command descriptor blocks as typed values, from one table of commands |
//! | [`sense`] | why a command failed, in fixed and descriptor format |
//! | [`opcodes`] | which commands there are and which of their bits are looked at, from the same table |

#![forbid(unsafe_code)]

pub mod cdb;
pub mod opcodes;
pub mod sense;

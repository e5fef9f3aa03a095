//! SCSI as a direct-access block device sees it, without any transport: SPC-4, SBC-4, SAM-5.
//!
//! ```text
//! transport ── CDB, data ──▶ Nexus, Task ── commands ──▶ block layer
//!           ◀── data, status ──          ◀── completions ──
//! ```
//!
//! Nothing here does I/O or waits, and no bytes of a peer make it panic.
//!
//! | module | what it decides |
//! |---|---|
//! | [`cdb`] | command descriptor blocks as typed values, from one table of commands |
//! | [`sense`] | why a command failed, in fixed and descriptor format |
//! | [`protect`] | which tuples are on the wire, checked and made, by type, view and protect field |
//! | [`opcodes`] | which commands there are and which of their bits are looked at, from the same table |
//! | [`Nexus`] | the logical units of one session, as it sees them |
//! | [`UnitBook`] | what the nexuses of all cores share |
//! | [`Task`] | one command under way |
//! | `blocks` | commands on the medium as commands of the block layer |
//! | `reserve` | reservations: what is asked for and shown, and what each command is to them |
//! | `copy` | copies between logical units |
//! | `dispatch` | which room carries a command out |
//! | `attention` | what an initiator has to be told before anything else |
//! | `inquiry`, `mode`, `log`, `luns`, `ports` | answers about units, their parameters and their ports |

#![forbid(unsafe_code)]

mod attention;
mod blocks;
pub mod cdb;
mod context;
mod copy;
mod dispatch;
mod inquiry;
mod limits;
mod log;
mod luns;
mod mode;
mod nexus;
pub mod opcodes;
mod ports;
pub mod protect;
mod reserve;
pub mod sense;
mod status;
mod task;
mod units;

pub use attention::Attention;
pub use context::{AbortOrder, Buffers, Context, Managed, Request, TaskFunction, WaitId};
pub use luns::decode as lun_number;
pub use nexus::Nexus;
pub use status::{Ended, Status};
pub use task::{Progress, Task};
pub use units::UnitBook;

//! Pools in files and on block devices: data, tuple and provenance of a block reach the medium as one, whatever
//! happens in between.
//!
//! A write goes to fresh slots, together with a journal block that says where; the map is brought to the device by checkpoints.
//! Nothing that is in use is ever written over, so there is no order in which a power cut could part a block from its
//! tuple.
//!
//! | module | what it decides |
//! |---|---|
//! | [`check`] | whether all of a pool is right, offline |
//! | [`format`] | the bytes on the medium, as FORMAT.md describes them |
//! | [`io`] | what is asked of a device, and what a device is to threads |
//! | `pool` | what a pool consists of, and its turns |
//! | `arena`, `lend`, `gather` | memory for payloads under way, whom it is lent, and what goes to the device of it at once |
//! | `space`, `room`, `admit`, `dead`, `zero` | free slots, how much there is for whom, when a slot may be used again, and zeroes ahead |
//! | `tree` | the maps in memory |
//! | `write`, `partial`, `trim`, `volumes` | changes, and how they get into the log |
//! | `log`, `restate`, `writers` | the journal as it is written |
//! | `read` | reads, and what makes them good |
//! | `flush`, `checkpoint` | what is durable when |
//! | `recover` | making a pool, and finding one again |

mod admit;
mod arena;
pub mod check;
mod checkpoint;
mod dead;
mod drill;
mod flush;
pub mod format;
mod gather;
mod image;
pub mod io;
mod lend;
mod log;
mod partial;
mod pool;
mod read;
mod recover;
mod restate;
mod room;
mod space;
#[cfg(test)]
mod tests;
mod tokens;
mod tree;
mod trim;
mod volumes;
mod write;
mod writers;
mod zero;

pub use pool::{DiskPool, Failure, Health};
pub use recover::{DiskConfig, DiskLimits, OpenPoolError, OpeningProgress, find_pool};

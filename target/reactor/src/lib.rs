//! The one door to the kernel: a thread-per-core reactor on io_uring or epoll, files and devices under pools, mappings that
//! outlive a crash, mailboxes between cores, and the hand-over of descriptors between processes.
//!
//! Everything above this crate is free of `unsafe`, sockets, pool files and clocks. Protocol code takes bytes and gives back bytes;
//! a [`Service`] joins the two: it is told what arrived and what left, and answers through [`Io`].
//!
//! - [`Reactor`]: one per thread, one ring each (or an epoll instance where io_uring is refused, see [`IoChoice`]). Multishot
//!   accept and receive, one gathered send per socket in flight, adaptive polling: it spins for a moment after each
//!   activity and then sleeps, so an idle reactor uses no CPU.
//! - [`Received`]: bytes that arrived, in the kernel's buffer, for the service to keep until it has worked through them;
//!   [`Io::pause_receive`] says when it has enough.
//! - [`SendBatch`]: what one send carries: copied bytes, ranges of a [`Mapping`], zeros, owned buffers.
//! - [`Backing`]: a file or block device, opened for direct I/O by one process alone; [`Io::file_read`] and its likes move
//!   bytes between it and a [`Mapping`] through the same ring.
//! - [`Mapping`]: memory that another process keeps alive by its descriptor, published to by single stores.
//! - [`Inboxes`], [`MailSender`]: bounded single-producer queues that wake a reactor only when it sleeps.
//! - [`handover`]: systemd's protocols for inherited and stored descriptors.
//!
//! This is a room in which `unsafe` is allowed. What it promises in return: no safe call into this crate, in any order,
//! can make the kernel read or write memory that has been given back.

mod backend;
mod backing;
mod buffers;
mod clock;
mod file;
pub mod handover;
mod io;
mod mailbox;
mod mapping;
mod pace;
mod reactor;
mod receive;
mod regions;
mod send;
mod socket;

pub use backend::{IoChoice, IoKind};
#[cfg(any(debug_assertions, feature = "lossy"))]
pub use backing::Loss;
pub use backing::{
    BACKING_BLOCK_BYTES_MAX, Backing, BackingError, BackingInfo, BackingKind, BackingMode, Holder,
    LOSSY_VARIABLE, Space,
};
pub use buffers::Received;
pub use file::{FileError, FileId, FileRefusal};
pub use io::{Io, RefusalReason, Refused, SendProgress};
pub use mailbox::{Inboxes, MailSender};
pub use mapping::{LARGE_PAGE_LEN, LargePage, Mapping, Region, WeakRegion};
pub use reactor::{Reactor, ReactorConfig, ReactorError, Service, pin_to_core};
pub use regions::RegionId;
pub use send::SendBatch;
pub use socket::{CloseReason, SocketId};

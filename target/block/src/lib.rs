//! The small layer in which all protocols meet.
//!
//! What is decided here is decided once for NVMe and iSCSI: admission, protection information checks,
//! attribution of failures, the way into the store, completion. A [`Command`] becomes a ticket that
//! ends exactly once: by its completion being released, or by being cancelled.
//!
//! ```text
//! protocol ── begin / fill / submit ──▶ Service ── StoreOp ──▶ Store
//!          ◀──────── Completion ───────         ◀── StoreDone ──
//! ```
//!
//! Everything on the way of an I/O belongs to one core and takes no lock. What several cores share (hosts,
//! sessions, the counters' directory) is touched when sessions begin and end, never per I/O.

mod admission;
pub mod attribution;
mod blame;
mod chap;
mod command;
mod copy;
mod counters;
mod drills;
mod driving;
mod execute;
mod exports;
mod fences;
mod hosts;
mod ids;
mod port;
mod portal;
mod read_path;
pub mod reservations;
mod reserving;
mod service;
mod sessions;
mod store;
mod ticket;
mod turns;
mod write_path;

pub use chap::ChapSecrets;
pub use command::{
    BlockError, Command, Completion, Difference, HeldTags, Layout, Operation, Origin, TicketId,
};
pub use copy::{BlockOrigin, WIRE_BLOCK_LEN_MAX};
pub use counters::{
    CounterBook, DURATION_BOUNDS_US, DigestCounters, Direction, DurationTotals, IoCounters, IoRow, PiRow,
};
pub use drills::{DRILLS_MAX, Drill};
pub use driving::{ConnectionConfig, Disposition, HALF_OPEN_MS, PDU_COST, RESPONSES_PER_BATCH, Taken};
pub use exports::{Access, Enforce, Exports, Grant, HostRecord, Namespace, Subsystem, View, VolumeInfo};
pub use hosts::{Discovered, HostBook, Identity};
pub use ids::{BlockCount, HostId, Lba, PoolId, SubsystemId, VolumeId};
pub use port::{AttachRequest, AttachmentId, BlockPort, TransmitSink};
pub use portal::Portal;
pub use reserving::KeepOrder;
pub use service::{Service, ServiceLimits};
pub use sessions::{Session, SessionBook, SessionRequest, Transport};
pub use store::{
    BlockRecord, Geometry, Location, Provenance, SlotRef, Store, StoreDone, StoreError, StoreOp, Usage,
};

//! What the queues of one controller share across cores. Base 2.1 §3.1 "NVM Controller Architecture".
//!
//! Read by every I/O queue, written only by the admin queue and when queues come and go.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64};

use holdfast_block::{Session, SubsystemId};

use crate::limits::IO_QUEUES_MAX;

const _: () = assert!(IO_QUEUES_MAX <= 64, "one bit of `queues` each");

/// Who a controller belongs to.
#[derive(Debug)]
pub(crate) struct Association {
    pub(crate) subnqn: String,
    pub(crate) hostnqn: String,
    pub(crate) host_id: [u8; 16],
    /// `None` for a discovery controller.
    pub(crate) subsystem: Option<(SubsystemId, Arc<Session>)>,
}

/// A controller.
#[derive(Debug)]
pub(crate) struct Controller {
    pub(crate) cntlid: u16,
    pub(crate) association: Association,
    ready: AtomicBool,
    /// Goes up when the I/O queues end: a queue belongs to the epoch in which it was connected.
    epoch: AtomicU32,
    /// Connected I/O queues, QID 1 in bit 0.
    queues: AtomicU64,
    queues_granted: AtomicU16,
    write_cache: AtomicBool,
    extended_formats: AtomicBool,
}

/// Why an I/O queue cannot be connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueRefused {
    /// The controller is not enabled.
    NotReady,
    /// More than Number of Queues granted.
    Beyond,
    /// There is one with this number.
    InUse,
}

impl Controller {
    pub(crate) fn new(cntlid: u16, association: Association) -> Controller {
        Controller {
            cntlid,
            association,
            ready: AtomicBool::new(false),
            epoch: AtomicU32::new(0),
            queues: AtomicU64::new(0),
            queues_granted: AtomicU16::new(IO_QUEUES_MAX),
            write_cache: AtomicBool::new(true),
            extended_formats: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_discovery(&self) -> bool {
        self.association.subsystem.is_none()
    }

    pub(crate) fn session(&self) -> Option<&Arc<Session>> {
        self.association.subsystem.as_ref().map(|(_, session)| session)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Relaxed)
    }

    pub(crate) fn enable(&self) {
        self.ready.store(true, Release);
    }

    /// Controller reset, or the end of the association: all I/O queues of this epoch end.
    pub(crate) fn end_queues(&self) {
        self.ready.store(false, Release);
        self.epoch.fetch_add(1, AcqRel);
        self.queues.store(0, Release);
        self.queues_granted.store(IO_QUEUES_MAX, Relaxed);
        self.write_cache.store(true, Relaxed);
        self.extended_formats.store(false, Relaxed);
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Acquire)
    }

    /// Takes an I/O queue number; gives the epoch that the queue belongs to.
    pub(crate) fn connect_queue(&self, qid: u16) -> Result<u32, QueueRefused> {
        let epoch = self.epoch();
        if !self.is_ready() {
            return Err(QueueRefused::NotReady);
        }
        if qid == 0 || qid > self.queues_granted.load(Relaxed) {
            return Err(QueueRefused::Beyond);
        }
        let bit = 1_u64 << (qid - 1).min(63);
        if self.queues.fetch_or(bit, AcqRel) & bit != 0 {
            return Err(QueueRefused::InUse);
        }
        Ok(epoch)
    }

    /// Gives an I/O queue number back, unless its epoch is over.
    pub(crate) fn disconnect_queue(&self, qid: u16, epoch: u32) {
        if qid > 0 && epoch == self.epoch() {
            self.queues.fetch_and(!(1_u64 << (qid - 1).min(63)), AcqRel);
        }
    }

    pub(crate) fn has_queues(&self) -> bool {
        self.queues.load(Acquire) != 0
    }

    pub(crate) fn queues_granted(&self) -> u16 {
        self.queues_granted.load(Relaxed)
    }

    pub(crate) fn grant_queues(&self, queues: u16) {
        self.queues_granted.store(queues, Relaxed);
    }

    /// Volatile Write Cache Enable: when it is off, every write is durable before its completion.
    pub(crate) fn write_cache(&self) -> bool {
        self.write_cache.load(Relaxed)
    }

    pub(crate) fn set_write_cache(&self, enabled: bool) {
        self.write_cache.store(enabled, Relaxed);
    }

    /// LBAFEE of Host Behavior Support. NVM Command Set 1.1 §4.1.3.6.1 "LBA Format Extensions": without it, an I/O command on a
    /// namespace with 32- or 64-bit guards is to be aborted with Invalid Namespace or Format.
    pub(crate) fn extended_formats(&self) -> bool {
        self.extended_formats.load(Relaxed)
    }

    pub(crate) fn set_extended_formats(&self, enabled: bool) {
        self.extended_formats.store(enabled, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controller() -> Controller {
        let association =
            Association { subnqn: String::new(), hostnqn: String::new(), host_id: [0; 16], subsystem: None };
        Controller::new(1, association)
    }

    #[test]
    fn a_queue_number_is_given_once() {
        let controller = controller();
        assert_eq!(controller.connect_queue(1), Err(QueueRefused::NotReady));
        controller.enable();
        assert_eq!(controller.connect_queue(1), Ok(0));
        assert_eq!(controller.connect_queue(1), Err(QueueRefused::InUse));
        controller.disconnect_queue(1, 0);
        assert_eq!(controller.connect_queue(1), Ok(0));
        assert_eq!(controller.connect_queue(IO_QUEUES_MAX + 1), Err(QueueRefused::Beyond));
    }

    #[test]
    fn a_queue_of_an_earlier_epoch_gives_nothing_back() {
        let controller = controller();
        controller.enable();
        let old = controller.connect_queue(1).unwrap();
        controller.end_queues();
        controller.enable();
        let new = controller.connect_queue(1).unwrap();
        controller.disconnect_queue(1, old);
        assert_eq!(controller.connect_queue(1), Err(QueueRefused::InUse));
        assert_ne!(old, new);
    }
}

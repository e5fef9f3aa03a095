//! What the queues of one controller share across cores. Base 2.1 §3.1 "NVM Controller Architecture".
//!
//! Read by every I/O queue, written only by the admin queue and when queues come and go.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};

use holdfast_block::{Session, SubsystemId};

use crate::health::Health;
use crate::limits::IO_QUEUES_MAX;
use crate::subsystem::SubsystemState;

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
    /// What it shares with the other controllers of its subsystem; of a discovery controller, nobody looks at it.
    pub(crate) subsystem: Arc<SubsystemState>,
    /// What its queues have moved, and what has failed.
    pub(crate) health: Health,
    ready: AtomicBool,
    /// Ready, and no shutdown has begun: other commands than Fabrics ones are carried out.
    serving: AtomicBool,
    /// Goes up when the I/O queues end: a queue belongs to the epoch in which it was connected.
    epoch: AtomicU32,
    /// Connected I/O queues, QID 1 in bit 0.
    queues: AtomicU64,
    queues_granted: AtomicU16,
    write_cache: AtomicBool,
    /// ACRE.
    takes_interrupted: AtomicBool,
    extended_formats: AtomicBool,
    /// CDFE.
    copy_formats: AtomicU16,
    /// CC.IOSQES and CC.IOCQES say the sizes that there are.
    entry_sizes_fit: AtomicBool,
    ended: AtomicBool,
    aborts: Mutex<Aborts>,
}

/// Abort commands on their way from the admin queue to I/O queues and back. Base 2.1 §5.1.1 "Abort command".
#[derive(Debug, Default)]
struct Aborts {
    asked: Vec<AbortRequest>,
    answered: Vec<AbortAnswer>,
}

/// An Abort for a command of an I/O queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AbortRequest {
    /// The queue, and the command.
    pub(crate) qid: u16,
    pub(crate) cid: u16,
    /// The slot of the Abort command on the admin queue.
    pub(crate) asker: u16,
}

/// What became of an [`AbortRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AbortAnswer {
    pub(crate) asker: u16,
    pub(crate) aborted: bool,
}

/// Why an I/O queue cannot be connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueRefused {
    /// The controller is not enabled, or not for entries of the sizes that there are.
    NotReady,
    /// More than Number of Queues granted.
    Beyond,
    /// There is one with this number.
    InUse,
}

impl Controller {
    pub(crate) fn new(cntlid: u16, association: Association, subsystem: Arc<SubsystemState>) -> Controller {
        Controller {
            cntlid,
            association,
            subsystem,
            health: Health::default(),
            ready: AtomicBool::new(false),
            serving: AtomicBool::new(false),
            epoch: AtomicU32::new(0),
            queues: AtomicU64::new(0),
            queues_granted: AtomicU16::new(IO_QUEUES_MAX),
            write_cache: AtomicBool::new(true),
            takes_interrupted: AtomicBool::new(false),
            extended_formats: AtomicBool::new(false),
            copy_formats: AtomicU16::new(0),
            entry_sizes_fit: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            aborts: Mutex::default(),
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

    /// Whether commands other than Fabrics ones are carried out. Base 2.1 §3.6.2 "Message-based Controller Shutdown (Fabrics)":
    /// not from the beginning of a shutdown to the next reset.
    pub(crate) fn is_serving(&self) -> bool {
        self.serving.load(Relaxed)
    }

    pub(crate) fn enable(&self) {
        self.ready.store(true, Release);
        self.serving.store(true, Release);
    }

    /// A shutdown has begun.
    pub(crate) fn stop_serving(&self) {
        self.serving.store(false, Release);
    }

    /// Controller reset, or the end of the association: all I/O queues of this epoch end.
    pub(crate) fn end_queues(&self) {
        self.ready.store(false, Release);
        self.serving.store(false, Release);
        if !holdfast_mutant::active("reset-keeps-queues") {
            self.epoch.fetch_add(1, AcqRel);
        }
        self.queues.store(0, Release);
        self.queues_granted.store(IO_QUEUES_MAX, Relaxed);
        self.write_cache.store(true, Relaxed);
        self.takes_interrupted.store(false, Relaxed);
        self.extended_formats.store(false, Relaxed);
        self.copy_formats.store(0, Relaxed);
        self.refuse_aborts(|_| true);
    }

    /// The association is over: the admin queue has to end as well.
    pub(crate) fn end(&self) {
        self.ended.store(true, Release);
        self.end_queues();
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Acquire)
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Acquire)
    }

    /// Takes an I/O queue number; gives the epoch that the queue belongs to.
    pub(crate) fn connect_queue(&self, qid: u16) -> Result<u32, QueueRefused> {
        let epoch = self.epoch();
        if !self.is_serving() || !self.entry_sizes_fit.load(Relaxed) {
            return Err(QueueRefused::NotReady);
        }
        let beyond = qid > self.queues_granted.load(Relaxed) && !holdfast_mutant::active("queue-beyond");
        if qid == 0 || beyond {
            return Err(QueueRefused::Beyond);
        }
        let bit = bit_of(qid);
        if self.queues.fetch_or(bit, AcqRel) & bit != 0 && !holdfast_mutant::active("queue-twice") {
            return Err(QueueRefused::InUse);
        }
        Ok(epoch)
    }

    /// Gives an I/O queue number back, unless its epoch is over. Whether the admin queue has to be told of Aborts that came
    /// too late.
    pub(crate) fn disconnect_queue(&self, qid: u16, epoch: u32) -> bool {
        if qid == 0 || epoch != self.epoch() {
            return false;
        }
        self.queues.fetch_and(!bit_of(qid), AcqRel);
        self.refuse_aborts(|request| request.qid == qid)
    }

    /// Leaves an Abort for an I/O queue. `false`: there is no such queue.
    pub(crate) fn ask_abort(&self, request: AbortRequest) -> bool {
        let mut aborts = self.aborts();
        let connected = request.qid > 0 && request.qid <= IO_QUEUES_MAX;
        // Asked for under the lock: a queue that goes away refuses what was left for it after it has given up its bit.
        let connected = connected && self.queues.load(Acquire) & bit_of(request.qid) != 0;
        if connected {
            aborts.asked.push(request);
        }
        connected
    }

    /// Takes the Aborts for a queue.
    pub(crate) fn take_aborts(&self, qid: u16) -> Vec<AbortRequest> {
        self.aborts().asked.extract_if(.., |request| request.qid == qid).collect()
    }

    /// Leaves the answer to an Abort for the admin queue.
    pub(crate) fn answer_abort(&self, answer: AbortAnswer) {
        self.aborts().answered.push(answer);
    }

    /// Takes the answers to Aborts.
    pub(crate) fn take_abort_answers(&self) -> Vec<AbortAnswer> {
        std::mem::take(&mut self.aborts().answered)
    }

    /// Answers those that nobody will carry out; whether there were any.
    fn refuse_aborts(&self, concerned: impl Fn(&AbortRequest) -> bool) -> bool {
        let mut aborts = self.aborts();
        let Aborts { asked, answered } = &mut *aborts;
        let before = answered.len();
        let refused = asked.extract_if(.., |request| concerned(request));
        answered.extend(refused.map(|request| AbortAnswer { asker: request.asker, aborted: false }));
        answered.len() > before
    }

    fn aborts(&self) -> MutexGuard<'_, Aborts> {
        self.aborts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connected I/O queues.
    pub(crate) fn queue_count(&self) -> usize {
        usize::try_from(self.queues.load(Acquire).count_ones()).unwrap_or(usize::MAX)
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

    /// ACRE of Host Behavior Support. Base 2.1 §4.2.3.1 "Generic Command Status Definition": without it, no command may end with
    /// Command Interrupted.
    pub(crate) fn takes_interrupted(&self) -> bool {
        self.takes_interrupted.load(Relaxed)
    }

    pub(crate) fn set_takes_interrupted(&self, enabled: bool) {
        self.takes_interrupted.store(enabled, Relaxed);
    }

    /// LBAFEE of Host Behavior Support. NVM Command Set 1.1 §4.1.3.6.1 "LBA Format Extensions": without it, an I/O command on a
    /// namespace with 32- or 64-bit guards is to be aborted with Invalid Namespace or Format.
    pub(crate) fn extended_formats(&self) -> bool {
        self.extended_formats.load(Relaxed)
    }

    pub(crate) fn set_extended_formats(&self, enabled: bool) {
        self.extended_formats.store(enabled, Relaxed);
    }

    /// Whether the host takes Copy with sources in other namespaces, in this descriptor format. Base 2.1 §5.1.25.1.14
    /// "Host Behavior Support", CDFE.
    pub(crate) fn takes_copy_format(&self, format: u8) -> bool {
        self.copy_formats.load(Relaxed).checked_shr(format.into()).is_some_and(|bits| bits & 1 == 1)
    }

    /// One bit for each descriptor format.
    pub(crate) fn set_copy_formats(&self, formats: u16) {
        self.copy_formats.store(formats, Relaxed);
    }

    /// What CC says of the sizes of I/O queue entries.
    pub(crate) fn set_entry_sizes_fit(&self, fit: bool) {
        self.entry_sizes_fit.store(fit, Relaxed);
    }
}

/// The bit of an I/O queue number, which is at least 1.
fn bit_of(qid: u16) -> u64 {
    1 << qid.saturating_sub(1).min(63)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controller() -> Controller {
        let association =
            Association { subnqn: String::new(), hostnqn: String::new(), host_id: [0; 16], subsystem: None };
        Controller::new(1, association, Arc::default())
    }

    #[test]
    fn a_queue_number_is_given_once() {
        let controller = controller();
        assert_eq!(controller.connect_queue(1), Err(QueueRefused::NotReady));
        controller.enable();
        assert_eq!(controller.connect_queue(1), Err(QueueRefused::NotReady), "no sizes");
        controller.set_entry_sizes_fit(true);
        assert_eq!(controller.connect_queue(1), Ok(0));
        assert_eq!(controller.connect_queue(1), Err(QueueRefused::InUse));
        controller.disconnect_queue(1, 0);
        assert_eq!(controller.connect_queue(1), Ok(0));
        assert_eq!(controller.connect_queue(IO_QUEUES_MAX + 1), Err(QueueRefused::Beyond));
    }

    #[test]
    fn a_controller_that_shuts_down_stays_ready_and_serves_nobody() {
        let controller = controller();
        controller.enable();
        controller.set_entry_sizes_fit(true);
        assert!(controller.is_serving());
        controller.stop_serving();
        assert!(controller.is_ready() && !controller.is_serving());
        assert_eq!(controller.connect_queue(1), Err(QueueRefused::NotReady));
        controller.end_queues();
        controller.enable();
        assert!(controller.is_serving());
    }

    #[test]
    fn an_abort_is_answered_by_its_queue_or_by_its_end() {
        let controller = controller();
        controller.enable();
        controller.set_entry_sizes_fit(true);
        let request = |qid| AbortRequest { qid, cid: 7, asker: qid };
        assert!(!controller.ask_abort(request(1)) && !controller.ask_abort(request(u16::MAX)));
        let epoch = controller.connect_queue(1).unwrap();
        controller.connect_queue(2).unwrap();
        assert!(controller.ask_abort(request(1)) && controller.ask_abort(request(2)));
        assert_eq!(controller.take_aborts(2), [request(2)]);
        controller.answer_abort(AbortAnswer { asker: 2, aborted: true });
        assert!(controller.disconnect_queue(1, epoch), "the admin queue has to look");
        let answers = [(2, true), (1, false)].map(|(asker, aborted)| AbortAnswer { asker, aborted });
        assert_eq!(controller.take_abort_answers(), answers);
        assert!(controller.take_aborts(1).is_empty());
    }

    #[test]
    fn a_queue_of_an_earlier_epoch_gives_nothing_back() {
        let controller = controller();
        controller.enable();
        controller.set_entry_sizes_fit(true);
        let old = controller.connect_queue(1).unwrap();
        controller.end_queues();
        controller.enable();
        let new = controller.connect_queue(1).unwrap();
        controller.disconnect_queue(1, old);
        assert_eq!(controller.connect_queue(1), Err(QueueRefused::InUse));
        assert_ne!(old, new);
    }
}

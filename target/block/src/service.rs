//! The block layer of one core, never shared: its tables, its limits, and the port that protocols use.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::admission::{Admission, Attachment, transfer_len};
use crate::attribution::FaultSink;
use crate::drills::Drills;
use crate::fences::Fences;
use crate::reservations::{Effects, Refusal, Request, Reservations, Standing};
use crate::ticket::{SpareRooms, Stage, Table, Ticket, Work};
use crate::turns::Turns;
use crate::write_path::{fill_slots, fill_staged};
use crate::{
    AttachRequest, AttachmentId, BlockError, BlockOrigin, BlockPort, Command, Completion, CounterBook,
    DurationTotals, Enforce, HostId, Operation, Origin, Store, TicketId, TransmitSink, VolumeId, read_path,
};

/// Bounds on what one core holds for its peers.
#[derive(Debug, Clone, Copy)]
pub struct ServiceLimits {
    /// Commands under way.
    pub tickets_max: usize,
    /// Sessions' accesses to volumes.
    pub attachments_max: usize,
    /// Those of one host, so that it leaves places to others.
    pub host_attachments_max: usize,
    /// Payload bytes of Compare held aside.
    pub staged_bytes_max: usize,
    /// Payload bytes of Writes on their way above which [`BlockPort::is_crowded`] says so: well below the room that a
    /// pool has for writes under way.
    pub crowded_bytes: usize,
}

impl Default for ServiceLimits {
    /// 64 queues at depth 1024; 64 queues on 1,024 volumes for each of 16 hosts; 64 Compares of 1 MiB.
    fn default() -> Self {
        ServiceLimits {
            tickets_max: 65_536,
            attachments_max: 1 << 20,
            host_attachments_max: 65_536,
            staged_bytes_max: 64 << 20,
            crowded_bytes: 64 << 20,
        }
    }
}

/// The block layer of one core.
#[derive(Debug)]
pub struct Service<S, F> {
    pub(crate) store: S,
    pub(crate) faults: F,
    book: Arc<CounterBook>,
    pub(crate) limits: ServiceLimits,
    pub(crate) attachments: Table<Attachment>,
    /// How many of them each host has.
    attached: HashMap<HostId, usize>,
    pub(crate) tickets: Table<Ticket>,
    pub(crate) completions: VecDeque<Completion>,
    /// Fused pairs, and what waits for them.
    pub(crate) turns: Turns,
    pub(crate) staged_bytes: usize,
    /// Room for payloads of Compares.
    pub(crate) spare_rooms: SpareRooms,
    /// Entries that the lists of slots of free tickets have room for.
    pub(crate) slot_lists_kept: usize,
    /// Payload bytes of Writes that are admitted and not ended.
    pub(crate) arriving_bytes: usize,
    pub(crate) durations: Durations,
    pub(crate) drills: Drills,
    pub(crate) fences: Fences,
    pub(crate) now_us: u64,
    pub(crate) now_unix_ms: u64,
}

#[derive(Debug)]
pub(crate) struct Durations {
    pub(crate) read: Arc<DurationTotals>,
    pub(crate) write: Arc<DurationTotals>,
    pub(crate) other: Arc<DurationTotals>,
}

impl<S: Store, F: FaultSink> Service<S, F> {
    /// A service over the pools of one core.
    pub fn new(store: S, faults: F, book: Arc<CounterBook>, limits: ServiceLimits) -> Self {
        let durations = Durations {
            read: book.durations("read"),
            write: book.durations("write"),
            other: book.durations("other"),
        };
        Service {
            store,
            faults,
            book,
            limits,
            attachments: Table::new(limits.attachments_max),
            attached: HashMap::new(),
            tickets: Table::new(limits.tickets_max),
            completions: VecDeque::new(),
            turns: Turns::default(),
            staged_bytes: 0,
            spare_rooms: SpareRooms::default(),
            slot_lists_kept: 0,
            arriving_bytes: 0,
            durations,
            drills: Drills::default(),
            fences: Fences::default(),
            now_us: 0,
            now_unix_ms: 0,
        }
    }

    /// Tells the time, once per turn of the reactor: monotonic microseconds, and milliseconds since 1970-01-01 UTC.
    pub fn set_time(&mut self, now_us: u64, now_unix_ms: u64) {
        self.now_us = now_us;
        self.now_unix_ms = now_unix_ms;
    }

    /// The pools.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The pools, to make and remove volumes.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// Wire bytes that a completed Read has to send; 0 for other commands.
    pub fn read_len(&self, id: TicketId) -> usize {
        let work = self.tickets.get(id).and_then(|ticket| ticket.work);
        match work {
            Some(Work { command, shape }) if command.operation == Operation::Read => {
                transfer_len(&command, &shape)
            }
            _ => 0,
        }
    }

    /// Commands under way, for tests and for shutting down.
    pub fn tickets_in_use(&self) -> usize {
        self.tickets.len()
    }

    /// Pairs, and writes behind them, that wait for their turn or have it: none while no command is under way.
    pub fn turns_in_use(&self) -> usize {
        self.turns.len()
    }

    /// Entries that free tickets keep room for in their lists of blocks, for tests: bounded whatever was under way.
    pub fn slot_lists_kept(&self) -> usize {
        self.slot_lists_kept
    }

    /// One command less of an attachment.
    pub(crate) fn command_ended(&mut self, id: AttachmentId) {
        let Some(attachment) = self.attachments.get_mut(id) else { return };
        attachment.commands = attachment.commands.saturating_sub(1);
        if attachment.detached {
            self.end_attachment(id);
        }
    }

    /// Takes a detached attachment away once its last command has ended.
    fn end_attachment(&mut self, id: AttachmentId) {
        let over = self.attachments.get(id).filter(|found| found.detached && found.commands == 0);
        let Some(access) = over.and_then(|attachment| attachment.access.as_ref()) else { return };
        if let Entry::Occupied(mut count) = self.attached.entry(access.session.host) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        self.attachments.remove(id);
    }

    /// Lets the store go on and takes what it has finished. True if there are completions to deliver.
    pub fn poll(&mut self) -> bool {
        while let Some(done) = self.store.poll() {
            self.store_done(done);
        }
        !self.completions.is_empty()
    }
}

impl<S: Store, F: FaultSink> BlockPort for Service<S, F> {
    fn attach(&mut self, request: AttachRequest) -> Result<AttachmentId, BlockError> {
        self.store.geometry(request.volume).ok_or(BlockError::Gone)?;
        let host = request.session.host;
        if self.attached.get(&host).is_some_and(|count| *count >= self.limits.host_attachments_max) {
            return Err(BlockError::Busy);
        }
        let counters = self.book.io(host, request.volume);
        let (id, attachment) = self.attachments.insert::<AttachmentId>().ok_or(BlockError::Busy)?;
        *self.attached.entry(host).or_default() += 1;
        let standing = self.fences.standing(request.volume, &request.session.nexus);
        attachment.access = Some(Admission {
            session: request.session,
            volume: request.volume,
            enforce: request.enforce,
            counters,
            standing,
            aborted_before: 0,
        });
        Ok(id)
    }

    fn detach(&mut self, id: AttachmentId) {
        let Some(attachment) = self.attachments.get_mut(id) else { return };
        attachment.detached = true;
        self.end_orphaned_legacy(id);
        self.end_attachment(id);
    }

    fn set_enforce(&mut self, id: AttachmentId, enforce: Enforce) {
        if let Some(access) = self.attachments.get_mut(id).and_then(|attachment| attachment.access.as_mut()) {
            access.enforce = enforce;
        }
    }

    fn begin(&mut self, command: &Command) -> Result<TicketId, BlockError> {
        self.admit(command)
    }

    fn is_crowded(&self, command: &Command) -> bool {
        // Reads are sent from where the blocks lie and take no room.
        matches!(command.operation, Operation::Write | Operation::CopyTarget)
            && self.arriving_bytes > self.limits.crowded_bytes
    }

    fn transfer_len(&self, id: TicketId) -> usize {
        let work = self.tickets.get(id).and_then(|ticket| ticket.work);
        work.map_or(0, |Work { command, shape }| transfer_len(&command, &shape))
    }

    fn fill(&mut self, id: TicketId, offset: usize, bytes: &[u8]) {
        let Some(ticket) = self.tickets.get_mut(id) else { return };
        let Some(Work { command, .. }) = ticket.work else { return };
        debug_assert_eq!(offset, ticket.arrival.taken, "a payload comes in order");
        if offset != ticket.arrival.taken {
            ticket.arrival.damaged = true;
            return;
        }
        if command.operation == Operation::Compare {
            if ticket.staged.capacity() == 0 {
                ticket.staged = self.spare_rooms.lend();
            }
            fill_staged(ticket, bytes);
            return;
        }
        let access = self.attachments.get(command.attachment).and_then(|found| found.access.as_ref());
        let Some(host) = access.map(|access| access.session.host) else { return };
        fill_slots(&mut self.store, ticket, host, bytes);
    }

    fn digest_failed(&mut self, id: TicketId) {
        if let Some(ticket) = self.tickets.get_mut(id) {
            ticket.arrival.damaged = true;
        }
    }

    fn submit(&mut self, id: TicketId) {
        if self.turns.is_empty() || !self.has_to_wait(id) {
            self.start(id);
        }
    }

    fn submit_fused(&mut self, compare: TicketId, write: TicketId) {
        self.queue_pair(compare, write);
    }

    fn carry(&mut self, source: TicketId, target: TicketId) {
        self.copy_over(source, target);
    }

    fn block_origin(&self, source: TicketId, index: usize) -> Option<BlockOrigin> {
        self.origin_of(source, index)
    }

    fn begin_reservation(
        &mut self,
        origin: Origin,
        attachment: AttachmentId,
        request: Request,
    ) -> Result<TicketId, BlockError> {
        self.begin_reserving(origin, attachment, request)
    }

    fn reservation_answer(&self, id: TicketId) -> Option<&Result<Effects, Refusal>> {
        self.tickets.get(id)?.reserving.as_ref()?.answer.as_ref()
    }

    fn reservation_report(&self, attachment: AttachmentId) -> Option<Arc<Reservations>> {
        let volume = self.access(attachment)?.volume;
        Some(self.reservations(volume).unwrap_or_default())
    }

    fn standing(&mut self, attachment: AttachmentId) -> Standing {
        self.access(attachment).map_or(Standing::FREE, |access| access.standing)
    }

    fn end_legacy_reservation(&mut self, attachment: AttachmentId) {
        if let Some(volume) = self.access(attachment).map(|access| access.volume) {
            self.end_legacy(volume, None);
        }
    }

    fn cancel(&mut self, id: TicketId) {
        let Some(ticket) = self.tickets.get_mut(id) else { return };
        if ticket.reserving.is_some() {
            return self.cancel_reserving(id);
        }
        match ticket.stage {
            Stage::Open => self.end(id),
            Stage::Waiting => {
                self.leave_turns(id, Stage::Waiting);
                self.end(id);
            }
            Stage::Submitted => {
                ticket.stage = Stage::Orphaned;
                self.leave_turns(id, Stage::Submitted);
            }
            Stage::Orphaned => {}
            Stage::Completed => {
                self.completions.retain(|completion| completion.ticket != id);
                self.end(id);
            }
        }
    }

    fn transmit<T: TransmitSink>(&self, id: TicketId, offset: usize, len: usize, sink: &mut T) {
        if let Some(ticket) = self.tickets.get(id) {
            read_path::transmit(&self.store, ticket, offset, len, sink);
        }
    }

    fn visit(&self, id: TicketId, offset: usize, len: usize, visitor: &mut dyn FnMut(&[u8])) {
        if let Some(ticket) = self.tickets.get(id) {
            read_path::visit(&self.store, ticket, offset, len, visitor);
        }
    }

    fn release(&mut self, id: TicketId) {
        let completed = self.tickets.get(id).is_some_and(|ticket| ticket.stage == Stage::Completed);
        debug_assert!(completed, "only a completed ticket is released, and once");
        if completed {
            self.end(id);
        }
    }

    fn next_completion(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    fn blocks_allocated(&self, volume: VolumeId) -> Option<u64> {
        self.store.usage(volume).map(|usage| usage.blocks_allocated)
    }
}

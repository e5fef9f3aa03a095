//! Admission, the life of tickets, completion. One instance per core, never shared.

use std::collections::VecDeque;
use std::sync::Arc;

use holdfast_pi::{InsertTags, PiFormat, guard_of, make_tuple};

use crate::attribution::FaultSink;
use crate::store::Geometry;
use crate::ticket::{Reusable, Shape, Stage, Table, Ticket, Work};
use crate::write_path::{fill_slots, fill_staged, inserted_record};
use crate::{
    AttachRequest, AttachmentId, BlockError, BlockPort, BlockRecord, Command, Completion, CounterBook,
    Direction, DurationTotals, Enforce, HostId, IoCounters, Layout, Operation, Session, SlotRef, Store,
    StoreDone, StoreError, StoreOp, TicketId, TransmitSink, VolumeId, read_path,
};

/// Bounds on what one core holds for its peers.
#[derive(Debug, Clone, Copy)]
pub struct ServiceLimits {
    /// Commands under way.
    pub tickets_max: usize,
    /// Sessions' accesses to volumes.
    pub attachments_max: usize,
    /// Payload bytes of Compare held aside.
    pub staged_bytes_max: usize,
    /// Payload bytes of Writes on their way above which [`BlockPort::is_crowded`] says so: well below the room that a
    /// pool has for writes under way.
    pub crowded_bytes: usize,
}

impl Default for ServiceLimits {
    /// 64 queues at depth 1024; every session on every volume it sees; 64 Compares of 1 MiB.
    fn default() -> Self {
        ServiceLimits {
            tickets_max: 65_536,
            attachments_max: 65_536,
            staged_bytes_max: 64 << 20,
            crowded_bytes: 64 << 20,
        }
    }
}

/// An admitted session on a volume.
#[derive(Debug, Default)]
struct Attachment {
    access: Option<Admission>,
    /// Commands under way: the entry outlives a detach until they are done.
    commands: u32,
    detached: bool,
}

#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) session: Arc<Session>,
    volume: VolumeId,
    enforce: Enforce,
    pub(crate) counters: Arc<IoCounters>,
}

impl Reusable for Attachment {
    fn reset(&mut self) {
        *self = Attachment::default();
    }
}

/// The block layer of one core.
#[derive(Debug)]
pub struct Service<S, F> {
    pub(crate) store: S,
    pub(crate) faults: F,
    book: Arc<CounterBook>,
    limits: ServiceLimits,
    attachments: Table<Attachment>,
    pub(crate) tickets: Table<Ticket>,
    completions: VecDeque<Completion>,
    staged_bytes: usize,
    /// Payload bytes of Writes that are admitted and not ended.
    arriving_bytes: usize,
    durations: Durations,
    now_us: u64,
    pub(crate) now_unix_ms: u64,
}

#[derive(Debug)]
struct Durations {
    read: Arc<DurationTotals>,
    write: Arc<DurationTotals>,
    other: Arc<DurationTotals>,
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
            tickets: Table::new(limits.tickets_max),
            completions: VecDeque::new(),
            staged_bytes: 0,
            arriving_bytes: 0,
            durations,
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

    /// Lets the store go on and takes what it has finished. True if there are completions to deliver.
    pub fn poll(&mut self) -> bool {
        while let Some(done) = self.store.poll() {
            self.store_done(done);
        }
        !self.completions.is_empty()
    }

    fn admit(&mut self, command: &Command) -> Result<TicketId, BlockError> {
        let access = self.attachments.get(command.attachment).filter(|attachment| !attachment.detached);
        let access = access.and_then(|attachment| attachment.access.as_ref()).ok_or(BlockError::Gone)?;
        let volume = access.volume;
        let geometry = self.store.geometry(volume).ok_or(BlockError::Gone)?;
        check_range(command, &geometry)?;
        if access.enforce == Enforce::RequirePi && lacks_pi(command, &geometry) {
            return Err(BlockError::InvalidProtection);
        }
        let wire_tuple_len = match (command.layout, geometry.format) {
            (Layout::Interleaved, Some(format)) => format.tuple_len(),
            (Layout::Interleaved, None) => return Err(BlockError::InvalidProtection),
            (Layout::DataOnly, _) => 0,
        };
        let shape = Shape { volume, block_len: geometry.block_len, format: geometry.format, wire_tuple_len };
        self.open_ticket(command, shape)
    }

    fn open_ticket(&mut self, command: &Command, shape: Shape) -> Result<TicketId, BlockError> {
        let staged = transfer_len(command, &shape);
        if command.operation == Operation::Compare
            && self.staged_bytes.saturating_add(staged) > self.limits.staged_bytes_max
        {
            return Err(BlockError::Busy);
        }
        let (id, ticket) = self.tickets.insert::<TicketId>().ok_or(BlockError::Busy)?;
        let needs_slots = command.operation == Operation::Write || makes_zeroes(command);
        if needs_slots && let Err(error) = self.store.reserve(shape.volume, command.blocks, &mut ticket.slots)
        {
            self.tickets.remove(id);
            // What is missing here is room for payloads under way, which comes back. Whether the pool is full shows when
            // the write is published.
            return Err(if error == StoreError::NoRoom { BlockError::Busy } else { store_error(error) });
        }
        ticket.work = Some(Work { command: *command, shape });
        ticket.admitted_us = self.now_us;
        match command.operation {
            Operation::Compare => self.staged_bytes += staged,
            Operation::Write => self.arriving_bytes += staged,
            _ => {}
        }
        if let Some(attachment) = self.attachments.get_mut(command.attachment) {
            attachment.commands += 1;
        }
        Ok(id)
    }

    fn start(&mut self, id: TicketId) {
        let Some(ticket) = self.tickets.get_mut(id) else { return };
        let Some(Work { command, shape }) = ticket.work else { return };
        debug_assert_eq!(ticket.stage, Stage::Open, "a ticket is submitted once");
        if let Some(error) = payload_error(ticket, &command, &shape) {
            self.payload_failed(id, error);
            return;
        }
        if makes_zeroes(&command)
            && let Some(host) = self.host_of(command.attachment)
        {
            self.fill_zeroes(id, host);
        }
        let Some(ticket) = self.tickets.get_mut(id) else { return };
        ticket.stage = Stage::Submitted;
        let slots = std::mem::take(&mut ticket.slots);
        let op = store_op(id.index, &command, &shape, slots);
        self.store.submit(op);
    }

    /// Fills the reserved slots of a Write Zeroes that makes tuples.
    fn fill_zeroes(&mut self, id: TicketId, host: HostId) {
        let Some(ticket) = self.tickets.get(id) else { return };
        let Some(Work { command, shape }) = ticket.work else { return };
        let (Some(format), Some(tags)) = (shape.format, command.insert) else { return };
        let guard = zero_guard(format);
        for (index, slot) in (0..).zip(&ticket.slots) {
            if let Some(block) = self.store.data_mut(shape.volume, *slot) {
                block.fill(0);
            }
            let record = zero_record(format, &tags, index, guard, host);
            self.store.set_record(shape.volume, *slot, &record);
        }
    }

    /// The payload was bad: nothing of the command is stored.
    fn payload_failed(&mut self, id: TicketId, error: BlockError) {
        let Some(ticket) = self.tickets.get(id) else { return };
        let Some(Work { command, .. }) = ticket.work else { return };
        let counts = ticket.arrival.counts;
        let direction = direction(command.operation);
        if let Some(access) = self.access(command.attachment) {
            access.counters.blocks(direction, &counts);
        }
        match error {
            BlockError::Protection(fault) => self.blame_arrival(id, &fault),
            BlockError::Digest => self.blame_digest(id),
            _ => {}
        }
        self.give_back_reserved(id);
        self.complete(id, Err(error));
    }

    fn give_back_reserved(&mut self, id: TicketId) {
        let Some(ticket) = self.tickets.get_mut(id) else { return };
        let Some(Work { shape, .. }) = ticket.work else { return };
        self.store.unreserve(shape.volume, &ticket.slots);
        ticket.slots.clear();
    }

    fn store_done(&mut self, done: StoreDone) {
        let Some(id) = self.tickets.name_at::<TicketId>(done.token) else {
            debug_assert!(false, "a ticket outlives its store operation");
            return;
        };
        let Some(ticket) = self.tickets.get_mut(id) else { return };
        ticket.slots = done.slots;
        if done.result.is_err() {
            // A failed Publish has given its slots back, a failed Read has pinned none.
            ticket.slots.clear();
        }
        let Some(Work { command, .. }) = ticket.work else { return };
        let pins = matches!(command.operation, Operation::Read | Operation::Compare | Operation::Verify);
        if !pins {
            ticket.slots.clear();
        }
        if ticket.stage == Stage::Orphaned {
            self.end(id);
            return;
        }
        let result = match done.result {
            Ok(()) if pins => self.finish_read(id),
            Ok(()) => {
                self.finish_write(id);
                Ok(())
            }
            Err(error) => {
                self.blame_store(id, error);
                Err(store_error(error))
            }
        };
        self.complete(id, result);
    }

    fn finish_write(&mut self, id: TicketId) {
        let Some(ticket) = self.tickets.get(id) else { return };
        let Some(Work { command, shape }) = ticket.work else { return };
        let Some(access) = self.access(command.attachment) else { return };
        if command.operation != Operation::Write {
            return;
        }
        access.counters.blocks(Direction::Write, &ticket.arrival.counts);
        if shape.format.is_some() && shape.wire_tuple_len == 0 {
            access.counters.inserted(u64::from(command.blocks.get()));
        }
        access.counters.done(Operation::Write, data_bytes(&command, &shape));
    }

    fn finish_read(&mut self, id: TicketId) -> Result<(), BlockError> {
        let Some(ticket) = self.tickets.get(id) else { return Err(BlockError::Internal) };
        let Some(Work { command, shape }) = ticket.work else { return Err(BlockError::Internal) };
        let counts = match read_path::check_stored(&self.store, &shape, &command.plan, &ticket.slots) {
            Ok(counts) => counts,
            Err(fault) => {
                self.blame_stored(id, &fault);
                return Err(BlockError::Protection(fault));
            }
        };
        let compared = match command.operation {
            Operation::Compare => read_path::compare(&self.store, ticket),
            _ => Ok(()),
        };
        if let Some(access) = self.access(command.attachment) {
            access.counters.blocks(Direction::Read, &counts);
            if command.operation == Operation::Read {
                if shape.format.is_some() && shape.wire_tuple_len == 0 {
                    access.counters.stripped(u64::from(command.blocks.get()));
                }
                access.counters.done(Operation::Read, data_bytes(&command, &shape));
            }
        }
        compared
    }

    fn complete(&mut self, id: TicketId, result: Result<(), BlockError>) {
        let Some(ticket) = self.tickets.get_mut(id) else { return };
        let Some(Work { command, .. }) = ticket.work else { return };
        debug_assert_ne!(ticket.stage, Stage::Completed, "a ticket is completed once");
        ticket.stage = Stage::Completed;
        let duration_us = self.now_us.saturating_sub(ticket.admitted_us);
        match command.operation {
            Operation::Read => &self.durations.read,
            Operation::Write => &self.durations.write,
            _ => &self.durations.other,
        }
        .record(duration_us);
        self.completions.push_back(Completion { origin: command.origin, ticket: id, result });
    }

    /// The last act of a ticket: pins, reservations, staged bytes and the attachment are let go.
    fn end(&mut self, id: TicketId) {
        let Some(ticket) = self.tickets.get_mut(id) else { return };
        let Some(Work { command, shape }) = ticket.work else {
            self.tickets.remove(id);
            return;
        };
        match command.operation {
            Operation::Read | Operation::Compare | Operation::Verify => {
                self.store.unpin(shape.volume, &ticket.slots);
            }
            Operation::Write | Operation::WriteZeroes => self.store.unreserve(shape.volume, &ticket.slots),
            Operation::Deallocate | Operation::Flush => {}
        }
        let moved = transfer_len(&command, &shape);
        match command.operation {
            Operation::Compare => self.staged_bytes = self.staged_bytes.saturating_sub(moved),
            Operation::Write => self.arriving_bytes = self.arriving_bytes.saturating_sub(moved),
            _ => {}
        }
        self.tickets.remove(id);
        let Some(attachment) = self.attachments.get_mut(command.attachment) else { return };
        attachment.commands = attachment.commands.saturating_sub(1);
        if attachment.detached && attachment.commands == 0 {
            self.attachments.remove(command.attachment);
        }
    }

    pub(crate) fn access(&self, id: AttachmentId) -> Option<&Admission> {
        self.attachments.get(id)?.access.as_ref()
    }

    fn host_of(&self, id: AttachmentId) -> Option<HostId> {
        self.access(id).map(|access| access.session.host)
    }
}

impl<S: Store, F: FaultSink> BlockPort for Service<S, F> {
    fn attach(&mut self, request: AttachRequest) -> Result<AttachmentId, BlockError> {
        self.store.geometry(request.volume).ok_or(BlockError::Gone)?;
        let counters = self.book.io(request.session.host, request.volume);
        let (id, attachment) = self.attachments.insert::<AttachmentId>().ok_or(BlockError::Busy)?;
        attachment.access = Some(Admission {
            session: request.session,
            volume: request.volume,
            enforce: request.enforce,
            counters,
        });
        Ok(id)
    }

    fn detach(&mut self, id: AttachmentId) {
        let Some(attachment) = self.attachments.get_mut(id) else { return };
        attachment.detached = true;
        if attachment.commands == 0 {
            self.attachments.remove(id);
        }
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
        command.operation == Operation::Write && self.arriving_bytes > self.limits.crowded_bytes
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
        self.start(id);
    }

    fn cancel(&mut self, id: TicketId) {
        let Some(ticket) = self.tickets.get_mut(id) else { return };
        match ticket.stage {
            Stage::Open => self.end(id),
            Stage::Submitted => ticket.stage = Stage::Orphaned,
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

fn check_range(command: &Command, geometry: &Geometry) -> Result<(), BlockError> {
    let end = command.lba.checked_add(u64::from(command.blocks.get())).ok_or(BlockError::OutOfRange)?;
    let within = end.0 <= geometry.block_count || command.operation == Operation::Flush;
    within.then_some(()).ok_or(BlockError::OutOfRange)
}

/// Whether a command that must carry tuples does not.
fn lacks_pi(command: &Command, geometry: &Geometry) -> bool {
    let carries = matches!(
        command.operation,
        Operation::Read | Operation::Write | Operation::Compare | Operation::Verify
    );
    carries && geometry.format.is_some() && command.layout == Layout::DataOnly
}

/// Whether a Write Zeroes stores real blocks, with tuples, rather than holes.
fn makes_zeroes(command: &Command) -> bool {
    command.operation == Operation::WriteZeroes && command.insert.is_some()
}

fn transfer_len(command: &Command, shape: &Shape) -> usize {
    match command.operation {
        Operation::Read | Operation::Write | Operation::Compare => {
            command.blocks.as_usize().saturating_mul(shape.block_len + shape.wire_tuple_len)
        }
        Operation::Verify | Operation::WriteZeroes | Operation::Deallocate | Operation::Flush => 0,
    }
}

fn data_bytes(command: &Command, shape: &Shape) -> u64 {
    u64::from(command.blocks.get()).saturating_mul(u64::try_from(shape.block_len).unwrap_or(0))
}

pub(crate) fn direction(operation: Operation) -> Direction {
    match operation {
        Operation::Write | Operation::WriteZeroes | Operation::Deallocate | Operation::Flush => {
            Direction::Write
        }
        Operation::Read | Operation::Compare | Operation::Verify => Direction::Read,
    }
}

/// What keeps a complete payload from being stored, if anything.
fn payload_error(ticket: &Ticket, command: &Command, shape: &Shape) -> Option<BlockError> {
    let arrival = &ticket.arrival;
    let carries = matches!(command.operation, Operation::Write | Operation::Compare);
    if arrival.damaged {
        Some(BlockError::Digest)
    } else if carries && arrival.taken != transfer_len(command, shape) {
        debug_assert!(false, "a payload is complete when it is submitted");
        Some(BlockError::Internal)
    } else {
        arrival.fault.map(BlockError::Protection)
    }
}

fn store_op(token: u32, command: &Command, shape: &Shape, slots: Vec<SlotRef>) -> StoreOp {
    let Shape { volume, .. } = *shape;
    let Command { lba, blocks, .. } = *command;
    match command.operation {
        Operation::Read | Operation::Compare | Operation::Verify => {
            StoreOp::Read { token, volume, lba, blocks, slots }
        }
        Operation::Write => {
            StoreOp::Publish { token, volume, lba, slots, durable: command.force_unit_access }
        }
        Operation::WriteZeroes if makes_zeroes(command) => {
            StoreOp::Publish { token, volume, lba, slots, durable: command.force_unit_access }
        }
        Operation::WriteZeroes | Operation::Deallocate => {
            StoreOp::Deallocate { token, volume, lba, blocks: u64::from(blocks.get()), slots }
        }
        Operation::Flush => StoreOp::Flush { token, volume, slots },
    }
}

fn store_error(error: StoreError) -> BlockError {
    match error {
        StoreError::NoVolume => BlockError::Gone,
        StoreError::OutOfRange => BlockError::OutOfRange,
        StoreError::NoRoom => BlockError::NoRoom,
        StoreError::Media => BlockError::Media,
    }
}

fn zero_guard(format: PiFormat) -> u64 {
    const ZEROES: [u8; 4096] = [0; 4096];
    guard_of(format.guard(), ZEROES.get(..format.block_len()).unwrap_or_default())
}

fn zero_record(format: PiFormat, tags: &InsertTags, index: u32, guard: u64, host: HostId) -> BlockRecord {
    inserted_record(format, &make_tuple(format, tags, index, guard), host)
}

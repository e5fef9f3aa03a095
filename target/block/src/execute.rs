//! From a complete command to its end: into the store, back from it, checked, counted, completed.

use holdfast_pi::{InsertTags, PiFormat, guard_of, make_tuple};

use crate::admission::{stores_blocks, transfer_len};
use crate::attribution::FaultSink;
use crate::ticket::{Shape, Stage, Ticket, Work};
use crate::write_path::inserted_record;
use crate::{
    BlockError, BlockRecord, Command, Completion, Direction, HostId, Operation, Provenance, Service, SlotRef,
    Store, StoreDone, StoreError, StoreOp, TicketId, read_path,
};

/// Entries of the lists of slots that free tickets keep for their next use: enough for 128 commands of 1 MiB, and 8 MiB.
const SLOT_LISTS_MAX: usize = 1 << 20;

impl<S: Store, F: FaultSink> Service<S, F> {
    /// Carries out a complete command.
    pub(crate) fn start(&mut self, id: TicketId) {
        let Some(ticket) = self.tickets.get_mut(id) else { return };
        let Some(Work { command, shape }) = ticket.work else { return };
        debug_assert!(matches!(ticket.stage, Stage::Open | Stage::Waiting), "a ticket is submitted once");
        if let Some(error) = payload_error(ticket, &command, &shape) {
            self.payload_failed(id, error);
            return;
        }
        if let Some(host) = self.host_of(command.attachment) {
            match command.operation {
                Operation::WriteZeroes if stores_blocks(&command) => self.fill_zeroes(id, host),
                Operation::WriteUncorrectable => self.fill_marks(id, host),
                _ => {}
            }
        }
        self.drill(id);
        let Some(ticket) = self.tickets.get_mut(id) else { return };
        ticket.stage = Stage::Submitted;
        let slots = std::mem::take(&mut ticket.slots);
        let op = store_op(id.index, &command, &shape, slots);
        self.change_begins(id);
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

    /// Makes the reserved slots of a Write Uncorrectable say that they cannot be read.
    fn fill_marks(&mut self, id: TicketId, host: HostId) {
        let Some(ticket) = self.tickets.get(id) else { return };
        let Some(Work { shape, .. }) = ticket.work else { return };
        let record =
            BlockRecord { tuple: [0; 16], provenance: Provenance::Uncorrectable, writer: Some(host) };
        for slot in &ticket.slots {
            self.store.set_record(shape.volume, *slot, &record);
        }
    }

    /// The payload was bad: nothing of the command is stored.
    fn payload_failed(&mut self, id: TicketId, error: BlockError) {
        let Some(ticket) = self.tickets.get(id) else { return };
        let Some(Work { command, .. }) = ticket.work else { return };
        let counts = ticket.arrival.counts;
        if counts_blocks(command.operation)
            && let Some(access) = self.access(command.attachment)
        {
            access.counters.blocks(direction(command.operation), &counts);
        }
        match error {
            BlockError::Protection(fault) => self.blame_arrival(id, &fault),
            BlockError::Digest => self.blame_digest(id),
            _ => {}
        }
        self.give_back_reserved(id);
        self.complete(id, Err(error));
    }

    pub(crate) fn give_back_reserved(&mut self, id: TicketId) {
        let Some(ticket) = self.tickets.get_mut(id) else { return };
        let Some(Work { shape, .. }) = ticket.work else { return };
        self.store.unreserve(shape.volume, &ticket.slots);
        ticket.slots.clear();
    }

    pub(crate) fn store_done(&mut self, done: StoreDone) {
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
        let Some(Work { command, shape }) = ticket.work else { return };
        let pins = reads(command.operation);
        if !pins {
            ticket.slots.clear();
        }
        let (orphaned, preempted) = (ticket.stage == Stage::Orphaned, ticket.preempted);
        if preempted {
            self.abort_done(shape.volume);
        }
        if orphaned {
            self.turns_changed(id, Err(BlockError::Gone));
            self.end(id);
            return;
        }
        let result = match done.result {
            Ok(()) if preempted => Err(BlockError::Preempted),
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
        self.turns_changed(id, result);
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
        let checked = match command.held {
            // Its payload's blocks came with tuples, and were checked.
            Some(_) => Ok(ticket.arrival.counts),
            None => read_path::check_stored(&self.store, &shape, &command.plan, &ticket.slots),
        };
        let counts = match checked {
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
        if counts_blocks(command.operation)
            && let Some(access) = self.access(command.attachment)
        {
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

    pub(crate) fn complete(&mut self, id: TicketId, result: Result<(), BlockError>) {
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
    pub(crate) fn end(&mut self, id: TicketId) {
        let Some(ticket) = self.tickets.get_mut(id) else { return };
        let Some(Work { command, shape }) = ticket.work else {
            self.end_reserving(id);
            return;
        };
        if reads(command.operation) {
            self.store.unpin(shape.volume, &ticket.slots);
        } else if stores_blocks(&command) {
            self.store.unreserve(shape.volume, &ticket.slots);
        }
        let moved = transfer_len(&command, &shape);
        match command.operation {
            Operation::Compare => {
                self.staged_bytes = self.staged_bytes.saturating_sub(moved);
                let staged = std::mem::take(&mut ticket.staged);
                self.spare_rooms.take_back(staged);
            }
            Operation::Write | Operation::CopyTarget => {
                self.arriving_bytes = self.arriving_bytes.saturating_sub(moved);
            }
            _ => {}
        }
        let kept = self.slot_lists_kept.saturating_add(ticket.slots.capacity());
        if kept > SLOT_LISTS_MAX {
            ticket.slots = Vec::new();
        } else {
            self.slot_lists_kept = kept;
        }
        self.tickets.remove(id);
        self.command_ended(command.attachment);
    }
}

/// Whether a command finds and pins stored blocks.
pub(crate) fn reads(operation: Operation) -> bool {
    direction(operation) == Direction::Read
}

/// Whether a command's blocks are counted: those that come from a host or go to it, and those of Verify.
fn counts_blocks(operation: Operation) -> bool {
    matches!(operation, Operation::Read | Operation::Write | Operation::Compare | Operation::Verify)
}

fn data_bytes(command: &Command, shape: &Shape) -> u64 {
    u64::from(command.blocks.get()).saturating_mul(u64::try_from(shape.block_len).unwrap_or(0))
}

pub(crate) fn direction(operation: Operation) -> Direction {
    match operation {
        Operation::Write
        | Operation::WriteZeroes
        | Operation::WriteUncorrectable
        | Operation::Deallocate
        | Operation::Flush
        | Operation::CopyTarget => Direction::Write,
        Operation::Read | Operation::Compare | Operation::Verify | Operation::CopySource => Direction::Read,
    }
}

/// What keeps a complete payload from being stored, if anything.
fn payload_error(ticket: &Ticket, command: &Command, shape: &Shape) -> Option<BlockError> {
    let arrival = &ticket.arrival;
    let carries = matches!(command.operation, Operation::Write | Operation::Compare | Operation::CopyTarget);
    if ticket.preempted {
        Some(BlockError::Preempted)
    } else if arrival.damaged {
        Some(BlockError::Digest)
    } else if carries && arrival.taken != transfer_len(command, shape) {
        debug_assert!(false, "a payload is complete when it is submitted");
        Some(BlockError::Internal)
    } else {
        arrival.fault.filter(|_| !holdfast_mutant::active("pi-fault-stored")).map(BlockError::Protection)
    }
}

fn store_op(token: u32, command: &Command, shape: &Shape, slots: Vec<SlotRef>) -> StoreOp {
    let Shape { volume, .. } = *shape;
    let Command { lba, blocks, .. } = *command;
    if stores_blocks(command) {
        return StoreOp::Publish { token, volume, lba, slots, durable: command.force_unit_access };
    }
    match direction(command.operation) {
        Direction::Read => StoreOp::Read { token, volume, lba, blocks, slots },
        Direction::Write if command.operation == Operation::Flush => StoreOp::Flush { token, volume, slots },
        Direction::Write => {
            StoreOp::Deallocate { token, volume, lba, blocks: u64::from(blocks.get()), slots }
        }
    }
}

pub(crate) fn store_error(error: StoreError) -> BlockError {
    match error {
        StoreError::NoVolume => BlockError::Gone,
        StoreError::OutOfRange => BlockError::OutOfRange,
        StoreError::NoRoom => BlockError::NoRoom,
        StoreError::Busy => BlockError::Busy,
        StoreError::Media(lba) | StoreError::ReadFault(lba) => BlockError::Media(lba),
        StoreError::Uncorrectable(lba) => BlockError::Uncorrectable(lba),
        StoreError::WriteFault => BlockError::WriteFault,
    }
}

fn zero_guard(format: PiFormat) -> u64 {
    const ZEROES: [u8; 4096] = [0; 4096];
    guard_of(format.guard(), ZEROES.get(..format.block_len()).unwrap_or_default())
}

fn zero_record(format: PiFormat, tags: &InsertTags, index: u32, guard: u64, host: HostId) -> BlockRecord {
    inserted_record(format, &make_tuple(format, tags, index, guard), host)
}

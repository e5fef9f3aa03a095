//! Admission: who may do what to which volume, and with what room. Decided before any payload is asked for.

use std::sync::Arc;

use crate::attribution::FaultSink;
use crate::execute::store_error;
use crate::reservations::{Access, Standing};
use crate::store::Geometry;
use crate::ticket::{Reusable, Shape, Work};
use crate::{
    AttachmentId, BlockError, Command, Enforce, HostId, IoCounters, Layout, Operation, Service, Session,
    Store, TicketId, VolumeId,
};

/// An admitted session on a volume.
#[derive(Debug, Default)]
pub(crate) struct Attachment {
    pub(crate) access: Option<Admission>,
    /// Commands under way: the entry outlives a detach until they are done.
    pub(crate) commands: u32,
    pub(crate) detached: bool,
}

#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) session: Arc<Session>,
    pub(crate) volume: VolumeId,
    pub(crate) enforce: Enforce,
    pub(crate) counters: Arc<IoCounters>,
    /// What the volume's reservations refuse to the session's nexus.
    pub(crate) standing: Standing,
    /// Commands that were admitted before the reservations of all volumes were at this point were aborted by a preemption.
    pub(crate) aborted_before: u64,
}

impl Reusable for Attachment {
    fn reset(&mut self) {
        *self = Attachment::default();
    }
}

impl<S: Store, F: FaultSink> Service<S, F> {
    pub(crate) fn admit(&mut self, command: &Command) -> Result<TicketId, BlockError> {
        let access = self.attachments.get(command.attachment).filter(|attachment| !attachment.detached);
        let access = access.and_then(|attachment| attachment.access.as_ref()).ok_or(BlockError::Gone)?;
        let volume = access.volume;
        if !access.standing.is_free() {
            access.standing.check(Access::of(command.operation))?;
        }
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
        self.slot_lists_kept = self.slot_lists_kept.saturating_sub(ticket.slots.capacity());
        if stores_blocks(command)
            && let Err(error) =
                self.store.reserve(shape.volume, command.lba, command.blocks, &mut ticket.slots)
        {
            self.slot_lists_kept += ticket.slots.capacity();
            self.tickets.remove(id);
            return Err(store_error(error));
        }
        ticket.work = Some(Work { command: *command, shape });
        ticket.admitted_us = self.now_us;
        match command.operation {
            Operation::Compare => self.staged_bytes += staged,
            Operation::Write | Operation::CopyTarget => self.arriving_bytes += staged,
            _ => {}
        }
        if let Some(attachment) = self.attachments.get_mut(command.attachment) {
            attachment.commands += 1;
        }
        Ok(id)
    }

    pub(crate) fn access(&self, id: AttachmentId) -> Option<&Admission> {
        self.attachments.get(id)?.access.as_ref()
    }

    pub(crate) fn host_of(&self, id: AttachmentId) -> Option<HostId> {
        self.access(id).map(|access| access.session.host)
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

/// Whether a command fills slots of its own and publishes them.
pub(crate) fn stores_blocks(command: &Command) -> bool {
    match command.operation {
        Operation::Write | Operation::WriteUncorrectable | Operation::CopyTarget => true,
        // Without tuples, zeroes are holes.
        Operation::WriteZeroes => command.insert.is_some(),
        Operation::Read
        | Operation::Compare
        | Operation::Verify
        | Operation::Deallocate
        | Operation::Flush
        | Operation::CopySource => false,
    }
}

/// Bytes that a command moves: to or from the host, or from one ticket to another.
pub(crate) fn transfer_len(command: &Command, shape: &Shape) -> usize {
    match command.operation {
        Operation::Read
        | Operation::Write
        | Operation::Compare
        | Operation::CopySource
        | Operation::CopyTarget => {
            command.blocks.as_usize().saturating_mul(shape.block_len + shape.wire_tuple_len)
        }
        Operation::Verify
        | Operation::WriteZeroes
        | Operation::WriteUncorrectable
        | Operation::Deallocate
        | Operation::Flush => 0,
    }
}

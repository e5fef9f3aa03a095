//! Blocks from one ticket to another: the inside of a Copy. NVM Command Set 1.1 §3.3.2 "Copy command", §5.3.2.5 "Protection
//! Information and Copy commands".
//!
//! A Copy is a [`Operation::CopySource`] for each of its ranges and one [`Operation::CopyTarget`], which takes the sources'
//! blocks in their order and is published whole. What it takes as it is stays as it is, origin included: a copy
//! of a bad block still names who wrote it, and a copy makes nothing good that went bad here.

use holdfast_pi::{InsertTags, PiFormat, Tuple};

use crate::attribution::FaultSink;
use crate::ticket::Work;
use crate::write_path::fill_slots;
use crate::{BlockRecord, HostId, Operation, Provenance, Service, Store, TicketId, read_path};

/// Bytes of the longest block with its tuple.
pub const WIRE_BLOCK_LEN_MAX: usize = 4096 + 16;

/// How a block that is copied came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockOrigin {
    /// How its tuple was made, and what was found on arrival.
    pub provenance: Provenance,
    /// Who wrote it; `None` for a hole.
    pub writer: Option<HostId>,
}

/// A tuple in its new place: its reference tag is that of the place. Gives its length, too.
fn moved_tuple(format: PiFormat, tags: &InsertTags, index: usize, tuple: &[u8]) -> Option<([u8; 16], usize)> {
    let mut moved = Tuple::decode(format, tuple)?;
    moved.ref_tag = format.ref_tag_at(tags.initial_ref, u32::try_from(index).ok()?);
    let mut bytes = [0; 16];
    moved.encode(format, bytes.get_mut(..tuple.len())?).then_some((bytes, tuple.len()))
}

impl<S: Store, F: FaultSink> Service<S, F> {
    /// Shows block `index` of a completed source, with its tuple if the source is interleaved. `None` beyond its end, and of
    /// every other command.
    pub fn copy_out<R>(
        &self,
        source: TicketId,
        index: usize,
        show: impl FnOnce(&[u8], BlockOrigin) -> R,
    ) -> Option<R> {
        let ticket = self.tickets.get(source)?;
        let Work { shape, .. } =
            ticket.work.filter(|work| work.command.operation == Operation::CopySource)?;
        let slot = *ticket.slots.get(index)?;
        let record = self.store.record(shape.volume, slot);
        let origin = BlockOrigin { provenance: record.provenance, writer: record.writer };
        let data = read_path::data_of(&self.store, &shape, slot);
        if shape.wire_tuple_len == 0 {
            return Some(show(data, origin));
        }
        let mut room = [0; WIRE_BLOCK_LEN_MAX];
        let wire = room.get_mut(..shape.block_len + shape.wire_tuple_len)?;
        let (to_data, to_tuple) = wire.split_at_mut_checked(shape.block_len)?;
        to_data.copy_from_slice(data);
        to_tuple.copy_from_slice(record.tuple.get(..shape.wire_tuple_len)?);
        Some(show(wire, origin))
    }

    /// How block `index` of a completed source came to be.
    pub(crate) fn origin_of(&self, source: TicketId, index: usize) -> Option<BlockOrigin> {
        let ticket = self.tickets.get(source)?;
        let Work { shape, .. } =
            ticket.work.filter(|work| work.command.operation == Operation::CopySource)?;
        let record = self.store.record(shape.volume, *ticket.slots.get(index)?);
        Some(BlockOrigin { provenance: record.provenance, writer: record.writer })
    }

    /// Takes the next block of a target: one block as on the wire.
    pub fn copy_in(&mut self, target: TicketId, wire: &[u8], origin: BlockOrigin) {
        let Some(ticket) = self.tickets.get_mut(target) else { return };
        let Some(Work { command, shape }) = ticket.work else { return };
        debug_assert_eq!(command.operation, Operation::CopyTarget);
        let wire_block_len = shape.block_len + shape.wire_tuple_len;
        debug_assert_eq!(wire.len(), wire_block_len, "blocks are copied whole");
        let index = ticket.arrival.taken / wire_block_len;
        let access = self.attachments.get(command.attachment).and_then(|found| found.access.as_ref());
        let Some(host) = access.map(|access| access.session.host) else { return };
        let (data, tuple) = wire.split_at_checked(shape.block_len).unwrap_or((wire, &[]));
        fill_slots(&mut self.store, ticket, host, data);
        if shape.wire_tuple_len == 0 {
            return;
        }
        let renewed = command.insert.filter(|_| origin.provenance != Provenance::Hole);
        match shape.format.zip(renewed).and_then(|(format, tags)| moved_tuple(format, &tags, index, tuple)) {
            Some((moved, len)) => {
                fill_slots(&mut self.store, ticket, host, moved.get(..len).unwrap_or_default());
            }
            None => fill_slots(&mut self.store, ticket, host, tuple),
        }
        if let Some(slot) = ticket.slots.get(index) {
            let BlockRecord { tuple, .. } = self.store.record(shape.volume, *slot);
            let BlockOrigin { provenance, writer } = origin;
            self.store.set_record(shape.volume, *slot, &BlockRecord { tuple, provenance, writer });
        }
    }

    /// Takes all blocks of a completed source into a target.
    pub(crate) fn copy_over(&mut self, source: TicketId, target: TicketId) {
        let mut room = [0; WIRE_BLOCK_LEN_MAX];
        for index in 0.. {
            let taken = self.copy_out(source, index, |wire, origin| {
                let place = room.get_mut(..wire.len())?;
                place.copy_from_slice(wire);
                Some((wire.len(), origin))
            });
            let Some(Some((len, origin))) = taken else { return };
            self.copy_in(target, room.get(..len).unwrap_or_default(), origin);
        }
    }
}

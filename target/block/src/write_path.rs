//! Payload on its way in: copied once, straight into the reserved slots, its guards computed in the same
//! pass, its tuples checked or made block by block.

use holdfast_pi::{
    BlockGuard, CheckPlan, Checked, Part, PiFormat, Piece, Tuple, check_tuple, make_tuple, split,
};

use crate::ticket::{Arrival, Shape, Ticket, Work};
use crate::{BlockRecord, HostId, Operation, Provenance, SlotRef, Store};

/// Takes the next bytes of a Write into its slots.
pub(crate) fn fill_slots<S: Store>(store: &mut S, ticket: &mut Ticket, host: HostId, bytes: &[u8]) {
    let Some(Work { command, shape }) = ticket.work else { return };
    let arrival = &mut ticket.arrival;
    for piece in split(shape.block_len, shape.wire_tuple_len, arrival.taken, bytes) {
        let Some(slot) = usize::try_from(piece.block).ok().and_then(|index| ticket.slots.get(index)) else {
            debug_assert!(false, "the protocol asks for no more bytes than the transfer has");
            return;
        };
        match piece.part {
            Part::Data => {
                let Some(room) = room_for(store, &shape, *slot, &piece) else {
                    debug_assert!(false, "a reserved slot has room for its block");
                    return;
                };
                match shape.format {
                    Some(format) => {
                        let guard = arrival.guard.get_or_insert_with(|| BlockGuard::new(format));
                        guard.copy_in(&piece, room);
                    }
                    None => room.copy_from_slice(piece.bytes),
                }
                let complete = piece.offset + piece.bytes.len() == shape.block_len;
                if complete && shape.wire_tuple_len == 0 {
                    let record = match (shape.format, command.insert) {
                        (Some(format), Some(mut tags)) => {
                            if holdfast_mutant::active("pi-insert-app") {
                                tags.app_tag = 0;
                            }
                            let guard = finish_guard(arrival, format);
                            inserted_record(format, &make_tuple(format, &tags, piece.block, guard), host)
                        }
                        _ => bare_record(host),
                    };
                    store.set_record(shape.volume, *slot, &record);
                }
            }
            Part::Tuple => {
                let Some(format) = shape.format else { continue };
                if collect_tuple(arrival, &piece, format) {
                    let record = judge(arrival, format, &command.plan, piece.block, host);
                    store.set_record(shape.volume, *slot, &record);
                }
            }
        }
    }
    arrival.taken += bytes.len();
}

/// Takes the next bytes of a Compare aside; they are held against the stored blocks when complete.
pub(crate) fn fill_staged(ticket: &mut Ticket, bytes: &[u8]) {
    ticket.staged.extend_from_slice(bytes);
    let Some(Work { command, shape }) = ticket.work else { return };
    let arrival = &mut ticket.arrival;
    debug_assert_eq!(command.operation, Operation::Compare);
    if let Some(format) = shape.format.filter(|_| shape.wire_tuple_len > 0) {
        for piece in split(shape.block_len, shape.wire_tuple_len, arrival.taken, bytes) {
            match piece.part {
                Part::Data => arrival.guard.get_or_insert_with(|| BlockGuard::new(format)).take_in(&piece),
                Part::Tuple => {
                    if collect_tuple(arrival, &piece, format) {
                        arrive(arrival, format, &command.plan, piece.block);
                    }
                }
            }
        }
    }
    arrival.taken += bytes.len();
}

/// The record of a block whose tuple was made here.
pub(crate) fn inserted_record(format: PiFormat, tuple: &Tuple, host: HostId) -> BlockRecord {
    let mut record = BlockRecord { tuple: [0; 16], provenance: Provenance::Inserted, writer: Some(host) };
    let encoded = record.tuple.get_mut(..format.tuple_len()).is_some_and(|room| tuple.encode(format, room));
    debug_assert!(encoded, "a tuple fits a record");
    record
}

/// The record of a block on a volume without protection information.
fn bare_record(host: HostId) -> BlockRecord {
    BlockRecord { tuple: [0; 16], provenance: Provenance::Inserted, writer: Some(host) }
}

/// Where a piece of data goes; as long as the piece.
fn room_for<'a, S: Store>(
    store: &'a mut S,
    shape: &Shape,
    slot: SlotRef,
    piece: &Piece<'_>,
) -> Option<&'a mut [u8]> {
    let end = piece.offset.checked_add(piece.bytes.len())?;
    store.data_mut(shape.volume, slot)?.get_mut(piece.offset..end)
}

/// Adds tuple bytes; true when the tuple is complete.
fn collect_tuple(arrival: &mut Arrival, piece: &Piece<'_>, format: PiFormat) -> bool {
    let end = piece.offset + piece.bytes.len();
    if let Some(room) = arrival.tuple.get_mut(piece.offset..end) {
        room.copy_from_slice(piece.bytes);
    }
    end == format.tuple_len()
}

/// Judges the block whose last byte has come, and makes its record. The guard is computed in any case: that is how a
/// bad one, stored on request, is told from one that went bad here.
fn judge(arrival: &mut Arrival, format: PiFormat, plan: &CheckPlan, block: u32, host: HostId) -> BlockRecord {
    let good = arrive(arrival, format, plan, block);
    let mut tuple = [0; 16];
    if let (Some(to), Some(from)) =
        (tuple.get_mut(..format.tuple_len()), arrival.tuple.get(..format.tuple_len()))
    {
        to.copy_from_slice(from);
    }
    let provenance = if good { Provenance::HostGood } else { Provenance::HostBadGuard };
    BlockRecord { tuple, provenance, writer: Some(host) }
}

/// Checks one arrived block and tallies it. True if its guard is right, asked for or not.
fn arrive(arrival: &mut Arrival, format: PiFormat, plan: &CheckPlan, block: u32) -> bool {
    let guard = finish_guard(arrival, format);
    let bytes = arrival.tuple.get(..format.tuple_len()).unwrap_or_default();
    let Some(tuple) = Tuple::decode(format, bytes) else { return false };
    match check_tuple(format, plan, block, guard, &tuple) {
        Ok(outcome) => arrival.counts.add(outcome),
        Err(fault) => {
            // It came with a tuple, and a tag was compared.
            arrival.counts.add(Checked::Checked);
            if arrival.fault.is_none() {
                arrival.fault = Some(fault);
                arrival.fault_guard_good = tuple.guard == guard;
            }
        }
    }
    tuple.guard == guard
}

fn finish_guard(arrival: &mut Arrival, format: PiFormat) -> u64 {
    arrival.guard.get_or_insert_with(|| BlockGuard::new(format)).finish()
}

//! Blocks on their way out: checked as the command asks, held against a Compare's payload, sent from
//! where they lie.

use holdfast_pi::{
    CheckPlan, Checked, Counts, Fault, Part, PiFormat, Piece, Tag, Tuple, check_tuple, guards_of, split,
};

use crate::ticket::{Shape, Ticket, Work};
use crate::{BlockError, Difference, HeldTags, SlotRef, Store, TransmitSink};

/// Blocks whose guards are computed in one call. A multiple of what the kernels take at once.
const GUARDS_AT_ONCE: usize = 8;

/// A block of zeroes: what holes read as.
const ZEROES: [u8; 4096] = [0; 4096];

/// Checks the stored blocks of a command in order. The error is the fault of the lowest bad block.
pub(crate) fn check_stored<S: Store>(
    store: &S,
    shape: &Shape,
    plan: &CheckPlan,
    slots: &[SlotRef],
) -> Result<Counts, Fault> {
    let mut counts = Counts::default();
    let Some(format) = shape.format else { return Ok(counts) };
    if !plan.compares_anything() {
        slots.iter().for_each(|_| counts.add(Checked::Unchecked));
        return Ok(counts);
    }
    let mut indices = 0..;
    for slots in slots.chunks(GUARDS_AT_ONCE) {
        let mut guards = [0; GUARDS_AT_ONCE];
        if plan.check_guard {
            let mut blocks: [&[u8]; GUARDS_AT_ONCE] = [&[]; GUARDS_AT_ONCE];
            for (block, slot) in blocks.iter_mut().zip(slots) {
                *block = store.data(shape.volume, *slot).unwrap_or_default();
            }
            guards_of(format.guard(), blocks.get(..slots.len()).unwrap_or_default(), &mut guards);
        }
        for ((slot, guard), index) in slots.iter().zip(guards).zip(&mut indices) {
            counts.add(check_one(store, shape, format, plan, index, *slot, guard)?);
        }
    }
    Ok(counts)
}

/// Checks one stored block, whose guard was computed if the plan looks at it.
fn check_one<S: Store>(
    store: &S,
    shape: &Shape,
    format: PiFormat,
    plan: &CheckPlan,
    index: u32,
    slot: SlotRef,
    guard: u64,
) -> Result<Checked, Fault> {
    if slot.is_hole() {
        return Ok(Checked::Escaped);
    }
    let record = store.record(shape.volume, slot);
    let tuple = record.tuple.get(..format.tuple_len()).and_then(|bytes| Tuple::decode(format, bytes));
    let tuple = tuple.unwrap_or(Tuple::all_ones(format));
    check_tuple(format, plan, index, guard, &tuple)
}

/// Holds a Compare's payload against the stored blocks: all data, and of the tuples what the command wants held. Without that
/// they are checked on both sides, but not held against each other (NVM Command Set 1.1 §3.3.1 "Compare command").
pub(crate) fn compare<S: Store>(store: &S, ticket: &Ticket) -> Result<(), BlockError> {
    let Some(Work { shape, command }) = ticket.work else { return Err(BlockError::Internal) };
    let pieces = split(shape.block_len, shape.wire_tuple_len, 0, &ticket.staged);
    let most = if holdfast_mutant::active("compare-first") { 1 } else { usize::MAX };
    let compared = |piece: &Piece<'_>| piece.part == Part::Data || command.held.is_some();
    for piece in pieces.filter(compared).take(most) {
        let slot = usize::try_from(piece.block).ok().and_then(|index| ticket.slots.get(index));
        let slot = *slot.ok_or(BlockError::Internal)?;
        let found = match (piece.part, command.held, shape.format) {
            (Part::Tuple, Some(held), Some(format)) => {
                differs_in_tuple(store, &shape, format, held, slot, &piece)
            }
            _ => differs_in_data(store, &shape, slot, &piece).map(|at| (at, None)),
        };
        if let Some((at, tag)) = found {
            let wire_block_len = shape.block_len + shape.wire_tuple_len;
            let before = usize::try_from(piece.block).unwrap_or(0).saturating_mul(wire_block_len);
            let part = if piece.part == Part::Tuple { shape.block_len } else { 0 };
            let offset = before.saturating_add(part + at);
            return Err(BlockError::Miscompare(Difference { block_index: piece.block, offset, tag }));
        }
    }
    Ok(())
}

/// Where in a block the payload's data first differs from the stored.
fn differs_in_data<S: Store>(store: &S, shape: &Shape, slot: SlotRef, piece: &Piece<'_>) -> Option<usize> {
    let end = piece.offset + piece.bytes.len();
    let stored = data_of(store, shape, slot).get(piece.offset..end).unwrap_or_default();
    if stored == piece.bytes {
        return None;
    }
    let at = stored.iter().zip(piece.bytes).position(|(stored, came)| stored != came);
    Some(piece.offset + at.unwrap_or(0))
}

/// Where in a tuple the first field differs that is held, and which that is.
fn differs_in_tuple<S: Store>(
    store: &S,
    shape: &Shape,
    format: PiFormat,
    held: HeldTags,
    slot: SlotRef,
    piece: &Piece<'_>,
) -> Option<(usize, Option<Tag>)> {
    let record = store.record(shape.volume, slot);
    let stored = record.tuple.get(..format.tuple_len()).and_then(|bytes| Tuple::decode(format, bytes))?;
    let came = Tuple::decode(format, piece.bytes)?;
    let guard_len = usize::from(format.guard().guard_bits() / 8);
    let found = if held.guard && came.guard != stored.guard {
        (0, Tag::Guard)
    } else if held.app && came.app_tag != stored.app_tag {
        (guard_len, Tag::App)
    } else if held.reference && came.ref_tag != stored.ref_tag {
        (guard_len + 2, Tag::Ref)
    } else {
        return None;
    };
    Some((found.0, Some(found.1)))
}

/// Puts wire bytes `offset..offset + len` of a completed Read into a send, referring to the blocks where they lie.
pub(crate) fn transmit<S: Store, T: TransmitSink>(
    store: &S,
    ticket: &Ticket,
    offset: usize,
    len: usize,
    sink: &mut T,
) {
    for_each_part(ticket, offset, len, |shape, slot, part, from, take| match part {
        Part::Data => match store.location(shape.volume, slot) {
            Some(location) => sink.region(location.region, location.offset + from, take),
            None => sink.zeroes(take),
        },
        Part::Tuple => {
            let tuple = store.record(shape.volume, slot).tuple;
            sink.inline(tuple.get(from..from + take).unwrap_or_default());
        }
    });
}

/// Shows the same bytes to a visitor.
pub(crate) fn visit<S: Store>(
    store: &S,
    ticket: &Ticket,
    offset: usize,
    len: usize,
    visitor: &mut dyn FnMut(&[u8]),
) {
    for_each_part(ticket, offset, len, |shape, slot, part, from, take| match part {
        Part::Data => visitor(data_of(store, shape, slot).get(from..from + take).unwrap_or_default()),
        Part::Tuple => {
            let tuple = store.record(shape.volume, slot).tuple;
            visitor(tuple.get(from..from + take).unwrap_or_default());
        }
    });
}

/// Walks the wire bytes `offset..offset + len` of a transfer part by part: `(shape, slot, part, from, take)`.
fn for_each_part(
    ticket: &Ticket,
    offset: usize,
    len: usize,
    mut visit: impl FnMut(&Shape, SlotRef, Part, usize, usize),
) {
    let Some(Work { shape, .. }) = ticket.work else { return };
    let wire_block_len = shape.block_len + shape.wire_tuple_len;
    let mut index = offset / wire_block_len;
    let mut within = offset % wire_block_len;
    let mut rest = len;
    while rest > 0 {
        let Some(slot) = ticket.slots.get(index) else {
            debug_assert!(false, "the protocol sends no more bytes than the transfer has");
            return;
        };
        let (part, from, until) = if within < shape.block_len {
            (Part::Data, within, shape.block_len)
        } else {
            (Part::Tuple, within - shape.block_len, shape.wire_tuple_len)
        };
        let take = rest.min(until - from);
        visit(&shape, *slot, part, from, take);
        rest -= take;
        within += take;
        if within == wire_block_len {
            within = 0;
            index += 1;
        }
    }
}

pub(crate) fn data_of<'a, S: Store>(store: &'a S, shape: &Shape, slot: SlotRef) -> &'a [u8] {
    store.data(shape.volume, slot).unwrap_or_else(|| ZEROES.get(..shape.block_len).unwrap_or_default())
}

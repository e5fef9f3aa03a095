//! Copy. NVM Command Set 1.1 §3.3.2 "Copy command".
//!
//! A Copy is as long as the longest transfer at most, so that it gets room for all its blocks before it begins, takes them
//! range after range, and stores them at once: it is atomic (NVMCSA), and a Copy that fails has stored nothing.

use holdfast_block::{BlockCount, BlockPort, Command, Operation, Origin};

use super::protection::{self, Protection};
use super::rows::{Step, Steps};
use super::{IoPlan, IoQueueView, blocks_at_once, check_extensions, check_range, command, resolve};
use crate::connection::Context;
use crate::limits::COPY_RANGES_MAX;
use crate::namespaces::Mapped;
use crate::status::Status;
use crate::wire::nvm::{CopyFields, CopyRange};
use crate::wire::sqe::Sqe;

/// The last descriptor format of those without a source namespace.
const LAST_LOCAL_FORMAT: u8 = 1;
/// The last descriptor format for logical blocks.
const LAST_FORMAT: u8 = 3;

/// Judges a Copy as far as that is possible without its ranges.
pub(super) fn plan<P: BlockPort>(
    cx: &mut Context<'_, P>,
    queue: &mut IoQueueView<'_>,
    sqe: &Sqe,
) -> Result<IoPlan, Status> {
    let target = resolve(cx, queue, sqe.nsid.get())?;
    let copy = CopyFields::of(sqe);
    let is_enabled = copy.format <= LAST_LOCAL_FORMAT
        || (copy.format <= LAST_FORMAT && queue.controller.takes_copy_format(copy.format));
    if !is_enabled {
        return Err(Status::INVALID_FIELD);
    }
    check_extensions(sqe, Operation::CopyTarget)?;
    // Figure 38: even formats hold the tags of 8-byte tuples, odd ones those of 16-byte tuples.
    let tuple_len = if copy.format & 1 == 0 { 8 } else { 16 };
    if target.visible.is_some_and(|format| format.tuple_len() != tuple_len) {
        return Err(Status::INVALID_NAMESPACE);
    }
    if copy.ranges > COPY_RANGES_MAX + usize::from(holdfast_mutant::active("copy-ranges")) {
        return Err(Status::COMMAND_SIZE_LIMIT);
    }
    Ok(IoPlan::Collect { len: copy.ranges * CopyRange::len(copy.format) })
}

/// Judges the whole of it: nothing is read before everything is known to be in order.
pub(super) fn collected<P: BlockPort>(
    cx: &mut Context<'_, P>,
    queue: &mut IoQueueView<'_>,
    sqe: &Sqe,
    payload: &[u8],
) -> Result<IoPlan, Status> {
    let mut whole = head(cx, queue, sqe)?;
    whole.add_up(payload)?;
    let copy = &whole.copy;
    if copy.target.blocks.get() > blocks_at_once(&whole.target) {
        // MSSRL is no less than MCL, so that one look is enough for both.
        return Err(Status::COMMAND_SIZE_LIMIT);
    }
    check_range(&whole.target, &copy.target)?;
    let first = source(cx, queue, &whole, payload, 0)?.mapped.visible.is_some();
    for number in 0..copy.ranges {
        let source = source(cx, queue, &whole, payload, number)?;
        check_range(&source.mapped, &source.range.fields)?;
        if source.mapped.visible.is_some() != first {
            return Err(Status::INCOMPATIBLE_FORMAT);
        }
        if copy.format > LAST_LOCAL_FORMAT && overlaps(&whole, &source) {
            return Err(Status::OVERLAPPING_RANGE);
        }
    }
    Ok(IoPlan::row(Steps::Copy { next: Next::Room }))
}

/// What is next: room for the destination, then one source after the other, then the destination.
pub(super) fn next_step<P: BlockPort>(
    cx: &mut Context<'_, P>,
    queue: &mut IoQueueView<'_>,
    sqe: &Sqe,
    payload: &[u8],
    origin: Origin,
    next: &mut Next,
) -> Result<Step, Status> {
    let mut whole = head(cx, queue, sqe)?;
    match *next {
        Next::Room => {
            *next = Next::Source(0);
            Ok(Step::Hold(target_command(cx, queue, &mut whole, payload, origin)?))
        }
        Next::Source(number) if number < whole.copy.ranges => {
            *next = Next::Source(number + 1);
            let Source { range, mapped, from, .. } = source(cx, queue, &whole, payload, number)?;
            let source = command(queue, &mapped, origin, Operation::CopySource, &range.fields, &from);
            Ok(Step::Run(Command { force_unit_access: false, ..source }))
        }
        Next::Source(_) => {
            *next = Next::Nothing;
            Ok(Step::RunHeld(target_command(cx, queue, &mut whole, payload, origin)?))
        }
        Next::Nothing => Ok(Step::Done(0)),
    }
}

fn target_command<P: BlockPort>(
    cx: &mut Context<'_, P>,
    queue: &mut IoQueueView<'_>,
    whole: &mut Whole,
    payload: &[u8],
    origin: Origin,
) -> Result<Command, Status> {
    whole.add_up(payload)?;
    let Source { to, .. } = source(cx, queue, whole, payload, 0)?;
    Ok(command(queue, &whole.target, origin, Operation::CopyTarget, &whole.copy.target, &to))
}

/// What is next in a Copy.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Next {
    /// Room for all of it.
    Room,
    /// The source with this number; after the last, the destination.
    Source(usize),
    /// It is done.
    Nothing,
}

/// A Copy without its ranges.
struct Whole {
    copy: CopyFields,
    target: Mapped,
}

impl Whole {
    /// Makes the destination as long as all ranges are together.
    fn add_up(&mut self, payload: &[u8]) -> Result<(), Status> {
        let mut total = 0_u32;
        for number in 0..self.copy.ranges {
            let range = CopyRange::of(&self.copy, payload, number).ok_or(Status::INTERNAL_ERROR)?;
            if range.extension_type != 0 {
                return Err(Status::INVALID_FIELD);
            }
            total = total.saturating_add(range.fields.blocks.get());
        }
        self.copy.target.blocks = BlockCount::new(total);
        Ok(())
    }
}

/// One of its ranges.
struct Source {
    range: CopyRange,
    mapped: Mapped,
    from: Protection,
    to: Protection,
}

fn head<P: BlockPort>(
    cx: &mut Context<'_, P>,
    queue: &mut IoQueueView<'_>,
    sqe: &Sqe,
) -> Result<Whole, Status> {
    Ok(Whole { copy: CopyFields::of(sqe), target: resolve(cx, queue, sqe.nsid.get())? })
}

fn source<P: BlockPort>(
    cx: &mut Context<'_, P>,
    queue: &mut IoQueueView<'_>,
    whole: &Whole,
    payload: &[u8],
    number: usize,
) -> Result<Source, Status> {
    let range = CopyRange::of(&whole.copy, payload, number).ok_or(Status::INTERNAL_ERROR)?;
    let mapped = match whole.copy.format {
        0..=LAST_LOCAL_FORMAT => whole.target,
        _ => resolve(cx, queue, range.nsid)?,
    };
    let (from, to) = protection::of_copy(&mapped, &range.fields, &whole.target, &whole.copy.target)?;
    Ok(Source { range, mapped, from, to })
}

/// Whether a source has a block of the destination.
fn overlaps(whole: &Whole, source: &Source) -> bool {
    let end = |lba: u64, blocks: BlockCount| lba.saturating_add(u64::from(blocks.get()));
    let (from, to) = (&source.range.fields, &whole.copy.target);
    source.mapped.nsid == whole.target.nsid
        && !holdfast_mutant::active("copy-overlap")
        && from.lba.0 < end(to.lba.0, to.blocks)
        && to.lba.0 < end(from.lba.0, from.blocks)
}

//! Commands that are several of the block layer's in a row, one at a time.

use holdfast_block::{BlockCount, BlockPort, Command, Lba, Operation, Origin};
use holdfast_pi::PiFormat;
use zerocopy::FromBytes;

use super::{IoPlan, IoQueueView, copy, flush, resolve};
use crate::connection::Context;
use crate::status::Status;
use crate::wire::nvm::{DSM_DEALLOCATE, DSM_RANGE_LEN, DsmRange, ZEROES_ALL_CLEARED, range_count};
use crate::wire::sqe::Sqe;

/// Several block commands in a row, and how far they are. Lists of ranges are in the slot's staging.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Steps {
    /// The ranges of a Dataset Management command.
    Deallocate { next: usize, count: usize },
    /// Flush of all namespaces; those up to `after` are done.
    FlushAll { after: u32 },
    /// A command without a transfer that is longer than `piece` blocks.
    Pieces { whole: Command, format: Option<PiFormat>, piece: u32, done: u32 },
    /// Every block of the namespace becomes a hole.
    ClearAll { next: u64 },
    /// A Copy.
    Copy { next: copy::Next },
}

/// What is next in a row.
#[derive(Debug)]
pub(crate) enum Step {
    /// This command.
    Run(Command),
    /// Room for this command, which takes what the following ones read.
    Hold(Command),
    /// The command that was held, as it was.
    RunHeld(Command),
    /// Nothing: the row is done. Dwords 0 and 1 of the completion.
    Done(u64),
}

/// Starts a Dataset Management command whose ranges have come. NVM Command Set 1.1 §3.3.3 "Dataset Management command":
/// nothing is deallocated unless all ranges lie within the namespace.
pub(super) fn deallocate<P: BlockPort>(
    cx: &mut Context<'_, P>,
    queue: &mut IoQueueView<'_>,
    sqe: &Sqe,
    payload: &[u8],
) -> Result<IoPlan, Status> {
    let mapped = resolve(cx, queue, sqe.nsid.get())?;
    let count = range_count(sqe.cdw10.get());
    for index in 0..count {
        let range = dsm_range(payload, index).ok_or(Status::INTERNAL_ERROR)?;
        let end = range.lba.get().checked_add(u64::from(range.blocks.get()));
        if end.is_none_or(|end| end > mapped.volume.block_count) {
            return Err(Status::LBA_OUT_OF_RANGE);
        }
    }
    if sqe.cdw11.get() & DSM_DEALLOCATE == 0 {
        return Ok(IoPlan::Done);
    }
    Ok(IoPlan::row(Steps::Deallocate { next: 0, count }))
}

/// What is next in a row.
pub(crate) fn next_step<P: BlockPort>(
    cx: &mut Context<'_, P>,
    queue: &mut IoQueueView<'_>,
    sqe: &Sqe,
    payload: &[u8],
    origin: Origin,
    steps: &mut Steps,
) -> Result<Step, Status> {
    match steps {
        Steps::Deallocate { next, count } => {
            let mapped = resolve(cx, queue, sqe.nsid.get())?;
            let count = if holdfast_mutant::active("deallocate-first") { 1 } else { *count };
            while *next < count {
                let range = dsm_range(payload, *next).ok_or(Status::INTERNAL_ERROR)?;
                *next += 1;
                let blocks = BlockCount::new(range.blocks.get());
                if blocks != BlockCount::ZERO {
                    let hole = hole(flush(&mapped, origin), range.lba.get(), blocks.get());
                    return Ok(Step::Run(hole));
                }
            }
            Ok(Step::Done(0))
        }
        Steps::FlushAll { after } => {
            let (subsystem, _) = cx.exports.access_of(queue.session).ok_or(Status::INVALID_NAMESPACE)?;
            let Some((nsid, _)) = subsystem.namespaces.range(after.saturating_add(1)..).next() else {
                return Ok(Step::Done(0));
            };
            *after = *nsid;
            let mapped = queue.namespaces.resolve(cx.port, cx.exports, queue.session, *nsid)?;
            Ok(Step::Run(flush(&mapped, origin)))
        }
        Steps::Pieces { whole, format, piece, done } => {
            let Some(next) = next_piece(whole, *format, *piece, *done) else { return Ok(Step::Done(0)) };
            *done = done.saturating_add(next.blocks.get());
            Ok(Step::Run(next))
        }
        Steps::ClearAll { next } => {
            let mapped = resolve(cx, queue, sqe.nsid.get())?;
            let left = mapped.volume.block_count.saturating_sub(*next);
            if left == 0 {
                return Ok(Step::Done(ZEROES_ALL_CLEARED));
            }
            let blocks = u32::try_from(left).unwrap_or(u32::MAX);
            let hole = hole(flush(&mapped, origin), *next, blocks);
            *next = next.saturating_add(u64::from(blocks));
            Ok(Step::Run(hole))
        }
        Steps::Copy { next } => copy::next_step(cx, queue, sqe, payload, origin, next),
    }
}

fn hole(command: Command, lba: u64, blocks: u32) -> Command {
    Command { lba: Lba(lba), blocks: BlockCount::new(blocks), operation: Operation::Deallocate, ..command }
}

/// The piece of a command after its first `done` blocks, with the tags of its own blocks.
fn next_piece(whole: &Command, format: Option<PiFormat>, piece: u32, done: u32) -> Option<Command> {
    let left = whole.blocks.get().checked_sub(done).filter(|left| *left > 0)?;
    let mut next = Command {
        lba: whole.lba.checked_add(u64::from(done))?,
        blocks: BlockCount::new(left.min(piece)),
        ..*whole
    };
    if let Some(format) = format {
        next.plan.initial_ref = format.ref_tag_at(whole.plan.initial_ref, done);
        if let Some(tags) = &mut next.insert {
            tags.initial_ref = format.ref_tag_at(tags.initial_ref, done);
        }
    }
    Some(next)
}

fn dsm_range(payload: &[u8], index: usize) -> Option<DsmRange> {
    let start = index.checked_mul(DSM_RANGE_LEN)?;
    DsmRange::read_from_prefix(payload.get(start..)?).ok().map(|(range, _)| range)
}

//! I/O commands. NVM Command Set 1.1 §3.3 "NVM Command Set Commands".
//!
//! What the host asked for becomes a [`Command`] of the block layer, or several of them in a row.

mod protection;

use std::sync::Arc;

use holdfast_block::{BlockCount, BlockPort, Command, Layout, Lba, Operation, Origin, Session};
use holdfast_pi::{CheckPlan, GuardKind};
use zerocopy::FromBytes;

use crate::connection::Context;
use crate::controller::Controller;
use crate::limits::TRANSFER_DATA_MAX;
use crate::namespaces::{Mapped, Namespaces, access};
use crate::slots::Work;
use crate::status::Status;
use crate::wire::nvm::{DSM_DEALLOCATE, DSM_RANGE_LEN, DsmRange, RangeFields, opcode};
use crate::wire::sqe::Sqe;

/// Several block commands in a row, and how far they are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Steps {
    /// The ranges of a Dataset Management command, which are in the slot's staging.
    Deallocate { next: usize, count: usize },
    /// Flush of all namespaces; those up to `after` are done.
    FlushAll { after: u32 },
}

/// What to do with an I/O command.
#[derive(Debug)]
pub(crate) enum IoPlan {
    /// It is done already.
    Done,
    /// This many bytes of payload are needed first.
    Collect { len: usize },
    /// Give this to the block layer; `transfer_len` bytes move.
    Run { work: Work, transfer_len: usize },
}

/// The queue that a command came in on.
pub(crate) struct IoQueueView<'a> {
    pub(crate) controller: &'a Controller,
    pub(crate) session: &'a Arc<Session>,
    pub(crate) namespaces: &'a mut Namespaces,
}

/// NSID of all namespaces.
const NSID_ALL: u32 = u32::MAX;

/// Judges a command.
pub(crate) fn plan<P: BlockPort>(
    cx: &mut Context<'_, P>,
    queue: &mut IoQueueView<'_>,
    sqe: &Sqe,
    origin: Origin,
) -> Result<IoPlan, Status> {
    match sqe.opcode {
        opcode::FLUSH if sqe.nsid.get() == NSID_ALL => {
            Ok(IoPlan::Run { work: Work::Steps(Steps::FlushAll { after: 0 }), transfer_len: 0 })
        }
        opcode::FLUSH => {
            let mapped = resolve(cx, queue, sqe.nsid.get())?;
            Ok(IoPlan::Run { work: Work::Block(flush(&mapped, origin)), transfer_len: 0 })
        }
        opcode::DATASET_MANAGEMENT => {
            resolve(cx, queue, sqe.nsid.get())?;
            Ok(IoPlan::Collect { len: dsm_ranges(sqe) * DSM_RANGE_LEN })
        }
        opcode::READ => ranged(cx, queue, sqe, origin, Operation::Read),
        opcode::WRITE => ranged(cx, queue, sqe, origin, Operation::Write),
        opcode::COMPARE => ranged(cx, queue, sqe, origin, Operation::Compare),
        opcode::VERIFY => ranged(cx, queue, sqe, origin, Operation::Verify),
        opcode::WRITE_ZEROES => ranged(cx, queue, sqe, origin, Operation::WriteZeroes),
        _ => Err(Status::INVALID_OPCODE),
    }
}

/// Goes on with a command whose payload has come. NVM Command Set 1.1 §3.3.3 "Dataset Management command": nothing is
/// deallocated unless all ranges lie within the namespace.
pub(crate) fn collected<P: BlockPort>(
    cx: &mut Context<'_, P>,
    queue: &mut IoQueueView<'_>,
    sqe: &Sqe,
    payload: &[u8],
) -> Result<IoPlan, Status> {
    let mapped = resolve(cx, queue, sqe.nsid.get())?;
    let count = dsm_ranges(sqe);
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
    Ok(IoPlan::Run { work: Work::Steps(Steps::Deallocate { next: 0, count }), transfer_len: 0 })
}

/// The next command of a row; `None` after the last.
pub(crate) fn next_step<P: BlockPort>(
    cx: &mut Context<'_, P>,
    queue: &mut IoQueueView<'_>,
    sqe: &Sqe,
    payload: &[u8],
    origin: Origin,
    steps: &mut Steps,
) -> Result<Option<Command>, Status> {
    match steps {
        Steps::Deallocate { next, count } => {
            let mapped = resolve(cx, queue, sqe.nsid.get())?;
            while *next < *count {
                let range = dsm_range(payload, *next).ok_or(Status::INTERNAL_ERROR)?;
                *next += 1;
                let blocks = BlockCount::new(range.blocks.get());
                if blocks != BlockCount::ZERO {
                    let lba = Lba(range.lba.get());
                    return Ok(Some(Command {
                        lba,
                        blocks,
                        operation: Operation::Deallocate,
                        ..flush(&mapped, origin)
                    }));
                }
            }
            Ok(None)
        }
        Steps::FlushAll { after } => {
            let (subsystem, _) = access(cx.exports, queue.session).ok_or(Status::INVALID_NAMESPACE)?;
            let Some((nsid, _)) = subsystem.namespaces.range(after.saturating_add(1)..).next() else {
                return Ok(None);
            };
            *after = *nsid;
            let mapped = queue.namespaces.resolve(cx.port, cx.exports, queue.session, *nsid)?;
            Ok(Some(flush(&mapped, origin)))
        }
    }
}

/// The namespace that a command names. NVM Command Set 1.1 §4.1.3.6.1 "LBA Format Extensions": one with an extended protection
/// information format is out of reach until the host has said that it knows such formats.
fn resolve<P: BlockPort>(
    cx: &mut Context<'_, P>,
    queue: &mut IoQueueView<'_>,
    nsid: u32,
) -> Result<Mapped, Status> {
    let mapped = queue.namespaces.resolve(cx.port, cx.exports, queue.session, nsid)?;
    let extended = mapped.visible.is_some_and(|format| format.guard() != GuardKind::Crc16);
    if extended && !queue.controller.extended_formats() {
        return Err(Status::INVALID_NAMESPACE);
    }
    Ok(mapped)
}

/// A command with a range of blocks.
fn ranged<P: BlockPort>(
    cx: &mut Context<'_, P>,
    queue: &mut IoQueueView<'_>,
    sqe: &Sqe,
    origin: Origin,
    operation: Operation,
) -> Result<IoPlan, Status> {
    let mapped = resolve(cx, queue, sqe.nsid.get())?;
    let fields = RangeFields::of(sqe);
    let block_len = mapped.volume.block_len;
    let data_len =
        u64::from(fields.blocks.get()).saturating_mul(u64::try_from(block_len).unwrap_or(u64::MAX));
    if data_len > TRANSFER_DATA_MAX {
        return Err(Status::INVALID_FIELD);
    }
    let end = fields.lba.checked_add(u64::from(fields.blocks.get()));
    if end.is_none_or(|end| end.0 > mapped.volume.block_count) {
        return Err(Status::LBA_OUT_OF_RANGE);
    }
    let protection = protection::of(operation, &mapped, &fields)?;
    let wire_block_len = match (protection.layout, mapped.visible) {
        (Layout::Interleaved, Some(format)) => format.wire_block_len(),
        _ => block_len,
    };
    let transfer_len = match operation {
        Operation::Read | Operation::Write | Operation::Compare => fields.blocks.as_usize() * wire_block_len,
        _ => 0,
    };
    let writes = matches!(operation, Operation::Write | Operation::WriteZeroes);
    let command = Command {
        origin,
        attachment: mapped.attachment,
        operation,
        lba: fields.lba,
        blocks: fields.blocks,
        layout: protection.layout,
        plan: protection.plan,
        insert: protection.insert,
        force_unit_access: fields.force_unit_access || (writes && !queue.controller.write_cache()),
    };
    Ok(IoPlan::Run { work: Work::Block(command), transfer_len })
}

fn flush(mapped: &Mapped, origin: Origin) -> Command {
    Command {
        origin,
        attachment: mapped.attachment,
        operation: Operation::Flush,
        lba: Lba(0),
        blocks: BlockCount::ZERO,
        layout: Layout::DataOnly,
        plan: CheckPlan::none(),
        insert: None,
        force_unit_access: false,
    }
}

/// Number of ranges, from the zeroes based field: 1 to 256.
fn dsm_ranges(sqe: &Sqe) -> usize {
    let [ranges, ..] = sqe.cdw10.to_bytes();
    usize::from(ranges) + 1
}

fn dsm_range(payload: &[u8], index: usize) -> Option<DsmRange> {
    let start = index.checked_mul(DSM_RANGE_LEN)?;
    DsmRange::read_from_prefix(payload.get(start..)?).ok().map(|(range, _)| range)
}

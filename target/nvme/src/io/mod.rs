//! I/O commands. NVM Command Set 1.1 §3.3 "NVM Command Set Commands".
//!
//! What the host asked for becomes a [`Command`] of the block layer, or several of them in a [row](Steps).

mod copy;
mod protection;
mod rows;

use std::sync::Arc;

use holdfast_block::{BlockCount, BlockPort, Command, Layout, Lba, Operation, Origin, Session};
use holdfast_pi::{CheckPlan, GuardKind};

use crate::connection::Context;
use crate::controller::Controller;
use crate::limits::TRANSFER_DATA_MAX;
use crate::namespaces::{Mapped, Namespaces};
use crate::slots::Work;
use crate::status::Status;
use crate::wire::nvm::{
    self, DSM_RANGE_LEN, RangeFields, ZEROES_DEALLOCATE, ZEROES_NAMESPACE, opcode, range_count,
};
use crate::wire::sqe::Sqe;

pub(crate) use rows::{Step, Steps, next_step};

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

impl IoPlan {
    fn row(steps: Steps) -> IoPlan {
        IoPlan::Run { work: Work::Steps(steps), transfer_len: 0 }
    }
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
        opcode::FLUSH if sqe.nsid.get() == NSID_ALL => Ok(IoPlan::row(Steps::FlushAll { after: 0 })),
        opcode::FLUSH => {
            let mapped = resolve(cx, queue, sqe.nsid.get())?;
            Ok(IoPlan::Run { work: Work::Block(flush(&mapped, origin)), transfer_len: 0 })
        }
        opcode::DATASET_MANAGEMENT => {
            resolve(cx, queue, sqe.nsid.get())?;
            Ok(IoPlan::Collect { len: range_count(sqe.cdw10.get()) * DSM_RANGE_LEN })
        }
        opcode::COPY => copy::plan(cx, queue, sqe),
        opcode::READ => ranged(cx, queue, sqe, origin, Operation::Read),
        opcode::WRITE => ranged(cx, queue, sqe, origin, Operation::Write),
        opcode::COMPARE => ranged(cx, queue, sqe, origin, Operation::Compare),
        opcode::VERIFY => ranged(cx, queue, sqe, origin, Operation::Verify),
        opcode::WRITE_UNCORRECTABLE => ranged(cx, queue, sqe, origin, Operation::WriteUncorrectable),
        opcode::WRITE_ZEROES => write_zeroes(cx, queue, sqe, origin),
        _ => Err(Status::INVALID_OPCODE),
    }
}

/// Goes on with a command whose payload has come.
pub(crate) fn collected<P: BlockPort>(
    cx: &mut Context<'_, P>,
    queue: &mut IoQueueView<'_>,
    sqe: &Sqe,
    payload: &[u8],
) -> Result<IoPlan, Status> {
    match sqe.opcode {
        opcode::COPY => copy::collected(cx, queue, sqe, payload),
        _ => rows::deallocate(cx, queue, sqe, payload),
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
    if extended && !queue.controller.extended_formats() && !holdfast_mutant::active("io-lbafee") {
        return Err(Status::INVALID_NAMESPACE);
    }
    Ok(mapped)
}

/// §3.3.8 "Write Zeroes command". With the Deallocate bit, and without tuples to be made, zeroes are holes.
fn write_zeroes<P: BlockPort>(
    cx: &mut Context<'_, P>,
    queue: &mut IoQueueView<'_>,
    sqe: &Sqe,
    origin: Origin,
) -> Result<IoPlan, Status> {
    let (all, deallocate) =
        (sqe.cdw12.get() & ZEROES_NAMESPACE != 0, sqe.cdw12.get() & ZEROES_DEALLOCATE != 0);
    if !all {
        return ranged(cx, queue, sqe, origin, Operation::WriteZeroes);
    }
    let mapped = resolve(cx, queue, sqe.nsid.get())?;
    check_extensions(sqe, Operation::WriteZeroes)?;
    if !deallocate {
        return Err(Status::INVALID_FIELD);
    }
    protection::of(Operation::WriteZeroes, &mapped, &RangeFields::of(sqe))?;
    Ok(IoPlan::row(Steps::ClearAll { next: 0 }))
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
    check_extensions(sqe, operation)?;
    let fields = RangeFields::of(sqe);
    let moves_data = matches!(operation, Operation::Read | Operation::Write | Operation::Compare);
    let blocks_at_once = blocks_at_once(&mapped);
    if moves_data && fields.blocks.get() > blocks_at_once && !holdfast_mutant::active("io-mdts") {
        return Err(Status::INVALID_FIELD);
    }
    check_range(&mapped, &fields)?;
    let mut protection = protection::of(operation, &mapped, &fields)?;
    if operation == Operation::WriteZeroes && sqe.cdw12.get() & ZEROES_DEALLOCATE != 0 {
        protection.insert = None;
    }
    let wire_block_len = match (protection.layout, mapped.visible) {
        (Layout::Interleaved, Some(format)) => format.wire_block_len(),
        _ => mapped.volume.block_len,
    };
    let transfer_len = if moves_data { fields.blocks.as_usize() * wire_block_len } else { 0 };
    let command = command(queue, &mapped, origin, operation, &fields, &protection);
    // Holes are made at once, however many.
    let is_holes = operation == Operation::WriteZeroes && command.insert.is_none();
    if fields.blocks.get() > blocks_at_once && !is_holes {
        return Ok(IoPlan::row(Steps::Pieces {
            whole: command,
            format: mapped.volume.format,
            piece: blocks_at_once,
            done: 0,
        }));
    }
    Ok(IoPlan::Run { work: Work::Block(command), transfer_len })
}

/// Refuses what we do not have: directives, and keys for each I/O.
fn check_extensions(sqe: &Sqe, operation: Operation) -> Result<(), Status> {
    let directive = match operation {
        Operation::Write | Operation::WriteUncorrectable | Operation::CopyTarget => nvm::directive_type(sqe),
        Operation::WriteZeroes => nvm::zeroes_directive_type(sqe),
        _ => 0,
    };
    let has_extension = operation != Operation::WriteUncorrectable;
    if directive != 0 || (has_extension && nvm::extension_type(sqe) != 0) {
        return Err(Status::INVALID_FIELD);
    }
    Ok(())
}

fn check_range(mapped: &Mapped, fields: &RangeFields) -> Result<(), Status> {
    let end = fields.lba.checked_add(u64::from(fields.blocks.get()));
    match end {
        Some(end) if end.0 == mapped.volume.block_count && holdfast_mutant::active("io-range") => {
            Err(Status::LBA_OUT_OF_RANGE)
        }
        Some(end) if end.0 <= mapped.volume.block_count => Ok(()),
        _ => Err(Status::LBA_OUT_OF_RANGE),
    }
}

/// Blocks of the longest transfer (MDTS), which are also what is atomic (AWUN) and what can be copied at once (MCL).
pub(crate) fn blocks_at_once(mapped: &Mapped) -> u32 {
    blocks_of(mapped.volume.block_len)
}

/// The same for blocks of so many bytes.
pub(crate) fn blocks_of(block_len: usize) -> u32 {
    let block_len = u64::try_from(block_len).unwrap_or(u64::MAX).max(1);
    u32::try_from(TRANSFER_DATA_MAX / block_len).unwrap_or(u32::MAX)
}

fn command(
    queue: &IoQueueView<'_>,
    mapped: &Mapped,
    origin: Origin,
    operation: Operation,
    fields: &RangeFields,
    protection: &protection::Protection,
) -> Command {
    let writes = !matches!(operation, Operation::Read | Operation::Compare | Operation::Verify);
    Command {
        origin,
        attachment: mapped.attachment,
        operation,
        lba: fields.lba,
        blocks: fields.blocks,
        layout: protection.layout,
        plan: protection.plan,
        insert: protection.insert,
        held: None,
        force_unit_access: fields.force_unit_access || (writes && !queue.controller.write_cache()),
    }
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
        held: None,
        force_unit_access: false,
    }
}

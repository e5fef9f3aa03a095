//! From where to where a segment goes, and with what checks. SPC-4 §5.17.7.3 "Errors detected by the copy manager", §6.4.5 "CSCD
//! descriptors".

use holdfast_block::{
    AttachmentId, BlockCount, BlockError, BlockPort, Command, Layout, Lba, Operation, Origin, VolumeInfo,
};
use holdfast_pi::{CheckPlan, InsertTags, PiFormat, PiType};

use super::list::{Copy, Cscd, Segment};
use super::results::THIS_UNIT;
use crate::context::Context;
use crate::inquiry::is_named;
use crate::limits::{TRANSFER_BYTES_MAX, blocks_in};
use crate::nexus::Nexus;
use crate::sense::{Ending, Sense, SenseKey, Specific};

/// What a copy is aborted for: UNREACHABLE COPY TARGET, COPY TARGET DEVICE NOT REACHABLE, INCORRECT COPY TARGET DEVICE TYPE,
/// THIRD PARTY DEVICE FAILURE, INVALID OPERATION FOR COPY SOURCE OR DESTINATION, INVALID FIELD IN PARAMETER LIST.
const UNREACHABLE: (u8, u8) = (0x08, 0x04);
const NOT_REACHABLE: (u8, u8) = (0x0d, 0x02);
const WRONG_DEVICE: (u8, u8) = (0x0d, 0x03);
const DEVICE_FAILURE: (u8, u8) = (0x0d, 0x01);
const INVALID_OPERATION: (u8, u8) = (0x26, 0x0c);
const INVALID_FIELD: (u8, u8) = (0x26, 0x00);
/// NO ADDITIONAL SENSE INFORMATION, with a pointer to the field.
const SEE_FIELD: (u8, u8) = (0x00, 0x00);

/// Both ends of a segment, and what it is for them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    source: End,
    target: End,
    blocks: u32,
    /// From the last piece to the first: the destination overlaps the end of the source.
    backwards: bool,
}

#[derive(Debug, Clone, Copy)]
struct End {
    attachment: AttachmentId,
    volume: VolumeInfo,
    lba: Lba,
    write_protect: bool,
    /// What is written is to be durable at once.
    durable: bool,
}

impl Ends {
    /// Finds the ends of segment `number`.
    pub(crate) fn of<P: BlockPort>(
        cx: &mut Context<'_, P>,
        nexus: &mut Nexus,
        lun: u16,
        copy: &Copy,
        number: usize,
    ) -> Option<Result<Ends, Sense>> {
        let segment = copy.segments.get(number)?;
        let found = find(cx, nexus, lun, copy, segment);
        Some(found.map_err(|(code, at)| aborted(code, number, at)))
    }

    /// Whether so many blocks are all of it.
    pub(crate) fn is_over(&self, done: u32) -> bool {
        done >= self.blocks
    }

    /// The piece after so many blocks: what is written, and what is read for it.
    pub(crate) fn piece(&self, origin: Origin, done: u32) -> (Command, Command) {
        let left = self.blocks.saturating_sub(done);
        let blocks = left.min(blocks_in(TRANSFER_BYTES_MAX, self.source.volume.block_len));
        let first = u64::from(if self.backwards { left - blocks } else { done });
        let (from, to) = (Lba(self.source.lba.0 + first), Lba(self.target.lba.0 + first));
        let (layout, plans, insert) = protection(&self.source.volume, from, &self.target.volume, to);
        let command = |end: &End, operation, lba, plan| Command {
            origin,
            attachment: end.attachment,
            operation,
            lba,
            blocks: BlockCount::new(blocks),
            layout,
            plan,
            insert: None,
            held: None,
            force_unit_access: false,
        };
        let target = Command {
            insert,
            force_unit_access: self.target.durable,
            ..command(&self.target, Operation::CopyTarget, to, plans.1)
        };
        (target, command(&self.source, Operation::CopySource, from, plans.0))
    }

    /// Bytes of data of so many blocks.
    pub(crate) fn bytes(&self, blocks: u32) -> u64 {
        u64::from(blocks).saturating_mul(u64::try_from(self.source.volume.block_len).unwrap_or(0))
    }
}

/// How a copy ends whose segment `number` failed in the block layer.
pub(crate) fn failed(error: BlockError, number: usize, at: u16) -> Ending {
    match error {
        BlockError::Preempted => Ending::Aborted,
        // Who runs out of room is to know that: with the segment, as of every failure.
        BlockError::NoRoom => Ending::Check(with_segment(Sense::NO_ROOM, number)),
        _ => Ending::Check(aborted(DEVICE_FAILURE, number, at)),
    }
}

/// COPY ABORTED: the segment's number in COMMAND-SPECIFIC INFORMATION, and a pointer into the parameter list.
fn aborted(code: (u8, u8), number: usize, at: u16) -> Sense {
    let sense = Sense::new(SenseKey::CopyAborted, code.0, code.1);
    with_segment(Sense { specific: Some(Specific::InParameters(at, None)), ..sense }, number)
}

fn with_segment(sense: Sense, number: usize) -> Sense {
    Sense { command_specific: u16::try_from(number).ok().map(u64::from), ..sense }
}

/// A code, and where in the list the field stands that it is about.
type Wrong = ((u8, u8), u16);

fn find<P: BlockPort>(
    cx: &mut Context<'_, P>,
    nexus: &mut Nexus,
    lun: u16,
    copy: &Copy,
    segment: &Segment,
) -> Result<Ends, Wrong> {
    let field = |offset: u16| segment.at.saturating_add(offset);
    let source = end(cx, nexus, lun, copy, (segment.source, field(4)), segment.source_lba)?;
    let target = end(cx, nexus, lun, copy, (segment.target, field(6)), segment.target_lba)?;
    if source.volume.block_len != target.volume.block_len {
        return Err((INVALID_OPERATION, field(6)));
    }
    for (end, at) in [(&source, 12), (&target, 20)] {
        let last = end.lba.checked_add(u64::from(segment.blocks));
        if last.is_none_or(|last| last.0 > end.volume.block_count) {
            return Err((SEE_FIELD, field(at)));
        }
    }
    if target.write_protect {
        return Err((INVALID_OPERATION, field(6)));
    }
    let backwards = source.volume.id == target.volume.id
        && target.lba > source.lba
        && target.lba.0 - source.lba.0 < u64::from(segment.blocks);
    Ok(Ends { source, target, blocks: segment.blocks, backwards })
}

/// One end: `id` with where in the list it stands.
fn end<P: BlockPort>(
    cx: &mut Context<'_, P>,
    nexus: &mut Nexus,
    lun: u16,
    copy: &Copy,
    (id, at): (u16, u16),
    lba: Lba,
) -> Result<End, Wrong> {
    let lun = match id {
        THIS_UNIT => lun,
        _ => unit_of(nexus, copy.cscds.get(usize::from(id)).ok_or((UNREACHABLE, at))?)?,
    };
    let attachment = nexus.attached(cx.port, lun).map_err(|_| (NOT_REACHABLE, at))?;
    let seen = nexus.unit(lun).map(|unit| &unit.seen).ok_or((NOT_REACHABLE, at))?;
    if seen.stopped {
        return Err((DEVICE_FAILURE, at));
    }
    Ok(End {
        attachment,
        volume: seen.volume,
        lba,
        write_protect: seen.mode.write_protect,
        durable: !seen.mode.write_cache,
    })
}

/// The logical unit of this nexus that a descriptor names: no others can be reached.
fn unit_of(nexus: &Nexus, cscd: &Cscd) -> Result<u16, Wrong> {
    let designator = cscd.designator.get(..cscd.designator_len).unwrap_or_default();
    let named = nexus.units().iter().find(|unit| is_named(&unit.seen.volume, cscd.kind, designator));
    let unit = named.ok_or((NOT_REACHABLE, cscd.at))?;
    if cscd.device_type != 0 {
        return Err((WRONG_DEVICE, cscd.at.saturating_add(1)));
    }
    if usize::try_from(cscd.block_len).ok() != Some(unit.seen.volume.block_len) {
        return Err((INVALID_FIELD, cscd.at.saturating_add(29)));
    }
    Ok(unit.seen.lun)
}

/// Between volumes of one form tuples go along; otherwise they are taken off, and made anew where the destination has some.
fn protection(
    source: &VolumeInfo,
    from: Lba,
    target: &VolumeInfo,
    to: Lba,
) -> (Layout, (CheckPlan, CheckPlan), Option<InsertTags>) {
    let check = |format: Option<PiFormat>, lba: Lba| {
        format.map_or(CheckPlan::none(), |format| CheckPlan::for_plain_view(format, lba.0))
    };
    match target.format {
        Some(format) if source.format == target.format => {
            let moves = format.pi_type() == PiType::Type1;
            let tags = moves.then(|| InsertTags::plain(format, to.0));
            (Layout::Interleaved, (check(source.format, from), check(target.format, to)), tags)
        }
        format => {
            let tags = format.map(|format| InsertTags::plain(format, to.0));
            (Layout::DataOnly, (check(source.format, from), CheckPlan::none()), tags)
        }
    }
}

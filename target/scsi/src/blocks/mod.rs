//! Commands on the medium: from a decoded CDB to what the block layer is to do. SBC-4 §5 "Commands for direct access block
//! devices".
//!
//! | file | commands |
//! |---|---|
//! | `transfer` | READ, WRITE, WRITE AND VERIFY, VERIFY, COMPARE AND WRITE |
//! | `same` | WRITE SAME, VERIFY against one block |
//! | `unmap` | UNMAP |
//! | `status` | GET LBA STATUS |
//! | `whole` | SYNCHRONIZE CACHE, PRE-FETCH, SANITIZE |
//! | `capacity` | READ CAPACITY |
//! | `defects` | READ DEFECT DATA |

pub(crate) mod capacity;
pub(crate) mod defects;
mod same;
mod status;
mod transfer;
mod unmap;
mod whole;

use holdfast_block::{
    AttachmentId, BlockCount, BlockError, Command, HeldTags, Layout, Lba, Operation, Origin,
};
use holdfast_pi::{CheckPlan, PiFormat, PiType};

use crate::cdb::{Blocks, Cdb, Protected};
use crate::context::Buffers;
use crate::limits::{TRANSFER_BLOCKS_TAKEN, TRANSFER_BYTES_MAX, blocks_in};
use crate::nexus::Seen;
use crate::protect::Protection;
use crate::sense::{Ending, Sense};

pub(crate) use same::{Pattern, Same};
pub(crate) use status::Scan;
pub(crate) use unmap::Unmap;

/// What a command comes to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) work: Work,
    /// Bytes that it would take with a Data-Out Buffer long enough, and those that it takes.
    pub(crate) wanted_out: usize,
    pub(crate) out_len: usize,
    /// Bytes that it would give with a Data-In Buffer long enough.
    pub(crate) wanted_in: usize,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Work {
    /// Nothing.
    #[default]
    Nothing,
    /// Nothing, and that is told by a status of its own.
    Met,
    /// One command without a payload. What a Read has found goes to the host.
    Run(Command),
    /// One command with its payload.
    Take(Command),
    /// WRITE AND VERIFY: the Write, and then the other; a Compare takes the payload as well.
    ThenCheck(Command, Command),
    /// COMPARE AND WRITE: the first half of the payload is the Compare's.
    Pair(Command, Command),
    /// A command without a payload, in pieces; so many blocks are done.
    Pieces(Whole, u64),
    /// The Data-Out Buffer is one block; those of the medium become like it, or are held against it.
    Same(Same),
    /// The Data-Out Buffer is a list of blocks to be unmapped.
    Unmap(Unmap),
    /// It is found out which blocks are there.
    Scan(Scan),
}

/// A command for a range of any length. Its own count is not looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole {
    pub(crate) command: Command,
    pub(crate) blocks: u64,
    /// Blocks of each piece.
    pub(crate) piece: u32,
    pub(crate) format: Option<PiFormat>,
}

impl Whole {
    /// Holes, which are made at once, however many.
    pub(crate) fn of_holes(command: Command, blocks: u64) -> Whole {
        Whole { command, blocks, piece: u32::MAX, format: None }
    }

    /// The piece after the first `done` blocks, with the tags of its own blocks.
    pub(crate) fn after(&self, done: u64) -> Option<Command> {
        let left = self.blocks.checked_sub(done).filter(|left| *left > 0)?;
        let blocks = u32::try_from(left).unwrap_or(u32::MAX).min(self.piece);
        let mut next = Command {
            lba: self.command.lba.checked_add(done)?,
            blocks: BlockCount::new(blocks),
            ..self.command
        };
        if let Some(format) = self.format {
            // Reference tags count modulo 2^32.
            let index = u32::try_from(done & u64::from(u32::MAX)).unwrap_or(0);
            next.plan.initial_ref = format.ref_tag_at(self.command.plan.initial_ref, index);
            if let Some(tags) = next.insert.as_mut().filter(|tags| !tags.ref_stays) {
                tags.initial_ref = format.ref_tag_at(tags.initial_ref, index);
            }
        }
        Some(next)
    }
}

/// Whether a command is one of these.
pub(crate) fn is_on_medium(cdb: &Cdb) -> bool {
    matches!(
        cdb,
        Cdb::Read { .. }
            | Cdb::Write { .. }
            | Cdb::WriteAndVerify { .. }
            | Cdb::Verify { .. }
            | Cdb::CompareAndWrite { .. }
            | Cdb::WriteSame { .. }
            | Cdb::Unmap { .. }
            | Cdb::GetLbaStatus { .. }
            | Cdb::Sanitize { .. }
            | Cdb::PreFetch { .. }
            | Cdb::SynchronizeCache { .. }
    )
}

/// A command on the medium, and its circumstances.
pub(crate) struct Asked<'a> {
    pub(crate) seen: &'a Seen,
    pub(crate) attachment: AttachmentId,
    pub(crate) buffers: Buffers,
    pub(crate) origin: Origin,
}

impl Asked<'_> {
    /// Judges it.
    pub(crate) fn plan(&self, cdb: &Cdb) -> Result<Plan, Sense> {
        match *cdb {
            Cdb::Read { range, fua, .. } => self.read(&range, fua),
            Cdb::Write { range, fua, .. } => self.write(&range, fua),
            Cdb::WriteAndVerify { range, check, .. } => self.write_and_verify(&range, check),
            Cdb::Verify { range, check, .. } => self.verify(&range, check),
            Cdb::CompareAndWrite { range, fua, .. } => self.compare_and_write(&range, fua),
            Cdb::WriteSame { range, unmap, anchor, no_data } => {
                self.write_same(&range, unmap, anchor, no_data)
            }
            Cdb::Unmap { anchor, list_len } => self.unmap(anchor, list_len),
            Cdb::GetLbaStatus { lba, allocation_len } => self.lba_status(lba, allocation_len),
            Cdb::Sanitize { action, .. } => self.sanitize(action),
            Cdb::PreFetch { blocks, .. } => self.pre_fetch(&blocks),
            Cdb::SynchronizeCache { blocks, .. } => self.synchronize_cache(&blocks),
            _ => Err(Sense::INVALID_OPCODE),
        }
    }

    /// A command of the block layer.
    fn command(&self, operation: Operation, lba: Lba, blocks: u32, protection: &Protection) -> Command {
        Command {
            origin: self.origin,
            attachment: self.attachment,
            operation,
            lba,
            blocks: BlockCount::new(blocks),
            layout: protection.layout,
            plan: protection.plan,
            insert: protection.insert,
            held: None,
            force_unit_access: false,
        }
    }

    /// The same for the blocks of a CDB.
    fn ranged(&self, operation: Operation, range: &Protected, protection: &Protection) -> Command {
        self.command(operation, range.blocks.lba, range.blocks.count, protection)
    }

    /// One that checks and makes no tuples.
    fn bare(&self, operation: Operation, lba: Lba, blocks: u32) -> Command {
        let protection = Protection { layout: Layout::DataOnly, plan: CheckPlan::none(), insert: None };
        self.command(operation, lba, blocks, &protection)
    }

    /// Whether what is written has to be durable before the status: FUA, and always while there is no write cache.
    fn durable(&self, fua: bool) -> bool {
        fua || !self.seen.mode.write_cache
    }

    /// LOGICAL BLOCK ADDRESS OUT OF RANGE for blocks beyond the last.
    fn check_range(&self, lba: Lba, blocks: u64) -> Result<(), Sense> {
        let end = lba.checked_add(blocks).filter(|end| end.0 <= self.seen.volume.block_count);
        end.map(|_| ()).ok_or(Sense::LBA_OUT_OF_RANGE)
    }

    /// The same, and INVALID FIELD IN CDB for more than is taken.
    fn check_transfer(&self, Blocks { lba, count, count_at }: Blocks) -> Result<(), Sense> {
        self.check_range(lba, u64::from(count))?;
        let most = match self.seen.visible {
            Some(_) => self.blocks_at_once(),
            None => TRANSFER_BLOCKS_TAKEN.max(self.blocks_at_once()),
        };
        if count > most {
            return Err(Sense::invalid_in_cdb(count_at, None));
        }
        Ok(())
    }

    /// Blocks of the longest transfer.
    fn blocks_at_once(&self) -> u32 {
        blocks_in(TRANSFER_BYTES_MAX, self.seen.volume.block_len)
    }

    /// Nothing is written while the unit is write protected.
    fn check_writable(&self) -> Result<(), Sense> {
        if self.seen.mode.write_protect { Err(Sense::WRITE_PROTECTED) } else { Ok(()) }
    }

    /// Bytes of a block on the wire.
    fn wire_block_len(&self, layout: Layout) -> usize {
        let tuple_len = match (layout, self.seen.visible) {
            (Layout::Interleaved, Some(format)) => format.tuple_len(),
            _ => 0,
        };
        self.seen.volume.block_len + tuple_len
    }

    /// The fields that VERIFY holds against those stored. SBC-4 §5 "VERIFY (10) command", the table of byte-by-byte
    /// comparisons: application tags that the device owns are not, nor, of type 3, reference tags that the host owns.
    fn held(&self, protect: u8) -> Option<HeldTags> {
        let format = self.seen.visible.filter(|_| protect != 0)?;
        let ato = self.seen.mode.app_tag_owner;
        let is_type_3 = format.pi_type() == PiType::Type3;
        Some(HeldTags { guard: protect != 2, app: ato, reference: protect == 5 || !(is_type_3 && ato) })
    }
}

impl Plan {
    /// Nothing to do, and GOOD.
    const NOTHING: Plan = Plan::without_data(Work::Nothing);

    /// Work that moves nothing.
    const fn without_data(work: Work) -> Plan {
        Plan { work, wanted_out: 0, out_len: 0, wanted_in: 0 }
    }
}

/// How a command's failure is told: where it began, and whether it is told the block or the byte that differs.
pub(crate) fn ending(error: BlockError, command: &Command, tells_block: bool) -> Ending {
    let ending = Ending::of(error, command.lba);
    match (ending, error) {
        (Ending::Check(sense), BlockError::Miscompare(difference)) if tells_block => {
            let lba = command.lba.0.saturating_add(u64::from(difference.block_index));
            Ending::Check(sense.with_information(lba))
        }
        (ending, _) => ending,
    }
}

//! One block for many: WRITE SAME, and VERIFY with BYTCHK 11b. SBC-4 §5 "WRITE SAME (10) command", "VERIFY (10) command".
//!
//! Blocks of zeroes become holes where nobody can tell the difference: a hole reads as zeroes under an all-ones tuple. Where they get
//! tuples that are made here, they are a Write Zeroes, which counts nowhere: that is how hosts with tuples clear blocks, and it
//! tells nothing about what they do with data. The others are written in pieces, and the first of them, which has the block's
//! tuple checked, comes first.

use holdfast_block::{Command, Enforce, Layout, Operation};
use holdfast_pi::{PiFormat, PiType};

use super::transfer::WRONG_BUFFER;
use super::{Asked, Plan, Whole, Work};
use crate::cdb::{Blocks, Protected};
use crate::limits::WRITE_SAME_BLOCKS_MAX;
use crate::protect::{Act, Scheme};
use crate::sense::Sense;

/// Many blocks, and the one that they are to be like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Same {
    /// The Write, or the Compare.
    pub(crate) whole: Whole,
    /// What makes holes of the blocks, if a block of zeroes may become one whatever tuple it gets.
    pub(crate) hole: Option<Command>,
    /// Blocks that are done; `None` while the block has not come.
    pub(crate) done: Option<u64>,
}

/// The single block, as it came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pattern<'a> {
    pub(crate) data: &'a [u8],
    /// Empty where tuples are made here.
    pub(crate) tuple: &'a [u8],
}

impl<'a> Pattern<'a> {
    /// Of the bytes of the Data-Out Buffer.
    pub(crate) fn of(bytes: &'a [u8], same: &Same) -> Pattern<'a> {
        let tuple_len = match same.whole.command.layout {
            Layout::DataOnly => 0,
            Layout::Interleaved => same.whole.format.map_or(0, |format| format.tuple_len()),
        };
        let (data, tuple) = bytes.split_at(bytes.len().saturating_sub(tuple_len));
        Pattern { data, tuple }
    }

    /// What makes zeroes of the blocks without being given any.
    pub(crate) fn zeroes(&self, same: &Same) -> Option<Whole> {
        if self.data.iter().any(|byte| *byte != 0) {
            return None;
        }
        let Whole { command, blocks, .. } = same.whole;
        if let Some(hole) = same.hole.filter(|_| self.tuple.iter().all(|byte| *byte == 0xff)) {
            return Some(Whole::of_holes(hole, blocks));
        }
        command.insert?;
        Some(Whole { command: Command { operation: Operation::WriteZeroes, ..command }, ..same.whole })
    }

    /// The tuple of the block `index` further on: reference tags count up but for type 3's, and but for those of a tuple that
    /// says nothing.
    pub(crate) fn tuple_at(&self, format: PiFormat, index: u64) -> [u8; 8] {
        let mut tuple = [0xff; 8];
        if let Ok(first) = <[u8; 8]>::try_from(self.tuple) {
            tuple = first;
        }
        if tuple == [0xff; 8] || format.pi_type() == PiType::Type3 {
            return tuple;
        }
        let [guard, other, app, tag, reference @ ..] = tuple;
        let index = u32::try_from(index & u64::from(u32::MAX)).unwrap_or(0);
        let [a, b, c, d] = u32::from_be_bytes(reference).wrapping_add(index).to_be_bytes();
        [guard, other, app, tag, a, b, c, d]
    }
}

impl Asked<'_> {
    /// UNMAP lets blocks of zeroes become holes; ANCHOR would keep their room, which is not supported (ANC_SUP zero). Where the
    /// host sees no tuples zeroes are holes in any case, as a write of zeroes over NVMe is.
    pub(super) fn write_same(
        &self,
        range: &Protected,
        unmap: bool,
        anchor: bool,
        no_data: bool,
    ) -> Result<Plan, Sense> {
        let mut scheme = self.seen.scheme();
        if unmap || no_data {
            // Holes need no tuples of the host's; a write without them is refused when it comes to that.
            scheme = Scheme { enforce: Enforce::Any, ..scheme };
        }
        let protection = scheme.decide(Act::Write, range)?;
        if anchor {
            return Err(Sense::invalid_in_cdb(if range.tags.is_some() { 10 } else { 1 }, Some(4)));
        }
        let blocks = self.same_blocks(range)?;
        self.check_writable()?;
        let mut command = self.ranged(Operation::Write, range, &protection);
        command.force_unit_access = self.durable(false);
        let mut hole = self.bare(Operation::Deallocate, range.blocks.lba, 0);
        hole.force_unit_access = self.durable(false);
        if no_data {
            return Ok(Plan::without_data(Work::Pieces(Whole::of_holes(hole, blocks), 0)));
        }
        let carries = protection.layout == Layout::Interleaved;
        let may_unmap = unmap || carries || self.seen.visible.is_none();
        let whole = Whole { command, blocks, piece: self.blocks_at_once(), format: self.seen.volume.format };
        let same = Same { whole, hole: may_unmap.then_some(hole), done: None };
        let wanted_out = self.wire_block_len(protection.layout);
        if self.buffers.data_out != wanted_out {
            return Err(WRONG_BUFFER);
        }
        Ok(Plan { work: Work::Same(same), wanted_out, out_len: wanted_out, wanted_in: 0 })
    }

    /// VERIFY with BYTCHK 11b.
    pub(super) fn verify_same(&self, whole: Whole) -> Result<Plan, Sense> {
        let wanted_out = self.wire_block_len(whole.command.layout);
        if self.buffers.data_out < wanted_out {
            return Err(WRONG_BUFFER);
        }
        let same = Same { whole, hole: None, done: None };
        Ok(Plan { work: Work::Same(same), wanted_out, out_len: wanted_out, wanted_in: 0 })
    }

    /// How many blocks WRITE SAME is for: it has to say so (WSNZ).
    fn same_blocks(&self, range: &Protected) -> Result<u64, Sense> {
        let Blocks { lba, count, count_at } = range.blocks;
        self.check_range(lba, u64::from(count))?;
        if count == 0 || count > WRITE_SAME_BLOCKS_MAX {
            return Err(Sense::invalid_in_cdb(count_at, None));
        }
        Ok(u64::from(count))
    }
}

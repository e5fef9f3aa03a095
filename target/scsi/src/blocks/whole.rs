//! Commands that move nothing. SBC-4 §5 "SYNCHRONIZE CACHE (10) command", "PRE-FETCH (10) command", "SANITIZE command".

use holdfast_block::{Lba, Operation};

use super::{Asked, Plan, Whole, Work};
use crate::cdb::Blocks;
use crate::sense::Sense;

/// SERVICE ACTION of EXIT FAILURE MODE.
const EXIT_FAILURE_MODE: u16 = 0x1f;

impl Asked<'_> {
    /// Makes durable what was written before: all of it, whichever blocks are named. IMMED would let the status go first; it
    /// comes after, which is no error.
    pub(super) fn synchronize_cache(&self, blocks: &Blocks) -> Result<Plan, Sense> {
        self.check_range(blocks.lba, u64::from(blocks.count))?;
        Ok(Plan::without_data(Work::Run(self.bare(Operation::Flush, Lba(0), 0))))
    }

    /// BLOCK ERASE makes a hole of every block, durably, so that nobody reads anything of it any more; what lay in its place is
    /// overwritten when the pool uses that again. It takes a moment, and fails by itself alone: there is never an operation
    /// in progress after the status, nor a failure mode to leave.
    pub(super) fn sanitize(&self, action: u16) -> Result<Plan, Sense> {
        if action == EXIT_FAILURE_MODE {
            return Ok(Plan::NOTHING);
        }
        self.check_writable()?;
        let mut hole = self.bare(Operation::Deallocate, Lba(0), 0);
        hole.force_unit_access = true;
        let all = Whole::of_holes(hole, self.seen.volume.block_count);
        Ok(Plan::without_data(Work::Pieces(all, 0)))
    }

    /// CONDITION MET: no block would be nearer for having been fetched ahead, so that all of them are as near as they can be.
    pub(super) fn pre_fetch(&self, blocks: &Blocks) -> Result<Plan, Sense> {
        self.check_range(blocks.lba, u64::from(blocks.count))?;
        Ok(Plan::without_data(Work::Met))
    }
}

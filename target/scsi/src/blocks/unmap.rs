//! UNMAP. SBC-4 §5 "UNMAP command". Nothing is unmapped unless the whole parameter list is right.

use holdfast_block::{BlockCount, Command, Lba, Operation};

use super::{Asked, Plan, Work};
use crate::limits::{LIST_LEN_MAX, UNMAP_BLOCKS_MAX, UNMAP_DESCRIPTORS_MAX};
use crate::nexus::Seen;
use crate::sense::Sense;

/// Bytes of the header, and of each descriptor behind it.
const HEADER_LEN: usize = 8;
const DESCRIPTOR_LEN: usize = 16;

/// What is unmapped: the descriptors of a list that has been checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unmap {
    /// For no blocks yet.
    pub(crate) command: Command,
    /// Blocks of the volume, and most that are unmapped by one command.
    pub(crate) blocks: u64,
    pub(crate) blocks_max: u64,
    /// Descriptors, and those that are done; `None` while the list has not come.
    pub(crate) left: Option<(usize, usize)>,
}

impl Asked<'_> {
    /// ANCHOR would keep the blocks' room, which is not supported (ANC_SUP zero).
    pub(super) fn unmap(&self, anchor: bool, list_len: u16) -> Result<Plan, Sense> {
        if anchor {
            return Err(Sense::invalid_in_cdb(1, Some(0)));
        }
        self.check_writable()?;
        let wanted_out = usize::from(list_len);
        if wanted_out == 0 {
            return Ok(Plan::NOTHING);
        }
        let fits = (HEADER_LEN..=LIST_LEN_MAX).contains(&wanted_out);
        if !fits || self.buffers.data_out < HEADER_LEN {
            return Err(Sense::PARAMETER_LIST_LENGTH);
        }
        let Seen { volume, .. } = self.seen;
        let mut command = self.bare(Operation::Deallocate, Lba(0), 0);
        command.force_unit_access = self.durable(false);
        let blocks_max = u64::from(UNMAP_BLOCKS_MAX);
        let unmap = Unmap { command, blocks: volume.block_count, blocks_max, left: None };
        let out_len = wanted_out.min(self.buffers.data_out);
        Ok(Plan { work: Work::Unmap(unmap), wanted_out, out_len, wanted_in: 0 })
    }
}

impl Unmap {
    /// How many descriptors a list has. A last one that is cut short does not count; a list that ends before what it says
    /// has the wrong length.
    pub(crate) fn count(&self, list: &[u8]) -> Result<usize, Sense> {
        let len = list.get(2..4).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes);
        let len = usize::from(len.ok_or(Sense::PARAMETER_LIST_LENGTH)?);
        if list.len() < HEADER_LEN + len {
            return Err(Sense::PARAMETER_LIST_LENGTH);
        }
        let count = len / DESCRIPTOR_LEN;
        let too_many = u32::try_from(count).is_ok_and(|count| count > UNMAP_DESCRIPTORS_MAX);
        if too_many {
            return Err(Sense::invalid_in_parameters(2, None));
        }
        let mut sum: u64 = 0;
        for index in 0..count {
            let (lba, blocks) = descriptor(list, index).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
            let end = lba.checked_add(u64::from(blocks)).filter(|end| end.0 <= self.blocks);
            end.ok_or(Sense::LBA_OUT_OF_RANGE)?;
            sum = sum.saturating_add(u64::from(blocks));
            if sum > self.blocks_max {
                let at = u16::try_from(HEADER_LEN + index * DESCRIPTOR_LEN + 8).unwrap_or(u16::MAX);
                return Err(Sense::invalid_in_parameters(at, None));
            }
        }
        Ok(count)
    }

    /// What the descriptor at `index` asks for; `None` for no blocks.
    pub(crate) fn at(&self, list: &[u8], index: usize) -> Option<Command> {
        let (lba, blocks) = descriptor(list, index).filter(|(_, blocks)| *blocks > 0)?;
        Some(Command { lba, blocks: BlockCount::new(blocks), ..self.command })
    }
}

fn descriptor(list: &[u8], index: usize) -> Option<(Lba, u32)> {
    let start = index.checked_mul(DESCRIPTOR_LEN)?.checked_add(HEADER_LEN)?;
    let (lba, rest) = list.get(start..)?.split_first_chunk()?;
    Some((Lba(u64::from_be_bytes(*lba)), u32::from_be_bytes(*rest.first_chunk()?)))
}

//! GET LBA STATUS: which blocks are there, and which are holes. SBC-4 §5 "GET LBA STATUS (16) command".
//!
//! The answer covers as many blocks as there are descriptors for, of as much as is looked at for one answer.

use holdfast_block::{BlockCount, BlockError, BlockPort, Command, Lba, Operation, Provenance, TicketId};

use super::{Asked, Plan, Work};
use crate::limits::{STATUS_DESCRIPTORS_MAX, STATUS_PIECES_MAX, STATUS_PIECES_READ_MAX};
use crate::sense::Sense;

const HEADER_LEN: usize = 8;
const DESCRIPTOR_LEN: usize = 16;

/// PROVISIONING STATUS.
const MAPPED: u8 = 0;
const DEALLOCATED: u8 = 1;

/// A look at blocks, piece by piece.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scan {
    /// The piece that is looked at next.
    pub(crate) piece: Command,
    /// Blocks of the volume, and those of a whole piece.
    end: u64,
    piece_blocks: u32,
    pieces_left: u32,
    /// Those that may hold blocks.
    reads_left: u32,
    descriptors_left: usize,
    /// The run of blocks of one status that is not told yet: its first, how many, and the status.
    run: Option<(Lba, u32, u8)>,
    /// ALLOCATION LENGTH.
    pub(crate) allocation_len: u32,
}

impl Asked<'_> {
    pub(super) fn lba_status(&self, lba: Lba, allocation_len: u32) -> Result<Plan, Sense> {
        self.check_range(lba, 1)?;
        let room = usize::try_from(allocation_len).unwrap_or(usize::MAX).saturating_sub(HEADER_LEN);
        let scan = Scan {
            piece: self.bare(Operation::CopySource, lba, 0),
            end: self.seen.volume.block_count,
            piece_blocks: self.blocks_at_once(),
            pieces_left: STATUS_PIECES_MAX,
            reads_left: STATUS_PIECES_READ_MAX,
            descriptors_left: (room / DESCRIPTOR_LEN).clamp(1, STATUS_DESCRIPTORS_MAX),
            run: None,
            allocation_len,
        };
        Ok(Plan::without_data(Work::Scan(scan)))
    }
}

impl Scan {
    /// The next piece to look at, or the end: then the answer is complete.
    pub(crate) fn next(&mut self, answer: &mut Vec<u8>) -> Option<Command> {
        let left = self.end.saturating_sub(self.piece.lba.0);
        let looked = self.pieces_left == 0 || self.reads_left == 0;
        if left == 0 || looked || self.descriptors_left == 0 {
            self.tell(answer);
            finish(answer);
            return None;
        }
        if self.piece.blocks == BlockCount::ZERO {
            let blocks = u32::try_from(left).unwrap_or(u32::MAX).min(self.piece_blocks);
            self.piece.blocks = BlockCount::new(blocks);
        }
        Some(self.piece)
    }

    /// A piece has been looked at.
    pub(crate) fn take<P: BlockPort>(&mut self, port: &P, source: TicketId, answer: &mut Vec<u8>) {
        self.pieces_left -= 1;
        let mut holds_blocks = false;
        for index in 0..self.piece.blocks.as_usize() {
            let is_hole =
                port.block_origin(source, index).is_some_and(|origin| origin.provenance == Provenance::Hole);
            holds_blocks |= !is_hole;
            self.add(if is_hole { DEALLOCATED } else { MAPPED }, answer);
        }
        self.reads_left -= u32::from(holds_blocks);
        self.piece.blocks = BlockCount::ZERO;
    }

    /// A piece could not be read. A block that cannot is there all the same.
    pub(crate) fn take_error(&mut self, error: BlockError, answer: &mut Vec<u8>) -> Result<(), BlockError> {
        let (BlockError::Media(lba) | BlockError::Uncorrectable(lba)) = error else { return Err(error) };
        self.pieces_left -= 1;
        self.reads_left -= 1;
        let before = lba.0.checked_sub(self.piece.lba.0).and_then(|before| u32::try_from(before).ok());
        match before {
            Some(before) if before > 0 && before < self.piece.blocks.get() => {
                self.piece.blocks = BlockCount::new(before);
            }
            _ => {
                self.add(MAPPED, answer);
                self.piece.blocks = BlockCount::ZERO;
            }
        }
        Ok(())
    }

    /// One more block, the next.
    fn add(&mut self, status: u8, answer: &mut Vec<u8>) {
        let lba = self.piece.lba;
        self.piece.lba = Lba(lba.0.saturating_add(1));
        if let Some((_, blocks, same)) = &mut self.run
            && *same == status
            && *blocks < u32::MAX
        {
            *blocks += 1;
            return;
        }
        self.tell(answer);
        self.run = (self.descriptors_left > 0).then_some((lba, 1, status));
    }

    fn tell(&mut self, answer: &mut Vec<u8>) {
        let Some((lba, blocks, status)) = self.run.take() else { return };
        if answer.is_empty() {
            answer.extend([0; HEADER_LEN]);
        }
        answer.extend(lba.0.to_be_bytes());
        answer.extend(blocks.to_be_bytes());
        answer.extend([status, 0, 0, 0]);
        self.descriptors_left = self.descriptors_left.saturating_sub(1);
    }
}

/// PARAMETER DATA LENGTH.
fn finish(answer: &mut [u8]) {
    let len = u32::try_from(answer.len().saturating_sub(4)).unwrap_or(u32::MAX);
    if let Some(field) = answer.first_chunk_mut() {
        *field = len.to_be_bytes();
    }
}

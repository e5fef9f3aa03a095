//! Slots that were never written: a file system has to note each of them when it is, and a flush has to wait for that. So a
//! file is written with zeroes ahead of where slots are handed out, a long piece at a time.

use super::arena::Frame;
use super::format::SLOT_LEN;
use super::io::{DiskError, DiskOp, PARTS_MAX, Part};
use super::pool::DiskPool;
use super::space::Run;
use super::tokens::Errand;
use crate::PoolMemory;

/// Free slots that have been written before, and that lie together, below which more are made: 64 MiB. Those that lie
/// between used ones do not count: as long as there is room that was never used, nothing has to be written into gaps.
const AHEAD: u64 = 16_384;

/// Slots that are written at once.
const PIECE: u64 = 256;

const _: () = assert!(PIECE <= PARTS_MAX as u64);

/// How far the device has been written.
#[derive(Debug)]
pub(super) struct ZeroAhead {
    /// Slots below were written at least once.
    through: u64,
    under_way: Option<Run>,
    /// A frame of zeroes.
    frame: Frame,
    stopped: bool,
}

impl ZeroAhead {
    pub(super) fn new(through: u64, frame: Frame) -> ZeroAhead {
        ZeroAhead { through, under_way: None, frame, stopped: false }
    }

    /// For the superblock.
    pub(super) fn through(&self) -> u64 {
        self.through
    }

    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_none()
    }
}

impl<A: PoolMemory> DiskPool<A> {
    /// Writes the next piece if few slots are left that were written before. Slots are taken while zeroes go to them: one that
    /// is in use, or comes into use, is never touched.
    pub(super) fn zero_ahead(&mut self) {
        let end = self.layout.slots();
        let stopped = self.zeroes.stopped || self.checkpoint.is_closing() || self.has_failed();
        if self.zeroes.under_way.is_some() || stopped || self.space.empty_below() >= AHEAD {
            return;
        }
        while self.zeroes.through < end && !self.space.occupy(self.zeroes.through) {
            self.zeroes.through += 1;
        }
        let first = self.zeroes.through;
        if first >= end {
            return self.space.advance(end);
        }
        let last = end.min(first + PIECE);
        let more = (first + 1..last).take_while(|slot| self.space.occupy(*slot)).count() as u64;
        let run = Run { first, len: more + 1 };
        let mut parts = self.log.spare_parts.pop().unwrap_or_default();
        let part = Part { offset: self.zeroes.frame.offset(), len: SLOT_LEN };
        parts.extend((0..run.len).map(|_| part));
        self.zeroes.under_way = Some(run);
        self.ops.push_back(DiskOp::Write {
            token: Errand::Zeroes.token(),
            offset: first * SLOT_LEN as u64,
            parts,
        });
    }

    /// A piece is written, or could not be: then slots are handed out as they are.
    pub(super) fn zeroes_written(&mut self, result: Result<(), DiskError>) {
        let Some(Run { first, len }) = self.zeroes.under_way.take() else { return };
        (first..first + len).for_each(|slot| self.space.give_back(slot));
        if result.is_ok() {
            self.zeroes.through = first + len;
            self.space.advance(first + len);
        } else {
            self.zeroes.stopped = true;
        }
    }
}

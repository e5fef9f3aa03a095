//! Whole streams in one pass, however they are cut: verify and strip, generate and insert.
//! NVM Command Set 1.1 §5.3.2.1 "Protection Information and Write Commands" and §5.3.2.2 "Protection
//! Information and Read Commands".
//!
//! Both processors are a few words of state around [`split`], [`BlockGuard`] and [`check_tuple`]; they hold
//! at most one tuple and never a block. Someone who copies block by block anyway uses those directly.

use crate::check::{Checked, Fault, check_tuple};
use crate::format::PiFormat;
use crate::guard::BlockGuard;
use crate::plan::{CheckPlan, InsertTags, make_tuple};
use crate::split::{Part, Piece, split};
use crate::tuple::Tuple;

/// Bytes of the longest tuple.
const TUPLE_LEN_MAX: usize = 16;

/// What became of the blocks of a stream, in blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// At least one tag compared, all good.
    pub checked: u32,
    /// Checks switched off by the tuple itself.
    pub escaped: u32,
    /// No check asked for.
    pub unchecked: u32,
}

impl Counts {
    /// Adds one block.
    pub fn add(&mut self, outcome: Checked) {
        let count = match outcome {
            Checked::Checked => &mut self.checked,
            Checked::Escaped => &mut self.escaped,
            Checked::Unchecked => &mut self.unchecked,
        };
        *count = count.saturating_add(1);
    }
}

/// Checks a stream of blocks with their tuples, and can hand out the data alone.
#[derive(Debug, Clone)]
pub struct Verifier {
    format: PiFormat,
    plan: CheckPlan,
    /// Bytes of the stream seen so far.
    wire_offset: usize,
    guard: BlockGuard,
    /// The tuple being collected.
    tuple: [u8; TUPLE_LEN_MAX],
    counts: Counts,
    fault: Option<Fault>,
}

impl Verifier {
    /// At the start of a stream.
    pub fn new(format: PiFormat, plan: CheckPlan) -> Verifier {
        Verifier {
            format,
            plan,
            wire_offset: 0,
            guard: BlockGuard::new(format),
            tuple: [0; TUPLE_LEN_MAX],
            counts: Counts::default(),
            fault: None,
        }
    }

    /// Takes the next bytes of the stream. An error is the fault of the lowest bad block; every later
    /// call returns it again, and no byte after that block's tuple is looked at.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.feed_stripping(bytes, |_| {})
    }

    /// As [`feed`](Self::feed), and hands the data, without tuples, to `data_sink`. A block's data comes
    /// before its tuple does: what was handed out counts only once a later call, or this one, has
    /// counted the block.
    pub fn feed_stripping(&mut self, bytes: &[u8], mut data_sink: impl FnMut(&[u8])) -> Result<(), Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        for piece in split(self.format.block_len(), self.format.tuple_len(), self.wire_offset, bytes) {
            match piece.part {
                Part::Data => {
                    self.guard.take_in(&piece);
                    data_sink(piece.bytes);
                }
                Part::Tuple => self.take_tuple(&piece)?,
            }
        }
        self.wire_offset = self.wire_offset.saturating_add(bytes.len());
        Ok(())
    }

    /// The blocks that are through, the bad one not among them.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Collects tuple bytes, and checks the block once they are complete.
    fn take_tuple(&mut self, piece: &Piece<'_>) -> Result<(), Fault> {
        let end = piece.offset.saturating_add(piece.bytes.len());
        if let Some(room) = self.tuple.get_mut(piece.offset..end) {
            room.copy_from_slice(piece.bytes);
        }
        let whole = self.tuple.get(..end).and_then(|bytes| Tuple::decode(self.format, bytes));
        let Some(tuple) = whole else {
            return Ok(());
        };
        match check_tuple(self.format, &self.plan, piece.block, self.guard.finish(), &tuple) {
            Ok(outcome) => {
                self.counts.add(outcome);
                Ok(())
            }
            Err(fault) => {
                self.fault = Some(fault);
                Err(fault)
            }
        }
    }
}

/// Makes the tuples of a stream of data, and hands out the stream with them inserted.
#[derive(Debug, Clone)]
pub struct Inserter {
    format: PiFormat,
    tags: InsertTags,
    /// Bytes of data seen so far.
    data_offset: usize,
    guard: BlockGuard,
}

impl Inserter {
    /// At the start of a stream.
    pub fn new(format: PiFormat, tags: InsertTags) -> Inserter {
        Inserter { format, tags, data_offset: 0, guard: BlockGuard::new(format) }
    }

    /// Takes the next bytes of data, and hands them to `sink` with each block's tuple behind its last
    /// byte. To generate tuples only, ignore the pieces of data.
    pub fn feed(&mut self, data: &[u8], mut sink: impl FnMut(Piece<'_>)) {
        for piece in split(self.format.block_len(), 0, self.data_offset, data) {
            self.guard.take_in(&piece);
            sink(piece);
            if piece.offset.saturating_add(piece.bytes.len()) == self.format.block_len() {
                let tuple = make_tuple(self.format, &self.tags, piece.block, self.guard.finish());
                let mut room = [0; TUPLE_LEN_MAX];
                if let Some(bytes) = room.get_mut(..self.format.tuple_len())
                    && tuple.encode(self.format, bytes)
                {
                    sink(Piece { block: piece.block, part: Part::Tuple, offset: 0, bytes });
                }
            }
        }
        self.data_offset = self.data_offset.saturating_add(data.len());
    }
}

//! The journal as it is written: batches of cells, each a journal block and the data runs that it speaks of, all issued
//! together and completed in order.
//!
//! A batch is filled by [`Log::open`] and its builder, and issued by [`Log::close`]. Batches that one operation spans are a
//! *group*: they complete together, so that the operation takes effect at once.

use std::collections::VecDeque;

use holdfast_block::SlotRef;

use super::arena::{Arena, Frame};
use super::format::{JournalBuilder, JournalStamp, Layout, WINDOW};
use super::gather::Gathered;
use super::io::{DiskOp, Part};
use super::room::Growth;
use super::tokens::Errand;
use crate::PoolMemory;
use crate::memory::VolumeIndex;

/// Batches under way from which on an incomplete one waits for more to come: enough to keep a device busy, few enough
/// that under load each journal block speaks of many cells.
const BATCHES_EAGER: usize = 4;

/// Lists of parts that are kept for reuse.
const SPARE_PARTS_MAX: usize = 256;

/// What is due when a batch is complete.
#[derive(Debug)]
pub(super) enum End {
    /// A Publish: its frames come back, and it is reported once applied or, if `durable`, once flushed.
    Publish { token: u32, slots: Vec<SlotRef>, durable: bool, growth: Growth, volume: VolumeIndex },
    /// A Deallocate, with the frames that it made for cells of which a part stays.
    Trim { token: u32, slots: Vec<SlotRef>, frames: Vec<Frame> },
    /// A change of a volume.
    Change { change: u64, volume: VolumeIndex },
    /// Slots of writes that failed: nothing names them any more.
    Restated { slots: Vec<u64> },
    /// A Publish whose data could not be written, and whose former contents have been stated again.
    Failed { token: u32, slots: Vec<SlotRef> },
}

/// A batch on its way.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) number: u64,
    /// Where its journal block is.
    pub(super) frame: Frame,
    /// The records in that.
    pub(super) builder: JournalBuilder,
    /// Writes that are not done.
    pub(super) left: usize,
    /// A data write has failed.
    pub(super) failed: bool,
    /// The last operation in it goes on in the next one.
    pub(super) continues: bool,
    pub(super) ends: Vec<End>,
}

/// The batch that is being filled.
#[derive(Debug)]
pub(super) struct OpenBatch {
    pub(super) batch: Batch,
    writes: Vec<Gathered>,
    /// Writers that are stated in this block.
    pub(super) stated: Vec<u16>,
}

/// The numbers of the log, and what is on its way.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) open: Option<OpenBatch>,
    pub(super) flying: VecDeque<Batch>,
    /// Batches and their frames for reuse.
    spare: Vec<Batch>,
    /// Lists of parts for reuse.
    pub(super) spare_parts: Vec<Vec<Part>>,
    spare_runs: Vec<Vec<Gathered>>,
    /// The next journal block's.
    pub(super) next_number: u64,
    /// All up to this one are complete and applied.
    pub(super) applied: u64,
    /// All up to this one are durable.
    pub(super) durable: u64,
    /// The first that a recovery would replay.
    pub(super) start: u64,
    /// Nothing above this number may be called durable: data of the next block could not be written, and the journal still
    /// has to say so.
    pub(super) hold: Option<u64>,
    layout: Layout,
}

/// Who this log belongs to, and what its blocks say beside their records.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogHead {
    pub(super) pool_tag: u64,
    pub(super) generation: u64,
}

impl Log {
    /// A log that goes on with `next_number`, with the frames for its journal blocks; everything before is durable and in
    /// the map, and a recovery begins there.
    pub(super) fn new(layout: Layout, next_number: u64, frames: Vec<Frame>) -> Log {
        let spare = frames.into_iter().map(|frame| Batch {
            number: 0,
            frame,
            builder: JournalBuilder::new(),
            left: 0,
            failed: false,
            continues: false,
            ends: Vec::new(),
        });
        Log {
            open: None,
            flying: VecDeque::new(),
            spare: spare.collect(),
            spare_parts: Vec::new(),
            spare_runs: Vec::new(),
            next_number,
            applied: next_number - 1,
            durable: next_number - 1,
            start: next_number,
            hold: None,
            layout,
        }
    }

    /// Whether everything has been issued and is complete.
    pub(super) fn is_quiet(&self) -> bool {
        self.open.is_none() && self.flying.is_empty()
    }

    /// Journal blocks in use: from where a recovery would begin to the last.
    pub(super) fn used(&self) -> u64 {
        self.next_number - self.start
    }

    /// How many there can be.
    pub(super) fn ring(&self) -> u64 {
        self.layout.journal_slots()
    }

    /// What a flush that begins now makes durable: all up to this number.
    pub(super) fn flushable(&self) -> u64 {
        self.hold.unwrap_or(u64::MAX).min(self.applied)
    }

    /// Begins a batch if none is open. `false` if there is no room: too many are under way, or the ring is full.
    pub(super) fn open(&mut self) -> bool {
        if self.open.is_some() {
            return true;
        }
        let is_full = self.used() >= self.layout.journal_slots();
        if is_full && !holdfast_mutant::active("store-journal-place-reused-early") {
            return false;
        }
        if self.flying.len() as u64 >= WINDOW {
            return false;
        }
        let Some(mut batch) = self.spare.pop() else { return false };
        batch.number = self.next_number;
        self.next_number += 1;
        let writes = self.spare_runs.pop().unwrap_or_default();
        self.open = Some(OpenBatch { batch, writes, stated: Vec::new() });
        true
    }

    /// Has a frame written to a slot together with the open batch.
    pub(super) fn write(&mut self, frame: Frame, slot: u64) {
        let Some(open) = &mut self.open else {
            debug_assert!(false, "data belongs to an open batch");
            return;
        };
        if !open.writes.last_mut().is_some_and(|run| run.add(slot, frame)) {
            let parts = self.spare_parts.pop().unwrap_or_default();
            open.writes.push(Gathered::new(slot, frame, parts));
        }
    }

    /// Whether the open batch is to be issued now rather than to wait for more.
    pub(super) fn is_due(&self) -> bool {
        let under_way = self.flying.iter().filter(|batch| batch.left > 0).count();
        self.open.is_some() && under_way < BATCHES_EAGER
    }

    /// Issues the open batch.
    pub(super) fn close<A: PoolMemory>(
        &mut self,
        arena: &mut Arena<A>,
        head: LogHead,
        continues: bool,
        ops: &mut VecDeque<DiskOp>,
    ) {
        let Some(OpenBatch { mut batch, mut writes, .. }) = self.open.take() else { return };
        if let Some(block) = arena.frame_mut(batch.frame) {
            let too_high = holdfast_mutant::active("store-durable-too-high");
            let durable_through = if too_high { batch.number - 1 } else { self.durable };
            let LogHead { pool_tag, generation } = head;
            let stamp = JournalStamp { pool_tag, number: batch.number, durable_through, generation };
            batch.builder.finish(block, &stamp);
        }
        batch.continues = continues;
        batch.left = writes.len() + 1;
        ops.extend(writes.drain(..).map(|run| run.write(Errand::Data(batch.number))));
        self.spare_runs.push(writes);
        let parts = self.spare_parts.pop().unwrap_or_default();
        let block = Gathered::new(self.layout.journal_slot(batch.number), batch.frame, parts);
        ops.push_back(block.write(Errand::Journal(batch.number)));
        self.flying.push_back(batch);
    }

    /// Gives the open batch up, which nothing has been issued of. What would have ended with it is given out.
    pub(super) fn abandon_open(&mut self) -> Vec<End> {
        let Some(OpenBatch { mut batch, .. }) = self.open.take() else { return Vec::new() };
        let ends = std::mem::take(&mut batch.ends);
        self.recycle(batch);
        ends
    }

    /// A batch on its way.
    pub(super) fn flying(&mut self, number: u64) -> Option<&mut Batch> {
        let first = self.flying.front()?.number;
        self.flying.get_mut(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    /// How many batches at the front are a whole group whose writes are all done.
    pub(super) fn group_done(&self) -> Option<usize> {
        for (at, batch) in self.flying.iter().enumerate() {
            let journal_left = usize::from(holdfast_mutant::active("store-acknowledged-before-journal"));
            if batch.left > journal_left {
                return None;
            }
            if !batch.continues {
                return Some(at + 1);
            }
        }
        None
    }

    /// Takes the first batch on its way out; it comes back by [`Self::recycle`].
    pub(super) fn pop(&mut self) -> Option<Batch> {
        self.flying.pop_front()
    }

    /// Takes a batch back for reuse.
    pub(super) fn recycle(&mut self, mut batch: Batch) {
        batch.builder = JournalBuilder::new();
        batch.ends.clear();
        batch.failed = false;
        self.spare.push(batch);
    }

    /// Takes a list of parts back for reuse.
    pub(super) fn recycle_parts(&mut self, mut parts: Vec<Part>) {
        parts.clear();
        if parts.capacity() > 0 && self.spare_parts.len() < SPARE_PARTS_MAX {
            self.spare_parts.push(parts);
        }
    }
}

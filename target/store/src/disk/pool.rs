//! A pool on a device: what it consists of, and the turns in which it goes on.
//!
//! Commands come in through [`DiskPool::submit`] and go through one queue in their order (reads apart, which change
//! nothing). What the queue places into the log is issued, completed and applied in the same order. Disk operations wait in
//! [`DiskPool::next_op`] for whoever carries them out, and come back through [`DiskPool::op_done`].

use std::collections::VecDeque;

use holdfast_block::{PoolId, SlotRef, StoreDone, StoreError};

use super::arena::Arena;
use super::checkpoint::Checkpoint;
use super::dead::{DeadSlots, ReadNumbers};
use super::flush::Flushes;
use super::format::{Layout, Name, journal_tag};
use super::io::{DiskDone, DiskOp};
use super::log::{End, Log, LogHead};
use super::partial::Partials;
use super::read::Reads;
use super::restate::Restate;
use super::room::Room;
use super::space::Space;
use super::tokens::Errand;
use super::tree::Tree;
use super::trim::Emptying;
use super::volumes::DiskVolumes;
use super::write::Pending;
use super::writers::Writers;
use super::zero::ZeroAhead;
use crate::{PoolMemory, PoolUsage};

/// Pages of a detached part of a map that are taken apart in one turn.
const PAGES_REAPED: usize = 64;

/// Whether a pool serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// All is well.
    Ok,
    /// Parts of volumes are lost; everything else is served.
    Degraded,
    /// The device failed at something that cannot be made good: nothing is written any more, reads go on.
    Failed(Failure),
}

/// What a pool failed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A journal block could not be written.
    #[error("the journal could not be written")]
    Journal,
    /// A flush failed: what it should have made durable may be lost or not.
    #[error("the device could not flush its cache")]
    Flush,
    /// A map page or a superblock could not be written.
    #[error("the map could not be written")]
    Checkpoint,
}

/// What a pool is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: PoolId,
    pub(super) uuid: [u8; 16],
    pub(super) name: Name,
}

/// A pool on a device. See the module.
#[derive(Debug)]
pub struct DiskPool<A> {
    pub(super) identity: Identity,
    pub(super) layout: Layout,
    pub(super) arena: Arena<A>,
    pub(super) space: Space,
    pub(super) tree: Tree,
    pub(super) volumes: DiskVolumes,
    pub(super) writers: Writers,
    pub(super) room: Room,
    /// Deallocations that are not in the maps.
    pub(super) emptying: Vec<Emptying>,
    pub(super) log: Log,
    pub(super) generation: u64,
    /// Changes in their order, until they are in the log.
    pub(super) queue: VecDeque<Pending>,
    pub(super) partials: Partials,
    pub(super) restate: Restate,
    pub(super) reads: Reads,
    pub(super) read_numbers: ReadNumbers,
    pub(super) dead: DeadSlots,
    pub(super) flushes: Flushes,
    pub(super) checkpoint: Checkpoint,
    pub(super) zeroes: ZeroAhead,
    pub(super) health: Health,
    pub(super) ops: VecDeque<DiskOp>,
    pub(super) finished: VecDeque<StoreDone>,
    /// Room for the ends of one group.
    pub(super) ends: Vec<End>,
}

impl<A: PoolMemory> DiskPool<A> {
    /// Its identifier.
    pub fn id(&self) -> PoolId {
        self.identity.id
    }

    /// Its identifier on the device, for people and other programs.
    pub fn uuid(&self) -> [u8; 16] {
        self.identity.uuid
    }

    /// What it was called when it was made.
    pub fn name(&self) -> &str {
        self.identity.name.as_str()
    }

    /// Whether it serves.
    pub fn health(&self) -> Health {
        match self.health {
            Health::Ok if self.tree.has_losses() => Health::Degraded,
            health => health,
        }
    }

    /// Its memory, which disk operations name parts of.
    pub fn arena(&self) -> &A {
        self.arena.memory()
    }

    /// The same, for whoever carries disk operations out by himself.
    pub fn arena_mut(&mut self) -> &mut A {
        self.arena.memory_mut()
    }

    /// How full it is.
    pub fn usage(&self) -> PoolUsage {
        let slot = super::format::SLOT_LEN as u64;
        PoolUsage {
            capacity_bytes: self.room.capacity() * slot,
            allocated_bytes: self.tree.cells_live() * slot,
        }
    }

    /// Bytes of memory that its maps occupy.
    pub fn map_bytes(&self) -> u64 {
        self.tree.pages() * super::format::SLOT_LEN as u64
    }

    /// Its maps may take so much memory from now on. Writes that would need more find no room; what is mapped stays.
    pub fn set_map_bytes_max(&mut self, bytes: u64) {
        self.tree.set_pages_max(bytes / super::format::SLOT_LEN as u64);
    }

    /// Blocks that its journal has, and how many of them a recovery would read.
    pub fn journal_blocks(&self) -> (u64, u64) {
        (self.log.ring(), self.log.used())
    }

    /// Whether nothing is under way: no command, and no operation on the device. Of a pool that has failed only its commands
    /// count: what it had begun for itself is never ended.
    pub fn is_idle(&self) -> bool {
        let commands = self.queue.is_empty() && self.log.is_quiet() && self.reads.is_empty();
        let upkeep = self.flushes.is_empty() && self.checkpoint.is_idle() && self.zeroes.is_idle();
        commands && self.ops.is_empty() && (upkeep || self.has_failed())
    }

    /// The next operation for the device.
    pub fn next_op(&mut self) -> Option<DiskOp> {
        self.ops.pop_front()
    }

    /// An operation has ended.
    pub fn op_done(&mut self, done: DiskDone) {
        let DiskDone { token, parts, result } = done;
        match Errand::of(token) {
            Errand::Data(number) => self.write_done(number, false, result),
            Errand::Journal(number) => self.write_done(number, true, result),
            Errand::Read(number) => self.read_done(number, &parts, result),
            Errand::Page | Errand::Superblock => self.checkpoint_written(&parts, result),
            Errand::Flush => self.flush_done(result),
            Errand::CheckpointFlush => self.checkpoint_flushed(result),
            Errand::Base(number) => self.base_done(number, result),
            Errand::Zeroes => self.zeroes_written(result),
        }
        self.log.recycle_parts(parts);
    }

    /// Goes on with everything that can go on, for a bounded time.
    pub(crate) fn work(&mut self) {
        self.free_dead();
        self.reap();
        self.volumes.forget_gone(self.log.durable);
        self.pump();
        self.go_on_flushing();
        self.go_on_with_checkpoint();
        self.zero_ahead();
        self.start_waiting_reads();
    }

    /// Whether [`Self::work`] has something to do that nothing under way will bring about.
    pub(crate) fn has_work(&self) -> bool {
        !self.finished.is_empty() || !self.ops.is_empty() || self.tree.has_detached()
    }

    /// A command that has ended.
    pub(crate) fn take_finished(&mut self) -> Option<StoreDone> {
        self.finished.pop_front()
    }

    pub(super) fn finish(&mut self, token: u32, slots: Vec<SlotRef>, result: Result<(), StoreError>) {
        self.finished.push_back(StoreDone { token, slots, result });
    }

    pub(super) fn log_head(&self) -> LogHead {
        LogHead { pool_tag: journal_tag(&self.identity.uuid), generation: self.generation }
    }

    /// Slots whose successors are durable are free again.
    fn free_dead(&mut self) {
        let (durable, oldest) = (self.log.durable, self.read_numbers.oldest());
        while let Some(slot) = self.dead.pop(durable, oldest) {
            self.space.give_back(slot);
        }
    }

    /// Takes detached parts of maps apart, a few pages at a time.
    fn reap(&mut self) {
        let DiskPool { tree, dead, read_numbers, .. } = self;
        let read = read_numbers.last();
        tree.reap(PAGES_REAPED, &mut |slot, number| dead.push(slot, number, read));
        self.note_emptied(self.log.applied);
    }

    /// What the maps have lost counts until journal block `number` is durable.
    pub(super) fn note_emptied(&mut self, number: u64) {
        let emptied = self.tree.take_emptied();
        if number > self.log.durable {
            self.room.emptied(number, emptied);
        }
    }

    /// Nothing is written any more: there is no telling what the device holds. What is on its way ends with an error once
    /// the device has let go of it.
    pub(super) fn fail(&mut self, failure: Failure) {
        if self.has_failed() {
            return;
        }
        self.health = Health::Failed(failure);
        let mut ends = self.log.abandon_open();
        if self.is_head_placed_in_part()
            && let Some(head) = self.queue.pop_front()
        {
            ends.push(head.into_end());
        }
        match self.log.flying.back_mut() {
            Some(last) => {
                last.continues = false;
                last.ends.append(&mut ends);
            }
            None => ends.into_iter().for_each(|end| self.end(end, 0, true)),
        }
        self.fail_queue();
        self.fail_restating();
        self.fail_flushes();
        self.settle();
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.health, Health::Failed(_))
    }
}

//! Flushes: what was completed before one begins is durable when it ends. Commands that wait for the same flush share it.

use std::collections::VecDeque;

use holdfast_block::{SlotRef, StoreError};

use super::io::{DiskError, DiskOp};
use super::pool::{DiskPool, Failure};
use super::tokens::Errand;
use crate::PoolMemory;
use crate::memory::VolumeIndex;

/// Journal blocks that may be complete and not durable before a flush is made unasked: recovery reads the data of all of
/// them, and their slots' predecessors are not free.
const UNFLUSHED_MAX: u64 = 4096;

/// The flush under way, and who waits.
#[derive(Debug, Default)]
pub(super) struct Flushes {
    /// All up to this number are durable when the flush under way ends.
    under_way: Option<u64>,
    waiting: VecDeque<Waiting>,
    /// Somebody needs slots back, or a volume on record, before anybody asks for a flush.
    wanted: bool,
}

impl Flushes {
    /// Whether none is under way and nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_none() && self.waiting.is_empty()
    }
}

/// A command that ends when a number is durable.
#[derive(Debug)]
struct Waiting {
    number: u64,
    token: u32,
    slots: Vec<SlotRef>,
}

impl<A: PoolMemory> DiskPool<A> {
    /// Takes a Flush in: everything that was completed so far.
    pub(crate) fn flush(&mut self, token: u32, volume: VolumeIndex, slots: Vec<SlotRef>) {
        if self.volumes.present(volume).is_none() {
            return self.finish(token, slots, Err(StoreError::NoVolume));
        }
        if self.has_failed() {
            return self.finish(token, slots, Err(StoreError::WriteFault));
        }
        self.after_flush(self.log.applied, token, slots);
    }

    /// Reports a command as done when everything up to a number is durable.
    pub(super) fn after_flush(&mut self, number: u64, token: u32, slots: Vec<SlotRef>) {
        if number <= self.log.durable || holdfast_mutant::active("store-flush-skipped") {
            return self.finish(token, slots, Ok(()));
        }
        self.flushes.waiting.push_back(Waiting { number, token, slots });
        self.go_on_flushing();
    }

    /// Has what is complete flushed soon, though nobody asks for it.
    pub(super) fn want_flush(&mut self) {
        self.flushes.wanted = true;
        self.go_on_flushing();
    }

    /// Issues a flush if one is due and none is under way.
    pub(super) fn go_on_flushing(&mut self) {
        if self.flushes.under_way.is_some() || self.has_failed() {
            return;
        }
        let covers = self.log.flushable();
        let asked = self.flushes.waiting.front().is_some_and(|waiting| waiting.number <= covers);
        let many = covers.saturating_sub(self.log.durable) >= UNFLUSHED_MAX.min(self.log.ring() / 4);
        let wanted = self.flushes.wanted || self.volumes.has_unsettled();
        if covers > self.log.durable && (asked || many || wanted) {
            self.flushes.wanted = false;
            self.flushes.under_way = Some(covers);
            self.ops.push_back(DiskOp::Flush { token: Errand::Flush.token() });
        }
    }

    /// The flush has ended.
    pub(super) fn flush_done(&mut self, result: Result<(), DiskError>) {
        let Some(covers) = self.flushes.under_way.take() else { return };
        if result.is_err() && !holdfast_mutant::active("store-flush-failure-ignored") {
            return self.fail(Failure::Flush);
        }
        // Another flush may have failed meanwhile: what that has lost this one cannot have written.
        if self.has_failed() {
            return;
        }
        self.durable_through(covers);
    }

    /// Everything up to a number is durable.
    pub(super) fn durable_through(&mut self, number: u64) {
        self.log.durable = self.log.durable.max(number);
        let durable = self.log.durable;
        while let Some(waiting) = self.flushes.waiting.pop_front_if(|waiting| waiting.number <= durable) {
            self.finish(waiting.token, waiting.slots, Ok(()));
        }
        self.volumes.durable_through(durable);
        self.room.durable_through(durable);
    }

    /// Whoever waits for a flush learns that there will be none.
    pub(super) fn fail_flushes(&mut self) {
        while let Some(waiting) = self.flushes.waiting.pop_front() {
            self.finish(waiting.token, waiting.slots, Err(StoreError::WriteFault));
        }
    }
}

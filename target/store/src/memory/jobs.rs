//! Work that is done in slices: deallocation of large ranges, what deleted volumes leave, and giving the
//! memory of empty chunks back.
//!
//! **Order.** A deallocation takes effect somewhere between its submission and its completion; a write that is
//! submitted later must survive it, whether or not its completion has been seen. So before a publish touches a
//! leaf, every deallocation that is still under way there is applied to that whole leaf, and the leaf notes the
//! number of the newest one: slices that come later skip it. Jobs are numbered in the order of their
//! submission, and a new leaf starts with the newest number. A publish pays at most 512 words a leaf for this,
//! once for each batch of new jobs. A pool that finds no room first does all jobs to their ends: the one case in
//! which they are waited for, because room that was given back must not be refused. Reads see a job's blocks vanish one by one, none of them coming back.

use holdfast_block::{Lba, SlotRef, StoreDone, StoreError};

use super::layout::BlockClass;
use super::map::{FANOUT, NextLeaf};
use super::medium::PoolMemory;
use super::pool::MemoryPool;
use super::volume::VolumeIndex;

/// Map words looked at in one slice: some tens of microseconds, little enough not to be seen by the I/O that
/// waits for it.
const SLICE_WORDS: usize = 2048;

/// Ranges of so many blocks vanish at once, as readers see it, though it may take a slice more: 1 MiB of the smallest
/// blocks, as much as a write stores at once.
const AT_ONCE_BLOCKS: u64 = 2048;

/// Jobs at a time: a publish into a volume with jobs may look at all of them. The oldest one is done to its end
/// before there are more; the work is the same, only sooner.
const JOBS_MAX: usize = 64;

/// A range of a volume that becomes holes.
#[derive(Debug)]
pub(super) struct Job {
    number: u64,
    volume: VolumeIndex,
    /// What is left of the range.
    next: u64,
    end: u64,
    /// Whom to tell. Nobody waits for a deleted volume.
    reply: Option<Reply>,
}

#[derive(Debug)]
struct Reply {
    token: u32,
    slots: Vec<SlotRef>,
}

impl<M: PoolMemory> MemoryPool<M> {
    /// Turns a range into holes: at once if it is short or done in one slice, otherwise as a job. Either way the
    /// completion is found in `finished`.
    pub(crate) fn deallocate(
        &mut self,
        index: VolumeIndex,
        lba: Lba,
        blocks: u64,
        token: u32,
        slots: Vec<SlotRef>,
    ) {
        let reply = Reply { token, slots };
        if let Err(error) = self.check_range(index, lba.0, blocks) {
            self.reply(reply, Err(error));
            return;
        }
        let end = lba.0.saturating_add(blocks);
        let number = self.last_job + 1;
        let mut job = Job { number, volume: index, next: lba.0, end, reply: Some(reply) };
        let mut done = self.run_slice(&mut job);
        while !done && blocks <= AT_ONCE_BLOCKS {
            done = self.run_slice(&mut job);
        }
        if !done {
            self.enqueue(job);
        } else if let Some(reply) = job.reply {
            self.reply(reply, Ok(()));
        }
    }

    /// Starts to free what a deleted volume used.
    pub(super) fn start_emptying(&mut self, index: VolumeIndex) {
        let Some(volume) = self.volumes.get(index) else { return };
        let end = volume.spec.block_count;
        self.enqueue(Job { number: self.last_job + 1, volume: index, next: 0, end, reply: None });
    }

    /// Does one slice of the work there is.
    pub(crate) fn work(&mut self) {
        if let Some(mut job) = self.jobs.pop_front() {
            if self.run_slice(&mut job) {
                self.finish(job);
            } else {
                self.jobs.push_back(job);
            }
        } else if let Some((class, chunk)) = self.surplus_chunk() {
            self.medium.punch_chunk(class, chunk);
            self.slots.of_mut(class).cooled(chunk);
        }
    }

    /// The next completion of a deallocation.
    pub(crate) fn take_finished(&mut self) -> Option<StoreDone> {
        self.finished.pop_front()
    }

    /// Does all jobs to their ends.
    pub(super) fn finish_jobs(&mut self) {
        while !self.jobs.is_empty() {
            self.finish_oldest();
        }
    }

    fn finish_oldest(&mut self) {
        if let Some(mut job) = self.jobs.pop_front() {
            while !self.run_slice(&mut job) {}
            self.finish(job);
        }
    }

    /// Applies all jobs under way to the whole leaf over a block, before something is published there.
    pub(super) fn apply_jobs(&mut self, index: VolumeIndex, leaf: u32, lba: u64) {
        let (applied, first) = (self.map.applied(leaf), lba & !(FANOUT - 1));
        if applied >= self.last_job {
            return;
        }
        let mut number = 0;
        while let Some(job) = self.jobs.get(number) {
            let (from, to) = (job.next.max(first), job.end.min(first + FANOUT));
            if job.volume == index && job.number > applied && from < to {
                self.clear(index, leaf, from, to);
            }
            number += 1;
        }
        self.map.set_applied(leaf, self.last_job);
    }

    /// An empty chunk whose memory should be given back.
    pub(super) fn surplus_chunk(&self) -> Option<(BlockClass, usize)> {
        let of = |class| Some((class, self.slots.of(class).surplus()?));
        of(BlockClass::Small).or_else(|| of(BlockClass::Large))
    }

    /// Forgets a deleted volume once nobody holds anything of it.
    pub(super) fn forget_if_gone(&mut self, index: VolumeIndex) {
        if self
            .volumes
            .get(index)
            .is_some_and(|volume| volume.deleted && volume.held == 0 && volume.jobs == 0)
        {
            self.volumes.put(index, None);
        }
    }

    fn enqueue(&mut self, job: Job) {
        while self.jobs.len() >= JOBS_MAX {
            self.finish_oldest();
        }
        self.last_job = job.number;
        if let Some(volume) = self.volumes.get_mut(job.volume) {
            volume.jobs += 1;
        }
        self.jobs.push_back(job);
    }

    fn finish(&mut self, job: Job) {
        let mut result = Ok(());
        if let Some(volume) = self.volumes.get_mut(job.volume) {
            volume.jobs -= 1;
            if volume.deleted {
                result = Err(StoreError::NoVolume);
            }
        }
        self.forget_if_gone(job.volume);
        if let Some(reply) = job.reply {
            self.reply(reply, result);
        }
    }

    fn reply(&mut self, reply: Reply, result: Result<(), StoreError>) {
        self.finished.push_back(StoreDone { token: reply.token, slots: reply.slots, result });
    }

    /// Goes on with a job. `true`: it is done.
    fn run_slice(&mut self, job: &mut Job) -> bool {
        let mut budget = SLICE_WORDS;
        while job.next < job.end {
            let Some(volume) = self.volumes.get_mut(job.volume) else { return true };
            if volume.deleted && job.reply.is_some() {
                // The volume's own job frees it all.
                return true;
            }
            match self.map.next_leaf(&self.medium, &volume.root, job.next, job.end, &mut budget) {
                NextLeaf::None => return true,
                NextLeaf::Later(lba) => {
                    job.next = lba;
                    return false;
                }
                NextLeaf::Found { page, first_lba } => {
                    let from = job.next.max(first_lba);
                    let leaf_end = job.end.min(first_lba + FANOUT);
                    job.next = from;
                    if self.map.applied(page) >= job.number {
                        job.next = leaf_end;
                        continue;
                    }
                    if budget == 0 {
                        return false;
                    }
                    let to = leaf_end.min(from.saturating_add(budget as u64));
                    self.clear(job.volume, page, from, to);
                    budget = budget.saturating_sub(usize::try_from(to - from).unwrap_or(usize::MAX));
                    job.next = to;
                    self.prune_if_empty(job.volume, page, from);
                }
            }
        }
        true
    }

    fn prune_if_empty(&mut self, index: VolumeIndex, leaf: u32, lba: u64) {
        if self.map.live(leaf) > 0 {
            return;
        }
        if let Some(volume) = self.volumes.get_mut(index) {
            self.map.prune(&mut self.medium, &mut volume.root, lba);
        }
    }
}

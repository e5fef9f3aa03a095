//! A simulated device: a volatile cache over a medium, operations in flight that end in any order, and a power cut that
//! leaves any part of what was not flushed. Everything it does follows from its seed.
//!
//! What it promises is what a real one does: a write that was reported and then covered by a flush (submitted after the
//! report, and itself reported) is on the medium. Of everything else each sector may be there or not, whatever became of
//! its neighbours and of earlier writes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use holdfast_store::PoolMemory;

use crate::faults::{Faults, ReadFate, WriteFate};
use crate::rng::Rng;
use holdfast_store::disk::io::{Device, DiskDone, DiskError, DiskOp, DiskToken, Part};

/// Bytes of a slot: what all operations are multiples of.
pub(crate) const SLOT: usize = 4096;

/// A slot's bytes.
pub(crate) type Bytes = Rc<[u8; SLOT]>;

/// A device.
#[derive(Debug)]
pub(crate) struct SimDisk(RefCell<State>);

#[derive(Debug)]
struct State {
    sector: usize,
    slots: u64,
    rng: Rng,
    clock: u64,
    /// What a power cut cannot take.
    medium: HashMap<u64, Bytes>,
    /// What was reported written and not flushed: of each slot all versions, the newest last.
    cache: BTreeMap<u64, Vec<Cached>>,
    /// Numbers of cached versions.
    written: u64,
    flying: Vec<Flying>,
    /// Operations of [`Device`] until the power fails.
    left: Option<u64>,
    dark: bool,
    faults: Faults,
    pace: Pace,
    /// Slots that have been written more than once.
    twice: BTreeMap<u64, u32>,
    violation: Option<String>,
}

#[derive(Debug, Clone)]
struct Cached {
    number: u64,
    bytes: Bytes,
}

#[derive(Debug)]
struct Flying {
    due: u64,
    op: Op,
}

#[derive(Debug)]
enum Op {
    Read { token: DiskToken, first: u64, parts: Vec<Part> },
    Write { token: DiskToken, first: u64, parts: Vec<Part>, bytes: Vec<Bytes> },
    Flush { token: DiskToken, covers: u64 },
}

/// How many of a thousand operations take many times as long as the others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) slow_reads: u64,
    pub(crate) slow_writes: u64,
    pub(crate) slow_flushes: u64,
    /// Of pages of the map, and of superblocks; these take longest.
    pub(crate) slow_pages: u64,
}

/// What a power cut did to a slot that had something unflushed.
#[derive(Debug)]
pub(crate) struct Fate {
    pub(crate) slot: u64,
    /// What was last written to it, reported or not.
    pub(crate) newest: Bytes,
    /// What is there now.
    pub(crate) now: Bytes,
    pub(crate) torn: bool,
}

impl Fate {
    pub(crate) fn kept(&self) -> bool {
        self.now == self.newest
    }
}

/// How much of what is unflushed a power cut leaves.
#[derive(Debug, Clone, Copy)]
enum Survival {
    Nothing,
    Everything,
    /// Of a thousand slots so many whole, so many torn; the others not at all.
    Slots {
        whole: u64,
        torn: u64,
    },
}

impl SimDisk {
    pub(crate) fn new(slots: u64, sector: usize, seed: u64) -> SimDisk {
        SimDisk(RefCell::new(State {
            sector,
            slots,
            rng: Rng::new(seed),
            clock: 0,
            medium: HashMap::new(),
            cache: BTreeMap::new(),
            written: 0,
            flying: Vec::new(),
            left: None,
            dark: false,
            faults: Faults::default(),
            pace: Pace { slow_reads: 20, slow_writes: 20, slow_flushes: 20, slow_pages: 0 },
            twice: BTreeMap::new(),
            violation: None,
        }))
    }

    /// Changes how many operations are slow.
    pub(crate) fn set_pace(&self, pace: Pace) {
        self.0.borrow_mut().pace = pace;
    }

    /// Accepts an operation. What is to be written is taken from memory now, and held against it when the write ends.
    pub(crate) fn submit(&self, op: DiskOp, memory: &impl PoolMemory) {
        self.0.borrow_mut().submit(op, memory);
    }

    /// How many operations are under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.0.borrow().flying.len()
    }

    /// Ends the operation whose time comes next.
    pub(crate) fn complete(&self, memory: &mut impl PoolMemory) -> Option<DiskDone> {
        self.0.borrow_mut().complete(memory)
    }

    /// What the owner of this device did that nobody may do.
    pub(crate) fn violation(&self) -> Option<String> {
        self.0.borrow_mut().violation.take()
    }

    /// Changes what goes wrong from now on.
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.0.borrow_mut().faults = faults;
    }

    /// What went wrong so far.
    pub(crate) fn with_faults<R>(&self, ask: impl FnOnce(&mut Faults) -> R) -> R {
        ask(&mut self.0.borrow_mut().faults)
    }

    /// Has the power fail in the middle of an operation of [`Device`], after so many.
    pub(crate) fn lose_power_after(&self, operations: Option<u64>) {
        self.0.borrow_mut().left = operations;
    }

    /// Whether the power has failed.
    pub(crate) fn is_dark(&self) -> bool {
        self.0.borrow().dark
    }

    /// The power is cut, and comes back.
    pub(crate) fn crash(&self) -> Vec<Fate> {
        self.0.borrow_mut().crash()
    }

    /// Slots with writes that a power cut may take, with the newest of each: reported ones and those under way.
    pub(crate) fn unflushed(&self) -> Vec<(u64, Bytes)> {
        let state = self.0.borrow();
        let mut newest: BTreeMap<u64, Bytes> = BTreeMap::new();
        for (slot, versions) in &state.cache {
            newest.extend(versions.last().map(|cached| (*slot, Rc::clone(&cached.bytes))));
        }
        newest.extend(state.flying_writes().map(|(slot, bytes)| (slot, Rc::clone(bytes))));
        newest.into_iter().collect()
    }

    /// How often a slot has been written.
    pub(crate) fn times_written(&self, slot: u64) -> u32 {
        self.0.borrow().twice.get(&slot).copied().unwrap_or(0)
    }

    /// A slot as it would be read now.
    pub(crate) fn slot(&self, slot: u64) -> Bytes {
        self.0.borrow().newest(slot)
    }

    /// Slots that hold anything.
    pub(crate) fn used_slots(&self) -> Vec<u64> {
        let state = self.0.borrow();
        let used: BTreeSet<u64> = state.medium.keys().chain(state.cache.keys()).copied().collect();
        used.into_iter().collect()
    }

    /// Changes a slot behind everybody's back.
    pub(crate) fn overwrite(&self, slot: u64, bytes: Bytes) {
        let mut state = self.0.borrow_mut();
        state.cache.remove(&slot);
        state.medium.insert(slot, bytes);
    }
}

impl State {
    fn newest(&self, slot: u64) -> Bytes {
        let cached = self.cache.get(&slot).and_then(|versions| versions.last()).map(|cached| &cached.bytes);
        cached.or_else(|| self.medium.get(&slot)).map_or_else(|| Rc::new([0; SLOT]), Rc::clone)
    }

    fn flying_writes(&self) -> impl Iterator<Item = (u64, &Bytes)> {
        self.flying.iter().flat_map(|flying| match &flying.op {
            Op::Write { first, bytes, .. } => (*first..).zip(bytes.as_slice()),
            Op::Read { .. } | Op::Flush { .. } => (0..).zip([].as_slice()),
        })
    }

    fn submit(&mut self, op: DiskOp, memory: &impl PoolMemory) {
        let Pace { slow_reads, slow_writes, slow_flushes, slow_pages } = self.pace;
        let is_page = |parts: &[Part]| {
            let bytes = parts.first().and_then(|part| memory.slice(part.offset, SLOT));
            bytes.is_some_and(|bytes| bytes.starts_with(b"HFPG") || bytes.starts_with(b"HOLDFSTP"))
        };
        let (slow, longest) = match &op {
            DiskOp::Read { .. } => (slow_reads, 3000),
            DiskOp::Write { parts, .. } if slow_pages > 0 && is_page(parts) => (slow_pages, 30_000),
            DiskOp::Write { .. } => (slow_writes, 400),
            DiskOp::Flush { .. } => (slow_flushes, 600),
        };
        let longest = if self.rng.chance(slow) { longest } else { 10 };
        let delay = self.rng.between(1, longest);
        let op = match op {
            DiskOp::Read { token, offset, parts } => {
                let first = self.range(offset, &parts);
                self.check_overlap(first, &parts, false);
                Op::Read { token, first, parts }
            }
            DiskOp::Write { token, offset, parts } => {
                let first = self.range(offset, &parts);
                self.check_overlap(first, &parts, true);
                let bytes = gather(&parts, memory);
                Op::Write { token, first, parts, bytes }
            }
            DiskOp::Flush { token } => Op::Flush { token, covers: self.written },
        };
        self.flying.push(Flying { due: self.clock + delay, op });
    }

    fn range(&mut self, offset: u64, parts: &[Part]) -> u64 {
        let len: usize = parts.iter().map(|part| part.len).sum();
        let aligned =
            parts.iter().all(|part| part.len.is_multiple_of(SLOT) && part.offset.is_multiple_of(SLOT));
        let first = offset / SLOT as u64;
        let inside = first + (len / SLOT) as u64 <= self.slots;
        if !aligned || !offset.is_multiple_of(SLOT as u64) || !inside || len == 0 {
            self.violation = Some(format!("an operation at {offset} of {len} bytes: {parts:?}"));
        }
        first
    }

    /// Nobody writes where somebody reads or writes: the outcome would be anybody's guess.
    fn check_overlap(&mut self, first: u64, parts: &[Part], write: bool) {
        let end = first + slots_of(parts);
        for flying in &self.flying {
            let (other, other_end, writes) = match &flying.op {
                Op::Read { first, parts, .. } => (*first, first + slots_of(parts), false),
                Op::Write { first, parts, .. } => (*first, first + slots_of(parts), true),
                Op::Flush { .. } => continue,
            };
            if (write || writes) && first < other_end && other < end {
                let what = if write { "a write" } else { "a read" };
                let other_is = if writes { "written" } else { "read" };
                self.violation = Some(format!(
                    "{what} of slots {first}..{end} while {other}..{other_end} are being {other_is}"
                ));
            }
        }
    }

    fn complete(&mut self, memory: &mut impl PoolMemory) -> Option<DiskDone> {
        let next = (0..self.flying.len()).min_by_key(|at| self.flying[*at].due)?;
        let Flying { due, op } = self.flying.swap_remove(next);
        self.clock = self.clock.max(due);
        let (token, parts, result) = match op {
            Op::Read { token, first, parts } => {
                let result = self.read_into(first, &parts, memory);
                (token, parts, result)
            }
            Op::Write { token, first, parts, bytes } => {
                if gather(&parts, memory) != bytes {
                    self.violation =
                        Some(format!("what is written to slot {first} and on was changed on its way"));
                }
                let result = self.write(first, &bytes);
                (token, parts, result)
            }
            Op::Flush { token, covers } => {
                let result = self.flush(covers);
                (token, Vec::new(), result)
            }
        };
        Some(DiskDone { token, parts, result })
    }

    fn read_into(
        &mut self,
        first: u64,
        parts: &[Part],
        memory: &mut impl PoolMemory,
    ) -> Result<(), DiskError> {
        let mut slot = first;
        let mut result = Ok(());
        for part in parts {
            for offset in (part.offset..part.offset + part.len).step_by(SLOT) {
                let bytes = self.read_slot(slot);
                let into = memory.slice_mut(offset, SLOT).unwrap();
                match bytes {
                    Ok(bytes) => into.copy_from_slice(&*bytes),
                    Err(error) => {
                        into.fill(0xa5);
                        result = Err(error);
                    }
                }
                slot += 1;
            }
        }
        result
    }

    fn read_slot(&mut self, slot: u64) -> Result<Bytes, DiskError> {
        match self.faults.read(slot, self.slots, &mut self.rng) {
            ReadFate::Good => Ok(self.newest(slot)),
            ReadFate::Elsewhere(other) => Ok(self.newest(other)),
            ReadFate::Error(error) => Err(error),
        }
    }

    fn write(&mut self, first: u64, bytes: &[Bytes]) -> Result<(), DiskError> {
        let mut result = Ok(());
        for (slot, bytes) in (first..).zip(bytes) {
            *self.twice.entry(slot).or_default() += 1;
            match self.faults.write(slot, self.slots, &mut self.rng) {
                WriteFate::Good => self.put(slot, Rc::clone(bytes)),
                WriteFate::Lost => {}
                WriteFate::Elsewhere(other) => self.put(other, Rc::clone(bytes)),
                WriteFate::Error(error) => {
                    let torn = self.tear(slot, &[self.newest(slot), Rc::clone(bytes)]);
                    self.put(slot, torn);
                    result = Err(error);
                }
            }
        }
        result
    }

    fn put(&mut self, slot: u64, bytes: Bytes) {
        self.written += 1;
        self.cache.entry(slot).or_default().push(Cached { number: self.written, bytes });
    }

    fn flush(&mut self, covers: u64) -> Result<(), DiskError> {
        if let Some((error, drops)) = self.faults.flush(&mut self.rng) {
            if drops {
                // The cache was written out, who knows what of it, and is called clean.
                self.lose_power(Survival::Slots { whole: 500, torn: 100 });
            }
            return Err(error);
        }
        let State { cache, medium, .. } = self;
        cache.retain(|slot, versions| {
            let covered = versions.iter().take_while(|cached| cached.number <= covers).count();
            if let Some(last) = versions.drain(..covered).next_back() {
                medium.insert(*slot, last.bytes);
            }
            !versions.is_empty()
        });
        Ok(())
    }

    fn crash(&mut self) -> Vec<Fate> {
        let survival = match self.rng.below(10) {
            0 => Survival::Nothing,
            1 => Survival::Everything,
            2 => Survival::Slots { whole: 950, torn: 25 },
            3 => Survival::Slots { whole: 50, torn: 25 },
            _ => {
                let whole = self.rng.below(1000);
                Survival::Slots { whole, torn: self.rng.below(1000 - whole) }
            }
        };
        let mut fates = self.lose_power(survival);
        self.flying.clear();
        self.dark = false;
        self.left = None;
        self.faults.power_is_back();
        fates.sort_unstable_by_key(|fate| fate.slot);
        fates
    }

    /// Decides about everything that is not flushed. What is in flight stays so: it may still be reported.
    fn lose_power(&mut self, survival: Survival) -> Vec<Fate> {
        let mut versions: BTreeMap<u64, Vec<Bytes>> = BTreeMap::new();
        for (slot, cached) in std::mem::take(&mut self.cache) {
            versions.entry(slot).or_default().extend(cached.into_iter().map(|cached| cached.bytes));
        }
        for (slot, bytes) in self.flying_writes() {
            versions.entry(slot).or_default().push(Rc::clone(bytes));
        }
        let mut fates = Vec::with_capacity(versions.len());
        for (slot, versions) in versions {
            let newest = Rc::clone(versions.last().unwrap());
            let before = self.newest(slot);
            let (now, torn) = match survival {
                Survival::Nothing => (before, false),
                Survival::Everything => (Rc::clone(&newest), false),
                Survival::Slots { whole, torn } => match self.rng.below(1000) {
                    drawn if drawn < whole => (Rc::clone(self.rng.pick(&versions)), false),
                    drawn if drawn < whole + torn => {
                        let mut all = versions;
                        all.push(Rc::clone(&before));
                        let now = self.tear(slot, &all);
                        let torn = !all.contains(&now);
                        (now, torn)
                    }
                    _ => (before, false),
                },
            };
            self.medium.insert(slot, Rc::clone(&now));
            fates.push(Fate { slot, newest, now, torn });
        }
        fates
    }

    /// Sectors of any of some versions.
    fn tear(&mut self, slot: u64, versions: &[Bytes]) -> Bytes {
        let mut mixed = *self.newest(slot);
        for sector in (0..SLOT).step_by(self.sector) {
            let from = self.rng.pick(versions);
            mixed[sector..sector + self.sector].copy_from_slice(&from[sector..sector + self.sector]);
        }
        Rc::new(mixed)
    }

    /// Counts an operation of [`Device`]. `Ok(true)`: it is the one in which the power fails.
    fn step(&mut self) -> Result<bool, DiskError> {
        if self.dark {
            return Err(DiskError::Gone);
        }
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
            self.dark = *left == 0;
        }
        Ok(self.dark)
    }
}

impl Device for SimDisk {
    fn len(&self) -> u64 {
        self.0.borrow().slots * SLOT as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let mut state = self.0.borrow_mut();
        if state.step()? {
            return Err(DiskError::Gone);
        }
        for (slot, into) in (offset / SLOT as u64..).zip(into.chunks_exact_mut(SLOT)) {
            into.copy_from_slice(&*state.read_slot(slot)?);
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), DiskError> {
        let mut state = self.0.borrow_mut();
        let last = state.step()?;
        let first = offset / SLOT as u64;
        if !offset.is_multiple_of(SLOT as u64) || !from.len().is_multiple_of(SLOT) {
            state.violation = Some(format!("a write at {offset} of {} bytes", from.len()));
        }
        let bytes: Vec<Bytes> =
            from.chunks_exact(SLOT).map(|bytes| Rc::new(bytes.try_into().unwrap())).collect();
        if last {
            // It is under way when the power fails: any part of it may arrive.
            let op = Op::Write { token: DiskToken::from_raw(0), first, parts: Vec::new(), bytes };
            state.flying.push(Flying { due: 0, op });
            return Err(DiskError::Gone);
        }
        state.write(first, &bytes)
    }

    fn flush(&self) -> Result<(), DiskError> {
        let mut state = self.0.borrow_mut();
        if state.step()? {
            return Err(DiskError::Gone);
        }
        let covers = state.written;
        state.flush(covers)
    }
}

fn slots_of(parts: &[Part]) -> u64 {
    parts.iter().map(|part| (part.len / SLOT) as u64).sum()
}

fn gather(parts: &[Part], memory: &impl PoolMemory) -> Vec<Bytes> {
    let offsets = parts.iter().flat_map(|part| (part.offset..part.offset + part.len).step_by(SLOT));
    offsets.map(|offset| Rc::new(memory.slice(offset, SLOT).unwrap().try_into().unwrap())).collect()
}

#[cfg(test)]
mod tests;

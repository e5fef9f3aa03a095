//! What a pool may hold: for each volume what it may be, for each block which versions it may have.
//!
//! The rules, as hosts rely on them. An acknowledged operation is what reads find, in the order of asking. A power cut leaves
//! of each block the last flushed version or any later one that was asked for, never a mixture, never one without its own
//! tuple, provenance and writer. What one recovery gave is what every later one gives. A volume that was made, grew or
//! was deleted is so after a power cut once that is reported as durable, or once something in it is; before, it may be
//! either way.

mod block;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use holdfast_store::VolumeSpec;

pub(crate) use block::{Block, Time};

use crate::content::{Address, Found, What};

/// All volumes.
#[derive(Debug, Default)]
pub(crate) struct Model {
    volumes: BTreeMap<u64, Volume>,
    clock: Time,
    /// The device may bring back what is superseded: it may have lost the writes of the journal.
    pub(crate) past_may_return: bool,
}

#[derive(Debug)]
pub(crate) struct Volume {
    /// What it is or may be, in order; the first is durable.
    specs: Vec<SpecVersion>,
    blocks: Vec<Block>,
    /// Blocks with more than one possible version.
    unsettled: BTreeSet<u64>,
    tuple_len: usize,
}

#[derive(Debug, Clone, Copy)]
struct SpecVersion {
    since: Time,
    spec: Option<VolumeSpec>,
}

impl Volume {
    /// What it is for those who use it; `None` once it is deleted.
    pub(crate) fn spec(&self) -> Option<VolumeSpec> {
        self.specs.last().and_then(|version| version.spec)
    }

    fn range(&mut self, range: &Range<u64>) -> impl Iterator<Item = (u64, &mut Block)> {
        let blocks = &mut self.blocks[range.start as usize..range.end as usize];
        (range.start..).zip(blocks)
    }

    fn resize(&mut self, blocks: u64) {
        self.blocks.resize_with(blocks as usize, Block::new);
    }

    /// Everything that was asked of it before `then` counts.
    fn is_durable_since(&mut self, then: Time) {
        while self.specs.get(1).is_some_and(|next| next.since <= then) {
            self.specs.remove(0);
        }
    }
}

impl Model {
    pub(crate) fn now(&mut self) -> Time {
        self.clock += 1;
        self.clock
    }

    pub(crate) fn volume(&self, id: u64) -> Option<&Volume> {
        self.volumes.get(&id)
    }

    /// Volumes that can be used.
    pub(crate) fn present(&self) -> impl Iterator<Item = VolumeSpec> {
        self.volumes.values().filter_map(Volume::spec)
    }

    /// A volume is made, has grown or is deleted for everybody who asks; whether it is durable is not known. Returns when.
    pub(crate) fn change(&mut self, id: u64, spec: Option<VolumeSpec>) -> Time {
        let since = self.now();
        let volume = self.volumes.entry(id).or_insert_with(|| Volume {
            specs: vec![SpecVersion { since: 0, spec: None }],
            blocks: Vec::new(),
            unsettled: BTreeSet::new(),
            tuple_len: spec.and_then(|spec| spec.format).map_or(0, |format| format.tuple_len()),
        });
        volume.specs.push(SpecVersion { since, spec });
        if let Some(spec) = spec {
            volume.resize(spec.block_count);
        }
        since
    }

    /// A change is durable.
    pub(crate) fn change_is_durable(&mut self, id: u64, since: Time) {
        let Some(volume) = self.volumes.get_mut(&id) else { return };
        volume.is_durable_since(since);
        if volume.specs.first().is_some_and(|version| version.spec.is_none()) && volume.specs.len() == 1 {
            self.volumes.remove(&id);
        }
    }

    /// An operation that changes blocks is asked for. Returns when.
    pub(crate) fn begin(&mut self, id: u64, range: &Range<u64>, what: What) -> Time {
        let order = self.now();
        let Some(volume) = self.volumes.get_mut(&id) else { return order };
        volume.range(range).for_each(|(_, block)| block.push(order, what));
        volume.unsettled.extend(range.clone());
        order
    }

    /// It is acknowledged, and durable if that was asked for.
    pub(crate) fn acknowledge(&mut self, id: u64, range: &Range<u64>, order: Time, durable: bool) {
        let now = self.now();
        let Some(volume) = self.volumes.get_mut(&id) else { return };
        for (_, block) in volume.range(range) {
            block.acknowledge(order, now);
            if durable {
                block.durable(order);
            }
        }
        if durable {
            volume.is_durable_since(order);
        }
    }

    /// It has failed, and changed nothing.
    pub(crate) fn fail(&mut self, id: u64, range: &Range<u64>, order: Time) {
        let now = self.now();
        let Some(volume) = self.volumes.get_mut(&id) else { return };
        volume.range(range).for_each(|(_, block)| block.fail(order, now));
    }

    /// It was refused before anything happened.
    pub(crate) fn withdraw(&mut self, id: u64, range: &Range<u64>, order: Time) {
        let Some(volume) = self.volumes.get_mut(&id) else { return };
        volume.range(range).for_each(|(_, block)| block.withdraw(order));
    }

    /// A flush that was asked for at `then` is acknowledged.
    pub(crate) fn flushed(&mut self, id: u64, then: Time) {
        let Some(volume) = self.volumes.get_mut(&id) else { return };
        let Volume { blocks, unsettled, .. } = volume;
        let mut newest = 0;
        unsettled.retain(|lba| {
            let block = &mut blocks[*lba as usize];
            newest = newest.max(block.flushed(then));
            !block.is_settled()
        });
        volume.is_durable_since(newest);
    }

    /// A read is asked for: for each block, the oldest version that it may find.
    pub(crate) fn read_floors(&self, id: u64, range: &Range<u64>) -> Vec<Time> {
        let Some(volume) = self.volumes.get(&id) else { return Vec::new() };
        volume.blocks[range.start as usize..range.end as usize].iter().map(Block::read_floor).collect()
    }

    /// A read has found this in a block. Returns when what it found was asked for.
    pub(crate) fn read(
        &mut self,
        at: Address,
        floor: Time,
        found: &Found<'_>,
        scratch: &mut [u8],
    ) -> Result<Time, String> {
        let volume = self.volumes.get_mut(&at.volume).ok_or("no such volume")?;
        let tuple_len = volume.tuple_len;
        let block = &mut volume.blocks[at.lba as usize];
        let is = |what: What| what.is(at, tuple_len, found, scratch);
        block.read(floor, is).ok_or_else(|| {
            format!(
                "{at:?}: a read that may find {floor} or later found {}; {}",
                found.summary(),
                block.summary()
            )
        })
    }

    /// Whether it is certain that all blocks of a range hold something.
    pub(crate) fn is_surely_there(&self, id: u64, range: &Range<u64>) -> bool {
        let Some(volume) = self.volumes.get(&id) else { return false };
        volume.blocks[range.start as usize..range.end as usize].iter().all(Block::is_surely_there)
    }

    /// A recovery found these volumes: from now on they are so.
    pub(crate) fn settle_volumes(&mut self, found: &BTreeMap<u64, VolumeSpec>) -> Result<(), String> {
        if let Some(strange) = found.keys().find(|id| !self.volumes.contains_key(id)) {
            return Err(format!("volume {strange} from nowhere"));
        }
        for (id, volume) in &mut self.volumes {
            let spec = found.get(id).copied();
            if !volume.specs.iter().any(|version| version.spec == spec) {
                return Err(format!("volume {id} is {spec:?}, none of {:?}", volume.specs));
            }
            let end = spec.map_or(0, |spec| spec.block_count);
            let deleted = spec.is_none()
                && volume.specs.iter().any(|version| version.since > 0 && version.spec.is_none());
            let beyond = (end..).zip(volume.blocks.iter().skip(end as usize));
            if let Some((lba, block)) =
                beyond.filter(|_| !deleted).find(|(_, block)| block.is_durably_there())
            {
                return Err(format!("volume {id} ends before block {lba}: {}", block.summary()));
            }
            volume.specs = vec![SpecVersion { since: 0, spec }];
            volume.resize(end);
            volume.unsettled.retain(|lba| *lba < end);
        }
        self.volumes.retain(|_, volume| volume.spec().is_some());
        Ok(())
    }

    /// A recovery left something in a block that cannot be read.
    pub(crate) fn leave_open(&mut self, at: Address) {
        if let Some(volume) = self.volumes.get_mut(&at.volume) {
            volume.blocks[at.lba as usize].leave_open();
        }
    }

    /// A recovery left this in a block: from now on it is so. Returns what it is.
    pub(crate) fn settle(
        &mut self,
        at: Address,
        found: &Found<'_>,
        scratch: &mut [u8],
    ) -> Result<What, String> {
        let past_too = self.past_may_return;
        let volume = self.volumes.get_mut(&at.volume).ok_or("no such volume")?;
        let tuple_len = volume.tuple_len;
        let block = &mut volume.blocks[at.lba as usize];
        let is = |what: What| what.is(at, tuple_len, found, scratch);
        let settled = block.settle(is, past_too);
        if settled.is_some() {
            volume.unsettled.remove(&at.lba);
        }
        settled.ok_or_else(|| {
            format!("{at:?}: a recovery left {}; allowed: {}", found.summary(), block.summary())
        })
    }
}

//! A store that takes its time: operations wait until they are let go, as they would on a disk.

use std::collections::VecDeque;

use holdfast_block::{
    BlockCount, BlockRecord, Geometry, Lba, Location, SlotRef, Store, StoreDone, StoreError, StoreOp, Usage,
    VolumeId,
};
use holdfast_store::Stores;

/// Pools in memory, at their own speed unless told to wait.
pub(crate) struct Slow {
    pub(crate) inner: Stores<Vec<u8>>,
    held: VecDeque<StoreOp>,
    holding: bool,
}

impl Slow {
    pub(crate) fn new(inner: Stores<Vec<u8>>) -> Slow {
        Slow { inner, held: VecDeque::new(), holding: false }
    }

    /// From here on, operations wait.
    pub(crate) fn hold(&mut self) {
        self.holding = true;
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.held.len()
    }

    /// Those that wait.
    pub(crate) fn held(&self) -> impl Iterator<Item = &StoreOp> {
        self.held.iter()
    }

    /// Lets the one at a place go.
    pub(crate) fn let_go(&mut self, at: usize) {
        let op = self.held.remove(at).expect("an operation waits");
        self.inner.submit(op);
    }
}

impl Store for Slow {
    fn geometry(&self, volume: VolumeId) -> Option<Geometry> {
        self.inner.geometry(volume)
    }

    fn usage(&self, volume: VolumeId) -> Option<Usage> {
        self.inner.usage(volume)
    }

    fn reserve(
        &mut self,
        volume: VolumeId,
        lba: Lba,
        blocks: BlockCount,
        slots: &mut Vec<SlotRef>,
    ) -> Result<(), StoreError> {
        self.inner.reserve(volume, lba, blocks, slots)
    }

    fn unreserve(&mut self, volume: VolumeId, slots: &[SlotRef]) {
        self.inner.unreserve(volume, slots);
    }

    fn data_mut(&mut self, volume: VolumeId, slot: SlotRef) -> Option<&mut [u8]> {
        self.inner.data_mut(volume, slot)
    }

    fn set_record(&mut self, volume: VolumeId, slot: SlotRef, record: &BlockRecord) {
        self.inner.set_record(volume, slot, record);
    }

    fn data(&self, volume: VolumeId, slot: SlotRef) -> Option<&[u8]> {
        self.inner.data(volume, slot)
    }

    fn record(&self, volume: VolumeId, slot: SlotRef) -> BlockRecord {
        self.inner.record(volume, slot)
    }

    fn location(&self, volume: VolumeId, slot: SlotRef) -> Option<Location> {
        self.inner.location(volume, slot)
    }

    fn submit(&mut self, op: StoreOp) {
        if self.holding {
            self.held.push_back(op);
        } else {
            self.inner.submit(op);
        }
    }

    fn poll(&mut self) -> Option<StoreDone> {
        self.inner.poll()
    }

    fn unpin(&mut self, volume: VolumeId, slots: &[SlotRef]) {
        self.inner.unpin(volume, slots);
    }
}

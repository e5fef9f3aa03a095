//! A store that takes its time: operations wait until they are let go, as they would on a disk.

use std::cell::RefCell;
use std::collections::VecDeque;

use holdfast_block::{
    BlockCount, BlockRecord, Geometry, Lba, Location, SlotRef, Store, StoreDone, StoreError, StoreOp, Usage,
    VolumeId,
};
use holdfast_store::Stores;
use holdfast_store::disk::io::{Device, DiskError};

/// A disk that never fails and takes no time.
pub(crate) struct Disk(RefCell<Vec<u8>>);

impl Disk {
    pub(crate) fn new(bytes: usize) -> Disk {
        Disk(RefCell::new(vec![0; bytes]))
    }
}

impl Device for Disk {
    fn len(&self) -> u64 {
        self.0.borrow().len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
        into.copy_from_slice(&self.0.borrow()[offset as usize..][..into.len()]);
        Ok(())
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), DiskError> {
        self.0.borrow_mut()[offset as usize..][..from.len()].copy_from_slice(from);
        Ok(())
    }

    fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }
}

/// Pools at their own speed unless told to wait.
pub(crate) struct Slow {
    pub(crate) inner: Stores<Vec<u8>>,
    disk: Disk,
    held: VecDeque<StoreOp>,
    holding: bool,
}

impl Slow {
    pub(crate) fn new(inner: Stores<Vec<u8>>, disk: Disk) -> Slow {
        Slow { inner, disk, held: VecDeque::new(), holding: false }
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

    /// Carries out what a pool asks of its disk; `false` if that is nothing.
    fn drive(&mut self) -> bool {
        let mut any = false;
        while let Some((pool, op)) = self.inner.next_disk_op() {
            any = true;
            let arena = self.inner.disk_pool_mut(pool).unwrap().arena_mut();
            let done = op.carry_out(&self.disk, arena);
            assert_eq!(done.result, Ok(()));
            self.inner.disk_done(pool, done);
        }
        any
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
        loop {
            let done = self.inner.poll();
            if done.is_some() || !self.drive() {
                return done;
            }
        }
    }

    fn unpin(&mut self, volume: VolumeId, slots: &[SlotRef]) {
        self.inner.unpin(volume, slots);
    }
}

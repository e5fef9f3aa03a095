//! A pool through [`Stores`] over a device in memory: what is written is read back, with its record, over closing and opening.

mod full;

use std::cell::{Cell, RefCell};

use holdfast_block::{
    BlockCount, BlockRecord, HostId, Lba, PoolId, Provenance, SlotRef, Store, StoreDone, StoreError, StoreOp,
    VolumeId,
};
use holdfast_pi::{GuardKind, PiFormat, PiType};

use super::check::{CheckOptions, check};
use super::io::{Device, DiskError, DiskOp};
use super::{DiskConfig, DiskLimits, DiskPool, find_pool};
use crate::{Stores, VolumeSpec};

/// A device that does at once what it is asked.
pub(super) struct Disk {
    bytes: RefCell<Vec<u8>>,
    pub(super) written: RefCell<u64>,
    /// Writes fail from this byte on.
    fails_from: Cell<u64>,
}

impl Disk {
    pub(super) fn new(len: usize) -> Disk {
        Disk { bytes: RefCell::new(vec![0; len]), written: RefCell::new(0), fails_from: Cell::new(u64::MAX) }
    }
}

impl Device for Disk {
    fn len(&self) -> u64 {
        self.bytes.borrow().len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let offset = usize::try_from(offset).map_err(|_| DiskError::Io)?;
        into.copy_from_slice(self.bytes.borrow().get(offset..offset + into.len()).ok_or(DiskError::Io)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), DiskError> {
        if offset >= self.fails_from.get() {
            return Err(DiskError::Io);
        }
        let offset = usize::try_from(offset).map_err(|_| DiskError::Io)?;
        *self.written.borrow_mut() += from.len() as u64;
        self.bytes.borrow_mut()[offset..offset + from.len()].copy_from_slice(from);
        Ok(())
    }

    fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }
}

const ARENA: usize = 8 << 20;
const LIMITS: DiskLimits = DiskLimits { map_bytes_max: 64 << 20 };

pub(super) fn pool_id() -> PoolId {
    PoolId::new(1).unwrap()
}

pub(super) fn create(disk: &Disk) -> Stores<Vec<u8>> {
    let config = DiskConfig { id: pool_id(), uuid: [7; 16], name: "p".to_owned(), zero_ahead: true };
    opened(DiskPool::create(disk, vec![0; ARENA], &config, LIMITS).unwrap())
}

/// A pool with one volume.
pub(super) fn create_with(volume: &VolumeSpec) -> (Disk, Stores<Vec<u8>>) {
    let disk = Disk::new(24 << 20);
    let mut stores = create(&disk);
    stores.create_named_volume(pool_id(), volume, "v").unwrap();
    settle(&mut stores, &disk);
    (disk, stores)
}

pub(super) fn open(disk: &Disk) -> Stores<Vec<u8>> {
    opened(DiskPool::open(disk, vec![0; ARENA], LIMITS, &mut |_| ()).unwrap())
}

fn opened(pool: DiskPool<Vec<u8>>) -> Stores<Vec<u8>> {
    let mut stores = Stores::new();
    stores.add_disk_pool(0, pool).unwrap();
    stores
}

/// Carries out everything that pools ask for, and takes what is done.
pub(super) fn settle(stores: &mut Stores<Vec<u8>>, disk: &Disk) -> Vec<StoreDone> {
    let mut done = Vec::new();
    loop {
        while let Some(one) = stores.poll() {
            done.push(one);
        }
        let Some((pool, op)) = stores.next_disk_op() else {
            if stores.has_work() {
                continue;
            }
            return done;
        };
        carry_out(stores, disk, pool, op);
    }
}

/// Does what a pool asks of its device.
fn carry_out(stores: &mut Stores<Vec<u8>>, disk: &Disk, pool: PoolId, op: DiskOp) {
    let reads = matches!(op, DiskOp::Read { .. });
    let done = op.carry_out(disk, stores.disk_pool_mut(pool).unwrap().arena_mut());
    assert!(!reads || done.result.is_ok());
    stores.disk_done(pool, done);
}

pub(super) fn spec(number: u64, block_len: usize, block_count: u64) -> VolumeSpec {
    let format =
        PiFormat::new(PiType::Type1, GuardKind::Crc16, u32::try_from(block_len).unwrap(), 0).unwrap();
    VolumeSpec {
        id: VolumeId::new(number).unwrap(),
        uuid: [1; 16],
        nguid: [2; 16],
        block_len,
        block_count,
        format: Some(format),
    }
}

/// The contents of version `version` of a block, and what is kept beside it.
fn contents(spec: &VolumeSpec, lba: u64, version: u64) -> (Vec<u8>, BlockRecord) {
    let word = (lba << 24 | version).to_le_bytes();
    let mut tuple = [0; 16];
    tuple[..8].copy_from_slice(&(lba * 31 + version).to_be_bytes());
    let writer = HostId::new(1 + version % 3);
    (word.repeat(spec.block_len / 8), BlockRecord { tuple, provenance: Provenance::HostGood, writer })
}

pub(super) fn write(
    stores: &mut Stores<Vec<u8>>,
    spec: &VolumeSpec,
    lba: u64,
    blocks: u32,
    version: u64,
) -> Result<StoreOp, StoreError> {
    let mut slots = Vec::new();
    stores.reserve(spec.id, Lba(lba), BlockCount::new(blocks), &mut slots)?;
    for (slot, lba) in slots.iter().zip(lba..) {
        let (data, record) = contents(spec, lba, version);
        stores.data_mut(spec.id, *slot).unwrap().copy_from_slice(&data);
        stores.set_record(spec.id, *slot, &record);
    }
    Ok(StoreOp::Publish { token: 1, volume: spec.id, lba: Lba(lba), slots, durable: false })
}

/// The version of each block of a range; 0 for holes.
pub(super) fn read(
    stores: &mut Stores<Vec<u8>>,
    disk: &Disk,
    spec: &VolumeSpec,
    lba: u64,
    blocks: u32,
) -> Result<Vec<u64>, StoreError> {
    let blocks = BlockCount::new(blocks);
    stores.submit(StoreOp::Read { token: 2, volume: spec.id, lba: Lba(lba), blocks, slots: Vec::new() });
    let done = settle(stores, disk).into_iter().find(|done| done.token == 2).unwrap();
    done.result?;
    let version = |(slot, lba): (&SlotRef, u64)| {
        if slot.is_hole() {
            return 0;
        }
        let found = stores.data(spec.id, *slot).unwrap();
        let version = u64::from_le_bytes(found[..8].try_into().unwrap()) & 0xff_ffff;
        let (data, record) = contents(spec, lba, version);
        assert!(found == data, "block {lba}");
        assert_eq!(stores.record(spec.id, *slot), record, "block {lba}");
        version
    };
    let versions = done.slots.iter().zip(lba..).map(version).collect();
    stores.unpin(spec.id, &done.slots);
    Ok(versions)
}

pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

#[test]
fn what_is_written_is_read_back_over_closing_opening_and_losing_the_process() {
    for seed in 1..=12 {
        let mut dice = Dice(seed);
        let disk = Disk::new(24 << 20);
        let mut stores = create(&disk);
        let volumes = [spec(1, 4096, 1500), spec(2, 512, 3001)];
        for volume in &volumes {
            stores.create_named_volume(pool_id(), volume, "v").unwrap();
        }
        let mut model = [vec![0_u64; 1500], vec![0_u64; 3001]];
        for version in 1..1500_u64 {
            let which = usize::from(dice.below(2) == 1);
            let volume = &volumes[which];
            let longest = if dice.below(4) == 0 { 200 } else { 12 };
            let len = 1 + dice.below(longest);
            let lba = dice.below(volume.block_count - len + 1);
            let range = usize::try_from(lba).unwrap()..usize::try_from(lba + len).unwrap();
            match dice.below(10) {
                0..=5 => {
                    let op = write(&mut stores, volume, lba, u32::try_from(len).unwrap(), version).unwrap();
                    stores.submit(op);
                    model[which][range].fill(version);
                }
                6 => {
                    let (volume, lba, blocks) = (volume.id, Lba(lba), len);
                    stores.submit(StoreOp::Deallocate { token: 3, volume, lba, blocks, slots: Vec::new() });
                    model[which][range].fill(0);
                }
                7 => stores.submit(StoreOp::Flush { token: 4, volume: volume.id, slots: Vec::new() }),
                8 => {
                    settle(&mut stores, &disk);
                    let pool = stores.disk_pool(pool_id()).unwrap();
                    assert!(pool.is_idle(), "{pool:?}");
                    let found = read(&mut stores, &disk, volume, lba, u32::try_from(len).unwrap());
                    assert_eq!(found.unwrap(), model[which][range], "seed {seed}, version {version}");
                }
                _ => {
                    let done = settle(&mut stores, &disk);
                    assert!(done.iter().all(|done| done.result.is_ok()), "{done:?}");
                }
            }
            if dice.below(200) == 0 {
                settle(&mut stores, &disk);
                if dice.below(2) == 0 {
                    stores.disk_pool_mut(pool_id()).unwrap().close();
                    settle(&mut stores, &disk);
                    assert!(stores.disk_pool(pool_id()).unwrap().is_closed());
                }
                stores = open(&disk);
            }
        }
        settle(&mut stores, &disk);
        stores = open(&disk);
        for (volume, model) in volumes.iter().zip(&model) {
            for (lba, chunk) in (0..).step_by(100).zip(model.chunks(100)) {
                let found = read(&mut stores, &disk, volume, lba, u32::try_from(chunk.len()).unwrap());
                assert_eq!(found.unwrap(), chunk, "seed {seed}, from block {lba}");
            }
        }
    }
}

#[test]
fn what_shares_a_journal_block_with_a_failed_write_is_kept() {
    let disk = Disk::new(24 << 20);
    let mut stores = create(&disk);
    let [written, emptied, new, old] =
        [spec(1, 4096, 100), spec(2, 512, 80), spec(3, 4096, 100), spec(4, 4096, 100)];
    for volume in [&written, &emptied, &old] {
        stores.create_named_volume(pool_id(), volume, "v").unwrap();
    }
    settle(&mut stores, &disk);
    for volume in [&written, &emptied, &old] {
        let op = write(&mut stores, volume, 0, 40, 1).unwrap();
        stores.submit(op);
    }
    settle(&mut stores, &disk);

    for volume in [&written, &old] {
        let op = write(&mut stores, volume, 0, 2, 2).unwrap();
        stores.submit(op);
    }
    stores.create_named_volume(pool_id(), &new, "v").unwrap();
    // Whole cells become holes by a record; of the last cell, half is written anew, and that fails.
    let (volume, lba, blocks) = (emptied.id, Lba(8), 20);
    stores.submit(StoreOp::Deallocate { token: 3, volume, lba, blocks, slots: Vec::new() });
    stores.delete_volume(old.id).unwrap();
    disk.fails_from.set(find_pool(&disk).unwrap().unwrap().layout.data_first() * 4096);
    let done = settle(&mut stores, &disk);
    disk.fails_from.set(u64::MAX);
    let results: Vec<_> = done.iter().map(|done| (done.token, done.result)).collect();
    assert_eq!(results, [1, 1, 3].map(|token| (token, Err(StoreError::WriteFault))));

    let found = |stores: &mut Stores<Vec<u8>>| {
        let mut volumes: Vec<_> =
            stores.disk_pool(pool_id()).unwrap().volumes().map(|volume| volume.spec.id).collect();
        volumes.sort_unstable();
        assert_eq!(volumes, [written.id, emptied.id, new.id]);
        assert_eq!(read(stores, &disk, &written, 0, 40).unwrap(), [1; 40]);
        let mut expected = [1; 40];
        expected[8..24].fill(0);
        assert_eq!(read(stores, &disk, &emptied, 0, 40).unwrap(), expected);
    };
    found(&mut stores);
    // The journal says it, and so does a checkpoint.
    let report = check(&disk, CheckOptions { data: true }, &mut |_| ()).unwrap();
    assert!(!report.is_damaged(), "{:?}", report.findings);
    stores = open(&disk);
    found(&mut stores);
    stores.disk_pool_mut(pool_id()).unwrap().close();
    settle(&mut stores, &disk);
    found(&mut open(&disk));
}

#[test]
fn checkpoint_after_a_failed_write_has_all_volumes() {
    let (written, new) = (spec(1, 4096, 100), spec(2, 4096, 100));
    let (disk, mut stores) = create_with(&written);
    let op = write(&mut stores, &written, 0, 2, 1).unwrap();
    stores.submit(op);
    stores.create_named_volume(pool_id(), &new, "v").unwrap();
    disk.fails_from.set(find_pool(&disk).unwrap().unwrap().layout.data_first() * 4096);
    settle(&mut stores, &disk);
    disk.fails_from.set(u64::MAX);
    stores.disk_pool_mut(pool_id()).unwrap().close();
    settle(&mut stores, &disk);
    assert_eq!(open(&disk).disk_pool(pool_id()).unwrap().volumes().count(), 2);
}

/// A Copy of holes writes them beside other blocks.
#[test]
fn holes_among_written_blocks_are_holes_and_nothing_else_is() {
    for block_len in [512, 4096] {
        let disk = Disk::new(24 << 20);
        let mut stores = create(&disk);
        let volume = spec(1, block_len, 100);
        stores.create_named_volume(pool_id(), &volume, "v").unwrap();
        let op = write(&mut stores, &volume, 4, 20, 1).unwrap();
        stores.submit(op);
        settle(&mut stores, &disk);
        let op = write(&mut stores, &volume, 4, 20, 2).unwrap();
        let StoreOp::Publish { slots, .. } = &op else { panic!("{op:?}") };
        for slot in [slots[0], slots[7], slots[8]] {
            stores.set_record(volume.id, slot, &BlockRecord::hole());
        }
        stores.submit(op);
        assert!(settle(&mut stores, &disk).iter().all(|done| done.result.is_ok()));
        let mut expected = [2; 20];
        for at in [0, 7, 8] {
            expected[at] = 0;
        }
        assert_eq!(read(&mut stores, &disk, &volume, 4, 20).unwrap(), expected);
        let report = check(&disk, CheckOptions { data: true }, &mut |_| ()).unwrap();
        assert!(!report.is_damaged(), "{:?}", report.findings);
        assert_eq!(read(&mut open(&disk), &disk, &volume, 4, 20).unwrap(), expected, "{block_len}");
    }
}

#[test]
fn deallocation_waits_until_its_volume_is_durable() {
    let disk = Disk::new(24 << 20);
    let mut stores = create(&disk);
    let volume = spec(1, 4096, 100);
    stores.create_named_volume(pool_id(), &volume, "v").unwrap();
    stores.submit(StoreOp::Deallocate {
        token: 3,
        volume: volume.id,
        lba: Lba(0),
        blocks: 100,
        slots: Vec::new(),
    });
    let layout = find_pool(&disk).unwrap().unwrap().layout;
    let journal = layout.journal_first() * 4096..layout.data_first() * 4096;
    let mut seen = Vec::new();
    loop {
        if let Some(done) = stores.poll() {
            assert_eq!((done.token, done.result), (3, Ok(())));
            break;
        }
        let Some((pool, op)) = stores.next_disk_op() else { continue };
        match &op {
            DiskOp::Write { offset, .. } if journal.contains(offset) => seen.push("journal"),
            DiskOp::Flush { .. } => seen.push("flush"),
            DiskOp::Write { .. } | DiskOp::Read { .. } => {}
        }
        carry_out(&mut stores, &disk, pool, op);
    }
    assert_eq!(seen, ["journal", "flush", "journal"]);
}

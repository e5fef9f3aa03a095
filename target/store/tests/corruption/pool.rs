//! The pool as hosts use it: writes, marks, deallocations, and reads that tell which version a block holds.

use holdfast_block::{
    BlockCount, BlockRecord, HostId, Lba, PoolId, Provenance, Store, StoreDone, StoreError, StoreOp, VolumeId,
};
use holdfast_pi::{GuardKind, PiFormat, PiType};
use holdfast_store::disk::format::CellShape;
use holdfast_store::{DiskConfig, DiskLimits, DiskPool, OpenPoolError, Stores, VolumeSpec};

use crate::disk::Disk;

const ARENA: usize = 2 << 20;
/// Room for the maps of these pools; a damaged one that asks for more is refused.
const LIMITS: DiskLimits = DiskLimits { map_bytes_max: 1 << 20 };

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Hole,
    Data(u64),
    Marked,
    /// It must read as a media error.
    Lost,
}

/// The blocks of a cell; of 4096 bytes, the first counts.
pub(crate) type CellState = [What; 8];

pub(crate) const EMPTY: CellState = [What::Hole; 8];

/// Identifiers of the volumes.
pub(crate) const LARGE: u64 = 1;
pub(crate) const SMALL: u64 = 2;
pub(crate) const DELETED: u64 = 3;
pub(crate) const DELETED_LATE: u64 = 4;

pub(crate) fn spec(volume: u64) -> VolumeSpec {
    let (block_len, block_count, guard) = match volume {
        LARGE => (4096, 40_000, GuardKind::Crc64),
        SMALL => (512, 20_003, GuardKind::Crc16),
        _ => (4096, 300, GuardKind::Crc16),
    };
    let format = PiFormat::new(PiType::Type1, guard, block_len as u32, 0).unwrap();
    let id = VolumeId::new(volume).unwrap();
    VolumeSpec { id, uuid: [1; 16], nguid: [2; 16], block_len, block_count, format: Some(format) }
}

pub(crate) fn shape(volume: u64) -> CellShape {
    CellShape::of_block_len(spec(volume).block_len as u32).unwrap()
}

/// The blocks of a cell that are within the volume.
pub(crate) fn blocks_of(volume: u64, cell: u64) -> (u64, u32) {
    let per_cell = shape(volume).blocks_per_cell();
    let first = cell * per_cell;
    (first, (spec(volume).block_count - first).min(per_cell) as u32)
}

pub(crate) struct Pool<'d> {
    stores: Stores<Vec<u8>>,
    disk: &'d Disk,
    id: PoolId,
}

impl<'d> Pool<'d> {
    pub(crate) fn create(disk: &'d Disk, number: u64) -> Pool<'d> {
        let uuid = [number as u8; 16];
        let id = PoolId::new(number).unwrap();
        let config = DiskConfig { id, uuid, name: "p".to_owned(), zero_ahead: false };
        Pool::of(disk, DiskPool::create(disk, vec![0; ARENA], &config, LIMITS).unwrap())
    }

    pub(crate) fn open(disk: &'d Disk) -> Result<Pool<'d>, OpenPoolError> {
        let pool = DiskPool::open(disk, vec![0; ARENA], LIMITS, &mut |_| ())?;
        assert!(pool.map_bytes() <= LIMITS.map_bytes_max);
        Ok(Pool::of(disk, pool))
    }

    fn of(disk: &'d Disk, pool: DiskPool<Vec<u8>>) -> Pool<'d> {
        let mut stores = Stores::new();
        let id = pool.id();
        stores.add_disk_pool(0, pool).unwrap();
        let mut pool = Pool { stores, disk, id };
        pool.settle();
        pool
    }

    pub(crate) fn volumes(&self) -> Vec<u64> {
        let mut volumes: Vec<u64> = self.stores.volumes().map(|(_, volume)| volume.spec.id.get()).collect();
        volumes.sort_unstable();
        volumes
    }

    pub(crate) fn make(&mut self, volume: u64) {
        self.stores.create_named_volume(self.id, &spec(volume), "v").unwrap();
        self.settle();
    }

    pub(crate) fn delete(&mut self, volume: u64) {
        self.stores.delete_volume(VolumeId::new(volume).unwrap()).unwrap();
        self.settle();
    }

    pub(crate) fn close(mut self) {
        self.stores.disk_pool_mut(self.id).unwrap().close();
        self.settle();
        assert!(self.stores.disk_pool(self.id).unwrap().is_closed());
    }

    pub(crate) fn write(&mut self, volume: u64, lba: u64, whats: &[What]) -> Result<(), StoreError> {
        let spec = spec(volume);
        let mut slots = Vec::new();
        let blocks = BlockCount::new(whats.len() as u32);
        self.stores.reserve(spec.id, Lba(lba), blocks, &mut slots)?;
        for ((slot, lba), what) in slots.iter().zip(lba..).zip(whats) {
            let (data, record) = contents(&spec, lba, *what);
            self.stores.data_mut(spec.id, *slot).unwrap().copy_from_slice(&data);
            self.stores.set_record(spec.id, *slot, &record);
        }
        self.end_of(StoreOp::Publish { token: 1, volume: spec.id, lba: Lba(lba), slots, durable: false })
            .result
    }

    pub(crate) fn deallocate(&mut self, volume: u64, lba: u64, blocks: u64) {
        let volume = VolumeId::new(volume).unwrap();
        let op = StoreOp::Deallocate { token: 1, volume, lba: Lba(lba), blocks, slots: Vec::new() };
        self.end_of(op).result.unwrap();
    }

    pub(crate) fn flush(&mut self) {
        let volume = VolumeId::new(LARGE).unwrap();
        self.end_of(StoreOp::Flush { token: 1, volume, slots: Vec::new() }).result.unwrap();
    }

    /// Compares the blocks of a cell with what they should hold.
    pub(crate) fn compare(&mut self, volume: u64, cell: u64, expected: &CellState) -> Result<(), String> {
        let (first, blocks) = blocks_of(volume, cell);
        let plain = |what: &What| matches!(what, What::Hole | What::Data(_));
        let expected = &expected[..blocks as usize];
        if expected.iter().all(plain) {
            return self.compare_run(volume, first, expected);
        }
        (first..).zip(expected).try_for_each(|(lba, what)| self.compare_run(volume, lba, &[*what]))
    }

    fn compare_run(&mut self, volume: u64, lba: u64, expected: &[What]) -> Result<(), String> {
        let spec = spec(volume);
        let blocks = BlockCount::new(expected.len() as u32);
        let op = StoreOp::Read { token: 1, volume: spec.id, lba: Lba(lba), blocks, slots: Vec::new() };
        let done = self.end_of(op);
        let right = match (done.result, expected) {
            (Err(StoreError::Media(at)), [What::Lost]) => at.0 == lba,
            (Err(StoreError::Uncorrectable(at)), [What::Marked]) => at.0 == lba,
            (Err(error), _) => {
                return Err(format!("volume {volume}, block {lba}: {error}, not {expected:?}"));
            }
            (Ok(()), _) => done.slots.iter().zip(lba..).zip(expected).all(|((slot, lba), what)| {
                match (self.stores.data(spec.id, *slot), what) {
                    (None, What::Hole) => slot.is_hole(),
                    (Some(found), What::Data(_)) => {
                        let (data, record) = contents(&spec, lba, *what);
                        found == data && self.stores.record(spec.id, *slot) == record
                    }
                    _ => false,
                }
            }),
        };
        if done.result.is_ok() {
            self.stores.unpin(spec.id, &done.slots);
        }
        match right {
            true => Ok(()),
            false => Err(format!("volume {volume}, from block {lba}: not {expected:?}: {:?}", done.result)),
        }
    }

    fn end_of(&mut self, op: StoreOp) -> StoreDone {
        self.stores.submit(op);
        let mut done = self.settle();
        assert_eq!(done.len(), 1, "one end for one operation");
        done.remove(0)
    }

    fn settle(&mut self) -> Vec<StoreDone> {
        let mut done = Vec::new();
        loop {
            while let Some(one) = self.stores.poll() {
                done.push(one);
            }
            let Some((pool, op)) = self.stores.next_disk_op() else {
                if self.stores.has_work() {
                    continue;
                }
                return done;
            };
            let arena = self.stores.disk_pool_mut(pool).unwrap().arena_mut();
            let disk_done = op.carry_out(self.disk, arena);
            disk_done.result.unwrap();
            self.stores.disk_done(pool, disk_done);
        }
    }
}

/// Data and record of a version of a block; every version has its own of both.
fn contents(spec: &VolumeSpec, lba: u64, what: What) -> (Vec<u8>, BlockRecord) {
    let What::Data(version) = what else {
        let record =
            BlockRecord { tuple: [0; 16], provenance: Provenance::Uncorrectable, writer: HostId::new(1) };
        return (vec![0; spec.block_len], record);
    };
    let word = crate::mix(spec.id.get() << 48 | lba << 24 | version);
    let mut tuple = [0; 16];
    let len = if spec.id.get() == LARGE { 16 } else { 8 };
    tuple[..8].copy_from_slice(&crate::mix(word).to_le_bytes());
    tuple[8..len].copy_from_slice(&crate::mix(!word).to_le_bytes()[..len - 8]);
    let provenance = match version % 3 {
        0 => Provenance::Inserted,
        1 => Provenance::HostGood,
        _ => Provenance::HostBadGuard,
    };
    let writer = HostId::new(1 + version % 5);
    (word.to_le_bytes().repeat(spec.block_len / 8), BlockRecord { tuple, provenance, writer })
}

//! Tests of whole pools: what a kill leaves, space, pins, order. They see the pool's books, and audit them.
#![expect(clippy::cast_possible_truncation, reason = "numbers made up here, small")]

mod format;
mod journal;
mod kill;
mod model;
mod order;
mod properties;
mod space;

use std::collections::{HashMap, HashSet};

use holdfast_block::{
    BlockCount, BlockRecord, HostId, Lba, PoolId, Provenance, SlotRef, Store, StoreDone, StoreError, StoreOp,
    VolumeId,
};
use holdfast_pi::{GuardKind, PiFormat, PiType};

use super::alloc::{Phase, SlotIndex};
use super::layout::BlockClass;
use super::{MemoryPool, PoolConfig, PoolMemory, VolumeSpec};
use crate::Stores;

const POOL: u64 = 77;

fn pool_id() -> PoolId {
    PoolId::new(POOL).unwrap()
}

fn volume_id(raw: u64) -> VolumeId {
    VolumeId::new(raw).unwrap()
}

/// A small pool: room for 128 large blocks, or 1024 small ones.
fn config() -> PoolConfig {
    let half = 512 << 10;
    PoolConfig { id: pool_id(), size_bytes: half, in_flight_bytes: half, map_bytes: 64 * 4096 }
}

fn pool_in(config: &PoolConfig) -> MemoryPool<Vec<u8>> {
    let len = MemoryPool::<Vec<u8>>::layout_len(config).unwrap();
    MemoryPool::create(vec![0; len], config).unwrap()
}

fn stores_of<M: PoolMemory>(pool: MemoryPool<M>) -> Stores<M> {
    let mut stores = Stores::new();
    stores.add_pool(5, pool).unwrap();
    stores
}

fn format(block_len: u32, tuple_len: usize) -> Option<PiFormat> {
    match tuple_len {
        0 => None,
        8 => Some(PiFormat::new(PiType::Type1, GuardKind::Crc16, block_len, 0).unwrap()),
        _ => Some(PiFormat::new(PiType::Type2, GuardKind::Crc64, block_len, 16).unwrap()),
    }
}

fn spec(id: u64, block_len: u32, block_count: u64) -> VolumeSpec {
    let (uuid, nguid) = ([id as u8; 16], [!id as u8; 16]);
    VolumeSpec {
        id: volume_id(id),
        uuid,
        nguid,
        block_len: block_len as usize,
        block_count,
        format: format(block_len, if block_len == 512 { 8 } else { 16 }),
    }
}

/// What one write puts into a block, all of it derived from one number: mixed contents are always found out.
fn fill_block(seed: u64, data: &mut [u8]) {
    data.fill((seed % 251) as u8);
    data[..8].copy_from_slice(&seed.to_le_bytes());
    let middle = data.len() / 2;
    data[middle..middle + 8].copy_from_slice(&seed.to_le_bytes());
    let end = data.len() - 8;
    data[end..].copy_from_slice(&seed.to_le_bytes());
}

/// Set in the number of a write that marks its blocks as uncorrectable.
const MARKED: u64 = 1 << 40;

fn record_for(seed: u64, tuple_len: usize) -> BlockRecord {
    let mut tuple = [0; 16];
    for (place, byte) in tuple[..tuple_len].iter_mut().zip(seed.to_le_bytes().iter().cycle()) {
        *place = byte ^ 0x5a;
    }
    let provenance = match seed % 3 {
        _ if seed & MARKED != 0 => Provenance::Uncorrectable,
        0 => Provenance::Inserted,
        1 => Provenance::HostGood,
        _ => Provenance::HostBadGuard,
    };
    BlockRecord { tuple, provenance, writer: HostId::new(seed % 5 + 1) }
}

/// Finds out which write a slot's bytes are of, and that its record is of the same. `None` for a hole.
fn seed_in(data: Option<&[u8]>, record: BlockRecord, tuple_len: usize) -> Option<u64> {
    let Some(data) = data else {
        assert_eq!(record, BlockRecord::hole());
        return None;
    };
    let seed = u64::from_le_bytes(data[..8].try_into().unwrap());
    let mut expected = vec![0; data.len()];
    fill_block(seed, &mut expected);
    assert!(data == expected, "block of write {seed} is torn");
    assert_eq!(record, record_for(seed, tuple_len), "record of write {seed}");
    Some(seed)
}

fn tuple_len<M: PoolMemory>(stores: &Stores<M>, volume: VolumeId) -> usize {
    stores.geometry(volume).unwrap().format.map_or(0, |format| format.tuple_len())
}

fn wait<M: PoolMemory>(stores: &mut Stores<M>, token: u32) -> StoreDone {
    for _ in 0..100_000 {
        if let Some(done) = stores.poll() {
            assert_eq!(done.token, token, "somebody else's completion");
            return done;
        }
    }
    panic!("operation {token} does not complete");
}

/// Reserves and fills slots for `blocks` blocks; block `i` gets the contents of write `seed + i`.
fn filled<M: PoolMemory>(
    stores: &mut Stores<M>,
    volume: VolumeId,
    blocks: u32,
    seed: u64,
) -> Result<Vec<SlotRef>, StoreError> {
    let tuple_len = tuple_len(stores, volume);
    let mut slots = Vec::new();
    stores.reserve(volume, Lba(0), BlockCount::new(blocks), &mut slots)?;
    assert_eq!(slots.len(), blocks as usize);
    for (seed, slot) in (seed..).zip(&slots) {
        fill_block(seed, stores.data_mut(volume, *slot).unwrap());
        stores.set_record(volume, *slot, &record_for(seed, tuple_len));
    }
    Ok(slots)
}

fn publish<M: PoolMemory>(
    stores: &mut Stores<M>,
    volume: VolumeId,
    lba: u64,
    slots: Vec<SlotRef>,
) -> Result<(), StoreError> {
    stores.submit(StoreOp::Publish { token: 1, volume, lba: Lba(lba), slots, durable: false });
    wait(stores, 1).result
}

fn write<M: PoolMemory>(
    stores: &mut Stores<M>,
    volume: VolumeId,
    lba: u64,
    blocks: u32,
    seed: u64,
) -> Result<(), StoreError> {
    let slots = filled(stores, volume, blocks, seed)?;
    publish(stores, volume, lba, slots)
}

fn pin<M: PoolMemory>(stores: &mut Stores<M>, volume: VolumeId, lba: u64, blocks: u32) -> Vec<SlotRef> {
    let blocks = BlockCount::new(blocks);
    stores.submit(StoreOp::Read { token: 2, volume, lba: Lba(lba), blocks, slots: Vec::new() });
    let done = wait(stores, 2);
    assert_eq!(done.result, Ok(()));
    assert_eq!(done.slots.len(), blocks.as_usize());
    done.slots
}

/// The writes whose contents these slots have.
fn seeds<M: PoolMemory>(
    stores: &Stores<M>,
    volume: VolumeId,
    slots: &[SlotRef],
    tuple_len: usize,
) -> Vec<Option<u64>> {
    let seed = |slot: &SlotRef| seed_in(stores.data(volume, *slot), stores.record(volume, *slot), tuple_len);
    slots.iter().map(seed).collect()
}

/// The writes whose contents these blocks have.
fn read<M: PoolMemory>(stores: &mut Stores<M>, volume: VolumeId, lba: u64, blocks: u32) -> Vec<Option<u64>> {
    let slots = pin(stores, volume, lba, blocks);
    let seeds = seeds(stores, volume, &slots, tuple_len(stores, volume));
    stores.unpin(volume, &slots);
    seeds
}

fn start_deallocate<M: PoolMemory>(
    stores: &mut Stores<M>,
    token: u32,
    volume: VolumeId,
    lba: u64,
    blocks: u64,
) {
    stores.submit(StoreOp::Deallocate { token, volume, lba: Lba(lba), blocks, slots: Vec::new() });
}

fn deallocate<M: PoolMemory>(stores: &mut Stores<M>, volume: VolumeId, lba: u64, blocks: u64) {
    start_deallocate(stores, 3, volume, lba, blocks);
    assert_eq!(wait(stores, 3).result, Ok(()));
}

fn drain<M: PoolMemory>(stores: &mut Stores<M>) {
    while stores.has_work() {
        assert!(stores.poll().is_none(), "a completion nobody waits for");
    }
}

/// Holds every book of a pool against its maps: each block in one slot, each slot in one block, held or free,
/// each map page linked once or free, all counts right.
fn audit<M: PoolMemory>(pool: &MemoryPool<M>) {
    let mut pages = HashSet::new();
    let mut mapped = HashMap::new();
    let mut bytes_live = 0;
    for (index, volume) in pool.volumes.iter() {
        let mut blocks = 0;
        pool.map.audit(&pool.medium, &volume.root, &mut pages, &mut |lba, raw| {
            let slot = SlotIndex::from_raw(raw).unwrap();
            assert!(
                mapped.insert((volume.class == BlockClass::Small, slot), index).is_none(),
                "a shared slot"
            );
            assert!(pool.medium.is_stamped(volume.class, slot, index, lba));
            assert!(lba < volume.spec.block_count);
            blocks += 1;
        });
        assert_eq!(volume.blocks_live, blocks);
        bytes_live += blocks * volume.spec.block_len as u64;
    }
    pool.map.audit_free(&pages);
    assert_eq!(pool.bytes_live, bytes_live);
    assert!(bytes_live <= pool.usage().capacity_bytes);
    let mut held = HashMap::new();
    for class in [BlockClass::Small, BlockClass::Large] {
        for (slot, state) in pool.slots.of(class).audit() {
            let owner = mapped.remove(&(class == BlockClass::Small, slot));
            match state.phase {
                Phase::Live => {
                    assert_eq!(owner, Some(state.owner));
                    assert_eq!(state.marked, pool.medium.is_marked(class, slot), "mark of {slot:?}");
                }
                Phase::Superseded => assert!(owner.is_none() && state.pins > 0),
                Phase::Reserved => assert!(owner.is_none() && state.pins == 0),
                Phase::Free | Phase::Claimed => panic!("slot {slot:?} is {state:?}"),
            }
            *held.entry(state.owner).or_insert(0) +=
                u64::from(state.pins) + u64::from(state.phase == Phase::Reserved);
        }
    }
    assert!(mapped.is_empty(), "mapped slots that are not in use: {mapped:?}");
    for (index, volume) in pool.volumes.iter() {
        assert_eq!(volume.held, held.get(&index).copied().unwrap_or(0), "held of {index:?}");
    }
}

fn audit_all<M: PoolMemory>(stores: &Stores<M>) {
    stores.pools().for_each(audit);
}

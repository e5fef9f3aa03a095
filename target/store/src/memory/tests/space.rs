//! Capacity to the byte, memory given back, map pages, volumes.

use super::journal::{JournalMemory, Step};
use super::*;
use crate::{Damage, PoolError};

/// Writes blocks one by one until there is no room; returns how many there was room for.
fn fill(stores: &mut Stores<Vec<u8>>, volume: VolumeId, from: u64) -> u64 {
    (0..).find(|block| write(stores, volume, from + block, 1, *block).is_err()).unwrap()
}

fn allocated<M: PoolMemory>(stores: &Stores<M>) -> u64 {
    stores.pool(pool_id()).unwrap().usage().allocated_bytes
}

#[test]
fn one_volume_fills_the_pool_to_the_last_block() {
    for (block_len, blocks) in [(512, 1024), (4096, 128)] {
        let mut stores = stores_of(pool_in(&config()));
        let spec = spec(1, block_len, 1 << 20);
        stores.create_volume(pool_id(), &spec).unwrap();
        assert_eq!(fill(&mut stores, spec.id, 7), blocks);
        assert_eq!(allocated(&stores), 512 << 10);
        assert_eq!(stores.usage(spec.id).unwrap().blocks_allocated, blocks);
        audit_all(&stores);
    }
}

#[test]
fn a_full_pool_takes_overwrites_for_ever_and_nothing_new() {
    let mut stores = stores_of(pool_in(&config()));
    let spec = spec(1, 4096, 1000);
    stores.create_volume(pool_id(), &spec).unwrap();
    write(&mut stores, spec.id, 0, 128, 0).unwrap();
    for round in 1..20 {
        write(&mut stores, spec.id, 0, 64, 1000 * round).unwrap();
        // One block too many: nothing of it is stored.
        assert_eq!(write(&mut stores, spec.id, 100, 29, 999_000), Err(StoreError::NoRoom));
        write(&mut stores, spec.id, 64, 64, 1000 * round + 64).unwrap();
        let found = read(&mut stores, spec.id, 0, 130);
        let expected = (0..130).map(|lba| (lba < 128).then_some(1000 * round + lba));
        assert_eq!(found, expected.collect::<Vec<_>>());
    }
    audit_all(&stores);
    deallocate(&mut stores, spec.id, 3, 1);
    assert_eq!(write(&mut stores, spec.id, 500, 2, 5), Err(StoreError::NoRoom));
    assert_eq!(write(&mut stores, spec.id, 500, 1, 5), Ok(()));
    audit_all(&stores);
}

#[test]
fn no_room_is_lost_between_volumes_and_block_sizes() {
    let mut stores = stores_of(pool_in(&config()));
    let (small, large, third) = (spec(1, 512, 1 << 20), spec(2, 4096, 1 << 20), spec(3, 512, 1 << 20));
    for spec in [&small, &large, &third] {
        stores.create_volume(pool_id(), spec).unwrap();
    }
    assert_eq!(fill(&mut stores, small.id, 0), 1024);
    // Only every eighth small block stays, each alone in its page.
    for lba in (0..1024).filter(|lba| lba % 8 != 0) {
        deallocate(&mut stores, small.id, lba, 1);
    }
    assert_eq!(allocated(&stores), 128 * 512);
    assert_eq!(fill(&mut stores, large.id, 0), 112);
    assert_eq!(fill(&mut stores, third.id, 0), 0);
    deallocate(&mut stores, large.id, 50, 1);
    assert_eq!(fill(&mut stores, third.id, 0), 8);
    audit_all(&stores);
}

#[test]
fn a_deleted_volume_makes_room_at_once() {
    let mut stores = stores_of(pool_in(&config()));
    let (old, new) = (spec(1, 512, 1 << 20), spec(2, 4096, 1 << 20));
    stores.create_volume(pool_id(), &old).unwrap();
    assert_eq!(fill(&mut stores, old.id, 0), 1024);
    stores.delete_volume(old.id).unwrap();
    stores.create_volume(pool_id(), &new).unwrap();
    assert_eq!(write(&mut stores, new.id, 0, 128, 0), Ok(()));
    audit_all(&stores);
}

#[test]
fn reserved_slots_run_out_at_the_bound_and_come_back() {
    let mut stores = stores_of(pool_in(&config()));
    let spec = spec(1, 512, 1 << 20);
    stores.create_volume(pool_id(), &spec).unwrap();
    let mut held = Vec::new();
    while let Ok(slots) = filled(&mut stores, spec.id, 64, 1) {
        held.push(slots);
    }
    assert_eq!(held.len() * 64 * 512, 1 << 20, "capacity and what may be in flight");
    let mut none = Vec::new();
    assert_eq!(stores.reserve(spec.id, Lba(0), BlockCount::new(1), &mut none), Err(StoreError::Busy));
    assert!(none.is_empty());
    for slots in held {
        stores.unreserve(spec.id, &slots);
    }
    assert_eq!(fill(&mut stores, spec.id, 0), 1024);
    audit_all(&stores);
}

#[test]
fn used_up_map_pages_are_no_room_and_leave_nothing_behind() {
    let mut stores = stores_of(pool_in(&config()));
    let spec = spec(1, 512, 1 << 40);
    stores.create_volume(pool_id(), &spec).unwrap();
    let far = 1 << 27;
    let spread = (0..).find(|number| write(&mut stores, spec.id, number * far, 1, *number).is_err()).unwrap();
    assert!((15..64).contains(&spread), "{spread} blocks under pages of their own");
    audit_all(&stores);
    assert_eq!(write(&mut stores, spec.id, 0, 200, 1), Ok(()), "beside a block there is room");
    assert_eq!(
        write(&mut stores, spec.id, 400, 200, 1),
        Err(StoreError::NoRoom),
        "the second leaf is missing"
    );
    assert_eq!(read(&mut stores, spec.id, 400, 2), [None; 2]);
    audit_all(&stores);
    deallocate(&mut stores, spec.id, far, 1);
    assert_eq!(write(&mut stores, spec.id, 400, 200, 1), Ok(()));
    audit_all(&stores);
}

#[test]
fn memory_of_emptied_chunks_is_given_back() {
    let config = PoolConfig { size_bytes: 8 << 20, ..config() };
    let len = MemoryPool::<JournalMemory>::layout_len(&config).unwrap();
    let (memory, journal) = JournalMemory::new(vec![0; len]);
    let mut stores = stores_of(MemoryPool::create(memory, &config).unwrap());
    let spec = spec(1, 512, 1 << 20);
    stores.create_volume(pool_id(), &spec).unwrap();
    for part in 0..16 {
        write(&mut stores, spec.id, part * 1024, 1024, 0).unwrap();
    }
    assert_eq!(allocated(&stores), 8 << 20);
    stores.delete_volume(spec.id).unwrap();
    drain(&mut stores);
    assert_eq!(allocated(&stores), 0);
    let punched =
        journal.borrow().steps.iter().map(|step| if let Step::Punch(_, len) = step { *len } else { 0 }).sum();
    let records = 8 << 15;
    assert!((7 << 20..=(8 << 20) + records).contains::<usize>(&punched), "{punched} bytes were given back");
    audit_all(&stores);
}

#[test]
fn overwriting_touches_little_more_memory_than_there_are_blocks() {
    let config = PoolConfig { size_bytes: 64 << 20, ..config() };
    let mut stores = stores_of(pool_in(&config));
    let spec = spec(1, 512, 1 << 17);
    stores.create_volume(pool_id(), &spec).unwrap();
    let mut dice = super::journal::Dice::new(4);
    for seed in 0..40_000 {
        write(&mut stores, spec.id, dice.below(512) * 8, 8, seed).unwrap();
    }
    let live = stores.usage(spec.id).unwrap().blocks_allocated;
    let touched = stores.pool(pool_id()).unwrap().slots.small.touched() as u64 * 512;
    assert!(touched * 3 <= live * 4 + 2 * 512 * 3, "{touched} slots touched for {live} blocks");
}

#[test]
fn volumes_are_made_grown_and_deleted_within_limits() {
    let mut stores = stores_of(pool_in(&config()));
    let first = spec(1, 4096, 10);
    stores.create_volume(pool_id(), &first).unwrap();
    assert_eq!(stores.create_volume(pool_id(), &first), Err(PoolError::VolumeExists(first.id)));
    let nowhere = PoolId::new(1).unwrap();
    assert_eq!(stores.create_volume(nowhere, &spec(2, 4096, 10)), Err(PoolError::NoPool(nowhere)));
    assert_eq!(write(&mut stores, first.id, 10, 1, 1), Err(StoreError::OutOfRange));
    assert_eq!(stores.grow_volume(first.id, 9), Err(PoolError::BlockCount(9)));
    assert_eq!(stores.grow_volume(first.id, u64::MAX), Err(PoolError::BlockCount(u64::MAX)));
    write(&mut stores, first.id, 0, 10, 1).unwrap();
    stores.grow_volume(first.id, 1 << 36).unwrap();
    assert_eq!(stores.geometry(first.id).unwrap().block_count, 1 << 36);
    write(&mut stores, first.id, (1 << 36) - 1, 1, 77).unwrap();
    assert_eq!(read(&mut stores, first.id, 9, 2), [Some(10), None]);
    assert_eq!(read(&mut stores, first.id, (1 << 36) - 1, 1), [Some(77)]);
    stores.delete_volume(first.id).unwrap();
    assert_eq!(stores.delete_volume(first.id), Err(PoolError::NoVolume(first.id)));
    assert_eq!(stores.grow_volume(first.id, 1 << 37), Err(PoolError::NoVolume(first.id)));
    drain(&mut stores);
    for id in 0..1024 {
        stores.create_volume(pool_id(), &spec(1000 + id, 512, 1)).unwrap();
    }
    assert_eq!(stores.create_volume(pool_id(), &spec(1, 512, 1)), Err(PoolError::TableFull));
    assert_eq!(stores.volumes().count(), 1024);
    audit_all(&stores);
}

#[test]
fn two_pools_serve_side_by_side_and_never_share_identifiers() {
    let other_config = PoolConfig { id: PoolId::new(78).unwrap(), ..config() };
    let mut stores = stores_of(pool_in(&config()));
    stores.add_pool(6, pool_in(&other_config)).unwrap();
    assert_eq!(stores.add_pool(7, pool_in(&config())), Err(PoolError::PoolExists(pool_id())));
    let (first, second) = (spec(1, 512, 100), spec(2, 512, 100));
    stores.create_volume(pool_id(), &first).unwrap();
    stores.create_volume(other_config.id, &second).unwrap();
    write(&mut stores, first.id, 0, 4, 10).unwrap();
    write(&mut stores, second.id, 0, 4, 20).unwrap();
    assert_eq!(read(&mut stores, first.id, 0, 1), [Some(10)]);
    assert_eq!(read(&mut stores, second.id, 0, 1), [Some(20)]);
    let slots = pin(&mut stores, second.id, 0, 1);
    assert_eq!(stores.location(second.id, slots[0]).unwrap().region, 6);
    stores.unpin(second.id, &slots);
    assert_eq!(stores.create_volume(other_config.id, &first), Err(PoolError::VolumeExists(first.id)));
    stores.delete_volume(first.id).unwrap();
    drain(&mut stores);
    stores.remove_pool(pool_id()).unwrap();
    assert_eq!(read(&mut stores, second.id, 3, 1), [Some(23)]);
    assert_eq!(stores.pools().count(), 1);
}

/// A pool with one block at LBA 3 of one volume, as its memory.
fn image() -> Vec<u8> {
    let mut stores = stores_of(pool_in(&config()));
    let spec = spec(1, 512, 1000);
    stores.create_volume(pool_id(), &spec).unwrap();
    write(&mut stores, spec.id, 3, 2, 1).unwrap();
    stores.into_pool().medium.memory
}

#[test]
fn a_damaged_header_is_refused_by_name() {
    let open = |memory: Vec<u8>| MemoryPool::open(memory).map(|_| ()).unwrap_err();
    assert_eq!(open(vec![0; 1 << 20]), PoolError::NotAPool);
    assert_eq!(open(Vec::new()), PoolError::NotAPool);
    assert_eq!(open(vec![0xff; 9]), PoolError::NotAPool);
    let whole = image();
    for (byte, error) in
        [(0, PoolError::NotAPool), (8, PoolError::Version(0)), (16, PoolError::HeaderDamaged)]
    {
        let mut memory = whole.clone();
        memory[byte] ^= 1;
        assert_eq!(open(memory), error);
    }
    let needed = whole.len();
    assert_eq!(open(whole[..needed - 1].to_vec()), PoolError::TooShort { needed, len: needed - 1 });
    assert!(MemoryPool::open(whole).is_ok());
}

#[test]
fn damaged_structures_are_refused_with_their_place() {
    let whole = image();
    let pool = MemoryPool::open(whole.clone()).unwrap();
    let index = pool.volumes.find(volume_id(1)).unwrap();
    let entry = pool.medium.layout.entry_offset(index);
    let leaf = pool.medium.layout.page_offset(pool.volumes.get(index).unwrap().root.page.unwrap());
    let word = |at: usize| whole.load_u64(at).unwrap();
    let cases = [
        (entry + 16, 1, Damage::TableEntry, 0),
        (entry + 64, 0xff, Damage::MapPointer, 0),
        (entry + 64, 1 | u64::MAX << 8, Damage::MapPointer, 0),
        (leaf + 8 * 4, word(leaf + 8 * 3), Damage::Slot, 4),
        (leaf + 8 * 4, u64::MAX, Damage::Slot, 4),
        (leaf + 8 * 4, 1 << 20, Damage::Slot, 4),
        (leaf + 8 * 5, word(leaf + 8 * 4) + 1, Damage::Record, 5),
        (entry + 56, 4, Damage::BeyondEnd, 4),
    ];
    for (offset, value, damage, lba) in cases {
        let mut memory = whole.clone();
        memory.publish_u64(offset, value).unwrap();
        let error = MemoryPool::open(memory).unwrap_err();
        assert_eq!(error, PoolError::Damaged { entry: index.as_usize(), lba, damage });
    }
}

#[test]
fn no_byte_of_the_structures_makes_opening_panic() {
    let whole = image();
    let mut dice = super::journal::Dice::new(9);
    for _ in 0..400 {
        let mut memory = whole.clone();
        for _ in 0..4 {
            let at = dice.below(4096 + 1024 + 64 * 4096) as usize;
            let at = if at > 5120 { at - 5120 + 4096 + 128 * 1024 } else { at };
            memory[at] = dice.next() as u8;
        }
        if let Ok(pool) = MemoryPool::open(memory) {
            audit(&pool);
        }
    }
}

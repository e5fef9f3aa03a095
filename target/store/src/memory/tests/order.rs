//! Pins, and the order of writes and deallocations.

use super::*;

/// A volume with blocks under so many leaves that to deallocate it takes several slices.
fn wide(stores: &mut Stores<Vec<u8>>) -> VolumeId {
    let spec = spec(1, 512, 1 << 30);
    stores.create_volume(pool_id(), &spec).unwrap();
    for leaf in 0..12 {
        write(stores, spec.id, leaf * 100_000, 3, 100 * leaf).unwrap();
    }
    spec.id
}

#[test]
fn a_superseded_slot_keeps_its_bytes_until_it_is_unpinned() {
    for (block_len, ticks) in [(512, 4000), (4096, 1000)] {
        let mut stores = stores_of(pool_in(&config()));
        let spec = spec(1, block_len, 64);
        stores.create_volume(pool_id(), &spec).unwrap();
        write(&mut stores, spec.id, 5, 2, 10).unwrap();
        let first = pin(&mut stores, spec.id, 5, 2);
        let second = pin(&mut stores, spec.id, 5, 2);
        let tuple_len = tuple_len(&stores, spec.id);
        // Enough writes to go round all slots.
        for seed in 0..ticks {
            write(&mut stores, spec.id, 5, 2, 100 + seed).unwrap();
        }
        assert_eq!(seeds(&stores, spec.id, &first, tuple_len), [Some(10), Some(11)]);
        stores.unpin(spec.id, &first);
        audit_all(&stores);
        write(&mut stores, spec.id, 5, 2, 20).unwrap();
        assert_eq!(seeds(&stores, spec.id, &second, tuple_len), [Some(10), Some(11)]);
        stores.unpin(spec.id, &second);
        audit_all(&stores);
        assert_eq!(read(&mut stores, spec.id, 5, 2), [Some(20), Some(21)]);
    }
}

#[test]
fn pinned_blocks_outlive_their_volume() {
    let mut stores = stores_of(pool_in(&config()));
    let spec = spec(1, 4096, 64);
    stores.create_volume(pool_id(), &spec).unwrap();
    write(&mut stores, spec.id, 0, 4, 10).unwrap();
    let slots = pin(&mut stores, spec.id, 0, 4);
    let reserved = filled(&mut stores, spec.id, 2, 50).unwrap();
    stores.delete_volume(spec.id).unwrap();
    assert_eq!(stores.geometry(spec.id), None);
    assert_eq!(stores.usage(spec.id), None);
    assert_eq!(stores.volumes().count(), 0);
    drain(&mut stores);
    assert_eq!(stores.pool(pool_id()).unwrap().usage().allocated_bytes, 0);
    assert_eq!(seeds(&stores, spec.id, &slots, 16), [Some(10), Some(11), Some(12), Some(13)]);
    assert_eq!(stores.remove_pool(pool_id()).unwrap_err(), crate::PoolError::InUse(pool_id()));
    stores.unpin(spec.id, &slots);
    assert_eq!(publish(&mut stores, spec.id, 0, reserved), Err(StoreError::NoVolume));
    audit_all(&stores);
    assert!(stores.remove_pool(pool_id()).is_ok());
    assert!(stores.remove_pool(pool_id()).is_err());
}

#[test]
fn operations_take_effect_in_the_order_in_which_they_were_submitted() {
    let mut stores = stores_of(pool_in(&config()));
    let spec = spec(1, 512, 1000);
    stores.create_volume(pool_id(), &spec).unwrap();
    write(&mut stores, spec.id, 510, 4, 10).unwrap();
    let volume = spec.id;
    let read =
        |token| StoreOp::Read { token, volume, lba: Lba(510), blocks: BlockCount::new(4), slots: Vec::new() };
    for round in 0..3 {
        let [seed, next] = [100 + round, 200 + round];
        let ops = [filled(&mut stores, volume, 2, seed), filled(&mut stores, volume, 1, next)];
        let [first, second] = ops.map(Result::unwrap);
        stores.submit(StoreOp::Publish { token: 4, volume, lba: Lba(511), slots: first, durable: false });
        stores.submit(read(5));
        stores.submit(StoreOp::Deallocate { token: 6, volume, lba: Lba(512), blocks: 1, slots: Vec::new() });
        stores.submit(read(7));
        stores.submit(StoreOp::Publish { token: 8, volume, lba: Lba(512), slots: second, durable: false });
        stores.submit(read(9));
        let done: Vec<StoreDone> = std::iter::from_fn(|| stores.poll()).collect();
        let found = |token| {
            let done = done.iter().find(|done| done.token == token).unwrap();
            assert_eq!(done.result, Ok(()));
            seeds(&stores, volume, &done.slots, tuple_len(&stores, volume))
        };
        assert_eq!(found(5), [Some(10), Some(seed), Some(seed + 1), Some(13)]);
        assert_eq!(found(7), [Some(10), Some(seed), None, Some(13)]);
        assert_eq!(found(9), [Some(10), Some(seed), Some(next), Some(13)]);
        for pinned in done.iter().filter(|done| [5, 7, 9].contains(&done.token)) {
            stores.unpin(volume, &pinned.slots);
        }
        audit_all(&stores);
    }
}

#[test]
fn a_reservation_gets_the_slots_that_writes_which_wait_will_free() {
    let mut stores = stores_of(pool_in(&config()));
    let spec = spec(1, 4096, 64);
    stores.create_volume(pool_id(), &spec).unwrap();
    let rounds = 1000;
    for token in 0..rounds {
        let slots = filled(&mut stores, spec.id, 2, 10).unwrap();
        stores.submit(StoreOp::Publish { token, volume: spec.id, lba: Lba(7), slots, durable: false });
    }
    let done: Vec<StoreDone> = std::iter::from_fn(|| stores.poll()).collect();
    assert_eq!(done.len(), rounds as usize);
    assert!(done.iter().all(|done| done.result == Ok(())));
    assert_eq!(read(&mut stores, spec.id, 7, 2), [Some(10), Some(11)]);
    audit_all(&stores);
}

#[test]
fn operations_that_wait_while_their_volume_is_deleted_fail_and_leave_nothing() {
    let mut stores = stores_of(pool_in(&config()));
    let spec = spec(1, 4096, 64);
    stores.create_volume(pool_id(), &spec).unwrap();
    write(&mut stores, spec.id, 0, 2, 10).unwrap();
    let slots = filled(&mut stores, spec.id, 2, 50).unwrap();
    let blocks = BlockCount::new(2);
    stores.submit(StoreOp::Publish { token: 4, volume: spec.id, lba: Lba(0), slots, durable: false });
    stores.submit(StoreOp::Read { token: 5, volume: spec.id, lba: Lba(0), blocks, slots: Vec::new() });
    stores.delete_volume(spec.id).unwrap();
    for token in [4, 5] {
        assert_eq!(wait(&mut stores, token).result, Err(StoreError::NoVolume));
    }
    drain(&mut stores);
    audit_all(&stores);
    assert!(stores.remove_pool(pool_id()).is_ok());
}

#[test]
fn large_deallocation_takes_several_polls_and_then_everything_is_a_hole() {
    let mut stores = stores_of(pool_in(&config()));
    let id = wide(&mut stores);
    start_deallocate(&mut stores, 9, id, 0, 1 << 30);
    assert!(stores.poll().is_none());
    assert!(stores.usage(id).unwrap().blocks_allocated > 0, "not all at once");
    assert!(stores.has_work());
    let done = wait(&mut stores, 9);
    assert_eq!(done.result, Ok(()));
    assert_eq!(stores.usage(id).unwrap().blocks_allocated, 0);
    assert_eq!(read(&mut stores, id, 100_000, 3), [None; 3]);
    audit_all(&stores);
}

#[test]
fn a_later_write_survives_an_earlier_deallocation_wherever_that_is() {
    for slices in 0..6 {
        for leaf in 0..12 {
            let mut stores = stores_of(pool_in(&config()));
            let id = wide(&mut stores);
            start_deallocate(&mut stores, 9, id, 1, (1 << 30) - 1);
            let mut ended = None;
            for _ in 0..slices {
                ended = ended.or(stores.poll());
            }
            // One block of the three is written anew, and one beside them that was a hole.
            for lba in [leaf * 100_000 + 1, leaf * 100_000 + 300] {
                let slots = filled(&mut stores, id, 1, 7_000 + lba).unwrap();
                stores.submit(StoreOp::Publish { token: 8, volume: id, lba: Lba(lba), slots, durable: true });
            }
            while stores.has_work() {
                stores.poll();
            }
            assert_eq!(stores.usage(id).unwrap().blocks_allocated, 3, "block 0 and the two written later");
            assert_eq!(read(&mut stores, id, 0, 1), [Some(0)]);
            let lba = leaf * 100_000 + 1;
            assert_eq!(read(&mut stores, id, lba, 1), [Some(7_000 + lba)]);
            assert_eq!(read(&mut stores, id, lba + 299, 1), [Some(7_299 + lba)]);
            assert_eq!(read(&mut stores, id, lba + 1, 1), [None]);
            audit_all(&stores);
        }
    }
}

#[test]
fn a_write_between_two_deallocations_survives_the_first_and_not_the_second() {
    let mut stores = stores_of(pool_in(&config()));
    let id = wide(&mut stores);
    start_deallocate(&mut stores, 20, id, 0, 1 << 30);
    for (lba, seed) in [(1_100_000, 1), (1_000_000, 2), (900_000, 3)] {
        let slots = filled(&mut stores, id, 1, seed).unwrap();
        stores.submit(StoreOp::Publish { token: 8, volume: id, lba: Lba(lba), slots, durable: false });
    }
    start_deallocate(&mut stores, 21, id, 1_000_000, 50_000);
    let slots = filled(&mut stores, id, 1, 4).unwrap();
    stores.submit(StoreOp::Publish { token: 8, volume: id, lba: Lba(1_000_001), slots, durable: false });
    let mut tokens = Vec::new();
    while stores.has_work() {
        tokens.extend(stores.poll().map(|done| done.token));
    }
    tokens.sort_unstable();
    assert_eq!(tokens, [8, 8, 8, 8, 20, 21], "each operation ends once");
    assert_eq!(read(&mut stores, id, 1_100_000, 2), [Some(1), None]);
    assert_eq!(read(&mut stores, id, 1_000_000, 3), [None, Some(4), None]);
    assert_eq!(read(&mut stores, id, 900_000, 1), [Some(3)]);
    assert_eq!(stores.usage(id).unwrap().blocks_allocated, 3);
    audit_all(&stores);
}

#[test]
fn deallocating_the_whole_of_the_largest_volume_ends_soon() {
    let mut stores = stores_of(pool_in(&config()));
    let spec = spec(1, 512, super::super::VOLUME_BLOCKS_MAX);
    stores.create_volume(pool_id(), &spec).unwrap();
    for lba in [0, 1 << 20, 1 << 43, spec.block_count - 1] {
        write(&mut stores, spec.id, lba, 1, 5).unwrap();
    }
    start_deallocate(&mut stores, 9, spec.id, 0, spec.block_count);
    let polls = (1..).find(|_| stores.poll().is_some()).unwrap();
    assert!(polls < 20, "{polls} slices for four blocks");
    assert_eq!(stores.usage(spec.id).unwrap().blocks_allocated, 0);
    audit_all(&stores);
}

#[test]
fn many_deallocations_at_once_end_once_each_and_stay_bounded() {
    let mut stores = stores_of(pool_in(&config()));
    let id = wide(&mut stores);
    let mut ended = HashSet::new();
    for token in 0..300 {
        for leaf in 0..12 {
            let slots = filled(&mut stores, id, 1, 1).unwrap();
            let lba = Lba(leaf * 100_000);
            stores.submit(StoreOp::Publish { token: 1_000_000, volume: id, lba, slots, durable: false });
        }
        start_deallocate(&mut stores, token, id, 0, 1 << 30);
        assert!(stores.pool(pool_id()).unwrap().jobs.len() <= 64);
    }
    while stores.has_work() {
        let token = stores.poll().map(|done| done.token).filter(|token| *token < 1_000_000);
        assert!(token.is_none_or(|token| ended.insert(token)), "ended twice");
    }
    assert_eq!(ended.len(), 300);
    assert_eq!(stores.usage(id).unwrap().blocks_allocated, 0);
    audit_all(&stores);
}

#[test]
fn a_volume_deleted_under_a_deallocation_ends_it() {
    let mut stores = stores_of(pool_in(&config()));
    let id = wide(&mut stores);
    start_deallocate(&mut stores, 9, id, 0, 1 << 30);
    stores.delete_volume(id).unwrap();
    assert_eq!(wait(&mut stores, 9).result, Err(StoreError::NoVolume));
    drain(&mut stores);
    audit_all(&stores);
    assert!(stores.remove_pool(pool_id()).is_ok());
}

#[test]
fn operations_outside_a_volume_are_refused_and_change_nothing() {
    let mut stores = stores_of(pool_in(&config()));
    let spec = spec(1, 4096, 100);
    stores.create_volume(pool_id(), &spec).unwrap();
    for lba in [99, 100, u64::MAX - 1, u64::MAX] {
        assert_eq!(write(&mut stores, spec.id, lba, 2, 1), Err(StoreError::OutOfRange), "{lba}");
        let blocks = BlockCount::new(2);
        stores.submit(StoreOp::Read { token: 4, volume: spec.id, lba: Lba(lba), blocks, slots: Vec::new() });
        let done = wait(&mut stores, 4);
        assert_eq!((done.result, done.slots.len()), (Err(StoreError::OutOfRange), 0));
        start_deallocate(&mut stores, 5, spec.id, lba, 2);
        assert_eq!(wait(&mut stores, 5).result, Err(StoreError::OutOfRange));
        start_deallocate(&mut stores, 5, spec.id, lba, u64::MAX);
        assert_eq!(wait(&mut stores, 5).result, Err(StoreError::OutOfRange));
    }
    let nobody = volume_id(99);
    assert_eq!(
        stores.reserve(nobody, Lba(0), BlockCount::new(1), &mut Vec::new()),
        Err(StoreError::NoVolume)
    );
    stores.submit(StoreOp::Flush { token: 6, volume: nobody, slots: Vec::new() });
    assert_eq!(wait(&mut stores, 6).result, Err(StoreError::NoVolume));
    stores.submit(StoreOp::Flush { token: 6, volume: spec.id, slots: Vec::new() });
    assert_eq!(wait(&mut stores, 6).result, Ok(()));
    assert_eq!(stores.usage(spec.id).unwrap().blocks_allocated, 0);
    audit_all(&stores);
}

#[test]
fn slots_of_another_volume_or_not_reserved_are_not_given_out() {
    let mut stores = stores_of(pool_in(&config()));
    let (mine, other) = (spec(1, 4096, 100), spec(2, 4096, 100));
    stores.create_volume(pool_id(), &mine).unwrap();
    stores.create_volume(pool_id(), &other).unwrap();
    let slots = filled(&mut stores, mine.id, 1, 1).unwrap();
    assert!(stores.data_mut(other.id, slots[0]).is_none());
    assert!(stores.data(other.id, slots[0]).is_none());
    assert!(stores.location(other.id, slots[0]).is_none());
    publish(&mut stores, mine.id, 0, slots.clone()).unwrap();
    assert!(stores.data_mut(mine.id, slots[0]).is_none(), "a published slot is never written again");
    for raw in [0, u64::MAX, 1 << 40, 100_000] {
        assert!(stores.data(mine.id, SlotRef::from_raw(raw)).is_none());
        assert_eq!(stores.record(mine.id, SlotRef::from_raw(raw)), BlockRecord::hole());
    }
}

#[test]
fn locations_lead_to_the_data_in_the_region() {
    let mut stores = stores_of(pool_in(&config()));
    let spec = spec(1, 512, 100);
    stores.create_volume(pool_id(), &spec).unwrap();
    write(&mut stores, spec.id, 0, 8, 40).unwrap();
    let slots = pin(&mut stores, spec.id, 0, 9);
    let mut end = None;
    for slot in &slots[..8] {
        let location = stores.location(spec.id, *slot).unwrap();
        assert_eq!(location.region, 5);
        assert!(end.is_none_or(|end| end == location.offset), "a run is contiguous");
        end = Some(location.offset + 512);
        let bytes = stores.pool(pool_id()).unwrap().medium.memory.slice(location.offset, 512).unwrap();
        assert_eq!(bytes, stores.data(spec.id, *slot).unwrap());
    }
    assert!(slots[8].is_hole() && stores.location(spec.id, slots[8]).is_none());
}

#[test]
fn a_range_no_longer_than_a_write_vanishes_at_once() {
    let mut stores = stores_of(pool_in(&config()));
    let id = wide(&mut stores);
    for lba in [0, 600, 1200, 2046] {
        write(&mut stores, id, lba, 2, 50).unwrap();
    }
    start_deallocate(&mut stores, 3, id, 0, 2048);
    assert_eq!(
        read(&mut stores, id, 0, 2048).iter().flatten().count(),
        0,
        "a reader behind it finds nothing"
    );
    audit_all(&stores);
}

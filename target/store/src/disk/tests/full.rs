//! How full a pool is, and what it says when something does not fit.

use holdfast_block::{BlockCount, Lba, SlotRef, Store, StoreDone, StoreError, StoreOp};

use super::super::io::DiskOp;
use super::{Disk, carry_out, create_with, pool_id, settle, spec, write};
use crate::{Stores, VolumeSpec};

fn result_of(done: &[StoreDone], token: u32) -> Result<(), StoreError> {
    done.iter().find(|done| done.token == token).unwrap().result
}

/// A write under a token of its own.
fn write_as(stores: &mut Stores<Vec<u8>>, volume: &VolumeSpec, lba: u64, blocks: u32, as_token: u32) {
    let mut op = write(stores, volume, lba, blocks, 1).unwrap();
    if let StoreOp::Publish { token, .. } = &mut op {
        *token = as_token;
    }
    stores.submit(op);
}

/// Writes from `lba` on until the pool is full. Gives the first block that did not fit.
fn fill(stores: &mut Stores<Vec<u8>>, disk: &Disk, volume: &VolumeSpec, blocks: u32) -> u64 {
    (0..volume.block_count)
        .step_by(usize::try_from(blocks).unwrap())
        .find(|lba| {
            write_as(stores, volume, *lba, blocks, 7);
            let result = result_of(&settle(stores, disk), 7);
            assert!(matches!(result, Ok(()) | Err(StoreError::NoRoom)), "{result:?}");
            result.is_err()
        })
        .unwrap()
}

#[test]
fn payloads_under_way_are_no_reason_to_call_the_pool_full() {
    let volume = spec(1, 4096, 100_000);
    let (disk, mut stores) = create_with(&volume);
    let mut held: Vec<Vec<SlotRef>> = Vec::new();
    let refused = loop {
        let mut slots = Vec::new();
        match stores.reserve(volume.id, Lba(0), BlockCount::new(100), &mut slots) {
            Ok(()) => held.push(slots),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, StoreError::Busy);
    held.iter().for_each(|slots| stores.unreserve(volume.id, slots));
    fill(&mut stores, &disk, &volume, 64);
}

#[test]
fn blocks_of_a_cut_last_cell_are_counted_one_by_one() {
    let volume = spec(1, 512, 20);
    let (disk, mut stores) = create_with(&volume);
    for (lba, blocks, allocated) in [(19, 1, 4), (0, 1, 12), (8, 12, 20)] {
        write_as(&mut stores, &volume, lba, blocks, 1);
        settle(&mut stores, &disk);
        assert_eq!(stores.usage(volume.id).unwrap().blocks_allocated, allocated);
    }
}

#[test]
fn cells_that_are_about_to_be_emptied_and_written_again_count_against_the_room() {
    let volume = spec(1, 4096, 100_000);
    let (disk, mut stores) = create_with(&volume);
    let end = fill(&mut stores, &disk, &volume, 64);

    let slots = Vec::new();
    stores.submit(StoreOp::Deallocate { token: 3, volume: volume.id, lba: Lba(0), blocks: 64, slots });
    assert!(stores.poll().is_none());
    let (pool, op) = stores.next_disk_op().unwrap();
    write_as(&mut stores, &volume, 0, 64, 4);
    carry_out(&mut stores, &disk, pool, op);
    // The cells are holes now, and will be none.
    write_as(&mut stores, &volume, end, 64, 5);
    let done = settle(&mut stores, &disk);
    assert_eq!([3, 4, 5].map(|token| result_of(&done, token)), [Ok(()), Ok(()), Err(StoreError::NoRoom)]);
    let usage = stores.disk_pool(pool_id()).unwrap().usage();
    assert!(usage.allocated_bytes <= usage.capacity_bytes, "{usage:?}");
}

#[test]
fn what_was_emptied_gives_room_once_that_is_durable() {
    let volume = spec(1, 4096, 100_000);
    let (disk, mut stores) = create_with(&volume);
    let end = fill(&mut stores, &disk, &volume, 64);
    let slots = Vec::new();
    stores.submit(StoreOp::Deallocate { token: 3, volume: volume.id, lba: Lba(0), blocks: 64, slots });
    assert_eq!(result_of(&settle(&mut stores, &disk), 3), Ok(()));

    // Without the flush a power cut could bring back what was emptied, and leave what was written.
    write_as(&mut stores, &volume, end, 64, 4);
    assert!(stores.poll().is_none());
    let mut flushed = false;
    while let Some((pool, op)) = stores.next_disk_op() {
        flushed |= matches!(op, DiskOp::Flush { .. });
        assert!(flushed, "{op:?}");
        carry_out(&mut stores, &disk, pool, op);
    }
    assert_eq!(result_of(&settle(&mut stores, &disk), 4), Ok(()));
}

#[test]
fn scattered_writes_under_way_do_not_pass_the_maps_budget_together() {
    const PAGES: u64 = 40;
    let volume = spec(1, 4096, 1 << 40);
    let (disk, mut stores) = create_with(&volume);
    stores.disk_pool_mut(pool_id()).unwrap().set_map_bytes_max(PAGES * 4096);
    for token in 10..90 {
        write_as(&mut stores, &volume, u64::from(token) << 20, 1, token);
    }
    let done = settle(&mut stores, &disk);
    let pages = stores.disk_pool(pool_id()).unwrap().map_bytes() / 4096;
    let written = done.iter().filter(|done| done.result.is_ok()).count();
    assert!(pages <= PAGES, "{pages} pages for {written} blocks");
    assert!(done.iter().all(|done| matches!(done.result, Ok(()) | Err(StoreError::NoRoom))));
    // Promises that came to nothing are taken back: one after the other as many fit.
    assert!(written > 10, "{written}");
    write_as(&mut stores, &volume, 11 << 20, 1, 1);
    assert_eq!(result_of(&settle(&mut stores, &disk), 1), Ok(()), "what is there can be written again");
}

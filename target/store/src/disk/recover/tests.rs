//! Facts about recovery that the format's own check can see.

use holdfast_block::{Lba, Store, StoreOp};

use crate::disk::check::{CheckOptions, CheckReport, Problem, check};
use crate::disk::find_pool;
use crate::disk::format::{JournalBuilder, JournalStamp, Page, SLOT_LEN, Superblock, WINDOW};
use crate::disk::io::Device;
use crate::disk::tests::{Dice, Disk, create, open, pool_id, settle, spec, write};

const POOL_BYTES: usize = 24 << 20;

fn checked(disk: &Disk) -> CheckReport {
    let report = check(disk, CheckOptions { data: true }, &mut |_| ()).unwrap();
    assert!(!report.is_damaged(), "{:?}", report.findings);
    report
}

fn superblock(disk: &Disk) -> Superblock {
    find_pool(disk).unwrap().unwrap()
}

/// Leaves a journal block as a loss of power may leave it: one that was written and never flushed.
fn leave_block(disk: &Disk, number: u64) {
    let superblock = superblock(disk);
    let (mut block, pool_tag): (Page, u64) = ([0; SLOT_LEN], superblock.journal_tag());
    let stamp = JournalStamp { pool_tag, number, durable_through: 0, generation: superblock.generation };
    JournalBuilder::new().finish(&mut block, &stamp);
    disk.write_at(superblock.layout.journal_slot(number) * SLOT_LEN as u64, &block).unwrap();
}

#[test]
fn whatever_a_pool_writes_is_right_to_the_check() {
    for seed in 1..=8 {
        let mut dice = Dice(seed);
        let disk = Disk::new(POOL_BYTES);
        let mut stores = create(&disk);
        let volumes = [spec(1, 4096, 1500), spec(2, 512, 3001), spec(3, 512, 64)];
        for volume in &volumes {
            stores.create_named_volume(pool_id(), volume, "v").unwrap();
        }
        settle(&mut stores, &disk);
        for version in 1..400_u64 {
            let volume = &volumes[usize::try_from(dice.below(3)).unwrap()];
            let len = 1 + dice.below(60);
            let lba = dice.below(volume.block_count - len + 1);
            match dice.below(12) {
                0..=6 => {
                    let op = write(&mut stores, volume, lba, u32::try_from(len).unwrap(), version).unwrap();
                    stores.submit(op);
                }
                7 => stores.submit(StoreOp::Deallocate {
                    token: 3,
                    volume: volume.id,
                    lba: Lba(lba),
                    blocks: len,
                    slots: Vec::new(),
                }),
                8 => stores.submit(StoreOp::Flush { token: 4, volume: volume.id, slots: Vec::new() }),
                _ => drop(settle(&mut stores, &disk)),
            }
            if dice.below(60) == 0 {
                settle(&mut stores, &disk);
                let before = checked(&disk);
                assert!(!before.journal.as_ref().unwrap().closed);
                stores = open(&disk);
                let after = checked(&disk);
                assert_eq!(after.volumes, before.volumes, "the check knew what recovery would choose");
                assert_eq!(after.journal.unwrap().blocks, 0);
            }
        }
        settle(&mut stores, &disk);
        stores.disk_pool_mut(pool_id()).unwrap().close();
        settle(&mut stores, &disk);
        let report = checked(&disk);
        assert_eq!((report.worst, report.findings), (None, Vec::new()), "seed {seed}");
        assert!(report.journal.unwrap().closed);
    }
}

#[test]
fn numbers_go_on_above_blocks_that_lie_behind_the_end_of_the_log() {
    let disk = Disk::new(POOL_BYTES);
    drop(create(&disk));
    let start = superblock(&disk).journal_start;
    let behind = start + WINDOW + 5;
    leave_block(&disk, start);
    leave_block(&disk, behind);
    let report = checked(&disk);
    assert_eq!(report.journal.unwrap().end, start);
    assert!(report.findings.iter().any(|finding| finding.problem == Problem::JournalBehindEnd));
    drop(open(&disk));
    let superblock = superblock(&disk);
    assert!(superblock.journal_start > behind, "or the block would be taken for a new one later");
    assert_eq!(superblock.journal_start, superblock.next_number);
    assert!(checked(&disk).journal.unwrap().blocks == 0);
}

#[test]
fn log_does_not_begin_with_a_gap_when_no_block_has_survived() {
    let disk = Disk::new(POOL_BYTES);
    drop(create(&disk));
    let mut ahead = superblock(&disk);
    ahead.next_number += 50;
    let mut page = [0; SLOT_LEN];
    for (copy, slot) in (0..).zip(Superblock::SLOTS) {
        ahead.encode(copy, &mut page);
        disk.write_at(slot * SLOT_LEN as u64, &page).unwrap();
    }
    let mut stores = open(&disk);
    assert!(superblock(&disk).journal_start >= ahead.next_number);
    let volume = spec(1, 4096, 100);
    stores.create_named_volume(pool_id(), &volume, "v").unwrap();
    settle(&mut stores, &disk);
    let stores = open(&disk);
    assert_eq!(stores.disk_pool(pool_id()).unwrap().volumes().count(), 1);
}

#[test]
fn closed_pool_is_opened_without_a_write() {
    let disk = Disk::new(POOL_BYTES);
    let mut stores = create(&disk);
    stores.disk_pool_mut(pool_id()).unwrap().close();
    settle(&mut stores, &disk);
    let written = *disk.written.borrow();
    drop(open(&disk));
    assert_eq!(*disk.written.borrow(), written);
}

#[test]
fn place_of_a_deleted_volume_rests_until_a_checkpoint_knows() {
    let disk = Disk::new(POOL_BYTES);
    let mut stores = create(&disk);
    let (old, new) = (spec(1, 512, 800), spec(2, 4096, 100));
    stores.create_named_volume(pool_id(), &old, "old").unwrap();
    settle(&mut stores, &disk);
    let op = write(&mut stores, &old, 0, 8, 1).unwrap();
    stores.submit(op);
    settle(&mut stores, &disk);
    stores.delete_volume(old.id).unwrap();
    settle(&mut stores, &disk);
    stores.create_named_volume(pool_id(), &new, "new").unwrap();
    settle(&mut stores, &disk);
    let places = |disk: &Disk| checked(disk).volumes.iter().map(|volume| volume.place).collect::<Vec<_>>();
    assert_eq!(places(&disk), [1], "place 0 is still spoken of in the journal");
    stores = open(&disk);
    stores.create_named_volume(pool_id(), &old, "old").unwrap();
    settle(&mut stores, &disk);
    assert_eq!(places(&disk), [0, 1]);
}

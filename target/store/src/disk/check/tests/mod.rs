//! Facts about the check: a right pool is right, and whatever is changed is named.

mod hostile;
mod pool;

use holdfast_block::VolumeId;

use super::super::format::*;
use super::*;
use pool::{Pool, other_host, volume_entry};

/// Structure, problem, first block and count of each finding that is more than a note.
fn found(report: &CheckReport) -> Vec<(Structure, Problem, Option<u64>, Option<u64>)> {
    let findings = report.findings.iter().filter(|finding| finding.severity > Severity::Note);
    findings
        .map(|finding| (finding.structure, finding.problem, finding.first_lba, finding.block_count))
        .collect()
}

fn problems(report: &CheckReport) -> Vec<Problem> {
    report.findings.iter().map(|finding| finding.problem).collect()
}

fn more_than_notes(report: &CheckReport) -> Vec<Problem> {
    found(report).into_iter().map(|(_, problem, _, _)| problem).collect()
}

#[test]
fn right_pools_are_right_and_everything_was_looked_at() {
    let report = Pool::empty().check_data();
    assert_eq!((report.worst, report.findings.len(), report.volumes.len()), (None, 0, 0));
    assert_eq!(report.pool.unwrap().data_slots_used, 4, "directory and writers, twice each");

    let report = Pool::with_volumes().check_data();
    assert_eq!((report.worst, &report.findings), (None, &Vec::new()));
    let pool = report.pool.as_ref().unwrap();
    assert_eq!((pool.name.as_str(), pool.size_bytes), ("tank", 8 << 20));
    assert_eq!(pool.uuid, "6120706f-6f6c-2066-6f72-207465737473");
    let looked_at = LookedAt {
        superblocks: 2,
        journal_places: 64,
        table_pages: 8,
        map_pages: 2 + 3 + 3,
        cells: 10,
        cells_data: 10,
    };
    assert_eq!(report.looked_at, looked_at);
    assert_eq!(pool.data_slots_used, looked_at.table_pages + looked_at.map_pages + looked_at.cells);
    let live: Vec<_> = report.volumes.iter().map(|volume| (volume.place, volume.blocks_live)).collect();
    assert_eq!(live, [(0, 6), (17, 3 * 8 + 3)]);
    let journal = report.journal.as_ref().unwrap();
    assert_eq!((journal.closed, journal.blocks, journal.end), (true, 0, 0));
}

#[test]
fn progress_ends_where_it_said() {
    let mut last = Vec::new();
    let pool = Pool::with_volumes();
    check(&pool.medium, CheckOptions { data: true }, &mut |progress| last.push(progress)).unwrap();
    assert_eq!(last.last(), Some(&CheckProgress { step: CheckStep::Cells, done: 10, total: 10 }));
    assert_eq!(last.first(), Some(&CheckProgress { step: CheckStep::Journal, done: 0, total: 64 }));
}

#[test]
fn what_is_no_pool_is_refused() {
    let mut pool = Pool::empty();
    pool.medium.bytes.fill(0);
    let refused = |pool: &Pool| check(&pool.medium, CheckOptions::default(), &mut |_| ()).unwrap_err();
    assert_eq!(refused(&pool), CheckError::NotAPool);
    pool.medium.bad_slots = vec![0, SECOND_SUPERBLOCK];
    assert_eq!(refused(&pool), CheckError::Device(DiskError::Io));
    pool.medium.bytes.truncate(100);
    assert_eq!(refused(&pool), CheckError::NotAPool);

    let mut pool = Pool::empty();
    pool.superblock.features.incompatible = 2;
    pool.write_superblocks();
    assert_eq!(refused(&pool), CheckError::Unsupported(SuperblockError::Features(2)));
}

/// Bytes to be changed in turn: all of the head, and others all over the page. (That the checksum of each structure covers
/// every byte is a fact about the format.)
fn bytes_to_change() -> impl Iterator<Item = usize> {
    (0..64).chain((64..SLOT_LEN).step_by(13)).chain(SLOT_LEN - 8..SLOT_LEN)
}

/// Bytes of a page changed in turn, and what the check says to it.
fn change_bytes(of: &[&str], expected: impl Fn(&CheckReport) -> bool) {
    let mut pool = Pool::with_volumes();
    let slots: Vec<_> = pool.pages.iter().filter(|(name, _)| of.contains(name)).copied().collect();
    assert!(!slots.is_empty());
    for (name, slot) in slots {
        for at in bytes_to_change() {
            let bit = 1 << (at % 8);
            pool.page_mut(slot)[at] ^= bit;
            let report = pool.check();
            assert!(expected(&report), "{name}, byte {at}: {:?}", report.findings);
            assert!(report.findings.iter().all(|finding| finding.slot == Some(slot)), "{name}, byte {at}");
            pool.page_mut(slot)[at] ^= bit;
        }
    }
    assert_eq!(pool.check().worst, None);
}

#[test]
fn changed_byte_of_one_copy_is_a_warning_that_names_it() {
    let one_copy = |report: &CheckReport| problems(report) == [Problem::CopyDamaged];
    change_bytes(&["superblock", "superblock copy"], one_copy);
    change_bytes(&["directory", "volumes copy"], one_copy);
    change_bytes(&["directory copy", "writers"], one_copy);
}

#[test]
fn changed_byte_of_a_map_is_damage_that_names_its_blocks() {
    change_bytes(&["large root"], |report| {
        found(report) == [(Structure::MapPage, Problem::PageDamaged, Some(0), Some(1000))]
    });
    change_bytes(&["small leaf"], |report| match found(report).as_slice() {
        [(Structure::MapPage, Problem::PageDamaged, first, count)] => {
            [(Some(0), Some(312)), (Some(312), Some(312)), (Some(936), Some(67))].contains(&(*first, *count))
        }
        _ => false,
    });
}

#[test]
fn both_copies_gone_is_fatal() {
    for (names, structure) in [
        (["superblock", "superblock copy"], Structure::Superblock),
        (["directory", "directory copy"], Structure::Directory),
        (["volumes", "volumes copy"], Structure::VolumeTable),
        (["writers", "writers copy"], Structure::WriterTable),
    ] {
        let mut pool = Pool::with_volumes();
        for name in names {
            let slot = pool.page_slot(name);
            pool.page_mut(slot)[100] ^= 1;
        }
        let report = pool.check();
        assert_eq!(report.worst, Some(Severity::Fatal));
        assert!(report.findings.iter().any(|f| (f.structure, f.problem) == (structure, Problem::CopiesLost)));
        assert!(report.is_damaged());
    }
}

#[test]
fn unreadable_slots_are_told_from_damaged_ones() {
    let mut pool = Pool::with_volumes();
    let (superblock, leaf) = (pool.page_slot("superblock copy"), pool.page_slot("large leaf"));
    let data = pool.image(0, 127).slot();
    pool.medium.bad_slots = vec![superblock, leaf, data, pool.superblock.layout.journal_slot(5)];
    let expected = [
        (Structure::Superblock, Problem::CopyUnreadable, None, None),
        (Structure::Journal, Problem::JournalUnreadable, None, None),
        (Structure::MapPage, Problem::PageUnreadable, Some(0), Some(127)),
        (Structure::Data, Problem::DataUnreadable, Some(127), Some(1)),
    ];
    assert_eq!(found(&pool.check_data()), expected);
}

#[test]
fn changed_data_is_found_with_its_blocks_and_only_there() {
    let mut pool = Pool::with_volumes();
    for (place, cell) in [(0, 1), (0, 2), (17, 125)] {
        let slot = pool.image(place, cell).slot();
        pool.page_mut(slot)[4095] ^= 0x80;
    }
    assert_eq!(pool.check().worst, None);
    let report = pool.check_data();
    let expected = [
        (Structure::Data, Problem::DataDamaged, Some(1), Some(2)),
        (Structure::Data, Problem::DataDamaged, Some(1000), Some(3)),
    ];
    assert_eq!(found(&report), expected);
    assert_eq!(report.volumes.iter().map(|volume| volume.blocks_lost).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(report.findings[0].volume.as_deref(), Some("0000000000000100"));
}

#[test]
fn data_of_other_cells_and_volumes_is_not_taken_for_a_cells_own() {
    let mut pool = Pool::with_volumes();
    let image = pool.image(0, 1).bytes().to_vec();
    pool.set_image(0, 5, image);
    pool.commit();
    let expected = [
        (Structure::Cell, Problem::SlotTwice, Some(5), Some(1)),
        (Structure::Data, Problem::DataDamaged, Some(5), Some(1)),
    ];
    assert_eq!(found(&pool.check_data()), expected);
}

#[test]
fn images_that_cannot_be_are_named() {
    let with = |change: &dyn Fn(&mut CellMut<'_>)| {
        let mut pool = Pool::with_volumes();
        let mut bytes = pool.image(0, 126).bytes().to_vec();
        change(&mut CellMut::new(CellShape::Large, &mut bytes).unwrap());
        pool.set_image(0, 126, bytes);
        pool.commit();
        let found = found(&pool.check());
        assert!(
            found.iter().all(|(_, _, first, count)| (*first, *count) == (Some(126), Some(1))),
            "{found:?}"
        );
        found.into_iter().map(|(_, problem, _, _)| problem).collect::<Vec<_>>()
    };
    assert_eq!(with(&|image| image.set_slot(0)), [Problem::CellImpossible]);
    assert_eq!(with(&|image| image.set_slot(300)), [Problem::CellImpossible]);
    assert_eq!(with(&|image| image.set_slot(2048)), [Problem::CellImpossible]);
    assert_eq!(with(&|image| image.set_block(0, BlockState::Lost, 0, &[])), [Problem::CellImpossible]);
    assert_eq!(with(&|image| image.set_block(0, BlockState::HostGood, 3, &[])), [Problem::WriterUnknown]);
    assert_eq!(with(&|image| image.set_block(0, BlockState::HostGood, WRITER_UNKNOWN, &[])), []);
    let marked = |image: &mut CellMut<'_>| {
        image.clear();
        image.set_block(0, BlockState::Lost, 0, &[]);
    };
    assert_eq!(with(&marked), [Problem::MarkedLost]);
}

#[test]
fn blocks_beyond_the_end_are_named() {
    let mut pool = Pool::with_volumes();
    let mut bytes = pool.image(17, 125).bytes().to_vec();
    let mut image = CellMut::new(CellShape::Small, &mut bytes).unwrap();
    image.set_block(3, BlockState::HostGood, WRITER_UNKNOWN, &[]);
    pool.set_image(17, 125, bytes);
    pool.commit();
    let beyond = (Structure::Cell, Problem::BeyondEnd, Some(1003), Some(1));
    assert!(found(&pool.check()).contains(&beyond));

    let mut pool = Pool::with_volumes();
    pool.set_image(0, 1016, pool.image(0, 1).bytes().to_vec());
    pool.commit();
    assert!(problems(&pool.check()).contains(&Problem::PointerImpossible));
}

#[test]
fn pages_of_others_are_damage() {
    let with = |name, offset: usize, value| {
        let mut pool = Pool::with_volumes();
        pool.tamper = Some((name, Box::new(move |page| page[offset] = value)));
        pool.commit();
        more_than_notes(&pool.check())
    };
    assert_eq!(with("large root", 6, 2), [Problem::PageDamaged], "level");
    assert_eq!(with("large root", 8, 1), [Problem::PageDamaged], "volume");
    assert_eq!(with("large root", 16, 1), [Problem::PageDamaged], "index");
    assert_eq!(with("writers", 5, 2), [Problem::CopyDamaged, Problem::CopyDamaged, Problem::CopiesLost]);
    assert_eq!(with("volumes", 32 + 104, 7), [Problem::VolumeImpossible]);
}

#[test]
fn bad_pointers_condemn_what_is_below_them_alone() {
    let with = |pointer: PagePointer| {
        let mut pool = Pool::with_volumes();
        pool.tamper = Some(("large root", Box::new(move |page| set_pointer(page, 1, pointer))));
        pool.commit();
        found(&pool.check())
    };
    let lost = |problem| [(Structure::MapPage, problem, Some(127), Some(127))];
    assert_eq!(with(PagePointer { slot: 5, checksum: 0 }), lost(Problem::PointerImpossible));
    assert_eq!(with(PagePointer { slot: u64::MAX, checksum: 0 }), lost(Problem::PointerImpossible));
    assert_eq!(with(PagePointer { slot: 2000, checksum: 0 }), lost(Problem::PageDamaged));
    assert_eq!(with(PagePointer::LOST), lost(Problem::MarkedLost));
    let taken = Pool::with_volumes().superblock.layout.data_first();
    assert_eq!(with(PagePointer { slot: taken + 1, checksum: 0 })[..1], lost(Problem::PageDamaged));
}

#[test]
fn volume_that_is_there_twice_is_fatal() {
    let mut pool = Pool::with_volumes();
    let entry = pool.volumes[&0];
    pool.volumes.insert(
        20,
        VolumeEntry { root: PagePointer::NONE, height: 0, cells_live: 0, blocks_live: 0, ..entry },
    );
    pool.commit();
    assert_eq!(more_than_notes(&pool.check()), [Problem::VolumeImpossible]);
}

#[test]
fn counts_that_are_not_the_maps_are_a_warning() {
    let mut pool = Pool::with_volumes();
    pool.tamper = Some((
        "volumes",
        Box::new(|page| {
            // On the second page of the table there is none.
            let Some(mut entry) = volume(page, 0).unwrap() else { return };
            entry.cells_live += 1;
            entry.blocks_live += 1;
            set_volume(page, 0, Some(&entry));
        }),
    ));
    pool.commit();
    assert_eq!(found(&pool.check()), [(Structure::VolumeTable, Problem::CountsDiffer, Some(0), Some(1000))]);
    pool.leave_open();
    assert_eq!(found(&pool.check()), [], "counts of an open pool are those of some moment");
}

#[test]
fn torn_checkpoint_is_a_note_and_the_newer_copy_counts() {
    let mut pool = Pool::with_volumes();
    let older = pool.superblock;
    pool.set_cell(0, 3);
    pool.commit();
    older.encode(1, pool.page_mut(SECOND_SUPERBLOCK));
    let report = pool.check_data();
    assert_eq!((report.worst, problems(&report)), (Some(Severity::Note), vec![Problem::OlderCopy]));
    assert_eq!(report.pool.as_ref().unwrap().generation, 3);
    assert!(!report.is_damaged());
}

#[test]
fn device_that_was_cut_is_fatal() {
    let mut pool = Pool::with_volumes();
    pool.medium.bytes.truncate(7 << 20);
    assert!(problems(&pool.check()).contains(&Problem::DeviceTooShort));
}

#[test]
fn journal_of_an_open_pool_is_replayed_over_the_map() {
    let mut pool = Pool::with_volumes();
    pool.leave_open();
    pool.journal_cell(1, 0, 0, 1);
    pool.journal_cell(2, 1, 0, 500);
    let added = pool.volumes.insert(3, volume_entry(3, CellShape::Large, 10));
    assert!(added.is_none());
    let entry = pool.volumes[&3];
    let gone = pool.volumes[&17].id;
    pool.journal(3, 1, |builder, block| {
        assert!(builder.push_trim(block, 0, 126, 2));
        assert!(builder.push_volume(block, 3, &entry));
        assert!(builder.push_writer(block, 9, other_host()));
        assert!(builder.push_delete(block, 17, gone));
    });
    pool.journal_cell(4, 3, 3, 7);
    let report = pool.check_data();
    assert_eq!((report.worst, problems(&report)), (Some(Severity::Note), vec![Problem::NotClosed]));
    let volumes: Vec<_> = report.volumes.iter().map(|volume| (volume.place, volume.blocks_live)).collect();
    assert_eq!(volumes, [(0, 5), (3, 1)]);
    let journal = report.journal.unwrap();
    assert_eq!((journal.blocks, journal.end, journal.holes, journal.cells), (4, 4, 0, 3));
    assert_eq!((journal.durable_through, journal.cells_not_chosen), (3, 0));
}

#[test]
fn cell_without_its_data_is_chosen_only_if_it_was_durable() {
    for durable in [false, true] {
        let mut pool = Pool::with_volumes();
        pool.leave_open();
        let bytes = pool.journal_cell(1, 0, 0, 1);
        let slot = CellRef::new(CellShape::Large, &bytes).unwrap().slot();
        pool.page_mut(slot)[0] ^= 1;
        pool.journal(2, u64::from(durable), |_, _| ());
        let report = pool.check_data();
        assert_eq!(report.journal.as_ref().unwrap().cells_not_chosen, u64::from(!durable));
        let expected = durable.then_some((Structure::Data, Problem::DataDamaged, Some(1), Some(1)));
        assert_eq!(found(&report), Vec::from_iter(expected));
    }
}

#[test]
fn holes_end_the_log_and_missing_durable_blocks_are_damage() {
    let journal = |numbers: &[(u64, u64)]| {
        let mut pool = Pool::with_volumes();
        pool.leave_open();
        for (number, durable) in numbers {
            pool.journal(*number, *durable, |builder, block| assert!(builder.push_trim(block, 0, 500, 1)));
        }
        let report = pool.check();
        let JournalSummary { blocks, holes, end, .. } = report.journal.clone().unwrap();
        (more_than_notes(&report), blocks, holes, end)
    };
    assert_eq!(journal(&[]), (vec![], 0, 0, 0));
    assert_eq!(journal(&[(1, 0), (2, 1), (5, 2)]), (vec![], 3, 2, 5));
    assert_eq!(journal(&[(32, 0)]), (vec![], 1, 31, 32));
    assert_eq!(journal(&[(33, 0)]), (vec![], 0, 0, 0), "behind the end");
    assert_eq!(journal(&[(1, 0), (5, 2)]), (vec![Problem::JournalBlockMissing], 2, 3, 5));
    assert_eq!(journal(&[(1, 0), (5, 1)]), (vec![], 2, 3, 5));
    assert_eq!(journal(&[(1, 0), (40, 38)]), (vec![Problem::JournalBlockMissing], 1, 0, 1));
}

#[test]
fn blocks_that_cannot_be_are_damage_of_the_journal() {
    let journal = |records: &dyn Fn(&mut JournalBuilder, &mut Page) -> bool| {
        let mut pool = Pool::with_volumes();
        pool.leave_open();
        pool.journal(1, 0, |builder, block| assert!(records(builder, block)));
        more_than_notes(&pool.check())
    };
    let id = |id| VolumeId::new(id).unwrap();
    let impossible = [Problem::JournalBlockImpossible];
    assert_eq!(journal(&|builder, block| builder.push_trim(block, 1024, 0, 1)), impossible);
    assert_eq!(journal(&|builder, block| builder.push_trim(block, 0, 999, 2)), impossible);
    assert_eq!(
        journal(&|builder, block| builder.add_cell(block, 17, 0, CellShape::Large).is_some()),
        impossible
    );
    assert_eq!(journal(&|builder, block| builder.push_delete(block, 0, id(5))), impossible);
    let other = volume_entry(1, CellShape::Large, 5);
    assert_eq!(journal(&|builder, block| builder.push_volume(block, 0, &other)), impossible);
    assert_eq!(journal(&|builder, block| builder.push_trim(block, 5, 0, 1)), impossible);
    let then_deleted = |builder: &mut JournalBuilder, block: &mut Page| {
        builder.push_trim(block, 5, 0, 1) && builder.push_delete(block, 5, id(5))
    };
    assert_eq!(journal(&then_deleted), [], "the map is newer and knows the volume's end");
}

#[test]
fn blocks_at_wrong_places_and_of_later_checkpoints_are_named() {
    let mut pool = Pool::with_volumes();
    pool.superblock.generation += 1;
    pool.journal(1, 0, |_, _| ());
    assert_eq!(problems(&pool.check()), [Problem::SuperblockLost, Problem::NotClosed]);

    let mut pool = Pool::with_volumes();
    let slot = pool.journal(70, 0, |_, _| ());
    assert_eq!(slot, pool.superblock.layout.journal_slot(6));
    assert_eq!(problems(&pool.check()), [Problem::SuperblockLost], "further than the ring is long");
    let page = *pool.page_mut(slot);
    pool.page_mut(slot).fill(0);
    *pool.page_mut(slot + 1) = page;
    assert_eq!(problems(&pool.check()), [Problem::JournalMisplaced]);
}

#[test]
fn changed_byte_of_a_durable_journal_block_is_damage() {
    let mut pool = Pool::with_volumes();
    let slot = pool.journal(1, 0, |builder, block| assert!(builder.push_trim(block, 0, 0, 2)));
    pool.journal(2, 1, |_, _| ());
    assert_eq!(problems(&pool.check()), [Problem::NotClosed]);
    for at in bytes_to_change() {
        pool.page_mut(slot)[at] ^= 2;
        assert_eq!(problems(&pool.check()), [Problem::JournalBlockMissing, Problem::NotClosed], "byte {at}");
        pool.page_mut(slot)[at] ^= 2;
    }
}

#[test]
fn trims_join_and_later_cells_win() {
    let mut pool = Pool::with_volumes();
    pool.leave_open();
    let bytes = pool.new_cell(0, 2);
    let image = CellRef::new(CellShape::Large, &bytes).unwrap();
    pool.journal(1, 0, |builder, block| {
        assert!(builder.push_cell(block, 0, 2, image));
        assert!(builder.push_trim(block, 0, 120, 10));
        assert!(builder.push_trim(block, 0, 0, 2));
        assert!(builder.push_trim(block, 0, 1, 119));
        assert!(builder.push_cell(block, 0, 2, image));
    });
    let report = pool.check_data();
    assert_eq!(report.worst, Some(Severity::Note));
    assert_eq!(report.volumes[0].blocks_live, 2, "cells 2 and 999");
}

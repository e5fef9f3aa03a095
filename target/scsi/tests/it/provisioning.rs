//! WRITE SAME, UNMAP, GET LBA STATUS: blocks that are alike, blocks that are not there, and which those are.

use holdfast_block::{Enforce, View};
use holdfast_pi::PiType;

use crate::world::{BLOCKS, READ, Shown, VERIFY, WRITE, World, cdb10, cdb16, cdb32};

const WRITE_SAME: u8 = 0x93;
const UNMAP: u8 = 0x08;
const NDOB: u8 = 0x01;
const ANCHOR: u8 = 0x10;
const WRONG_BUFFER: Option<(u8, u8, u8)> = Some((5, 0x0e, 0x03));
const INVALID_FIELD: Option<(u8, u8, u8)> = Some((5, 0x24, 0));
const OUT_OF_RANGE: Option<(u8, u8, u8)> = Some((5, 0x21, 0));
const LIST_LENGTH: Option<(u8, u8, u8)> = Some((5, 0x1a, 0));

/// Runs of blocks from `lba` on as GET LBA STATUS tells them: first, how many, deallocated or not.
fn status(world: &mut World, lba: u64, allocation_len: u32) -> Vec<(u64, u32, bool)> {
    let mut cdb = cdb16(0x9e, 0x12, lba, allocation_len);
    cdb[1] = 0x12;
    let answer = world.run(&cdb, &[], 65536).good();
    let len = u32::from_be_bytes(answer[..4].try_into().unwrap()) as usize;
    assert_eq!(len + 4, answer.len());
    let runs = answer[8..].chunks(16).map(|run| {
        assert!(run[12] <= 1 && run[13..] == [0; 3]);
        let (lba, blocks) = (run[..8].try_into().unwrap(), run[8..12].try_into().unwrap());
        (u64::from_be_bytes(lba), u32::from_be_bytes(blocks), run[12] == 1)
    });
    runs.collect()
}

/// A parameter list of UNMAP.
fn list(ranges: &[(u64, u32)]) -> Vec<u8> {
    let len = (ranges.len() * 16) as u16;
    let mut list = [(len + 6).to_be_bytes(), len.to_be_bytes(), [0; 2], [0; 2]].concat();
    for (lba, blocks) in ranges {
        list.extend(lba.to_be_bytes());
        list.extend(blocks.to_be_bytes());
        list.extend([0; 4]);
    }
    list
}

fn unmap(list_len: usize) -> [u8; 10] {
    cdb10(0x42, 0, 0, list_len as u16)
}

#[test]
fn one_block_is_written_to_all_over_many_pieces() {
    for kind in [None, Some(PiType::Type1), Some(PiType::Type2), Some(PiType::Type3)] {
        let mut world = World::new(Shown::plain(kind, 512), &[]);
        let block = world.data(1, 5);
        world.run(&cdb16(WRITE_SAME, 0, 3, 3000), &block, 0).good();
        let read = world.run(&cdb16(READ, 0, 2, 2), &[], 1024).good();
        assert_eq!(read, [&[0; 512][..], &block].concat());
        let read = world.run(&cdb16(READ, 0, 2001, 1003), &[], 1003 * 512).good();
        assert_eq!(read, [block.repeat(1002), vec![0; 512]].concat());
        let unnamed = world.run(&cdb10(0x41, 0, 4000, 0), &block, 0);
        assert_eq!((unnamed.code(), unnamed.field()), (INVALID_FIELD, Some(7)));
    }
}

#[test]
fn tuples_of_one_block_count_on_and_are_checked_once() {
    for kind in [PiType::Type1, PiType::Type2, PiType::Type3] {
        let mut world = World::new(Shown::pi(kind, 512), &[]);
        let wire = world.wire(7, 1, 5);
        let same = |flags: u8| match kind {
            PiType::Type2 => cdb32(0x0d, flags, 7, 3000, (7, 0x1234, 0xffff)).to_vec(),
            _ => cdb16(WRITE_SAME, flags, 7, 3000).to_vec(),
        };
        let read = |lba: u64| match kind {
            PiType::Type2 => cdb32(0x09, 0x20, lba, 2, (lba as u32, 0x1234, 0xffff)).to_vec(),
            _ => cdb16(READ, 0x20, lba, 2).to_vec(),
        };
        world.run(&same(0x20), &wire, 0).good();
        for lba in [7, 2054, 3005] {
            let blocks = world.run(&read(lba), &[], 1040).good();
            for (at, block) in (lba..).zip(blocks.chunks(520)) {
                assert_eq!(block[..516], wire[..516]);
                let reference = if kind == PiType::Type3 { 7 } else { at as u32 };
                assert_eq!(block[516..], reference.to_be_bytes(), "{kind:?} {at}");
            }
        }
        assert_eq!(world.row(1).write.checked, 3000);
        let mut bad = world.wire(7, 1, 6);
        bad[512] ^= 1;
        let failed = world.run(&same(0x20), &bad, 0);
        assert_eq!((failed.code(), failed.information()), (Some((0x0b, 0x10, 1)), Some(7)));
        assert_eq!(world.run(&read(7), &[], 1040).good()[..516], wire[..516]);
        // A tuple that says nothing is the same for all.
        let open = [&wire[..512], &[0xff; 8]].concat();
        world.run(&same(0x20), &open, 0).good();
        let blocks = world.run(&read(7), &[], 1040).good();
        assert_eq!(blocks, open.repeat(2));
    }
}

#[test]
fn zeroes_become_holes_where_that_is_asked_for_or_nobody_sees_the_difference() {
    let zeroes = [0; 520];
    let open = [&[0; 512][..], &[0xff; 8]].concat();
    let plain = Shown::plain(Some(PiType::Type1), 512);
    let pi = Shown::pi(PiType::Type1, 512);
    for (shown, flags, out, is_hole) in [
        (plain, 0, &zeroes[..512], true),
        (plain, UNMAP, &zeroes[..512], true),
        (plain, NDOB, &[], true),
        (plain, NDOB | UNMAP, &[], true),
        (pi, 0, &zeroes[..512], false),
        (pi, UNMAP, &zeroes[..512], true),
        (pi, 0x60 | UNMAP, &zeroes, false),
        (pi, 0x20, &open, true),
        (pi, 0x20 | UNMAP, &open, true),
        (pi, NDOB, &[], true),
        (pi, 0x20 | NDOB, &[], true),
    ] {
        let mut world = World::new(shown, &[]);
        let data = world.data(8, 1);
        world.run(&cdb16(WRITE, 0, 0, 8), &data, 0).good();
        world.run(&cdb16(WRITE_SAME, flags, 2, 3), out, 0).good();
        let (protect, len) = if shown.view == View::Pi { (0x60, 520) } else { (0, 512) };
        let read = world.run(&cdb16(READ, protect, 0, 8), &[], 8 * len).good();
        let read: Vec<u8> = read.chunks(len).flat_map(|block| block[..512].to_vec()).collect();
        assert_eq!(read, [&data[..1024], &[0; 1536], &data[5 * 512..]].concat());
        let deallocated = status(&mut world, 2, 24)[0] == (2, 3, true);
        assert_eq!(deallocated, is_hole, "{shown:?} {flags:02x}");
    }
}

#[test]
fn zeroes_under_tuples_made_here_count_nowhere() {
    for kind in [PiType::Type1, PiType::Type2, PiType::Type3] {
        let mut world = World::new(Shown::pi(kind, 512), &[]);
        world.run(&cdb16(WRITE_SAME, 0, 7, 3000), &[0; 512], 0).good();
        assert_eq!(world.row(1).write, Default::default());
        // More than one piece of them, each with the tags of its own blocks.
        for lba in [7, 2054, 3006] {
            let tags = if kind == PiType::Type1 { lba as u32 } else { u32::MAX };
            let zero = world.run(&read_with_tuple(kind, lba), &[], 520).good();
            assert_eq!(
                (&zero[..512], &zero[516..]),
                (&[0; 512][..], &tags.to_be_bytes()[..]),
                "{kind:?} {lba}"
            );
        }
        world.run(&cdb16(WRITE_SAME, 0, 7, 3), &[1; 512], 0).good();
        assert_eq!(world.row(1).write.inserted, 3);
    }
}

/// A READ of one block with its tuple, whatever that says.
fn read_with_tuple(kind: PiType, lba: u64) -> Vec<u8> {
    match kind {
        PiType::Type2 => cdb32(0x09, 0x60, lba, 1, (0, 0, 0)).to_vec(),
        _ => cdb16(READ, 0x60, lba, 1).to_vec(),
    }
}

#[test]
fn other_data_is_written_whether_or_not_it_may_be_unmapped() {
    let mut world = World::new(Shown::plain(None, 512), &[]);
    let mut block = vec![0; 512];
    block[511] = 1;
    world.run(&cdb16(WRITE_SAME, UNMAP, 2, 3), &block, 0).good();
    assert_eq!(world.run(&cdb16(READ, 0, 4, 1), &[], 512).good(), block);
    assert_eq!(status(&mut world, 0, 56), [(0, 2, true), (2, 3, false), (5, 4091, true)]);
}

#[test]
fn write_same_is_refused_for_what_it_cannot_be() {
    let mut world = World::new(Shown::plain(None, 512), &[]);
    for len in [0, 256, 1024] {
        assert_eq!(world.run(&cdb16(WRITE_SAME, UNMAP, 0, 1), &vec![0; len], 0).code(), WRONG_BUFFER);
    }
    for (lba, blocks) in [(BLOCKS, 1), (BLOCKS - 1, 2), (u64::MAX, 1), (BLOCKS + 1, 0), (u64::MAX, 0)] {
        assert_eq!(world.run(&cdb16(WRITE_SAME, 0, lba, blocks), &[0; 512], 0).code(), OUT_OF_RANGE);
    }
    for flags in [ANCHOR, ANCHOR | UNMAP] {
        let answer = world.run(&cdb16(WRITE_SAME, flags, 0, 1), &[0; 512], 0);
        assert_eq!((answer.code(), answer.field()), (INVALID_FIELD, Some(1)));
    }
}

#[test]
fn who_must_bring_tuples_may_still_make_holes() {
    let shown = Shown { enforce: Enforce::RequirePi, ..Shown::pi(PiType::Type1, 512) };
    let mut world = World::new(shown, &[]);
    world.run(&cdb16(WRITE_SAME, UNMAP, 0, 4), &[0; 512], 0).good();
    world.run(&cdb16(WRITE_SAME, NDOB, 0, 4), &[], 0).good();
    world.run(&unmap(24), &list(&[(0, 4)]), 0).good();
    for flags in [0, UNMAP] {
        let answer = world.run(&cdb16(WRITE_SAME, flags, 0, 4), &[1; 512], 0);
        assert_eq!((answer.code(), answer.field()), (INVALID_FIELD, Some(1)));
    }
}

#[test]
fn verify_holds_many_blocks_against_one() {
    for shown in [Shown::plain(Some(PiType::Type1), 512), Shown::pi(PiType::Type3, 512)] {
        let mut world = World::new(shown, &[]);
        let block = world.data(1, 5);
        world.run(&cdb16(WRITE_SAME, 0, 3, 3000), &block, 0).good();
        world.run(&cdb16(VERIFY, 0x06, 3, 3000), &block, 0).good();
        let other = world.data(1, 6);
        world.run(&cdb16(WRITE, 0, 2500, 1), &other, 0).good();
        let failed = world.run(&cdb16(VERIFY, 0x06, 3, 3000), &block, 0);
        assert_eq!((failed.code(), failed.information()), (Some((0x0e, 0x1d, 0)), Some(2500)));
        assert_eq!(world.run(&cdb16(VERIFY, 0x06, 3, 3), &block[..511], 0).code(), WRONG_BUFFER);
    }
}

#[test]
fn unmap_takes_all_of_a_list_or_nothing() {
    let mut world = World::new(Shown::pi(PiType::Type1, 512), &[View::Plain]);
    let data = world.data(64, 1);
    world.run(&cdb16(WRITE, 0, 0, 64), &data, 0).good();
    let ranges = list(&[(1, 2), (9, 0), (BLOCKS, 0), (10, 5)]);
    let wanted = world.run(&unmap(ranges.len()), &ranges, 0).wanted;
    assert_eq!(wanted, (72, 0));
    let runs = [(0, 1, false), (1, 2, true), (3, 7, false), (10, 5, true), (15, 49, false)];
    assert_eq!(status(&mut world, 0, 8 + 5 * 16), runs);
    let hole = world.run(&cdb16(READ, 0x20, 1, 1), &[], 520).good();
    assert_eq!(hole, [&[0; 512][..], &[0xff; 8]].concat());
    for ranges in [[(0, 1), (BLOCKS, 1)], [(0, 1), (u64::MAX, 2)], [(0, 1), (BLOCKS - 1, 2)]] {
        let ranges = list(&ranges);
        assert_eq!(world.run(&unmap(ranges.len()), &ranges, 0).code(), OUT_OF_RANGE);
    }
    assert_eq!(status(&mut world, 0, 24), [(0, 1, false)]);
}

#[test]
fn unmap_lists_are_as_long_as_they_say() {
    let mut world = World::new(Shown::plain(None, 512), &[]);
    let whole = list(&[(0, 1), (5, 1)]);
    world.run(&unmap(0), &[], 0).good();
    world.run(&unmap(8), &list(&[]), 0).good();
    for len in [1, 7] {
        assert_eq!(world.run(&unmap(len), &whole[..len], 0).code(), LIST_LENGTH);
    }
    assert_eq!(world.run(&unmap(24), &whole[..24], 0).code(), LIST_LENGTH, "cut by the CDB");
    assert_eq!(world.run(&unmap(40), &whole[..24], 0).code(), LIST_LENGTH, "cut by the buffer");
    // A last descriptor that is cut short does not count.
    let mut short = list(&[(0, 1)]);
    short[3] += 8;
    short.extend([0xff; 8]);
    world.run(&unmap(32), &short, 0).good();
    let many = list(&vec![(0, 1); 257]);
    let answer = world.run(&unmap(many.len()), &many, 0);
    assert_eq!(answer.code(), Some((5, 0x26, 0)));
    let anchored = cdb10(0x42, 1, 0, 24);
    assert_eq!(world.run(&anchored, &whole, 0).code(), INVALID_FIELD);
}

#[test]
fn status_covers_what_there_are_descriptors_for() {
    let mut world = World::new(Shown::plain(None, 512), &[]);
    assert_eq!(status(&mut world, 5, 24), [(5, 4091, true)]);
    let block = world.data(1, 1);
    for lba in (0..40).step_by(2) {
        world.run(&cdb16(WRITE, 0, lba, 1), &block, 0).good();
    }
    assert_eq!(status(&mut world, 0, 24), [(0, 1, false)]);
    assert_eq!(status(&mut world, 1, 55), [(1, 1, true), (2, 1, false)]);
    let runs = status(&mut world, 0, u32::MAX);
    assert_eq!((runs.len(), runs[39]), (40, (39, 4057, true)));
    let mut cdb = cdb16(0x9e, 0x12, 0, 10);
    assert_eq!(world.run(&cdb, &[], 10).good(), [0, 0, 0, 20, 0, 0, 0, 0, 0, 0]);
    for lba in [BLOCKS, BLOCKS + 1, 1 << 63, u64::MAX] {
        cdb[2..10].copy_from_slice(&lba.to_be_bytes());
        assert_eq!(world.run(&cdb, &[], 24).code(), OUT_OF_RANGE);
    }
}

#[test]
fn sanitized_blocks_are_holes_all_over() {
    for shown in [Shown::plain(Some(PiType::Type1), 512), Shown::pi(PiType::Type2, 512)] {
        let mut world = World::new(shown, &[]);
        let data = world.data(8, 1);
        for lba in [0, BLOCKS - 8] {
            world.run(&cdb16(WRITE, 0, lba, 8), &data, 0).good();
        }
        for flags in [0x02, 0x82, 0xa2] {
            world.run(&[0x48, flags, 0, 0, 0, 0, 0, 0, 0, 0], &[], 0).good();
            assert_eq!(status(&mut world, 0, 256), [(0, BLOCKS as u32, true)]);
        }
        assert_eq!(world.run(&cdb16(READ, 0, BLOCKS - 8, 8), &[], 4096).good(), vec![0; 4096]);
        world.run(&[0x48, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0], &[], 0).good();
        for action in [0, 1, 3, 0x1e] {
            let answer = world.run(&[0x48, action, 0, 0, 0, 0, 0, 0, 0, 0], &[], 0);
            assert_eq!((answer.code(), answer.field()), (INVALID_FIELD, Some(1)));
        }
        for at in 1..9 {
            let mut cdb = [0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0];
            cdb[at] |= 0x40;
            let answer = world.run(&cdb, &[0; 8], 0);
            assert_eq!((answer.code(), answer.field()), (INVALID_FIELD, Some(at.min(7) as u16)));
        }
    }
}

#[test]
fn a_large_blank_volume_fits_one_answer_and_what_is_read_is_bounded() {
    let mut world = World::new(Shown::plain(None, 4096), &[]);
    let data = world.data(256, 1);
    assert_eq!(status(&mut world, 0, 24), [(0, BLOCKS as u32, true)]);
    world.run(&cdb16(WRITE, 0, 0, 256), &data, 0).good();
    world.run(&cdb16(WRITE, 0, 300, 1), &data[..4096], 0).good();
    assert_eq!(status(&mut world, 0, 40), [(0, 256, false), (256, 44, true)]);
}

#[test]
fn there_are_no_defects_in_any_format() {
    let mut world = World::new(Shown::plain(None, 512), &[]);
    for asked in [0, 0x0d, 0x10, 0x18, 0x1b] {
        let mut short = [0; 10];
        (short[0], short[2], short[8]) = (0x37, asked, 255);
        assert_eq!(world.run(&short, &[], 255).good(), [0, asked, 0, 0]);
        let mut long = [0; 12];
        (long[0], long[1], long[9]) = (0xb7, asked, 255);
        assert_eq!(world.run(&long, &[], 255).good(), [0, asked, 0, 0, 0, 0, 0, 0]);
    }
    let reserved = world.run(&[0x37, 0, 0x1f, 0, 0, 0, 0, 0, 8, 0], &[], 8);
    assert_eq!((reserved.code(), reserved.field()), (INVALID_FIELD, Some(2)));
}

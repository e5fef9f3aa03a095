//! READ, WRITE and their like: which blocks move, and how what cannot be ends.

use holdfast_block::{Enforce, View};
use holdfast_pi::PiType;
use holdfast_scsi::Status;

use crate::world::{
    BLOCKS, COMPARE_AND_WRITE, READ, Shown, VERIFY, WRITE, WRITE_AND_VERIFY, World, cdb10, cdb16,
};

const INVALID_FIELD: Option<(u8, u8, u8)> = Some((5, 0x24, 0));
const OUT_OF_RANGE: Option<(u8, u8, u8)> = Some((5, 0x21, 0));
const MISCOMPARE: Option<(u8, u8, u8)> = Some((0x0e, 0x1d, 0));

/// A CDB of COMPARE AND WRITE.
fn pair(flags: u8, lba: u64, blocks: u8) -> [u8; 16] {
    let mut cdb = cdb16(COMPARE_AND_WRITE, flags, lba, 0);
    cdb[13] = blocks;
    cdb
}

#[test]
fn what_is_written_is_read_in_every_length_of_cdb() {
    for block_len in [512, 4096] {
        for kind in [None, Some(PiType::Type1), Some(PiType::Type2), Some(PiType::Type3)] {
            let mut world = World::new(Shown::plain(kind, block_len), &[]);
            let data = world.data(3, 1);
            let six = [[0x0a, 0, 0, 7, 3, 0], [0x08, 0, 0, 7, 3, 0]];
            let twelve = [0xaa, 0xa8].map(|opcode| [opcode, 0, 0, 0, 0, 7, 0, 0, 0, 3, 0, 0]);
            let pairs: [(&[u8], &[u8]); 4] = [
                (&six[0], &six[1]),
                (&cdb10(0x2a, 0, 7, 3), &cdb10(0x28, 0, 7, 3)),
                (&twelve[0], &twelve[1]),
                (&cdb16(WRITE, 0, 7, 3), &cdb16(READ, 0, 7, 3)),
            ];
            for (seed, (write, read)) in (2..).zip(pairs) {
                let data = [world.data(3, seed), data.clone()].concat();
                let written = world.run(write, &data[..3 * block_len], 0);
                assert_eq!(written.wanted, (3 * block_len, 0));
                written.good();
                assert_eq!(world.run(read, &[], 3 * block_len).good(), data[..3 * block_len]);
            }
        }
    }
}

#[test]
fn a_length_of_zero_is_no_error_and_moves_nothing() {
    let mut world = World::new(Shown::plain(None, 512), &[]);
    for opcode in [READ, WRITE, VERIFY, WRITE_AND_VERIFY, COMPARE_AND_WRITE] {
        for flags in [0, 0x02] {
            let answer = world.run(&cdb16(opcode, flags, 3, 0), &[], 0);
            assert_eq!((answer.wanted, answer.good()), ((0, 0), vec![]), "{opcode:02x}");
        }
    }
}

#[test]
fn blocks_beyond_the_last_are_refused_and_too_many_at_once() {
    let mut world = World::new(Shown::plain(None, 512), &[]);
    let out = vec![0; 2 << 20];
    for opcode in [READ, WRITE, VERIFY, WRITE_AND_VERIFY] {
        for (lba, blocks) in [(BLOCKS, 1), (BLOCKS - 1, 2), (u64::MAX, 1), (u64::MAX, 2), (BLOCKS + 1, 0)] {
            let answer = world.run(&cdb16(opcode, 0, lba, blocks), &out, 0);
            assert_eq!(answer.code(), OUT_OF_RANGE, "{opcode:02x} {lba} {blocks}");
        }
        let answer = world.run(&cdb16(opcode, 0, 0, 2049), &out, 0);
        if opcode == VERIFY {
            answer.good();
        } else {
            assert_eq!((answer.code(), answer.field()), (INVALID_FIELD, Some(10)));
        }
    }
    world.run(&cdb16(WRITE, 0, 0, 2048), &out[..1 << 20], 0).good();
}

#[test]
fn as_many_long_blocks_as_short_ones_are_taken_at_once() {
    let mut world = World::new(Shown::plain(Some(PiType::Type1), 4096), &[]);
    let data = world.data(1024, 3);
    world.run(&cdb16(WRITE, 0, 5, 1024), &data, 0).good();
    assert_eq!(world.run(&cdb16(READ, 0, 5, 1024), &[], data.len()).good(), data);
    let mut exact = World::new(Shown::pi(PiType::Type1, 4096), &[]);
    for opcode in [READ, WRITE] {
        let answer = world.run(&cdb16(opcode, 0, 0, 2049), &[], 0);
        assert_eq!((answer.code(), answer.field()), (INVALID_FIELD, Some(10)));
        let answer = exact.run(&cdb16(opcode, 0, 0, 257), &[], 0);
        assert_eq!((answer.code(), answer.field()), (INVALID_FIELD, Some(10)));
    }
}

#[test]
fn short_buffers_cut_a_write_to_whole_blocks_and_a_read_to_the_byte() {
    let mut world = World::new(Shown::plain(Some(PiType::Type1), 512), &[]);
    let old = world.data(3, 1);
    let new = world.data(3, 2);
    world.run(&cdb16(WRITE, 0, 0, 3), &old, 0).good();
    let cut = world.run(&cdb16(WRITE, 0, 0, 3), &new[..2 * 512 + 100], 0);
    assert_eq!((cut.wanted, cut.good()), ((1536, 0), vec![]));
    let read = world.run(&cdb16(READ, 0, 0, 3), &[], 1100);
    assert_eq!(read.wanted, (0, 1536));
    assert_eq!(read.good(), [&new[..1024], &old[1024..1100]].concat());
    assert_eq!(world.run(&cdb16(READ, 0, 0, 3), &[], 9999).good()[1024..], old[1024..]);
    // Less than a block: nothing is stored.
    let cut = world.run(&cdb16(WRITE, 0, 2, 1), &new[..100], 0);
    assert_eq!((cut.wanted, cut.good()), ((512, 0), vec![]));
    assert_eq!(world.run(&cdb16(READ, 0, 2, 1), &[], 512).good(), old[1024..]);
}

#[test]
fn compare_and_write_tells_the_first_byte_that_differs_and_stores_nothing() {
    for shown in [Shown::plain(None, 512), Shown::pi(PiType::Type3, 512)] {
        let mut world = World::new(shown, &[]);
        let (old, new) = (world.data(2, 1), world.data(2, 2));
        world.run(&cdb16(WRITE, 0, 9, 2), &old, 0).good();
        let both = [old.clone(), new.clone()].concat();
        world.run(&pair(0, 9, 2), &both, 0).good();
        assert_eq!(world.run(&cdb16(READ, 0, 9, 2), &[], 1024).good(), new);
        let mut other = new.clone();
        other[700] ^= 1;
        let failed = world.run(&pair(0, 9, 2), &[other, old].concat(), 0);
        assert_eq!((failed.code(), failed.information()), (MISCOMPARE, Some(700)));
        assert_eq!(world.run(&cdb16(READ, 0, 9, 2), &[], 1024).good(), new);
    }
}

#[test]
fn compare_and_write_takes_the_buffer_that_it_names_and_no_other() {
    let mut world = World::new(Shown::plain(None, 512), &[]);
    for len in [0, 512, 1023, 1536, 2048] {
        let answer = world.run(&pair(0, 9, 1), &vec![0; len], 0);
        assert_eq!(answer.code(), Some((5, 0x0e, 0x03)), "{len}");
    }
    assert_eq!(world.run(&pair(0, BLOCKS, 1), &[0; 1024], 0).code(), OUT_OF_RANGE);
    let more = world.run(&pair(0, 9, 0), &[0; 1024], 0);
    assert_eq!((more.code(), more.field()), (INVALID_FIELD, Some(13)));
}

#[test]
fn verify_holds_blocks_against_the_buffer() {
    let mut world = World::new(Shown::plain(Some(PiType::Type1), 512), &[]);
    let data = world.data(4, 1);
    world.run(&cdb16(WRITE, 0, 9, 4), &data, 0).good();
    world.run(&cdb16(VERIFY, 0x02, 9, 4), &data, 0).good();
    let mut other = data.clone();
    other[3 * 512 + 5] ^= 1;
    let failed = world.run(&cdb16(VERIFY, 0x02, 9, 4), &other, 0);
    assert_eq!((failed.code(), failed.information()), (MISCOMPARE, Some(12)));
    world.run(&cdb16(VERIFY, 0, 9, 4), &[], 0).good();
    // What was never written compares as zeroes.
    world.run(&cdb16(VERIFY, 0x02, 100, 4), &[0; 2048], 0).good();
    let short = world.run(&cdb16(VERIFY, 0x02, 9, 4), &data[..1024], 0);
    assert_eq!(short.code(), Some((5, 0x0e, 0x03)));
}

#[test]
fn write_and_verify_writes_and_verifies() {
    for shown in [Shown::plain(Some(PiType::Type1), 4096), Shown::pi(PiType::Type1, 4096)] {
        let mut world = World::new(shown, &[]);
        for flags in [0, 0x02] {
            let data = world.data(3, flags);
            world.run(&cdb16(WRITE_AND_VERIFY, flags, 5, 3), &data, 0).good();
            assert_eq!(world.run(&cdb16(READ, 0, 5, 3), &[], 3 * 4096).good(), data);
        }
        let answer = world.run(&cdb16(WRITE_AND_VERIFY, 0x06, 5, 3), &[0; 3 * 4096], 0);
        assert_eq!((answer.code(), answer.field()), (INVALID_FIELD, Some(1)));
    }
}

#[test]
fn a_write_protected_unit_takes_no_writes() {
    let mut world = World::new(Shown::plain(None, 512), &[]);
    // MODE SELECT (6): a header and the control mode page with SWP.
    let list = [0, 0, 0, 0, 0x0a, 10, 0, 0x10, 0x08, 0, 0, 0, 0xff, 0xff, 0, 0];
    world.run(&[0x15, 0x10, 0, 0, 16, 0], &list, 0).good();
    for (cdb, len) in
        [(cdb16(WRITE, 0, 0, 1), 512), (cdb16(WRITE_AND_VERIFY, 0, 0, 1), 512), (pair(0, 0, 1), 1024)]
    {
        let answer = world.run(&cdb, &vec![0; len], 0);
        assert_eq!(answer.code(), Some((7, 0x27, 0x02)), "{:02x}", cdb[0]);
    }
    world.run(&cdb16(READ, 0, 0, 1), &[], 512).good();
}

#[test]
fn a_full_pool_is_told_as_such() {
    let mut world = World::new(Shown::plain(None, 4096), &[]);
    let data = vec![7; 1 << 20];
    let mut answers = (0..BLOCKS).step_by(256).map(|lba| world.run(&cdb16(WRITE, 0, lba, 256), &data, 0));
    let failed = answers.find(|answer| answer.status != Status::Good).unwrap();
    assert_eq!(failed.code(), Some((7, 0x27, 0x07)));
}

#[test]
fn synchronize_cache_and_pre_fetch_know_their_range() {
    let mut world = World::new(Shown::plain(None, 512), &[]);
    for (opcode, status) in [(0x91, Status::Good), (0x90, Status::ConditionMet)] {
        assert_eq!(world.run(&cdb16(opcode, 0, 0, 0), &[], 0).status, status);
        assert_eq!(world.run(&cdb16(opcode, 0x02, BLOCKS - 1, 1), &[], 0).status, status);
        assert_eq!(world.run(&cdb16(opcode, 0, BLOCKS, 1), &[], 0).code(), OUT_OF_RANGE);
        assert_eq!(world.run(&cdb16(opcode, 0, u64::MAX, 1), &[], 0).code(), OUT_OF_RANGE);
    }
}

#[test]
fn capacity_shows_the_view_and_not_the_volume() {
    for (shown, flags) in [
        (Shown::plain(Some(PiType::Type2), 512), 0),
        (Shown::pi(PiType::Type1, 512), 1),
        (Shown::pi(PiType::Type2, 512), 3),
        (Shown::pi(PiType::Type3, 512), 5),
    ] {
        let mut world = World::new(shown, &[View::Plain]);
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, 32);
        let long = world.run(&cdb, &[], 32).good();
        assert_eq!(long[..12], [0, 0, 0, 0, 0, 0, 15, 255, 0, 0, 2, 0]);
        assert_eq!(long[12..16], [flags, 0, 0xc0, 0]);
        assert_eq!(world.run_by(1, &cdb, &[], 32).good()[12], 0);
        assert_eq!(world.run(&[0x25; 1], &[], 8).good(), [0, 0, 15, 255, 0, 0, 2, 0]);
        assert_eq!(world.run(&cdb, &[], 12).data.len(), 12);
    }
}

#[test]
fn who_must_bring_tuples_is_refused_without() {
    let shown = Shown { enforce: Enforce::RequirePi, ..Shown::pi(PiType::Type1, 512) };
    let mut world = World::new(shown, &[]);
    let wire = world.wire(0, 1, 1);
    world.run(&cdb16(WRITE, 0x20, 0, 1), &wire, 0).good();
    assert_eq!(world.run(&cdb16(READ, 0x20, 0, 1), &[], 520).good(), wire);
    for (opcode, flags, len) in [(READ, 0, 0), (WRITE, 0, 512), (VERIFY, 0, 0), (VERIFY, 2, 512)] {
        let answer = world.run(&cdb16(opcode, flags, 0, 1), &wire[..len], 512);
        assert_eq!((answer.code(), answer.field()), (INVALID_FIELD, Some(1)));
    }
}

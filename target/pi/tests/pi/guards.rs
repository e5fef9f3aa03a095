//! The three CRCs.

use crate::{GUARDS, reference, small_formats};
use holdfast_pi::{BlockGuard, Guard, GuardKind, guard_of, guards_of, split};
use proptest::prelude::*;

/// The byte patterns of NVM Command Set 1.1 Figures 150 and 155: zeros, ones, rising, falling.
fn patterns() -> [Vec<u8>; 4] {
    let rising = (0..=255_u8).cycle().take(4096).collect::<Vec<u8>>();
    let falling = rising.iter().map(|byte| 255 - byte).collect();
    [vec![0; 4096], vec![0xff; 4096], rising, falling]
}

#[test]
fn guards_have_the_published_check_values() {
    assert_eq!(guard_of(GuardKind::Crc16, b"123456789"), 0xd0db);
    assert_eq!(guard_of(GuardKind::Crc32c, b"123456789"), 0xe306_9283);
    assert_eq!(guard_of(GuardKind::Crc64, b"123456789"), 0xae8b_1486_0a79_9888);
}

#[test]
fn reference_has_the_published_check_values() {
    assert_eq!(reference::crc(GuardKind::Crc16, b"123456789"), 0xd0db);
    assert_eq!(reference::crc(GuardKind::Crc32c, b"123456789"), 0xe306_9283);
    assert_eq!(reference::crc(GuardKind::Crc64, b"123456789"), 0xae8b_1486_0a79_9888);
}

#[test]
fn crc16_gives_the_guards_of_the_scsi_test_cases() {
    let rising = (0..32).collect::<Vec<u8>>();
    let falling = (0xe0..=0xff).rev().collect::<Vec<u8>>();
    let mut two_ones = [0; 32];
    two_ones[..2].fill(0xff);
    assert_eq!(guard_of(GuardKind::Crc16, &[0; 32]), 0x0000);
    assert_eq!(guard_of(GuardKind::Crc16, &[0xff; 32]), 0xa293);
    assert_eq!(guard_of(GuardKind::Crc16, &rising), 0x0224);
    assert_eq!(guard_of(GuardKind::Crc16, &two_ones), 0x21b8);
    assert_eq!(guard_of(GuardKind::Crc16, &falling), 0xa0b7);
}

#[test]
fn crc32c_gives_the_guards_of_figure_150() {
    let guards = patterns().map(|block| guard_of(GuardKind::Crc32c, &block));
    assert_eq!(guards, [0x98f9_4189, 0x25c1_fe13, 0x9c71_fe32, 0x2149_41a8]);
}

#[test]
fn crc64_gives_the_guards_of_figure_155() {
    let guards = patterns().map(|block| guard_of(GuardKind::Crc64, &block));
    let published =
        [0x6482_d367_eb22_b64e, 0xc0dd_ba73_02ec_a3ac, 0x3e72_9f5f_6750_449c, 0x9a2d_f64b_8e9e_517e];
    assert_eq!(guards, published);
}

#[test]
fn guard_of_nothing_is_zero() {
    for kind in GUARDS {
        assert_eq!(Guard::new(kind).value(), 0);
        assert_eq!(guard_of(kind, &[]), 0);
    }
}

#[test]
fn guard_starts_afresh_after_take() {
    for kind in GUARDS {
        let mut guard = Guard::new(kind);
        guard.update(b"another block");
        assert_eq!(guard.take(), guard_of(kind, b"another block"));
        guard.update(b"123456789");
        assert_eq!(guard.value(), guard_of(kind, b"123456789"));
    }
}

#[test]
fn block_guard_forgets_a_block_that_was_never_finished() {
    let [format, ..] = small_formats();
    let block = [7; 512];
    let mut guard = BlockGuard::new(format);
    for cuts in [[100, 412], [1, 511], [511, 1]] {
        split(512, 0, 0, &block[..300]).for_each(|piece| guard.take_in(&piece));
        split(512, 0, 0, &block[..cuts[0]]).for_each(|piece| guard.take_in(&piece));
        split(512, 0, cuts[0], &block[..cuts[1]]).for_each(|piece| guard.take_in(&piece));
        assert_eq!(guard.finish(), guard_of(GuardKind::Crc16, &block));
    }
    split(512, 0, 0, &[9; 512]).for_each(|piece| guard.take_in(&piece));
    split(512, 0, 0, &block[..100]).for_each(|piece| guard.take_in(&piece));
    split(512, 0, 100, &block[100..]).for_each(|piece| guard.take_in(&piece));
    assert_eq!(guard.finish(), guard_of(GuardKind::Crc16, &block));
}

proptest! {
    #[test]
    fn guards_equal_the_reference(data in prop::collection::vec(any::<u8>(), 0..5000)) {
        for kind in GUARDS {
            prop_assert_eq!(guard_of(kind, &data), reference::crc(kind, &data));
        }
    }

    #[test]
    fn guard_in_pieces_equals_the_guard_in_one(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..700), 0..8),
    ) {
        for kind in GUARDS {
            let mut guard = Guard::new(kind);
            let mut so_far = Vec::new();
            for piece in &pieces {
                guard.update(piece);
                so_far.extend_from_slice(piece);
                prop_assert_eq!(guard.value(), guard_of(kind, &so_far));
            }
        }
    }

    #[test]
    fn guards_of_several_blocks_are_those_of_each(
        data in prop::collection::vec(any::<u8>(), 8192),
        blocks in prop::collection::vec((0_usize..=4096, prop::sample::select(vec![0, 511, 512, 512, 512, 4096])), 0..11),
        places in 0_usize..12,
    ) {
        let blocks: Vec<&[u8]> = blocks.iter().map(|(start, len)| &data[*start..start + len]).collect();
        for kind in GUARDS {
            let mut guards = vec![u64::MAX; places];
            guards_of(kind, &blocks, &mut guards);
            for (at, guard) in guards.iter().enumerate() {
                let expected = blocks.get(at).map_or(u64::MAX, |block| reference::crc(kind, block));
                prop_assert_eq!(*guard, expected);
            }
        }
    }

    #[test]
    fn guard_made_while_copying_is_the_guard_and_the_copy_is_whole(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5000), 0..5),
    ) {
        for kind in GUARDS {
            let mut guard = Guard::new(kind);
            let all = pieces.concat();
            let mut copy = vec![0; all.len()];
            let mut room = copy.as_mut_slice();
            for piece in &pieces {
                let (to, rest) = room.split_at_mut(piece.len());
                guard.copy(piece, to);
                room = rest;
            }
            prop_assert_eq!(guard.take(), reference::crc(kind, &all));
            prop_assert_eq!(copy, all);
        }
    }

    #[test]
    fn block_guard_copies_blocks_however_they_are_cut(
        data in prop::collection::vec(any::<u8>(), 512 * 3),
        cuts in prop::collection::vec(0_usize..=512 * 3, 0..5),
    ) {
        let [format, ..] = small_formats();
        let mut cuts = cuts;
        cuts.extend([0, data.len()]);
        cuts.sort_unstable();
        let mut guard = BlockGuard::new(format);
        let mut copy = vec![0; data.len()];
        for ends in cuts.windows(2) {
            for piece in split(512, 0, ends[0], &data[ends[0]..ends[1]]) {
                let start = piece.block as usize * 512 + piece.offset;
                guard.copy_in(&piece, &mut copy[start..start + piece.bytes.len()]);
                if piece.offset + piece.bytes.len() == 512 {
                    let block = &data[start + piece.bytes.len() - 512..start + piece.bytes.len()];
                    prop_assert_eq!(guard.finish(), reference::crc(GuardKind::Crc16, block));
                }
            }
        }
        prop_assert_eq!(copy, data);
    }
}

//! Protection information end to end: what is checked for each value of the protect fields, what is told, and who is blamed.

use holdfast_block::View;
use holdfast_pi::PiType;

use crate::world::{READ, Shown, VERIFY, WRITE, World, cdb16, cdb32};

/// ABORTED COMMAND with the qualifier of a field.
fn failed_check(qualifier: u8) -> Option<(u8, u8, u8)> {
    Some((0x0b, 0x10, qualifier))
}

/// Offsets of guard, application and reference tag in a tuple, and their qualifiers.
const FIELDS: [(usize, u8); 3] = [(0, 1), (2, 2), (7, 3)];

/// Whether a protect field has a field checked, of those that are known: without a CDB of 32 bytes no application tag is, and no
/// reference tag but type 1's.
fn is_checked(kind: PiType, protect: u8, qualifier: u8) -> bool {
    let long = kind == PiType::Type2;
    match qualifier {
        1 => protect != 2 && protect != 3,
        2 => long && matches!(protect, 0 | 1 | 2 | 5),
        _ => kind != PiType::Type3 && matches!(protect, 0 | 1 | 2 | 5),
    }
}

/// READ, WRITE or VERIFY of five blocks from 40 on, in the form that the type knows.
fn cdb(kind: PiType, opcode: u8, flags: u8) -> Vec<u8> {
    if kind != PiType::Type2 {
        return cdb16(opcode, flags, 40, 5).to_vec();
    }
    let action = match opcode {
        READ => 0x09,
        VERIFY => 0x0a,
        _ => 0x0b,
    };
    cdb32(action, flags, 40, 5, (40, 0x1234, 0xffff)).to_vec()
}

#[test]
fn a_bad_tuple_is_refused_by_the_writes_that_check_it_and_stored_by_the_others() {
    for kind in [PiType::Type1, PiType::Type2, PiType::Type3] {
        for protect in 1..=5 {
            for (at, qualifier) in FIELDS {
                let mut world = World::new(Shown::pi(kind, 512), &[]);
                let old = world.wire(40, 5, 0);
                world.run(&cdb(kind, WRITE, 0x20), &old, 0).good();
                let mut bad = world.wire(40, 5, 9);
                bad[3 * 520 + 512 + at] ^= 1;
                let answer = world.run(&cdb(kind, WRITE, protect << 5), &bad, 0);
                let case = format!("{kind:?} {protect} {qualifier}");
                let after = world.run(&cdb(kind, READ, 0x60), &[], 5 * 520).good();
                if is_checked(kind, protect, qualifier) {
                    assert_eq!(answer.code(), failed_check(qualifier), "{case}");
                    assert_eq!(answer.information(), Some(43), "{case}");
                    assert_eq!(after, old, "{case}: nothing of it is stored");
                    let reports = world.faults.0.borrow();
                    assert_eq!((reports.len(), reports[0].lba.0), (1, 43), "{case}");
                } else {
                    answer.good();
                    assert_eq!(after, bad, "{case}: it is stored as it came");
                    assert_eq!(world.faults.0.borrow().len(), 0, "{case}");
                }
            }
        }
    }
}

#[test]
fn a_bad_tuple_that_is_stored_fails_the_reads_and_verifications_that_check_it() {
    for kind in [PiType::Type1, PiType::Type2, PiType::Type3] {
        for (at, qualifier) in FIELDS {
            let mut world = World::new(Shown::pi(kind, 512), &[]);
            let mut bad = world.wire(40, 5, 9);
            bad[2 * 520 + 512 + at] ^= 1;
            world.run(&cdb(kind, WRITE, 0x60), &bad, 0).good();
            for protect in 0..=5 {
                for opcode in [READ, VERIFY] {
                    let answer = world.run(&cdb(kind, opcode, protect << 5), &[], 5 * 520);
                    let case = format!("{kind:?} {opcode:02x} {protect} {qualifier}");
                    if is_checked(kind, protect, qualifier) {
                        assert_eq!(answer.code(), failed_check(qualifier), "{case}");
                        assert_eq!(answer.information(), Some(42), "{case}");
                    } else if opcode == VERIFY {
                        assert_eq!(answer.good(), [], "{case}");
                    } else if protect == 0 {
                        let data: Vec<u8> = bad.chunks(520).flat_map(|block| block[..512].to_vec()).collect();
                        assert_eq!(answer.good(), data, "{case}");
                    } else {
                        assert_eq!(answer.good(), bad, "{case}");
                    }
                }
            }
        }
    }
}

#[test]
fn an_escaped_tuple_passes_every_check() {
    for kind in [PiType::Type1, PiType::Type2, PiType::Type3] {
        let mut world = World::new(Shown::pi(kind, 512), &[]);
        let mut escaped = world.wire(40, 5, 9);
        escaped.chunks_mut(520).for_each(|block| block[512..].fill(0xff));
        for protect in 1..=5 {
            world.run(&cdb(kind, WRITE, protect << 5), &escaped, 0).good();
            assert_eq!(world.run(&cdb(kind, READ, protect << 5), &[], 5 * 520).good(), escaped);
        }
    }
}

#[test]
fn commands_that_the_type_does_not_know_are_invalid() {
    for kind in [PiType::Type1, PiType::Type2, PiType::Type3] {
        let mut world = World::new(Shown::pi(kind, 512), &[View::Plain]);
        let long = cdb32(0x09, 0x20, 40, 5, (40, 0, 0)).to_vec();
        let short = cdb16(READ, 0x20, 40, 5).to_vec();
        let wrong = if kind == PiType::Type2 { &short } else { &long };
        assert_eq!(world.run(wrong, &[], 5 * 520).code(), Some((5, 0x20, 0)));
        // Nobody shows the plain view any of it.
        assert_eq!(world.run_by(1, &long, &[], 5 * 520).code(), Some((5, 0x20, 0)));
        assert_eq!(world.run_by(1, &short, &[], 5 * 520).code(), Some((5, 0x24, 0)));
    }
}

#[test]
fn each_view_sees_the_others_blocks_with_right_tuples() {
    let mut world = World::new(Shown::pi(PiType::Type1, 512), &[View::Plain]);
    let data = world.data(5, 3);
    world.run_by(1, &cdb16(WRITE, 0, 40, 5), &data, 0).good();
    let wire = world.run(&cdb16(READ, 0x20, 40, 5), &[], 5 * 520).good();
    for (lba, (block, data)) in (40..).zip(wire.chunks(520).zip(data.chunks(512))) {
        assert_eq!(block[..512], *data);
        assert_eq!(block[514..], [0, 0, 0, 0, 0, lba], "application tag 0, the reference tag the LBA");
    }
    let wire = world.wire(50, 5, 7);
    world.run(&cdb16(WRITE, 0x20, 50, 5), &wire, 0).good();
    let data: Vec<u8> = wire.chunks(520).flat_map(|block| block[..512].to_vec()).collect();
    assert_eq!(world.run_by(1, &cdb16(READ, 0, 50, 5), &[], 5 * 512).good(), data);
    let (row, other) = (world.row(1), world.row(2));
    assert_eq!((row.write.checked, row.read.checked), (5, 5));
    assert_eq!((other.write.inserted, other.read.stripped, other.read.checked), (5, 5, 5));
}

#[test]
fn tuples_made_for_a_host_that_could_bring_its_own_leave_the_application_tag_open() {
    for kind in [PiType::Type1, PiType::Type2, PiType::Type3] {
        let mut world = World::new(Shown::pi(kind, 512), &[]);
        let data = world.data(5, 3);
        world.run(&cdb16(WRITE, 0, 40, 5), &data, 0).good();
        let wire = world.run(&cdb(kind, READ, 0x60), &[], 5 * 520).good();
        for (lba, block) in (40..).zip(wire.chunks(520)) {
            let reference = if kind == PiType::Type1 { [0, 0, 0, lba] } else { [0xff; 4] };
            assert_eq!((&block[514..516], &block[516..]), (&[0xff; 2][..], &reference[..]), "{kind:?}");
        }
    }
}

/// Whether VERIFY holds a field of the buffer's tuples against those stored: application tags are the host's here (ATO one).
fn is_held(kind: PiType, protect: u8, qualifier: u8) -> bool {
    match qualifier {
        1 => protect != 2,
        2 => true,
        _ => kind != PiType::Type3 || protect == 5,
    }
}

#[test]
fn verify_checks_what_comes_and_holds_it_against_what_is_stored() {
    for kind in [PiType::Type1, PiType::Type2, PiType::Type3] {
        for protect in 1..=5 {
            for (at, qualifier) in FIELDS {
                let mut world = World::new(Shown::pi(kind, 512), &[]);
                let good = world.wire(40, 5, 9);
                let mut bad = good.clone();
                bad[2 * 520 + 512 + at] ^= 1;
                let case = format!("{kind:?} {protect} {qualifier}");
                for (stored, came) in [(&good, &bad), (&bad, &good), (&bad, &bad), (&good, &good)] {
                    world.run(&cdb(kind, WRITE, 0x60), stored, 0).good();
                    let answer = world.run(&cdb(kind, VERIFY, protect << 5 | 0x02), came, 0);
                    let expected = if came == &bad && is_checked(kind, protect, qualifier) {
                        failed_check(qualifier)
                    } else if stored != came && is_held(kind, protect, qualifier) {
                        Some((0x0e, 0x10, qualifier))
                    } else {
                        None
                    };
                    assert_eq!(answer.code(), expected, "{case}");
                    assert_eq!(answer.information(), expected.map(|_| 42), "{case}");
                }
            }
        }
    }
}

#[test]
fn verify_without_tuples_on_the_wire_checks_those_stored() {
    for kind in [PiType::Type1, PiType::Type2, PiType::Type3] {
        for (at, qualifier) in FIELDS {
            let mut world = World::new(Shown::pi(kind, 512), &[]);
            let mut bad = world.wire(40, 5, 9);
            bad[2 * 520 + 512 + at] ^= 1;
            world.run(&cdb(kind, WRITE, 0x60), &bad, 0).good();
            let data = world.data(5, 9);
            let answer = world.run(&cdb(kind, VERIFY, 0x02), &data, 0);
            let expected = failed_check(qualifier).filter(|_| is_checked(kind, 0, qualifier));
            assert_eq!(answer.code(), expected, "{kind:?} {qualifier}");
        }
    }
}

#[test]
fn verify_against_one_block_counts_its_reference_tag_on() {
    for kind in [PiType::Type1, PiType::Type2, PiType::Type3] {
        let mut world = World::new(Shown::pi(kind, 512), &[]);
        let one = world.wire(40, 1, 9);
        let same = match kind {
            PiType::Type2 => cdb32(0x0d, 0x20, 40, 5, (40, 0x1234, 0xffff)).to_vec(),
            _ => cdb16(0x93, 0x20, 40, 5).to_vec(),
        };
        world.run(&same, &one, 0).good();
        world.run(&cdb(kind, VERIFY, 0x20 | 0x06), &one, 0).good();
        let mut other = one.clone();
        other[514] ^= 1;
        let answer = world.run(&cdb(kind, VERIFY, 0x60 | 0x06), &other, 0);
        assert_eq!((answer.code(), answer.information()), (Some((0x0e, 0x10, 2)), Some(40)));
    }
}

#[test]
fn both_halves_of_compare_and_write_are_checked() {
    for kind in [PiType::Type1, PiType::Type3] {
        for protect in 1..=5 {
            for (at, qualifier) in FIELDS {
                for half in [0, 1] {
                    let mut world = World::new(Shown::pi(kind, 512), &[]);
                    let (old, new) = (world.wire(40, 3, 1), world.wire(40, 3, 2));
                    world.run(&cdb16(WRITE, 0x20, 40, 3), &old, 0).good();
                    let mut both = [old.clone(), new.clone()].concat();
                    both[half * 1560 + 2 * 520 + 512 + at] ^= 1;
                    let mut pair = cdb16(0x89, protect << 5, 40, 0);
                    pair[13] = 3;
                    let answer = world.run(&pair, &both, 0);
                    let case = format!("{kind:?} {protect} {qualifier} {half}");
                    let after = world.run(&cdb16(READ, 0x60, 40, 3), &[], 1560).good();
                    if is_checked(kind, protect, qualifier) {
                        assert_eq!(answer.code(), failed_check(qualifier), "{case}");
                        assert_eq!(answer.information(), Some(42), "{case}");
                        assert_eq!(after, old, "{case}");
                        assert_eq!(world.faults.0.borrow().len(), 1, "{case}");
                    } else {
                        answer.good();
                        assert_eq!(after, both[1560..], "{case}");
                    }
                }
            }
        }
    }
    let mut world = World::new(Shown::pi(PiType::Type2, 512), &[]);
    let mut pair = cdb16(0x89, 0x20, 40, 0);
    pair[13] = 1;
    assert_eq!(world.run(&pair, &[0; 1040], 0).code(), Some((5, 0x20, 0)));
}

#[test]
fn write_and_verify_stores_what_it_does_not_check_and_verifies_it() {
    for kind in [PiType::Type1, PiType::Type3] {
        for protect in 1..=5 {
            for bytchk in [0, 0x02] {
                let mut world = World::new(Shown::pi(kind, 512), &[]);
                let mut wire = world.wire(40, 5, 9);
                world.run(&cdb16(0x8e, protect << 5 | bytchk, 40, 5), &wire, 0).good();
                wire[512] ^= 1;
                let answer = world.run(&cdb16(0x8e, protect << 5 | bytchk, 40, 5), &wire, 0);
                let expected = failed_check(1).filter(|_| is_checked(kind, protect, 1));
                assert_eq!(answer.code(), expected, "{kind:?} {protect} {bytchk}");
            }
        }
    }
}

#[test]
fn application_tags_of_the_mode_page_are_checked_while_it_counts() {
    let mut world = World::new(Shown::pi(PiType::Type1, 512), &[]);
    // MODE SELECT (10): the application tag mode page with 5555h for blocks 40 to 49, then the control page with ATO and ATMPE.
    let mut list = vec![0; 8];
    list.extend([0x4a, 0x02, 0, 108]);
    list.extend([0; 12]);
    for (app_tag, lba, blocks) in [(0x5555_u16, 40_u64, 10_u64), (0, 0, 0), (0, 0, 0), (0, 0, 0)] {
        list.extend([0; 6]);
        list.extend(app_tag.to_be_bytes());
        list.extend(lba.to_be_bytes());
        list.extend(blocks.to_be_bytes());
    }
    list[8 + 16 + 3 * 24] = 0x80;
    let select = |len: usize| [0x55, 0x10, 0, 0, 0, 0, 0, 0, len as u8, 0];
    world.run(&select(list.len()), &list, 0).good();
    let wire = world.wire(40, 5, 9);
    world.run(&cdb16(WRITE, 0x20, 40, 5), &wire, 0).good();
    let control = [&[0; 8][..], &[0x0a, 10, 0, 0x10, 0, 0xa0, 0, 0, 0xff, 0xff, 0, 0]].concat();
    world.run(&select(control.len()), &control, 0).good();
    for opcode in [READ, VERIFY] {
        let answer = world.run(&cdb16(opcode, 0x20, 40, 5), &[], 5 * 520);
        assert_eq!((answer.code(), answer.information()), (failed_check(2), Some(40)));
    }
    assert_eq!(world.run(&cdb16(WRITE, 0x20, 40, 5), &wire, 0).code(), failed_check(2));
    let elsewhere = world.wire(50, 5, 9);
    world.run(&cdb16(WRITE, 0x20, 50, 5), &elsewhere, 0).good();
}

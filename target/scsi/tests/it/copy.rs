//! EXTENDED COPY (LID1) and RECEIVE COPY RESULTS, byte by byte.

use holdfast_block::View;
use holdfast_pi::PiType;
use holdfast_scsi::Status;

use crate::world::{Answer, BLOCKS, READ, Shown, WRITE, World, cdb16};

const THIS_UNIT: u16 = 0xffff;

/// An identification descriptor: NAA of a volume whose NGUID is full of `byte`.
fn cscd(byte: u8, block_len: u32) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&[0xe4, 0, 0, 0, 1, 3, 0, 8]);
    bytes[8..16].fill(byte);
    bytes[8] = 0x30 | (byte & 0x0f);
    bytes[28..].copy_from_slice(&block_len.to_be_bytes());
    bytes
}

fn segment(source: u16, target: u16, blocks: u16, from: u64, to: u64) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[..4].copy_from_slice(&[0x02, 0, 0, 0x18]);
    bytes[4..6].copy_from_slice(&source.to_be_bytes());
    bytes[6..8].copy_from_slice(&target.to_be_bytes());
    bytes[10..12].copy_from_slice(&blocks.to_be_bytes());
    bytes[12..20].copy_from_slice(&from.to_be_bytes());
    bytes[20..].copy_from_slice(&to.to_be_bytes());
    bytes
}

fn list(id: u8, usage: u8, cscds: &[[u8; 32]], segments: &[[u8; 28]]) -> Vec<u8> {
    let mut bytes = vec![id, usage << 3];
    bytes.extend((cscds.len() as u16 * 32).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend((segments.len() as u32 * 28).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(cscds.concat());
    bytes.extend(segments.concat());
    bytes
}

/// LUN 0 and LUN 1, of 512-byte blocks.
fn both() -> [[u8; 32]; 2] {
    [cscd(2, 512), cscd(4, 512)]
}

impl World {
    fn copy(&mut self, list: &[u8]) -> Answer {
        self.copy_by(0, list)
    }

    fn copy_by(&mut self, who: usize, list: &[u8]) -> Answer {
        self.run_by(who, &cdb16(0x83, 0, 0, list.len() as u32), list, 0)
    }

    fn results(&mut self, action: u8, id: u8) -> Answer {
        let mut cdb = cdb16(0x84, action, 0, 200);
        cdb[2] = id;
        self.run(&cdb, &[], 200)
    }

    fn put(&mut self, lun: u8, lba: u64, data: &[u8]) {
        self.lun = lun;
        self.run(&cdb16(WRITE, 0, lba, (data.len() / 512) as u32), data, 0).good();
        self.lun = 0;
    }

    fn get(&mut self, lun: u8, lba: u64, blocks: u32) -> Vec<u8> {
        self.lun = lun;
        let data = self.run(&cdb16(READ, 0, lba, blocks), &[], blocks as usize * 512).good();
        self.lun = 0;
        data
    }
}

fn plain() -> World {
    let mut world = World::new(Shown::plain(None, 512), &[View::Plain]);
    world.add_volume(None, 512);
    world
}

/// Sense key, code, number of the segment, and what is pointed at.
fn aborted(answer: &Answer) -> ((u8, u8, u8), u32, u16) {
    let sense = &answer.sense;
    let number = u32::from_be_bytes(sense[8..12].try_into().unwrap());
    assert_eq!(sense[15] & 0xc0, 0x80, "a pointer into the list");
    (answer.code().unwrap(), number, u16::from_be_bytes(sense[16..18].try_into().unwrap()))
}

#[test]
fn blocks_are_copied_between_units_and_within_one() {
    let mut world = plain();
    let data = world.data(40, 7);
    world.put(0, 10, &data);
    let segments =
        [segment(0, 1, 30, 10, 100), segment(1, 0, 20, 105, 200), segment(THIS_UNIT, 0, 5, 10, 300)];
    world.copy(&list(1, 0, &both(), &segments)).good();
    assert!(world.get(1, 100, 30) == data[..30 * 512]);
    assert!(world.get(0, 200, 20) == data[5 * 512..25 * 512]);
    assert!(world.get(0, 300, 5) == data[..5 * 512]);
    // LU ID TYPE and NUL, and the initiator port, say nothing.
    let mut obsolete = both();
    obsolete[0][1..4].copy_from_slice(&[0xe0, 0, 7]);
    world.copy(&list(2, 0, &obsolete, &[segment(0, 1, 1, 10, 0)])).good();
    let status = world.results(0, 1).good();
    let [.., high, low] = (55_u32 * 512).to_be_bytes();
    assert_eq!(status, [0, 0, 0, 8, 1, 0, 3, 0, 0, 0, high, low]);
    assert_eq!(world.results(1, 1).good(), [0; 4]);
    assert_eq!(world.results(4, 1).good(), [0; 4]);
}

#[test]
fn long_segments_that_overlap_are_copied_as_they_were() {
    for (from, to) in [(0, 700), (700, 0)] {
        let mut world = plain();
        let data = [1, 2, 3].map(|seed| world.data(1000, seed)).concat();
        for (at, piece) in (0..).zip(data.chunks(1000 * 512)) {
            world.put(0, from + at * 1000, piece);
        }
        world.copy(&list(1, 2, &both()[..1], &[segment(0, 0, 3000, from, to)])).good();
        for at in 0..3 {
            let copied = world.get(0, to + at * 1000, 1000);
            assert!(copied == data[at as usize * 512_000..][..512_000], "{from} to {to}, {at}");
        }
    }
}

#[test]
fn tuples_go_along_and_reference_tags_are_those_of_the_place() {
    for (kind, renewed) in [(PiType::Type1, true), (PiType::Type3, false)] {
        let mut world = World::new(Shown::pi(kind, 512), &[]);
        world.add_volume(Some(kind), 512);
        let wire = world.wire(10, 4, 5);
        world.run(&cdb16(WRITE, 0x20, 10, 4), &wire, 0).good();
        world.copy(&list(1, 0, &both(), &[segment(0, 1, 4, 10, 77)])).good();
        world.lun = 1;
        let read = world.run(&cdb16(READ, 0x20, 77, 4), &[], wire.len()).good();
        let expected = if renewed { world.wire(77, 4, 5) } else { wire };
        assert!(read == expected, "{kind:?}");
        assert!(read[512 + 2..512 + 4] == [0x12, 0x34], "the host's application tag");
    }
}

#[test]
fn a_volume_without_tuples_takes_and_gives_blocks_of_one_with_tuples() {
    let mut world = World::new(Shown::plain(Some(PiType::Type1), 512), &[]);
    world.add_volume(None, 512);
    let data = world.data(4, 5);
    world.put(0, 10, &data);
    let segments = [segment(0, 1, 4, 10, 20), segment(1, 0, 4, 20, 30)];
    world.copy(&list(1, 0, &both(), &segments)).good();
    assert!(world.get(1, 20, 4) == data && world.get(0, 30, 4) == data);
}

#[test]
fn a_bad_block_ends_the_copy_at_its_segment_and_nothing_of_its_piece_is_copied() {
    let mut world = World::new(Shown::pi(PiType::Type1, 512), &[]);
    world.add_volume(Some(PiType::Type1), 512);
    let mut wire = world.wire(10, 4, 5);
    wire[2 * 520 + 9] ^= 1;
    world.run(&cdb16(WRITE, 0x60, 10, 4), &wire, 0).good();
    let segments = [segment(0, 1, 2, 10, 77), segment(0, 1, 4, 10, 100)];
    let answer = world.copy(&list(9, 0, &both(), &segments));
    assert_eq!(aborted(&answer), ((10, 0x0d, 1), 1, 16 + 64 + 28));
    let status = world.results(0, 9).good();
    assert_eq!(status, [0, 0, 0, 8, 2, 0, 1, 0, 0, 0, 4, 0]);
    let details = world.results(4, 9).good();
    assert_eq!(details.len(), 60 + answer.sense.len());
    assert_eq!(details[..4], (details.len() as u32 - 4).to_be_bytes());
    assert_eq!(details[56..60], [0x02, 0, 0, answer.sense.len() as u8]);
    assert_eq!(details[60..], answer.sense);
    world.lun = 1;
    let untouched = world.run(&cdb16(READ, 0, 100, 4), &[], 2048).good();
    assert!(untouched.iter().all(|byte| *byte == 0));
}

#[test]
fn lists_that_cannot_be_are_refused_before_anything_is_copied() {
    let mut world = plain();
    let good = list(1, 0, &both(), &[segment(0, 1, 1, 0, 0)]);
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let descriptors = 16 + 64 + 28;
    for len in [1, 15, 16, 79, descriptors - 1] {
        assert_eq!(world.copy(&good[..len]).code(), Some((5, 0x1a, 0)), "{len}");
    }
    assert_eq!(world.copy(&[]).status, Status::Good);
    let cases = [
        (changed(16, 0xe0), (5, 0x26, 7), None),
        (changed(16 + 64, 0x03), (5, 0x26, 9), None),
        (changed(15, 1), (5, 0x26, 0x0b), None),
        (changed(1, 1 << 3), (5, 0x26, 0), Some(1)),
        (changed(1, 3 << 3), (5, 0x26, 0), Some(0)),
        (changed(21, 0x13), (5, 0x26, 0), Some(21)),
        (changed(23, 21), (5, 0x26, 0), Some(23)),
        (changed(16 + 64 + 3, 0x17), (5, 0x26, 0), Some(16 + 64 + 2)),
    ];
    for (bytes, code, at) in cases {
        let answer = world.copy(&bytes);
        assert_eq!(answer.code(), Some(code));
        let pointer = u16::from_be_bytes(answer.sense[16..18].try_into().unwrap());
        assert_eq!(at.unwrap_or(0), pointer);
    }
    assert_eq!(world.results(0, 1).code(), Some((5, 0x24, 0)), "none of them is known");
}

#[test]
fn limits_are_those_of_the_operating_parameters() {
    let mut world = plain();
    let bytes = world.results(3, 0).good();
    assert_eq!(bytes[..4], (bytes.len() as u32 - 4).to_be_bytes());
    assert_eq!((bytes[4], bytes.len()), (1, 46));
    assert_eq!((bytes[37], &bytes[43..]), (9, &[2, 0x02, 0xe4][..]));
    let field = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    let (cscds, segments) = (field(8), field(10));
    let len_max = u32::from_be_bytes(bytes[12..16].try_into().unwrap()) as usize;
    assert_eq!(len_max, cscds * 32 + segments * 28);
    let (one, none) = (segment(0, 0, 0, 0, 0), cscd(2, 512));
    let many = |a: usize, b: usize| list(1, 0, &vec![none; a], &vec![one; b]);
    world.copy(&many(cscds, segments)).good();
    assert_eq!(world.copy(&many(cscds + 1, 1)).code(), Some((5, 0x26, 6)));
    assert_eq!(world.copy(&many(1, segments + 1)).code(), Some((5, 0x26, 8)));
    assert_eq!(world.copy(&many(cscds + 1, segments + 1)).code(), Some((5, 0x1a, 0)));
}

#[test]
fn ends_that_cannot_be_abort_the_copy_at_their_segment() {
    let mut world = plain();
    let fine = segment(0, 1, 1, 0, 0);
    let at = 16 + 64 + 28;
    let stranger = [cscd(2, 512), cscd(9, 512)];
    let (mut tape, mut long) = (both(), both());
    (tape[1][1], long[1][30]) = (0x01, 0x10);
    let cases = [
        (both(), segment(0, 2, 1, 0, 0), (10, 0x08, 4), at + 6),
        (stranger, fine, (10, 0x0d, 2), 16 + 32),
        (tape, fine, (10, 0x0d, 3), 16 + 33),
        (long, fine, (10, 0x26, 0), 16 + 32 + 29),
        (both(), segment(0, 1, 2, BLOCKS - 1, 0), (10, 0, 0), at + 12),
        (both(), segment(0, 1, 2, 0, u64::MAX), (10, 0, 0), at + 20),
    ];
    for (cscds, wrong, code, at) in cases {
        let answer = world.copy(&list(1, 0, &cscds, &[segment(0, 0, 1, 0, 5), wrong]));
        assert_eq!(aborted(&answer), (code, 1, at));
        assert_eq!(world.results(0, 1).good()[4..7], [2, 0, 1]);
    }
}

#[test]
fn a_reservation_of_others_keeps_copies_from_their_unit() {
    let mut world = plain();
    world.lun = 1;
    let key = |action: u8, list: [u64; 2]| {
        let bytes = [list[0].to_be_bytes(), list[1].to_be_bytes(), [0; 8]].concat();
        ([0x5f, action, 1, 0, 0, 0, 0, 0, 24, 0], bytes)
    };
    for (cdb, bytes) in [key(0, [0, 5]), key(1, [5, 0])] {
        world.run_by(1, &cdb, &bytes, 0).good();
    }
    world.lun = 0;
    let answer = world.copy(&list(1, 0, &both(), &[segment(0, 1, 1, 0, 0)]));
    assert_eq!(aborted(&answer), ((10, 0x0d, 1), 0, 16 + 64));
    world.copy(&list(1, 0, &both(), &[segment(1, 0, 1, 0, 0)])).good();
    world.copy_by(1, &list(1, 0, &both(), &[segment(0, 1, 1, 0, 0)])).good();
    // At the unit itself the command does not begin.
    world.lun = 1;
    let answer = world.copy(&list(1, 0, &both(), &[segment(0, 0, 1, 0, 0)]));
    assert_eq!(answer.status, Status::ReservationConflict);
}

#[test]
fn a_write_protected_destination_is_none() {
    let mut world = plain();
    world.lun = 1;
    let page = [0, 0, 0, 0, 0x0a, 0x0a, 0, 0x10, 0x08, 0x80, 0, 0, 0, 0, 0, 0];
    let sensed = world.run(&[0x1a, 0x08, 0x0a, 0, 200, 0], &[], 200).good();
    let mut list_bytes = sensed.clone();
    (list_bytes[0], list_bytes[2]) = (0, 0);
    list_bytes[4] &= 0x3f;
    list_bytes[4 + 4] |= 0x08;
    assert_eq!(list_bytes.len(), page.len());
    world.run(&[0x15, 0x10, 0, 0, list_bytes.len() as u8, 0], &list_bytes, 0).good();
    world.lun = 0;
    let answer = world.copy(&list(1, 0, &both(), &[segment(0, 1, 1, 0, 0)]));
    assert_eq!(aborted(&answer), ((10, 0x26, 0x0c), 0, 16 + 64 + 6));
}

#[test]
fn a_stopped_unit_gives_and_takes_nothing() {
    let mut world = plain();
    world.lun = 1;
    world.run(&[0x1b, 0, 0, 0, 0, 0], &[], 0).good();
    world.lun = 0;
    let at = 16 + 64;
    for (ends, field) in [((0, 1), at + 6), ((1, 0), at + 4)] {
        let answer = world.copy(&list(1, 0, &both(), &[segment(ends.0, ends.1, 1, 0, 0)]));
        assert_eq!(aborted(&answer), ((10, 0x0d, 1), 0, field));
    }
}

#[test]
fn without_an_identifier_nobody_can_ask() {
    let mut world = plain();
    world.copy(&list(0, 3, &both(), &[segment(0, 1, 1, 0, 0)])).good();
    assert_eq!(world.results(0, 0).code(), Some((5, 0x24, 0)));
    assert_eq!(world.results(4, 0).field(), Some(2));
}

#[test]
fn what_can_be_copied_is_told_in_a_page() {
    let mut world = plain();
    let page = world.run(&[0x12, 1, 0x8f, 1, 0, 0], &[], 256).good();
    assert_eq!(page[1], 0x8f);
    let mut at = 4;
    let mut kinds = Vec::new();
    while at < page.len() {
        let field = |at: usize| u16::from_be_bytes([page[at], page[at + 1]]);
        kinds.push((field(at), field(at + 2)));
        at += 4 + usize::from(field(at + 2));
    }
    assert_eq!(at, page.len());
    assert_eq!(kinds, [(1, 12), (4, 28), (8, 4), (12, 4), (0x8001, 32)]);
    assert_eq!(page[8..18], [9, 0x83, 1, 0, 0x84, 4, 0, 1, 3, 4]);
    assert_eq!(world.run(&[0x12, 0, 0, 0, 96, 0], &[], 96).good()[5] & 0x08, 0x08, "3PC");
}

//! Copy: descriptor formats, limits, namespaces, protection information.

use holdfast_block::{Layout, Operation};

use crate::host::{Host, code, put, ranged, sgl, sqe};
use crate::world::{
    BLOCKS, PI_HOST, PI_NSID, PLAIN_HOST, PLAIN_NSID, WIDE_NSID, World, exports, pi_volume, plain_volume,
    wide_volume,
};

const INVALID_FIELD: (u8, u8) = (0, 0x02);
const INVALID_NAMESPACE: (u8, u8) = (0, 0x0b);
const OUT_OF_RANGE: (u8, u8) = (0, 0x80);
const INVALID_PROTECTION: (u8, u8) = (1, 0x81);
const SIZE_LIMIT: (u8, u8) = (1, 0x83);
const INCOMPATIBLE: (u8, u8) = (1, 0x85);
const OVERLAP: (u8, u8) = (1, 0x87);

/// A source range.
#[derive(Clone, Copy, Default)]
struct Range {
    nsid: u32,
    lba: u64,
    blocks: u32,
    reference: u32,
}

fn range(lba: u64, blocks: u32) -> Range {
    Range { lba, blocks, ..Range::default() }
}

fn from(nsid: u32, lba: u64, blocks: u32) -> Range {
    Range { nsid, ..range(lba, blocks) }
}

/// A Copy of these ranges, in a descriptor format, with this in Dword 12 besides.
fn copy(nsid: u32, lba: u64, format: u32, control: u32, ranges: &[Range]) -> ([u8; 64], Vec<u8>) {
    let mut sqe = sqe(0x19, nsid);
    put(&mut sqe, 10, lba as u32);
    put(&mut sqe, 11, (lba >> 32) as u32);
    put(&mut sqe, 12, (ranges.len() as u32 - 1) | (format << 8) | control);
    put(&mut sqe, 14, lba as u32);
    let mut data = Vec::new();
    for range in ranges {
        data.extend_from_slice(&range.nsid.to_le_bytes());
        data.extend_from_slice(&[0; 4]);
        data.extend_from_slice(&range.lba.to_le_bytes());
        data.extend_from_slice(&(range.blocks - 1).to_le_bytes());
        data.extend_from_slice(&[0; 4]);
        if format & 1 == 0 {
            data.extend_from_slice(&range.reference.to_le_bytes());
        } else {
            data.extend_from_slice(&[0; 8]);
            data.extend_from_slice(&range.reference.to_be_bytes());
        }
        data.extend_from_slice(&[0; 4]);
    }
    (sqe, data)
}

/// A world in which copies across namespaces are enabled, and formats with 32-bit guards.
fn enabled(world: &mut World, hostnqn: &str) -> (Host, Host) {
    let (mut admin, io) = Host::io(world, hostnqn, false, false);
    let mut behavior = sqe(0x09, 0);
    put(&mut behavior, 10, 0x16);
    let mut data = vec![0; 512];
    (data[2], data[4]) = (1, 0b1100);
    assert_eq!(admin.run(world, behavior, &data).0, 0);
    (admin, io)
}

fn run(io: &mut Host, world: &mut World, (sqe, data): ([u8; 64], Vec<u8>)) -> (u8, u8) {
    let (status, result, _) = io.run(world, sqe, &data);
    assert_eq!(result, 0, "all or nothing is copied");
    code(status)
}

fn read(io: &mut Host, world: &mut World, nsid: u32, lba: u64, blocks: u32, len: u32) -> Vec<u8> {
    let mut sqe = ranged(0x02, nsid, lba, blocks, 0);
    sgl(&mut sqe, 0x5a, 0, len);
    let (status, _, data) = io.run(world, sqe, &[]);
    assert_eq!(status, 0);
    data
}

#[test]
fn ranges_land_one_after_the_other() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    for (lba, byte) in [(10, 1), (11, 2), (40, 3)] {
        io.run(&mut world, ranged(0x01, 1, lba, 1, 0), &[byte; 4096]);
    }
    assert_eq!(run(&mut io, &mut world, copy(1, 100, 0, 0, &[range(40, 1), range(10, 2)])), (0, 0));
    let copied = read(&mut io, &mut world, 1, 100, 3, 3 * 4096);
    assert_eq!(copied, [[3; 4096], [1; 4096], [2; 4096]].concat());
    assert_eq!(world.port.live_tickets(), 0);
    let operations: Vec<Operation> =
        world.port.log.iter().map(|command| command.operation).filter(|o| *o != Operation::Write).collect();
    let expected = [Operation::CopyTarget, Operation::CopySource, Operation::CopySource, Operation::Read];
    assert_eq!(operations, expected, "there is room for all before anything is read");
}

#[test]
fn limits_are_those_that_are_advertised() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    assert_eq!(run(&mut io, &mut world, copy(1, 1000, 0, 0, &[range(0, 256)])), (0, 0));
    assert_eq!(run(&mut io, &mut world, copy(1, 1000, 0, 0, &[range(0, 257)])), SIZE_LIMIT);
    assert_eq!(run(&mut io, &mut world, copy(1, 1000, 0, 0, &[range(0, 200), range(300, 57)])), SIZE_LIMIT);
    assert_eq!(run(&mut io, &mut world, copy(1, 1000, 0, 0, &[range(0, 1); 128])), (0, 0));
    assert_eq!(run(&mut io, &mut world, copy(1, 1000, 1, 0, &[range(0, 1); 128])), (0, 0), "wide entries");
    let (sqe, _) = copy(1, 1000, 0, 0, &[range(0, 1); 129]);
    assert_eq!(code(io.run(&mut world, sqe, &[]).0), SIZE_LIMIT);
}

#[test]
fn both_ends_have_to_lie_within_their_namespaces() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    assert_eq!(run(&mut io, &mut world, copy(1, BLOCKS - 1, 0, 0, &[range(0, 1)])), (0, 0));
    assert_eq!(run(&mut io, &mut world, copy(1, BLOCKS - 1, 0, 0, &[range(0, 2)])), OUT_OF_RANGE);
    assert_eq!(run(&mut io, &mut world, copy(1, u64::MAX, 0, 0, &[range(0, 2)])), OUT_OF_RANGE);
    let bad = [range(0, 1), range(BLOCKS - 1, 2)];
    assert_eq!(run(&mut io, &mut world, copy(1, 5, 0, 0, &bad)), OUT_OF_RANGE);
    assert_eq!(run(&mut io, &mut world, copy(1, 5, 0, 0, &[range(u64::MAX, 1)])), OUT_OF_RANGE);
    let operations = world.port.log.iter().filter(|command| command.lba.0 == 5);
    assert_eq!(operations.count(), 0, "nothing is begun that cannot be ended");
}

#[test]
fn sources_in_other_namespaces_wait_for_a_host_that_knows_them() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let across = copy(1, 5, 2, 0, &[from(1, 0, 1)]);
    assert_eq!(run(&mut io, &mut world, across), INVALID_FIELD);
    for format in 4..16 {
        assert_eq!(run(&mut io, &mut world, copy(1, 5, format, 0, &[from(1, 0, 1)])), INVALID_FIELD);
    }
}

#[test]
fn namespaces_are_named_and_do_not_overlap() {
    let mut world = World::new();
    world.exports = exports(2, true, &[(PLAIN_NSID, plain_volume(BLOCKS)), (WIDE_NSID, wide_volume())]);
    let (_admin, mut io) = enabled(&mut world, PLAIN_HOST);
    io.run(&mut world, ranged(0x01, WIDE_NSID, 7, 1, 0), &[9; 4096]);
    assert_eq!(run(&mut io, &mut world, copy(1, 20, 2, 0, &[from(WIDE_NSID, 7, 1)])), (0, 0));
    assert_eq!(read(&mut io, &mut world, 1, 20, 1, 4096), [9; 4096], "both look plain to this host");
    for (nsid, status) in
        [(0, INVALID_NAMESPACE), (u32::MAX, INVALID_NAMESPACE), (1025, INVALID_NAMESPACE), (9, INVALID_FIELD)]
    {
        assert_eq!(run(&mut io, &mut world, copy(1, 20, 2, 0, &[from(nsid, 7, 1)])), status);
    }
    let touching = [from(1, 0, 1), from(1, 21, 4)];
    assert_eq!(run(&mut io, &mut world, copy(1, 20, 2, 0, &touching)), OVERLAP);
    assert_eq!(run(&mut io, &mut world, copy(1, 20, 0, 0, &touching)), (0, 0), "allowed without names");
    let elsewhere = [from(1, 0, 1), from(WIDE_NSID, 20, 4)];
    assert_eq!(run(&mut io, &mut world, copy(1, 20, 2, 0, &elsewhere)), (0, 0));
}

#[test]
fn formats_of_descriptors_and_namespaces_have_to_fit() {
    let mut world = World::new();
    let all = [(PLAIN_NSID, plain_volume(BLOCKS)), (PI_NSID, pi_volume()), (WIDE_NSID, wide_volume())];
    world.exports = exports(2, true, &all);
    let (_admin, mut io) = enabled(&mut world, PI_HOST);
    for (nsid, format) in [(PI_NSID, 1), (PI_NSID, 3), (WIDE_NSID, 0), (WIDE_NSID, 2)] {
        let ranges = [from(nsid, 0, 1)];
        assert_eq!(run(&mut io, &mut world, copy(nsid, 9, format, 0, &ranges)), INVALID_NAMESPACE);
    }
    for (nsid, format) in [(PI_NSID, 0), (PI_NSID, 2), (WIDE_NSID, 1), (WIDE_NSID, 3), (PLAIN_NSID, 3)] {
        assert_eq!(run(&mut io, &mut world, copy(nsid, 9, format, 0, &[from(nsid, 0, 1)])), (0, 0));
    }
    let lengths = copy(PLAIN_NSID, 9, 2, 0, &[from(PI_NSID, 0, 1)]);
    assert_eq!(run(&mut io, &mut world, lengths), INCOMPATIBLE);
    let (pract_read, pract_write) = (1 << 15, 1 << 29);
    let strip = |control| copy(PLAIN_NSID, 9, 2, control, &[from(WIDE_NSID, 0, 1)]);
    assert_eq!(run(&mut io, &mut world, strip(0)), INCOMPATIBLE);
    assert_eq!(run(&mut io, &mut world, strip(pract_read)), (0, 0));
    let insert = |control| copy(WIDE_NSID, 9, 3, control, &[from(PLAIN_NSID, 0, 1)]);
    assert_eq!(run(&mut io, &mut world, insert(0)), INCOMPATIBLE);
    assert_eq!(run(&mut io, &mut world, insert(pract_write)), (0, 0));
    let mixed = [from(WIDE_NSID, 0, 1), from(PLAIN_NSID, 0, 1)];
    assert_eq!(run(&mut io, &mut world, copy(PLAIN_NSID, 9, 2, pract_read, &mixed)), INCOMPATIBLE);
    let layouts: Vec<Layout> = world.port.log.iter().rev().take(4).map(|command| command.layout).collect();
    assert_eq!(layouts, [Layout::DataOnly; 4]);
}

#[test]
fn tuples_go_along_or_are_made_anew_but_not_half() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PI_HOST, false, false);
    let mut write = ranged(0x01, PI_NSID, 7, 1, (1 << 29) | (0b111 << 26));
    put(&mut write, 15, 0xffff_1234);
    assert_eq!(io.run(&mut world, write, &[5; 512]).0, 0);
    let (pract_read, pract_write) = (1 << 15, 1 << 29);
    for control in [pract_read, pract_write] {
        assert_eq!(run(&mut io, &mut world, copy(PI_NSID, 9, 0, control, &[range(7, 1)])), INVALID_FIELD);
    }
    assert_eq!(run(&mut io, &mut world, copy(PI_NSID, 9, 0, 0, &[range(7, 1)])), (0, 0));
    let wire = read(&mut io, &mut world, PI_NSID, 9, 1, 520);
    assert_eq!(&wire[514..], [0x12, 0x34, 0, 0, 0, 7], "as it was");
    assert_eq!(
        run(&mut io, &mut world, copy(PI_NSID, 9, 0, pract_read | pract_write, &[range(7, 1)])),
        (0, 0)
    );
    let wire = read(&mut io, &mut world, PI_NSID, 9, 1, 520);
    assert_eq!(&wire[514..], [0, 0, 0, 0, 0, 9], "made for the destination");
    let source = world.port.log.iter().rfind(|command| command.operation == Operation::CopySource).unwrap();
    assert!(source.plan.check_guard, "nothing bad gets a good guard");
}

#[test]
fn type_1_wants_the_reference_tags_of_both_ends() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PI_HOST, false, false);
    let (check_read, check_write) = (1 << 12, 1 << 26);
    let wrong = [range(7, 1)];
    let right = [Range { reference: 7, ..range(7, 1) }, Range { reference: 1, ..range(1, 1) }];
    assert_eq!(run(&mut io, &mut world, copy(PI_NSID, 9, 0, check_read, &wrong)), INVALID_PROTECTION);
    assert_eq!(run(&mut io, &mut world, copy(PI_NSID, 9, 0, check_read, &right)), (0, 0));
    let (mut sqe, data) = copy(PI_NSID, 9, 0, check_write, &right);
    put(&mut sqe, 14, 8);
    assert_eq!(run(&mut io, &mut world, (sqe, data)), INVALID_PROTECTION);
}

#[test]
fn a_source_that_cannot_be_read_leaves_the_destination_alone() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    io.run(&mut world, ranged(0x01, 1, 100, 1, 0), &[4; 4096]);
    assert_eq!(io.run(&mut world, ranged(0x04, 1, 3, 1, 0), &[]).0, 0);
    assert_eq!(run(&mut io, &mut world, copy(1, 100, 0, 0, &[range(0, 1), range(3, 1)])), (2, 0x81));
    assert_eq!(read(&mut io, &mut world, 1, 100, 1, 4096), [4; 4096]);
    assert_eq!(world.port.live_tickets(), 0);
}

#[test]
fn copies_without_room_come_back_later_and_do_not_wait_for_each_other() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    world.port.tickets_max = 1;
    assert_eq!(run(&mut io, &mut world, copy(1, 100, 0, 0, &[range(0, 1)])), (0, 0x82));
    world.port.tickets_max = 4;
    let cids: Vec<u16> = (0..4)
        .map(|number| {
            let (sqe, data) = copy(1, 100 + number, 0, 0, &[range(number, 1)]);
            io.submit(&mut world, sqe, &data)
        })
        .collect();
    let answers = io.pump(&mut world);
    assert_eq!(answers.len(), cids.len(), "every one is answered");
    assert_eq!(world.port.live_tickets(), 0);
    io.submit(&mut world, copy(1, 100, 0, 0, &[range(0, 1)]).0, &[]);
    io.close(&mut world);
    assert_eq!(world.port.live_tickets(), 0);
}

#[test]
fn a_copy_that_waits_for_room_can_be_aborted() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    world.port.tickets_max = 2;
    world.port.stalled = true;
    let mut reader = ranged(0x02, 1, 0, 1, 0);
    sgl(&mut reader, 0x5a, 0, 4096);
    let reader = io.submit(&mut world, reader, &[]);
    let (copying, data) = copy(1, 100, 0, 0, &[range(0, 1)]);
    let copying = io.submit(&mut world, copying, &data);
    assert_eq!(world.port.live_tickets(), 2, "it has room for its destination, and waits with its source");
    let mut abort = sqe(0x08, 0);
    put(&mut abort, 10, 1 | (u32::from(copying) << 16));
    admin.submit(&mut world, abort, &[]);
    io.connection.directory_changed(&mut world.context());
    assert_eq!(world.port.live_tickets(), 1);
    world.port.stalled = false;
    let answers = io.pump(&mut world);
    assert_eq!(answers.len(), 3, "data and response of {reader}, and the other's response: {answers:?}");
    assert_eq!(world.port.live_tickets(), 0);
}

#[test]
fn a_copy_is_one_host_read_and_one_host_write() {
    let mut world = World::new();
    let (mut admin, mut io) = enabled(&mut world, PLAIN_HOST);
    let (sqe, data) = copy(PLAIN_NSID, 1024, 0, 0, &[range(0, 100), range(200, 25)]);
    assert_eq!(io.run(&mut world, sqe, &data).0, 0);
    let page = crate::asking::log(&mut admin, &mut world, 2, 0, 512).unwrap();
    let counts = [32, 48, 64, 80].map(|at| crate::asking::long(&page, at));
    assert_eq!(counts, [0, 1, 1, 1], "1,000 units written; what Copy reads counts as no units read");
}

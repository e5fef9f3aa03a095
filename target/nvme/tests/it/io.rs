//! I/O commands.

use holdfast_block::{Layout, Operation};

use crate::host::{Host, code, dnr, put, ranged, sgl, sqe};
use crate::world::{
    BLOCKS, PI_HOST, PI_NSID, PLAIN_HOST, PLAIN_NSID, WIDE_NSID, World, exports, plain_volume, wide_volume,
};

fn status_of(io: &mut Host, world: &mut World, sqe: [u8; 64]) -> ((u8, u8), bool) {
    let (status, ..) = io.run(world, sqe, &[]);
    (code(status), dnr(status))
}

fn read(nsid: u32, lba: u64, blocks: u32, len: u32) -> [u8; 64] {
    let mut sqe = ranged(0x02, nsid, lba, blocks, 0);
    sgl(&mut sqe, 0x5a, 0, len);
    sqe
}

#[test]
fn ranges_beyond_the_namespace_are_out_of_range() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    assert_eq!(io.run(&mut world, read(1, BLOCKS - 1, 1, 4096), &[]).0, 0);
    for (lba, blocks) in [(BLOCKS, 1), (BLOCKS - 1, 2), (u64::MAX, 1), (u64::MAX - 1, 2), (u64::MAX, 2)] {
        let asked = read(1, lba, blocks, blocks * 4096);
        assert_eq!(status_of(&mut io, &mut world, asked), ((0, 0x80), true));
    }
    let mut verify = ranged(0x0c, 1, u64::MAX, 1, 0);
    put(&mut verify, 14, 0);
    assert_eq!(status_of(&mut io, &mut world, verify), ((0, 0x80), true));
}

#[test]
fn more_than_mdts_is_an_invalid_field() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    for opcode in [0x01, 0x02, 0x05] {
        let mut sqe = ranged(opcode, 1, 0, 257, 0);
        sgl(&mut sqe, 0x5a, 0, 257 * 4096);
        assert_eq!(status_of(&mut io, &mut world, sqe), ((0, 0x02), true));
    }
}

#[test]
fn what_moves_no_data_may_be_longer_than_mdts_and_is_done_in_pieces() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PI_HOST, false, false);
    let ranges = |world: &World| -> Vec<(u64, u32)> {
        world.port.log.iter().map(|command| (command.lba.0, command.blocks.get())).collect()
    };
    let pieces = [(8, 2048), (8 + 2048, 1952)];
    for (opcode, control) in [(0x0c, 0b001 << 26), (0x04, 0), (0x08, 1 << 29)] {
        let long = ranged(opcode, PI_NSID, 8, 4000, control);
        assert_eq!(io.run(&mut world, long, &[]).0, 0, "opcode {opcode:#x}");
        assert_eq!(ranges(&world), pieces);
        let [first, second] = world.port.log[..] else { panic!() };
        if opcode == 0x0c {
            assert_eq!((first.plan.initial_ref, second.plan.initial_ref), (8, 8 + 2048));
        }
        if opcode == 0x08 {
            let refs = [first, second].map(|command| command.insert.unwrap().initial_ref);
            assert_eq!(refs, [8, 8 + 2048]);
        }
        world.port.log.clear();
    }
    assert_eq!(io.run(&mut world, ranged(0x08, PI_NSID, 8, 4000, 0), &[]).0, 0);
    assert_eq!(ranges(&world), [(8, 4000)], "holes are made at once");
}

#[test]
fn identifiers_that_cannot_be_are_invalid_namespaces_and_those_that_are_not_there_invalid_fields() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    for (nsid, code) in [(0, 0x0b), (1025, 0x0b), (u32::MAX, 0x0b), (3, 0x02), (1024, 0x02)] {
        for opcode in [0x01, 0x02, 0x04, 0x05, 0x08, 0x09, 0x0c, 0x19] {
            let mut sqe = ranged(opcode, nsid, 0, 1, 0);
            sgl(&mut sqe, 0x5a, 0, 4096);
            assert_eq!(status_of(&mut io, &mut world, sqe), ((0, code), true), "opcode {opcode:#x}");
        }
    }
    assert_eq!(status_of(&mut io, &mut world, sqe(0x00, 3)).0, (0, 0x02));
    assert_eq!(status_of(&mut io, &mut world, sqe(0x00, 0)).0, (0, 0x0b));
}

#[test]
fn unknown_opcodes_are_invalid() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    for opcode in [0x03, 0x06, 0x0d, 0x0e, 0x11, 0x12, 0x15, 0x18, 0x1d, 0x80, 0xff] {
        assert_eq!(status_of(&mut io, &mut world, sqe(opcode, 1)), ((0, 0x01), true));
    }
}

#[test]
fn directives_and_keys_are_refused() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    for (opcode, control) in
        [(0x01, 1 << 20), (0x04, 1 << 20), (0x08, 1 << 20), (0x01, 1 << 16), (0x02, 1 << 16), (0x0c, 1 << 16)]
    {
        let mut sqe = ranged(opcode, 1, 0, 1, control);
        sgl(&mut sqe, 0x5a, 0, 4096);
        assert_eq!(status_of(&mut io, &mut world, sqe), ((0, 0x02), true), "opcode {opcode:#x}");
    }
}

#[test]
fn write_zeroes_of_a_whole_namespace_ignores_its_range_and_says_so() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    io.run(&mut world, ranged(0x01, 1, 5, 1, 0), &[9; 4096]);
    let mut all = ranged(0x08, 1, u64::MAX, 1, 1 << 23);
    assert_eq!(status_of(&mut io, &mut world, all), ((0, 0x02), true), "without Deallocate");
    put(&mut all, 12, (1 << 23) | (1 << 25));
    let (status, result, _) = io.run(&mut world, all, &[]);
    assert_eq!((status, result), (0, 1));
    assert_eq!(io.run(&mut world, read(1, 5, 1, 4096), &[]).2, [0; 4096]);
}

#[test]
fn blocks_marked_as_uncorrectable_cannot_be_read_until_they_are_written() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    assert_eq!(io.run(&mut world, ranged(0x04, 1, 6, 2, 0), &[]).0, 0);
    let unreadable = (2, 0x81);
    assert_eq!(status_of(&mut io, &mut world, read(1, 0, 8, 32768)).0, unreadable);
    assert_eq!(status_of(&mut io, &mut world, ranged(0x0c, 1, 7, 1, 0)).0, unreadable);
    assert_eq!(code(io.run(&mut world, ranged(0x05, 1, 7, 1, 0), &[0; 4096]).0), unreadable);
    assert_eq!(io.run(&mut world, ranged(0x01, 1, 6, 1, 0), &[3; 4096]).0, 0);
    assert_eq!(io.run(&mut world, ranged(0x08, 1, 7, 1, 0), &[]).0, 0);
    assert_eq!(io.run(&mut world, read(1, 6, 2, 8192), &[]).2, [vec![3; 4096], vec![0; 4096]].concat());
}

#[test]
fn a_descriptor_shorter_than_the_transfer_is_refused_and_a_longer_one_is_not() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    assert_eq!(status_of(&mut io, &mut world, read(1, 0, 1, 4095)), ((0, 0x0f), true));
    assert_eq!(io.run(&mut world, read(1, 0, 1, 8192), &[]).2.len(), 4096);
    let (status, ..) = io.run(&mut world, ranged(0x01, 1, 0, 2, 0), &[0; 4096]);
    assert_eq!(code(status), (0, 0x0f));
    let (status, ..) = io.run(&mut world, ranged(0x01, 1, 0, 1, 0), &[1; 8192]);
    assert_eq!(status, 0);
    assert_eq!(io.run(&mut world, read(1, 0, 1, 4096), &[]).2, [1; 4096]);
}

#[test]
fn other_descriptors_and_prps_are_refused() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    for identifier in [0x00, 0x01, 0x10, 0x20, 0x30, 0x40] {
        let mut sqe = read(1, 0, 1, 4096);
        sqe[39] = identifier;
        assert_eq!(status_of(&mut io, &mut world, sqe), ((0, 0x11), true));
    }
    let mut prp = read(1, 0, 1, 4096);
    prp[1] = 0;
    assert_eq!(status_of(&mut io, &mut world, prp), ((0, 0x02), true));
    prp[1] = 0x41;
    assert_eq!(status_of(&mut io, &mut world, prp), ((0, 0x02), true));
}

#[test]
fn capsule_data_may_start_at_an_offset() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let mut data = vec![0xee; 64];
    data.extend(vec![7; 4096]);
    let mut write = ranged(0x01, 1, 0, 1, 0);
    sgl(&mut write, 0x01, 64, 4096);
    assert_eq!(io.run(&mut world, write, &data).0, 0);
    assert_eq!(io.run(&mut world, read(1, 0, 1, 4096), &[]).2, [7; 4096]);
    sgl(&mut write, 0x01, 9000, 4096);
    assert_eq!(code(io.run(&mut world, write, &data).0), (0, 0x16));
}

#[test]
fn compare_finds_differences() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    assert_eq!(io.run(&mut world, ranged(0x05, 1, 0, 1, 0), &[0; 4096]).0, 0);
    let (status, ..) = io.run(&mut world, ranged(0x05, 1, 0, 1, 0), &[1; 4096]);
    assert_eq!((code(status), dnr(status)), ((2, 0x85), true));
    let big = vec![0; 4096 * 16];
    assert_eq!(io.run_r2t(&mut world, ranged(0x05, 1, 0, 16, 0), &big, 4096), 0);
}

#[test]
fn dataset_management_deallocates_all_ranges_or_none() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    for lba in [0, 5] {
        io.run(&mut world, ranged(0x01, 1, lba, 1, 0), &[9; 4096]);
    }
    let mut ranges = vec![0; 4096];
    for (at, (blocks, lba)) in [(1_u32, 0_u64), (0, 3), (2, 5)].into_iter().enumerate() {
        ranges[at * 16 + 4..at * 16 + 8].copy_from_slice(&blocks.to_le_bytes());
        ranges[at * 16 + 8..at * 16 + 16].copy_from_slice(&lba.to_le_bytes());
    }
    let mut dsm = sqe(0x09, 1);
    put(&mut dsm, 10, 3);
    put(&mut dsm, 11, 4);
    let mut bad = ranges.clone();
    bad[3 * 16 + 4..3 * 16 + 16].fill(0xff);
    assert_eq!(code(io.run(&mut world, dsm, &bad).0), (0, 0x80));
    assert_eq!(io.run(&mut world, read(1, 0, 1, 4096), &[]).2, [9; 4096]);
    put(&mut dsm, 11, 3);
    assert_eq!(io.run(&mut world, dsm, &ranges).0, 0, "hints alone change nothing");
    assert_eq!(io.run(&mut world, read(1, 0, 1, 4096), &[]).2, [9; 4096]);
    put(&mut dsm, 11, 4);
    assert_eq!(io.run(&mut world, dsm, &ranges).0, 0, "a whole page as hosts send it");
    assert_eq!(io.run(&mut world, read(1, 0, 8, 32768), &[]).2, [0; 32768]);
    assert_eq!(code(io.run(&mut world, dsm, &ranges[..32]).0), (0, 0x0f));
    assert_eq!(io.run_r2t(&mut world, dsm, &ranges[..64], 16), 0);
}

#[test]
fn flush_reaches_one_namespace_or_all() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    assert_eq!(io.run(&mut world, sqe(0x00, 1), &[]).0, 0);
    assert_eq!(io.run(&mut world, sqe(0x00, u32::MAX), &[]).0, 0);
    let flushes = world.port.log.iter().filter(|command| command.operation == Operation::Flush);
    assert_eq!(flushes.count(), 3);
}

#[test]
fn pract_decides_what_is_on_the_wire() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PI_HOST, false, false);
    let mut write = ranged(0x01, PI_NSID, 7, 2, (1 << 29) | (0b111 << 26));
    put(&mut write, 15, 0xffff_1234);
    assert_eq!(io.run(&mut world, write, &[5; 1024]).0, 0);
    let mut whole = read(PI_NSID, 7, 2, 1040);
    put(&mut whole, 12, 1 | (0b101 << 26));
    let (_, _, wire) = io.run(&mut world, whole, &[]);
    assert_eq!(&wire[..512], [5; 512]);
    assert_eq!(&wire[514..520], [0x12, 0x34, 0, 0, 0, 7]);
    assert_eq!(&wire[520 + 514..], [0x12, 0x34, 0, 0, 0, 8]);
    let mut stripped = read(PI_NSID, 7, 2, 1024);
    put(&mut stripped, 12, 1 | (1 << 29) | (0b101 << 26));
    assert_eq!(io.run(&mut world, stripped, &[]).2, [5; 1024]);
    let layouts: Vec<Layout> = world.port.log.iter().map(|command| command.layout).collect();
    assert_eq!(layouts, [Layout::DataOnly, Layout::Interleaved, Layout::DataOnly]);
}

#[test]
fn protection_fields_that_cannot_be_are_refused() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PI_HOST, false, false);
    let refused = ((1, 0x81), true);
    let mut wrong_ref = read(PI_NSID, 7, 1, 520);
    put(&mut wrong_ref, 12, 0b001 << 26);
    put(&mut wrong_ref, 14, 8);
    assert_eq!(status_of(&mut io, &mut world, wrong_ref), refused);
    let mut zeroes = ranged(0x08, PI_NSID, 0, 1, 0b100 << 26);
    put(&mut zeroes, 14, 0);
    assert_eq!(status_of(&mut io, &mut world, zeroes), refused);
    let compare = ranged(0x05, PI_NSID, 0, 1, 1 << 29);
    assert_eq!(code(io.run(&mut world, compare, &[0; 512]).0), (1, 0x81));
    let verify = ranged(0x0c, PI_NSID, 0, 1, 1 << 29);
    assert_eq!(status_of(&mut io, &mut world, verify), ((0, 0x02), true));
    assert!(world.port.log.is_empty());
}

#[test]
fn a_plain_view_of_a_pi_volume_inserts_and_strips() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let write = ranged(0x01, PI_NSID, 7, 2, 0b111 << 26);
    assert_eq!(io.run(&mut world, write, &[5; 1024]).0, 0);
    assert_eq!(io.run(&mut world, read(PI_NSID, 7, 2, 1024), &[]).2, [5; 1024]);
    let [write, read] = world.port.log[..] else { panic!() };
    assert_eq!(write.insert.map(|tags| (tags.app_tag, tags.initial_ref)), Some((0, 7)));
    assert!(read.plan.check_guard && read.plan.check_ref && !read.plan.check_app);
}

#[test]
fn extended_formats_wait_for_a_host_that_knows_them() {
    let mut world = World::new();
    world.exports = exports(2, true, &[(WIDE_NSID, wide_volume()), (PLAIN_NSID, plain_volume(BLOCKS))]);
    let (mut admin, mut io) = Host::io(&mut world, PI_HOST, false, false);
    let mut read = ranged(0x02, WIDE_NSID, 0, 1, 0);
    sgl(&mut read, 0x5a, 0, 4112);
    assert_eq!(code(io.run(&mut world, read, &[]).0), (0, 0x0b));
    assert_eq!(io.run(&mut world, sqe(0x00, u32::MAX), &[]).0, 0, "a Flush of all names none");
    let mut behavior = sqe(0x09, 0);
    put(&mut behavior, 10, 0x16);
    let mut data = vec![0; 512];
    data[2] = 2;
    assert_eq!(code(admin.run(&mut world, behavior, &data).0), (0, 0x02), "a reserved value");
    data[2] = 1;
    assert_eq!(admin.run(&mut world, behavior, &data).0, 0);
    assert_eq!(io.run(&mut world, read, &[]).0, 0);
    data[2] = 0;
    assert_eq!(admin.run(&mut world, behavior, &data).0, 0);
    assert_eq!(code(io.run(&mut world, read, &[]).0), (0, 0x0b));
}

#[test]
fn storage_and_reference_tags_share_three_dwords_as_the_format_says() {
    let mut world = World::new();
    world.exports = exports(2, true, &[(WIDE_NSID, wide_volume())]);
    let (mut admin, mut io) = Host::io(&mut world, PI_HOST, false, false);
    let mut behavior = sqe(0x09, 0);
    put(&mut behavior, 10, 0x16);
    let mut data = vec![0; 512];
    data[2] = 1;
    assert_eq!(admin.run(&mut world, behavior, &data).0, 0);
    // 16 bits of storage tag, 64 of reference tag.
    let mut verify = ranged(0x0c, WIDE_NSID, 7, 1, (0b001 << 26) | (1 << 24));
    put(&mut verify, 2, 0xffff_abcd);
    assert_eq!(io.run(&mut world, verify, &[]).0, 0);
    let plan = world.port.log[0].plan;
    assert_eq!((plan.check_storage, plan.storage_tag, plan.storage_mask), (true, 0xabcd, 0xffff));
    assert_eq!((plan.check_ref, plan.initial_ref), (true, 7));
    put(&mut verify, 3, 1);
    assert_eq!(status_of(&mut io, &mut world, verify), ((1, 0x81), true), "a reference tag beyond 32 bits");
    put(&mut verify, 12, 1 << 24);
    assert_eq!(io.run(&mut world, verify, &[]).0, 0, "nobody looks at it");
}

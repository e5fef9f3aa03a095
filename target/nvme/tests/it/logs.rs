//! Log pages.

use holdfast_block::BlockError;

use crate::asking::{half, identify, log, long, set_feature, word};
use crate::host::{Host, code, put, ranged, sgl, sqe};
use crate::world::{
    BLOCKS, PI_HOST, PI_NSID, PLAIN_HOST, PLAIN_NSID, SUBNQN, World, exports, pi_volume, plain_volume,
};

/// Get Log Page with everything that can be said; the status, and the data.
fn log_with(
    admin: &mut Host,
    world: &mut World,
    nsid: u32,
    dwords: [u32; 5],
    len: u32,
) -> Result<Vec<u8>, (u8, u8)> {
    let mut sqe = sqe(0x02, nsid);
    for (index, dword) in dwords.into_iter().enumerate() {
        put(&mut sqe, 10 + index, dword);
    }
    sgl(&mut sqe, 0x5a, 0, len);
    let (status, _, data) = admin.run(world, sqe, &[]);
    if status == 0 { Ok(data) } else { Err(code(status)) }
}

/// The persistent event log with an action.
fn events(admin: &mut Host, world: &mut World, action: u32, len: u32) -> Result<Vec<u8>, (u8, u8)> {
    log_with(admin, world, u32::MAX, [0x0d | (action << 8) | ((len / 4 - 1) << 16), 0, 0, 0, 0], len)
}

fn event_types(page: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    let mut at = 512;
    while at < long(page, 8) as usize {
        types.push(page[at]);
        at += 3 + usize::from(page[at + 2]) + usize::from(half(page, at + 22));
    }
    assert_eq!(at, long(page, 8) as usize);
    types
}

#[test]
fn log_pages_can_be_read_in_parts() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let whole = log(&mut admin, &mut world, 5, 0, 4096).unwrap();
    let part = log(&mut admin, &mut world, 5, 1024, 64).unwrap();
    assert_eq!(part, whole[1024..1088]);
    assert_eq!(log(&mut admin, &mut world, 5, 4092, 8).unwrap(), [0; 8], "zero beyond the end");
    assert_eq!(log(&mut admin, &mut world, 5, 4100, 4), Err((0, 0x02)));
    assert_eq!(log(&mut admin, &mut world, 5, 2, 4), Err((0, 0x02)));
    let upper = log_with(&mut admin, &mut world, u32::MAX, [5, 0, 0, 1, 0], 4);
    assert_eq!(upper, Err((0, 0x02)), "LPOU counts");
    let long = log_with(&mut admin, &mut world, u32::MAX, [0xffff_0005, 0xffff, 0, 0, 0], u32::MAX);
    assert_eq!(long, Err((0, 0x02)), "longer than MDTS");
    let indexed = log_with(&mut admin, &mut world, u32::MAX, [0x0003_0005, 0, 0, 0, 1 << 23], 16);
    assert_eq!(indexed, Err((0, 0x02)), "no page has an index");
}

#[test]
fn pages_that_are_not_there_are_invalid_and_those_that_are_say_so() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let supported = log(&mut admin, &mut world, 0, 0, 1024).unwrap();
    for lid in 0..=0xff {
        let is_supported = supported[lid as usize * 4] & 1 != 0;
        let action = if lid == 0x0d { 1 << 8 } else { 0 };
        let answer = log(&mut admin, &mut world, lid | action, 0, 512);
        assert_eq!(answer.err(), if is_supported { None } else { Some((1, 0x09)) }, "page {lid:#x}");
    }
    assert_eq!(word(&supported, 0x0d * 4), 1 | (1 << 16));
}

#[test]
fn pages_belong_to_the_controller_and_to_no_namespace() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    for lid in [0, 1, 2, 3, 4, 5, 0x12, 0x13] {
        assert!(log_with(&mut admin, &mut world, 0, [lid | (3 << 16), 0, 0, 0, 0], 16).is_ok());
        let of_namespace = log_with(&mut admin, &mut world, PLAIN_NSID, [lid | (3 << 16), 0, 0, 0, 0], 16);
        assert_eq!(of_namespace, Err((0, 0x02)), "page {lid:#x}");
    }
}

#[test]
fn commands_and_features_are_told_with_their_effects() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let commands = log(&mut admin, &mut world, 5, 0, 4096).unwrap();
    assert_eq!(word(&commands, 0x06 * 4), 1 | (1 << 21));
    assert_eq!(word(&commands, 1024 + 4), 0b11, "Write changes content");
    assert_eq!(word(&commands, 1024 + 8), 0b01, "Read does not");
    assert_eq!(word(&commands, 0x0d * 4), 0, "no Namespace Management");
    let features = log(&mut admin, &mut world, 0x12, 0, 1024).unwrap();
    assert_eq!(word(&features, 0x05 * 4), 1 | (1 << 20));
    assert_eq!(word(&features, 0x0b * 4), 1 | (1 << 21));
    assert_eq!(word(&features, 0x08 * 4), 0, "no interrupts over fabrics");
    for lid in [0x05, 0x12] {
        let other_set = log_with(&mut admin, &mut world, u32::MAX, [lid | (3 << 16), 0, 0, 0, 2 << 24], 16);
        assert_eq!(other_set, Err((0, 0x02)));
    }
    assert_eq!(log(&mut admin, &mut world, 3, 0, 512).unwrap()[0], 1);
}

#[test]
fn a_failed_check_is_in_the_error_log_with_its_block() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PI_HOST, false, false);
    let (status, ..) = io.run(&mut world, ranged(0x01, PI_NSID, 40, 2, 1 << 28), &[0x55; 2 * 520]);
    assert_eq!((code(status), status & 0x4000), ((2, 0x82), 0x4000), "More");
    let page = log(&mut admin, &mut world, 1, 0, 128).unwrap();
    assert_eq!((long(&page, 0), half(&page, 8), half(&page, 12)), (1, 1, status));
    assert_eq!((half(&page, 14), long(&page, 16), word(&page, 24)), (0xffff, 40, PI_NSID));
    assert_eq!((page[29], page[30], page[31], page[63]), (3, 0, 0x01, 1));
    assert_eq!(long(&page, 64), 0, "there is one entry");
}

#[test]
fn the_newest_error_comes_first_and_a_reset_empties_the_log() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let opcode = admin.run(&mut world, sqe(0x7e, 0), &[]).0;
    assert_eq!((code(opcode), opcode & 0x4000), ((0, 0x01), 0x4000));
    let mut read = ranged(0x02, PLAIN_NSID, BLOCKS - 1, 2, 0);
    sgl(&mut read, 0x5a, 0, 8192);
    assert_eq!(code(io.run(&mut world, read, &[]).0), (0, 0x80));
    let page = log(&mut admin, &mut world, 1, 0, 64 * 64).unwrap();
    assert_eq!(long(&page, 16), BLOCKS, "the first block that is not there");
    assert_eq!((long(&page, 0), half(&page, 8), half(&page, 14), page[31]), (2, 1, 40, 0x02));
    assert_eq!((long(&page, 64), half(&page, 72), half(&page, 78), page[64 + 31]), (1, 0, 0, 0x7e));
    let smart = log(&mut admin, &mut world, 2, 0, 512).unwrap();
    assert_eq!((long(&smart, 160), long(&smart, 176)), (0, 2));
    admin.property_set(&mut world, 0x14, 0);
    admin.property_set(&mut world, 0x14, 0x0046_0001);
    assert_eq!(log(&mut admin, &mut world, 1, 0, 64).unwrap(), [0; 64]);
    let smart = log(&mut admin, &mut world, 2, 0, 512).unwrap();
    assert_eq!(long(&smart, 176), 2, "the count goes on");
}

#[test]
fn what_may_be_tried_again_is_no_error_to_be_logged() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    world.port.tickets_max = 0;
    let write = ranged(0x01, PLAIN_NSID, 0, 1, 0);
    // More and Do Not Retry are clear.
    let (status, ..) = io.run(&mut world, write, &[0; 4096]);
    assert_eq!((code(status), status & 0xc000), ((0, 0x82), 0), "{:?}, without ACRE", BlockError::Busy);
    let mut behavior = [0; 512];
    behavior[0] = 1;
    let mut acre = sqe(0x09, 0);
    put(&mut acre, 10, 0x16);
    assert_eq!(admin.run(&mut world, acre, &behavior).0, 0);
    let (status, ..) = io.run(&mut world, write, &[0; 4096]);
    assert_eq!((code(status), status & 0xc000), ((0, 0x21), 0), "{:?}, with ACRE", BlockError::Busy);
    assert_eq!(log(&mut admin, &mut world, 1, 0, 64).unwrap(), [0; 64]);
}

#[test]
fn smart_counts_in_thousands_of_512_bytes() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let counts = |admin: &mut Host, world: &mut World| {
        let page = log(admin, world, 2, 0, 512).unwrap();
        [32, 48, 64, 80].map(|at| long(&page, at))
    };
    assert_eq!(counts(&mut admin, &mut world), [0; 4]);
    // 125 blocks of 4096 bytes are 1,000 units.
    let mut write = ranged(0x01, PLAIN_NSID, 0, 125, 0);
    sgl(&mut write, 0x5a, 0, 125 * 4096);
    assert_eq!(io.run_r2t(&mut world, write, &vec![0; 125 * 4096], 64 * 1024), 0);
    assert_eq!(counts(&mut admin, &mut world), [0, 1, 0, 1]);
    let mut read = ranged(0x02, PLAIN_NSID, 0, 1, 0);
    sgl(&mut read, 0x5a, 0, 4096);
    assert_eq!(io.run(&mut world, read, &[]).0, 0);
    assert_eq!(io.run(&mut world, ranged(0x0c, PLAIN_NSID, 0, 125, 0), &[]).0, 0, "Verify");
    assert_eq!(counts(&mut admin, &mut world), [2, 1, 1, 1]);
    io.close(&mut world);
    assert_eq!(counts(&mut admin, &mut world), [2, 1, 1, 1], "what a queue has moved stays");
    let page = log(&mut admin, &mut world, 2, 0, 512).unwrap();
    assert_eq!((page[0], half(&page, 1), page[3], page[4], page[5]), (0, 298, 100, 10, 0));
}

#[test]
fn persistent_events_are_read_from_a_picture() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PI_HOST, false, false);
    let data = identify(&mut admin, &mut world, 1, 0).unwrap();
    assert_eq!((data[261] & (1 << 4), word(&data, 352)), (1 << 4, 1), "LPA, PELS");
    assert_eq!(events(&mut admin, &mut world, 0, 512), Err((0, 0x0c)), "there is no context yet");
    assert_eq!(events(&mut admin, &mut world, 2, 512), Ok(vec![]), "releasing none is fine");

    assert_eq!(code(io.run(&mut world, ranged(0x01, PI_NSID, 0, 1, 1 << 28), &[0x55; 520]).0), (2, 0x82));
    let page = events(&mut admin, &mut world, 1, 4096).unwrap();
    assert_eq!((page[0], half(&page, 18), half(&page, 372)), (0x0d, 492, 1));
    assert_eq!(&page[116..116 + SUBNQN.len()], SUBNQN.as_bytes());
    assert_eq!(word(&page, 374) & (1 << 18), 0, "no context was there");
    assert_eq!(event_types(&page), [0x01, 0x05, 0x04], "the newest first");
    assert_eq!(word(&page, 4), 3);
    assert_eq!(page[480], 0b0111_1010);
    let error = 512 + 24 + 512;
    assert_eq!((page[error], half(&page, error + 24)), (0x05, 0x0a));
    assert_eq!(code(half(&page, error + 24 + 4 + 14)), (2, 0x82));

    assert_eq!(events(&mut admin, &mut world, 1, 512), Err((0, 0x0c)), "one context at a time");
    let again = events(&mut admin, &mut world, 0, 4096).unwrap();
    assert_eq!(again[512..], page[512..]);
    assert_eq!(word(&again, 374) & (1 << 18), 1 << 18);
    assert_eq!(events(&mut admin, &mut world, 2, 512), Ok(vec![]));
    let header = events(&mut admin, &mut world, 3, 512).unwrap();
    assert_eq!((header.len(), half(&header, 372)), (512, 2));
    assert_eq!(events(&mut admin, &mut world, 3, 512).unwrap().len(), 512, "with a context or without");
}

#[test]
fn resets_and_changed_namespaces_are_kept_as_events() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    world.exports = exports(2, true, &[(PI_NSID, pi_volume()), (7, plain_volume(BLOCKS))]);
    admin.connection.exports_changed(&mut world.context());
    let page = events(&mut admin, &mut world, 1, 4096).unwrap();
    assert_eq!(event_types(&page), [0x01, 0x06, 0x06, 0x04]);
    let created = 512 + 24 + 512 + 24;
    assert_eq!((word(&page, created), long(&page, created + 8), word(&page, created + 44)), (0, BLOCKS, 7));
    let deleted = created + 48 + 24;
    assert_eq!((word(&page, deleted), word(&page, deleted + 44)), (1, PLAIN_NSID));

    admin.property_set(&mut world, 0x14, 0);
    admin.property_set(&mut world, 0x14, 0x0046_0001);
    assert_eq!(events(&mut admin, &mut world, 0, 512), Err((0, 0x0c)), "the context went with the reset");
    let page = events(&mut admin, &mut world, 1, 8192).unwrap();
    assert_eq!(event_types(&page)[..3], [0x01, 0x01, 0x04]);
}

#[test]
fn a_host_that_sets_the_time_leaves_an_event() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let mut set = sqe(0x09, 0);
    put(&mut set, 10, 0x0e);
    assert_eq!(admin.run(&mut world, set, &[1, 2, 3, 4, 5, 0, 0, 0]).0, 0);
    let page = events(&mut admin, &mut world, 1, 4096).unwrap();
    assert_eq!(event_types(&page), [0x01, 0x03, 0x04]);
    assert_eq!(code(set_feature(&mut admin, &mut world, 0x8000_000e, 0).0), (1, 0x0d));
}

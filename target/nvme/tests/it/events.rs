//! Asynchronous events.

use holdfast_block::Enforce;

use crate::host::{Host, Pdu, code, put, ranged, sgl, sqe};
use crate::world::{
    BLOCKS, PI_HOST, PI_NSID, PLAIN_HOST, PLAIN_NSID, SUBNQN, World, exports, exports_with, pi_volume,
    plain_volume,
};

const NAMESPACE_CHANGED: u64 = 0x0004_0002;

fn enable_events(admin: &mut Host, world: &mut World, mask: u32) {
    let mut set = sqe(0x09, 0);
    put(&mut set, 10, 0x0b);
    put(&mut set, 11, mask);
    assert_eq!(admin.run(world, set, &[]).0, 0);
}

fn changed_list(admin: &mut Host, world: &mut World, retain: u32) -> Vec<u32> {
    let mut get = sqe(0x02, u32::MAX);
    put(&mut get, 10, 0x04 | (retain << 15) | (1023 << 16));
    sgl(&mut get, 0x5a, 0, 4096);
    let (status, _, data) = admin.run(world, get, &[]);
    assert_eq!(status, 0);
    let words = data.chunks(4).map(|chunk| u32::from_le_bytes(chunk.try_into().unwrap()));
    words.take_while(|nsid| *nsid != 0).collect()
}

fn change(world: &mut World, hosts: &mut [&mut Host], exports: holdfast_block::Exports) {
    world.exports = exports;
    for host in hosts {
        host.connection.exports_changed(&mut world.context());
    }
}

#[test]
fn a_namespace_change_is_told_once_and_listed() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    enable_events(&mut admin, &mut world, 1 << 8);
    let cid = admin.submit(&mut world, sqe(0x0c, 0), &[]);
    admin.submit(&mut world, sqe(0x0c, 0), &[]);
    assert!(admin.pump(&mut world).is_empty());
    change(&mut world, &mut [&mut admin], exports(2, true, &[(PLAIN_NSID, plain_volume(BLOCKS))]));
    let answer = admin.pump(&mut world);
    let [Pdu::Response { cid: first, status: 0, result: NAMESPACE_CHANGED, .. }] = answer[..] else {
        panic!("{answer:?}")
    };
    assert_eq!(first, cid);
    change(&mut world, &mut [&mut admin], exports(3, true, &[(PLAIN_NSID, plain_volume(BLOCKS + 1))]));
    assert!(admin.pump(&mut world).is_empty(), "masked until the list is read");
    assert_eq!(changed_list(&mut admin, &mut world, 1), [PLAIN_NSID, PI_NSID]);
    assert_eq!(changed_list(&mut admin, &mut world, 0), [PLAIN_NSID, PI_NSID]);
    assert!(changed_list(&mut admin, &mut world, 0).is_empty());
    change(&mut world, &mut [&mut admin], exports(4, true, &[]));
    assert_eq!(admin.pump(&mut world).len(), 1);
}

#[test]
fn an_unrelated_change_is_not_told() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    enable_events(&mut admin, &mut world, 1 << 8);
    admin.submit(&mut world, sqe(0x0c, 0), &[]);
    let same = exports(2, true, &[(PLAIN_NSID, plain_volume(BLOCKS)), (PI_NSID, pi_volume())]);
    change(&mut world, &mut [&mut admin], same);
    assert!(admin.pump(&mut world).is_empty());
}

#[test]
fn a_discovery_controller_tells_of_new_subsystems() {
    let mut world = World::new();
    let discovery = "nqn.2014-08.org.nvmexpress.discovery";
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, discovery);
    enable_events(&mut admin, &mut world, 1 << 31);
    admin.submit(&mut world, sqe(0x0c, 0), &[]);
    change(&mut world, &mut [&mut admin], exports(2, false, &[]));
    let answer = admin.pump(&mut world);
    let [Pdu::Response { status: 0, result: 0x0070_f002, .. }] = answer[..] else { panic!("{answer:?}") };
}

#[test]
fn requests_are_limited_and_can_be_aborted() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let cids: Vec<u16> = (0..4).map(|_| admin.submit(&mut world, sqe(0x0c, 0), &[])).collect();
    assert_eq!(code(admin.run(&mut world, sqe(0x0c, 0), &[]).0), (1, 0x05));
    let mut abort = sqe(0x08, 0);
    put(&mut abort, 10, u32::from(cids[2]) << 16);
    admin.submit(&mut world, abort, &[]);
    let answers = admin.pump(&mut world);
    let [Pdu::Response { cid, status, .. }, Pdu::Response { status: 0, result: 0, .. }] = answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!((cid, code(status)), (cids[2], (0, 0x07)));
    admin.submit(&mut world, sqe(0x0c, 0), &[]);
    assert!(admin.pump(&mut world).is_empty());
}

#[test]
fn io_follows_what_happens_to_its_namespace() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let mut read = ranged(0x02, PLAIN_NSID, BLOCKS, 1, 0);
    sgl(&mut read, 0x5a, 0, 4096);
    assert_eq!(code(io.run(&mut world, read, &[]).0), (0, 0x80));
    change(&mut world, &mut [&mut io], exports(2, true, &[(PLAIN_NSID, plain_volume(BLOCKS + 1))]));
    assert_eq!(io.run(&mut world, read, &[]).0, 0, "grown");
    change(&mut world, &mut [&mut io], exports(3, true, &[]));
    assert_eq!(world.port.live_attachments(), 0);
    assert_eq!(code(io.run(&mut world, read, &[]).0), (0, 0x02));
}

#[test]
fn a_changed_demand_takes_effect_at_once() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PI_HOST, false, false);
    let write = ranged(0x01, PI_NSID, 0, 1, 1 << 29);
    assert_eq!(io.run(&mut world, write, &[0; 512]).0, 0);
    change(&mut world, &mut [&mut io], exports_with(2, true, Enforce::RequirePi, &[(PI_NSID, pi_volume())]));
    assert_eq!(world.port.enforce(), [Enforce::RequirePi]);
    assert_eq!(code(io.run(&mut world, write, &[0; 512]).0), (1, 0x81));
}

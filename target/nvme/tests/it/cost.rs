//! Budgets: input is taken PDU by PDU, and what it costs is told.

use crate::host::{Host, Pdu, ranged, sgl};
use crate::world::{PI_HOST, PI_HOST_ID, PLAIN_HOST, PLAIN_NSID, World};
use holdfast_block::{PDU_COST, Taken};

/// A Read of so many 4 KiB blocks.
fn read(host: &Host, cid: u16, blocks: u32) -> Vec<u8> {
    let mut sqe = ranged(0x02, PLAIN_NSID, 0, blocks, 0);
    sqe[2..4].copy_from_slice(&cid.to_le_bytes());
    sgl(&mut sqe, 0x5a, 0, blocks * 4096);
    host.capsule(&sqe, &[])
}

/// A Write of one block, with the block in its capsule.
fn write(host: &Host, cid: u16) -> Vec<u8> {
    let mut sqe = ranged(0x01, PLAIN_NSID, 0, 1, 0);
    sqe[2..4].copy_from_slice(&cid.to_le_bytes());
    sgl(&mut sqe, 0x01, 0, 4096);
    host.capsule(&sqe, &[7; 4096])
}

#[test]
fn a_budget_buys_whole_commands_and_what_is_left_begins_with_one() {
    let mut world = World::new();
    let (_admin, mut host) = Host::io(&mut world, PLAIN_HOST, false, false);
    let one = read(&host, 1, 1);
    let bytes: Vec<u8> = (1..=8).flat_map(|cid| read(&host, cid, 1)).collect();
    let each = PDU_COST + 4096;
    let taken = host.connection.receive(&mut world.context(), &bytes, 3 * each);
    assert_eq!(taken, Taken { bytes: 3 * one.len(), cost: 3 * each });
    assert_eq!(host.pump(&mut world).len(), 3 * 2);
    // One more than a command costs pays for a second one.
    let rest = &bytes[taken.bytes..];
    let taken = host.connection.receive(&mut world.context(), rest, each + 1);
    assert_eq!(taken, Taken { bytes: 2 * one.len(), cost: 2 * each });
}

#[test]
fn a_command_is_taken_with_its_payload_however_small_the_budget() {
    let mut world = World::new();
    let (_admin, mut host) = Host::io(&mut world, PLAIN_HOST, false, true);
    let one = write(&host, 1);
    let bytes = [one.clone(), write(&host, 2)].concat();
    let taken = host.connection.receive(&mut world.context(), &bytes, 1);
    assert_eq!(taken, Taken { bytes: one.len(), cost: PDU_COST + 4096 });
    let answer = host.pump(&mut world);
    assert!(matches!(answer[..], [Pdu::Response { cid: 1, status: 0, .. }]), "{answer:?}");
}

#[test]
fn a_large_command_costs_as_its_bytes() {
    let mut world = World::new();
    let (_admin, mut host) = Host::io(&mut world, PLAIN_HOST, false, false);
    let bytes = read(&host, 1, 256);
    assert_eq!(host.connection.receive(&mut world.context(), &bytes, 1).cost, PDU_COST + (1 << 20));
    host.pump(&mut world);
    // A write costs when its payload comes.
    let mut sqe = ranged(0x01, PLAIN_NSID, 0, 16, 0);
    sgl(&mut sqe, 0x5a, 0, 65536);
    let bytes = host.capsule(&sqe, &[]);
    assert_eq!(host.connection.receive(&mut world.context(), &bytes, 1).cost, PDU_COST);
    let asked = host.pump(&mut world);
    let [Pdu::R2t { ttag, .. }] = asked[..] else { panic!("{asked:?}") };
    let bytes = host.h2cdata(0, ttag, 0, &[1; 65536], true);
    let (early, late) = bytes.split_at(30_000);
    assert_eq!(host.connection.receive(&mut world.context(), early, 1).cost, PDU_COST + 30_000 - 24);
    assert_eq!(host.connection.receive(&mut world.context(), late, 1).cost, 65536 - 30_000 + 24);
}

#[test]
fn blocks_that_stay_in_the_target_cost_less_than_those_that_move_and_more_than_nothing() {
    let mut world = World::new();
    let (_admin, mut host) = Host::io(&mut world, PLAIN_HOST, false, false);
    for opcode in [0x0c, 0x08] {
        let bytes = host.capsule(&ranged(opcode, PLAIN_NSID, 0, 256, 0), &[]);
        let cost = host.connection.receive(&mut world.context(), &bytes, 1).cost;
        assert!((PDU_COST + 1..PDU_COST + (1 << 20)).contains(&cost), "opcode {opcode:#x}: {cost}");
        host.pump(&mut world);
    }
}

#[test]
fn a_connection_that_ends_takes_everything() {
    let mut world = World::new();
    let (_admin, mut host) = Host::io(&mut world, PLAIN_HOST, false, false);
    let bytes = [0xff; 4096];
    let taken = host.connection.receive(&mut world.context(), &bytes, 1);
    assert_eq!(taken.bytes, bytes.len());
    host.expect_term(&mut world, 1, 0);
    assert_eq!(host.connection.receive(&mut world.context(), &bytes, 1).bytes, bytes.len());
}

#[test]
fn a_connection_belongs_to_its_host_from_connect_on() {
    let mut world = World::new();
    let mut host = Host::new(&world, 9);
    host.initialize(&mut world, false, false);
    assert!(host.connection.is_half_open());
    assert_eq!(host.connection.host(), None);
    let (admin, io) = Host::io(&mut world, PI_HOST, false, false);
    for queue in [admin, io] {
        assert!(!queue.connection.is_half_open());
        assert_eq!(queue.connection.host().map(|host| host.get()), Some(PI_HOST_ID));
    }
}

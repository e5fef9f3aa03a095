//! What a connection's input costs, and where it stops.

use crate::initiator::{Initiator, pattern};
use crate::wire::{NO_TAG, NOP_OUT, Pdu};
use crate::world::World;

#[test]
fn input_is_taken_up_to_the_budget_and_by_whole_pdus() {
    let mut world = World::new();
    let mut initiator = Initiator::ready(&mut world, &[]);
    let pdus: Vec<Vec<u8>> = (0..8)
        .map(|_| {
            let ping = Pdu::new(NOP_OUT).word(20, NO_TAG).data(&[7; 100]);
            initiator.number(ping).encode(Default::default())
        })
        .collect();
    let bytes = pdus.concat();
    let taken = world.with(initiator.at, |connection, cx| connection.receive(cx, &bytes, 1));
    assert_eq!((taken.bytes, taken.cost), (pdus[0].len(), holdfast_block::PDU_COST + 100));
    let rest = &bytes[taken.bytes..];
    let budget = 2 * holdfast_block::PDU_COST;
    let taken = world.with(initiator.at, |connection, cx| connection.receive(cx, rest, budget));
    assert_eq!(taken.bytes, 2 * pdus[0].len());
    let rest = &rest[taken.bytes..];
    let taken = world.with(initiator.at, |connection, cx| connection.receive(cx, rest, u64::MAX));
    assert_eq!(taken.bytes, rest.len());
    assert_eq!(initiator.answers(&mut world).len(), 8);
    world.finish();
}

#[test]
fn data_is_paid_for_in_both_directions() {
    let mut world = World::new();
    let mut initiator = Initiator::ready(&mut world, &["MaxRecvDataSegmentLength=65536"]);
    let mut cost = |world: &mut World, pdu: Pdu| {
        let bytes = initiator.number(pdu).encode(Default::default());
        let taken = world.with(initiator.at, |connection, cx| connection.receive(cx, &bytes, u64::MAX));
        initiator.answers(world);
        // What was done since is told by the next call.
        let ping = Pdu::new(NOP_OUT).immediate().itt(NO_TAG).word(20, NO_TAG).encode(Default::default());
        let later = world.with(initiator.at, |connection, cx| connection.receive(cx, &ping, u64::MAX));
        taken.cost + later.cost - holdfast_block::PDU_COST
    };
    let write = Pdu::new(1).flags(0xa1).word(20, 4096).bytes(32, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 8]);
    let written = cost(&mut world, write.data(&pattern(8, 1)));
    let read = Pdu::new(1).flags(0xc1).word(20, 4096).bytes(32, &[0x28, 0, 0, 0, 0, 0, 0, 0, 8]);
    let read = cost(&mut world, read);
    assert_eq!((written, read), (holdfast_block::PDU_COST + 4096, holdfast_block::PDU_COST + 4096));
    world.finish();
}

#[test]
fn a_peer_that_asks_and_does_not_read_is_disconnected() {
    let mut world = World::new();
    let mut initiator = Initiator::ready(&mut world, &["MaxRecvDataSegmentLength=262144"]);
    for _ in 0..200 {
        let ping = Pdu::new(NOP_OUT).immediate().word(20, NO_TAG).data(&[7; 65536]);
        initiator.send(&mut world, ping);
    }
    world.pump();
    assert!(world.links[initiator.at].closed);
    world.finish();
}

//! Long commands and additional headers: RFC 7143 §11.2.2 "Additional Header Segment (AHS)"; and what no PDU may be.

use crate::initiator::Initiator;
use crate::wire::{COMMAND, F, NO_TAG, NOP_OUT, Pdu, R};
use crate::world::World;

#[test]
fn a_long_cdb_goes_on_behind_the_header() {
    let mut world = World::new();
    let mut initiator = Initiator::ready(&mut world, &[]);
    // READ (32), which only volumes with tuples of type 2 have: it is the service action that is refused.
    let mut cdb = [0; 32];
    (cdb[0], cdb[7], cdb[9]) = (0x7f, 24, 9);
    let ahs = [&[0, 17, 1, 0][..], &cdb[16..]].concat();
    let command = Pdu::new(COMMAND).flags(F | R | 1).word(20, 512).bytes(32, &cdb[..16]).ahs(&ahs);
    let done = initiator.run(&mut world, command);
    assert_eq!((done.status, done.sense.map(|sense| sense.0)), (2, Some(5)));
    world.finish();
}

#[test]
fn additional_headers_of_other_requests_are_passed_over() {
    let mut world = World::new();
    let mut initiator = Initiator::ready(&mut world, &["HeaderDigest=CRC32C"]);
    let ping = Pdu::new(NOP_OUT).word(20, NO_TAG).ahs(&[0xff; 1020]).data(b"abc");
    assert_eq!(initiator.ask(&mut world, ping).data, b"abc");
    world.finish();
}

#[test]
fn more_data_than_declared_ends_the_connection() {
    let mut world = World::new();
    let initiator = Initiator::ready(&mut world, &[]);
    let long = Pdu::new(NOP_OUT).word(20, NO_TAG).word(24, initiator.cmd_sn).data(&vec![0; 262_145]);
    world.send(initiator.at, &long);
    world.pump();
    assert!(world.links[initiator.at].closed);
    world.finish();
}

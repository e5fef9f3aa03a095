//! RFC 7143 §7.8 "Digest Errors".

use crate::initiator::{Initiator, done, pattern};
use crate::wire::{F, LOGOUT, LOGOUT_RESPONSE, NO_TAG, NOP_IN, NOP_OUT, Pdu, R2T, REJECT, RESPONSE, W};
use crate::world::World;

fn ready() -> (World, Initiator) {
    let mut world = World::new();
    let keys =
        ["HeaderDigest=CRC32C", "DataDigest=CRC32C", "InitialR2T=No", "MaxRecvDataSegmentLength=65536"];
    let initiator = Initiator::ready(&mut world, &keys);
    (world, initiator)
}

/// Sends a PDU with its last byte but for the digest changed.
fn send_damaged(world: &mut World, initiator: &Initiator, pdu: &Pdu) {
    let mut bytes = pdu.encode(world.links[initiator.at].digests);
    let at = bytes.len() - 5;
    bytes[at] ^= 0x20;
    world.feed(initiator.at, &bytes);
}

fn rejected(answers: &[Pdu], pdu: &Pdu, digests: crate::wire::Digests) {
    assert_eq!((answers[0].opcode(), answers[0].bhs[2]), (REJECT, 0x02), "{answers:02x?}");
    assert_eq!(answers[0].data, pdu.encode(digests)[..48], "its header");
}

#[test]
fn a_damaged_header_ends_the_connection() {
    let (mut world, mut initiator) = ready();
    let pdu = initiator.number(initiator_command());
    send_damaged(&mut world, &initiator, &pdu);
    assert!(world.is_quiet(initiator.at));
    assert!(world.links[initiator.at].closed);
    let digests = world.counters.digest(holdfast_block::HostId::new(10).unwrap());
    assert_eq!(digests.row(), (1, 0));
    world.finish();
}

fn initiator_command() -> Pdu {
    Pdu::new(crate::wire::COMMAND).flags(F | 1)
}

#[test]
fn damaged_immediate_data_discards_the_command() {
    let (mut world, mut initiator) = ready();
    let cmd_sn = initiator.cmd_sn;
    let data = pattern(2, 1);
    let write = initiator.write(0, 2).data(&data);
    let write = initiator.number(write);
    send_damaged(&mut world, &initiator, &write);
    let answers = initiator.answers(&mut world);
    rejected(&answers, &write, world.links[initiator.at].digests);
    assert_eq!((answers.len(), answers[0].exp_cmd_sn()), (1, cmd_sn), "its number has not come");
    // The same command again.
    world.send(initiator.at, &write);
    let answers = initiator.answers(&mut world);
    assert_eq!(done(&answers, write.tag()).unwrap().status, 0);
    let read = initiator.read(0, 2);
    assert!(initiator.run(&mut world, read).data == data);
    world.finish();
}

#[test]
fn a_damaged_command_does_not_take_a_unit_attention_with_it() {
    let mut world = World::new();
    let mut initiator = Initiator::open(&mut world, &["DataDigest=CRC32C"]);
    let write = initiator.write(0, 1).data(&pattern(1, 1));
    let write = initiator.number(write);
    send_damaged(&mut world, &initiator, &write);
    assert_eq!(initiator.answer(&mut world).opcode(), REJECT);
    world.send(initiator.at, &write);
    let answers = initiator.answers(&mut world);
    let told = done(&answers, write.tag()).unwrap();
    assert_eq!((told.status, told.sense.map(|sense| sense.0)), (2, Some(6)), "a unit attention");
    world.finish();
}

#[test]
fn damaged_solicited_data_fails_the_command_when_all_has_come() {
    let (mut world, mut initiator) = ready();
    let write = initiator.write(0, 4);
    let tag = initiator.send(&mut world, write);
    let r2t = initiator.answer(&mut world);
    assert_eq!(r2t.opcode(), R2T);
    let first = initiator.data_out(tag, r2t.ttt(), 0, 0, false, &pattern(2, 1));
    send_damaged(&mut world, &initiator, &first);
    let answers = initiator.answers(&mut world);
    rejected(&answers, &first, world.links[initiator.at].digests);
    assert_eq!(answers.len(), 1, "the rest is waited for");
    world.send(initiator.at, &initiator.data_out(tag, r2t.ttt(), 1, 1024, true, &pattern(2, 1)));
    let answers = initiator.answers(&mut world);
    let done = done(&answers, tag).unwrap();
    assert_eq!((done.status, done.sense), (2, Some((0xb, 0x47, 0x05))));
    let read = initiator.read(0, 4);
    let read = initiator.run(&mut world, read);
    assert!(read.data.iter().all(|byte| *byte == 0), "nothing was stored");
    let digests = world.counters.digest(holdfast_block::HostId::new(10).unwrap());
    assert_eq!(digests.row(), (0, 1));
    world.finish();
}

#[test]
fn damaged_unsolicited_data_fails_the_command_when_all_has_come() {
    let (mut world, mut initiator) = ready();
    let write = initiator.write(0, 4).flags(W | 1).data(&pattern(1, 1));
    let tag = initiator.send(&mut world, write);
    let first = initiator.data_out(tag, NO_TAG, 0, 512, false, &pattern(1, 1));
    send_damaged(&mut world, &initiator, &first);
    assert_eq!(initiator.answer(&mut world).opcode(), REJECT);
    world.send(initiator.at, &initiator.data_out(tag, NO_TAG, 1, 1024, true, &pattern(2, 1)));
    let answers = initiator.answers(&mut world);
    assert_eq!(answers[0].opcode(), RESPONSE);
    assert_eq!(done(&answers, tag).unwrap().sense, Some((0xb, 0x47, 0x05)));
    world.finish();
}

#[test]
fn a_damaged_ping_is_rejected_and_may_come_again() {
    let (mut world, mut initiator) = ready();
    let ping = initiator.number(Pdu::new(NOP_OUT).word(20, NO_TAG).data(b"12345678"));
    send_damaged(&mut world, &initiator, &ping);
    let answers = initiator.answers(&mut world);
    rejected(&answers, &ping, world.links[initiator.at].digests);
    world.send(initiator.at, &ping);
    assert_eq!(initiator.answer(&mut world).opcode(), NOP_IN);
    assert_eq!(initiator.ask(&mut world, Pdu::new(LOGOUT)).opcode(), LOGOUT_RESPONSE);
    world.finish();
}

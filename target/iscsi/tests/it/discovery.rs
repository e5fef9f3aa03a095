//! Discovery sessions: RFC 7143 §4.3 "iSCSI Session Types", Appendix C "SendTargets Operation".

use crate::initiator::Initiator;
use crate::wire::{
    COMMAND, DATA_OUT, LOGOUT, LOGOUT_RESPONSE, MANAGE, NO_TAG, NOP_OUT, Pdu, REJECT, TEXT, TEXT_RESPONSE,
};
use crate::world::World;

fn text(data: &[u8]) -> Pdu {
    Pdu::new(TEXT).word(20, NO_TAG).data(data)
}

#[test]
fn targets_are_told() {
    let mut world = World::new();
    let mut initiator = Initiator::discover(&mut world);
    assert_eq!(world.links[initiator.at].connection.host(), None);
    let answer = initiator.ask(&mut world, text(b"SendTargets=All\0"));
    assert_eq!((answer.opcode(), answer.bhs[1], answer.ttt()), (TEXT_RESPONSE, 0x80, NO_TAG));
    assert_eq!(answer.exp_cmd_sn(), 101, "it is numbered");
    let told = String::from_utf8(answer.data).unwrap();
    assert_eq!(told, "TargetName=iqn.2026-11.io.holdfast:test\0TargetAddress=127.0.0.1:3260,1\0");
    world.finish();
}

#[test]
fn only_text_and_logout_are_taken() {
    let mut world = World::new();
    let mut initiator = Initiator::discover(&mut world);
    for opcode in [NOP_OUT, COMMAND, MANAGE, DATA_OUT] {
        let request = Pdu::new(opcode).immediate().itt(3).word(20, NO_TAG).word(24, 100);
        world.send(initiator.at, &request);
        let answer = initiator.answer(&mut world);
        assert_eq!((answer.opcode(), answer.bhs[2]), (REJECT, 0x04), "{opcode:#x}");
        assert_eq!(answer.data, request.encode(Default::default())[..48]);
    }
    let answer = initiator.ask(&mut world, Pdu::new(LOGOUT));
    assert_eq!((answer.opcode(), answer.bhs[2]), (LOGOUT_RESPONSE, 0));
    assert!(world.links[initiator.at].closed);
    world.finish();
}

#[test]
fn an_exchange_is_rejected_with_its_number_unused() {
    let mut world = World::new();
    let mut initiator = Initiator::discover(&mut world);
    let stray = initiator.ask(&mut world, Pdu::new(TEXT).word(20, 77));
    assert_eq!((stray.opcode(), stray.bhs[2], stray.exp_cmd_sn()), (REJECT, 0x09, 100));
    // The same number again.
    initiator.cmd_sn = 100;
    let answer = initiator.ask(&mut world, text(b"SendTargets=All\0"));
    assert_eq!((answer.opcode(), answer.exp_cmd_sn()), (TEXT_RESPONSE, 101));
    world.finish();
}

#[test]
fn more_text_than_anybody_needs_is_rejected() {
    let mut world = World::new();
    let mut initiator = Initiator::discover(&mut world);
    let part = vec![b'A'; 8192];
    for _ in 0..2 {
        let answer = initiator.ask(&mut world, text(&part).flags(0x40).immediate());
        if answer.opcode() == REJECT {
            break;
        }
    }
    let answer = initiator.ask(&mut world, text(b"SendTargets=All\0"));
    assert_eq!(answer.opcode(), TEXT_RESPONSE);
    world.finish();
}

#[test]
fn a_discovery_session_that_says_nothing_ends_without_being_asked() {
    let mut world = World::new();
    let initiator = Initiator::discover(&mut world);
    let due = world.links[initiator.at].connection.deadline_ms().unwrap();
    world.pass(due - world.now_ms - 1);
    assert!(world.is_quiet(initiator.at) && !world.links[initiator.at].closed);
    world.pass(1);
    assert!(world.is_quiet(initiator.at) && world.links[initiator.at].closed);
    world.finish();
}

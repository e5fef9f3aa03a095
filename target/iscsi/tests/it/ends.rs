//! Logout: RFC 7143 §11.14 "Logout Request" and §11.15 "Logout Response".

use crate::initiator::Initiator;
use crate::wire::{F, LOGOUT, LOGOUT_RESPONSE, Pdu, R2T, REJECT, RESPONSE};
use crate::world::World;

#[test]
fn a_logout_ends_session_and_connection() {
    for (reason, immediate) in [(0, false), (0, true), (1, false), (1, true)] {
        let mut world = World::new();
        let mut initiator = Initiator::ready(&mut world, &[]);
        let request = Pdu::new(LOGOUT).flags(F | reason);
        let request = if immediate { request.immediate() } else { request };
        let answer = initiator.ask(&mut world, request);
        assert_eq!((answer.opcode(), answer.bhs[1], answer.bhs[2]), (LOGOUT_RESPONSE, F, 0));
        assert_eq!(answer.exp_cmd_sn(), initiator.cmd_sn);
        assert!(world.links[initiator.at].closed);
        assert_eq!((world.directory.sessions(), world.sessions.list().len()), (0, 0));
        world.finish();
    }
}

#[test]
fn another_connection_cannot_be_closed() {
    let mut world = World::new();
    let mut initiator = Initiator::ready(&mut world, &[]);
    let answer = initiator.ask(&mut world, Pdu::new(LOGOUT).flags(F | 1).half(20, 9));
    assert_eq!((answer.opcode(), answer.bhs[2]), (LOGOUT_RESPONSE, 1));
    assert!(!world.links[initiator.at].closed);
    let answer = initiator.ask(&mut world, Pdu::new(LOGOUT).flags(F | 9));
    assert_eq!((answer.opcode(), answer.bhs[2]), (REJECT, 0x09));
    world.finish();
}

#[test]
fn connections_are_not_recovered() {
    let mut world = World::new();
    let mut initiator = Initiator::ready(&mut world, &[]);
    let answer = initiator.ask(&mut world, Pdu::new(LOGOUT).flags(F | 2));
    assert_eq!((answer.opcode(), answer.bhs[2]), (LOGOUT_RESPONSE, 2));
    world.finish();
}

#[test]
fn commands_that_ended_are_answered_before_the_logout_and_others_are_not() {
    let mut world = World::new();
    let mut initiator = Initiator::ready(&mut world, &["ImmediateData=No"]);
    let write = initiator.write(0, 1);
    initiator.send(&mut world, write);
    assert_eq!(initiator.answer(&mut world).opcode(), R2T);
    let over = initiator.send(&mut world, Pdu::new(crate::wire::COMMAND).flags(F | 1));
    let logout = initiator.send(&mut world, Pdu::new(LOGOUT));
    // Nothing more is taken.
    initiator.send(&mut world, Pdu::new(crate::wire::COMMAND).flags(F | 1));
    let answers = initiator.answers(&mut world);
    let told: Vec<(u8, u32)> = answers.iter().map(|pdu| (pdu.opcode(), pdu.tag())).collect();
    assert_eq!(told, [(RESPONSE, over), (LOGOUT_RESPONSE, logout)]);
    assert!(world.links[initiator.at].closed);
    world.finish();
}

//! RFC 7143 §11.18 "NOP-Out" and §11.19 "NOP-In".

use crate::initiator::Initiator;
use crate::wire::{ASYNC, F, NO_TAG, NOP_IN, NOP_OUT, Pdu, REJECT};
use crate::world::World;

fn nop() -> Pdu {
    Pdu::new(NOP_OUT).word(20, NO_TAG)
}

#[test]
fn a_ping_comes_back_with_its_data() {
    let mut world = World::new();
    let mut initiator = Initiator::open(&mut world, &["MaxRecvDataSegmentLength=65536"]);
    for data in [&b""[..], b"x", b"12345", &[9; 40_000]] {
        let answer = initiator.ask(&mut world, nop().data(data));
        assert_eq!((answer.opcode(), answer.bhs[1], answer.ttt()), (NOP_IN, F, NO_TAG));
        assert_eq!(answer.exp_cmd_sn(), initiator.cmd_sn);
        assert!(answer.data == data);
    }
    world.finish();
}

#[test]
fn a_ping_comes_back_as_far_as_the_initiator_takes_it() {
    let mut world = World::new();
    let mut initiator = Initiator::open(&mut world, &["MaxRecvDataSegmentLength=512"]);
    let answer = initiator.ask(&mut world, nop().data(&[9; 700]).immediate());
    assert!(answer.data == [9; 512]);
    assert_eq!(answer.exp_cmd_sn(), initiator.cmd_sn, "an immediate one is not counted");
    world.finish();
}

#[test]
fn what_wants_no_answer_gets_none() {
    let mut world = World::new();
    let initiator = Initiator::open(&mut world, &[]);
    let quiet = nop().immediate().itt(NO_TAG).word(24, initiator.cmd_sn);
    world.send(initiator.at, &quiet);
    assert!(world.is_quiet(initiator.at));
    // It has to be immediate.
    let numbered = nop().itt(NO_TAG).word(24, initiator.cmd_sn);
    let answer = world.ask(initiator.at, &numbered);
    assert_eq!((answer.opcode(), answer.exp_cmd_sn()), (REJECT, initiator.cmd_sn));
    world.finish();
}

#[test]
fn a_silent_peer_is_asked_and_then_disconnected() {
    let mut world = World::new();
    let mut initiator = Initiator::open(&mut world, &[]);
    let due = world.links[initiator.at].connection.deadline_ms().unwrap();
    world.pass(due - world.now_ms);
    let ping = initiator.answer(&mut world);
    assert_eq!((ping.opcode(), ping.tag()), (NOP_IN, NO_TAG));
    assert_ne!(ping.ttt(), NO_TAG);
    // An answer keeps the session.
    let pong = nop().immediate().itt(NO_TAG).word(20, ping.ttt()).word(24, initiator.cmd_sn);
    world.send(initiator.at, &pong);
    assert!(world.is_quiet(initiator.at));
    let due = world.links[initiator.at].connection.deadline_ms().unwrap();
    world.pass(due - world.now_ms);
    let next = initiator.answer(&mut world);
    assert_ne!(next.ttt(), ping.ttt(), "every ping has its own tag");
    let due = world.links[initiator.at].connection.deadline_ms().unwrap();
    world.pass(due - world.now_ms);
    assert!(world.links[initiator.at].closed);
    world.finish();
}

#[test]
fn at_a_shutdown_initiators_are_asked_to_log_out() {
    let mut world = World::new();
    let mut initiator = Initiator::open(&mut world, &[]);
    world.with(initiator.at, |connection, _| connection.shut_down());
    let message = initiator.answer(&mut world);
    assert_eq!((message.opcode(), message.bhs[36], message.tag()), (ASYNC, 1, NO_TAG));
    assert!(message.word_at(40) & 0xffff > 0, "some seconds for it");
    assert!(!world.links[initiator.at].closed);
    world.finish();
}

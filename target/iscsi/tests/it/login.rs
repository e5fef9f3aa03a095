//! RFC 7143 §6.3 "Login Phase", as connections see it.

use crate::initiator::{Initiator, login_request};
use crate::wire::{COMMAND, F, LOGIN, LOGIN_RESPONSE, NO_TAG, NOP_OUT, Pdu, REJECT};
use crate::world::{INITIATOR, STRANGER, TARGET, World, exports, exports_for};
use holdfast_block::Disposition;

#[test]
fn a_login_ends_in_a_session_of_its_host() {
    let mut world = World::new();
    let initiator = Initiator::open(&mut world, &[]);
    let connection = &world.links[initiator.at].connection;
    assert!(!connection.is_half_open() && connection.host().is_some());
    assert_eq!(connection.disposition(), Disposition::Open);
    assert_eq!((world.directory.sessions(), world.sessions.list().len()), (1, 1));
    world.finish();
}

#[test]
fn login_responses_are_numbered_and_tell_the_window() {
    let mut world = World::new();
    let at = world.accept();
    // Security first, then operational, then full feature phase.
    let text = format!("InitiatorName={INITIATOR}\0TargetName={TARGET}\0AuthMethod=None\0");
    let request = login_request(INITIATOR, Some(TARGET), 1, &[]).flags(0x81).data(text.as_bytes());
    let first = world.ask(at, &request);
    assert_eq!((first.opcode(), first.bhs[1], first.bhs[36]), (LOGIN_RESPONSE, 0x81, 0));
    assert_eq!((first.exp_cmd_sn(), first.tag()), (100, 0x4c4f));
    assert_eq!(first.bhs[8..14], [0x80, 0, 0, 0, 0, 1], "ISID");
    assert_eq!(first.bhs[14..16], [0, 0], "no TSIH before the end");
    let next = request.flags(0x87).word(28, first.stat_sn() + 1).data(b"");
    let last = world.ask(at, &next);
    assert_eq!(last.stat_sn(), first.stat_sn() + 1);
    assert_eq!((last.bhs[1], last.exp_cmd_sn(), last.max_cmd_sn()), (0x87, 100, 100 + 127));
    assert_ne!(last.bhs[14..16], [0, 0], "a TSIH");
    world.finish();
}

#[test]
fn anything_else_than_a_login_at_first_closes_without_a_word() {
    for opcode in [NOP_OUT, COMMAND, 0x1e] {
        let mut world = World::new();
        let at = world.accept();
        world.send(at, &Pdu::new(opcode).itt(1));
        assert_eq!(world.answers(at), []);
        assert!(world.links[at].closed, "{opcode:#x}");
        world.finish();
    }
}

#[test]
fn anything_else_during_a_login_is_refused() {
    let mut world = World::new();
    let at = world.accept();
    world.ask(at, &login_request(INITIATOR, Some(TARGET), 1, &[]).flags(0x04));
    let answer = world.ask(at, &Pdu::new(NOP_OUT).immediate().itt(9));
    assert_eq!((answer.opcode(), answer.bhs[36..38].to_vec()), (LOGIN_RESPONSE, vec![2, 0x0b]));
    assert!(world.links[at].closed);
    world.finish();
}

#[test]
fn a_login_in_full_feature_phase_is_rejected() {
    let mut world = World::new();
    let mut initiator = Initiator::ready(&mut world, &[]);
    let again = login_request(INITIATOR, Some(TARGET), 1, &[]).word(24, initiator.cmd_sn);
    world.send(initiator.at, &again);
    let answer = initiator.answer(&mut world);
    assert_eq!((answer.opcode(), answer.bhs[2]), (REJECT, 0x04));
    assert_eq!(initiator.run(&mut world, initiator.command(F, 0, &[0])).status, 0, "the session stays");
    world.finish();
}

#[test]
fn a_refused_login_closes_after_its_answer() {
    let mut world = World::new();
    let at = world.accept();
    let answer = world.ask(at, &login_request(INITIATOR, Some("iqn.2026-11.io.holdfast:none"), 1, &[]));
    assert_eq!(answer.bhs[36..38], [2, 3]);
    assert!(world.links[at].closed);
    world.show(exports(2, false));
    let at = world.accept();
    let answer = world.ask(at, &login_request(STRANGER, Some(TARGET), 1, &[]));
    assert_eq!(answer.bhs[36..38], [2, 2]);
    assert!(world.links[at].closed);
    world.finish();
}

#[test]
fn a_session_takes_the_place_of_another_with_the_same_names() {
    let mut world = World::new();
    let old = Initiator::open(&mut world, &[]);
    let other = Initiator::open_as(&mut world, INITIATOR, 2, &[]);
    let mut new = Initiator::open(&mut world, &[]);
    assert!(world.links[old.at].closed && !world.links[other.at].closed);
    assert_eq!(world.directory.sessions(), 2);
    new.settle(&mut world);
    world.finish();
}

#[test]
fn a_peer_that_does_not_log_in_is_disconnected() {
    let mut world = World::new();
    let silent = world.accept();
    let slow = world.accept();
    world.send(slow, &login_request(INITIATOR, Some(TARGET), 1, &[]).flags(0x04));
    assert!(world.links[slow].connection.is_half_open());
    world.pass(holdfast_block::HALF_OPEN_MS - 1);
    assert!(!world.links[silent].closed && !world.links[slow].closed);
    world.pass(1);
    assert!(world.links[silent].closed && world.links[slow].closed);
    world.finish();
}

#[test]
fn too_much_data_in_a_login_ends_the_connection() {
    let mut world = World::new();
    let at = world.accept();
    world.send(at, &Pdu::new(LOGIN).immediate().data(&[0; 8193]));
    world.pump();
    assert!(world.links[at].closed);
    world.finish();
}

#[test]
fn digests_begin_behind_the_login() {
    let mut world = World::new();
    let mut initiator = Initiator::ready(&mut world, &["HeaderDigest=CRC32C", "DataDigest=CRC32C"]);
    let done = initiator.run(&mut world, initiator.command(F | 0x40, 36, &[0x12, 0, 0, 0, 36]));
    assert_eq!((done.status, done.data.len()), (0, 36));
    world.finish();
}

#[test]
fn a_host_that_loses_its_access_loses_its_session() {
    let mut world = World::new();
    let initiator = Initiator::open(&mut world, &[]);
    world.show(exports_for(2, false, true));
    assert!(!world.links[initiator.at].closed, "it is granted");
    world.show(exports_for(3, false, false));
    assert!(world.links[initiator.at].closed);
    world.finish();
}

#[test]
fn any_cut_of_the_stream_makes_the_same_session() {
    let mut world = World::new();
    let at = world.accept();
    for byte in login_request(INITIATOR, Some(TARGET), 1, &[]).encode(world.links[at].digests) {
        world.feed(at, &[byte]);
    }
    assert_eq!(world.answer(at).bhs[36], 0);
    let ping = Pdu::new(NOP_OUT).immediate().itt(5).word(20, NO_TAG).word(24, 100).data(b"hello");
    for byte in ping.encode(world.links[at].digests) {
        world.feed(at, &[byte]);
    }
    assert_eq!(world.answer(at).data, b"hello");
    world.finish();
}

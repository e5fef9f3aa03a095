//! RFC 7143 §4.2.2 "Ordering and iSCSI Numbering", §7.3 "Usage of Reject PDU in Recovery".

use crate::initiator::{Initiator, done};
use crate::wire::{
    DATA_OUT, F, MANAGE, MANAGED, NO_TAG, NOP_IN, NOP_OUT, Pdu, R, REJECT, RESPONSE, SNACK, W,
};
use crate::world::World;

fn ready() -> (World, Initiator) {
    let mut world = World::new();
    let initiator = Initiator::ready(&mut world, &["InitialR2T=No", "MaxRecvDataSegmentLength=65536"]);
    (world, initiator)
}

fn nop() -> Pdu {
    Pdu::new(NOP_OUT).word(20, NO_TAG)
}

#[test]
fn every_command_moves_the_window_and_every_status_its_number() {
    let (mut world, mut initiator) = ready();
    for _ in 0..300 {
        let answer = initiator.ask(&mut world, initiator.command(F, 0, &[0]));
        assert_eq!(answer.exp_cmd_sn(), initiator.cmd_sn);
        assert_eq!(answer.max_cmd_sn(), initiator.cmd_sn.wrapping_add(127), "the window is open again");
    }
    world.finish();
}

#[test]
fn numbers_wrap_around() {
    let mut world = World::new();
    let at = world.accept();
    let request =
        crate::initiator::login_request(crate::world::INITIATOR, Some(crate::world::TARGET), 1, &[]);
    let answer = world.ask(at, &request.word(24, u32::MAX - 1));
    let mut stat_sn = answer.stat_sn();
    for turn in 0..6_u32 {
        let cmd_sn = (u32::MAX - 1).wrapping_add(turn);
        let pdu = nop().itt(turn).word(24, cmd_sn);
        let answer = world.ask(at, &pdu);
        stat_sn = stat_sn.wrapping_add(1);
        assert_eq!((answer.opcode(), answer.stat_sn()), (NOP_IN, stat_sn));
        assert_eq!(answer.exp_cmd_sn(), cmd_sn.wrapping_add(1));
        assert_eq!(answer.max_cmd_sn(), cmd_sn.wrapping_add(128));
    }
    world.finish();
}

#[test]
fn a_command_that_comes_early_waits_for_those_before_it() {
    let (mut world, mut initiator) = ready();
    let [first, second, third] = [(); 3].map(|()| initiator.number(initiator.command(F, 0, &[0])));
    let nop_itt = initiator.tag();
    world.send(initiator.at, &third);
    world.send(initiator.at, &second);
    assert!(world.is_quiet(initiator.at));
    // What is immediate does not wait.
    world.send(initiator.at, &nop().immediate().itt(nop_itt).word(24, initiator.cmd_sn));
    let pong = initiator.answer(&mut world);
    assert_eq!((pong.opcode(), pong.exp_cmd_sn()), (NOP_IN, first.word_at(24)));
    world.send(initiator.at, &first);
    let answers = initiator.answers(&mut world);
    let tags: Vec<u32> = answers.iter().map(Pdu::tag).collect();
    assert_eq!(tags, [first.tag(), second.tag(), third.tag()]);
    world.finish();
}

#[test]
fn a_write_that_comes_early_keeps_its_data() {
    let (mut world, mut initiator) = ready();
    let before = initiator.number(nop());
    let data = crate::initiator::pattern(4, 9);
    // Part of the data with the command, the rest unsolicited behind it.
    let write = initiator.write(10, 4).flags(W | 1).data(&data[..512]);
    let tag = initiator.send(&mut world, write);
    let rest = initiator.data_out(tag, NO_TAG, 0, 512, true, &data[512..]);
    world.send(initiator.at, &rest);
    assert!(world.is_quiet(initiator.at));
    world.send(initiator.at, &before);
    let answers = initiator.answers(&mut world);
    assert_eq!(done(&answers, tag).unwrap().status, 0, "{answers:02x?}");
    let read = initiator.run(&mut world, initiator.read(10, 4));
    assert!(read.data == data);
    world.finish();
}

#[test]
fn what_lies_outside_the_window_is_ignored_without_a_word() {
    let (mut world, mut initiator) = ready();
    for cmd_sn in [initiator.cmd_sn.wrapping_sub(1), initiator.cmd_sn.wrapping_add(128), 0x8000_0000] {
        let pdu = initiator.command(F, 0, &[0]).itt(99).word(24, cmd_sn);
        world.send(initiator.at, &pdu);
        world.send(initiator.at, &nop().itt(98).word(24, cmd_sn).data(b"x"));
        assert!(world.is_quiet(initiator.at));
    }
    // A write outside the window, and its unsolicited data.
    let pdu = initiator.write(0, 2).flags(W | 1).itt(97).word(24, initiator.cmd_sn.wrapping_sub(1));
    world.send(initiator.at, &pdu);
    world.send(initiator.at, &initiator.data_out(97, NO_TAG, 0, 0, true, &[0; 1024]));
    assert!(world.is_quiet(initiator.at));
    assert_eq!(initiator.run(&mut world, initiator.command(F, 0, &[0])).status, 0);
    world.finish();
}

#[test]
fn a_number_that_came_already_is_ignored() {
    let (mut world, mut initiator) = ready();
    let first = initiator.number(nop());
    let second = initiator.number(nop());
    world.send(initiator.at, &second);
    world.send(initiator.at, &second);
    world.send(initiator.at, &second.clone().itt(500));
    world.send(initiator.at, &first);
    world.send(initiator.at, &first);
    let tags: Vec<u32> = initiator.answers(&mut world).iter().map(Pdu::tag).collect();
    assert_eq!(tags, [first.tag(), second.tag()]);
    world.finish();
}

/// Fills the window with writes that wait for their data.
fn fill_window(world: &mut World, initiator: &mut Initiator) -> Vec<Pdu> {
    let mut r2ts = Vec::new();
    for turn in 0..128 {
        let write = initiator.write(turn * 8, 1);
        initiator.send(world, write);
        r2ts.extend(initiator.answers(world));
    }
    assert_eq!(r2ts.len(), 128);
    r2ts
}

#[test]
fn a_full_window_is_closed_but_for_what_is_immediate() {
    let (mut world, mut initiator) = ready();
    let r2ts = fill_window(&mut world, &mut initiator);
    let last = r2ts.last().unwrap();
    assert_eq!(last.max_cmd_sn(), last.exp_cmd_sn().wrapping_sub(1), "closed");
    let beyond = initiator.command(F, 0, &[0]).itt(9000).word(24, initiator.cmd_sn);
    world.send(initiator.at, &beyond);
    assert!(world.is_quiet(initiator.at));
    let immediate = initiator.command(F, 0, &[0]).immediate();
    let answer = initiator.ask(&mut world, immediate);
    assert_eq!((answer.opcode(), answer.bhs[3]), (RESPONSE, 0));
    assert_eq!(answer.max_cmd_sn(), answer.exp_cmd_sn().wrapping_sub(1), "still closed");
    // One that ends opens it by one, with its response.
    let data = initiator.data_out(r2ts[5].tag(), r2ts[5].ttt(), 0, 0, true, &[1; 512]);
    world.send(initiator.at, &data);
    let answer = initiator.answer(&mut world);
    assert_eq!(answer.max_cmd_sn(), answer.exp_cmd_sn());
    world.finish();
}

#[test]
fn too_many_immediate_commands_are_rejected() {
    let (mut world, mut initiator) = ready();
    let mut rejects = 0;
    for _ in 0..64 {
        let write = initiator.write(0, 1).immediate();
        let answer = initiator.ask(&mut world, write);
        if answer.opcode() == REJECT {
            assert_eq!(answer.bhs[2], 0x06);
            rejects += 1;
        }
    }
    assert!((1..64).contains(&rejects), "{rejects}");
    // Task management gets through.
    let abort = Pdu::new(MANAGE).flags(F | 1).word(20, 4711).immediate();
    assert_eq!(initiator.ask(&mut world, abort).opcode(), MANAGED);
    world.finish();
}

#[test]
fn what_is_rejected_has_not_used_its_number() {
    let (mut world, mut initiator) = ready();
    let cmd_sn = initiator.cmd_sn;
    let long = [0, 250, 1, 0].into_iter().chain([0; 252]).collect::<Vec<u8>>();
    for (bad, reason) in [
        (initiator.command(0, 0, &[0]), 0x09),
        (initiator.command(F, 512, &[0]), 0x09),
        (initiator.command(F | R, 512, &[0]).ahs(&[0, 5, 9, 0, 0, 0, 0, 0]), 0x09),
        (initiator.command(F | R, 512, &[0]).ahs(&[0xff, 0xff, 1, 0]), 0x09),
        (initiator.command(F | R, 512, &[0]).ahs(&[0, 0, 1, 0]), 0x09),
        (initiator.command(F | R, 512, &[0]).ahs(&long), 0x09),
        (initiator.command(F, 0, &[0]).flags(F | 5), 0x09),
    ] {
        initiator.cmd_sn = cmd_sn;
        let sent = initiator.number(bad);
        world.send(initiator.at, &sent);
        let answer = initiator.answer(&mut world);
        assert_eq!((answer.opcode(), answer.bhs[2]), (REJECT, reason), "{sent:02x?}");
        assert_eq!((answer.tag(), answer.exp_cmd_sn()), (NO_TAG, cmd_sn), "{sent:02x?}");
        assert_eq!(answer.data, sent.encode(Default::default())[..48], "the header comes back");
    }
    // What follows waits until the number has come.
    let later = initiator.number(nop());
    world.send(initiator.at, &later);
    assert!(world.is_quiet(initiator.at));
    initiator.cmd_sn = cmd_sn;
    initiator.send(&mut world, nop());
    assert_eq!(initiator.answers(&mut world).len(), 2);
    world.finish();
}

#[test]
fn a_tag_in_use_is_rejected_and_may_be_used_again_after_the_end() {
    let (mut world, mut initiator) = ready();
    let write = initiator.write(0, 1);
    let tag = initiator.send(&mut world, write);
    let r2t = initiator.answer(&mut world);
    let again = initiator.command(F, 0, &[0]).immediate().itt(tag).word(24, initiator.cmd_sn);
    world.send(initiator.at, &again);
    let answer = initiator.answer(&mut world);
    assert_eq!((answer.opcode(), answer.bhs[2]), (REJECT, 0x07));
    let ping = nop().immediate().itt(tag).word(24, initiator.cmd_sn);
    world.send(initiator.at, &ping);
    let answer = initiator.answer(&mut world);
    assert_eq!((answer.opcode(), answer.bhs[2]), (REJECT, 0x07));
    world.send(initiator.at, &initiator.data_out(tag, r2t.ttt(), 0, 0, true, &[1; 512]));
    assert_eq!(initiator.answer(&mut world).opcode(), RESPONSE);
    world.send(initiator.at, &again);
    assert_eq!(initiator.answer(&mut world).opcode(), RESPONSE);
    world.finish();
}

#[test]
fn what_is_not_known_or_not_negotiated_is_rejected() {
    let (mut world, mut initiator) = ready();
    for (opcode, reason) in [(SNACK, 0x04), (0x1c, 0x05), (0x07, 0x05), (0x1f, 0x05), (0x3f, 0x05)] {
        let pdu = Pdu::new(opcode).itt(1).data(b"abc");
        world.send(initiator.at, &pdu);
        let answer = initiator.answer(&mut world);
        assert_eq!((answer.opcode(), answer.bhs[2]), (REJECT, reason), "{opcode:#x}");
    }
    let stray = initiator.data_out(4711, NO_TAG, 0, 0, true, b"abcd");
    world.send(initiator.at, &stray);
    let answer = initiator.answer(&mut world);
    assert_eq!((answer.opcode(), answer.bhs[2], answer.data[0]), (REJECT, 0x09, DATA_OUT));
    let nameless = initiator.command(F, 0, &[0]).immediate().itt(NO_TAG);
    world.send(initiator.at, &nameless);
    assert_eq!(initiator.answer(&mut world).bhs[2], 0x09);
    assert_eq!(initiator.run(&mut world, initiator.command(F, 0, &[0])).status, 0);
    world.finish();
}

#[test]
fn requests_that_wait_for_one_before_them_are_bounded() {
    let (mut world, mut initiator) = ready();
    initiator.cmd_sn = initiator.cmd_sn.wrapping_add(1);
    for _ in 0..127 {
        let pdu = nop().data(&[7; 65536]);
        initiator.send(&mut world, pdu);
    }
    assert!(world.is_quiet(initiator.at));
    world.finish();
}

#[test]
fn the_window_stays_as_it_is_in_the_middle_of_a_command() {
    let (mut world, mut initiator) = ready();
    let write = initiator.write(0, 2).data(&[1; 1024]);
    let write = initiator.number(write);
    let bytes = write.encode(Default::default());
    let (head, tail) = bytes.split_at(500);
    world.feed(initiator.at, head);
    world.with(initiator.at, |connection, _| connection.shut_down());
    let told = initiator.answer(&mut world);
    assert_eq!(told.exp_cmd_sn(), write.word_at(24), "it has not come yet");
    assert_eq!(told.max_cmd_sn(), told.exp_cmd_sn().wrapping_add(127));
    world.feed(initiator.at, tail);
    let answers = initiator.answers(&mut world);
    assert_eq!(done(&answers, write.tag()).unwrap().status, 0);
    world.finish();
}

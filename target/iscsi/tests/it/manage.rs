//! Task management: RFC 7143 §11.5 "Task Management Function Request", §11.6 "Task Management Function Response", §4.2.3 "SCSI Task
//! Management during iSCSI Full Feature Phase".

use crate::initiator::{Initiator, done, pattern};
use crate::wire::{F, MANAGE, MANAGED, NO_TAG, Pdu, R2T, RESPONSE, W};
use crate::world::{STRANGER, World};

fn ready() -> (World, Initiator) {
    let mut world = World::new();
    let initiator = Initiator::ready(&mut world, &["ImmediateData=No"]);
    (world, initiator)
}

fn request(function: u8, lun: u8) -> Pdu {
    Pdu::new(MANAGE).flags(F | function).lun(lun).word(20, NO_TAG).immediate()
}

/// A write that waits for its data: its tag, CmdSN and R2T.
fn open_write(world: &mut World, initiator: &mut Initiator, lba: u32, lun: u8) -> (u32, u32, Pdu) {
    let cmd_sn = initiator.cmd_sn;
    let write = initiator.write(lba, 1).lun(lun);
    let tag = initiator.send(world, write);
    let r2t = initiator.answer(world);
    assert_eq!(r2t.opcode(), R2T);
    (tag, cmd_sn, r2t)
}

/// Sends a request; the response code.
fn managed(world: &mut World, initiator: &mut Initiator, pdu: Pdu) -> u8 {
    let answer = initiator.ask(world, pdu);
    assert_eq!((answer.opcode(), answer.bhs[1]), (MANAGED, F), "{answer:02x?}");
    answer.bhs[2]
}

#[test]
fn an_aborted_task_is_never_answered_and_its_data_is_passed_over() {
    let (mut world, mut initiator) = ready();
    let (tag, cmd_sn, r2t) = open_write(&mut world, &mut initiator, 0, 0);
    let abort = request(1, 0).word(20, tag).word(32, cmd_sn);
    let answer = initiator.ask(&mut world, abort.clone());
    assert_eq!((answer.opcode(), answer.bhs[2]), (MANAGED, 0));
    assert_eq!(answer.max_cmd_sn(), answer.exp_cmd_sn().wrapping_add(127), "its place is free");
    world.send(initiator.at, &initiator.data_out(tag, r2t.ttt(), 0, 0, true, &pattern(1, 1)));
    assert!(world.is_quiet(initiator.at));
    let read = initiator.read(0, 1);
    assert!(initiator.run(&mut world, read).data.iter().all(|byte| *byte == 0));
    // Again: it is not there any more.
    assert_eq!(managed(&mut world, &mut initiator, abort), 1);
    world.finish();
}

#[test]
fn a_task_that_was_never_there_does_not_exist() {
    let (mut world, mut initiator) = ready();
    for ref_cmd_sn in
        [initiator.cmd_sn - 1, initiator.cmd_sn.wrapping_add(128), initiator.cmd_sn.wrapping_add(5)]
    {
        let abort = request(1, 0).word(20, 4711).word(32, ref_cmd_sn);
        assert_eq!(managed(&mut world, &mut initiator, abort), 1, "{ref_cmd_sn}");
    }
    assert_eq!(initiator.run(&mut world, initiator.command(F, 0, &[0])).status, 0);
    world.finish();
}

#[test]
fn an_abort_fills_the_gap_that_its_task_has_left() {
    let (mut world, mut initiator) = ready();
    let lost = initiator.number(initiator.command(F, 0, &[0]));
    let also_lost = initiator.number(initiator.command(F, 0, &[0]));
    let later = initiator.number(initiator.command(F, 0, &[0]));
    world.send(initiator.at, &later);
    assert!(world.is_quiet(initiator.at));
    let abort = |pdu: &Pdu| request(1, 0).word(20, pdu.tag()).word(32, pdu.word_at(24));
    assert_eq!(managed(&mut world, &mut initiator, abort(&also_lost)), 0);
    initiator.send(&mut world, abort(&lost));
    let answers = initiator.answers(&mut world);
    let managed = answers.iter().find(|pdu| pdu.opcode() == MANAGED).unwrap();
    assert_eq!(managed.bhs[2], 0);
    assert_eq!(done(&answers, later.tag()).unwrap().status, 0);
    // If it comes after all, it is ignored.
    world.send(initiator.at, &lost);
    assert!(world.is_quiet(initiator.at));
    world.finish();
}

#[test]
fn a_task_of_another_unit_is_not_aborted() {
    let (mut world, mut initiator) = ready();
    let (tag, cmd_sn, r2t) = open_write(&mut world, &mut initiator, 0, 1);
    let abort = request(1, 0).word(20, tag).word(32, cmd_sn);
    assert_eq!(managed(&mut world, &mut initiator, abort), 1);
    world.send(initiator.at, &initiator.data_out(tag, r2t.ttt(), 0, 0, true, &pattern(1, 1)));
    assert_eq!(initiator.answer(&mut world).opcode(), RESPONSE);
    world.finish();
}

#[test]
fn functions_that_are_not_there_are_told_apart() {
    let (mut world, mut initiator) = ready();
    for (function, code) in [(3, 5), (8, 4), (0, 5), (9, 5), (0x7f, 5)] {
        assert_eq!(managed(&mut world, &mut initiator, request(function, 0)), code, "{function}");
    }
    for function in [2, 4, 5] {
        assert_eq!(managed(&mut world, &mut initiator, request(function, 77)), 2, "{function}");
    }
    world.finish();
}

#[test]
fn a_task_set_is_aborted_unit_by_unit_after_the_data_that_was_asked_for() {
    for function in [2, 4, 5] {
        let (mut world, mut initiator) = ready();
        let (tag, _, r2t) = open_write(&mut world, &mut initiator, 0, 0);
        let (other, _, other_r2t) = open_write(&mut world, &mut initiator, 8, 1);
        initiator.send(&mut world, request(function, 0));
        assert!(world.is_quiet(initiator.at), "data for the R2T is waited for");
        world.send(initiator.at, &initiator.data_out(tag, r2t.ttt(), 0, 0, true, &pattern(1, 1)));
        let answer = initiator.answer(&mut world);
        assert_eq!((answer.opcode(), answer.bhs[2]), (MANAGED, 0), "and no response to the task");
        world.send(initiator.at, &initiator.data_out(other, other_r2t.ttt(), 0, 0, true, &pattern(1, 1)));
        assert_eq!(initiator.answer(&mut world).bhs[3], 0, "the other unit's task goes on");
        let mut told = 0;
        while initiator.run(&mut world, initiator.command(F, 0, &[0])).status != 0 {
            told += 1;
        }
        assert_eq!(told > 0, function == 5, "a reset is told by a unit attention");
        let read = initiator.read(0, 1);
        assert!(initiator.run(&mut world, read).data.iter().all(|byte| *byte == 0));
        world.finish();
    }
}

#[test]
fn an_initiator_that_never_sends_the_data_is_answered_all_the_same() {
    let (mut world, mut initiator) = ready();
    let (tag, _, r2t) = open_write(&mut world, &mut initiator, 0, 0);
    initiator.send(&mut world, request(5, 0));
    assert!(world.is_quiet(initiator.at));
    let due = world.links[initiator.at].connection.deadline_ms().unwrap() - world.now_ms;
    assert!(due <= 5_000, "in a few seconds");
    world.pass(due);
    let answer = initiator.answer(&mut world);
    assert_eq!((answer.opcode(), answer.bhs[2]), (MANAGED, 0));
    world.send(initiator.at, &initiator.data_out(tag, r2t.ttt(), 0, 0, true, &pattern(1, 1)));
    assert!(world.is_quiet(initiator.at));
    world.finish();
}

#[test]
fn others_are_aborted_before_the_answer_and_told_afterwards() {
    for function in [4, 5, 6] {
        let (mut world, mut initiator) = ready();
        let mut other = Initiator::open_as(&mut world, STRANGER, 1, &["ImmediateData=No"]);
        other.settle(&mut world);
        let (tag, _, r2t) = open_write(&mut world, &mut other, 0, 0);
        assert_eq!(managed(&mut world, &mut initiator, request(function, 0)), 0);
        assert!(world.is_quiet(other.at), "its task has no answer");
        world.send(other.at, &other.data_out(tag, r2t.ttt(), 0, 0, true, &pattern(1, 1)));
        assert!(world.is_quiet(other.at));
        let told = other.run(&mut world, other.command(F, 0, &[0]));
        assert_eq!((told.status, told.sense.map(|sense| sense.0)), (2, Some(6)), "{function}");
        world.finish();
    }
}

/// TAS of the control mode page: SPC-4 §7.5.8 "Control mode page"; SAM-5 §5.6 "Aborting commands".
#[test]
fn tasks_that_others_clear_are_told_one_by_one_where_that_is_asked_for() {
    let (mut world, mut initiator) = ready();
    let mut other = Initiator::open_as(&mut world, STRANGER, 1, &["ImmediateData=No"]);
    other.settle(&mut world);
    let list = [0, 0, 0, 0, 0x0a, 10, 0, 0x10, 0, 0x40, 0, 0, 0xff, 0xff, 0, 0];
    let select = other.command(F | W, list.len(), &[0x15, 0x10, 0, 0, 16, 0]);
    let tag = other.send(&mut world, select);
    let r2t = other.answer(&mut world);
    world.send(other.at, &other.data_out(tag, r2t.ttt(), 0, 0, true, &list));
    let selected = other.answer(&mut world);
    assert_eq!((selected.opcode(), selected.bhs[3]), (RESPONSE, 0));
    let write = other.write(0, 1);
    let tag = other.send(&mut world, write);
    let r2t = other.answer(&mut world);
    assert_eq!(r2t.opcode(), R2T);
    assert_eq!(managed(&mut world, &mut initiator, request(4, 0)), 0);
    world.send(other.at, &other.data_out(tag, r2t.ttt(), 0, 0, true, &pattern(1, 1)));
    let ended = other.answer(&mut world);
    assert_eq!((ended.opcode(), ended.tag(), ended.bhs[3]), (RESPONSE, tag, 0x40), "TASK ABORTED");
    let told = other.run(&mut world, other.command(F, 0, &[0]));
    assert_eq!((told.status, told.sense), (0, None));
    world.finish();
}

#[test]
fn a_warm_reset_leaves_sessions_and_a_cold_one_ends_all() {
    let (mut world, mut initiator) = ready();
    let other = Initiator::open_as(&mut world, STRANGER, 1, &[]);
    assert_eq!(managed(&mut world, &mut initiator, request(6, 0)), 0);
    assert!(!world.links[initiator.at].closed && !world.links[other.at].closed);
    initiator.settle(&mut world);
    assert_eq!(managed(&mut world, &mut initiator, request(7, 0)), 0);
    assert!(world.links[initiator.at].closed && world.links[other.at].closed);
    assert_eq!(world.directory.sessions(), 0);
    world.finish();
}

#[test]
fn a_numbered_function_waits_for_its_turn() {
    let (mut world, mut initiator) = ready();
    let before = initiator.number(initiator.command(F, 0, &[0]));
    let mut reset = request(5, 0);
    reset.bhs[0] = MANAGE;
    let reset = initiator.number(reset);
    world.send(initiator.at, &reset);
    assert!(world.is_quiet(initiator.at));
    world.send(initiator.at, &before);
    let told: Vec<u8> = initiator.answers(&mut world).iter().map(Pdu::opcode).collect();
    assert_eq!(told, [RESPONSE, MANAGED]);
    world.finish();
}

#[test]
fn running_commands_are_aborted_as_well() {
    let (mut world, mut initiator) = ready();
    let cmd_sn = initiator.cmd_sn;
    let read = initiator.read(0, 8);
    let tag = initiator.send(&mut world, read);
    // Nothing has been delivered yet.
    let abort = initiator.number(request(1, 0)).word(20, tag).word(32, cmd_sn);
    world.send(initiator.at, &abort);
    let answers = initiator.answers(&mut world);
    let told: Vec<u8> = answers.iter().map(Pdu::opcode).collect();
    assert_eq!(told, [MANAGED]);
    assert_eq!(answers[0].bhs[2], 0);
    world.finish();
}

#[test]
fn tasks_that_wait_for_room_get_what_aborted_ones_give_back() {
    let mut world = World::new();
    let mut initiator = Initiator::ready(&mut world, &["ImmediateData=No", "MaxBurstLength=1048576"]);
    let mut tags = Vec::new();
    for turn in 0..64 {
        let cmd_sn = initiator.cmd_sn;
        let write = initiator.write(turn % 4 * 2048, 2048);
        tags.push((initiator.send(&mut world, write), cmd_sn));
    }
    let mut open: Vec<u32> = initiator.answers(&mut world).iter().map(Pdu::tag).collect();
    assert!(!open.is_empty() && open.len() < 64, "{}", open.len());
    for (tag, cmd_sn) in tags {
        assert!(open.contains(&tag), "{tag} was asked for its data");
        initiator.send(&mut world, request(1, 0).word(20, tag).word(32, cmd_sn));
        let answers = initiator.answers(&mut world);
        assert!(answers.iter().any(|pdu| pdu.opcode() == MANAGED && pdu.bhs[2] == 0));
        open.extend(answers.iter().filter(|pdu| pdu.opcode() == R2T).map(Pdu::tag));
    }
    world.finish();
}

#[test]
fn a_unit_is_the_same_in_every_format_of_its_number() {
    let (mut world, mut initiator) = ready();
    let cmd_sn = initiator.cmd_sn;
    let write = initiator.write(0, 1).bytes(8, &[0x40, 1]);
    let tag = initiator.send(&mut world, write);
    assert_eq!(initiator.answer(&mut world).opcode(), R2T);
    assert_eq!(managed(&mut world, &mut initiator, request(1, 1).word(20, tag).word(32, cmd_sn)), 0);
    world.finish();
}

#[test]
fn answers_in_line_are_sent_though_others_clear_the_task_set() {
    let (mut world, mut initiator) = ready();
    let mut other = Initiator::open_as(&mut world, STRANGER, 1, &[]);
    other.settle(&mut world);
    let tag = other.send(&mut world, initiator.command(F, 0, &[0]));
    initiator.send(&mut world, request(4, 0));
    assert_eq!(initiator.answer(&mut world).opcode(), MANAGED);
    let answers = other.answers(&mut world);
    assert_eq!(done(&answers, tag).unwrap().status, 0);
    world.finish();
}

#[test]
fn a_task_set_includes_those_that_wait_for_their_turn() {
    let mut world = World::new();
    let mut initiator = Initiator::ready(&mut world, &["InitialR2T=No"]);
    let before = initiator.number(initiator.command(F, 0, &[0]).lun(1));
    let write = initiator.write(0, 2).flags(W | 1);
    let tag = initiator.send(&mut world, write);
    assert_eq!(managed(&mut world, &mut initiator, request(2, 0)), 0);
    world.send(initiator.at, &initiator.data_out(tag, NO_TAG, 0, 0, true, &pattern(2, 1)));
    assert!(world.is_quiet(initiator.at), "its data is passed over");
    world.send(initiator.at, &before);
    let answer = initiator.answer(&mut world);
    assert_eq!((answer.tag(), answer.exp_cmd_sn()), (before.tag(), initiator.cmd_sn));
    world.finish();
}

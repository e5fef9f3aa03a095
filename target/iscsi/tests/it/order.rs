//! Task attributes: SAM-5 §8.6 "Task attributes".

use crate::initiator::{Initiator, pattern};
use crate::wire::{F, MANAGE, MANAGED, Pdu, R2T, RESPONSE, W};
use crate::world::World;

const ORDERED: u8 = 2;
const HEAD_OF_QUEUE: u8 = 3;

fn ready() -> (World, Initiator) {
    let mut world = World::new();
    let initiator = Initiator::ready(&mut world, &["InitialR2T=No"]);
    (world, initiator)
}

/// A write that waits for its data: its R2T.
fn open_write(world: &mut World, initiator: &mut Initiator, attribute: u8) -> Pdu {
    let write = initiator.write(0, 1).flags(F | W | attribute);
    initiator.send(world, write);
    let r2t = initiator.answer(world);
    assert_eq!(r2t.opcode(), R2T);
    r2t
}

fn finish_write(world: &mut World, initiator: &Initiator, r2t: &Pdu) {
    let data = initiator.data_out(r2t.tag(), r2t.ttt(), 0, 0, true, &pattern(1, 1));
    world.send(initiator.at, &data);
}

fn test_unit(initiator: &Initiator, attribute: u8, lun: u8) -> Pdu {
    initiator.command(F, 0, &[0]).flags(F | attribute).lun(lun)
}

fn tags(answers: &[Pdu]) -> Vec<u32> {
    assert!(answers.iter().all(|pdu| pdu.opcode() == RESPONSE && pdu.bhs[3] == 0), "{answers:02x?}");
    answers.iter().map(Pdu::tag).collect()
}

#[test]
fn an_ordered_task_waits_for_those_before_it_and_those_behind_it_wait_for_it() {
    let (mut world, mut initiator) = ready();
    let r2t = open_write(&mut world, &mut initiator, 1);
    let pdu = test_unit(&initiator, ORDERED, 0);
    let ordered = initiator.send(&mut world, pdu);
    let pdu = test_unit(&initiator, 1, 0);
    let behind = initiator.send(&mut world, pdu);
    assert!(world.is_quiet(initiator.at));
    // Not so on another unit, and what goes to the head of the queue.
    let pdu = test_unit(&initiator, 1, 1);
    let elsewhere = initiator.send(&mut world, pdu);
    let pdu = test_unit(&initiator, HEAD_OF_QUEUE, 0);
    let first = initiator.send(&mut world, pdu);
    assert_eq!(tags(&initiator.answers(&mut world)), [elsewhere, first]);
    finish_write(&mut world, &initiator, &r2t);
    assert_eq!(tags(&initiator.answers(&mut world)), [r2t.tag(), ordered, behind]);
    world.finish();
}

#[test]
fn simple_tasks_wait_for_an_ordered_one_that_has_begun() {
    let (mut world, mut initiator) = ready();
    let r2t = open_write(&mut world, &mut initiator, ORDERED);
    let data = pattern(2, 7);
    // Its data comes while it waits.
    let write = initiator.write(8, 2).flags(W | 1).data(&data[..512]);
    let write = initiator.send(&mut world, write);
    world.send(initiator.at, &initiator.data_out(write, crate::wire::NO_TAG, 0, 512, true, &data[512..]));
    assert!(world.is_quiet(initiator.at));
    finish_write(&mut world, &initiator, &r2t);
    assert_eq!(tags(&initiator.answers(&mut world)), [r2t.tag(), write]);
    let read = initiator.read(8, 2);
    assert!(initiator.run(&mut world, read).data == data);
    world.finish();
}

#[test]
fn an_aborted_task_is_not_waited_for() {
    for victim in [0, 1] {
        let (mut world, mut initiator) = ready();
        let cmd_sn = initiator.cmd_sn;
        let r2t = open_write(&mut world, &mut initiator, 1);
        let pdu = test_unit(&initiator, ORDERED, 0);
        let ordered = initiator.send(&mut world, pdu);
        let pdu = test_unit(&initiator, 1, 0);
        let behind = initiator.send(&mut world, pdu);
        let abort = Pdu::new(MANAGE).flags(F | 1).immediate().word(32, cmd_sn + victim);
        initiator.send(&mut world, abort.word(20, [r2t.tag(), ordered][victim as usize]));
        let mut answers = initiator.answers(&mut world);
        let managed = answers.remove(0);
        assert_eq!((managed.opcode(), managed.bhs[2]), (MANAGED, 0));
        let expected = if victim == 0 { vec![ordered, behind] } else { vec![behind] };
        assert_eq!(tags(&answers), expected);
        world.finish();
    }
}

#[test]
fn a_task_set_is_aborted_with_those_that_never_began() {
    let (mut world, mut initiator) = ready();
    let r2t = open_write(&mut world, &mut initiator, ORDERED);
    for attribute in [1, ORDERED, 1] {
        let write = initiator.write(0, 1).flags(F | W | attribute).data(&pattern(1, 1));
        initiator.send(&mut world, write);
    }
    initiator.send(&mut world, Pdu::new(MANAGE).flags(F | 2).word(20, crate::wire::NO_TAG).immediate());
    assert!(world.is_quiet(initiator.at));
    finish_write(&mut world, &initiator, &r2t);
    assert_eq!(initiator.answer(&mut world).opcode(), MANAGED);
    assert!(world.is_quiet(initiator.at));
    let pdu = test_unit(&initiator, ORDERED, 0);
    assert_eq!(initiator.run(&mut world, pdu).status, 0);
    world.finish();
}

#[test]
fn sessions_end_with_tasks_that_never_began() {
    let (mut world, mut initiator) = ready();
    open_write(&mut world, &mut initiator, 1);
    for attribute in [ORDERED, 1, ORDERED] {
        let write = initiator.write(0, 1).flags(F | W | attribute).data(&pattern(1, 1));
        initiator.send(&mut world, write);
    }
    assert!(world.is_quiet(initiator.at));
    world.finish();
}

#[test]
fn data_of_tasks_that_never_begin_is_bounded() {
    let mut world = World::new();
    let keys = ["FirstBurstLength=262144", "MaxRecvDataSegmentLength=65536"];
    let mut initiator = Initiator::ready(&mut world, &keys);
    open_write(&mut world, &mut initiator, ORDERED);
    let data = pattern(512, 1);
    let mut busy = 0;
    for turn in 0..100 {
        let write = initiator.write(turn * 512 % 4096, 512).data(&data);
        initiator.send(&mut world, write);
        busy += initiator.answers(&mut world).iter().filter(|pdu| pdu.bhs[3] == 8).count();
    }
    assert_eq!(busy, 100 - 32, "8 MiB wait");
    world.finish();
}

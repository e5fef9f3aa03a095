//! Data-Out and R2T: RFC 7143 §4.2.5 "Data Transfer Overview", §11.7 "SCSI Data-Out and SCSI Data-In", §11.8 "Ready To Transfer
//! (R2T)", §11.4.7.2 "Sense Data".

use crate::initiator::{Done, Initiator, cdb10, done, pattern};
use crate::wire::{F, NO_TAG, Pdu, R, R2T, REJECT, RESPONSE, W};
use crate::world::World;

const UNEXPECTED: Option<(u8, u8, u8)> = Some((0xb, 0x0c, 0x0c));
const WRONG_AMOUNT: Option<(u8, u8, u8)> = Some((0xb, 0x0c, 0x0d));
const LOST: Option<(u8, u8, u8)> = Some((0xb, 0x47, 0x05));

fn ready(keys: &[&str]) -> (World, Initiator) {
    let mut world = World::new();
    let initiator = Initiator::ready(&mut world, keys);
    (world, initiator)
}

/// The blocks are as they were made, with zeroes.
fn untouched(world: &mut World, initiator: &mut Initiator, lba: u32, blocks: u16) {
    let read = initiator.read(lba, blocks);
    let read = initiator.run(world, read);
    assert_eq!(read.status, 0);
    assert!(read.data.iter().all(|byte| *byte == 0), "nothing was stored");
}

fn is_stored(world: &mut World, initiator: &mut Initiator, lba: u32, data: &[u8]) {
    let read = initiator.read(lba, (data.len() / 512) as u16);
    assert!(initiator.run(world, read).data == data, "all was stored");
}

fn ended(initiator: &mut Initiator, world: &mut World, tag: u32) -> Done {
    let answers = initiator.answers(world);
    done(&answers, tag).unwrap_or_else(|| panic!("no end: {answers:02x?}"))
}

#[test]
fn immediate_data_needs_no_r2t() {
    let (mut world, mut initiator) = ready(&[]);
    let data = pattern(4, 1);
    let write = initiator.write(8, 4).data(&data);
    let answer = initiator.ask(&mut world, write);
    assert_eq!((answer.opcode(), answer.bhs[1], answer.word_at(36)), (RESPONSE, F, 0));
    is_stored(&mut world, &mut initiator, 8, &data);
    world.finish();
}

#[test]
fn the_rest_is_asked_for_burst_by_burst() {
    let keys = ["MaxBurstLength=2048", "FirstBurstLength=1024", "MaxOutstandingR2T=1", "InitialR2T=Yes"];
    let (mut world, mut initiator) = ready(&keys);
    let data = pattern(10, 2);
    let write = initiator.write(0, 10).lun(0).data(&data[..512]);
    let tag = initiator.send(&mut world, write);
    let mut at = 512;
    let mut tags = Vec::new();
    for sn in 0..3 {
        let r2t = initiator.answer(&mut world);
        let len = r2t.word_at(44) as usize;
        assert_eq!((r2t.opcode(), r2t.bhs[1], r2t.tag(), r2t.word_at(36)), (R2T, F, tag, sn));
        assert_eq!((r2t.word_at(40) as usize, len), (at, 2048.min(5120 - at)));
        assert!(!tags.contains(&r2t.ttt()) && r2t.ttt() != NO_TAG, "a tag of its own");
        tags.push(r2t.ttt());
        // In two PDUs.
        let half = len / 2;
        world.send(initiator.at, &initiator.data_out(tag, r2t.ttt(), 0, at, false, &data[at..at + half]));
        assert!(world.is_quiet(initiator.at));
        let rest = &data[at + half..at + len];
        world.send(initiator.at, &initiator.data_out(tag, r2t.ttt(), 1, at + half, true, rest));
        at += len;
    }
    let done = ended(&mut initiator, &mut world, tag);
    assert_eq!((done.status, done.exp_data_sn, done.residual_flags), (0, 3, 0));
    is_stored(&mut world, &mut initiator, 0, &data);
    world.finish();
}

#[test]
fn as_many_r2ts_as_agreed_are_out_at_once() {
    let keys = ["MaxBurstLength=512", "FirstBurstLength=512", "MaxOutstandingR2T=3", "ImmediateData=No"];
    let (mut world, mut initiator) = ready(&keys);
    let data = pattern(8, 5);
    let write = initiator.write(16, 8);
    let tag = initiator.send(&mut world, write);
    let mut open: Vec<Pdu> = initiator.answers(&mut world);
    let mut served = 0;
    while !open.is_empty() {
        assert_eq!(open.len(), 3.min(8 - served));
        let r2t = open.remove(0);
        assert_eq!((r2t.word_at(36) as usize, r2t.word_at(40) as usize), (served, served * 512));
        let part = &data[served * 512..][..512];
        world.send(initiator.at, &initiator.data_out(tag, r2t.ttt(), 0, served * 512, true, part));
        served += 1;
        let more = initiator.answers(&mut world);
        if served == 8 {
            assert_eq!(done(&more, tag).unwrap().exp_data_sn, 8);
            break;
        }
        open.extend(more);
    }
    is_stored(&mut world, &mut initiator, 16, &data);
    world.finish();
}

#[test]
fn unsolicited_data_follows_its_command() {
    let keys = ["InitialR2T=No", "FirstBurstLength=2048", "MaxBurstLength=2048"];
    let (mut world, mut initiator) = ready(&keys);
    let data = pattern(6, 7);
    let write = initiator.write(0, 6).flags(W | 1).data(&data[..512]);
    let tag = initiator.send(&mut world, write);
    world.send(initiator.at, &initiator.data_out(tag, NO_TAG, 0, 512, false, &data[512..1024]));
    assert!(world.is_quiet(initiator.at));
    world.send(initiator.at, &initiator.data_out(tag, NO_TAG, 1, 1024, true, &data[1024..2048]));
    let r2t = initiator.answer(&mut world);
    assert_eq!((r2t.word_at(40), r2t.word_at(44)), (2048, 1024));
    world.send(initiator.at, &initiator.data_out(tag, r2t.ttt(), 0, 2048, true, &data[2048..]));
    assert_eq!(ended(&mut initiator, &mut world, tag).status, 0);
    is_stored(&mut world, &mut initiator, 0, &data);
    world.finish();
}

#[test]
fn immediate_data_that_was_not_agreed_is_unexpected() {
    let (mut world, mut initiator) = ready(&["ImmediateData=No"]);
    let write = initiator.write(0, 2).data(&pattern(1, 1));
    let done = initiator.run(&mut world, write);
    assert_eq!((done.status, done.sense), (2, UNEXPECTED));
    untouched(&mut world, &mut initiator, 0, 2);
    // So is data of a command that writes nothing.
    let done = initiator.run(&mut world, initiator.command(F, 0, &[0]).data(b"abcd"));
    assert_eq!((done.status, done.sense), (2, UNEXPECTED));
    world.finish();
}

#[test]
fn more_immediate_data_than_the_first_burst_is_the_wrong_amount() {
    let (mut world, mut initiator) = ready(&["FirstBurstLength=512"]);
    let write = initiator.write(0, 4).data(&pattern(2, 1));
    assert_eq!(initiator.run(&mut world, write).sense, WRONG_AMOUNT);
    // And more than the command announces.
    let write = initiator.command(F | W, 256, &cdb10(0x2a, 0, 1)).data(&pattern(1, 1));
    assert_eq!(initiator.run(&mut world, write).sense, WRONG_AMOUNT);
    untouched(&mut world, &mut initiator, 0, 4);
    world.finish();
}

#[test]
fn unsolicited_data_that_was_not_agreed_is_unexpected() {
    let (mut world, mut initiator) = ready(&["InitialR2T=Yes"]);
    // The command says that more follows, and its end is waited for.
    let write = initiator.write(0, 2).flags(W | 1);
    let tag = initiator.send(&mut world, write);
    assert!(world.is_quiet(initiator.at));
    world.send(initiator.at, &initiator.data_out(tag, NO_TAG, 0, 0, false, &pattern(1, 1)));
    assert!(world.is_quiet(initiator.at));
    world.send(initiator.at, &initiator.data_out(tag, NO_TAG, 1, 512, true, &pattern(1, 1)));
    assert_eq!(ended(&mut initiator, &mut world, tag).sense, UNEXPECTED);
    // The command says that nothing follows.
    let write = initiator.write(0, 2);
    let tag = initiator.send(&mut world, write);
    let r2t = initiator.answer(&mut world);
    world.send(initiator.at, &initiator.data_out(tag, NO_TAG, 0, 0, true, &pattern(2, 1)));
    assert!(world.is_quiet(initiator.at), "the answer to the R2T is waited for");
    world.send(initiator.at, &initiator.data_out(tag, r2t.ttt(), 0, 0, true, &pattern(2, 1)));
    assert_eq!(ended(&mut initiator, &mut world, tag).sense, UNEXPECTED);
    untouched(&mut world, &mut initiator, 0, 2);
    world.finish();
}

#[test]
fn unsolicited_data_has_to_be_as_much_as_the_first_burst() {
    let keys = ["InitialR2T=No", "FirstBurstLength=1024", "MaxBurstLength=2048"];
    for (len, blocks) in [(512, 4), (1536, 4), (512, 2), (1024, 1)] {
        let (mut world, mut initiator) = ready(&keys);
        let write = initiator.write(0, blocks).flags(W | 1);
        let tag = initiator.send(&mut world, write);
        world.send(initiator.at, &initiator.data_out(tag, NO_TAG, 0, 0, true, &vec![1; len]));
        assert_eq!(ended(&mut initiator, &mut world, tag).sense, WRONG_AMOUNT, "{len} of {blocks}");
        untouched(&mut world, &mut initiator, 0, blocks);
        world.finish();
    }
}

#[test]
fn an_r2t_is_answered_with_as_much_as_it_asks_for() {
    for (first, second) in [(512, None), (2048, None), (512, Some(1024)), (1024, Some(512))] {
        let (mut world, mut initiator) = ready(&["ImmediateData=No"]);
        let write = initiator.write(0, 2);
        let tag = initiator.send(&mut world, write);
        let r2t = initiator.answer(&mut world);
        let last = second.is_none();
        world.send(initiator.at, &initiator.data_out(tag, r2t.ttt(), 0, 0, last, &vec![1; first]));
        if let Some(len) = second {
            assert!(world.is_quiet(initiator.at));
            world.send(initiator.at, &initiator.data_out(tag, r2t.ttt(), 1, first, true, &vec![1; len]));
        }
        let done = ended(&mut initiator, &mut world, tag);
        assert_eq!((done.status, done.sense), (2, WRONG_AMOUNT), "{first} {second:?}");
        untouched(&mut world, &mut initiator, 0, 2);
        world.finish();
    }
}

#[test]
fn a_last_pdu_without_data_ends_its_sequence() {
    let (mut world, mut initiator) = ready(&["ImmediateData=No"]);
    let data = pattern(2, 4);
    let write = initiator.write(0, 2);
    let tag = initiator.send(&mut world, write);
    let r2t = initiator.answer(&mut world);
    world.send(initiator.at, &initiator.data_out(tag, r2t.ttt(), 0, 0, false, &data));
    assert!(world.is_quiet(initiator.at));
    world.send(initiator.at, &initiator.data_out(tag, r2t.ttt(), 1, 1024, true, &[]));
    assert_eq!(ended(&mut initiator, &mut world, tag).status, 0);
    is_stored(&mut world, &mut initiator, 0, &data);
    world.finish();
}

#[test]
fn a_gap_in_the_numbers_of_data_means_that_some_was_lost() {
    for sn in [1, 7, u32::MAX] {
        let (mut world, mut initiator) = ready(&["ImmediateData=No"]);
        let write = initiator.write(0, 2);
        let tag = initiator.send(&mut world, write);
        let r2t = initiator.answer(&mut world);
        world.send(initiator.at, &initiator.data_out(tag, r2t.ttt(), sn, 0, true, &pattern(2, 1)));
        assert_eq!(ended(&mut initiator, &mut world, tag).sense, LOST);
        untouched(&mut world, &mut initiator, 0, 2);
        world.finish();
    }
}

#[test]
fn a_number_of_data_that_comes_twice_is_no_less_wrong() {
    let (mut world, mut initiator) = ready(&["ImmediateData=No"]);
    let write = initiator.write(0, 2);
    let tag = initiator.send(&mut world, write);
    let r2t = initiator.answer(&mut world);
    world.send(initiator.at, &initiator.data_out(tag, r2t.ttt(), 0, 0, false, &pattern(1, 1)));
    world.send(initiator.at, &initiator.data_out(tag, r2t.ttt(), 0, 512, true, &pattern(1, 1)));
    assert_eq!(ended(&mut initiator, &mut world, tag).sense, LOST);
    untouched(&mut world, &mut initiator, 0, 2);
    world.finish();
}

#[test]
fn data_at_another_offset_is_rejected_and_fails_its_task() {
    for offset in [512, 1 << 20, 0xffff_fe00] {
        let (mut world, mut initiator) = ready(&["ImmediateData=No"]);
        let write = initiator.write(0, 2);
        let tag = initiator.send(&mut world, write);
        let r2t = initiator.answer(&mut world);
        world.send(initiator.at, &initiator.data_out(tag, r2t.ttt(), 0, offset, true, &pattern(2, 1)));
        let answers = initiator.answers(&mut world);
        assert_eq!((answers[0].opcode(), answers[0].bhs[2]), (REJECT, 0x09));
        assert_eq!(done(&answers, tag).unwrap().sense, WRONG_AMOUNT);
        untouched(&mut world, &mut initiator, 0, 2);
        world.finish();
    }
}

#[test]
fn data_for_an_r2t_that_never_was_is_rejected_and_fails_its_task() {
    let (mut world, mut initiator) = ready(&["ImmediateData=No"]);
    let write = initiator.write(0, 2);
    let tag = initiator.send(&mut world, write);
    let r2t = initiator.answer(&mut world);
    world.send(initiator.at, &initiator.data_out(tag, r2t.ttt() ^ 0x5500, 0, 0, true, &pattern(2, 1)));
    let answer = initiator.answer(&mut world);
    assert_eq!((answer.opcode(), answer.bhs[2]), (REJECT, 0x09));
    // What was asked for is waited for.
    world.send(initiator.at, &initiator.data_out(tag, r2t.ttt(), 0, 0, true, &pattern(2, 1)));
    let done = ended(&mut initiator, &mut world, tag);
    assert_eq!((done.status, done.sense.map(|sense| sense.0)), (2, Some(0xb)));
    untouched(&mut world, &mut initiator, 0, 2);
    world.finish();
}

#[test]
fn a_refused_write_swallows_the_data_that_follows_it() {
    let keys = ["InitialR2T=No", "FirstBurstLength=2048", "MaxBurstLength=2048"];
    let (mut world, mut initiator) = ready(&keys);
    let write = initiator.write(1 << 30, 4).flags(W | 1).data(&pattern(1, 1));
    let tag = initiator.send(&mut world, write);
    assert!(world.is_quiet(initiator.at), "the end of the data is waited for");
    world.send(initiator.at, &initiator.data_out(tag, NO_TAG, 0, 512, true, &pattern(3, 1)));
    let done = ended(&mut initiator, &mut world, tag);
    assert_eq!((done.status, done.sense), (2, Some((5, 0x21, 0))));
    world.finish();
}

#[test]
fn an_attribute_for_a_condition_that_is_not_there_is_an_invalid_message() {
    let (mut world, mut initiator) = ready(&[]);
    let done = initiator.run(&mut world, initiator.command(F, 0, &[0]).flags(F | 4));
    assert_eq!((done.status, done.sense), (2, Some((5, 0x49, 0))));
    for attribute in [0, 1, 2, 3] {
        assert_eq!(initiator.run(&mut world, initiator.command(F, 0, &[0]).flags(F | attribute)).status, 0);
    }
    world.finish();
}

#[test]
fn sense_data_of_the_transport_is_laid_out_as_that_of_the_unit() {
    let (mut world, mut initiator) = ready(&["ImmediateData=No"]);
    // MODE SENSE (6) and MODE SELECT (6) of the control mode page, with D_SENSE.
    let mut list = initiator.run(&mut world, initiator.command(F | R, 16, &[0x1a, 8, 0x0a, 0, 16])).data;
    list[..4].fill(0);
    list[6] |= 0x04;
    let select = initiator.command(F | W, 16, &[0x15, 0x10, 0, 0, 16]);
    let tag = initiator.send(&mut world, select);
    let r2t = initiator.answer(&mut world);
    world.send(initiator.at, &initiator.data_out(tag, r2t.ttt(), 0, 0, true, &list));
    assert_eq!(ended(&mut initiator, &mut world, tag).status, 0);
    let write = initiator.write(0, 1).data(&pattern(1, 1));
    let answer = initiator.ask(&mut world, write);
    assert_eq!((answer.bhs[3], answer.data[2], &answer.data[3..6]), (2, 0x72, &[0xb, 0x0c, 0x0c][..]));
    world.finish();
}

#[test]
fn lengths_that_differ_leave_a_residual() {
    let (mut world, mut initiator) = ready(&[]);
    // The initiator has more: what the command wants is written.
    let data = pattern(4, 6);
    let write = initiator.command(F | W, 2048, &cdb10(0x2a, 0, 2)).data(&data);
    let done = initiator.run(&mut world, write);
    assert_eq!((done.status, done.residual_flags, done.residual), (0, 2, 1024));
    is_stored(&mut world, &mut initiator, 0, &data[..1024]);
    untouched(&mut world, &mut initiator, 2, 2);
    // It has less.
    let write = initiator.command(F | W, 512, &cdb10(0x2a, 8, 2)).data(&data[..512]);
    let done = initiator.run(&mut world, write);
    assert_eq!((done.residual_flags, done.residual), (4, 512));
    untouched(&mut world, &mut initiator, 9, 1);
    world.finish();
}

#[test]
fn unanswered_r2ts_end_the_connection_in_time() {
    let (mut world, mut initiator) = ready(&["ImmediateData=No"]);
    let write = initiator.write(0, 2);
    initiator.send(&mut world, write);
    assert_eq!(initiator.answer(&mut world).opcode(), R2T);
    for _ in 0..40 {
        // Others pings do not help.
        let ping = Pdu::new(0).immediate().itt(7).word(20, NO_TAG).word(24, initiator.cmd_sn);
        world.send(initiator.at, &ping);
        world.pass(1_000);
    }
    assert!(world.links[initiator.at].closed);
    world.finish();
}

#[test]
fn more_writes_than_there_is_room_for_wait_for_each_other() {
    let (mut world, mut initiator) = ready(&["ImmediateData=No", "MaxBurstLength=1048576"]);
    let data = pattern(2048, 8);
    let tags: Vec<u32> = (0..24)
        .map(|turn| {
            let write = initiator.write(turn % 4 * 2048, 2048);
            initiator.send(&mut world, write)
        })
        .collect();
    let mut open = initiator.answers(&mut world);
    let mut over = 0;
    assert!(!open.is_empty());
    while let Some(pdu) = open.pop() {
        match pdu.opcode() {
            R2T => {
                let at = pdu.word_at(40) as usize;
                for (sn, part) in data.chunks(262_144).enumerate() {
                    let offset = at + sn * 262_144;
                    let out = initiator.data_out(pdu.tag(), pdu.ttt(), sn as u32, offset, sn == 3, part);
                    world.send(initiator.at, &out);
                }
            }
            RESPONSE => {
                assert_eq!(pdu.bhs[3], 0);
                over += 1;
            }
            other => panic!("{other:#x}"),
        }
        open.extend(initiator.answers(&mut world));
    }
    assert_eq!(over, tags.len());
    world.finish();
}

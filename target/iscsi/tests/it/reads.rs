//! RFC 7143 §11.4 "SCSI Response" and Data-In of §11.7 "SCSI Data-Out and SCSI Data-In".

use crate::initiator::{Initiator, cdb10, pattern};
use crate::wire::{DATA_IN, F, Pdu, R, RESPONSE, W};
use crate::world::World;

fn written(keys: &[&str], blocks: u16) -> (World, Initiator, Vec<u8>) {
    let mut world = World::new();
    let mut writer = Initiator::open_as(&mut world, crate::world::INITIATOR, 9, &[]);
    writer.settle(&mut world);
    let data = pattern(blocks.into(), 3);
    for (at, part) in data.chunks(8192).enumerate() {
        let write = writer.write(at as u32 * 16, (part.len() / 512) as u16).data(part);
        assert_eq!(writer.run(&mut world, write).status, 0);
    }
    let reader = Initiator::ready(&mut world, keys);
    (world, reader, data)
}

/// Flags, DataSN, offset and length of each Data-In.
fn shape(answers: &[Pdu]) -> Vec<(u8, u32, u32, usize)> {
    answers.iter().map(|pdu| (pdu.bhs[1], pdu.word_at(36), pdu.word_at(40), pdu.data.len())).collect()
}

#[test]
fn the_last_data_brings_the_status() {
    let (mut world, mut initiator, data) = written(&["MaxRecvDataSegmentLength=65536"], 8);
    let read = initiator.read(0, 8);
    let answer = initiator.ask(&mut world, read);
    assert_eq!((answer.opcode(), answer.bhs[1], answer.bhs[3]), (DATA_IN, F | 1, 0));
    assert!(answer.data == data);
    world.finish();
}

#[test]
fn data_comes_in_segments_and_bursts_that_were_agreed() {
    let keys = ["MaxRecvDataSegmentLength=1024", "MaxBurstLength=2560", "FirstBurstLength=2560"];
    let (mut world, mut initiator, data) = written(&keys, 12);
    let read = initiator.read(0, 12);
    let tag = initiator.send(&mut world, read);
    let answers = initiator.answers(&mut world);
    assert_eq!(
        shape(&answers),
        [
            (0, 0, 0, 1024),
            (0, 1, 1024, 1024),
            (F, 2, 2048, 512),
            (0, 3, 2560, 1024),
            (0, 4, 3584, 1024),
            (F, 5, 4608, 512),
            (F | 1, 6, 5120, 1024),
        ]
    );
    let done = crate::initiator::done(&answers, tag).unwrap();
    assert!(done.data == data);
    world.finish();
}

#[test]
fn segments_are_whole_words_until_the_end_of_a_burst() {
    let keys = ["MaxRecvDataSegmentLength=1022", "MaxBurstLength=262144"];
    let (mut world, mut initiator, data) = written(&keys, 4);
    let read = initiator.read(0, 4);
    let tag = initiator.send(&mut world, read);
    let answers = initiator.answers(&mut world);
    assert_eq!(shape(&answers), [(0, 0, 0, 1020), (0, 1, 1020, 1020), (F | 1, 2, 2040, 8)]);
    assert!(crate::initiator::done(&answers, tag).unwrap().data == data);
    world.finish();
}

#[test]
fn a_large_read_comes_whole() {
    let (mut world, mut initiator, data) = written(&["MaxRecvDataSegmentLength=16777215"], 2048);
    let read = initiator.read(0, 2048);
    let done = initiator.run(&mut world, read);
    assert!(done.data == data);
    assert_eq!(done.exp_data_sn, 4, "MaxBurstLength is the default");
    world.finish();
}

#[test]
fn a_buffer_that_is_too_small_overflows() {
    let (mut world, mut initiator, data) = written(&[], 4);
    for (room, moved) in [(512, 512), (0, 0), (700, 512)] {
        let read = initiator.command(F | R, room, &cdb10(0x28, 0, 2));
        let done = initiator.run(&mut world, read);
        assert_eq!((done.status, done.residual_flags, done.residual as usize), (0, 4, 1024 - room), "{room}");
        assert!(done.data.len() >= moved && done.data == data[..done.data.len()], "{room}");
    }
    world.finish();
}

#[test]
fn a_buffer_that_is_too_large_underflows() {
    let (mut world, mut initiator, data) = written(&[], 4);
    let read = initiator.command(F | R, 4096, &cdb10(0x28, 0, 2));
    let done = initiator.run(&mut world, read);
    assert_eq!((done.status, done.residual_flags, done.residual), (0, 2, 3072));
    assert!(done.data == data[..1024]);
    // Without any data the response tells it.
    let answer = initiator.ask(&mut world, initiator.command(F | R, 100, &[0]));
    assert_eq!((answer.opcode(), answer.bhs[1], answer.word_at(44)), (RESPONSE, F | 2, 100));
    world.finish();
}

#[test]
fn data_in_the_other_direction_is_all_residual() {
    let (mut world, mut initiator, data) = written(&[], 4);
    let done = initiator.run(&mut world, initiator.command(F | R, 1024, &cdb10(0x2a, 0, 2)));
    assert_eq!((done.residual_flags, done.residual), (2, 1024), "a write that is told to read");
    let done = initiator.run(&mut world, initiator.command(F | W, 1024, &cdb10(0x28, 0, 2)));
    assert_eq!((done.status, done.data.len()), (0, 0), "a read that is told to write");
    assert_eq!((done.residual_flags, done.residual), (2, 1024));
    // Both: the length of the read is in an additional header.
    let both = initiator.command(F | R | W, 512, &cdb10(0x28, 0, 2)).ahs(&[0, 5, 2, 0, 0, 0, 2, 0]);
    let tag = initiator.send(&mut world, both);
    let answers = initiator.answers(&mut world);
    let response = answers.last().unwrap();
    assert_eq!((response.opcode(), response.tag(), response.bhs[1]), (RESPONSE, tag, F | 0x10 | 2));
    assert_eq!((response.word_at(40), response.word_at(44)), (512, 512));
    assert!(answers[0].data == data[..512]);
    world.finish();
}

#[test]
fn a_failure_comes_with_sense_and_moves_nothing() {
    let (mut world, mut initiator, _) = written(&[], 4);
    let read = initiator.read(1 << 30, 1);
    let done = initiator.run(&mut world, read);
    assert_eq!((done.status, done.sense), (2, Some((5, 0x21, 0))));
    assert_eq!((done.residual_flags, done.residual, done.exp_data_sn), (2, 512, 0));
    world.finish();
}

#[test]
fn sessions_end_while_their_data_is_on_its_way() {
    let (mut world, mut initiator, _) = written(&["MaxRecvDataSegmentLength=65536"], 64);
    for turn in 0..8 {
        let read = initiator.read(turn, 32);
        initiator.send(&mut world, read);
    }
    world.deliver();
    assert!(world.take_batch(initiator.at));
    world.close(initiator.at);
    world.finish();
}

#[test]
fn many_reads_are_answered_each_in_whole() {
    let (mut world, mut initiator, data) = written(&["MaxRecvDataSegmentLength=8192"], 256);
    let tags: Vec<(u32, usize)> = (0..100)
        .map(|turn| {
            let read = initiator.read(turn, 1 + turn as u16);
            (initiator.send(&mut world, read), turn as usize)
        })
        .collect();
    let answers = initiator.answers(&mut world);
    for (tag, turn) in tags {
        let done = crate::initiator::done(&answers, tag).unwrap();
        assert!(done.data == data[turn * 512..(turn * 2 + 1) * 512], "{turn}");
    }
    world.finish();
}

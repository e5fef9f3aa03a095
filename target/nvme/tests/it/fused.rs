//! Fused Compare and Write, well made and not.

use holdfast_block::Operation;

use crate::host::{Host, Pdu, code, put, ranged, sgl, sqe};
use crate::world::{PI_HOST, PI_NSID, PLAIN_HOST, World};

const FIRST: u8 = 0x41;
const SECOND: u8 = 0x42;
const MISSING: (u8, u8) = (0, 0x0a);
const FAILED: (u8, u8) = (0, 0x09);
const INVALID: (u8, u8) = (0, 0x02);
const MISCOMPARE: (u8, u8) = (2, 0x85);
const SUCCESS: (u8, u8) = (0, 0);

fn half(fuse: u8, opcode: u8, nsid: u32, lba: u64, blocks: u32) -> [u8; 64] {
    let mut sqe = ranged(opcode, nsid, lba, blocks, 0);
    sqe[1] = fuse;
    sqe
}

fn compare(lba: u64) -> [u8; 64] {
    half(FIRST, 0x05, 1, lba, 1)
}

fn write(lba: u64) -> [u8; 64] {
    half(SECOND, 0x01, 1, lba, 1)
}

/// The statuses that came, in the order of `cids`; `None` for those without.
fn statuses(pdus: &[Pdu], cids: &[u16]) -> Vec<Option<(u8, u8)>> {
    let of = |cid: &u16| {
        pdus.iter().find_map(|pdu| match pdu {
            Pdu::Response { cid: other, status, .. } if other == cid => Some(code(*status)),
            _ => None,
        })
    };
    cids.iter().map(of).collect()
}

fn block(world: &World, lba: u64) -> Option<u8> {
    let volume = holdfast_block::VolumeId::new(1).unwrap();
    world.port.volumes[&volume].blocks.get(&lba).map(|(data, _)| data[0])
}

/// Sends commands with data in their capsules and gives their statuses.
fn run(io: &mut Host, world: &mut World, commands: &[([u8; 64], Vec<u8>)]) -> Vec<Option<(u8, u8)>> {
    let cids: Vec<u16> = commands.iter().map(|(sqe, data)| io.submit(world, *sqe, data)).collect();
    statuses(&io.pump(world), &cids)
}

#[test]
fn the_write_follows_a_compare_that_finds_no_difference() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let pair = [(compare(4), vec![0; 4096]), (write(4), vec![7; 4096])];
    assert_eq!(run(&mut io, &mut world, &pair), [Some(SUCCESS), Some(SUCCESS)]);
    assert_eq!((block(&world, 4), world.port.pairs), (Some(7), 1));
}

#[test]
fn the_write_fails_with_a_compare_that_finds_a_difference() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let pair = [(compare(4), vec![1; 4096]), (write(4), vec![7; 4096])];
    assert_eq!(run(&mut io, &mut world, &pair), [Some(MISCOMPARE), Some(FAILED)]);
    assert_eq!((block(&world, 4), world.port.live_tickets()), (None, 0));
}

#[test]
fn payloads_of_pairs_may_be_asked_for() {
    for (asks_first, asks_second) in [(true, true), (true, false), (false, true)] {
        let mut world = World::new();
        let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
        let mut cids = Vec::new();
        let mut owed = Vec::new();
        for (mut sqe, data, asks) in [(compare(4), [0; 4096], asks_first), (write(4), [7; 4096], asks_second)]
        {
            if asks {
                sgl(&mut sqe, 0x5a, 0, 4096);
            }
            let cid = io.submit(&mut world, sqe, if asks { &[] } else { &data });
            cids.push(cid);
            if asks {
                owed.push((cid, data));
            }
            if cids.len() == 1 {
                assert_eq!(io.pump(&mut world), [], "nothing is asked for before the pair is complete");
            }
        }
        let asked = io.pump(&mut world);
        assert_eq!(asked.len(), owed.len());
        // The host may answer in any order.
        for (pdu, (cid, data)) in asked.iter().zip(&owed).rev() {
            let Pdu::R2t { cid: other, ttag, .. } = pdu else { panic!("{pdu:?}") };
            assert_eq!(other, cid);
            let transfer = io.h2cdata(*cid, *ttag, 0, data, true);
            io.send(&mut world, &transfer);
        }
        let answers = io.pump(&mut world);
        assert_eq!(statuses(&answers, &cids), [Some(SUCCESS), Some(SUCCESS)]);
        assert_eq!((block(&world, 4), world.port.live_tickets()), (Some(7), 0));
    }
}

#[test]
fn halves_without_their_other_half_are_told_so() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let zeroes = vec![0; 4096];
    let lone = [(write(4), zeroes.clone())];
    assert_eq!(run(&mut io, &mut world, &lone), [Some(MISSING)]);
    let interrupted = [(compare(4), zeroes.clone()), (sqe(0x00, 1), vec![]), (write(4), zeroes.clone())];
    assert_eq!(run(&mut io, &mut world, &interrupted), [Some(MISSING), Some(SUCCESS), Some(MISSING)]);
    let twice = [(compare(4), zeroes.clone()), (compare(4), zeroes.clone()), (write(4), zeroes.clone())];
    assert_eq!(run(&mut io, &mut world, &twice), [Some(MISSING), Some(SUCCESS), Some(SUCCESS)]);
    let mut waiting = compare(4);
    sgl(&mut waiting, 0x5a, 0, 4096);
    let unasked = [(waiting, vec![]), (sqe(0x00, 1), vec![])];
    assert_eq!(run(&mut io, &mut world, &unasked), [Some(MISSING), Some(SUCCESS)]);
    assert_eq!(world.port.live_tickets(), 0);
}

#[test]
fn halves_that_do_not_fit_are_invalid() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PI_HOST, false, false);
    let zeroes = vec![0; 4096];
    for other in [write(5), half(SECOND, 0x01, 1, 4, 2), half(SECOND, 0x01, PI_NSID, 4, 1)] {
        let pair = [(compare(4), zeroes.clone()), (other, vec![0; 8192])];
        assert_eq!(run(&mut io, &mut world, &pair), [Some(INVALID), Some(INVALID)]);
    }
    let read = [(half(FIRST, 0x02, 1, 4, 1), vec![]), (write(4), zeroes.clone())];
    assert_eq!(run(&mut io, &mut world, &read), [Some(INVALID), Some(FAILED)]);
    let backwards =
        [(half(FIRST, 0x01, 1, 4, 1), zeroes.clone()), (half(SECOND, 0x05, 1, 4, 1), zeroes.clone())];
    assert_eq!(run(&mut io, &mut world, &backwards), [Some(INVALID), Some(FAILED)]);
    let no_write = [(compare(4), zeroes.clone()), (half(SECOND, 0x08, 1, 4, 1), vec![])];
    assert_eq!(run(&mut io, &mut world, &no_write), [Some(MISSING), Some(INVALID)]);
    let reserved = [(compare(4), zeroes.clone()), (half(0x43, 0x01, 1, 4, 1), zeroes.clone())];
    assert_eq!(run(&mut io, &mut world, &reserved), [Some(MISSING), Some(INVALID)]);
    assert_eq!((world.port.live_tickets(), world.port.pairs), (0, 0));
}

#[test]
fn a_first_half_that_fails_by_itself_takes_the_second_along() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let beyond = 1 << 40;
    let pair = [(compare(beyond), vec![0; 4096]), (write(beyond), vec![0; 4096])];
    assert_eq!(run(&mut io, &mut world, &pair), [Some((0, 0x80)), Some(FAILED)]);
    world.port.tickets_max = 0;
    let pair = [(compare(4), vec![0; 4096]), (write(4), vec![0; 4096])];
    assert_eq!(run(&mut io, &mut world, &pair), [Some((0, 0x82)), Some(FAILED)]);
}

#[test]
fn a_second_half_that_fails_by_itself_leaves_the_compare_to_its_own_end() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PI_HOST, false, false);
    let mut tuple = vec![0; 520];
    tuple[512..].fill(0xff);
    let compare = half(FIRST, 0x05, PI_NSID, 4, 1);
    let mut write = half(SECOND, 0x01, PI_NSID, 4, 1);
    put(&mut write, 12, 0b001 << 26);
    put(&mut write, 14, 5);
    let pair = [(compare, tuple.clone()), (write, tuple.clone())];
    assert_eq!(run(&mut io, &mut world, &pair), [Some(SUCCESS), Some((1, 0x81))]);
    world.port.tickets_max = 1;
    put(&mut write, 14, 4);
    let pair = [(compare, tuple.clone()), (write, tuple)];
    assert_eq!(run(&mut io, &mut world, &pair), [Some(SUCCESS), Some((0, 0x82))]);
    assert_eq!((world.port.live_tickets(), world.port.pairs), (0, 0));
}

#[test]
fn pairs_wait_for_room_and_never_for_themselves() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    // More than a connection's reserved buffers hold at once.
    let mut cids = Vec::new();
    for lba in (0..40).map(|pair| pair * 256 % 4096) {
        for mut sqe in [half(FIRST, 0x05, 1, lba, 256), half(SECOND, 0x01, 1, lba, 256)] {
            sgl(&mut sqe, 0x5a, 0, 1 << 20);
            cids.push(io.submit(&mut world, sqe, &[]));
        }
    }
    let zeroes = vec![0; 1 << 17];
    let mut answered = Vec::new();
    loop {
        let pdus = io.pump(&mut world);
        if pdus.is_empty() {
            break;
        }
        for pdu in &pdus {
            match pdu {
                Pdu::R2t { cid, ttag, .. } => {
                    for piece in 0..8_u32 {
                        let data = io.h2cdata(*cid, *ttag, piece << 17, &zeroes, piece == 7);
                        io.send(&mut world, &data);
                    }
                }
                Pdu::Response { cid, status, .. } => answered.push((*cid, code(*status))),
                other => panic!("{other:?}"),
            }
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, cids.iter().map(|cid| (*cid, SUCCESS)).collect::<Vec<_>>());
    assert_eq!((world.port.live_tickets(), world.port.pairs), (0, 40));
}

#[test]
fn a_connection_that_ends_with_half_a_pair_leaves_nothing() {
    for with_second in [false, true] {
        let mut world = World::new();
        let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
        io.submit(&mut world, compare(4), &[0; 4096]);
        if with_second {
            let mut second = write(4);
            sgl(&mut second, 0x5a, 0, 4096);
            io.submit(&mut world, second, &[]);
            assert!(matches!(io.pump(&mut world)[..], [Pdu::R2t { .. }]));
        }
        io.close(&mut world);
        assert_eq!((world.port.live_tickets(), world.port.live_attachments()), (0, 0));
    }
}

#[test]
fn admin_commands_are_never_fused() {
    let mut world = World::new();
    let (mut admin, _io) = Host::io(&mut world, PLAIN_HOST, false, false);
    for fuse in [FIRST, SECOND, 0x43] {
        let mut identify = sqe(0x06, 0);
        identify[1] = fuse;
        put(&mut identify, 10, 1);
        sgl(&mut identify, 0x5a, 0, 4096);
        assert_eq!(code(admin.run(&mut world, identify, &[]).0), INVALID);
    }
}

#[test]
fn an_ordinary_compare_and_write_are_no_pair() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let both = [(ranged(0x05, 1, 4, 1, 0), vec![0; 4096]), (ranged(0x01, 1, 4, 1, 0), vec![7; 4096])];
    assert_eq!(run(&mut io, &mut world, &both), [Some(SUCCESS), Some(SUCCESS)]);
    let operations: Vec<Operation> = world.port.log.iter().map(|command| command.operation).collect();
    assert_eq!((operations, world.port.pairs), (vec![Operation::Compare, Operation::Write], 0));
}

#[test]
fn a_half_that_is_aborted_takes_its_other_half_along_or_lets_it_go() {
    for aborted in 0..2 {
        let mut world = World::new();
        let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
        let (mut first, mut second) = (compare(4), write(4));
        sgl(&mut first, 0x5a, 0, 4096);
        sgl(&mut second, 0x5a, 0, 4096);
        let cids = [io.submit(&mut world, first, &[]), io.submit(&mut world, second, &[])];
        let asked = io.pump(&mut world);
        assert_eq!(asked.len(), 2);
        let mut abort = sqe(0x08, 0);
        put(&mut abort, 10, 1 | (u32::from(cids[aborted]) << 16));
        admin.submit(&mut world, abort, &[]);
        io.connection.directory_changed(&mut world.context());
        for pdu in &asked {
            let Pdu::R2t { cid, ttag, .. } = pdu else { panic!("{pdu:?}") };
            let data = io.h2cdata(*cid, *ttag, 0, &[0; 4096], true);
            io.send(&mut world, &data);
        }
        let expected = [[(0, 0x07), FAILED], [SUCCESS, (0, 0x07)]][aborted];
        assert_eq!(statuses(&io.pump(&mut world), &cids), expected.map(Some));
        assert_eq!((block(&world, 4), world.port.live_tickets()), (None, 0));
    }
}

#[test]
fn a_first_half_that_is_aborted_while_it_waits_is_a_failed_one() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let cid = io.submit(&mut world, compare(4), &[0; 4096]);
    let mut abort = sqe(0x08, 0);
    put(&mut abort, 10, 1 | (u32::from(cid) << 16));
    admin.submit(&mut world, abort, &[]);
    io.connection.directory_changed(&mut world.context());
    assert_eq!(statuses(&io.pump(&mut world), &[cid]), [Some((0, 0x07))]);
    assert_eq!(run(&mut io, &mut world, &[(write(4), vec![7; 4096])]), [Some(FAILED)]);
    assert_eq!(world.port.live_tickets(), 0);
}

#[test]
fn a_queue_can_be_left_in_the_middle_of_a_pair() {
    for asks in [true, false] {
        let mut world = World::new();
        let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
        let mut first = compare(4);
        sgl(&mut first, if asks { 0x5a } else { 0x01 }, 0, 4096);
        let first = io.submit(&mut world, first, if asks { &[] } else { &[0; 4096] });
        let mut second = write(4);
        sgl(&mut second, 0x5a, 0, 4096);
        let second = io.submit(&mut world, second, &[]);
        io.pump(&mut world);
        let goodbye = io.submit(&mut world, sqe(0x7f, 0x08), &[]);
        let answers = statuses(&io.pump(&mut world), &[first, second, goodbye]);
        assert!(answers.iter().all(Option::is_some), "{answers:?}");
        assert_eq!(answers[2], Some(SUCCESS));
        assert_eq!((block(&world, 4), world.port.live_tickets()), (None, 0));
    }
}

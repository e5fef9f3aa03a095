//! Abort, and what becomes of a queue whose host says goodbye. Base 2.1 §5.1.1 "Abort command", §6.4 "Disconnect Command".

use crate::host::{Host, Pdu, code, dnr, put, ranged, sgl, sqe};
use crate::world::{PLAIN_HOST, PLAIN_NSID, SUBNQN, World};
use holdfast_block::Disposition;

const TRANSFER: usize = 16384;

/// A write of [`TRANSFER`] bytes to LBA 0, by R2T.
fn solicited(io: &mut Host, world: &mut World) -> u16 {
    let mut write = ranged(0x01, PLAIN_NSID, 0, 4, 0);
    sgl(&mut write, 0x5a, 0, TRANSFER as u32);
    io.submit(world, write, &[])
}

/// The same, and the tag of its R2T.
fn asked(io: &mut Host, world: &mut World) -> (u16, u16) {
    let cid = solicited(io, world);
    let answer = io.pump(world);
    let [Pdu::R2t { ttag, .. }] = answer[..] else { panic!("{answer:?}") };
    (cid, ttag)
}

/// Sends an Abort; its answer follows [`settle`].
fn abort(admin: &mut Host, world: &mut World, sqid: u16, cid: u16) -> u16 {
    let mut abort = sqe(0x08, 0);
    put(&mut abort, 10, u32::from(sqid) | (u32::from(cid) << 16));
    admin.submit(world, abort, &[])
}

/// Lets the connections do what they have for each other.
fn settle(world: &mut World, hosts: &mut [&mut Host]) {
    let mut seen = u64::MAX;
    while seen != world.directory.generation() {
        seen = world.directory.generation();
        for host in hosts.iter_mut() {
            host.connection.directory_changed(&mut world.context());
        }
    }
}

/// Status and Dword 0 of each response.
fn responses(pdus: Vec<Pdu>) -> Vec<(u16, u16, u64)> {
    let response = |pdu| match pdu {
        Pdu::Response { cid, status, result, .. } => (cid, status, result),
        other => panic!("{other:?}"),
    };
    pdus.into_iter().map(response).collect()
}

fn read(io: &mut Host, world: &mut World, len: usize) -> Vec<u8> {
    let mut read = ranged(0x02, PLAIN_NSID, 0, (len / 4096) as u32, 0);
    sgl(&mut read, 0x5a, 0, len as u32);
    io.run(world, read, &[]).2
}

#[test]
fn a_write_that_waits_for_its_data_is_aborted_and_late_data_is_thrown_away() {
    // How much of the transfer comes before the Abort, and how much of a PDU.
    for (before, within) in [(0, 0), (4096, 0), (4096, 1000), (12288, 1000)] {
        let mut world = World::new();
        let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
        let (cid, ttag) = asked(&mut io, &mut world);
        let data = vec![9; TRANSFER];
        let pdus: Vec<Vec<u8>> =
            (0..4).map(|n| io.h2cdata(cid, ttag, n * 4096, &data[..4096], n == 3)).collect();
        let stream = pdus.concat();
        let cut = before / 4096 * pdus[0].len() + if within > 0 { within } else { 0 };
        io.send(&mut world, &stream[..cut]);
        let asker = abort(&mut admin, &mut world, 1, cid);
        assert!(admin.pump(&mut world).is_empty(), "the other queue has to be asked");
        settle(&mut world, &mut [&mut admin, &mut io]);
        assert_eq!(responses(admin.pump(&mut world)), [(asker, 0, 0)]);
        let [(aborted, status, 0)] = responses(io.pump(&mut world))[..] else { panic!() };
        assert_eq!((aborted, code(status), dnr(status)), (cid, (0, 0x07), false));
        assert_eq!(world.port.live_tickets(), 0);
        io.send(&mut world, &stream[cut..]);
        assert!(io.pump(&mut world).is_empty());
        assert_eq!(read(&mut io, &mut world, TRANSFER), vec![0; TRANSFER], "nothing was stored");
        // The whole transfer has come: anything more is unexpected.
        io.send(&mut world, &pdus[0]);
        io.expect_term(&mut world, 2, 0);
    }
}

#[test]
fn the_slot_of_an_aborted_write_takes_the_next_and_data_of_both_is_told_apart() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let (cid, ttag) = asked(&mut io, &mut world);
    abort(&mut admin, &mut world, 1, cid);
    settle(&mut world, &mut [&mut admin, &mut io]);
    io.pump(&mut world);
    let (next_cid, next_ttag) = asked(&mut io, &mut world);
    assert_ne!(ttag, next_ttag);
    for (cid, ttag, byte) in [(cid, ttag, 1), (next_cid, next_ttag, 2)] {
        let pdu = io.h2cdata(cid, ttag, 0, &[byte; TRANSFER], true);
        io.send(&mut world, &pdu);
    }
    assert_eq!(responses(io.pump(&mut world)), [(next_cid, 0, 0)]);
    assert_eq!(read(&mut io, &mut world, TRANSFER), vec![2; TRANSFER]);
}

#[test]
fn late_data_has_to_be_what_the_r2t_asked_for_all_the_same() {
    for (cid_off, offset, len, last, fes, fei) in [
        (1, 0, 4096, false, 1, 8),
        (0, 4096, 4096, false, 2, 0),
        (0, 0, 4096, true, 2, 0),
        (0, TRANSFER as u32, 4, false, 4, 0),
    ] {
        let mut world = World::new();
        let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
        let (cid, ttag) = asked(&mut io, &mut world);
        abort(&mut admin, &mut world, 1, cid);
        settle(&mut world, &mut [&mut admin, &mut io]);
        let pdu = io.h2cdata(cid + cid_off, ttag, offset, &vec![0; len], last);
        io.send(&mut world, &pdu);
        io.expect_term(&mut world, fes, fei);
    }
}

#[test]
fn an_r2t_that_has_not_left_yet_never_leaves() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let cid = solicited(&mut io, &mut world);
    abort(&mut admin, &mut world, 1, cid);
    settle(&mut world, &mut [&mut admin, &mut io]);
    let [(aborted, status, _)] = responses(io.pump(&mut world))[..] else { panic!() };
    assert_eq!((aborted, code(status)), (cid, (0, 0x07)));
    assert_eq!(world.port.live_tickets(), 0);
}

#[test]
fn a_command_that_waits_for_room_is_aborted_and_the_next_gets_its_turn() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    world.port.tickets_max = 1;
    let (first, ttag) = asked(&mut io, &mut world);
    let second = solicited(&mut io, &mut world);
    let third = solicited(&mut io, &mut world);
    assert!(io.pump(&mut world).is_empty());
    let asker = abort(&mut admin, &mut world, 1, second);
    settle(&mut world, &mut [&mut admin, &mut io]);
    assert_eq!(responses(admin.pump(&mut world)), [(asker, 0, 0)]);
    let [(aborted, status, _)] = responses(io.pump(&mut world))[..] else { panic!() };
    assert_eq!((aborted, code(status)), (second, (0, 0x07)));
    let pdu = io.h2cdata(first, ttag, 0, &[1; TRANSFER], true);
    io.send(&mut world, &pdu);
    let answer = io.pump(&mut world);
    let [Pdu::Response { cid, status: 0, .. }, Pdu::R2t { cid: next, .. }] = answer[..] else {
        panic!("{answer:?}")
    };
    assert_eq!((cid, next), (first, third));
}

#[test]
fn what_is_carried_out_or_unknown_is_not_aborted() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    world.port.stalled = true;
    let mut read = ranged(0x02, PLAIN_NSID, 0, 1, 0);
    sgl(&mut read, 0x5a, 0, 4096);
    let busy = io.submit(&mut world, read, &[]);
    for (sqid, cid) in [(1, busy), (1, busy + 1), (2, busy), (64, 1), (65, 1), (0xffff, 1), (0, 0xfffe)] {
        let asker = abort(&mut admin, &mut world, sqid, cid);
        settle(&mut world, &mut [&mut admin, &mut io]);
        assert_eq!(responses(admin.pump(&mut world)), [(asker, 0, 1)], "{sqid} {cid}");
    }
    world.port.stalled = false;
    assert!(matches!(io.pump(&mut world)[..], [Pdu::Data { .. }, Pdu::Response { status: 0, .. }]));
}

#[test]
fn more_aborts_than_the_limit_are_refused() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let (cid, _) = asked(&mut io, &mut world);
    let askers: Vec<u16> = (0..5).map(|n| abort(&mut admin, &mut world, 1, cid + n)).collect();
    let [(refused, status, _)] = responses(admin.pump(&mut world))[..] else { panic!() };
    assert_eq!((refused, code(status), dnr(status)), (askers[4], (1, 0x03), true));
    settle(&mut world, &mut [&mut admin, &mut io]);
    let expected: Vec<_> = (0..4).map(|n| (askers[n], 0, u64::from(n > 0))).collect();
    assert_eq!(responses(admin.pump(&mut world)), expected);
}

#[test]
fn an_abort_for_a_queue_that_goes_away_is_answered() {
    for reset in [false, true] {
        let mut world = World::new();
        let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
        let (cid, _) = asked(&mut io, &mut world);
        let asker = abort(&mut admin, &mut world, 1, cid);
        let mut expected = vec![(asker, 0, 1)];
        if reset {
            let mut clear = sqe(0x7f, 0);
            put(&mut clear, 11, 0x14);
            let cleared = admin.submit(&mut world, clear, &[]);
            expected.insert(0, (cleared, 0, 0));
        } else {
            io.close(&mut world);
        }
        settle(&mut world, &mut [&mut admin]);
        assert_eq!(responses(admin.pump(&mut world)), expected);
    }
}

#[test]
fn commands_of_the_admin_queue_are_aborted_where_they_wait() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let event = admin.submit(&mut world, sqe(0x0c, 0), &[]);
    let mut set = sqe(0x09, 0);
    put(&mut set, 10, 0x16);
    sgl(&mut set, 0x5a, 0, 512);
    let behavior = admin.submit(&mut world, set, &[]);
    let answer = admin.pump(&mut world);
    let [Pdu::R2t { ttag, .. }] = answer[..] else { panic!("{answer:?}") };
    for cid in [event, behavior] {
        let asker = abort(&mut admin, &mut world, 0, cid);
        let mut answers = responses(admin.pump(&mut world));
        answers.sort_by_key(|(cid, ..)| *cid);
        let [(aborted, status, _), (answered, 0, 0)] = answers[..] else { panic!("{answers:?}") };
        assert_eq!((aborted, code(status), answered), (cid, (0, 0x07), asker));
    }
    let late = admin.h2cdata(behavior, ttag, 0, &[0; 512], true);
    admin.send(&mut world, &late);
    assert_eq!(admin.run(&mut world, sqe(0x18, 0), &[]).0, 0);
}

#[test]
fn data_after_the_end_of_its_transfer_is_unexpected() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let (cid, ttag) = asked(&mut io, &mut world);
    let whole = io.h2cdata(cid, ttag, 0, &[1; TRANSFER], true);
    io.send(&mut world, &whole);
    assert_eq!(responses(io.pump(&mut world)), [(cid, 0, 0)]);
    let more = io.h2cdata(cid, ttag, 0, &[1; 512], false);
    io.send(&mut world, &more);
    io.expect_term(&mut world, 2, 0);
}

#[test]
fn disconnect_is_the_last_response_of_its_queue() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let (waiting, _) = asked(&mut io, &mut world);
    world.port.stalled = true;
    let mut read = ranged(0x02, PLAIN_NSID, 0, 256, 0);
    sgl(&mut read, 0x5a, 0, 1 << 20);
    let busy = io.submit(&mut world, read, &[]);
    let goodbye = io.submit(&mut world, sqe(0x7f, 8), &[]);
    let too_late = io.submit(&mut world, sqe(0x00, PLAIN_NSID), &[]);
    let [(taken_back, status, _)] = responses(io.pump(&mut world))[..] else { panic!() };
    assert_eq!((taken_back, code(status)), (waiting, (0, 0x08)));
    assert_eq!(io.connection.disposition(), Disposition::Open);
    world.port.stalled = false;
    let mut rest = io.pump(&mut world);
    let last = rest.pop();
    assert!(matches!(last, Some(Pdu::Response { cid, status: 0, .. }) if cid == goodbye), "{last:?}");
    assert!(matches!(rest.pop(), Some(Pdu::Response { cid, status: 0, .. }) if cid == busy));
    assert!(rest.iter().all(|pdu| matches!(pdu, Pdu::Data { cid, .. } if *cid == busy)), "{too_late}");
    assert_eq!(io.connection.disposition(), Disposition::CloseAfterTransmit);
    // The number is free as soon as the response is there.
    let mut again = Host::new(&world, 3);
    again.initialize(&mut world, false, false);
    let data = Host::connect_data(1, SUBNQN, PLAIN_HOST);
    assert_eq!(again.run(&mut world, Host::connect_sqe(1, 31, 0), &data).0, 0);
    io.close(&mut world);
    assert_eq!(world.port.live_tickets(), 0);
}

#[test]
fn a_fatal_error_gives_everything_back_at_once() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    asked(&mut io, &mut world);
    io.send(&mut world, &[0xff; 8]);
    io.expect_term(&mut world, 1, 0);
    assert_eq!(world.port.live_tickets(), 0);
    let mut again = Host::new(&world, 3);
    again.initialize(&mut world, false, false);
    let data = Host::connect_data(1, SUBNQN, PLAIN_HOST);
    assert_eq!(again.run(&mut world, Host::connect_sqe(1, 31, 0), &data).0, 0);
    admin.send(&mut world, &[0xff; 8]);
    assert_eq!((world.directory.controllers(), world.sessions.list().len()), (0, 0));
}

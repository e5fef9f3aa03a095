//! Data in both directions.

use crate::host::{Host, Pdu, code, dnr, put, ranged, sgl};
use crate::world::{PI_HOST, PI_NSID, PLAIN_HOST, PLAIN_NSID, World};

const WRITE: u8 = 0x01;
const READ: u8 = 0x02;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 256) as u8).collect()
}

fn read(host: &mut Host, world: &mut World, nsid: u32, lba: u64, blocks: u32, len: usize) -> Vec<u8> {
    let mut sqe = ranged(READ, nsid, lba, blocks, 0);
    sgl(&mut sqe, 0x5a, 0, len as u32);
    let (status, _, data) = host.run(world, sqe, &[]);
    assert_eq!(status, 0);
    data
}

#[test]
fn in_capsule_writes_come_back_under_all_digests() {
    for (hdgst, ddgst) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut world = World::new();
        let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, hdgst, ddgst);
        let data = pattern(8192);
        let (status, ..) = io.run(&mut world, ranged(WRITE, PLAIN_NSID, 3, 2, 0), &data);
        assert_eq!(status, 0);
        assert_eq!(read(&mut io, &mut world, PLAIN_NSID, 3, 2, 8192), data);
    }
}

#[test]
fn a_mebibyte_is_asked_for_and_sent_back_under_all_digests() {
    for (hdgst, ddgst) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut world = World::new();
        let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, hdgst, ddgst);
        let data = pattern(1 << 20);
        let status = io.run_r2t(&mut world, ranged(WRITE, PLAIN_NSID, 0, 256, 0), &data, 100_004);
        assert_eq!(status, 0);
        assert_eq!(read(&mut io, &mut world, PLAIN_NSID, 0, 256, 1 << 20), data);
        assert_eq!(world.port.live_tickets(), 0);
    }
}

#[test]
fn any_cut_of_the_stream_gives_the_same_answers() {
    let play = |cut: usize| {
        let mut world = World::new();
        let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, true, true);
        io.cut = cut;
        io.raw.clear();
        io.run(&mut world, ranged(WRITE, PLAIN_NSID, 0, 1, 0), &pattern(4096));
        io.run_r2t(&mut world, ranged(WRITE, PLAIN_NSID, 1, 3, 0), &pattern(12288), 5000);
        read(&mut io, &mut world, PLAIN_NSID, 0, 4, 16384);
        io.raw
    };
    let whole = play(0);
    for cut in [1, 2, 3, 7, 71, 72, 73, 4095] {
        assert!(play(cut) == whole, "cut into {cut}");
    }
}

#[test]
fn data_starts_where_the_host_wants_it_aligned() {
    let mut world = World::new();
    let (mut admin, cntlid) = Host::admin(&mut world, 1, PLAIN_HOST, crate::world::SUBNQN);
    let mut io = Host::new(&world, 2);
    let mut icreq = Host::icreq(1);
    icreq[10] = 31;
    io.send(&mut world, &icreq);
    io.pump(&mut world);
    io.hdgst = true;
    let data = Host::connect_data(cntlid, crate::world::SUBNQN, PLAIN_HOST);
    assert_eq!(io.run(&mut world, Host::connect_sqe(1, 31, 0), &data).0, 0);
    io.raw.clear();
    read(&mut io, &mut world, PLAIN_NSID, 0, 1, 4096);
    assert_eq!((io.raw[0], io.raw[3]), (0x07, 128));
    admin.close(&mut world);
}

#[test]
fn a_read_ends_without_a_response_only_when_flow_control_is_off() {
    let mut world = World::new();
    let (_admin, cntlid) = Host::admin(&mut world, 1, PLAIN_HOST, crate::world::SUBNQN);
    for (qid, attributes) in [(1, 0), (2, 1 << 18)] {
        let mut io = Host::new(&world, u64::from(qid) + 1);
        io.initialize(&mut world, false, false);
        let mut connect = Host::connect_sqe(qid, 31, 0);
        put(&mut connect, 11, 31 | attributes);
        let data = Host::connect_data(cntlid, crate::world::SUBNQN, PLAIN_HOST);
        io.submit(&mut world, connect, &data);
        let answer = io.pump(&mut world);
        let [Pdu::Response { sqhd, status: 0, .. }] = answer[..] else { panic!("{answer:?}") };
        assert_eq!(sqhd == 0xffff, attributes != 0);
        let mut sqe = ranged(READ, PLAIN_NSID, 0, 1, 0);
        sgl(&mut sqe, 0x5a, 0, 4096);
        io.submit(&mut world, sqe, &[]);
        let answer = io.pump(&mut world);
        let Pdu::Data { last: true, success, .. } = answer[0] else { panic!("{answer:?}") };
        assert_eq!((success, answer.len()), if attributes != 0 { (true, 1) } else { (false, 2) });
    }
}

#[test]
fn damaged_in_capsule_data_fails_its_command_alone() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PI_HOST, true, true);
    let mut sqe = ranged(WRITE, PLAIN_NSID, 0, 1, 0);
    sgl(&mut sqe, 0x01, 0, 4096);
    let mut capsule = io.capsule(&sqe, &pattern(4096));
    let end = capsule.len();
    capsule[end - 100] ^= 1;
    io.send(&mut world, &capsule);
    let answer = io.pump(&mut world);
    let [Pdu::Response { status, .. }] = answer[..] else { panic!("{answer:?}") };
    assert_eq!((code(status), dnr(status)), ((0, 0x22), false));
    assert_eq!(read(&mut io, &mut world, PLAIN_NSID, 0, 1, 4096), vec![0; 4096]);
    assert_eq!(world.counters.digest_rows().iter().map(|row| row.2).sum::<u64>(), 1);
}

#[test]
fn one_damaged_piece_of_many_fails_the_command_after_the_last() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, true);
    let mut sqe = ranged(WRITE, PLAIN_NSID, 0, 4, 0);
    sgl(&mut sqe, 0x5a, 0, 16384);
    let cid = io.submit(&mut world, sqe, &[]);
    let asked = io.pump(&mut world);
    let [Pdu::R2t { ttag, .. }] = asked[..] else { panic!("{asked:?}") };
    let mut first = io.h2cdata(cid, ttag, 0, &pattern(8192), false);
    first[30] ^= 0x80;
    io.send(&mut world, &first);
    assert!(io.pump(&mut world).is_empty());
    let second = io.h2cdata(cid, ttag, 8192, &pattern(8192), true);
    io.send(&mut world, &second);
    let answer = io.pump(&mut world);
    let [Pdu::Response { status, .. }] = answer[..] else { panic!("{answer:?}") };
    assert_eq!(code(status), (0, 0x22));
    assert_eq!(world.port.live_tickets(), 0);
}

#[test]
fn a_damaged_header_ends_the_connection_and_is_counted() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, true, false);
    let mut capsule = io.capsule(&ranged(READ, PLAIN_NSID, 0, 1, 0), &[]);
    capsule[50] ^= 1;
    let digest = u32::from_le_bytes(capsule[72..76].try_into().unwrap());
    io.send(&mut world, &capsule);
    let quoted = io.expect_term(&mut world, 3, digest);
    assert_eq!(quoted, capsule[..72]);
    assert_eq!(world.counters.digest_rows().iter().map(|row| row.1).sum::<u64>(), 1);
}

#[test]
fn writes_beyond_the_reserved_room_wait_in_order() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let mut cids = Vec::new();
    for _ in 0..40 {
        let mut sqe = ranged(WRITE, PLAIN_NSID, 0, 256, 0);
        sgl(&mut sqe, 0x5a, 0, 1 << 20);
        cids.push(io.submit(&mut world, sqe, &[]));
    }
    let asked = io.pump(&mut world);
    assert_eq!(asked.len(), 32, "as many mebibytes as may be reserved");
    let data = pattern(1 << 20);
    let mut order = Vec::new();
    let mut todo: std::collections::VecDeque<Pdu> = asked.into();
    while let Some(pdu) = todo.pop_front() {
        if let Pdu::R2t { cid, ttag, .. } = pdu {
            order.push(cid);
            for (number, chunk) in data.chunks(128 * 1024).enumerate() {
                let pdu = io.h2cdata(cid, ttag, (number * 128 * 1024) as u32, chunk, number == 7);
                io.send(&mut world, &pdu);
            }
            todo.extend(io.pump(&mut world));
        }
    }
    assert_eq!(order, cids);
    assert_eq!(world.port.live_tickets(), 0);
}

#[test]
fn a_busy_block_layer_makes_commands_wait_not_fail() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    world.port.tickets_max = 1;
    let mut sqe = ranged(READ, PLAIN_NSID, 0, 1, 0);
    sgl(&mut sqe, 0x5a, 0, 4096);
    for _ in 0..5 {
        io.submit(&mut world, sqe, &[]);
    }
    let responses =
        io.pump(&mut world).into_iter().filter(|pdu| matches!(pdu, Pdu::Response { status: 0, .. }));
    assert_eq!(responses.count(), 5);
    world.port.tickets_max = 0;
    let (status, ..) = io.run(&mut world, sqe, &[]);
    assert_eq!((code(status), dnr(status)), ((0, 0x82), false));
}

#[test]
fn tuples_travel_between_blocks() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PI_HOST, true, true);
    let mut wire = Vec::new();
    for lba in 0_u32..8 {
        let data = pattern(512 + lba as usize)[lba as usize..].to_vec();
        let guard = holdfast_pi::guard_of(holdfast_pi::GuardKind::Crc16, &data) as u16;
        wire.extend_from_slice(&data);
        wire.extend_from_slice(&guard.to_be_bytes());
        wire.extend_from_slice(&[0xab, 0xcd]);
        wire.extend_from_slice(&lba.to_be_bytes());
    }
    let checks = 0b101 << 26;
    let (status, ..) = io.run(&mut world, ranged(WRITE, PI_NSID, 0, 8, checks), &wire);
    assert_eq!(status, 0);
    assert_eq!(read(&mut io, &mut world, PI_NSID, 0, 8, wire.len()), wire);
    wire[520 * 3] ^= 1;
    let (status, ..) = io.run(&mut world, ranged(WRITE, PI_NSID, 0, 8, checks), &wire);
    assert_eq!((code(status), dnr(status)), ((2, 0x82), true));
}

#[test]
fn closing_gives_everything_back() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    world.port.stalled = true;
    let mut write = ranged(WRITE, PLAIN_NSID, 0, 256, 0);
    sgl(&mut write, 0x5a, 0, 1 << 20);
    for _ in 0..40 {
        io.submit(&mut world, write, &[]);
    }
    let mut read = ranged(READ, PLAIN_NSID, 0, 1, 0);
    sgl(&mut read, 0x5a, 0, 4096);
    io.submit(&mut world, read, &[]);
    io.pump(&mut world);
    assert!(world.port.live_tickets() > 0);
    io.close(&mut world);
    admin.close(&mut world);
    assert_eq!((world.port.live_tickets(), world.port.live_attachments()), (0, 0));
    assert_eq!((world.directory.controllers(), world.sessions.list().len()), (0, 0));
}

//! Connect, properties, Disconnect.

use holdfast_block::{BlockPort as _, Disposition, Operation};

use crate::host::{Host, Pdu, code, dnr, put, ranged, sgl, sqe};
use crate::world::{PI_HOST, PI_HOST_ID, PLAIN_HOST, PLAIN_NSID, SUBNQN, World, exports, plain_volume};

const DISCOVERY: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// A Connect that is refused: type, code, IPO, IATTR.
fn refused(world: &mut World, connect: [u8; 64], data: &[u8]) -> ((u8, u8), u64, u64) {
    let mut host = Host::new(world, 9);
    host.initialize(world, false, false);
    let (status, result, _) = host.run(world, connect, data);
    assert_ne!(status, 0);
    host.close(world);
    (code(status), result & 0xffff, result >> 16)
}

#[test]
fn parameters_that_cannot_be_are_pointed_at() {
    let mut world = World::new();
    let good = Host::connect_data(0xffff, SUBNQN, PLAIN_HOST);
    let invalid = (1, 0x82);
    let admin = Host::connect_sqe(0, 31, 0);
    assert_eq!(refused(&mut world, Host::connect_sqe(0, 0, 0), &good), (invalid, 44, 0));
    assert_eq!(refused(&mut world, Host::connect_sqe(0, 256, 0), &good), (invalid, 44, 0));
    let unknown = Host::connect_data(0xffff, "nqn.unknown", PLAIN_HOST);
    assert_eq!(refused(&mut world, admin, &unknown), (invalid, 256, 1));
    let static_id = Host::connect_data(0xfffe, SUBNQN, PLAIN_HOST);
    assert_eq!(refused(&mut world, admin, &static_id), (invalid, 16, 1));
    for reserved in [0, 1, 0xfff0, 0xfffd] {
        let data = Host::connect_data(reserved, SUBNQN, PLAIN_HOST);
        assert_eq!(refused(&mut world, admin, &data), (invalid, 16, 1));
    }
    let mut hostless = good.clone();
    hostless[..16].fill(0);
    assert_eq!(refused(&mut world, admin, &hostless), (invalid, 0, 1));
    for (at, position) in [(256, 256), (512, 512)] {
        let mut endless = good.clone();
        endless[at..at + 256].fill(b'n');
        assert_eq!(refused(&mut world, admin, &endless), (invalid, position, 1));
        let mut long = endless;
        long[at + 224] = 0;
        assert_eq!(refused(&mut world, admin, &long), (invalid, position, 1));
    }
    let nameless = Host::connect_data(0xffff, SUBNQN, "");
    assert_eq!(refused(&mut world, admin, &nameless), (invalid, 512, 1));
    let mut format = admin;
    put(&mut format, 10, 1);
    assert_eq!(refused(&mut world, format, &good).0, (1, 0x80));
    assert_eq!((world.directory.controllers(), world.sessions.list().len()), (0, 0));
}

#[test]
fn a_connect_without_data_is_an_invalid_length() {
    let mut world = World::new();
    let mut connect = Host::connect_sqe(0, 31, 0);
    sgl(&mut connect, 0x01, 0, 0);
    assert_eq!(refused(&mut world, connect, &[]).0, (0, 0x0f));
    sgl(&mut connect, 0x01, 0, 1024);
    assert_eq!(refused(&mut world, connect, &[]).0, (0, 0x0f));
}

#[test]
fn a_host_without_access_is_refused_and_not_recorded() {
    let mut world = World::new();
    world.exports = exports(2, false, &[(PLAIN_NSID, plain_volume(8))]);
    let data = Host::connect_data(0xffff, SUBNQN, PLAIN_HOST);
    assert_eq!(refused(&mut world, Host::connect_sqe(0, 31, 0), &data).0, (1, 0x84));
    assert!(world.hosts.discovered().is_empty());
}

#[test]
fn a_stranger_is_recorded_where_any_host_may_come() {
    let mut world = World::new();
    let (_admin, cntlid) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let session = &world.sessions.list()[0];
    assert_eq!((session.host.get(), session.label.as_str()), (77, format!("cntlid {cntlid}").as_str()));
    assert_eq!(world.hosts.discovered().len(), 1);
    let (_second, other) = Host::admin(&mut world, 2, PI_HOST, SUBNQN);
    assert_ne!(cntlid, other);
    assert_eq!(world.sessions.list()[1].host.get(), PI_HOST_ID);
}

#[test]
fn discovery_records_nobody() {
    let mut world = World::new();
    let (_admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, DISCOVERY);
    assert!(world.hosts.discovered().is_empty() && world.sessions.list().is_empty());
}

#[test]
fn an_io_queue_must_name_what_its_admin_queue_named() {
    let mut world = World::new();
    let (_admin, cntlid) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let invalid = (1, 0x82);
    let connect = Host::connect_sqe(1, 31, 0);
    let wrong = Host::connect_data(cntlid + 1, SUBNQN, PLAIN_HOST);
    assert_eq!(refused(&mut world, connect, &wrong), (invalid, 16, 1));
    let wrong = Host::connect_data(cntlid, DISCOVERY, PLAIN_HOST);
    assert_eq!(refused(&mut world, connect, &wrong), (invalid, 256, 1));
    let wrong = Host::connect_data(cntlid, SUBNQN, PI_HOST);
    assert_eq!(refused(&mut world, connect, &wrong), (invalid, 512, 1));
    let mut wrong = Host::connect_data(cntlid, SUBNQN, PLAIN_HOST);
    wrong[0] ^= 1;
    assert_eq!(refused(&mut world, connect, &wrong), (invalid, 0, 1));
    let mut unnamed = Host::connect_data(cntlid, SUBNQN, PLAIN_HOST);
    unnamed[..16].fill(0);
    let mut io = Host::new(&world, 8);
    io.initialize(&mut world, false, false);
    assert_eq!(io.run(&mut world, connect, &unnamed).0, 0, "HOSTID may be left out");
    let good = Host::connect_data(cntlid, SUBNQN, PLAIN_HOST);
    assert_eq!(refused(&mut world, Host::connect_sqe(65, 31, 0), &good), (invalid, 42, 0));
}

#[test]
fn a_queue_is_connected_once() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let cntlid = 1;
    let data = Host::connect_data(cntlid, SUBNQN, PLAIN_HOST);
    assert_eq!(refused(&mut world, Host::connect_sqe(1, 31, 0), &data).0, (0, 0x0c));
    let (status, ..) = io.run(&mut world, Host::connect_sqe(2, 31, 0), &data);
    assert_eq!(code(status), (0, 0x0c));
    io.close(&mut world);
    let mut again = Host::new(&world, 3);
    again.initialize(&mut world, false, false);
    assert_eq!(again.run(&mut world, Host::connect_sqe(1, 31, 0), &data).0, 0);
}

#[test]
fn commands_wait_for_their_controller() {
    let mut world = World::new();
    let mut host = Host::new(&world, 1);
    host.initialize(&mut world, false, false);
    assert_eq!(code(host.run(&mut world, sqe(0x18, 0), &[]).0), (0, 0x0c));
    assert_eq!(code(host.property_get(&mut world, 0x08, 0).0), (0, 0x0c));
    let data = Host::connect_data(0xffff, SUBNQN, PLAIN_HOST);
    assert_eq!(host.run(&mut world, Host::connect_sqe(0, 31, 0), &data).0, 0);
    assert_eq!(code(host.run(&mut world, sqe(0x18, 0), &[]).0), (0, 0x0c));
    let io = Host::connect_data(1, SUBNQN, PLAIN_HOST);
    assert_eq!(refused(&mut world, Host::connect_sqe(1, 31, 0), &io), ((1, 0x82), 42, 0));
}

#[test]
fn properties_have_their_sizes() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let (status, cap) = admin.property_get(&mut world, 0x00, 1);
    assert_eq!((status, cap & 0xffff, (cap >> 16) & 1, (cap >> 37) & 1), (0, 255, 1, 1));
    assert_eq!(admin.property_get(&mut world, 0x08, 0), (0, 0x0002_0100));
    assert_eq!(admin.property_get(&mut world, 0x14, 0), (0, 0x0046_0001));
    for (offset, size) in [(0x00, 0), (0x08, 1), (0x04, 0), (0x20, 0), (0xffff_fffc, 0)] {
        assert_eq!(code(admin.property_get(&mut world, offset, size).0), (0, 0x02));
    }
    assert_eq!(code(admin.property_set(&mut world, 0x1c, 0)), (0, 0x02));
}

#[test]
fn reset_ends_io_queues_and_the_controller_starts_anew() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let generation = world.directory.generation();
    assert_eq!(admin.property_set(&mut world, 0x14, 0), 0);
    assert_eq!(admin.property_get(&mut world, 0x1c, 0), (0, 0));
    assert!(world.directory.generation() > generation);
    io.connection.directory_changed(&mut world.context());
    assert_eq!(io.connection.disposition(), Disposition::CloseNow);
    io.close(&mut world);
    assert_eq!(admin.property_set(&mut world, 0x14, 0x0046_0001), 0);
    let mut again = Host::new(&world, 3);
    again.initialize(&mut world, false, false);
    let data = Host::connect_data(1, SUBNQN, PLAIN_HOST);
    assert_eq!(again.run(&mut world, Host::connect_sqe(1, 31, 0), &data).0, 0);
}

/// A controller whose flushes do not end until they are let go.
fn with_stalled_flushes() -> (World, Host) {
    let mut world = World::new();
    let (admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    world.port.stalled = true;
    (world, admin)
}

/// Property Set of CC: a normal shutdown (SHN 01b). Base 2.1 §3.1.4.5 "Controller Configuration".
fn shut_down() -> [u8; 64] {
    let mut sqe = sqe(0x7f, 0);
    put(&mut sqe, 11, 0x14);
    put(&mut sqe, 12, 0x0046_4001);
    sqe
}

#[test]
fn a_shutdown_flushes_every_namespace_and_is_complete_then() {
    let (mut world, mut admin) = with_stalled_flushes();
    let cid = admin.submit(&mut world, shut_down(), &[]);
    assert_eq!(admin.property_get(&mut world, 0x1c, 0), (0, 0b0101), "in progress");
    world.port.stalled = false;
    let answer = admin.pump(&mut world);
    assert!(matches!(answer[..], [Pdu::Response { cid: answered, status: 0, .. }] if answered == cid));
    assert_eq!(admin.property_get(&mut world, 0x1c, 0), (0, 0b1001));
    let flushed = world.port.log.iter().filter(|command| command.operation == Operation::Flush).count();
    assert_eq!((flushed, world.port.live_tickets(), world.port.live_attachments()), (2, 0, 0));
    assert_eq!(admin.property_set(&mut world, 0x14, 0x0046_0000), 0);
    assert_eq!(admin.property_set(&mut world, 0x14, 0x0046_0001), 0);
    assert_eq!(admin.property_get(&mut world, 0x1c, 0), (0, 1));
}

#[test]
fn a_shutdown_after_a_reset_is_not_completed_by_the_one_before() {
    let (mut world, mut admin) = with_stalled_flushes();
    admin.submit(&mut world, shut_down(), &[]);
    assert_eq!(admin.property_set(&mut world, 0x14, 0x0046_0000), 0);
    assert_eq!(admin.property_set(&mut world, 0x14, 0x0046_0001), 0);
    admin.submit(&mut world, shut_down(), &[]);
    // Two flushes each, taken in turn: with the third the first row has come to its end.
    for flushed in 1..=4 {
        world.port.stalled = false;
        let completion = world.port.next_completion().expect("a flush is under way");
        world.port.stalled = true;
        admin.connection.complete(&mut world.context(), completion);
        admin.pump(&mut world);
        let expected = if flushed < 4 { 0b0101 } else { 0b1001 };
        assert_eq!(admin.property_get(&mut world, 0x1c, 0), (0, expected), "after {flushed} flushes");
    }
}

#[test]
fn a_shutdown_that_cannot_flush_is_complete_all_the_same() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    world.port.tickets_max = 0;
    assert_eq!(admin.property_set(&mut world, 0x14, 0x0046_8001), 0);
    assert_eq!(admin.property_get(&mut world, 0x1c, 0), (0, 0b1001));
}

#[test]
fn io_queues_need_entry_sizes_and_the_admin_queue_does_not() {
    let mut world = World::new();
    let mut host = Host::new(&world, 1);
    host.initialize(&mut world, false, false);
    let data = Host::connect_data(0xffff, SUBNQN, PLAIN_HOST);
    assert_eq!(host.run(&mut world, Host::connect_sqe(0, 31, 0), &data).0, 0);
    assert_eq!(host.property_set(&mut world, 0x14, 1), 0);
    assert_eq!(host.property_get(&mut world, 0x1c, 0), (0, 1));
    let io = Host::connect_data(1, SUBNQN, PLAIN_HOST);
    assert_eq!(refused(&mut world, Host::connect_sqe(1, 31, 0), &io), ((1, 0x82), 42, 0));
    assert_eq!(host.property_set(&mut world, 0x14, 0x0046_0001), 0);
    let mut queue = Host::new(&world, 2);
    queue.initialize(&mut world, false, false);
    assert_eq!(queue.run(&mut world, Host::connect_sqe(1, 31, 0), &io).0, 0);
}

#[test]
fn fabrics_commands_belong_to_their_queues() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    for (fctype, on_admin, on_io) in [
        (0x00, None, Some((0, 0x02))),
        (0x04, None, Some((0, 0x02))),
        (0x05, Some((0, 0x01)), Some((0, 0x01))),
        (0x06, Some((0, 0x01)), Some((0, 0x01))),
        (0x02, Some((0, 0x02)), Some((0, 0x02))),
        (0xff, Some((0, 0x02)), Some((0, 0x02))),
    ] {
        for (host, expected) in [(&mut admin, on_admin), (&mut io, on_io)] {
            if let Some(expected) = expected {
                assert_eq!(code(host.run(&mut world, sqe(0x7f, fctype), &[]).0), expected, "{fctype:#x}");
            }
        }
    }
}

#[test]
fn the_flags_of_fabrics_commands_are_not_looked_at() {
    for flags in [0x00, 0x41, 0x83, 0xff] {
        let mut world = World::new();
        let mut host = Host::new(&world, 1);
        host.initialize(&mut world, false, false);
        let mut connect = Host::connect_sqe(0, 31, 0);
        connect[1] = flags;
        let data = Host::connect_data(0xffff, SUBNQN, PLAIN_HOST);
        assert_eq!(host.run(&mut world, connect, &data).0, 0);
    }
}

#[test]
fn descriptors_and_pairs_that_no_command_may_have_are_invalid_fields() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    for flags in [0x00, 0x80, 0xc0, 0x43] {
        for (host, opcode) in [(&mut admin, 0x18), (&mut io, 0x00)] {
            let mut command = sqe(opcode, PLAIN_NSID);
            command[1] = flags;
            assert_eq!(code(host.run(&mut world, command, &[]).0), (0, 0x02), "{flags:#x}");
        }
    }
}

#[test]
fn no_connect_ends_with_invalid_field() {
    let mut world = World::new();
    let mut connect = Host::connect_sqe(0, 31, 0);
    sgl(&mut connect, 0x5a, 0, 1024);
    let data = Host::connect_data(0xffff, SUBNQN, PLAIN_HOST);
    assert_eq!(refused(&mut world, connect, &data).0, (0, 0x0f), "data that no descriptor is about");
    sgl(&mut connect, 0x5a, 0, 1023);
    assert_eq!(refused(&mut world, connect, &[]).0, (0, 0x0f));
    sgl(&mut connect, 0x40, 0, 1024);
    assert_eq!(refused(&mut world, connect, &data).0, (0, 0x11));
    sgl(&mut connect, 0x01, 4, 1024);
    assert_eq!(refused(&mut world, connect, &data).0, (0, 0x0f));
    sgl(&mut connect, 0x01, 1025, 1024);
    assert_eq!(refused(&mut world, connect, &data).0, (0, 0x16));
}

#[test]
fn connect_may_be_asked_for_its_data_and_tried_again() {
    let mut world = World::new();
    let mut host = Host::new(&world, 1);
    host.initialize(&mut world, false, false);
    let wrong = Host::connect_data(0xffff, "nqn.unknown", PLAIN_HOST);
    assert_eq!(code(host.run_r2t(&mut world, Host::connect_sqe(0, 31, 0), &wrong, 512)), (1, 0x82));
    let right = Host::connect_data(0xffff, SUBNQN, PLAIN_HOST);
    assert_eq!(host.run_r2t(&mut world, Host::connect_sqe(0, 31, 0), &right, 512), 0);
    assert_eq!(world.directory.controllers(), 1);
}

#[test]
fn the_end_of_the_admin_queue_ends_its_io_queues() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    admin.close(&mut world);
    io.connection.directory_changed(&mut world.context());
    assert_eq!(io.connection.disposition(), Disposition::CloseNow);
    io.close(&mut world);
    assert_eq!(world.port.live_attachments(), 0);
}

#[test]
fn a_command_to_a_controller_that_is_gone_closes_the_queue_without_an_answer() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    admin.close(&mut world);
    let mut read = ranged(0x02, PLAIN_NSID, 0, 1, 0);
    sgl(&mut read, 0x5a, 0, 4096);
    io.submit(&mut world, read, &[]);
    assert!(io.pump(&mut world).is_empty());
    assert_eq!(io.connection.disposition(), Disposition::CloseNow);
}

#[test]
fn disconnect_is_answered_and_then_the_connection_ends() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    assert_eq!(code(admin.run(&mut world, sqe(0x7f, 8), &[]).0), (1, 0x85));
    assert_eq!(io.run(&mut world, sqe(0x7f, 8), &[]).0, 0);
    assert_eq!(io.connection.disposition(), Disposition::CloseAfterTransmit);
}

#[test]
fn a_silent_peer_is_disconnected() {
    let mut world = World::new();
    let mut host = Host::new(&world, 1);
    host.send(&mut world, &Host::icreq(0)[..100]);
    let deadline_ms = host.connection.deadline_ms().unwrap();
    world.now_ms = deadline_ms - 1;
    host.connection.tick(&mut world.context());
    assert_eq!(host.connection.disposition(), Disposition::Open);
    world.now_ms = deadline_ms;
    host.connection.tick(&mut world.context());
    assert_eq!(host.connection.disposition(), Disposition::CloseNow);
}

#[test]
fn a_missing_keep_alive_ends_the_association() {
    let mut world = World::new();
    let mut host = Host::new(&world, 1);
    host.initialize(&mut world, false, false);
    let data = Host::connect_data(0xffff, SUBNQN, PLAIN_HOST);
    assert_eq!(host.run(&mut world, Host::connect_sqe(0, 31, 5_000), &data).0, 0);
    assert_eq!(host.property_set(&mut world, 0x14, 0x0046_0001), 0);
    assert_eq!(host.connection.deadline_ms(), Some(world.now_ms + 5_000));
    world.now_ms += 4_000;
    assert_eq!(host.run(&mut world, sqe(0x18, 0), &[]).0, 0);
    assert_eq!(host.connection.deadline_ms(), Some(world.now_ms + 5_000));
    world.now_ms += 5_000;
    host.connection.tick(&mut world.context());
    assert_eq!(host.connection.disposition(), Disposition::CloseNow);
    assert_eq!((world.directory.controllers(), world.sessions.list().len()), (0, 0));
    host.close(&mut world);
}

#[test]
fn a_cid_in_use_is_a_conflict_and_the_first_command_goes_on() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    world.port.stalled = true;
    let mut read = ranged(0x02, PLAIN_NSID, 0, 1, 0);
    sgl(&mut read, 0x5a, 0, 4096);
    let capsule = io.capsule(&read, &[]);
    io.send(&mut world, &capsule);
    io.send(&mut world, &capsule);
    let answer = io.pump(&mut world);
    let [Pdu::Response { status, cid: 0, .. }] = answer[..] else { panic!("{answer:?}") };
    assert_eq!((code(status), dnr(status)), ((0, 0x03), true));
    world.port.stalled = false;
    assert!(matches!(io.pump(&mut world)[..], [Pdu::Data { .. }, Pdu::Response { status: 0, .. }]));
}

#[test]
fn the_submission_queue_head_moves_and_wraps() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let mut heads = Vec::new();
    for _ in 0..40 {
        admin.submit(&mut world, sqe(0x18, 0), &[]);
        for pdu in admin.pump(&mut world) {
            let Pdu::Response { sqhd, .. } = pdu else { panic!("{pdu:?}") };
            heads.push(sqhd);
        }
    }
    for pair in heads.windows(2) {
        assert_eq!(pair[1], (pair[0] + 1) % 32);
    }
}

#[test]
fn a_host_with_a_thousand_connections_is_told_to_try_again_and_others_are_served() {
    const CONTROLLERS: u64 = 16;
    const QUEUES: u16 = 63;
    let mut world = World::new();
    let mut controllers = Vec::new();
    for id in 0..CONTROLLERS {
        controllers.push(Host::admin(&mut world, id * 100, PLAIN_HOST, SUBNQN));
    }
    let connect = |world: &mut World, qid: u16, cntlid: u16, hostnqn: &str| {
        let mut host = Host::new(world, 5000);
        host.initialize(world, false, false);
        let data = Host::connect_data(cntlid, SUBNQN, hostnqn);
        let (status, _, _) = host.run(world, Host::connect_sqe(qid, 31, 0), &data);
        (host, status)
    };
    let mut queues = Vec::new();
    for (_, cntlid) in &controllers {
        for qid in 1..=QUEUES {
            let (queue, status) = connect(&mut world, qid, *cntlid, PLAIN_HOST);
            assert_eq!(status, 0);
            queues.push(queue);
        }
    }
    assert_eq!(controllers.len() + queues.len(), 1024);
    // Controller Busy, and the host may try again.
    let cntlid = controllers[0].1;
    for (qid, cntlid) in [(64, cntlid), (0, 0xffff)] {
        let (_, status) = connect(&mut world, qid, cntlid, PLAIN_HOST);
        assert_eq!((code(status), dnr(status)), ((1, 0x81), false), "queue {qid}");
    }
    assert_eq!(connect(&mut world, 0, 0xffff, PI_HOST).1, 0);
    queues.pop().unwrap().close(&mut world);
    assert_eq!(connect(&mut world, 64, cntlid, PLAIN_HOST).1, 0);
}

//! The scripted host against the scripted peer, over real loopback sockets.

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the peer's own numbers are small")]
mod support;

use holdfast_testkit::pi::{self, PiFormat, Tags};
use holdfast_testkit::wire::{Frame, code, fes};
use holdfast_testkit::{Command, ConnectOptions, Connection, Error, Io, Options, Placement, Queue, Session};
use support::{BLOCK, Manner, Peer, SUBNQN};

const HOST: &str = "nqn.2026-11.io.example:host";

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap_or(0)).collect()
}

#[test]
fn written_blocks_are_read_back_with_every_digest_setting_and_alignment() {
    for (header, data) in [(false, false), (true, false), (false, true), (true, true)] {
        let peer = Peer::start(Manner { cpda: 7, c2h_len: 1000, ..Manner::default() });
        let options = Options::default().digests(header, data).io_queues(2);
        let mut host = Session::open(peer.addr, HOST, SUBNQN, options).unwrap();
        let written = pattern(BLOCK * 9);
        host.io(1).write(1, &Io::at(3, 9), &written).unwrap().ok().unwrap();
        let read = host.io(2).read(1, &Io::at(3, 9), BLOCK * 9).unwrap().ok().unwrap();
        assert_eq!(read.data, written);
        assert_eq!(read.trace.c2h_pdus, (BLOCK * 9).div_ceil(1000));
        host.close().unwrap();
    }
}

#[test]
fn small_writes_travel_in_the_capsule_and_large_ones_on_r2ts() {
    let peer = Peer::start(Manner::default());
    let mut host = Session::open(peer.addr, HOST, SUBNQN, Options::default()).unwrap();
    let small = host.io(1).write(1, &Io::at(0, 2), &pattern(8192)).unwrap();
    assert_eq!((small.trace.in_capsule_len, small.trace.r2ts), (8192, 0));
    let large = host.io(1).write(1, &Io::at(0, 10), &pattern(BLOCK * 10)).unwrap();
    // 40 KiB in R2Ts of 16 KiB, each answered in PDUs of 4 KiB.
    assert_eq!((large.trace.in_capsule_len, large.trace.r2ts, large.trace.h2c_pdus), (0, 3, 10));
    let io = Io::at(0, 1).sqe(1, 1);
    let asked = host.io(1).run(Command::with_data(io, pattern(BLOCK)).placed(Placement::Solicited)).unwrap();
    assert_eq!((asked.trace.in_capsule_len, asked.trace.r2ts), (0, 1));
}

#[test]
fn commands_in_flight_end_in_any_order() {
    let peer = Peer::start(Manner { success_flag: true, ..Manner::default() });
    let mut host = Session::open(peer.addr, HOST, SUBNQN, Options::default()).unwrap();
    let queue = host.io(1);
    let write = Io::at(0, 8).sqe(1, 1);
    let slow = queue.submit(Command::with_data(write, pattern(BLOCK * 8))).unwrap();
    let quick = queue.submit(Command::reading(Io::at(100, 1).sqe(2, 1), BLOCK)).unwrap();
    let read = queue.wait(quick).unwrap();
    assert!(read.trace.success_flag && read.data == vec![0; BLOCK]);
    let (cid, done) = queue.wait_any().unwrap();
    assert!(cid == slow && done.status().is_success());
    assert!(matches!(queue.wait_any(), Err(Error::Usage(_))));
}

#[test]
fn a_flipped_bit_in_a_tuple_is_refused_and_nothing_is_stored() {
    let peer = Peer::start(Manner { pi_type: 1, ..Manner::default() });
    let mut host = Session::open(peer.addr, HOST, SUBNQN, Options::default()).unwrap();
    let format = host.namespace_format(1).unwrap();
    assert_eq!((format.metadata_size, format.pi_type), (8, 1));
    let before = peer.stored(40);
    let mut blocks = PiFormat::CRC16.protect(&pattern(BLOCK * 32), BLOCK, Tags::counting(40));
    pi::flip_tuple_bit(&mut blocks, BLOCK, 8, 31, 3);
    let done = host.io(1).write(1, &Io::at(40, 32).check_all().ref_tag(40), &blocks).unwrap();
    assert_eq!(done.status().pair(), code::GUARD_CHECK);
    assert!(done.status().dnr && done.ok().unwrap_err().status().is_some());
    assert_eq!(peer.stored(40), before);
    pi::flip_tuple_bit(&mut blocks, BLOCK, 8, 31, 3);
    host.io(1).write(1, &Io::at(40, 32).check_all().ref_tag(40), &blocks).unwrap().ok().unwrap();
    assert_eq!(peer.stored(71), blocks[31 * (BLOCK + 8)..]);
}

#[test]
fn an_unknown_subsystem_is_a_status_of_connect() {
    let peer = Peer::start(Manner::default());
    let error =
        Session::open(peer.addr, HOST, "nqn.2026-11.io.example:other", Options::default()).unwrap_err();
    assert_eq!(error.status().unwrap().pair(), code::CONNECT_INVALID_PARAMETERS);
}

#[test]
fn a_bent_header_digest_brings_a_terminate_request_and_a_close() {
    let peer = Peer::start(Manner::default());
    let mut host = Session::open(peer.addr, HOST, SUBNQN, Options::default().digests(true, true)).unwrap();
    let queue = host.io(1);
    queue.spoil_next_header_digest();
    let error = queue.flush(1).unwrap_err();
    assert_eq!(error.term_req().unwrap().fes, fes::HEADER_DIGEST);
    queue.connection().expect_close().unwrap();
}

#[test]
fn a_bent_data_digest_fails_the_command_and_leaves_the_connection() {
    let peer = Peer::start(Manner::default());
    let mut host = Session::open(peer.addr, HOST, SUBNQN, Options::default().digests(true, true)).unwrap();
    host.io(1).spoil_next_data_digest();
    let done = host.io(1).write(1, &Io::at(0, 1), &pattern(BLOCK)).unwrap();
    assert_eq!(done.status().pair(), code::TRANSIENT_TRANSPORT_ERROR);
    assert!(host.io(1).write(1, &Io::at(0, 1), &pattern(BLOCK)).unwrap().status().is_success());
}

#[test]
fn held_r2ts_are_answered_by_the_test() {
    let peer = Peer::start(Manner::default());
    let mut host = Session::open(peer.addr, HOST, SUBNQN, Options::default()).unwrap();
    let queue = host.io(1);
    queue.hold_r2ts(true);
    let cid = queue.submit(Command::with_data(Io::at(0, 4).sqe(1, 1), pattern(BLOCK * 4))).unwrap();
    let r2t = queue.next_r2t().unwrap();
    assert_eq!((r2t.cccid, r2t.r2to, r2t.r2tl), (cid, 0, 16384));
    assert!(queue.poll().unwrap().is_none());
    queue.answer_r2t(&r2t).unwrap();
    assert!(queue.wait(cid).unwrap().status().is_success());
}

#[test]
fn raw_bytes_reach_the_target_as_they_are() {
    let peer = Peer::start(Manner::default());
    let mut connection = Connection::open(peer.addr, &ConnectOptions::default()).unwrap();
    let lie = Frame::from_bytes(vec![0x05, 0, 24, 0, 24, 0, 0, 0]);
    connection.send_frame(&lie).unwrap();
    connection.send_raw(&[0; 16]).unwrap();
    let term = connection.expect_term_req().unwrap();
    assert_eq!((term.fes, term.header.len()), (fes::SEQUENCE_ERROR, 24));
    connection.expect_close().unwrap();
}

#[test]
fn a_half_closed_connection_is_closed_by_the_peer() {
    let peer = Peer::start(Manner::default());
    let mut connection = Connection::open(peer.addr, &ConnectOptions::default()).unwrap();
    connection.half_close().unwrap();
    connection.expect_close().unwrap();
}

#[test]
fn a_target_that_says_nothing_is_a_timeout() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let options = ConnectOptions { limit: std::time::Duration::from_millis(50), ..ConnectOptions::default() };
    let error = Connection::open(silent.local_addr().unwrap(), &options).unwrap_err();
    assert!(matches!(error, Error::Timeout { limit_ms: 50, .. }));
}

#[test]
fn answers_for_no_command_in_flight_are_found_out() {
    use holdfast_testkit::wire::{Cqe, Digests, IcResp, Pdu, R2t};
    use std::io::{Read as _, Write as _};
    for answer in [
        Pdu::CapsuleResp(Cqe { cid: 77, ..Cqe::default() }),
        Pdu::R2t(R2t { cccid: 0, ttag: 1, r2to: 0, r2tl: 4 }),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let script = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 128]).unwrap();
            let hello = Pdu::IcResp(IcResp { maxh2cdata: 4096, ..IcResp::default() });
            stream.write_all(hello.encode(Digests::default(), 4).as_bytes()).unwrap();
            stream.read_exact(&mut [0; 72]).unwrap();
            stream.write_all(answer.encode(Digests::default(), 4).as_bytes()).unwrap();
        });
        let mut queue = Queue::new(Connection::open(addr, &ConnectOptions::default()).unwrap(), 1);
        assert!(matches!(queue.flush(1), Err(Error::Unexpected { .. })));
        script.join().unwrap();
    }
}

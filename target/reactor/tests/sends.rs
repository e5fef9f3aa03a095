//! Sends over real sockets: every kind of segment, short sends, sends of any number of segments.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::{Behaviour, Running, pattern, start};
use holdfast_reactor::{
    CloseReason, Io, IoChoice, Mapping, ReactorConfig, RefusalReason, RegionId, SendBatch, SendProgress,
    SocketId,
};

const MIB: usize = 1 << 20;

/// Remembers its sockets and what became of their batches.
struct Sender {
    mapping: Mapping,
    region: Option<RegionId>,
    sockets: Vec<SocketId>,
    sent: Vec<SendBatch>,
    closed: Vec<(SocketId, CloseReason, Option<SendBatch>)>,
}

impl Behaviour for Sender {
    fn accepted(&mut self, _io: &mut Io, socket: SocketId) {
        self.sockets.push(socket);
    }

    fn sent(&mut self, _io: &mut Io, _socket: SocketId, batch: SendBatch) {
        self.sent.push(batch);
    }

    fn closed(&mut self, _io: &mut Io, socket: SocketId, reason: CloseReason, batch: Option<SendBatch>) {
        self.closed.push((socket, reason, batch));
    }
}

/// A sender whose region holds `pattern(8 MiB, 0)`, and one connection to it.
fn connected(name: &str, io: IoChoice) -> (Running<Sender>, TcpStream, SocketId, RegionId) {
    let mut mapping = Mapping::create(name, 8 * MIB).unwrap();
    mapping.slice_mut(0, 8 * MIB).unwrap().copy_from_slice(&pattern(8 * MIB, 0));
    let sender = Sender { mapping, region: None, sockets: Vec::new(), sent: Vec::new(), closed: Vec::new() };
    let mut running = start(ReactorConfig { io, ..ReactorConfig::default() }, sender);
    let stream = TcpStream::connect(running.address).unwrap();
    // Fixed, or the kernel would let it grow to what a whole batch takes.
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream, MIB).unwrap();
    let socket = running.wait_until(|sender, _| sender.sockets.first().copied());
    let region = running.call(|sender, io| {
        let region = io.register_region(sender.mapping.region());
        sender.region = Some(region);
        region
    });
    (running, stream, socket, region)
}

/// A batch of all kinds of segments, and the bytes that it stands for.
fn mixture(region: RegionId, round: usize) -> (SendBatch, Vec<u8>) {
    let data = pattern(8 * MIB, 0);
    let (mut batch, mut expected) = (SendBatch::new(), Vec::new());
    for part in 0..8 {
        let head = pattern(24 + part, round);
        batch.push_inline(&head);
        expected.extend_from_slice(&head);
        let (offset, len) = (part * MIB / 3 + round, MIB / 2 + part);
        batch.push_region(region, offset, len);
        expected.extend_from_slice(&data[offset..offset + len]);
        batch.push_zeros(2_000_000 + part);
        expected.resize(expected.len() + 2_000_000 + part, 0);
        let own = pattern(70_000 + part, round + part);
        batch.push_owned(own.clone());
        expected.extend_from_slice(&own);
    }
    assert_eq!(batch.len_bytes(), expected.len());
    (batch, expected)
}

on_each_interface! {
    every_byte_of_every_kind_of_segment_arrives_at_a_slow_reader,
    a_batch_of_more_segments_than_one_call_takes_arrives_whole,
    an_immediate_send_comes_back_at_once_until_the_socket_is_full,
    batches_that_cannot_be_sent_come_back_with_the_reason,
    a_region_taken_away_during_a_send_is_sent_to_its_end,
    closing_during_a_send_gives_the_batch_back_once_and_frees_the_region,
    a_peer_that_vanishes_during_a_send_closes_the_socket,
}

fn every_byte_of_every_kind_of_segment_arrives_at_a_slow_reader(io: IoChoice) {
    let (mut running, mut stream, socket, region) = connected("sends-mixture", io);
    for round in 0..4 {
        let (batch, expected) = mixture(region, round);
        running.call(move |_, io| io.send(socket, batch).unwrap());
        // Nothing was read yet, and the batch is larger than what the two sockets buffer: it is in flight.
        let (second, _) = mixture(region, round);
        let refused = running.call(move |_, io| io.send(socket, second).unwrap_err());
        assert_eq!(refused.reason, RefusalReason::Busy);
        let mut got = vec![0; expected.len()];
        for piece in got.chunks_mut([3_001, 4_096, 65_537, 1_000_000][round]) {
            stream.read_exact(piece).unwrap();
        }
        assert!(got == expected, "round {round}");
        let back = running.wait_until(|sender, _| sender.sent.pop());
        assert_eq!(back.len_bytes(), expected.len(), "the batch comes back as it was");
    }
    assert!(running.stop().sent.is_empty());
}

fn a_batch_of_more_segments_than_one_call_takes_arrives_whole(io: IoChoice) {
    let (mut running, mut stream, socket, region) = connected("sends-segments", io);
    let data = pattern(8 * MIB, 0);
    let (mut batch, mut expected) = (SendBatch::new(), Vec::new());
    for part in 0..2500 {
        batch.push_inline(&[7, 8, 9]);
        expected.extend_from_slice(&[7, 8, 9]);
        batch.push_region(region, part * 3000, 512);
        expected.extend_from_slice(&data[part * 3000..part * 3000 + 512]);
    }
    assert_eq!(batch.segment_count(), 5000);
    running.call(move |_, io| io.send(socket, batch).unwrap());
    let mut got = vec![0; expected.len()];
    stream.read_exact(&mut got).unwrap();
    assert!(got == expected);
    running.wait_until(|sender, _| sender.sent.pop());
    running.stop();
}

fn an_immediate_send_comes_back_at_once_until_the_socket_is_full(io: IoChoice) {
    let (mut running, mut stream, socket, region) = connected("sends-now", io);
    let (whole, rest) = running.call(move |_, io| {
        let mut batch = SendBatch::new();
        let mut whole = 0_usize;
        // The two sockets buffer a few MiB; this ends long before the limit.
        for _ in 0..1000 {
            batch.clear();
            batch.push_inline(b"head");
            batch.push_region(region, 0, MIB);
            let len = batch.len_bytes();
            match io.send_now(socket, batch).unwrap() {
                SendProgress::Out(back) => {
                    assert_eq!(back.len_bytes(), len);
                    whole += 1;
                    batch = back;
                }
                SendProgress::InFlight => return (whole, len),
            }
        }
        panic!("the peer reads nothing");
    });
    let one: Vec<u8> = b"head".iter().copied().chain(pattern(MIB, 0)).collect();
    assert_eq!(one.len(), rest);
    for _ in 0..=whole {
        let mut got = vec![0; rest];
        stream.read_exact(&mut got).unwrap();
        assert!(got == one);
    }
    let back = running.wait_until(|sender, _| sender.sent.pop());
    assert_eq!(back.len_bytes(), rest);
    running.stop();
}

fn batches_that_cannot_be_sent_come_back_with_the_reason(io: IoChoice) {
    let (mut running, _stream, socket, region) = connected("sends-refused", io);
    let mut refuse = |fill: fn(&mut SendBatch, RegionId)| {
        running.call(move |_, io| {
            let mut batch = SendBatch::new();
            fill(&mut batch, region);
            let len = batch.len_bytes();
            let refused = io.send(socket, batch).unwrap_err();
            assert_eq!(refused.batch.len_bytes(), len);
            refused.reason
        })
    };
    assert_eq!(refuse(|_, _| {}), RefusalReason::Empty);
    assert_eq!(refuse(|batch, region| batch.push_region(region, 8 * MIB, 1)), RefusalReason::BadRegion);
    assert_eq!(
        refuse(|batch, region| batch.push_region(region, usize::MAX, usize::MAX)),
        RefusalReason::BadRegion
    );
    assert!(running.call(move |_, io| io.unregister_region(region)));
    let reason = running.call(move |_, io| {
        let mut batch = SendBatch::new();
        batch.push_region(region, 0, 1);
        io.send(socket, batch).unwrap_err().reason
    });
    assert_eq!(reason, RefusalReason::BadRegion);
    running.stop();
}

fn a_region_taken_away_during_a_send_is_sent_to_its_end(io: IoChoice) {
    let (mut running, mut stream, socket, region) = connected("sends-retire", io);
    running.call(move |_, io| {
        let mut batch = SendBatch::new();
        for _ in 0..4 {
            batch.push_region(region, 0, 8 * MIB);
            batch.push_inline(b"-");
        }
        io.send(socket, batch).unwrap();
        assert!(io.unregister_region(region));
        assert!(!io.unregister_region(region));
    });
    let expected: Vec<u8> = pattern(8 * MIB, 0).into_iter().chain(*b"-").collect();
    for _ in 0..4 {
        let mut got = vec![0; expected.len()];
        stream.read_exact(&mut got).unwrap();
        assert!(got == expected);
    }
    running.wait_until(|sender, _| sender.sent.pop());
    running.stop();
}

fn closing_during_a_send_gives_the_batch_back_once_and_frees_the_region(io: IoChoice) {
    let (mut running, mut stream, socket, region) = connected("sends-close", io);
    running.call(move |sender, io| {
        let mut batch = SendBatch::new();
        for _ in 0..8 {
            batch.push_region(region, 0, 8 * MIB);
            batch.push_inline(b"-");
        }
        io.send(socket, batch).unwrap();
        assert!(sender.closed.is_empty());
    });
    running.call(move |sender, io| {
        io.close(socket);
        io.close(socket);
        assert!(sender.closed.is_empty(), "never from within the call");
        let mut batch = SendBatch::new();
        batch.push_inline(b"late");
        assert_eq!(io.send(socket, batch).unwrap_err().reason, RefusalReason::Gone);
    });
    let (id, reason, len) = running.wait_until(|sender, _| {
        sender.closed.pop().map(|(id, reason, batch)| (id, reason, batch.unwrap().len_bytes()))
    });
    assert_eq!((id, reason, len), (socket, CloseReason::Local, 8 * (8 * MIB + 1)));
    assert!(running.call(move |_, io| io.unregister_region(region)));
    let mut rest = Vec::new();
    // The stream ends early, by a close or a reset.
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < 8 * 8 * MIB);
    let sender = running.stop();
    assert!(sender.closed.is_empty() && sender.sent.is_empty());
}

fn a_peer_that_vanishes_during_a_send_closes_the_socket(io: IoChoice) {
    let (mut running, mut stream, socket, region) = connected("sends-reset", io);
    running.call(move |_, io| {
        let mut batch = SendBatch::new();
        batch.push_region(region, 0, 8 * MIB);
        batch.push_region(region, 0, 8 * MIB);
        io.send(socket, batch).unwrap();
    });
    stream.write_all(b"last words").unwrap();
    // Bytes that were not read make this a reset.
    drop(stream);
    let (id, reason, batch) = running.wait_until(|sender, _| sender.closed.pop());
    assert_eq!(id, socket);
    assert!(matches!(reason, CloseReason::Failed(_) | CloseReason::Peer), "{reason:?}");
    assert_eq!(batch.unwrap().len_bytes(), 16 * MIB);
    running.stop();
}

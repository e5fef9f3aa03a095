//! Receive buffers that the service keeps, pauses, and the scarcity of both.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests")]

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use common::{Behaviour, Running, pattern, start};
use holdfast_reactor::{CloseReason, Io, IoChoice, ReactorConfig, Received, SendBatch, SocketId};

/// Size of a receive buffer.
const BUFFER_BYTES: usize = 32 * 1024;

/// Receive buffers of the reactors that run out of them.
const FEW: u16 = 4;

thread_local! {
    /// What the service of this thread's reactor keeps, in the order of arrival.
    static KEPT: RefCell<Vec<(SocketId, Received)>> = const { RefCell::new(Vec::new()) };
}

/// Notes what arrives, by socket, and keeps the buffers or gives them back at once.
#[derive(Default)]
struct Keeper {
    sockets: Vec<SocketId>,
    keep: bool,
    pause_at: Option<usize>,
    got: BTreeMap<SocketId, Vec<u8>>,
    closed: Vec<(SocketId, CloseReason)>,
    turns: usize,
}

impl Behaviour for Keeper {
    fn accepted(&mut self, _io: &mut Io, socket: SocketId) {
        self.sockets.push(socket);
    }

    fn received(&mut self, io: &mut Io, socket: SocketId, bytes: Received) {
        let got = self.got.entry(socket).or_default();
        got.extend_from_slice(&bytes);
        if self.pause_at.is_some_and(|limit| got.len() >= limit) {
            io.pause_receive(socket);
        }
        if self.keep {
            KEPT.with_borrow_mut(|kept| kept.push((socket, bytes)));
        }
    }

    fn closed(&mut self, _io: &mut Io, socket: SocketId, reason: CloseReason, _batch: Option<SendBatch>) {
        self.closed.push((socket, reason));
    }

    fn turn(&mut self, _io: &mut Io) {
        self.turns += 1;
    }
}

fn config(io: IoChoice, receive_buffers: u16) -> ReactorConfig {
    ReactorConfig { io, receive_buffers, ..ReactorConfig::default() }
}

/// A connection and what the reactor calls it.
fn connect(running: &mut Running<Keeper>, before: usize) -> (TcpStream, SocketId) {
    let stream = TcpStream::connect(running.address).unwrap();
    (stream, running.wait_until(move |keeper, _| keeper.sockets.get(before).copied()))
}

fn wait_for_bytes(running: &mut Running<Keeper>, socket: SocketId, len: usize) -> Vec<u8> {
    running.wait_until(move |keeper, _| keeper.got.get(&socket).filter(|got| got.len() >= len).cloned())
}

/// Waits until what was queued is with the kernel, and what the kernel had ready is delivered.
fn settle(running: &mut Running<Keeper>) {
    let turns = running.call(|keeper, _| keeper.turns);
    running.wait_until(move |keeper, _| (keeper.turns > turns + 1).then_some(()));
}

/// Pauses a socket, and waits until the kernel has been told.
fn pause(running: &mut Running<Keeper>, socket: SocketId) {
    running.call(move |_, io| io.pause_receive(socket));
    settle(running);
}

fn wait_for_kept(running: &mut Running<Keeper>, count: u16) {
    running.wait_until(move |_, _| KEPT.with_borrow(|kept| (kept.len() == usize::from(count)).then_some(())));
}

on_each_interface! {
    kept_buffers_stay_as_they_are_while_others_are_filled,
    kept_buffers_outlive_their_socket_and_their_reactor,
    a_reactor_whose_buffers_are_all_kept_sleeps_until_they_come_back,
    returning_buffers_go_to_waiting_sockets_in_turn,
    a_paused_socket_gets_at_most_what_was_in_flight_and_loses_nothing,
    a_pause_holds_until_it_is_taken_back,
    pauses_in_any_rhythm_keep_the_order,
    a_paused_socket_is_closed_like_any_other,
    the_end_of_a_paused_stream_is_noticed_once_it_resumes,
    a_paused_socket_that_shuts_down_reads_to_the_end,
    waiting_for_a_buffer_does_not_hinder_a_close,
}

fn kept_buffers_stay_as_they_are_while_others_are_filled(io: IoChoice) {
    let mut running = start(config(io, 8), Keeper { keep: true, ..Keeper::default() });
    let (mut first, kept) = connect(&mut running, 0);
    let (mut second, busy) = connect(&mut running, 1);
    first.write_all(&pattern(1000, 7)).unwrap();
    wait_for_bytes(&mut running, kept, 1000);
    running.call(|keeper, _| keeper.keep = false);
    let data = pattern(4 << 20, 3);
    second.write_all(&data).unwrap();
    assert!(wait_for_bytes(&mut running, busy, data.len()) == data);
    let unchanged = running.call(|_, _| KEPT.with_borrow(|kept| kept[0].1.to_vec()));
    assert!(unchanged == pattern(1000, 7));
    running.stop();
}

fn kept_buffers_outlive_their_socket_and_their_reactor(io: IoChoice) {
    let (tell, told) = std::sync::mpsc::channel();
    let mut running = start(config(io, 2), Keeper { keep: true, ..Keeper::default() });
    let (mut stream, socket) = connect(&mut running, 0);
    stream.write_all(&pattern(500, 1)).unwrap();
    wait_for_bytes(&mut running, socket, 500);
    drop(stream);
    running.wait_until(|keeper, _| keeper.closed.first().copied());
    running.call(move |_, _| {
        /// Looks at what is kept when the thread ends, after the reactor.
        struct AtTheEnd(std::sync::mpsc::Sender<Vec<u8>>, Vec<(SocketId, Received)>);
        impl Drop for AtTheEnd {
            fn drop(&mut self) {
                self.0.send(self.1[0].1.to_vec()).unwrap();
            }
        }
        thread_local! {
            static LAST: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) };
        }
        LAST.set(Some(AtTheEnd(tell, KEPT.take())));
    });
    running.stop();
    assert!(told.recv().unwrap() == pattern(500, 1));
}

fn a_reactor_whose_buffers_are_all_kept_sleeps_until_they_come_back(io: IoChoice) {
    let mut running = start(config(io, FEW), Keeper { keep: true, ..Keeper::default() });
    let (mut greedy, first) = connect(&mut running, 0);
    let (mut modest, second) = connect(&mut running, 1);
    let data = pattern(4 << 20, 1);
    std::thread::scope(|scope| {
        scope.spawn(|| greedy.write_all(&data).unwrap());
        wait_for_kept(&mut running, FEW);
        modest.write_all(b"me too").unwrap();
        let before = running.call(|_, _| thread_cpu());
        std::thread::sleep(Duration::from_millis(200));
        let burnt = running.call(|_, _| thread_cpu()) - before;
        // Without buffers there is nothing to do, whatever the peers send.
        assert!(burnt < Duration::from_millis(20), "{burnt:?}");
        assert_eq!(running.call(|_, _| KEPT.with_borrow(Vec::len)), usize::from(FEW));
        running.call(|keeper, _| {
            keeper.keep = false;
            KEPT.take();
        });
        assert_eq!(wait_for_bytes(&mut running, second, 6), b"me too");
        assert!(wait_for_bytes(&mut running, first, data.len()) == data);
    });
    running.stop();
}

fn returning_buffers_go_to_waiting_sockets_in_turn(io: IoChoice) {
    let mut running = start(config(io, FEW), Keeper { keep: true, ..Keeper::default() });
    let (mut hoarder, _) = connect(&mut running, 0);
    for count in 1..=FEW {
        hoarder.write_all(b"x").unwrap();
        wait_for_kept(&mut running, count);
    }
    let mut hosts: Vec<_> = (1..=6).map(|number| connect(&mut running, number)).collect();
    for (host, (stream, _)) in hosts.iter_mut().enumerate() {
        // One has more than a buffer takes, for several rounds.
        stream.write_all(&pattern(if host == 1 { BUFFER_BYTES + 1000 } else { 1 }, host)).unwrap();
    }
    settle(&mut running);
    for round in 0..5 {
        for (host, (stream, socket)) in hosts.iter_mut().enumerate() {
            let seen = running.call(|_, _| {
                KEPT.with_borrow_mut(|kept| drop(kept.remove(0)));
                KEPT.with_borrow(Vec::len)
            });
            assert_eq!(seen, usize::from(FEW) - 1);
            wait_for_kept(&mut running, FEW);
            let served = running.call(|_, _| KEPT.with_borrow(|kept| kept.last().unwrap().0));
            assert_eq!(served, *socket, "round {round}, host {host}");
            stream.write_all(b"y").unwrap();
        }
    }
    running.stop();
}

fn a_paused_socket_gets_at_most_what_was_in_flight_and_loses_nothing(io: IoChoice) {
    let mut running = start(config(io, 8), Keeper { pause_at: Some(1), ..Keeper::default() });
    let (stream, socket) = connect(&mut running, 0);
    let (mut other, unpaused) = connect(&mut running, 1);
    let data = pattern(8 << 20, 2);
    std::thread::scope(|scope| {
        scope.spawn(|| (&stream).write_all(&data).unwrap());
        let mut before = 0;
        while before < data.len() {
            // It pauses at every delivery; these are the ones that were on their way.
            let got = wait_for_bytes(&mut running, socket, before + 1).len();
            assert!(got - before <= 2 * 8 * BUFFER_BYTES, "{before} {got}");
            before = got;
            running.call(move |_, io| io.resume_receive(socket));
        }
    });
    assert!(wait_for_bytes(&mut running, socket, data.len()) == data);
    other.write_all(b"x").unwrap();
    wait_for_bytes(&mut running, unpaused, 1);
    running.stop();
}

fn a_pause_holds_until_it_is_taken_back(io: IoChoice) {
    let mut running = start(config(io, 8), Keeper::default());
    let (mut stream, socket) = connect(&mut running, 0);
    let (mut other, witness) = connect(&mut running, 1);
    pause(&mut running, socket);
    pause(&mut running, socket);
    stream.write_all(b"later").unwrap();
    // What the peer of another socket sends after that arrives, more than once.
    for round in 1..=20 {
        other.write_all(b"now").unwrap();
        wait_for_bytes(&mut running, witness, 3 * round);
    }
    assert!(running.call(move |keeper, _| !keeper.got.contains_key(&socket)));
    running.call(move |_, io| {
        io.resume_receive(socket);
        io.pause_receive(socket);
        io.resume_receive(socket);
        io.resume_receive(socket);
    });
    assert_eq!(wait_for_bytes(&mut running, socket, 5), b"later");
    stream.write_all(b" more").unwrap();
    assert_eq!(wait_for_bytes(&mut running, socket, 10), b"later more");
    running.stop();
}

fn pauses_in_any_rhythm_keep_the_order(io: IoChoice) {
    let mut running = start(config(io, 4), Keeper::default());
    let (stream, socket) = connect(&mut running, 0);
    let data = pattern(16 << 20, 4);
    std::thread::scope(|scope| {
        scope.spawn(|| (&stream).write_all(&data).unwrap());
        let mut step = 0_usize;
        loop {
            step += 1;
            let (pauses, done) = (step % 3, data.len());
            let got = running.call(move |keeper, io| {
                for _ in 0..pauses {
                    io.pause_receive(socket);
                    io.resume_receive(socket);
                }
                if pauses == 2 {
                    io.pause_receive(socket);
                } else {
                    io.resume_receive(socket);
                }
                keeper.got.get(&socket).map_or(0, Vec::len)
            });
            if got == done {
                break;
            }
        }
    });
    assert!(wait_for_bytes(&mut running, socket, data.len()) == data);
    running.stop();
}

fn a_paused_socket_is_closed_like_any_other(io: IoChoice) {
    let mut running = start(config(io, 4), Keeper::default());
    let (mut stream, socket) = connect(&mut running, 0);
    pause(&mut running, socket);
    stream.write_all(b"unread").unwrap();
    running.call(move |_, io| {
        io.resume_receive(socket);
        io.pause_receive(socket);
        io.close(socket);
        io.resume_receive(socket);
    });
    let closed = running.wait_until(|keeper, _| keeper.closed.first().copied());
    assert_eq!(closed, (socket, CloseReason::Local));
    assert!(running.stop().got.is_empty());
}

fn the_end_of_a_paused_stream_is_noticed_once_it_resumes(io: IoChoice) {
    let mut running = start(config(io, 4), Keeper::default());
    let (mut stream, socket) = connect(&mut running, 0);
    pause(&mut running, socket);
    stream.write_all(b"last words").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    running.call(move |_, io| io.resume_receive(socket));
    let closed = running.wait_until(|keeper, _| keeper.closed.first().copied());
    assert_eq!(closed, (socket, CloseReason::Peer));
    assert_eq!(running.stop().got[&socket], b"last words");
}

fn a_paused_socket_that_shuts_down_reads_to_the_end(io: IoChoice) {
    let mut running = start(config(io, 4), Keeper::default());
    let (mut stream, socket) = connect(&mut running, 0);
    pause(&mut running, socket);
    running.call(move |_, io| io.shutdown_after_send(socket));
    stream.write_all(&pattern(1 << 20, 1)).unwrap();
    drop(stream);
    let closed = running.wait_until(|keeper, _| keeper.closed.first().copied());
    assert_eq!(closed, (socket, CloseReason::Peer));
    assert!(running.stop().got.is_empty(), "discarded");
}

fn waiting_for_a_buffer_does_not_hinder_a_close(io: IoChoice) {
    let mut running = start(config(io, 2), Keeper { keep: true, ..Keeper::default() });
    let (mut greedy, first) = connect(&mut running, 0);
    let (mut waiting, second) = connect(&mut running, 1);
    std::thread::scope(|scope| {
        scope.spawn(|| greedy.write_all(&pattern(1 << 20, 1)));
        wait_for_kept(&mut running, 2);
        waiting.write_all(b"x").unwrap();
        running.call(move |_, io| io.close(second));
        let closed = running.wait_until(|keeper, _| keeper.closed.first().copied());
        assert_eq!(closed, (second, CloseReason::Local));
        running.call(move |_, io| io.close(first));
    });
    running.wait_until(|keeper, _| (keeper.closed.len() == 2).then_some(()));
    // The buffers were kept by sockets that are gone; given back, they serve the next.
    running.call(|_, _| drop(KEPT.take()));
    let (mut next, third) = connect(&mut running, 2);
    next.write_all(b"hello").unwrap();
    assert_eq!(wait_for_bytes(&mut running, third, 5), b"hello");
    running.stop();
}

fn thread_cpu() -> Duration {
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(cpu.tv_sec).unwrap(), u32::try_from(cpu.tv_nsec).unwrap())
}

//! Connections from accept to close: limits, reuse of slots, stale ids, orderly ends, scarce buffers, idleness.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use common::{Behaviour, pattern, start, start_on};
use holdfast_reactor::{
    CloseReason, Io, IoChoice, ReactorConfig, Received, RefusalReason, SendBatch, SocketId,
};

/// Keeps books of its sockets and answers everything with the same bytes.
#[derive(Default)]
struct Echo {
    accepted: usize,
    open: BTreeSet<SocketId>,
    closed: Vec<(SocketId, CloseReason)>,
    largest_index: usize,
    pending: BTreeMap<SocketId, Vec<u8>>,
    in_flight: BTreeSet<SocketId>,
    tell_closed: Option<mpsc::Sender<(SocketId, CloseReason)>>,
}

impl Behaviour for Echo {
    fn accepted(&mut self, _io: &mut Io, socket: SocketId) {
        self.accepted += 1;
        self.largest_index = self.largest_index.max(socket.index());
        assert!(self.open.insert(socket));
    }

    fn received(&mut self, _io: &mut Io, socket: SocketId, bytes: Received) {
        assert!(self.open.contains(&socket));
        self.pending.entry(socket).or_default().extend_from_slice(&bytes);
    }

    fn sent(&mut self, _io: &mut Io, socket: SocketId, _batch: SendBatch) {
        assert!(self.in_flight.remove(&socket));
    }

    fn closed(&mut self, _io: &mut Io, socket: SocketId, reason: CloseReason, batch: Option<SendBatch>) {
        assert!(self.open.remove(&socket), "closed once, and only what was accepted");
        assert_eq!(batch.is_some(), self.in_flight.remove(&socket));
        self.pending.remove(&socket);
        self.closed.push((socket, reason));
        if let Some(tell) = &self.tell_closed {
            tell.send((socket, reason)).unwrap();
        }
    }

    fn turn(&mut self, io: &mut Io) {
        for (socket, bytes) in &mut self.pending {
            if !bytes.is_empty() && !self.in_flight.contains(socket) {
                let mut batch = SendBatch::new();
                batch.push_owned(std::mem::take(bytes));
                io.send(*socket, batch).unwrap();
                self.in_flight.insert(*socket);
            }
        }
    }
}

fn config(io: IoChoice) -> ReactorConfig {
    ReactorConfig { io, ..ReactorConfig::default() }
}

fn exchange(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    assert!(back == bytes);
}

on_each_interface! {
    many_megabytes_are_echoed_in_order,
    two_hundred_connections_leave_no_slot_behind,
    a_stale_id_reaches_nobody,
    connections_above_the_limit_are_closed_at_once,
    a_listener_that_does_not_block_accepts_too,
    the_last_bytes_reach_a_peer_that_keeps_sending,
    the_last_bytes_reach_a_peer_that_closed_its_side_first,
    a_peer_that_neither_reads_nor_closes_is_cut_off,
    an_end_closes_every_connection_once,
    a_panic_of_the_service_closes_its_connections,
    fewer_buffers_than_data_lose_nothing,
    an_idle_reactor_with_connections_uses_no_cpu,
    a_connection_is_served_by_the_reactor_that_it_is_passed_to,
    a_deadline_wakes_a_sleeping_reactor_and_never_early,
}

fn many_megabytes_are_echoed_in_order(io: IoChoice) {
    let running = start(config(io), Echo::default());
    let stream = TcpStream::connect(running.address).unwrap();
    let data = pattern(24 << 20, 5);
    std::thread::scope(|scope| {
        scope.spawn(|| (&stream).write_all(&data).unwrap());
        let mut back = vec![0; data.len()];
        (&stream).read_exact(&mut back).unwrap();
        assert!(back == data);
    });
    running.stop();
}

fn two_hundred_connections_leave_no_slot_behind(io: IoChoice) {
    let mut running = start(config(io), Echo::default());
    for round in 0..200_u8 {
        let mut stream = TcpStream::connect(running.address).unwrap();
        exchange(&mut stream, &[round; 100]);
        if round % 3 == 0 {
            // Bytes that are answered but never read make the peer's close a reset.
            stream.write_all(&[1; 10]).unwrap();
        }
        drop(stream);
    }
    running.wait_until(|echo, _| (echo.closed.len() == 200).then_some(()));
    assert_eq!(running.call(|_, io| io.open_sockets()), 0);
    let echo = running.stop();
    assert_eq!(echo.accepted, 200);
    assert!(echo.largest_index < 200, "slots are used again");
    let ids: BTreeSet<_> = echo.closed.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), 200, "ids are not");
}

fn a_stale_id_reaches_nobody(io: IoChoice) {
    let mut running = start(config(io), Echo::default());
    let first = TcpStream::connect(running.address).unwrap();
    let stale = running.wait_until(|echo, _| echo.open.first().copied());
    drop(first);
    running.wait_until(|echo, _| echo.closed.first().copied());
    let mut second = TcpStream::connect(running.address).unwrap();
    let fresh = running.wait_until(|echo, _| echo.open.first().copied());
    assert_eq!(fresh.index(), stale.index());
    assert_ne!(fresh, stale);
    let reason = running.call(move |_, io| {
        io.close(stale);
        io.shutdown_after_send(stale);
        let mut batch = SendBatch::new();
        batch.push_inline(b"for the dead");
        io.send(stale, batch).unwrap_err().reason
    });
    assert_eq!(reason, RefusalReason::Gone);
    exchange(&mut second, b"still alive");
    running.stop();
}

fn connections_above_the_limit_are_closed_at_once(io: IoChoice) {
    let mut running = start(ReactorConfig { sockets_max: 2, ..config(io) }, Echo::default());
    let mut first = TcpStream::connect(running.address).unwrap();
    let mut second = TcpStream::connect(running.address).unwrap();
    exchange(&mut first, b"1");
    exchange(&mut second, b"2");
    let mut third = TcpStream::connect(running.address).unwrap();
    assert_eq!(third.read(&mut [0]).unwrap(), 0);
    drop(first);
    running.wait_until(|echo, _| (echo.closed.len() == 1).then_some(()));
    let mut fourth = TcpStream::connect(running.address).unwrap();
    exchange(&mut fourth, b"4");
    exchange(&mut second, b"2");
    assert_eq!(running.stop().accepted, 3);
}

fn a_listener_that_does_not_block_accepts_too(io: IoChoice) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let running = start_on(config(io), listener, Echo::default());
    for _ in 0..3 {
        exchange(&mut TcpStream::connect(running.address).unwrap(), b"hello");
    }
    running.stop();
}

fn the_last_bytes_reach_a_peer_that_keeps_sending(io: IoChoice) {
    let mut running = start(config(io), Echo::default());
    let stream = TcpStream::connect(running.address).unwrap();
    let socket = running.wait_until(|echo, _| echo.open.first().copied());
    let last = pattern(6 << 20, 9);
    running.call({
        let last = last.clone();
        move |echo, io| {
            let mut batch = SendBatch::new();
            batch.push_owned(last);
            io.send(socket, batch).unwrap();
            echo.in_flight.insert(socket);
            io.shutdown_after_send(socket);
            let mut more = SendBatch::new();
            more.push_inline(b"after the end");
            assert_eq!(io.send(socket, more).unwrap_err().reason, RefusalReason::Gone);
        }
    });
    (&stream).write_all(&pattern(8 << 20, 1)).unwrap();
    let mut got = Vec::new();
    (&stream).read_to_end(&mut got).unwrap();
    assert!(got == last, "all of it, and then an orderly end");
    drop(stream);
    let closed = running.wait_until(|echo, _| echo.closed.first().copied());
    assert_eq!(closed, (socket, CloseReason::Peer));
    let echo = running.stop();
    assert!(echo.pending.is_empty(), "input after the end is not delivered");
}

fn the_last_bytes_reach_a_peer_that_closed_its_side_first(io: IoChoice) {
    let mut running = start(config(io), Echo::default());
    let stream = TcpStream::connect(running.address).unwrap();
    let socket = running.wait_until(|echo, _| echo.open.first().copied());
    running.call(move |echo, io| {
        let mut batch = SendBatch::new();
        batch.push_zeros(32 << 20);
        io.send(socket, batch).unwrap();
        echo.in_flight.insert(socket);
        io.shutdown_after_send(socket);
    });
    stream.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    (&stream).read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), 32 << 20);
    assert_eq!(running.wait_until(|echo, _| echo.closed.first().copied()), (socket, CloseReason::Peer));
    assert!(running.stop().in_flight.is_empty(), "its batch came back");
}

fn a_peer_that_neither_reads_nor_closes_is_cut_off(io: IoChoice) {
    let (tell, told) = mpsc::channel();
    let mut running = start(config(io), Echo { tell_closed: Some(tell), ..Echo::default() });
    let stream = TcpStream::connect(running.address).unwrap();
    let socket = running.wait_until(|echo, _| echo.open.first().copied());
    running.call(move |echo, io| {
        let mut batch = SendBatch::new();
        batch.push_zeros(64 << 20);
        io.send(socket, batch).unwrap();
        echo.in_flight.insert(socket);
        io.shutdown_after_send(socket);
    });
    assert_eq!(told.recv().unwrap(), (socket, CloseReason::Lingered));
    drop(stream);
    running.stop();
}

fn an_end_closes_every_connection_once(io: IoChoice) {
    let mut running = start(config(io), Echo::default());
    let mut streams: Vec<_> = (0..10).map(|_| TcpStream::connect(running.address).unwrap()).collect();
    for stream in &mut streams {
        exchange(stream, b"x");
    }
    running.call(|echo, io| {
        for socket in echo.open.iter().take(3) {
            let mut batch = SendBatch::new();
            batch.push_zeros(64 << 20);
            io.send(*socket, batch).unwrap();
            echo.in_flight.insert(*socket);
        }
    });
    let echo = running.stop();
    assert_eq!(echo.closed.len(), 10);
    assert!(echo.closed.iter().all(|(_, reason)| *reason == CloseReason::Stopped));
    assert!(echo.open.is_empty() && echo.in_flight.is_empty());
}

fn a_panic_of_the_service_closes_its_connections(io: IoChoice) {
    let mut running = start(config(io), Echo::default());
    let mut stream = TcpStream::connect(running.address).unwrap();
    exchange(&mut stream, b"x");
    running.call(|echo, io| {
        let socket = *echo.open.first().unwrap();
        let mut batch = SendBatch::new();
        batch.push_owned(vec![3; 32 << 20]);
        io.send(socket, batch).unwrap();
    });
    running.crash(|_, _| panic!("a bug"));
    let outcome = stream.read_to_end(&mut Vec::new());
    assert!(outcome.is_ok() || outcome.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
}

fn fewer_buffers_than_data_lose_nothing(io: IoChoice) {
    let running = start(ReactorConfig { receive_buffers: 2, ..config(io) }, Echo::default());
    std::thread::scope(|scope| {
        for client in 0..6 {
            let address = running.address;
            scope.spawn(move || {
                let stream = TcpStream::connect(address).unwrap();
                let data = pattern(3 << 20, client);
                let mut back = vec![0; data.len()];
                std::thread::scope(|scope| {
                    scope.spawn(|| (&stream).write_all(&data).unwrap());
                    (&stream).read_exact(&mut back).unwrap();
                });
                assert!(back == data);
            });
        }
    });
    running.stop();
}

fn an_idle_reactor_with_connections_uses_no_cpu(io: IoChoice) {
    let mut running = start(config(io), Echo::default());
    let mut streams: Vec<_> = (0..64).map(|_| TcpStream::connect(running.address).unwrap()).collect();
    for stream in &mut streams {
        exchange(stream, b"x");
    }
    let usage = |_: &mut Echo, _: &mut Io| {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let cpu = Duration::new(u64::try_from(cpu.tv_sec).unwrap(), u32::try_from(cpu.tv_nsec).unwrap());
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let switches = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        (cpu, switches.trim().parse::<u64>().unwrap())
    };
    let (cpu_before, sleeps_before) = running.call(usage);
    std::thread::sleep(Duration::from_millis(400));
    let (cpu_after, sleeps_after) = running.call(usage);
    // One sleep, and the work around it; a machine with other work does not change either number.
    let cpu = cpu_after - cpu_before;
    assert!(cpu < Duration::from_millis(20), "{cpu:?}");
    assert!(sleeps_after - sleeps_before <= 3, "{} wake-ups", sleeps_after - sleeps_before);
    running.stop();
}

/// Passes every connection on.
struct Doorman(mpsc::Sender<TcpStream>);

impl Behaviour for Doorman {
    fn offered(&mut self, _io: &mut Io, stream: TcpStream) -> Option<TcpStream> {
        self.0.send(stream).unwrap();
        None
    }

    fn accepted(&mut self, _io: &mut Io, _socket: SocketId) {
        panic!("nobody stays here");
    }
}

fn a_connection_is_served_by_the_reactor_that_it_is_passed_to(io: IoChoice) {
    let (pass, passed) = mpsc::channel();
    let mut door = start(config(io), Doorman(pass));
    let mut desk = start(config(io), Echo::default());
    for _ in 0..3 {
        let mut stream = TcpStream::connect(door.address).unwrap();
        let taken = passed.recv().unwrap();
        desk.call(move |echo, io| {
            let socket = io.adopt(taken).unwrap();
            echo.accepted(io, socket);
        });
        exchange(&mut stream, b"hello");
    }
    assert_eq!(door.call(|_, io| io.open_sockets()), 0);
    door.stop();
    assert_eq!(desk.stop().accepted, 3);
}

/// Ticks at a deadline that the test sets.
struct Ticker {
    deadline_ms: Option<u64>,
    ticked: mpsc::Sender<u64>,
}

impl Behaviour for Ticker {
    fn deadline_ms(&self) -> Option<u64> {
        self.deadline_ms
    }

    fn tick(&mut self, io: &mut Io) {
        assert!(self.deadline_ms.take().is_some());
        self.ticked.send(io.now_ms()).unwrap();
    }
}

fn a_deadline_wakes_a_sleeping_reactor_and_never_early(io: IoChoice) {
    let (tell, ticked) = mpsc::channel();
    let mut running = start(config(io), Ticker { deadline_ms: None, ticked: tell });
    for wait_ms in [0, 1, 30] {
        let due_ms = running.call(move |ticker, io| {
            let due_ms = io.now_ms() + wait_ms;
            ticker.deadline_ms = Some(due_ms);
            due_ms
        });
        let at_ms = ticked.recv().unwrap();
        assert!(at_ms >= due_ms, "{at_ms} {due_ms}");
    }
    assert!(ticked.try_recv().is_err());
    running.stop();
}

//! Sandboxes that refuse io_uring, by a real seccomp filter: the reactor says so and serves by epoll.
//!
//! A filter holds for the thread that takes it on and for the threads that this one starts, so each test has its own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use common::{Behaviour, pattern, start};
use holdfast_reactor::{
    Inboxes, Io, IoChoice, IoKind, Reactor, ReactorConfig, ReactorError, Received, SendBatch, SocketId,
};
use rustix::io::Errno;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule};

/// Answers everything with the same bytes.
#[derive(Default)]
struct Echo {
    waiting: Vec<u8>,
    sending: bool,
    socket: Option<SocketId>,
}

impl Behaviour for Echo {
    fn received(&mut self, _io: &mut Io, socket: SocketId, bytes: Received) {
        self.waiting.extend_from_slice(&bytes);
        self.socket = Some(socket);
    }

    fn sent(&mut self, _io: &mut Io, _socket: SocketId, _batch: SendBatch) {
        self.sending = false;
    }

    fn turn(&mut self, io: &mut Io) {
        if let Some(socket) = self.socket
            && !self.sending
            && !self.waiting.is_empty()
        {
            let mut batch = SendBatch::new();
            batch.push_owned(std::mem::take(&mut self.waiting));
            io.send(socket, batch).unwrap();
            self.sending = true;
        }
    }
}

/// Runs `work` on a thread for which `calls` fail with `error`.
fn sandboxed(calls: &[i64], error: Errno, work: impl FnOnce() + Send) {
    let rules: BTreeMap<i64, Vec<SeccompRule>> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(error.raw_os_error().unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            seccompiler::apply_filter(&program).unwrap();
            work();
        });
    });
}

fn refusal_and_kind(io: IoChoice) -> Result<(Option<i32>, IoKind), ReactorError> {
    let config = ReactorConfig { io, ..ReactorConfig::default() };
    let reactor = Reactor::new(config, Inboxes::<()>::new().unwrap())?;
    Ok((reactor.uring_refusal().and_then(std::io::Error::raw_os_error), reactor.io_kind()))
}

fn served_by_epoll_where(calls: &[i64], error: Errno) {
    sandboxed(calls, error, || {
        let expected = (Some(error.raw_os_error()), IoKind::Epoll);
        assert_eq!(refusal_and_kind(IoChoice::Auto).unwrap(), expected);
        let running = start(ReactorConfig::default(), Echo::default());
        let stream = TcpStream::connect(running.address).unwrap();
        let data = pattern(4 << 20, 3);
        let mut back = vec![0; data.len()];
        std::thread::scope(|scope| {
            scope.spawn(|| (&stream).write_all(&data).unwrap());
            (&stream).read_exact(&mut back).unwrap();
        });
        assert!(back == data);
        running.stop();
    });
}

#[test]
fn a_refused_set_up_means_epoll() {
    for error in [Errno::NOSYS, Errno::PERM, Errno::ACCESS] {
        served_by_epoll_where(&[libc::SYS_io_uring_setup], error);
    }
}

#[test]
fn a_kernel_without_a_feature_that_is_needed_means_epoll() {
    served_by_epoll_where(&[libc::SYS_io_uring_setup], Errno::INVAL);
    served_by_epoll_where(&[libc::SYS_io_uring_register], Errno::INVAL);
}

#[test]
fn a_ring_that_can_be_made_but_not_used_means_epoll() {
    served_by_epoll_where(&[libc::SYS_io_uring_enter], Errno::PERM);
}

#[test]
fn whoever_insists_on_io_uring_gets_the_refusal() {
    sandboxed(&[libc::SYS_io_uring_setup], Errno::PERM, || {
        let refused = refusal_and_kind(IoChoice::Uring);
        assert!(matches!(refused, Err(ReactorError::RingRefused(error)) if error.raw_os_error() == Some(1)));
    });
}

#[test]
fn whoever_asks_for_epoll_never_asks_for_a_ring() {
    // Any call that belongs to io_uring would end the process.
    let calls = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    let rules: BTreeMap<i64, Vec<SeccompRule>> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::KillProcess, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    std::thread::spawn(move || {
        seccompiler::apply_filter(&program).unwrap();
        assert_eq!(refusal_and_kind(IoChoice::Epoll).unwrap(), (None, IoKind::Epoll));
    })
    .join()
    .unwrap();
}

#[test]
fn where_nothing_is_refused_the_ring_is_taken() {
    assert_eq!(refusal_and_kind(IoChoice::Auto).unwrap(), (None, IoKind::Uring));
    assert_eq!(refusal_and_kind(IoChoice::Uring).unwrap(), (None, IoKind::Uring));
}

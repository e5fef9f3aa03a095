//! A process without free descriptors: the reactor neither ends nor burns CPU, and accepts again when some are free.
//!
//! The limit concerns the whole process, so this test is alone in its program.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

mod common;

use std::io::Read;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};

use common::{Behaviour, start};
use holdfast_reactor::{Inboxes, Io, IoChoice, Reactor, ReactorConfig, ReactorError, SendBatch, SocketId};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that this process may have.
const DESCRIPTORS: u64 = 64;

/// Greets everybody.
struct Greeter;

impl Behaviour for Greeter {
    fn accepted(&mut self, io: &mut Io, socket: SocketId) {
        let mut batch = SendBatch::new();
        batch.push_inline(b"hello");
        io.send(socket, batch).unwrap();
    }
}

fn greeting(stream: &mut TcpStream) -> [u8; 5] {
    let mut word = [0; 5];
    stream.read_exact(&mut word).unwrap();
    word
}

#[test]
fn accepting_resumes_when_descriptors_are_free_again() {
    let limit = Rlimit { current: Some(DESCRIPTORS), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).unwrap();
    accepting_resumes(IoChoice::Uring);
    accepting_resumes(IoChoice::Epoll);
}

fn accepting_resumes(io: IoChoice) {
    let config = ReactorConfig { io, ..ReactorConfig::default() };
    let mut running = start(config, Greeter);
    running.call(|_, _| ());
    let mut used: Vec<OwnedFd> = Vec::new();
    let output = std::io::stdout();
    while let Ok(more) = output.as_fd().try_clone_to_owned() {
        used.push(more);
    }
    // Room for two ends of one connection and our end of another.
    used.truncate(used.len() - 3);
    let mut first = TcpStream::connect(running.address).unwrap();
    assert_eq!(&greeting(&mut first), b"hello");
    let mut second = TcpStream::connect(running.address).unwrap();
    // The reactor serves on: nothing else is wrong with it.
    assert_eq!(running.call(|_, io| io.open_sockets()), 1);
    drop(first);
    assert_eq!(&greeting(&mut second), b"hello");
    running.wait_until(|_, io| (io.open_sockets() == 1).then_some(()));
    let inboxes = Inboxes::<()>::new().unwrap();
    while let Ok(more) = output.as_fd().try_clone_to_owned() {
        used.push(more);
    }
    let refused = Reactor::new(config, inboxes);
    assert!(
        matches!(
            (io, refused),
            (IoChoice::Uring, Err(ReactorError::RingRefused(_)))
                | (IoChoice::Epoll, Err(ReactorError::PollRefused(_)))
        ),
        "a new reactor says why it cannot be"
    );
    drop(used);
    running.stop();
}

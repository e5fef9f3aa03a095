//! A reactor on a thread of its own, driven by a test: the test runs closures on the reactor's thread and waits for
//! their results.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod places;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;

use holdfast_reactor::{
    CloseReason, FileError, FileId, Inboxes, Io, MailSender, Reactor, ReactorConfig, Received, SendBatch,
    Service, SocketId,
};

/// Makes a test of each function for each interface to the kernel, which it is given.
#[macro_export]
macro_rules! on_each_interface {
    ($($test:ident),+ $(,)?) => {
        mod uring {
            $(#[test] fn $test() { super::$test(holdfast_reactor::IoChoice::Uring) })+
        }
        mod epoll {
            $(#[test] fn $test() { super::$test(holdfast_reactor::IoChoice::Epoll) })+
        }
    };
}

/// What a test does with its sockets. Everything is optional.
pub(crate) trait Behaviour: Send + 'static {
    fn offered(&mut self, _io: &mut Io, stream: TcpStream) -> Option<TcpStream> {
        Some(stream)
    }
    fn accepted(&mut self, _io: &mut Io, _socket: SocketId) {}
    fn received(&mut self, _io: &mut Io, _socket: SocketId, _bytes: Received) {}
    fn sent(&mut self, _io: &mut Io, _socket: SocketId, _batch: SendBatch) {}
    fn closed(&mut self, _io: &mut Io, _socket: SocketId, _reason: CloseReason, _batch: Option<SendBatch>) {}
    fn file_done(&mut self, _io: &mut Io, _file: FileId, _user: u64, _result: Result<(), FileError>) {}
    fn file_closed(&mut self, _io: &mut Io, _file: FileId) {}
    fn turn(&mut self, _io: &mut Io) {}
    fn deadline_ms(&self) -> Option<u64> {
        None
    }
    fn tick(&mut self, _io: &mut Io) {}
}

type Call<B> = Box<dyn FnOnce(&mut B, &mut Io) + Send>;

pub(crate) enum Message<B> {
    Call(Call<B>),
    Stop,
}

pub(crate) struct Harness<B> {
    pub(crate) behaviour: B,
    running: bool,
}

impl<B: Behaviour> Service for Harness<B> {
    type Message = Message<B>;

    fn offered(&mut self, io: &mut Io, listener: u32, stream: TcpStream) -> Option<TcpStream> {
        assert_eq!(listener, 0);
        self.behaviour.offered(io, stream)
    }

    fn accepted(
        &mut self,
        io: &mut Io,
        listener: u32,
        socket: SocketId,
        peer: SocketAddr,
        local: SocketAddr,
    ) {
        assert_eq!(listener, 0);
        assert!(peer.ip().is_loopback() && local.ip().is_loopback());
        self.behaviour.accepted(io, socket);
    }

    fn received(&mut self, io: &mut Io, socket: SocketId, bytes: Received) {
        assert!(!bytes.is_empty());
        self.behaviour.received(io, socket, bytes);
    }

    fn sent(&mut self, io: &mut Io, socket: SocketId, batch: SendBatch) {
        self.behaviour.sent(io, socket, batch);
    }

    fn closed(&mut self, io: &mut Io, socket: SocketId, reason: CloseReason, batch: Option<SendBatch>) {
        self.behaviour.closed(io, socket, reason, batch);
    }

    fn file_done(&mut self, io: &mut Io, file: FileId, user: u64, result: Result<(), FileError>) {
        self.behaviour.file_done(io, file, user, result);
    }

    fn file_closed(&mut self, io: &mut Io, file: FileId) {
        self.behaviour.file_closed(io, file);
    }

    fn message(&mut self, io: &mut Io, message: Message<B>) {
        match message {
            Message::Call(call) => call(&mut self.behaviour, io),
            Message::Stop => self.running = false,
        }
    }

    fn turn(&mut self, io: &mut Io) {
        self.behaviour.turn(io);
    }

    fn deadline_ms(&self) -> Option<u64> {
        self.behaviour.deadline_ms()
    }

    fn tick(&mut self, io: &mut Io) {
        self.behaviour.tick(io);
    }

    fn keep_running(&self) -> bool {
        self.running
    }
}

pub(crate) struct Running<B> {
    pub(crate) address: SocketAddr,
    mail: MailSender<Message<B>>,
    thread: JoinHandle<B>,
}

/// Starts a reactor with one listener on 127.0.0.1.
pub(crate) fn start<B: Behaviour>(config: ReactorConfig, behaviour: B) -> Running<B> {
    start_on(config, TcpListener::bind("127.0.0.1:0").unwrap(), behaviour)
}

pub(crate) fn start_on<B: Behaviour>(
    config: ReactorConfig,
    listener: TcpListener,
    behaviour: B,
) -> Running<B> {
    let address = listener.local_addr().unwrap();
    let mut inboxes = Inboxes::new().unwrap();
    let mail = inboxes.add(4);
    let thread = std::thread::spawn(move || {
        let mut reactor = Reactor::new(config, inboxes).unwrap();
        assert_eq!(reactor.add_listener(listener).unwrap(), 0);
        let mut harness = Harness { behaviour, running: true };
        reactor.run(&mut harness).unwrap();
        harness.behaviour
    });
    Running { address, mail, thread }
}

impl<B: Behaviour> Running<B> {
    /// Runs `call` on the reactor's thread and returns what it returns.
    pub(crate) fn call<R: Send + 'static>(
        &mut self,
        call: impl FnOnce(&mut B, &mut Io) -> R + Send + 'static,
    ) -> R {
        let (tell, told) = mpsc::channel();
        let boxed: Call<B> = Box::new(move |behaviour, io| tell.send(call(behaviour, io)).unwrap());
        assert!(self.mail.send(Message::Call(boxed)).is_ok(), "one call at a time fits");
        told.recv().unwrap()
    }

    /// Runs `probe` on the reactor's thread, between other threads' turns, until it gives a value.
    pub(crate) fn wait_until<R: Send + 'static>(
        &mut self,
        probe: impl Fn(&mut B, &mut Io) -> Option<R> + Clone + Send + 'static,
    ) -> R {
        loop {
            if let Some(found) = self.call(probe.clone()) {
                return found;
            }
            std::thread::yield_now();
        }
    }

    /// Ends the reactor and returns the behaviour.
    pub(crate) fn stop(mut self) -> B {
        assert!(self.mail.send(Message::Stop).is_ok());
        self.thread.join().unwrap()
    }

    /// Lets the reactor's thread end by the panic that `call` raises.
    pub(crate) fn crash(mut self, call: impl FnOnce(&mut B, &mut Io) + Send + 'static) {
        assert!(self.mail.send(Message::Call(Box::new(call))).is_ok());
        assert!(self.thread.join().is_err());
    }
}

/// Bytes that differ by position, of a period that no power of two divides.
pub(crate) fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at.wrapping_mul(31).wrapping_add(seed)) % 251).unwrap()).collect()
}

//! The server: one thread, edge-triggered epoll, one copy for each request.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::ServeArguments;
use crate::wire::{DATA_LEN_MAX, REQUEST_LEN, Request, SHORT_LEN};

/// Requests are for random blocks of this size and what follows them.
const BLOCK_LEN: usize = 4096;

/// The receive buffer of a connection: two requests of any length.
const RECEIVE_LEN: usize = 2 * (DATA_LEN_MAX + REQUEST_LEN);
/// What is asked of the socket at once: more costs the cache, less costs calls.
const READ_LEN: usize = 256 << 10;
/// Bytes of answers that leave in one send, however few answers they are.
const SEND_LEN: usize = 256 << 10;
/// Answers that a connection has not taken yet: with more, its requests wait.
const BACKLOG_MAX: usize = 4 << 20;
/// How long the loop looks for events before it sleeps.
const SPIN: Duration = Duration::from_micros(50);
const NO_TIME: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
const LISTENER: u64 = 0;

/// Serves until the process is ended.
pub(crate) fn serve(args: &ServeArguments) -> Result<()> {
    let listener = TcpListener::bind(args.listen).with_context(|| format!("listening on {}", args.listen))?;
    listener.set_nonblocking(true)?;
    let mut store = Store::new(usize::try_from(args.store)? << 20);
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    println!("ready {}", listener.local_addr()?);
    let mut connections: BTreeMap<u64, Connection> = BTreeMap::new();
    let mut next_id = LISTENER;
    let mut events = Vec::with_capacity(64);
    let mut active = Instant::now();
    loop {
        let spinning = active.elapsed() < SPIN;
        match epoll::wait(&poll, spare_capacity(&mut events), spinning.then_some(&NO_TIME)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for events"),
        }
        if !events.is_empty() {
            active = Instant::now();
        }
        for event in events.drain(..) {
            let id = event.data.u64();
            if id == LISTENER {
                next_id = next_id.wrapping_add(1).max(1);
                let connection = Connection::accept(&listener, args.coalesce)?;
                let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
                epoll::add(&poll, &connection.stream, epoll::EventData::new_u64(next_id), interest)?;
                connections.insert(next_id, connection);
                continue;
            }
            let Some(connection) = connections.get_mut(&id) else { continue };
            match connection.serve(&mut store) {
                Ok(Open::Yes) => continue,
                Ok(Open::No) => {}
                Err(error) => eprintln!("holdfast-bare-loop: a connection ended: {error:#}"),
            }
            connections.remove(&id);
        }
    }
}

/// Whether the client is still there.
enum Open {
    Yes,
    No,
}

/// Memory with random places in it.
struct Store {
    bytes: Vec<u8>,
    blocks: u64,
    random: u64,
}

impl Store {
    fn new(len: usize) -> Self {
        // Written once, so that every page is there before the first request.
        let bytes = vec![0xa5; len];
        let blocks = u64::try_from((len - DATA_LEN_MAX) / BLOCK_LEN).unwrap_or(u64::MAX);
        Self { bytes, blocks, random: 1 }
    }

    /// A random place.
    fn place(&mut self, len: usize) -> &mut [u8] {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.random;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^= value >> 31;
        let block = usize::try_from((u128::from(value) * u128::from(self.blocks)) >> 64).unwrap_or(0);
        let start = block.saturating_mul(BLOCK_LEN);
        self.bytes
            .get_mut(start..start.saturating_add(len))
            .expect("every place has room for the longest request")
    }
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    start: usize,
    end: usize,
    answers: Vec<u8>,
    sent: usize,
    waiting: u16,
    coalesce: u16,
}

impl Connection {
    fn accept(listener: &TcpListener, coalesce: u16) -> Result<Self> {
        let (stream, _) = listener.accept().context("accepting a connection")?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: vec![0; RECEIVE_LEN],
            start: 0,
            end: 0,
            answers: Vec::with_capacity(BACKLOG_MAX),
            sent: 0,
            waiting: 0,
            coalesce,
        })
    }

    /// Takes what there is and answers it.
    fn serve(&mut self, store: &mut Store) -> Result<Open> {
        loop {
            self.send()?;
            self.answer_all(store)?;
            self.send()?;
            if self.answers.len() >= BACKLOG_MAX / 2 {
                // The next OUT event goes on from here.
                return Ok(Open::Yes);
            }
            if self.start == self.end {
                (self.start, self.end) = (0, 0);
            } else if RECEIVE_LEN.saturating_sub(self.end) < READ_LEN {
                self.received.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end.saturating_sub(self.start));
            }
            let until = self.end.saturating_add(READ_LEN).min(RECEIVE_LEN);
            match self.stream.read(self.received.get_mut(self.end..until).unwrap_or_default()) {
                Ok(0) => return Ok(Open::No),
                Ok(len) => self.end = self.end.saturating_add(len),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Open::Yes),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Open::No),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("receiving"),
            }
        }
    }

    fn answer_all(&mut self, store: &mut Store) -> Result<()> {
        while self.answers.len() < BACKLOG_MAX / 2 {
            let unread = self.received.get(self.start..self.end).unwrap_or_default();
            let Some((request, rest)) = unread.split_first_chunk::<REQUEST_LEN>() else { return Ok(()) };
            let taken = match Request::of(request) {
                Some(Request::Read(len)) => {
                    self.answers.extend_from_slice(&request[..SHORT_LEN]);
                    self.answers.extend_from_slice(store.place(len));
                    self.answers.extend_from_slice(&request[..SHORT_LEN]);
                    REQUEST_LEN
                }
                Some(Request::Write(len)) => {
                    let Some(data) = rest.get(..len) else { return Ok(()) };
                    store.place(len).copy_from_slice(data);
                    self.answers.extend_from_slice(&request[..SHORT_LEN]);
                    REQUEST_LEN.saturating_add(len)
                }
                None => bail!("a request that begins with {:#04x}", request[0]),
            };
            self.start = self.start.saturating_add(taken);
            self.waiting = self.waiting.saturating_add(1);
            if self.waiting >= self.coalesce || self.answers.len() >= SEND_LEN {
                self.send()?;
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        self.waiting = 0;
        while self.sent < self.answers.len() {
            match self.stream.write(self.answers.get(self.sent..).unwrap_or_default()) {
                Ok(len) => self.sent = self.sent.saturating_add(len),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("sending"),
            }
        }
        self.answers.clear();
        self.sent = 0;
        Ok(())
    }
}

const _: () = assert!(2 * (DATA_LEN_MAX + 2 * SHORT_LEN) < BACKLOG_MAX && READ_LEN < DATA_LEN_MAX);

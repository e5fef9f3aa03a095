//! The same by readiness, for kernels and sandboxes without io_uring: epoll tells which descriptors have become ready, and
//! plain system calls that never block do the work at the next enter.
//!
//! Descriptors are registered once, edge-triggered; what an edge has told is remembered here until a call says that the
//! descriptor is not ready any more. So arming, pausing and cancelling cost no system call, and a pause leaves the
//! bytes where they are.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use libc::msghdr;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags};

use super::{COMPLETIONS_PER_TURN_MAX, Completion, Operation, Shots, Token, Wait};
use crate::buffers::BufferPool;
use crate::socket::SocketId;

/// Events taken in one call; the kernel keeps the others, in turn.
const EVENTS_PER_CALL_MAX: usize = 256;

/// Receives of one socket before the next one gets its turn.
const RECEIVES_PER_VISIT_MAX: usize = 4;

/// Accepts of one listener before others get their turn.
const ACCEPTS_PER_VISIT_MAX: usize = 16;

/// Not at all.
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Readiness and what is asked of a listener.
struct Listening {
    fd: RawFd,
    armed: bool,
    /// No accept has said otherwise since the last edge.
    readable: bool,
    /// It is in the list of what can be worked on.
    queued: bool,
}

/// Readiness and what is asked of a socket.
struct Watched {
    generation: u32,
    fd: RawFd,
    receive: Option<Shots>,
    send: Option<*const msghdr>,
    /// No receive has said otherwise since the last edge.
    readable: bool,
    /// No send has said otherwise since the last edge.
    writable: bool,
    /// It is in the list of what can be worked on.
    queued: bool,
}

impl Watched {
    fn has_work(&self) -> bool {
        (self.receive.is_some() && self.readable) || (self.send.is_some() && self.writable)
    }
}

/// An epoll instance with what is asked of its descriptors.
pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
    listeners: Vec<Listening>,
    /// By the sockets' index.
    sockets: Vec<Option<Watched>>,
    /// What can be worked on, in the order in which it became so.
    ready: VecDeque<Token>,
    /// Not taken yet.
    completions: VecDeque<Completion>,
    buffers: Rc<BufferPool>,
}

impl Poller {
    pub(super) fn new(buffers: Rc<BufferPool>) -> io::Result<Poller> {
        Ok(Poller {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS_PER_CALL_MAX),
            listeners: Vec::new(),
            sockets: Vec::new(),
            ready: VecDeque::new(),
            completions: VecDeque::new(),
            buffers,
        })
    }

    pub(super) fn buffers(&self) -> &Rc<BufferPool> {
        &self.buffers
    }

    /// Registers the next listener, which does not block from now on.
    pub(super) fn add_listener(&mut self, listener: BorrowedFd<'_>) -> io::Result<()> {
        rustix::io::ioctl_fionbio(listener, true)?;
        let index = u32::try_from(self.listeners.len()).unwrap_or(u32::MAX);
        let token = Token { operation: Operation::Accept, index, generation: 0 };
        self.register(listener, token, EventFlags::IN)?;
        let fd = listener.as_raw_fd();
        self.listeners.push(Listening { fd, armed: false, readable: true, queued: false });
        Ok(())
    }

    pub(super) fn accept(&mut self, index: u32) {
        if let Some(listener) = place(&mut self.listeners, index) {
            listener.armed = true;
            self.queue_listener(index);
        }
    }

    pub(super) fn watch_wake(&mut self, eventfd: BorrowedFd<'_>) {
        let token = Token { operation: Operation::Wake, index: 0, generation: 0 };
        // The count is never read: each write to it is an edge.
        if let Err(error) = self.register(eventfd, token, EventFlags::IN) {
            self.complete(token, Err(error), false);
        }
    }

    pub(super) fn receive(&mut self, socket: SocketId, fd: BorrowedFd<'_>, shots: Shots) {
        match self.watch(socket, fd) {
            Ok(watched) => watched.receive = Some(shots),
            Err(error) => self.complete(Token::of(Operation::Receive, socket), Err(error), false),
        }
        self.queue_socket(socket.index);
    }

    /// # Safety
    ///
    /// That of [`super::Backend::send`].
    pub(super) unsafe fn send(&mut self, socket: SocketId, fd: BorrowedFd<'_>, header: *const msghdr) {
        match self.watch(socket, fd) {
            Ok(watched) => watched.send = Some(header),
            Err(error) => self.complete(Token::of(Operation::Send, socket), Err(error), false),
        }
        self.queue_socket(socket.index);
    }

    /// What is not found has its last completion queued.
    pub(super) fn cancel(&mut self, operation: Operation, socket: SocketId) {
        let Some(watched) = self.watched(socket) else { return };
        let found = match operation {
            Operation::Receive => watched.receive.take().is_some(),
            Operation::Send => watched.send.take().is_some(),
            Operation::Accept | Operation::Cancel | Operation::Wake | Operation::File => false,
        };
        if found {
            self.complete(Token::of(operation, socket), Err(Errno::CANCELED), false);
        }
    }

    pub(super) fn forget(&mut self, socket: SocketId, fd: BorrowedFd<'_>) {
        if self.watched(socket).is_some() {
            // Fails only for what is not registered.
            let _ = epoll::delete(&self.epoll, fd);
            if let Some(place) = place(&mut self.sockets, socket.index) {
                *place = None;
            }
        }
    }

    pub(super) fn has_completions(&self) -> bool {
        !self.completions.is_empty()
    }

    pub(super) fn wants_enter(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn has_news(&mut self) -> io::Result<bool> {
        if self.ready.is_empty() && self.completions.is_empty() {
            self.poll(Some(&AT_ONCE))?;
        }
        Ok(!self.ready.is_empty() || !self.completions.is_empty())
    }

    pub(super) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.work();
        if !self.ready.is_empty() || !self.completions.is_empty() {
            self.poll(Some(&AT_ONCE))?;
        } else {
            match wait {
                Wait::Never => self.poll(Some(&AT_ONCE))?,
                Wait::AtMost(limit) => {
                    self.poll(Some(&Timespec::try_from(limit).unwrap_or(AT_ONCE)))?;
                }
                Wait::Forever => self.poll(None)?,
            }
            self.work();
        }
        Ok(())
    }

    pub(super) fn reap(&mut self, into: &mut Vec<Completion>) {
        let count = self.completions.len().min(COMPLETIONS_PER_TURN_MAX);
        into.extend(self.completions.drain(..count));
    }

    /// Waits for edges and notes them.
    fn poll(&mut self, timeout: Option<&Timespec>) -> io::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let outcome = epoll::wait(&self.epoll, spare_capacity(&mut events), timeout);
        for event in &events {
            // Copied: the kernel's structure is packed.
            let (data, flags) = (event.data, event.flags);
            self.note(data.u64(), flags);
        }
        self.events = events;
        match outcome {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn note(&mut self, data: u64, flags: EventFlags) {
        let Some(token) = Token::decode(data) else {
            debug_assert!(false, "an event of nothing that was registered");
            return;
        };
        match token.operation {
            Operation::Wake => self.complete(token, Ok(0), true),
            Operation::Accept => {
                if let Some(listener) = place(&mut self.listeners, token.index) {
                    listener.readable = true;
                    self.queue_listener(token.index);
                }
            }
            Operation::Receive | Operation::Send | Operation::Cancel | Operation::File => {
                let socket = SocketId { index: token.index, generation: token.generation };
                let Some(watched) = self.watched(socket) else { return };
                let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
                watched.readable |= broken || flags.intersects(EventFlags::IN | EventFlags::RDHUP);
                watched.writable |= broken || flags.contains(EventFlags::OUT);
                self.queue_socket(token.index);
            }
        }
    }

    /// Works once on everything that is ready.
    fn work(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop_front() else { return };
            if token.operation == Operation::Accept {
                self.work_on_listener(token);
            } else {
                self.work_on_socket(token);
            }
        }
    }

    fn work_on_listener(&mut self, token: Token) {
        let Some(listener) = place(&mut self.listeners, token.index) else { return };
        listener.queued = false;
        for _ in 0..ACCEPTS_PER_VISIT_MAX {
            // SAFETY: listeners stay open as long as this value.
            let fd = unsafe { BorrowedFd::borrow_raw(listener.fd) };
            let (result, more) = match rustix::net::accept_with(fd, SocketFlags::CLOEXEC) {
                Ok(fd) => (Ok(u32::try_from(fd.into_raw_fd()).unwrap_or(u32::MAX)), true),
                Err(Errno::AGAIN) => {
                    listener.readable = false;
                    return;
                }
                Err(Errno::INTR) => continue,
                Err(error) => {
                    listener.armed = false;
                    (Err(error), false)
                }
            };
            self.completions.push_back(Completion { token, result, more, buffer: None });
            if !more {
                return;
            }
        }
        self.queue_listener(token.index);
    }

    fn work_on_socket(&mut self, token: Token) {
        let socket = SocketId { index: token.index, generation: token.generation };
        let Some(watched) = self.watched(socket) else { return };
        watched.queued = false;
        if watched.writable
            && let Some(header) = watched.send
        {
            match send_some(watched.fd, header) {
                Err(Errno::AGAIN) => watched.writable = false,
                Err(Errno::INTR) => {}
                outcome => {
                    watched.send = None;
                    self.complete(Token::of(Operation::Send, socket), outcome, false);
                }
            }
        }
        for _ in 0..RECEIVES_PER_VISIT_MAX {
            if !self.receive_some(socket) {
                break;
            }
        }
        self.queue_socket(socket.index);
    }

    /// Fills one buffer. Whether to try for the next one.
    fn receive_some(&mut self, socket: SocketId) -> bool {
        let Some(Some(watched)) = place(&mut self.sockets, socket.index) else { return false };
        let Some(shots) = watched.receive.filter(|_| watched.readable) else { return false };
        // SAFETY: a watched socket stays open until it is forgotten.
        let fd = unsafe { BorrowedFd::borrow_raw(watched.fd) };
        let filled =
            self.buffers.fill(|bytes| rustix::net::recv(fd, bytes, RecvFlags::DONTWAIT).map(|(_, len)| len));
        let (result, buffer) = match filled {
            Some(Ok((id, len))) => (Ok(u32::try_from(len).unwrap_or(u32::MAX)), (len > 0).then_some(id)),
            Some(Err(Errno::INTR)) => return true,
            Some(Err(Errno::AGAIN)) => {
                watched.readable = false;
                return false;
            }
            Some(Err(error)) => (Err(error), None),
            None => (Err(Errno::NOBUFS), None),
        };
        let more = buffer.is_some() && shots == Shots::Many;
        if !more {
            watched.receive = None;
        }
        let token = Token::of(Operation::Receive, socket);
        self.completions.push_back(Completion { token, result, more, buffer });
        more
    }

    /// The socket's place, made and registered if it is new.
    fn watch(&mut self, socket: SocketId, fd: BorrowedFd<'_>) -> Result<&mut Watched, Errno> {
        let at = usize::try_from(socket.index).map_err(|_| Errno::INVAL)?;
        if at >= self.sockets.len() {
            self.sockets.resize_with(at + 1, || None);
        }
        if self.watched(socket).is_none() {
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP;
            self.register(fd, Token::of(Operation::Receive, socket), flags)?;
        }
        let place = self.sockets.get_mut(at).ok_or(Errno::INVAL)?;
        // Not known to be unready: the first call finds out.
        Ok(place.get_or_insert_with(|| Watched {
            generation: socket.generation,
            fd: fd.as_raw_fd(),
            receive: None,
            send: None,
            readable: true,
            writable: true,
            queued: false,
        }))
    }

    fn watched(&mut self, socket: SocketId) -> Option<&mut Watched> {
        let watched = place(&mut self.sockets, socket.index)?.as_mut()?;
        (watched.generation == socket.generation).then_some(watched)
    }

    fn register(&self, fd: BorrowedFd<'_>, token: Token, flags: EventFlags) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token.encode()), flags | EventFlags::ET)
    }

    fn queue_listener(&mut self, index: u32) {
        if let Some(listener) = place(&mut self.listeners, index)
            && listener.armed
            && listener.readable
            && !listener.queued
        {
            listener.queued = true;
            self.ready.push_back(Token { operation: Operation::Accept, index, generation: 0 });
        }
    }

    fn queue_socket(&mut self, index: u32) {
        if let Some(Some(watched)) = place(&mut self.sockets, index)
            && watched.has_work()
            && !watched.queued
        {
            watched.queued = true;
            let token = Token { operation: Operation::Receive, index, generation: watched.generation };
            self.ready.push_back(token);
        }
    }

    fn complete(&mut self, token: Token, result: Result<u32, Errno>, more: bool) {
        self.completions.push_back(Completion { token, result, more, buffer: None });
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        for completion in &self.completions {
            if completion.token.operation == Operation::Accept
                && let Some(fd) = completion.result.ok().and_then(|fd| RawFd::try_from(fd).ok())
            {
                // SAFETY: accepted for this completion, which nobody has taken.
                drop(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
}

fn place<T>(table: &mut [T], index: u32) -> Option<&mut T> {
    table.get_mut(usize::try_from(index).ok()?)
}

fn send_some(fd: RawFd, header: *const msghdr) -> Result<u32, Errno> {
    // SAFETY: the header and all it points to are valid until the send's completion (see `Poller::send`), and the socket
    // is open until it is forgotten.
    let sent = unsafe { libc::sendmsg(fd, header, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) };
    match u32::try_from(sent) {
        Ok(sent) => Ok(sent),
        Err(_) => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

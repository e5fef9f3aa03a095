//! The seam between the reactor and the kernel's way of doing I/O: requests go in, completions come out, in the shape of
//! io_uring. Where io_uring is refused, [`Poller`] does the same by readiness.
//!
//! What both promise: a request's completions come in order, the last one without `more`; none comes from within a call
//! that makes a request; and a socket's bytes are taken only while a receive of it is armed.

mod epoll;
mod uring;

use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Duration;

use libc::msghdr;
use rustix::io::Errno;

use crate::buffers::BufferPool;
use crate::socket::SocketId;
use epoll::Poller;
use uring::Ring;

/// Completions taken in one turn, so that mail and deadlines get their share under load.
pub(crate) const COMPLETIONS_PER_TURN_MAX: usize = 256;

/// Bits of a token that hold the index of a socket or listener.
const INDEX_BITS: u32 = 24;

/// Indices (of sockets, of listeners, of requests of files) stay below this.
pub(crate) const INDEX_MAX: u32 = 1 << INDEX_BITS;

/// By which interface a reactor asks the kernel for I/O.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// io_uring, or epoll where that is refused.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll: one more system call per receive and send.
    Epoll,
}

/// What a reactor uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoKind {
    /// io_uring.
    Uring,
    /// epoll.
    Epoll,
}

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Accepts of a listener, one after the other.
    Accept,
    /// Receives of a socket.
    Receive,
    /// The one gathered send of a socket.
    Send,
    /// Cancellation of one of the above.
    Cancel,
    /// The watch over the descriptor by which other threads wake this one.
    Wake,
    /// A step of a request of a file.
    File,
}

/// Names a request in its completions: what it was for, and which slot in which of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) operation: Operation,
    /// Below [`INDEX_MAX`].
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Token {
    pub(crate) fn of(operation: Operation, socket: SocketId) -> Token {
        Token { operation, index: socket.index, generation: socket.generation }
    }

    fn encode(self) -> u64 {
        let operation: u64 = match self.operation {
            Operation::Accept => 1,
            Operation::Receive => 2,
            Operation::Send => 3,
            Operation::Cancel => 4,
            Operation::Wake => 5,
            Operation::File => 6,
        };
        debug_assert!(self.index < INDEX_MAX, "an index outgrew its bits");
        (operation << 56) | (u64::from(self.index) << 32) | u64::from(self.generation)
    }

    fn decode(user_data: u64) -> Option<Token> {
        let [g0, g1, g2, g3, i0, i1, i2, operation] = user_data.to_le_bytes();
        let operation = match operation {
            1 => Operation::Accept,
            2 => Operation::Receive,
            3 => Operation::Send,
            4 => Operation::Cancel,
            5 => Operation::Wake,
            6 => Operation::File,
            _ => return None,
        };
        let index = u32::from_le_bytes([i0, i1, i2, 0]);
        let generation = u32::from_le_bytes([g0, g1, g2, g3]);
        Some(Token { operation, index, generation })
    }
}

/// One completion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) token: Token,
    /// Bytes or descriptor, or the error.
    pub(crate) result: Result<u32, Errno>,
    /// More completions of the same request will follow.
    pub(crate) more: bool,
    /// The receive buffer that was filled; it must be given back.
    pub(crate) buffer: Option<u16>,
}

/// How much a receive may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shots {
    /// One buffer.
    One,
    /// Buffer after buffer.
    Many,
}

/// How long an enter may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all.
    Never,
    /// Until a completion, or until the time is over.
    AtMost(Duration),
    /// Until a completion.
    Forever,
}

/// Why there is no backend.
#[derive(Debug)]
pub(crate) enum BackendError {
    /// The kernel refuses io_uring.
    Uring(io::Error),
    /// The kernel refuses epoll.
    Epoll(io::Error),
    /// The buffers could not be mapped.
    Buffers(io::Error),
}

/// A way of doing I/O.
pub(crate) enum Backend {
    Uring(Ring),
    Epoll(Poller),
}

impl Backend {
    /// The backend that `choice` asks for, with `receive_buffers` buffers; and, if that is epoll in place of io_uring, the
    /// error that io_uring was refused with.
    pub(crate) fn new(
        choice: IoChoice,
        receive_buffers: u16,
    ) -> Result<(Backend, Option<io::Error>), BackendError> {
        let epoll = || {
            let buffers = BufferPool::for_poller(receive_buffers).map_err(BackendError::Buffers)?;
            Ok(Backend::Epoll(Poller::new(buffers).map_err(BackendError::Epoll)?))
        };
        if choice == IoChoice::Epoll {
            return Ok((epoll()?, None));
        }
        let buffers = BufferPool::for_ring(receive_buffers).map_err(BackendError::Buffers)?;
        match Ring::new(buffers) {
            Ok(ring) => Ok((Backend::Uring(ring), None)),
            Err(error) if choice == IoChoice::Auto && is_refusal(&error) => Ok((epoll()?, Some(error))),
            Err(error) => Err(BackendError::Uring(error)),
        }
    }

    pub(crate) fn kind(&self) -> IoKind {
        match self {
            Backend::Uring(_) => IoKind::Uring,
            Backend::Epoll(_) => IoKind::Epoll,
        }
    }

    pub(crate) fn buffers(&self) -> &Rc<BufferPool> {
        match self {
            Backend::Uring(ring) => ring.buffers(),
            Backend::Epoll(poller) => poller.buffers(),
        }
    }

    /// The ring, which carries out requests of files as well; epoll knows nothing of files.
    pub(crate) fn ring(&mut self) -> Option<&mut Ring> {
        match self {
            Backend::Uring(ring) => Some(ring),
            Backend::Epoll(_) => None,
        }
    }

    /// Receive buffers that can be filled now.
    pub(crate) fn available_buffers(&mut self) -> usize {
        match self {
            Backend::Uring(ring) => ring.available_buffers(),
            Backend::Epoll(poller) => poller.buffers().free_count(),
        }
    }

    /// Takes the next listener in; it stays open as long as the backend.
    pub(crate) fn add_listener(&mut self, listener: BorrowedFd<'_>) -> io::Result<()> {
        match self {
            Backend::Uring(_) => Ok(()),
            Backend::Epoll(poller) => poller.add_listener(listener),
        }
    }

    /// Accepts from listener `index` until its last completion.
    pub(crate) fn accept(&mut self, index: u32, listener: BorrowedFd<'_>) {
        match self {
            Backend::Uring(ring) => ring.accept(index, listener),
            Backend::Epoll(poller) => poller.accept(index),
        }
    }

    /// Completes whenever the eventfd is written to, until the last completion. It stays open as long as
    /// the backend.
    pub(crate) fn watch_wake(&mut self, eventfd: BorrowedFd<'_>) {
        match self {
            Backend::Uring(ring) => ring.watch_wake(eventfd),
            Backend::Epoll(poller) => poller.watch_wake(eventfd),
        }
    }

    /// Receives into buffers until the last completion. The socket stays open until [`Backend::forget`].
    pub(crate) fn receive(&mut self, socket: SocketId, fd: BorrowedFd<'_>, shots: Shots) {
        match self {
            Backend::Uring(ring) => ring.receive(socket, fd, shots),
            Backend::Epoll(poller) => poller.receive(socket, fd, shots),
        }
    }

    /// Sends what `header` describes, or a part of it. The socket stays open until [`Backend::forget`].
    ///
    /// # Safety
    ///
    /// The header and all that it points to stay valid and unchanged until the send's completion was taken, or
    /// [`Backend::drain`] has succeeded.
    pub(crate) unsafe fn send(&mut self, socket: SocketId, fd: BorrowedFd<'_>, header: *const msghdr) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Backend::Uring(ring) => ring.send(socket, fd, header),
                Backend::Epoll(poller) => poller.send(socket, fd, header),
            }
        }
    }

    /// Ends a socket's receive or send: its last completion follows. If it cannot be found, because it is just ending or
    /// being worked on, an unsuccessful completion of a [`Operation::Cancel`] tells.
    pub(crate) fn cancel(&mut self, operation: Operation, socket: SocketId) {
        match self {
            Backend::Uring(ring) => ring.cancel(operation, socket),
            Backend::Epoll(poller) => poller.cancel(operation, socket),
        }
    }

    /// The socket, of which nothing is armed or in flight, is about to be closed.
    pub(crate) fn forget(&mut self, socket: SocketId, fd: BorrowedFd<'_>) {
        match self {
            Backend::Uring(_) => {}
            Backend::Epoll(poller) => poller.forget(socket, fd),
        }
    }

    /// Whether completions can be taken.
    pub(crate) fn has_completions(&mut self) -> bool {
        match self {
            Backend::Uring(ring) => ring.has_completions(),
            Backend::Epoll(poller) => poller.has_completions(),
        }
    }

    /// Whether there are requests to hand in, or the kernel is known to have work for an enter.
    pub(crate) fn wants_enter(&mut self) -> bool {
        match self {
            Backend::Uring(ring) => ring.wants_enter(),
            Backend::Epoll(poller) => poller.wants_enter(),
        }
    }

    /// Looks whether an enter would find anything: cheap with a ring, whose flags are in memory; a system call with epoll.
    pub(crate) fn has_news(&mut self) -> io::Result<bool> {
        match self {
            Backend::Uring(ring) => Ok(ring.has_completions() || ring.wants_enter()),
            Backend::Epoll(poller) => poller.has_news(),
        }
    }

    /// Hands in what was asked for, and waits for a completion as told. Interruptions, time-outs and passing shortages
    /// are not errors: the next turn tries again.
    pub(crate) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        match self {
            Backend::Uring(ring) => {
                if wait == Wait::Never && !ring.wants_enter() {
                    return Ok(());
                }
                ring.enter(wait)
            }
            Backend::Epoll(poller) => poller.enter(wait),
        }
    }

    /// Takes up to [`COMPLETIONS_PER_TURN_MAX`] completions.
    pub(crate) fn reap(&mut self, into: &mut Vec<Completion>) {
        match self {
            Backend::Uring(ring) => ring.reap(into),
            Backend::Epoll(poller) => poller.reap(into),
        }
    }

    /// The end: cancels everything and waits for it. Whether the kernel has let go of all memory.
    pub(crate) fn drain(&mut self) -> bool {
        match self {
            Backend::Uring(ring) => ring.drain(),
            Backend::Epoll(_) => true,
        }
    }
}

/// Whether an error of io_uring's set-up says that this kernel or sandbox does not offer it as needed; others (no
/// descriptors left, say) concern epoll as well.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOSYS | Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOMEM)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_survives_the_kernel() {
        let operations = [
            Operation::Accept,
            Operation::Receive,
            Operation::Send,
            Operation::Cancel,
            Operation::Wake,
            Operation::File,
        ];
        for operation in operations {
            for (index, generation) in [(0, 0), (INDEX_MAX - 1, u32::MAX), (77, 3)] {
                let token = Token { operation, index, generation };
                assert_eq!(Token::decode(token.encode()), Some(token));
            }
        }
    }

    #[test]
    fn unknown_user_data_is_no_token() {
        assert_eq!(Token::decode(0), None);
        assert_eq!(Token::decode(u64::MAX), None);
    }

    #[test]
    fn a_lack_of_descriptors_is_no_refusal() {
        assert!(is_refusal(&io::Error::from(Errno::NOSYS)));
        assert!(is_refusal(&io::Error::from(Errno::PERM)));
        assert!(!is_refusal(&io::Error::from(Errno::MFILE)));
    }
}

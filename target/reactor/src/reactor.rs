//! The loop: completions, mail, deadlines, the service's turn, one enter; and between turns either a short spin or sleep. A
//! reactor spins for some microseconds after its last activity; then it sleeps in the ring until a completion, a message or
//! the nearest deadline.

use std::cell::Cell;
use std::io as std_io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::backend::{
    Backend, BackendError, COMPLETIONS_PER_TURN_MAX, Completion, INDEX_MAX, IoChoice, IoKind, Operation,
    Token, Wait,
};
use crate::buffers::{RECEIVE_BUFFERS_DEFAULT, Received};
use crate::clock::{NS_PER_MS, monotonic_ns};
use crate::file::{FileError, FileId};
use crate::io::{Io, is_passing};
use crate::mailbox::{Inboxes, MAIL_PER_TURN_MAX, MailSender};
use crate::pace::Pace;
use crate::send::SendBatch;
use crate::socket::{CloseReason, Phase, SocketId};

/// Sockets of one reactor unless configured otherwise: a thousand hosts with a few queues each.
const SOCKETS_DEFAULT: u32 = 4096;

/// Spin time unless configured otherwise: cuts the latency at depth 1 to about a quarter of what sleeping at once gives.
const SPIN_US_DEFAULT: u32 = 50;

/// Connections that may wait to be accepted: a burst of hundreds would otherwise fill the queue, and whoever finds it full
/// tries again after a second. The kernel caps it at net.core.somaxconn, 4096 by default.
const BACKLOG: i32 = 4096;

/// Pause before accepting again after the process ran out of descriptors or memory.
const ACCEPT_RETRY_MS: u64 = 100;

/// Requests of files whose end one turn takes. A disk completes many at once and is idle until it has new ones: so the first of
/// them lead to new requests while the others are looked at.
const FILES_PER_TURN: usize = 4;

/// How long one enter waits for the last completions of a reactor that ends.
const STOP_WAIT: Duration = Duration::from_millis(100);

/// What a reactor drives. All calls come from the reactor's thread, one at a time.
pub trait Service {
    /// What other threads send.
    type Message: Send;

    /// A connection has come to listener `listener`. What is returned is served here; a service that returns
    /// `None` has taken the connection, to mail it to another reactor, which calls [`Io::adopt`]: so connections are
    /// spread over cores.
    fn offered(&mut self, _io: &mut Io, _listener: u32, stream: TcpStream) -> Option<TcpStream> {
        Some(stream)
    }

    /// A connection was accepted by listener `listener` (as numbered by [`Reactor::add_listener`]). `local` is the
    /// address that the peer connected to.
    fn accepted(&mut self, io: &mut Io, listener: u32, socket: SocketId, peer: SocketAddr, local: SocketAddr);

    /// The next bytes of a socket's stream, at least one. They are the service's, which may keep them over turns, even
    /// beyond the socket's `closed`; dropping them gives the buffer back.
    fn received(&mut self, io: &mut Io, socket: SocketId, bytes: Received);

    /// A whole batch given to [`Io::send`] is out (in the socket's buffer). It comes back as it was, for reuse.
    fn sent(&mut self, io: &mut Io, socket: SocketId, batch: SendBatch);

    /// A socket is gone: called exactly once for each accepted one, when the kernel refers to nothing of it any more. The
    /// batch is the one that was not out yet.
    fn closed(&mut self, io: &mut Io, socket: SocketId, reason: CloseReason, batch: Option<SendBatch>);

    /// A request of a file is over: called exactly once for each that was not refused. `user` is what it was given.
    fn file_done(&mut self, _io: &mut Io, _file: FileId, _user: u64, _result: Result<(), FileError>) {}

    /// A file is closed: called exactly once for each, after the last of its requests was reported. The reactor refers to
    /// nothing of it any more.
    fn file_closed(&mut self, _io: &mut Io, _file: FileId) {}

    /// A message of another thread.
    fn message(&mut self, io: &mut Io, message: Self::Message);

    /// Once per loop turn in which anything was delivered, after all of it: responses gathered in this turn leave here.
    fn turn(&mut self, io: &mut Io);

    /// When `tick` is due, in milliseconds as [`Io::now_ms`]. Asked once per turn. A time that has come (0, say) means
    /// the next turn, without sleep: so a service can do long work in slices.
    fn deadline_ms(&self) -> Option<u64>;

    /// The deadline has come. A service that leaves it in the past is called again in the next turn.
    fn tick(&mut self, io: &mut Io);

    /// `false` ends the reactor: all sockets and files are closed, `closed` and `file_closed` are called for each.
    fn keep_running(&self) -> bool;
}

/// Sizes of a reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReactorConfig {
    /// Sockets at one time, at most 2^24; further connections are accepted and closed at once.
    pub sockets_max: u32,
    /// Receive buffers of 32 KiB: a power of two, at most 32768. All sockets share them: it is the most that a service can
    /// have kept of [`Received`], and what may still be delivered of a socket after [`Io::pause_receive`]. While none is
    /// left, peers wait; as buffers come back, waiting sockets get one each, in turn.
    pub receive_buffers: u16,
    /// How long to spin after the last activity before sleeping, in microseconds; 0 sleeps at once.
    pub spin_us: u32,
    /// By which interface it asks the kernel for I/O.
    pub io: IoChoice,
}

impl Default for ReactorConfig {
    fn default() -> Self {
        ReactorConfig {
            sockets_max: SOCKETS_DEFAULT,
            receive_buffers: RECEIVE_BUFFERS_DEFAULT,
            spin_us: SPIN_US_DEFAULT,
            io: IoChoice::Auto,
        }
    }
}

/// Why a reactor could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ReactorError {
    /// io_uring is missing, forbidden (a sandbox, `kernel.io_uring_disabled`), or older than Linux 6.1.
    #[error("this kernel refuses an io_uring as the reactor needs it (Linux 6.1 or later): {0}")]
    RingRefused(#[source] std_io::Error),
    /// epoll is refused, or it refuses a listener.
    #[error("this kernel refuses epoll: {0}")]
    PollRefused(#[source] std_io::Error),
    /// The receive buffers could not be mapped.
    #[error("receive buffers refused: {0}")]
    BuffersRefused(#[source] std_io::Error),
    /// More listeners than can be numbered.
    #[error("too many listeners")]
    TooManyListeners,
    /// A reactor is running on this thread.
    #[error("a reactor is running on this thread already")]
    Nested,
    /// The kernel's interface failed while running.
    #[error("I/O failed: {0}")]
    IoFailed(#[source] std_io::Error),
}

impl From<BackendError> for ReactorError {
    fn from(error: BackendError) -> ReactorError {
        match error {
            BackendError::Uring(error) => ReactorError::RingRefused(error),
            BackendError::Epoll(error) => ReactorError::PollRefused(error),
            BackendError::Buffers(error) => ReactorError::BuffersRefused(error),
        }
    }
}

/// A reactor with its ring, sockets, listeners and inboxes. It lives and dies on the thread that made it.
pub struct Reactor<M> {
    /// Dropped only once the kernel refers to none of its memory.
    core: ManuallyDrop<Core<M>>,
    /// Why it is not io_uring.
    refusal: Option<std_io::Error>,
    /// A ring takes submissions of one thread only.
    _thread: PhantomData<*mut ()>,
}

impl<M: Send> Reactor<M> {
    /// Makes the ring (or what stands in for it, see [`IoChoice`]) and its buffers for the calling thread, which must be the
    /// one that runs it.
    ///
    /// # Errors
    ///
    /// [`ReactorError::RingRefused`], [`ReactorError::PollRefused`], [`ReactorError::BuffersRefused`].
    pub fn new(config: ReactorConfig, inboxes: Inboxes<M>) -> Result<Reactor<M>, ReactorError> {
        let (backend, refusal) = Backend::new(config.io, config.receive_buffers)?;
        let core = Core {
            io: Io::new(backend, config.sockets_max, inboxes.wake()),
            inboxes,
            listeners: Vec::new(),
            completions: Vec::with_capacity(COMPLETIONS_PER_TURN_MAX),
            wake_armed: false,
            pace: Pace::new(u64::from(config.spin_us).saturating_mul(1_000)),
        };
        Ok(Reactor { core: ManuallyDrop::new(core), refusal, _thread: PhantomData })
    }

    /// By which interface this reactor does its I/O.
    pub fn io_kind(&self) -> IoKind {
        self.core.io.backend.kind()
    }

    /// The error that io_uring was refused with, if this reactor uses epoll for that reason.
    pub fn uring_refusal(&self) -> Option<&std_io::Error> {
        self.refusal.as_ref()
    }

    /// Adds an inbox for at most `capacity` messages; see [`Inboxes::add`].
    pub fn add_inbox(&mut self, capacity: usize) -> MailSender<M> {
        self.core.inboxes.add(capacity)
    }

    /// Accepts from `listener` once running. Listeners are numbered from 0 in the order of these calls.
    ///
    /// # Errors
    ///
    /// [`ReactorError::TooManyListeners`], [`ReactorError::PollRefused`].
    pub fn add_listener(&mut self, listener: TcpListener) -> Result<u32, ReactorError> {
        let number = u32::try_from(self.core.listeners.len()).unwrap_or(u32::MAX);
        if number >= INDEX_MAX {
            return Err(ReactorError::TooManyListeners);
        }
        // It listens already, so this sets the length of its queue. If that fails the queue stays as it is, which serves too.
        let _set = rustix::net::listen(&listener, BACKLOG);
        self.core.io.backend.add_listener(listener.as_fd()).map_err(ReactorError::PollRefused)?;
        self.core.listeners.push(Listener { fd: listener.into(), armed: false, retry_ms: 0 });
        Ok(number)
    }

    /// Runs until the service wants no more, then closes every socket (and says so to the service).
    ///
    /// # Errors
    ///
    /// [`ReactorError::IoFailed`]: the sockets are closed, but the service is not told.
    /// [`ReactorError::Nested`] within a callback of another reactor.
    pub fn run<S: Service<Message = M>>(mut self, service: &mut S) -> Result<(), ReactorError> {
        let _running = OnlyOne::claim()?;
        let core = &mut *self.core;
        let mut active_ns = monotonic_ns();
        while service.keep_running() {
            core.io.read_clock();
            core.pace.turn(core.io.now_ns());
            if core.turn(service) {
                active_ns = core.io.now_ns();
                service.turn(&mut core.io);
                core.deliver_closed(service);
            }
            core.arm();
            let wait = core.wait_for(service, active_ns)?;
            core.enter(wait)?;
        }
        core.stop(service)
    }
}

impl<M> Drop for Reactor<M> {
    fn drop(&mut self) {
        if self.core.io.backend.drain() {
            // SAFETY: dropped once, here, and not used afterwards; the kernel refers to none of its memory.
            unsafe { ManuallyDrop::drop(&mut self.core) };
        }
    }
}

/// Restricts the calling thread to core `core` (numbered as the system numbers them).
///
/// # Errors
///
/// `InvalidInput` if there is no such core, or it is not one that this process may use.
pub fn pin_to_core(core: usize) -> std_io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(std_io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

thread_local! {
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, no other reactor runs on this thread: so that two [`Io`] are never in one hand, to be exchanged.
struct OnlyOne;

impl OnlyOne {
    fn claim() -> Result<OnlyOne, ReactorError> {
        if RUNNING.replace(true) { Err(ReactorError::Nested) } else { Ok(OnlyOne) }
    }
}

impl Drop for OnlyOne {
    fn drop(&mut self) {
        RUNNING.set(false);
    }
}

struct Listener {
    fd: OwnedFd,
    armed: bool,
    /// Not armed before this time.
    retry_ms: u64,
}

struct Core<M> {
    io: Io,
    inboxes: Inboxes<M>,
    listeners: Vec<Listener>,
    completions: Vec<Completion>,
    wake_armed: bool,
    pace: Pace,
}

impl<M> Core<M> {
    /// Arms what is not armed: listeners, the wake-up, and sockets for which there are buffers again.
    fn arm(&mut self) {
        self.io.feed_starved();
        let now_ms = self.io.now_ms();
        for (index, listener) in (0_u32..).zip(&mut self.listeners) {
            if listener.armed || listener.retry_ms > now_ms {
                continue;
            }
            listener.armed = true;
            self.io.backend.accept(index, listener.fd.as_fd());
        }
        self.arm_wake();
    }

    fn arm_wake(&mut self) {
        if !self.wake_armed {
            self.wake_armed = true;
            self.io.backend.watch_wake(self.inboxes.wake_fd());
        }
    }

    /// Delivers what is there, or of files some. Whether anything was.
    fn turn<S: Service<Message = M>>(&mut self, service: &mut S) -> bool {
        let mut active = self.deliver_completions(service);
        active |= self.io.deliver_from_threads(service);
        active |= self.deliver_mail(service);
        if service.deadline_ms().is_some_and(|deadline_ms| deadline_ms <= self.io.now_ms()) {
            service.tick(&mut self.io);
            active = true;
        }
        self.io.expire_lingering();
        active |= !self.io.finished.is_empty() || self.io.files.has_news();
        self.deliver_closed(service);
        active
    }

    fn deliver_completions<S: Service>(&mut self, service: &mut S) -> bool {
        let mut completions = std::mem::take(&mut self.completions);
        self.io.backend.reap(&mut completions);
        let active = !completions.is_empty();
        let mut of_files = 0;
        let in_turn = |completion: &&Completion| {
            of_files += usize::from(completion.token.operation == Operation::File);
            of_files <= FILES_PER_TURN
        };
        let count = completions.iter().take_while(in_turn).count();
        for completion in completions.drain(..count) {
            let Token { operation, index, generation } = completion.token;
            let socket = SocketId { index, generation };
            match operation {
                Operation::Accept => self.on_accept(service, index, completion),
                Operation::Receive => self.io.on_receive(service, socket, completion),
                Operation::Send => self.on_send(service, socket, completion.result),
                Operation::Cancel if completion.result.is_err() => self.io.cancel_missed(socket),
                Operation::Cancel => {}
                Operation::Wake => self.wake_armed = completion.more,
                Operation::File => self.io.on_file(service, completion),
            }
        }
        self.completions = completions;
        active
    }

    fn deliver_mail<S: Service<Message = M>>(&mut self, service: &mut S) -> bool {
        let mut active = false;
        for index in 0..self.inboxes.count() {
            for _ in 0..MAIL_PER_TURN_MAX {
                let Some(message) = self.inboxes.take(index) else { break };
                service.message(&mut self.io, message);
                active = true;
            }
        }
        active
    }

    fn deliver_closed<S: Service>(&mut self, service: &mut S) {
        self.io.deliver_closed_files(service);
        while let Some(socket) = self.io.finished.pop() {
            let batch = self.io.take_batch(socket);
            if let Some(found) = self.io.sockets.get(socket) {
                self.io.backend.forget(socket, found.fd.as_fd());
            }
            let Some(removed) = self.io.sockets.remove(socket) else { continue };
            let reason = match removed.phase {
                Phase::Closing { reason } => reason,
                Phase::Open | Phase::Lingering { .. } => CloseReason::Local,
            };
            drop(removed);
            service.closed(&mut self.io, socket, reason, batch);
        }
    }

    fn on_accept<S: Service>(&mut self, service: &mut S, index: u32, completion: Completion) {
        let Some(listener) = usize::try_from(index).ok().and_then(|at| self.listeners.get_mut(at)) else {
            return;
        };
        if !completion.more {
            listener.armed = false;
        }
        let fd = match completion.result.map(RawFd::try_from) {
            // SAFETY: the kernel has just made this descriptor for this completion; nobody else knows it.
            Ok(Ok(fd)) => unsafe { OwnedFd::from_raw_fd(fd) },
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                listener.retry_ms = self.io.now_ms().saturating_add(ACCEPT_RETRY_MS);
                return;
            }
            // The connection was gone before it was accepted, or the accept was cancelled.
            Ok(Err(_)) | Err(_) => return,
        };
        if self.io.stopping {
            return;
        }
        let stream = TcpStream::from(fd);
        let prepared =
            stream.set_nodelay(true).and_then(|()| Ok((stream.peer_addr()?, stream.local_addr()?)));
        // A connection that was reset already has no addresses; dropping the stream closes it.
        let Ok((peer, local)) = prepared else { return };
        if let Some(stream) = service.offered(&mut self.io, index, stream)
            && let Some(socket) = self.io.adopt(stream)
        {
            service.accepted(&mut self.io, index, socket, peer, local);
        }
    }

    fn on_send<S: Service>(&mut self, service: &mut S, socket: SocketId, result: Result<u32, Errno>) {
        let Some(found) = self.io.sockets.get(socket) else { return };
        found.sending = false;
        let closing = matches!(found.phase, Phase::Closing { .. });
        let out = match result {
            Ok(bytes) => self.io.note_sent(socket, bytes),
            Err(_) => false,
        };
        if closing {
            self.io.finish_if_quiet(socket);
        } else if out {
            if let Some(batch) = self.io.take_batch(socket) {
                // First the shutdown: the service may give the socket nothing new while it lingers.
                self.io.shut_down_if_sent(socket);
                service.sent(&mut self.io, socket, batch);
            }
        } else {
            match result {
                Ok(0) => self.io.begin_close(socket, CloseReason::Failed(libc::EPIPE)),
                Ok(_) | Err(Errno::NOBUFS) => self.io.submit_send(socket),
                Err(error) if is_passing(error) => self.io.submit_send(socket),
                Err(error) => self.io.begin_close(socket, CloseReason::Failed(error.raw_os_error())),
            }
        }
    }

    /// How long the enter at the end of this turn may block. Spins first: only a reactor without activity for the spin
    /// time may sleep.
    fn wait_for<S: Service>(&mut self, service: &S, active_ns: u64) -> Result<Wait, ReactorError> {
        let backend = &mut self.io.backend;
        let news = !self.completions.is_empty()
            || backend.has_completions()
            || !self.io.finished.is_empty()
            || self.io.files.has_news();
        if !service.keep_running() || news {
            return Ok(Wait::Never);
        }
        if backend.wants_enter() {
            return Ok(Wait::Never);
        }
        let retry_ms = self.listeners.iter().filter(|listener| !listener.armed).map(|l| l.retry_ms).min();
        let deadlines = [service.deadline_ms(), self.io.linger_deadline_ms(), retry_ms];
        let deadline_ns = deadlines.into_iter().flatten().min().map(|ms| ms.saturating_mul(NS_PER_MS));
        let files = self.io.files.under_way();
        let spin_ns = self.pace.spin_ns(files);
        let spin_until_ns = active_ns.saturating_add(spin_ns).min(deadline_ns.unwrap_or(u64::MAX));
        let mut now_ns = self.io.now_ns();
        while now_ns < spin_until_ns {
            let news = !self.inboxes.all_empty() || self.io.files.has_news();
            if news || self.io.backend.has_news().map_err(ReactorError::IoFailed)? {
                return Ok(Wait::Never);
            }
            std::hint::spin_loop();
            now_ns = monotonic_ns();
        }
        self.pace.sleep(files, now_ns);
        Ok(match deadline_ns.map(|deadline_ns| deadline_ns.saturating_sub(now_ns)) {
            Some(0) => Wait::Never,
            Some(rest_ns) => Wait::AtMost(Duration::from_nanos(rest_ns)),
            None => Wait::Forever,
        })
    }

    fn enter(&mut self, wait: Wait) -> Result<(), ReactorError> {
        let sleeps = wait != Wait::Never;
        if sleeps && !self.prepare_sleep() {
            return Ok(());
        }
        let entered = self.io.backend.enter(wait);
        if sleeps {
            self.inboxes.awake();
        }
        entered.map_err(ReactorError::IoFailed)
    }

    /// Announces sleep. `false` if another thread has something for this one.
    fn prepare_sleep(&self) -> bool {
        if !self.inboxes.prepare_sleep() {
            return false;
        }
        if self.io.files.has_news() {
            self.inboxes.awake();
            return false;
        }
        true
    }

    /// The end: closes everything and tells the service. Requests of files are waited for: they cannot be taken back.
    fn stop<S: Service>(&mut self, service: &mut S) -> Result<(), ReactorError> {
        self.io.stopping = true;
        for socket in self.io.sockets.ids() {
            self.io.begin_close(socket, CloseReason::Stopped);
        }
        for file in self.io.files.ids() {
            self.io.close_file(file);
        }
        self.deliver_closed(service);
        while self.io.sockets.open_count() > 0 || self.io.files.open_count() > 0 {
            self.arm_wake();
            let idle = self.completions.is_empty() && self.prepare_sleep();
            let wait = if idle { Wait::AtMost(STOP_WAIT) } else { Wait::Never };
            let entered = self.io.backend.enter(wait);
            self.inboxes.awake();
            entered.map_err(ReactorError::IoFailed)?;
            self.deliver_completions(service);
            self.io.deliver_from_threads(service);
            self.deliver_closed(service);
        }
        Ok(())
    }
}

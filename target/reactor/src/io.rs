//! What a service can do: send, close, register memory, read the clock. Everything is queued and leaves with the turn's
//! one system call, except [`Io::send_now`].

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::Shutdown;

use crate::backend::{Backend, Operation};
use crate::clock::{NS_PER_MS, monotonic_ns};
use crate::file::FileTable;
use crate::mailbox::Wake;
use crate::mapping::Region;
use crate::regions::{RegionId, RegionTable};
use crate::send::SendBatch;
use crate::socket::{CloseReason, Phase, Socket, SocketId, SocketTable};

/// How long a socket may linger after [`Io::shutdown_after_send`] until the peer has taken our last bytes and closed.
const LINGER_MS_MAX: u64 = 5_000;

/// Input that a lingering socket discards at most: what honest peers may have on the way.
const LINGER_DISCARD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Sockets that linger at most, with those that stopped early counted for the rest of their time; a further one is closed
/// at once. Honest peers end a connection this way rarely.
const LINGERING_MAX: usize = 65_536;

/// Why a send was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusalReason {
    /// A batch is in flight; there is one at a time.
    #[error("a batch is in flight on this socket")]
    Busy,
    /// The socket is closed, closing or shutting down.
    #[error("the socket is gone")]
    Gone,
    /// A region segment is not inside its region, or the region was unregistered.
    #[error("a segment lies outside its region")]
    BadRegion,
    /// There is nothing to send.
    #[error("the batch is empty")]
    Empty,
}

/// A refused batch, unchanged, and why.
#[derive(Debug, thiserror::Error)]
#[error("send refused: {reason}")]
pub struct Refused {
    /// The batch, for later or for reuse.
    pub batch: SendBatch,
    /// Why it was refused.
    pub reason: RefusalReason,
}

/// What became of an immediate send.
#[derive(Debug)]
#[must_use]
pub enum SendProgress {
    /// All of it is out: the batch comes back as it was, for reuse, and the socket takes the next one at once.
    Out(SendBatch),
    /// The socket's buffer is full: the rest is in flight, and `sent` will follow.
    InFlight,
}

/// The service's side of a reactor.
pub struct Io {
    pub(crate) backend: Backend,
    pub(crate) sockets: SocketTable,
    /// Sockets that found no receive buffer, in the order in which they get the next ones.
    pub(crate) starved: VecDeque<SocketId>,
    pub(crate) regions: RegionTable,
    pub(crate) files: FileTable,
    /// Closing sockets that the kernel has let go of: `closed` is due.
    pub(crate) finished: Vec<SocketId>,
    /// Lingering sockets in the order of their deadlines (all wait equally long).
    lingering: VecDeque<(u64, SocketId)>,
    now_ns: u64,
    /// The reactor is ending: nobody is taken in any more.
    pub(crate) stopping: bool,
    /// Not to leave the backend's thread.
    _thread: PhantomData<*mut ()>,
}

impl Io {
    pub(crate) fn new(backend: Backend, sockets_max: u32, wake: Arc<Wake>) -> Io {
        Io {
            backend,
            sockets: SocketTable::new(sockets_max),
            starved: VecDeque::new(),
            regions: RegionTable::default(),
            files: FileTable::new(wake),
            finished: Vec::new(),
            lingering: VecDeque::new(),
            now_ns: monotonic_ns(),
            stopping: false,
            _thread: PhantomData,
        }
    }

    /// Milliseconds of the monotonic clock at the beginning of this turn.
    pub fn now_ms(&self) -> u64 {
        self.now_ns / NS_PER_MS
    }

    /// Microseconds of the same clock, at the beginning of this turn.
    pub fn now_us(&self) -> u64 {
        self.now_ns / 1_000
    }

    /// Sockets that are not closed yet.
    pub fn open_sockets(&self) -> usize {
        self.sockets.open_count()
    }

    /// Sends a batch with the turn's system call; `sent` hands it back when all of it is out. One batch is in flight per
    /// socket.
    pub fn send(&mut self, socket: SocketId, batch: SendBatch) -> Result<(), Refused> {
        self.accept_batch(socket, batch)?;
        self.submit_send(socket);
        Ok(())
    }

    /// Sends a batch at once, by a system call of its own, as far as the socket takes it without waiting; the rest is
    /// sent as by [`Io::send`]. For a service that has gathered enough responses in the middle of a turn, so that the
    /// peer works while the turn goes on.
    pub fn send_now(&mut self, socket: SocketId, batch: SendBatch) -> Result<SendProgress, Refused> {
        self.accept_batch(socket, batch)?;
        if self.send_directly(socket)
            && let Some(batch) = self.take_batch(socket)
        {
            return Ok(SendProgress::Out(batch));
        }
        self.submit_send(socket);
        Ok(SendProgress::InFlight)
    }

    /// Closes a socket now: what is in flight is cancelled, input is no longer delivered, and `closed` follows, never from
    /// within this call. Unknown and closing sockets are left alone.
    pub fn close(&mut self, socket: SocketId) {
        self.begin_close(socket, CloseReason::Local);
    }

    /// Closes a socket so that the peer gets all that was sent: once the batch in flight is out (or now), our side is shut
    /// down, and input is discarded until the peer closes too, for at most 5 seconds and 64 MiB. `sent` and `closed` follow.
    pub fn shutdown_after_send(&mut self, socket: SocketId) {
        let deadline_ms = self.now_ms().saturating_add(LINGER_MS_MAX);
        let full = self.lingering.len() >= LINGERING_MAX;
        let Some(found) = self.sockets.get(socket) else { return };
        if found.phase != Phase::Open {
            return;
        }
        if full {
            self.begin_close(socket, CloseReason::Lingered);
            return;
        }
        found.phase = Phase::Lingering { discard_max: LINGER_DISCARD_BYTES_MAX };
        self.lingering.push_back((deadline_ms, socket));
        self.resume_receive(socket);
        self.shut_down_if_sent(socket);
    }

    /// Takes in a connection that another reactor accepted (see [`crate::Service::offered`]): it is served from now on,
    /// as if accepted here, without a call of `accepted`. `None` if there is no room, or the reactor is ending: it is
    /// closed at once.
    pub fn adopt(&mut self, stream: TcpStream) -> Option<SocketId> {
        if self.stopping {
            return None;
        }
        let socket = self.sockets.insert(Socket::new(stream.into())).ok()?;
        self.receive_on(socket);
        Some(socket)
    }

    /// Lets sends read from a mapping, and files read into it and be written from it.
    pub fn register_region(&mut self, region: Region) -> RegionId {
        self.regions.register(region)
    }

    /// Takes a region away: new sends and requests with it are refused, those in flight finish. Whether it existed.
    pub fn unregister_region(&mut self, region: RegionId) -> bool {
        self.regions.unregister(region)
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    pub(crate) fn read_clock(&mut self) {
        self.now_ns = monotonic_ns();
    }

    /// Queues what is left of the socket's batch.
    pub(crate) fn submit_send(&mut self, socket: SocketId) {
        let Some((found, outbound)) = self.sockets.get_with_outbound(socket) else { return };
        let Some(batch) = &found.batch else { return };
        let header = outbound.prepare(batch, &self.regions);
        if header.is_null() {
            self.begin_close(socket, CloseReason::Failed(libc::EFAULT));
            return;
        }
        found.sending = true;
        // SAFETY: header and vectors stay in the slot's box and are not touched while `sending` is set; the batch stays in
        // the socket and its regions acquired until then, so the memory that the vectors name stays valid and unmoved.
        unsafe { self.backend.send(socket, found.fd.as_fd(), header) };
    }

    /// Counts bytes of the batch in flight as sent. Whether all of it is out.
    pub(crate) fn note_sent(&mut self, socket: SocketId, bytes: u32) -> bool {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        match self.sockets.get_with_outbound(socket) {
            Some((Socket { batch: Some(batch), .. }, outbound)) => outbound.advance(batch, bytes),
            _ => false,
        }
    }

    /// Takes the batch of a socket that the kernel is done with, and lets go of its regions.
    pub(crate) fn take_batch(&mut self, socket: SocketId) -> Option<SendBatch> {
        let found = self.sockets.get(socket)?;
        debug_assert!(!found.sending, "a batch was taken from under the kernel");
        let batch = found.batch.take()?;
        batch.release_regions(&mut self.regions);
        Some(batch)
    }

    /// Once nothing of a lingering socket is left to send: shuts our side down, or closes it if the peer has closed.
    pub(crate) fn shut_down_if_sent(&mut self, socket: SocketId) {
        let Some(found) = self.sockets.get(socket) else { return };
        if !matches!(found.phase, Phase::Lingering { .. }) || found.batch.is_some() {
            return;
        }
        if found.ended {
            self.begin_close(socket, CloseReason::Peer);
        } else if let Err(error) = rustix::net::shutdown(found.fd(), Shutdown::Write) {
            self.begin_close(socket, CloseReason::Failed(error.raw_os_error()));
        }
    }

    /// The peer has closed its side. A lingering socket still gets its last bytes out, the others end.
    pub(crate) fn peer_closed(&mut self, socket: SocketId) {
        let Some(found) = self.sockets.get(socket) else { return };
        found.ended = true;
        if !matches!(found.phase, Phase::Lingering { .. }) || found.batch.is_none() {
            self.begin_close(socket, CloseReason::Peer);
        }
    }

    /// Starts the end of a socket; `finished` gets it when the kernel has let go.
    pub(crate) fn begin_close(&mut self, socket: SocketId, reason: CloseReason) {
        let Some(found) = self.sockets.get(socket) else { return };
        if matches!(found.phase, Phase::Closing { .. }) {
            return;
        }
        found.phase = Phase::Closing { reason };
        let (receiving, sending) = (found.receiving, found.sending);
        if receiving {
            self.backend.cancel(Operation::Receive, socket);
        }
        if sending {
            self.backend.cancel(Operation::Send, socket);
        }
        self.leave_starved(socket);
        self.finish_if_quiet(socket);
    }

    /// Notes a closing socket for `closed` if the kernel holds nothing of it.
    pub(crate) fn finish_if_quiet(&mut self, socket: SocketId) {
        if let Some(found) = self.sockets.get(socket)
            && matches!(found.phase, Phase::Closing { .. })
            && found.is_quiet()
        {
            self.finished.push(socket);
        }
    }

    /// A cancellation missed a request that was just being worked on. Shutting a closing socket down ends it in any case;
    /// a paused one tries again when the receive shows that it goes on.
    pub(crate) fn cancel_missed(&mut self, socket: SocketId) {
        let Some(found) = self.sockets.get(socket) else { return };
        found.cancelling = false;
        if matches!(found.phase, Phase::Closing { .. }) && !found.is_quiet() {
            // An error means that the connection is down already, which ends the request as well.
            let _ = rustix::net::shutdown(found.fd(), Shutdown::Both);
        }
    }

    /// Closes the lingering sockets whose time is over.
    pub(crate) fn expire_lingering(&mut self) {
        let now_ms = self.now_ms();
        while let Some(&(deadline_ms, socket)) = self.lingering.front() {
            let waits =
                matches!(self.sockets.get(socket), Some(Socket { phase: Phase::Lingering { .. }, .. }));
            if waits && deadline_ms > now_ms {
                return;
            }
            self.lingering.pop_front();
            if waits {
                self.begin_close(socket, CloseReason::Lingered);
            }
        }
    }

    /// When the first lingering socket's time is over.
    pub(crate) fn linger_deadline_ms(&self) -> Option<u64> {
        self.lingering.front().map(|&(deadline_ms, _)| deadline_ms)
    }

    fn accept_batch(&mut self, socket: SocketId, batch: SendBatch) -> Result<(), Refused> {
        let Some((found, outbound)) = self.sockets.get_with_outbound(socket) else {
            return Err(Refused { batch, reason: RefusalReason::Gone });
        };
        let reason = if found.phase != Phase::Open {
            RefusalReason::Gone
        } else if found.batch.is_some() {
            RefusalReason::Busy
        } else if batch.is_empty() {
            RefusalReason::Empty
        } else if !batch.acquire_regions(&mut self.regions) {
            RefusalReason::BadRegion
        } else {
            outbound.restart();
            found.batch = Some(batch);
            return Ok(());
        };
        Err(Refused { batch, reason })
    }

    /// Sends of the socket's batch what fits without waiting. Whether all of it is out. Errors are left for the queued
    /// send of the rest to meet.
    fn send_directly(&mut self, socket: SocketId) -> bool {
        let Some((found, outbound)) = self.sockets.get_with_outbound(socket) else { return false };
        let Some(batch) = &found.batch else { return false };
        loop {
            let header = outbound.prepare(batch, &self.regions);
            if header.is_null() {
                return false;
            }
            let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
            // SAFETY: the header and all it points to are valid during the call, by the same reasons as in `submit_send`.
            let sent = unsafe { libc::sendmsg(found.fd.as_raw_fd(), header, flags) };
            match usize::try_from(sent) {
                Ok(0) | Err(_) => return false,
                Ok(sent) if outbound.advance(batch, sent) => return true,
                Ok(_) => {}
            }
        }
    }
}

/// Whether an error says that nothing is wrong and the request may simply be made again.
pub(crate) fn is_passing(error: Errno) -> bool {
    matches!(error, Errno::INTR | Errno::AGAIN)
}

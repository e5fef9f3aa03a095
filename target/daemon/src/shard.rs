//! One core: its connections, its pools, and the wiring between sockets, protocol and block layer.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use holdfast_block::{CounterBook, Exports, HostBook, PoolId, SessionBook, TransmitSink, VolumeId};
use holdfast_nvme::{
    Connection, ConnectionConfig, Context, Directory, Disposition, HALF_OPEN_MS, RESPONSES_PER_BATCH,
};
use holdfast_reactor::{
    CloseReason, Io, MailSender, Received, Refused, RegionId, SendBatch, SendProgress, Service, SocketId,
};
use holdfast_store::{PoolError, Stores};

use crate::clock::WallClock;
use crate::core::Mail;
use crate::pools::{OpenPool, PoolMap};
use crate::router::{Router, VolumeHome};

/// What all cores share. Locked inside, and not on the way of an I/O.
#[derive(Clone)]
pub(crate) struct Shared {
    /// NVMe controllers.
    pub directory: Arc<Directory>,
    /// Hosts that nobody registered.
    pub hosts: Arc<HostBook>,
    /// Open sessions.
    pub sessions: Arc<SessionBook>,
    /// All counters.
    pub counters: Arc<CounterBook>,
}

/// A connection and its place in the world.
struct Link {
    /// What its commands' origins carry.
    id: u64,
    socket: SocketId,
    peer: SocketAddr,
    connection: Connection,
    /// A batch is on its way out, since then.
    sending: Option<u64>,
    /// It is in the list of links to be flushed.
    dirty: bool,
    closing: bool,
}

impl Link {
    /// When something has to be looked at if nothing happens before.
    fn deadline_ms(&self) -> Option<u64> {
        let stalled = self.sending.map(|since| since.saturating_add(SEND_STALL_MS));
        match (stalled, self.connection.deadline_ms()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

/// The service of one core's reactor.
pub(crate) struct Shard {
    router: Router,
    shared: Shared,
    exports: Arc<Exports>,
    /// By socket index.
    links: Vec<Option<Link>>,
    /// Grows with each connection, so that late completions of an earlier one in the same place go nowhere.
    generation: u32,
    dirty: Vec<usize>,
    batches: Vec<SendBatch>,
    /// Regions by the number that the store knows them by.
    regions: Vec<Option<(PoolId, RegionId)>>,
    /// Mailboxes of the other cores, by number.
    peers: Vec<Option<MailSender<Mail>>>,
    /// Mail that found a mailbox full.
    unsent: Vec<(usize, Mail)>,
    deadline_ms: Option<u64>,
    directory_seen: u64,
    /// A state has been applied.
    serving: bool,
    /// Connections that came before.
    early: Vec<(u32, TcpStream)>,
    /// Where the next connection goes.
    next_core: usize,
    clock: WallClock,
    running: bool,
}

/// Send batches kept for reuse by one core.
const BATCHES_KEPT_MAX: usize = 1024;

/// Connections that may wait for the first state on one core.
const EARLY_MAX: usize = 1024;

/// A peer that does not take a batch (at most 256 KiB of data) in this time is disconnected: what it has asked for and does
/// not read is held for it.
const SEND_STALL_MS: u64 = 30_000;

/// A shard's tick when work is left for the next turn.
const NEXT_TURN: u64 = 0;

impl Shard {
    /// The shard behind `router`, with the mailboxes of its peers by number.
    pub(crate) fn new(router: Router, shared: Shared, peers: Vec<Option<MailSender<Mail>>>) -> Self {
        Shard {
            router,
            directory_seen: shared.directory.generation(),
            shared,
            exports: Arc::default(),
            links: Vec::new(),
            generation: 0,
            dirty: Vec::new(),
            batches: Vec::new(),
            regions: Vec::new(),
            peers,
            unsent: Vec::new(),
            deadline_ms: None,
            serving: false,
            early: Vec::new(),
            next_core: 0,
            clock: WallClock::default(),
            running: true,
        }
    }

    /// Takes a pool in.
    pub(crate) fn add_pool(
        &mut self,
        io: &mut Io,
        id: PoolId,
        OpenPool { pool, region }: OpenPool,
    ) -> Result<(), PoolError> {
        let region = io.register_region(region);
        let place = self.regions.iter().position(Option::is_none).unwrap_or(self.regions.len());
        let number = u16::try_from(place).map_err(|_| PoolError::TableFull)?;
        if let Err(error) = self.router.local().store_mut().add_pool(number, pool) {
            io.unregister_region(region);
            return Err(error);
        }
        if place == self.regions.len() {
            self.regions.push(None);
        }
        if let Some(entry) = self.regions.get_mut(place) {
            *entry = Some((id, region));
        }
        Ok(())
    }

    /// Lets a pool without volumes go.
    pub(crate) fn remove_pool(&mut self, io: &mut Io, id: PoolId) -> Result<(), PoolError> {
        self.router.local().store_mut().remove_pool(id)?;
        for entry in &mut self.regions {
            if let Some((_, region)) = entry.take_if(|(pool, _)| *pool == id) {
                io.unregister_region(region);
            }
        }
        Ok(())
    }

    /// The pools that live here.
    pub(crate) fn stores(&mut self) -> &mut Stores<PoolMap> {
        self.router.local().store_mut()
    }

    /// Takes up a new picture: where volumes live, and who may see what. Connections are told.
    pub(crate) fn set_exports(
        &mut self,
        io: &mut Io,
        exports: Arc<Exports>,
        homes: Arc<HashMap<VolumeId, VolumeHome>>,
    ) {
        self.router.set_homes(homes);
        self.exports = exports;
        self.for_each_connection(|connection, cx| connection.exports_changed(cx));
        self.serving = true;
        for (listener, stream) in std::mem::take(&mut self.early) {
            self.adopt(io, listener, stream);
        }
    }

    /// Ends the reactor with this turn.
    pub(crate) fn stop(&mut self) {
        self.running = false;
    }

    fn for_each_connection(&mut self, mut visit: impl FnMut(&mut Connection, &mut Context<'_, Router>)) {
        for at in 0..self.links.len() {
            self.with_link(at, |link, cx| visit(&mut link.connection, cx));
            self.mark(at);
        }
    }

    /// Runs `work` on a link with everything that its connection may need.
    fn with_link<R>(
        &mut self,
        at: usize,
        work: impl FnOnce(&mut Link, &mut Context<'_, Router>) -> R,
    ) -> Option<R> {
        let link = self.links.get_mut(at)?.as_mut()?;
        let mut cx = Context {
            now_ms: self.clock.now_ms,
            unix_seconds: self.clock.unix_ms / 1000,
            exports: &self.exports,
            directory: &self.shared.directory,
            hosts: &self.shared.hosts,
            sessions: &self.shared.sessions,
            counters: &self.shared.counters,
            port: &mut self.router,
        };
        Some(work(link, &mut cx))
    }

    fn mark(&mut self, at: usize) {
        if let Some(Some(link)) = self.links.get_mut(at)
            && !link.dirty
        {
            link.dirty = true;
            self.dirty.push(at);
        }
    }

    fn position(&self, socket: SocketId) -> Option<usize> {
        let at = socket.index();
        let link = self.links.get(at)?.as_ref()?;
        (link.socket == socket).then_some(at)
    }

    /// Tells the block layer the time of this turn.
    fn set_time(&mut self, io: &Io) {
        if self.clock.update(io.now_us()) {
            self.router.local().set_time(io.now_us(), self.clock.unix_ms);
        }
    }

    /// Hands completions to their connections.
    fn deliver_completions(&mut self) {
        use holdfast_block::BlockPort;
        while let Some(completion) = self.router.next_completion() {
            let at =
                usize::try_from(completion.origin.connection & u64::from(u32::MAX)).unwrap_or(usize::MAX);
            let delivered = self.with_link(at, |link, cx| {
                let ours = link.id == completion.origin.connection;
                if ours {
                    link.connection.complete(cx, completion);
                }
                ours
            });
            if delivered == Some(true) {
                self.mark(at);
            } else {
                debug_assert!(false, "a connection cancels its tickets before it goes");
                self.router.release(completion.ticket);
            }
        }
    }

    /// Sends what is ready on every marked link.
    fn flush(&mut self, io: &mut Io) {
        while let Some(at) = self.dirty.pop() {
            if let Some(Some(link)) = self.links.get_mut(at) {
                link.dirty = false;
            }
            self.flush_link(io, at);
        }
    }

    fn flush_link(&mut self, io: &mut Io, at: usize) {
        let Some(Some(link)) = self.links.get(at) else { return };
        if link.closing || link.sending.is_some() {
            if link.connection.disposition() == Disposition::CloseNow && !link.closing {
                self.close(io, at);
            }
            return;
        }
        let socket = link.socket;
        if let Some(batch) = self.build_batch(at) {
            match io.send(socket, batch) {
                Ok(()) => self.set_sending(at),
                Err(refused) => return self.send_refused(io, at, refused),
            }
        }
        let Some(Some(link)) = self.links.get(at) else { return };
        match link.connection.disposition() {
            Disposition::Open => {}
            Disposition::CloseAfterTransmit if link.sending.is_some() => {}
            Disposition::CloseAfterTransmit => {
                io.shutdown_after_send(socket);
                self.set_closing(at);
            }
            Disposition::CloseNow => self.close(io, at),
        }
    }

    /// Sends full batches in the middle of a turn, so that the host goes on while the rest of its commands is looked at:
    /// with everything in one send at the end of the turn, host and target would take turns instead of working both.
    fn send_full_batches(&mut self, io: &mut Io, at: usize) {
        while let Some(Some(link)) = self.links.get(at)
            && link.sending.is_none()
            && !link.closing
            && link.connection.ready_responses() >= RESPONSES_PER_BATCH
        {
            let socket = link.socket;
            let Some(batch) = self.build_batch(at) else { return };
            match io.send_now(socket, batch) {
                Ok(SendProgress::Out(batch)) => {
                    self.recycle(batch);
                    self.with_link(at, |link, cx| link.connection.transmitted(cx));
                }
                Ok(SendProgress::InFlight) => self.set_sending(at),
                Err(refused) => return self.send_refused(io, at, refused),
            }
        }
    }

    /// The connection's next batch, if it has anything to send.
    fn build_batch(&mut self, at: usize) -> Option<SendBatch> {
        let mut batch = self.batches.pop().unwrap_or_default();
        let regions = std::mem::take(&mut self.regions);
        let filled = self.with_link(at, |link, cx| {
            let mut sink = BatchSink { batch: &mut batch, regions: &regions };
            link.connection.poll_transmit(cx, &mut sink)
        });
        self.regions = regions;
        if filled == Some(true) && !batch.is_empty() {
            return Some(batch);
        }
        self.recycle(batch);
        None
    }

    fn send_refused(&mut self, io: &mut Io, at: usize, refused: Refused) {
        tracing::debug!(reason = %refused.reason, "a send was refused");
        self.recycle(refused.batch);
        self.close(io, at);
    }

    fn close(&mut self, io: &mut Io, at: usize) {
        if let Some(Some(link)) = self.links.get(at) {
            io.close(link.socket);
        }
        self.set_closing(at);
    }

    fn set_sending(&mut self, at: usize) {
        let now_ms = self.clock.now_ms;
        if let Some(Some(link)) = self.links.get_mut(at) {
            link.sending = Some(now_ms);
        }
        self.note_deadline(at);
    }

    fn close_if_stalled(&mut self, io: &mut Io, at: usize, now_ms: u64) {
        let Some(Some(link)) = self.links.get_mut(at) else { return };
        if link.sending.is_some_and(|since| since.saturating_add(SEND_STALL_MS) <= now_ms) {
            // Not asked again while the close is under way.
            link.sending = Some(u64::MAX);
            tracing::info!(peer = %link.peer, "disconnected: the peer takes no responses");
            self.close(io, at);
        }
    }

    fn set_closing(&mut self, at: usize) {
        if let Some(Some(link)) = self.links.get_mut(at) {
            link.closing = true;
        }
    }

    fn recycle(&mut self, mut batch: SendBatch) {
        if self.batches.len() < BATCHES_KEPT_MAX {
            batch.clear();
            self.batches.push(batch);
        }
    }

    /// Sends mail to other cores; what finds no room is tried again in the next turn.
    fn send_mail(&mut self) {
        let mut waiting = std::mem::take(&mut self.unsent);
        waiting.append(&mut self.router.take_outgoing());
        for (core, mail) in waiting {
            let Some(Some(peer)) = self.peers.get_mut(core) else { continue };
            if let Err(mail) = peer.send(mail)
                && !peer.is_closed()
            {
                self.unsent.push((core, mail));
            }
        }
    }

    /// Tells everybody when a controller has ended.
    fn watch_directory(&mut self) {
        let generation = self.shared.directory.generation();
        if generation == self.directory_seen {
            return;
        }
        self.directory_changed(generation);
        for core in 0..self.peers.len() {
            self.unsent.push((core, Mail::DirectoryChanged));
        }
    }

    fn directory_changed(&mut self, generation: u64) {
        self.directory_seen = generation;
        let open = self.shared.sessions.list();
        self.router.retain_sessions(|id| open.iter().any(|session| session.id == id));
        self.for_each_connection(|connection, cx| connection.directory_changed(cx));
    }

    /// Takes a connection over that another core accepted.
    fn adopt(&mut self, io: &mut Io, listener: u32, stream: TcpStream) {
        // A peer that has gone already has no address any more.
        let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return };
        if let Some(socket) = io.adopt(stream) {
            self.accepted(io, listener, socket, peer, local);
        }
    }

    fn note_deadline(&mut self, at: usize) {
        let deadline = self.links.get(at).and_then(Option::as_ref).and_then(Link::deadline_ms);
        self.deadline_ms = match (self.deadline_ms, deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

impl Service for Shard {
    type Message = Mail;

    fn accepted(
        &mut self,
        io: &mut Io,
        listener: u32,
        socket: SocketId,
        peer: SocketAddr,
        local: SocketAddr,
    ) {
        self.set_time(io);
        let at = socket.index();
        if at >= self.links.len() {
            self.links.resize_with(at + 1, || None);
        }
        self.generation = (self.generation + 1) & (u32::MAX >> 1);
        let index = u64::try_from(at).unwrap_or(u64::MAX);
        let id = u64::from(self.generation) << 32 | index;
        let connection = Connection::new(ConnectionConfig {
            id,
            peer,
            local,
            portal: u16::try_from(listener).unwrap_or(u16::MAX),
            now_ms: self.clock.now_ms,
            half_open_ms: HALF_OPEN_MS,
        });
        if let Some(place) = self.links.get_mut(at) {
            debug_assert!(place.is_none(), "a socket's number is given again after `closed`");
            *place = Some(Link { id, socket, peer, connection, sending: None, dirty: false, closing: false });
        }
        self.note_deadline(at);
    }

    /// Connections go to the cores in turn: left to itself, the kernel would give one idle core most of them. Before there
    /// is anything to serve they wait: a host that came too early would be told that its volumes do not exist.
    fn offered(&mut self, _io: &mut Io, listener: u32, stream: TcpStream) -> Option<TcpStream> {
        if !self.serving {
            // What finds no room is closed, and comes again.
            if self.early.len() < EARLY_MAX {
                self.early.push((listener, stream));
            }
            return None;
        }
        self.next_core = (self.next_core + 1) % self.peers.len().max(1);
        let Some(Some(peer)) = self.peers.get_mut(self.next_core) else { return Some(stream) };
        match peer.send(Mail::Connection(listener, stream)) {
            Ok(()) => None,
            Err(Mail::Connection(_, stream)) => Some(stream),
            Err(_) => None,
        }
    }

    fn received(&mut self, io: &mut Io, socket: SocketId, bytes: Received) {
        self.set_time(io);
        let Some(at) = self.position(socket) else { return };
        let open = self.with_link(at, |link, cx| {
            let open = !link.closing && link.connection.disposition() == Disposition::Open;
            if open {
                link.connection.receive(cx, &bytes, u64::MAX);
            }
            open
        });
        if open == Some(true) {
            self.mark(at);
            self.note_deadline(at);
            self.deliver_completions();
            self.send_full_batches(io, at);
        }
    }

    fn sent(&mut self, io: &mut Io, socket: SocketId, batch: SendBatch) {
        self.set_time(io);
        self.recycle(batch);
        let Some(at) = self.position(socket) else { return };
        self.with_link(at, |link, cx| {
            link.sending = None;
            link.connection.transmitted(cx);
        });
        self.mark(at);
    }

    fn closed(&mut self, io: &mut Io, socket: SocketId, reason: CloseReason, batch: Option<SendBatch>) {
        self.set_time(io);
        if let Some(batch) = batch {
            self.recycle(batch);
        }
        let Some(at) = self.position(socket) else { return };
        tracing::debug!(?reason, "connection closed");
        self.with_link(at, |link, cx| link.connection.closed(cx));
        if let Some(place) = self.links.get_mut(at) {
            *place = None;
        }
        self.watch_directory();
        self.send_mail();
    }

    fn message(&mut self, io: &mut Io, message: Mail) {
        self.set_time(io);
        match message {
            Mail::Call(work) => work(self, io),
            Mail::Connection(listener, stream) => self.adopt(io, listener, stream),
            Mail::DirectoryChanged => self.directory_changed(self.shared.directory.generation()),
            Mail::Command(command) => self.router.execute(*command),
            Mail::Reply(reply) => self.router.finish(*reply),
        }
    }

    fn turn(&mut self, io: &mut Io) {
        self.deliver_completions();
        self.flush(io);
        self.watch_directory();
        self.send_mail();
        // What became ready by a directory change leaves now, too.
        self.flush(io);
    }

    fn deadline_ms(&self) -> Option<u64> {
        let busy = self.router.is_busy() || !self.unsent.is_empty();
        if busy { Some(NEXT_TURN) } else { self.deadline_ms }
    }

    fn tick(&mut self, io: &mut Io) {
        self.set_time(io);
        let now_ms = self.clock.now_ms;
        self.deadline_ms = None;
        for at in 0..self.links.len() {
            let due = self.with_link(at, |link, cx| {
                let due = link.connection.deadline_ms().is_some_and(|deadline| deadline <= now_ms);
                if due {
                    link.connection.tick(cx);
                }
                due
            });
            if due == Some(true) {
                self.mark(at);
            }
            self.close_if_stalled(io, at, now_ms);
            self.note_deadline(at);
        }
        self.turn(io);
    }

    fn keep_running(&self) -> bool {
        self.running
    }
}

/// Puts a connection's bytes into a batch.
struct BatchSink<'a> {
    batch: &'a mut SendBatch,
    regions: &'a [Option<(PoolId, RegionId)>],
}

impl TransmitSink for BatchSink<'_> {
    fn inline(&mut self, bytes: &[u8]) {
        self.batch.push_inline(bytes);
    }

    fn region(&mut self, region: u16, offset: usize, len: usize) {
        match self.regions.get(usize::from(region)) {
            Some(Some((_, id))) => self.batch.push_region(*id, offset, len),
            _ => debug_assert!(false, "the store names regions that were added"),
        }
    }

    fn zeroes(&mut self, len: usize) {
        self.batch.push_zeros(len);
    }
}

//! One core: its connections, its pools, and the wiring between sockets, protocol and block layer.

mod accepting;
mod disks;
mod guests;
mod input;
mod links;
mod mail;
mod pools;
mod protocol;
mod reserving;
mod sending;
mod serving;
#[cfg(test)]
mod tests;

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use holdfast_block::reservations::ReservationBook;
use holdfast_block::{CounterBook, Exports, HostBook, PoolId, SessionBook};
use holdfast_nvme::Directory;
use holdfast_reactor::{
    CloseReason, FileError, FileId, Io, MailSender, Received, RegionId, SendBatch, Service, SocketId,
};
use holdfast_scsi::UnitBook;

use crate::clock::WallClock;
use crate::core::Mail;
use crate::fair::Fair;
use crate::reservations::ReservationKeeper;
use crate::router::Router;
use accepting::HalfOpen;
pub(crate) use accepting::HalfOpenLimits;
use disks::Disks;
use guests::Guests;
use links::{Link, place_of};
use serving::{ClientKey, NEWCOMERS_PRICE, Served};

/// What all cores share. Locked inside, and not on the way of an I/O.
#[derive(Clone)]
pub(crate) struct Shared {
    /// NVMe controllers.
    pub directory: Arc<Directory>,
    /// Listeners of NVMe, which come first; those of iSCSI follow.
    pub nvme_portals: u16,
    /// iSCSI sessions.
    pub iscsi: Arc<holdfast_iscsi::Directory>,
    /// SCSI logical units.
    pub units: Arc<UnitBook>,
    /// Hosts that nobody registered.
    pub hosts: Arc<HostBook>,
    /// Open sessions.
    pub sessions: Arc<SessionBook>,
    /// All counters.
    pub counters: Arc<CounterBook>,
    /// Reservations.
    pub reservations: Arc<ReservationBook>,
    /// Who writes those down that last.
    pub keeper: ReservationKeeper,
}

/// How often what cores share has changed in ways that connections have to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Generations {
    nvme: u64,
    iscsi: u64,
    units: u64,
}

impl Shared {
    fn generations(&self) -> Generations {
        Generations {
            nvme: self.directory.generation(),
            iscsi: self.iscsi.generation(),
            units: self.units.generation(),
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
    /// Whose turn it is.
    fair: Fair<ClientKey, Served>,
    guests: Guests,
    half_open: HalfOpen,
    /// Links that received something in this turn.
    arrived: Vec<usize>,
    /// Links that may have something to send.
    dirty: Vec<usize>,
    batches: Vec<SendBatch>,
    /// Regions by the number that the store knows them by.
    regions: Vec<Option<(PoolId, RegionId)>>,
    disks: Disks,
    /// Mailboxes of the other cores, by number.
    peers: Vec<Option<MailSender<Mail>>>,
    /// Mail that found a mailbox full.
    unsent: Vec<(usize, Mail)>,
    deadline_ms: Option<u64>,
    seen: Generations,
    /// A connection has gone, and perhaps a controller with it.
    departed: bool,
    /// A state has been applied.
    serving: bool,
    /// Connections that came before.
    early: Vec<(u32, TcpStream)>,
    /// Where the next connection goes.
    next_core: usize,
    clock: WallClock,
    running: bool,
}

/// A shard's tick when work is left for the next turn.
const NEXT_TURN: u64 = 0;

impl Shard {
    /// The shard behind `router`, with the mailboxes of its peers by number, on a reactor with so many receive buffers.
    pub(crate) fn new(
        router: Router,
        shared: Shared,
        peers: Vec<Option<MailSender<Mail>>>,
        receive_buffers: u16,
        half_open: HalfOpenLimits,
    ) -> Self {
        let mut fair = Fair::new(receive_buffers.into());
        // So that they are one client for good.
        fair.join(ClientKey::Newcomers, NEWCOMERS_PRICE);
        Shard {
            router,
            seen: shared.generations(),
            shared,
            exports: Arc::default(),
            links: Vec::new(),
            generation: 0,
            fair,
            guests: Guests::default(),
            half_open: HalfOpen::new(half_open),
            arrived: Vec::new(),
            dirty: Vec::new(),
            batches: Vec::new(),
            regions: Vec::new(),
            disks: Disks::default(),
            peers,
            unsent: Vec::new(),
            deadline_ms: None,
            departed: false,
            serving: false,
            early: Vec::new(),
            next_core: 0,
            clock: WallClock::default(),
            running: true,
        }
    }

    /// Ends the reactor with this turn.
    pub(crate) fn stop(&mut self) {
        self.running = false;
    }

    /// Tells the block layer the time of this turn.
    fn set_time(&mut self, io: &Io) {
        if self.clock.update(io.now_us()) {
            self.router.local().set_time(io.now_us(), self.clock.unix_ms);
        }
    }

    /// Looks at all connections if the time of one of them has come.
    fn meet_deadlines(&mut self, io: &mut Io) {
        let now_ms = self.clock.now_ms;
        if self.deadline_ms.is_none_or(|deadline_ms| deadline_ms > now_ms) {
            return;
        }
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
    }

    /// Hands completions to their connections.
    fn deliver_completions(&mut self) {
        use holdfast_block::BlockPort;
        while let Some(completion) = self.router.next_completion() {
            let at = place_of(completion.origin.connection);
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
        self.link_up(io, listener, socket, peer, local);
    }

    fn offered(&mut self, _io: &mut Io, listener: u32, stream: TcpStream) -> Option<TcpStream> {
        self.place(listener, stream)
    }

    fn received(&mut self, io: &mut Io, socket: SocketId, bytes: Received) {
        self.set_time(io);
        if let Some(at) = self.position(socket) {
            self.take_in(at, bytes);
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
        self.queue_link(at);
    }

    fn closed(&mut self, io: &mut Io, socket: SocketId, reason: CloseReason, batch: Option<SendBatch>) {
        self.set_time(io);
        if let Some(batch) = batch {
            self.recycle(batch);
        }
        let Some(at) = self.position(socket) else { return };
        tracing::debug!(?reason, "connection closed");
        self.with_link(at, |link, cx| link.connection.closed(cx));
        self.unlink(io, at);
        self.departed = true;
    }

    fn file_done(&mut self, io: &mut Io, _file: FileId, user: u64, result: Result<(), FileError>) {
        self.set_time(io);
        self.disk_done(user, result);
    }

    fn file_closed(&mut self, _io: &mut Io, file: FileId) {
        self.disk_closed(file);
    }

    fn message(&mut self, io: &mut Io, message: Mail) {
        self.set_time(io);
        match message {
            Mail::Call(work) => work(self, io),
            Mail::Connection(listener, stream) => self.adopt(io, listener, stream),
            Mail::DirectoryChanged => self.directory_changed(self.shared.generations()),
            Mail::Command(command) => self.take_guest(command),
            Mail::Reply(reply) => self.router.finish(*reply),
            Mail::Request(request) => self.router.take_request(*request),
            Mail::Kept { volume, number, done } => self.router.local().reservation_kept(volume, number, done),
            Mail::Detached { session, volume } => self.router.forget_guest(session, volume),
            Mail::EndLegacyReservation(access) => self.router.take_end_of_legacy(&access),
        }
    }

    fn turn(&mut self, io: &mut Io) {
        self.set_time(io);
        self.serve(io);
        self.deliver_completions();
        self.serve_reservations();
        self.drive_disks(io);
        self.flush(io);
        self.watch_directory();
        self.send_mail();
        // What became ready by a directory change leaves now, too.
        self.flush(io);
    }

    fn deadline_ms(&self) -> Option<u64> {
        let busy =
            self.fair.is_waiting() || self.router.is_busy() || self.departed || !self.unsent.is_empty();
        if busy { Some(NEXT_TURN) } else { self.deadline_ms }
    }

    fn tick(&mut self, io: &mut Io) {
        self.set_time(io);
        self.meet_deadlines(io);
    }

    fn keep_running(&self) -> bool {
        self.running
    }
}

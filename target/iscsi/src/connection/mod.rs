//! One connection, which is one session: MaxConnections is 1. RFC 7143 §4.2 "iSCSI Concepts".
//!
//! ```text
//! receive ─▶ framer ─▶ login ─▶ requests ─▶ device server ─▶ block layer
//!                │                  ▲               ▲            │
//!                └──── data ────────┴───────────────┘            │
//! poll_transmit ◀── outbox ◀── answers ◀────── complete ◀────────┘
//! ```
//!
//! Data is never held here, but for what comes before there is room for it, and for requests that have to wait for one that
//! is missing before them.

mod command;
mod data_out;
mod end;
mod login;
mod manage;
mod order;
mod receive;
mod request;
mod transmit;

use std::collections::VecDeque;
use std::sync::Arc;

use holdfast_block::{
    BlockPort, Completion, ConnectionConfig, CounterBook, DigestCounters, Disposition, Exports, HostBook,
    HostId, SessionBook, Taken, TransmitSink,
};
use holdfast_pi::Digests;
use holdfast_scsi::{Nexus, UnitBook, WaitId};

use crate::directory::{Directory, Member};
use crate::discovery::Asker;
use crate::framer::Framer;
use crate::full_feature::TextPhase;
use crate::limits::{PING_AFTER_MS, PING_WAIT_MS, TRANSFER_STALL_MS};
use crate::login::LoginPhase;
use crate::negotiation_limits::LOGIN_DATA_LEN_MAX;
use crate::params::Params;
use crate::slots::{SlotId, Slots};
use order::Order;
use receive::{Held, Ingest};
use transmit::{Notice, Outgoing};

/// Everything around a connection, as it is at the time of a call.
pub struct Context<'a, P: BlockPort> {
    /// A clock that only goes forward, in milliseconds.
    pub now_ms: u64,
    /// Seconds since 1970-01-01 UTC, for what people read.
    pub unix_seconds: u64,
    /// What is exported to whom.
    pub exports: &'a Exports,
    /// The sessions of all cores.
    pub directory: &'a Directory,
    /// The logical units of all cores.
    pub units: &'a UnitBook,
    /// Hosts that nobody registered.
    pub hosts: &'a HostBook,
    /// Open sessions of the block layer.
    pub sessions: &'a SessionBook,
    /// Counters.
    pub counters: &'a CounterBook,
    /// Fills with random bytes that nobody can foresee.
    pub random: &'a mut dyn FnMut(&mut [u8]),
    /// The block layer of this core.
    pub port: &'a mut P,
}

impl<P: BlockPort> Context<'_, P> {
    fn scsi(&mut self) -> holdfast_scsi::Context<'_, P> {
        holdfast_scsi::Context {
            unix_seconds: self.unix_seconds,
            exports: self.exports,
            units: self.units,
            port: self.port,
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    config: ConnectionConfig,
    end: Disposition,
    framer: Framer,
    /// Of what is sent.
    digests: Digests,
    phase: Phase,
    ingest: Ingest,
    /// Data of a request that is no SCSI command.
    gathered: Vec<u8>,
    /// Requests that came before one that is missing.
    held: Vec<Held>,
    stat_sn: u32,
    exp_cmd_sn: u32,
    slots: Slots,
    outbox: VecDeque<Outgoing>,
    /// PDUs without a task in the outbox.
    notices: usize,
    /// Bytes of their data.
    notice_bytes: usize,
    /// Tasks that wait for room, in order.
    waiting: VecDeque<SlotId>,
    /// Tasks of which a part is on its way out.
    flying: Vec<SlotId>,
    /// What waits for what.
    order: Order,
    /// Tickets of the block layer that the tasks hold.
    tickets: usize,
    /// Some of them were given back before their time, and tasks may wait for that.
    freed: bool,
    /// Tags of tasks that have ended before all their data came.
    ended_tags: VecDeque<u32>,
    /// Task management functions that wait for other nexuses.
    managing: Vec<Managing>,
    digest_counters: Option<Arc<DigestCounters>>,
    /// Sequences of Data-Out that are to come: for R2Ts, and without.
    solicited: usize,
    transfer_moved_ms: u64,
    heard_ms: u64,
    /// Since when an answer to a ping is missing.
    pinged_ms: Option<u64>,
    pings: u32,
    cost: u64,
}

/// How far the connection has come.
#[derive(Debug)]
enum Phase {
    Login(Box<LoginPhase>),
    Full(Box<Full>),
    /// Nothing more is taken.
    Over,
}

/// The full feature phase.
#[derive(Debug)]
struct Full {
    params: Params,
    member: Arc<Member>,
    text: TextPhase,
    /// `None`: discovery.
    nexus: Option<Nexus>,
}

/// A task management function under way.
#[derive(Debug, Clone, Copy)]
struct Managing {
    itt: u32,
    /// What other nexuses have to do first.
    wait: Option<WaitId>,
    /// It waits no longer for data.
    until_ms: u64,
    /// All sessions end with it.
    closes: bool,
}

impl Connection {
    /// A connection that has just been accepted.
    pub fn new(config: ConnectionConfig) -> Connection {
        Connection {
            config,
            end: Disposition::Open,
            framer: Framer::new(LOGIN_DATA_LEN_MAX),
            digests: Digests::default(),
            phase: Phase::Login(Box::new(LoginPhase::new(config.peer))),
            ingest: Ingest::Idle,
            gathered: Vec::new(),
            held: Vec::new(),
            stat_sn: 1,
            exp_cmd_sn: 0,
            slots: Slots::default(),
            outbox: VecDeque::new(),
            notices: 0,
            notice_bytes: 0,
            waiting: VecDeque::new(),
            flying: Vec::new(),
            order: Order::default(),
            tickets: 0,
            freed: false,
            ended_tags: VecDeque::new(),
            managing: Vec::new(),
            digest_counters: None,
            solicited: 0,
            transfer_moved_ms: config.now_ms,
            heard_ms: config.now_ms,
            pinged_ms: None,
            pings: 0,
            cost: 0,
        }
    }

    /// Takes bytes that came, in any cut, until about `budget` is spent (more than 0; see [`Taken::cost`]). It stops between
    /// two PDUs only, and always takes the first one that is complete: what is left over begins with a PDU. Once the
    /// connection is to be closed, all bytes count as taken.
    pub fn receive<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, bytes: &[u8], budget: u64) -> Taken {
        self.heard_ms = cx.now_ms;
        self.pinged_ms = None;
        let mut input = bytes;
        let limit = self.cost.saturating_add(budget);
        while self.takes_input() && (self.cost < limit || !self.framer.is_between_pdus()) {
            match self.framer.next(&mut input) {
                Ok(Some(frame)) => {
                    self.take(cx, frame);
                    self.let_others_on(cx);
                }
                Ok(None) => break,
                Err(error) => self.stream_failed(cx, error),
            }
        }
        let left = if self.takes_input() { input.len() } else { 0 };
        Taken { bytes: bytes.len() - left, cost: std::mem::take(&mut self.cost) }
    }

    fn takes_input(&self) -> bool {
        self.end == Disposition::Open && !matches!(self.phase, Phase::Over)
    }

    /// Takes a completion of one of this connection's tasks.
    pub fn complete<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, completion: Completion) {
        self.completed(cx, completion);
    }

    /// Puts the next batch into `sink`: at most [`holdfast_block::RESPONSES_PER_BATCH`] answers. `false`: there is nothing to send. To
    /// be called only when no batch is in flight, that is after [`Connection::transmitted`] for the one before.
    pub fn poll_transmit<P: BlockPort, T: TransmitSink>(
        &mut self,
        cx: &mut Context<'_, P>,
        sink: &mut T,
    ) -> bool {
        self.end != Disposition::CloseNow && self.build_batch(cx, sink)
    }

    /// The batch has left: the blocks that it referred to may be used again.
    pub fn transmitted<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        self.land(cx);
        self.admit_waiting(cx);
        self.let_others_on(cx);
    }

    /// When [`Connection::tick`] has something to do.
    pub fn deadline_ms(&self) -> Option<u64> {
        let full = match &self.phase {
            Phase::Login(_) => return Some(self.config.now_ms.saturating_add(self.config.half_open_ms)),
            Phase::Over => return None,
            // For discovery there are no pings: §4.3.
            Phase::Full(full) if full.nexus.is_none() => {
                self.heard_ms.saturating_add(PING_AFTER_MS + PING_WAIT_MS)
            }
            Phase::Full(_) => match self.pinged_ms {
                Some(since) => since.saturating_add(PING_WAIT_MS),
                None => self.heard_ms.saturating_add(PING_AFTER_MS),
            },
        };
        let stalled = self.transfer_moved_ms.saturating_add(TRANSFER_STALL_MS);
        let due = if self.solicited > 0 { full.min(stalled) } else { full };
        Some(self.abort_deadline_ms().map_or(due, |deadline_ms| due.min(deadline_ms)))
    }

    /// Looks at the clock.
    pub fn tick<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        if self.deadline_ms().is_none_or(|deadline_ms| deadline_ms > cx.now_ms) {
            return;
        }
        if self.abort_deadline_ms().is_some_and(|deadline_ms| deadline_ms <= cx.now_ms) {
            self.stop_waiting(cx);
            return self.let_others_on(cx);
        }
        let stalled =
            self.solicited > 0 && self.transfer_moved_ms.saturating_add(TRANSFER_STALL_MS) <= cx.now_ms;
        let may_ping = matches!(&self.phase, Phase::Full(full) if full.nexus.is_some());
        if may_ping && self.pinged_ms.is_none() && !stalled {
            self.pinged_ms = Some(cx.now_ms);
            self.ping();
        } else {
            self.lose(cx);
        }
    }

    /// Follows a change of the exports: attentions, lost access, volumes that went away or grew.
    pub fn exports_changed<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        if let Phase::Full(full) = &mut self.phase
            && let Some(nexus) = &mut full.nexus
            && nexus.follow_exports(&mut cx.scsi()).is_none()
        {
            self.lose(cx);
        }
    }

    /// Follows a change of the directory: sessions end for others that take their place, and begin once those have ended.
    pub fn directory_changed<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        match &self.phase {
            Phase::Full(full) if full.member.is_ended() => self.lose(cx),
            Phase::Login(_) => self.resume_login(cx),
            Phase::Full(_) | Phase::Over => {}
        }
    }

    /// Follows what other sessions have done to logical units.
    pub fn units_changed<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        self.follow_units(cx);
        self.let_others_on(cx);
    }

    /// Asks the initiator to log out. RFC 7143 §11.9.1 "AsyncEvent".
    pub fn shut_down(&mut self) {
        if matches!(self.phase, Phase::Full(_)) {
            self.ask_to_log_out();
        }
    }

    /// Answers that the next batches can take: whoever drives the connection may send in the middle of a turn once there
    /// are [`holdfast_block::RESPONSES_PER_BATCH`].
    pub fn ready_responses(&self) -> usize {
        self.outbox.len()
    }

    /// The host that this connection belongs to, once it is in the full feature phase (not for discovery).
    pub fn host(&self) -> Option<HostId> {
        match &self.phase {
            Phase::Full(full) => full.member.session.as_ref().map(|session| session.host),
            Phase::Login(_) | Phase::Over => None,
        }
    }

    /// Whether the peer has yet to come as far as the full feature phase.
    pub fn is_half_open(&self) -> bool {
        matches!(self.phase, Phase::Login(_))
    }

    /// What is to become of the socket.
    pub fn disposition(&self) -> Disposition {
        self.end
    }

    /// The socket is gone, with whatever batch was in flight: everything ends.
    pub fn closed<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        self.end = Disposition::CloseNow;
        self.end_session(cx);
        self.land(cx);
    }

    fn asker(&self, member: &Member) -> Asker {
        Asker {
            initiator: member.name.initiator.clone(),
            local: self.config.local,
            portal: self.config.portal,
            subsystem: member.name.subsystem,
        }
    }

    fn charge(&mut self, cost: u64) {
        self.cost = self.cost.saturating_add(cost);
    }

    fn charge_bytes(&mut self, len: usize) {
        self.charge(u64::try_from(len).unwrap_or(u64::MAX));
    }

    fn notice(&mut self, notice: Notice) {
        self.notices += 1;
        self.notice_bytes += notice.len();
        self.outbox.push_back(Outgoing::Notice(notice));
    }
}

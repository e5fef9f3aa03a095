//! One connection, one queue. NVMe/TCP 1.1 §3.3 "Transport Specific Content".
//!
//! ```text
//! receive ─▶ framer ─▶ commands ─▶ plan ─▶ execute ─▶ block layer
//!                └───── payload ──────────────┴──▶ (fill)   │
//! poll_transmit ◀── outbox ◀── answers ◀── complete ◀───────┘
//! ```
//!
//! Commands live in slots from their capsule until their response is put into a batch. Payload is never held here, but for
//! the few commands that the block layer does not see.

mod cost;
mod end;
mod execute;
mod failure;
mod fused;
mod plan;
mod receive;
mod transmit;

use std::collections::VecDeque;
use std::sync::Arc;

use holdfast_block::{
    BlockPort, ConnectionConfig, CounterBook, DigestCounters, Disposition, Exports, HostBook, HostId,
    SessionBook, Taken, TicketId, TransmitSink,
};
use holdfast_pi::Digests;

use crate::admin::AdminQueue;
use crate::directory::Directory;
use crate::fabrics::connect::IoQueue;
use crate::framer::{FrameError, Framer};
use crate::limits::{QUEUE_ENTRIES_MAX, TRANSFER_STALL_MS};
use crate::namespaces::Namespaces;
use crate::slots::{SlotId, Slots};
pub use cost::command_cost;
use end::AbortedR2ts;
use fused::Before;
use receive::Ingest;

/// Everything around a connection, as it is at the time of a call.
pub struct Context<'a, P: BlockPort> {
    /// A clock that only goes forward, in milliseconds.
    pub now_ms: u64,
    /// Seconds since 1970-01-01 UTC, for what people read.
    pub unix_seconds: u64,
    /// What is exported to whom.
    pub exports: &'a Exports,
    /// The controllers of all cores.
    pub directory: &'a Directory,
    /// Hosts that nobody registered.
    pub hosts: &'a HostBook,
    /// Open sessions.
    pub sessions: &'a SessionBook,
    /// Counters.
    pub counters: &'a CounterBook,
    /// The block layer of this core.
    pub port: &'a mut P,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    config: ConnectionConfig,
    end: Disposition,
    half_open_deadline_ms: Option<u64>,
    framer: Framer,
    digests: Digests,
    /// Alignment of the data in C2HData PDUs, in bytes.
    data_alignment: usize,
    role: Role,
    flow_control: bool,
    entries: u16,
    sq_head: u16,
    slots: Slots,
    ingest: Ingest,
    namespaces: Namespaces,
    digest_counters: Option<Arc<DigestCounters>>,
    /// Whole PDUs that go out before everything else: ICResp, C2HTermReq.
    urgent: Vec<u8>,
    /// A C2HTermReq is the last thing that is sent.
    terminated: bool,
    outbox: VecDeque<Outgoing>,
    /// What the last command was, for the second half of a pair.
    before: Before,
    /// Commands that wait for room, in order.
    waiting: VecDeque<SlotId>,
    /// Tickets whose data is on its way out.
    in_flight: Vec<TicketId>,
    /// Tickets of this connection that are alive.
    tickets: usize,
    /// Bytes of buffers that wait for H2CData or are being written.
    reserved: usize,
    /// When the host last sent data that an R2T had asked for.
    transfer_moved_ms: u64,
    /// Bytes of replies that are to be sent.
    reply_bytes: usize,
    aborted_r2ts: AbortedR2ts,
    /// The Disconnect that ends this queue once everything else is answered.
    leaving: Option<SlotId>,
    /// What was done since it was last reported.
    cost: u64,
}

/// What the connection is.
#[derive(Debug)]
enum Role {
    /// No queue yet, or no more.
    None,
    Admin(Box<AdminQueue>),
    Io(IoQueue),
}

/// Something to be sent.
#[derive(Debug, Clone, Copy)]
enum Outgoing {
    R2t(SlotId),
    Answer(SlotId),
}

impl Connection {
    /// A connection that has just been accepted.
    pub fn new(config: ConnectionConfig) -> Connection {
        Connection {
            config,
            end: Disposition::Open,
            half_open_deadline_ms: Some(config.now_ms.saturating_add(config.half_open_ms)),
            framer: Framer::new(),
            digests: Digests::default(),
            data_alignment: 4,
            role: Role::None,
            flow_control: true,
            entries: QUEUE_ENTRIES_MAX,
            sq_head: 0,
            slots: Slots::new(QUEUE_ENTRIES_MAX),
            ingest: Ingest::Idle,
            namespaces: Namespaces::default(),
            digest_counters: None,
            urgent: Vec::new(),
            terminated: false,
            outbox: VecDeque::new(),
            before: Before::Other,
            waiting: VecDeque::new(),
            in_flight: Vec::new(),
            tickets: 0,
            reserved: 0,
            transfer_moved_ms: config.now_ms,
            reply_bytes: 0,
            aborted_r2ts: AbortedR2ts::default(),
            leaving: None,
            cost: 0,
        }
    }

    /// Takes bytes that came, in any cut, until about `budget` is spent (more than 0; see [`Taken::cost`]). It stops between
    /// two PDUs only, and always takes the first one that is complete: what is left over begins with a PDU. Once the
    /// connection is to be closed, all bytes count as taken.
    pub fn receive<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, bytes: &[u8], budget: u64) -> Taken {
        let mut input = bytes;
        let limit = self.cost.saturating_add(budget);
        while self.takes_input() && (self.cost < limit || !self.framer.is_between_pdus()) {
            match self.framer.next(&mut input) {
                Ok(Some(frame)) => self.take(cx, frame),
                Ok(None) => break,
                Err(FrameError::Close) => self.end = Disposition::CloseNow,
                Err(FrameError::Terminate(fatal)) => self.terminate(cx, fatal),
            }
        }
        let left = if self.takes_input() { input.len() } else { 0 };
        Taken { bytes: bytes.len() - left, cost: std::mem::take(&mut self.cost) }
    }

    /// Not so after the last command that is carried out, which is also the last one that is read.
    fn takes_input(&self) -> bool {
        self.end == Disposition::Open && self.leaving.is_none()
    }

    /// Takes a completion of one of this connection's commands.
    pub fn complete<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        completion: holdfast_block::Completion,
    ) {
        self.completed(cx, completion);
    }

    /// Puts the next batch into `sink`: at most [`holdfast_block::RESPONSES_PER_BATCH`] responses. `false`: there is nothing to send. To
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
        self.tickets -= self.in_flight.len();
        for ticket in self.in_flight.drain(..) {
            cx.port.release(ticket);
        }
        self.admit_waiting(cx);
    }

    /// When [`Connection::tick`] has something to do.
    pub fn deadline_ms(&self) -> Option<u64> {
        match &self.role {
            Role::Admin(queue) => queue.keep_alive.deadline_ms(),
            Role::Io(_) if self.reserved > 0 => {
                Some(self.transfer_moved_ms.saturating_add(TRANSFER_STALL_MS))
            }
            Role::None if holdfast_mutant::active("half-open-endless") => None,
            Role::None | Role::Io(_) => self.half_open_deadline_ms,
        }
    }

    /// Looks at the clock.
    pub fn tick<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        if self.deadline_ms().is_some_and(|deadline_ms| deadline_ms <= cx.now_ms) {
            self.lose(cx);
        }
    }

    /// Follows a change of the exports: events, lost access, volumes that went away or grew.
    pub fn exports_changed<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        let kept = match &mut self.role {
            Role::None => Some(()),
            Role::Admin(queue) => queue.follow(cx),
            Role::Io(queue) => self.namespaces.follow(cx.port, cx.exports, &queue.session),
        };
        match kept {
            Some(()) => self.tell_events(),
            None => self.lose(cx),
        }
    }

    /// Follows a change of the directory: queues end with their controller, or have something to do for each other.
    pub fn directory_changed<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        if self.is_orphan() {
            self.lose(cx);
        } else {
            self.follow_aborts(cx);
        }
    }

    /// Whether this is a queue whose controller has ended, or an I/O queue whose controller has been reset.
    fn is_orphan(&self) -> bool {
        match &self.role {
            Role::None => false,
            Role::Admin(queue) => queue.controller.is_ended(),
            Role::Io(queue) => queue.epoch != queue.controller.epoch(),
        }
    }

    /// Responses that the next batches can take: whoever drives the connection may send in the middle of a turn once there
    /// are [`holdfast_block::RESPONSES_PER_BATCH`].
    pub fn ready_responses(&self) -> usize {
        self.outbox.len()
    }

    /// The host that this connection belongs to, once it is a queue of one of its controllers (not for discovery).
    pub fn host(&self) -> Option<HostId> {
        let session = match &self.role {
            Role::None => None,
            Role::Admin(queue) => queue.controller.session(),
            Role::Io(queue) => Some(&queue.session),
        };
        session.map(|session| session.host)
    }

    /// Whether the peer has yet to come as far as a successful Connect.
    pub fn is_half_open(&self) -> bool {
        self.half_open_deadline_ms.is_some()
    }

    /// What is to become of the socket.
    pub fn disposition(&self) -> Disposition {
        self.end
    }

    /// The socket is gone, with whatever batch was in flight: everything ends.
    pub fn closed<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        self.end = Disposition::CloseNow;
        self.end_association(cx);
        self.drop_commands(cx);
        for ticket in self.in_flight.drain(..) {
            cx.port.release(ticket);
        }
        self.tickets = 0;
        self.namespaces.clear(cx.port);
    }

    /// Ends the connection without a word.
    fn lose<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        self.end = Disposition::CloseNow;
        self.end_association(cx);
    }

    /// The queue ends; with an admin queue, its controller.
    fn end_association<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        match std::mem::replace(&mut self.role, Role::None) {
            Role::None => {}
            Role::Admin(queue)
                if holdfast_mutant::active("planted-controller")
                    && queue.controller.is_ready()
                    && queue.keep_alive.kato_ms() > 0 => {}
            Role::Admin(queue) => {
                if !holdfast_mutant::active("association-remains") {
                    cx.directory.remove(&queue.controller);
                }
                if let Some(session) = queue.controller.session() {
                    cx.sessions.close(session.id);
                }
            }
            Role::Io(queue) => {
                queue.controller.health.close_queue(&queue.traffic);
                if queue.controller.disconnect_queue(queue.qid, queue.epoch) {
                    cx.directory.wake();
                }
            }
        }
    }
}

//! Connections that come: which core they live on, and how many may be half open.

use holdfast_block::{ConnectionConfig, HALF_OPEN_MS};
use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};

use holdfast_reactor::{Io, SocketId};

use super::Shard;
use super::input::Input;
use super::links::Link;
use super::protocol::Connection;
use crate::core::Mail;

/// Connections that may wait for the first state on one core.
const EARLY_MAX: usize = 1024;

/// Connections of one core whose peers have yet to come as far as a successful Connect: several times what hosts open at
/// once. One more ends the oldest of them, so that a flood of silent ones keeps nobody out: an honest host is through
/// within milliseconds.
const HALF_OPEN_MAX: usize = 1024;

/// Bounds on peers that have not connected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HalfOpenLimits {
    /// Connections of one core.
    pub connections_max: usize,
    /// How long each may be so.
    pub time_ms: u64,
}

impl Default for HalfOpenLimits {
    fn default() -> Self {
        HalfOpenLimits { connections_max: HALF_OPEN_MAX, time_ms: HALF_OPEN_MS }
    }
}

/// The half-open connections of a core.
#[derive(Debug)]
pub(super) struct HalfOpen {
    limits: HalfOpenLimits,
    pub count: usize,
    /// Connections by number in the order in which they came, with some that are not half open any more.
    order: VecDeque<u64>,
}

impl HalfOpen {
    pub(super) fn new(limits: HalfOpenLimits) -> Self {
        HalfOpen { limits, count: 0, order: VecDeque::new() }
    }
}

impl Shard {
    /// Connections go to the cores in turn: left to itself, the kernel would give one idle core most of them. Before there
    /// is anything to serve they wait: a host that came too early would be told that its volumes do not exist.
    pub(super) fn place(&mut self, listener: u32, stream: TcpStream) -> Option<TcpStream> {
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

    /// Takes a connection over that another core accepted.
    pub(super) fn adopt(&mut self, io: &mut Io, listener: u32, stream: TcpStream) {
        // A peer that has gone already has no address any more.
        let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return };
        if let Some(socket) = io.adopt(stream) {
            self.link_up(io, listener, socket, peer, local);
        }
    }

    /// Makes a connection of a socket.
    pub(super) fn link_up(
        &mut self,
        io: &mut Io,
        listener: u32,
        socket: SocketId,
        peer: SocketAddr,
        local: SocketAddr,
    ) {
        let at = socket.index();
        if at >= self.links.len() {
            self.links.resize_with(at + 1, || None);
        }
        self.generation = (self.generation + 1) & (u32::MAX >> 1);
        let index = u64::try_from(at).unwrap_or(u64::MAX);
        let id = u64::from(self.generation) << 32 | index;
        let connection = self.connection(id, listener, peer, local);
        let client = self.fair.join(super::serving::ClientKey::Newcomers, super::serving::NEWCOMERS_PRICE);
        if let Some(place) = self.links.get_mut(at) {
            debug_assert!(place.is_none(), "a socket's number is given again after `closed`");
            *place = Some(Link {
                id,
                socket,
                peer,
                connection,
                client,
                half_open: true,
                input: Input::new(),
                queued: false,
                paused: false,
                parked: false,
                sending: None,
                dirty: false,
                closing: false,
            });
        }
        self.note_deadline(at);
        self.count_half_open(io, id);
    }

    /// A connection of the protocol of its portal.
    fn connection(&self, id: u64, listener: u32, peer: SocketAddr, local: SocketAddr) -> Connection {
        let number = u16::try_from(listener).unwrap_or(u16::MAX);
        let (now_ms, half_open_ms) = (self.clock.now_ms, self.half_open.limits.time_ms);
        let config = |portal| ConnectionConfig { id, peer, local, portal, now_ms, half_open_ms };
        match number.checked_sub(self.shared.nvme_portals) {
            None => Connection::Nvme(Box::new(holdfast_nvme::Connection::new(config(number)))),
            Some(portal) => Connection::Iscsi(Box::new(holdfast_iscsi::Connection::new(config(portal)))),
        }
    }

    /// Asks all hosts to go, where their protocol has words for that.
    pub(crate) fn announce_end(&mut self, io: &mut Io) {
        self.for_each_connection(|connection, _| {
            connection.shut_down();
            connection.ready_responses() > 0
        });
        self.flush(io);
    }

    /// Counts a new half-open connection; ends the oldest if there are too many.
    fn count_half_open(&mut self, io: &mut Io, id: u64) {
        self.half_open.count += 1;
        self.half_open.order.push_back(id);
        let max = self.half_open.limits.connections_max;
        while self.half_open.count > max
            && let Some(oldest) = self.half_open.order.pop_front()
        {
            if let Some(at) = self.find_half_open(oldest) {
                self.end_half_open(at);
                tracing::debug!("disconnected: too many peers have not connected to a subsystem");
                self.close(io, at);
            }
        }
        if self.half_open.order.len() > max.saturating_mul(2) {
            let mut order = std::mem::take(&mut self.half_open.order);
            order.retain(|id| self.find_half_open(*id).is_some());
            self.half_open.order = order;
        }
    }

    /// A connection is not half open any more.
    pub(super) fn end_half_open(&mut self, at: usize) {
        if let Some(Some(link)) = self.links.get_mut(at)
            && std::mem::take(&mut link.half_open)
        {
            self.half_open.count -= 1;
        }
    }

    fn find_half_open(&self, id: u64) -> Option<usize> {
        let at = super::links::place_of(id);
        let link = self.links.get(at)?.as_ref()?;
        (link.id == id && link.half_open).then_some(at)
    }
}

//! Connections and their places.

use std::net::SocketAddr;

use holdfast_reactor::{Io, Received, SocketId};

use super::Shard;
use super::input::Input;
use super::protocol::{Around, Connection};
use super::sending::SEND_STALL_MS;
use super::serving::Served;
use crate::fair::ClientId;

/// A connection and its place in the world.
pub(super) struct Link {
    /// What its commands' origins carry.
    pub id: u64,
    pub socket: SocketId,
    pub peer: SocketAddr,
    pub connection: Connection,
    /// Whom it counts for.
    pub client: ClientId,
    /// Its peer has yet to come as far as a successful Connect.
    pub half_open: bool,
    pub input: Input<Received>,
    /// It waits for its turn.
    pub queued: bool,
    /// It does not receive.
    pub paused: bool,
    /// It does not receive until its client has freed buffers.
    pub parked: bool,
    /// A batch is on its way out, since then.
    pub sending: Option<u64>,
    /// It is in the list of links to be flushed.
    pub dirty: bool,
    pub closing: bool,
}

impl Link {
    /// When something has to be looked at if nothing happens before.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        let stalled = self.sending.map(|since| since.saturating_add(SEND_STALL_MS));
        match (stalled, self.connection.deadline_ms()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

/// The place of the connection with this number.
pub(super) fn place_of(id: u64) -> usize {
    usize::try_from(id & u64::from(u32::MAX)).unwrap_or(usize::MAX)
}

/// Deadlines are met up to this much later, so that all links are looked at a few times per second at most.
pub(super) const DEADLINE_GRAIN_MS: u64 = 64;

impl Shard {
    /// Visits all connections; those for which `visit` says so may have something to send, or are to be closed.
    pub(super) fn for_each_connection(
        &mut self,
        mut visit: impl FnMut(&mut Connection, &mut Around<'_>) -> bool,
    ) {
        for at in 0..self.links.len() {
            if self.with_link(at, |link, cx| visit(&mut link.connection, cx)) == Some(true) {
                self.mark(at);
            }
        }
    }

    /// Runs `work` on a link with everything that its connection may need.
    pub(super) fn with_link<R>(
        &mut self,
        at: usize,
        work: impl FnOnce(&mut Link, &mut Around<'_>) -> R,
    ) -> Option<R> {
        let link = self.links.get_mut(at)?.as_mut()?;
        let mut cx = Around {
            now_ms: self.clock.now_ms,
            unix_seconds: self.clock.unix_ms / 1000,
            exports: &self.exports,
            shared: &self.shared,
            router: &mut self.router,
        };
        Some(work(link, &mut cx))
    }

    pub(super) fn mark(&mut self, at: usize) {
        if let Some(Some(link)) = self.links.get_mut(at)
            && !link.dirty
        {
            link.dirty = true;
            self.dirty.push(at);
        }
    }

    pub(super) fn position(&self, socket: SocketId) -> Option<usize> {
        let at = socket.index();
        let link = self.links.get(at)?.as_ref()?;
        (link.socket == socket).then_some(at)
    }

    /// Takes a link away whose socket is gone.
    pub(super) fn unlink(&mut self, io: &mut Io, at: usize) {
        self.drop_input(io, at);
        self.end_half_open(at);
        if let Some(link) = self.links.get_mut(at).and_then(Option::take) {
            self.fair.leave(link.client, Served::Link(at));
        }
    }

    pub(super) fn note_deadline(&mut self, at: usize) {
        let deadline = self.links.get(at).and_then(Option::as_ref).and_then(Link::deadline_ms);
        let deadline = deadline
            .map(|deadline_ms| deadline_ms.checked_next_multiple_of(DEADLINE_GRAIN_MS).unwrap_or(u64::MAX));
        self.deadline_ms = match (self.deadline_ms, deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

//! Who is served next: one core's time, shared fairly between the hosts that want it.
//!
//! Start-time fair queueing over clients, and round robin over the connections of a client. A client carries a tag: what it
//! has been given so far, in bytes moved. The one with the lowest tag is served for a slice, which moves its tag on by what
//! the slice did cost. A client that comes back after a pause continues at the tag of whoever is served then, or at its own
//! if that is further on: so nobody saves up, and nobody escapes what it owes (a command's cost is known once it has been
//! taken). If it is ahead by less than a slice it is served next, since the others are given whole slices. With any number
//! of connections and any depth, a client gets what it asks for or as much as every other, give or take three slices.
//!
//! Deficit round robin has the same shares, but forgets a debt with its queue or has to count rounds for those that
//! are absent, and serves a lone small command after the whole round that is under way.
//!
//! A turn is bounded, so that completions, mail and new input are never far away. While a client has the core to itself,
//! turns are long enough to cost nothing.

mod buffers;
mod clients;
#[cfg(test)]
mod simulation;

use holdfast_block::{PDU_COST, RESPONSES_PER_BATCH};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::Hash;

pub(crate) use clients::ClientId;
use clients::Clients;

/// What a command that moves 4 KiB costs.
const SMALL_COMMAND: u64 = PDU_COST + 4096;

/// What a connection is served in one go: small commands for one batch of responses. Fewer would make sends that cost more
/// than they carry, more would let the host wait for the first response.
const SLICE: u64 = RESPONSES_PER_BATCH as u64 * SMALL_COMMAND;

/// What is served in one turn while several clients want something: two slices, some 50 microseconds, so that
/// whoever wants a single command waits no longer than that. A turn's own cost is about a thirtieth of it.
const TURN: u64 = 2 * SLICE;

/// The same while nobody else is there: some 400 microseconds of small commands, after which completions of other cores,
/// mail and newly accepted connections get their due.
const TURN_ALONE: u64 = 16 * SLICE;

/// A client has the core to itself once nobody else was served in so many turns: a few milliseconds, in which a host that
/// works with one command at a time comes back many times.
const ALONE_TURNS: u64 = 64;

/// A connection's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slice<C> {
    client: ClientId,
    /// The connection.
    pub connection: C,
    /// What it may spend, in bytes moved; it may overrun by what cannot be divided.
    pub budget: u64,
}

/// The clients of one core, known by `K`, and which of their connections, known by `C`, want to be served.
#[derive(Debug)]
pub(crate) struct Fair<K, C> {
    clients: Clients<K, C>,
    /// Clients with queued connections, the lowest tag first.
    waiting: BinaryHeap<Reverse<Place>>,
    /// The tag of the client that was served last: where those that come back start.
    now: u64,
    /// Numbers places, so that abandoned ones are known.
    places: u64,
    /// Turns in which somebody was served.
    turn: u64,
    /// Spent in this turn.
    spent: u64,
    /// Who was served last, and since which turn nobody else was.
    sole: Option<(ClientId, u64)>,
    /// Receive buffers of the core.
    buffers: usize,
    /// How many of them are kept.
    kept: usize,
}

/// A client's place among those that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    tag: u64,
    /// Among equals, those that come back from a pause are first: they ask for less than they are due.
    returns: Returns,
    number: u64,
    client: ClientId,
}

/// Whether a client begins to wait, or goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Returns {
    Yes,
    No,
}

impl<K: Copy + Eq + Hash, C: Copy + Eq> Fair<K, C> {
    /// Nobody is there. The core has `buffers` receive buffers.
    pub(crate) fn new(buffers: usize) -> Self {
        Fair {
            clients: Clients::new(),
            waiting: BinaryHeap::new(),
            now: 0,
            places: 0,
            turn: 0,
            spent: 0,
            sole: None,
            buffers,
            kept: 0,
        }
    }

    /// A connection of client `key` comes. What a client with `price` spends counts so many times (1 or more), and its slices
    /// are as much shorter.
    pub(crate) fn join(&mut self, key: K, price: u64) -> ClientId {
        self.clients.join(key, price)
    }

    /// A connection of a client goes, and is not queued or parked any more. No buffer is kept for it.
    pub(crate) fn leave(&mut self, id: ClientId, connection: C) {
        if let Some(client) = self.clients.get_mut(id) {
            client.queue.retain(|queued| *queued != connection);
            client.parked.retain(|parked| *parked != connection);
        }
        self.clients.leave(id);
        if self.sole.is_some_and(|(sole, _)| sole == id) && self.clients.get_mut(id).is_none() {
            self.sole = None;
        }
    }

    /// A connection wants to be served. It must not be queued already.
    pub(crate) fn enqueue(&mut self, id: ClientId, connection: C) {
        let Some(client) = self.clients.get_mut(id) else { return };
        debug_assert!(!client.queue.contains(&connection), "a connection is queued once");
        client.queue.push_back(connection);
        if client.place.is_none() {
            client.tag = client.tag.max(self.now);
            // Others are given slices: whoever is ahead by less need not wait for theirs.
            let tag = if client.tag <= self.now.saturating_add(SLICE) { self.now } else { client.tag };
            self.find_place(id, tag, Returns::Yes);
        }
    }

    /// Whether anybody waits to be served.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Begins a turn.
    pub(crate) fn begin_turn(&mut self) {
        if self.spent > 0 {
            self.turn += 1;
        }
        self.spent = 0;
    }

    /// Who is served next in this turn; [`Fair::end`] has to follow. `None`: nobody waits, or this turn is over.
    pub(crate) fn next(&mut self) -> Option<Slice<C>> {
        if self.spent >= if self.is_alone() { TURN_ALONE } else { TURN } {
            return None;
        }
        while let Some(Reverse(place)) = self.waiting.pop() {
            let Some(client) = self.clients.get_mut(place.client) else { continue };
            if client.place != Some(place.number) {
                continue;
            }
            let Some(connection) = client.queue.pop_front() else {
                client.place = None;
                continue;
            };
            let budget = SLICE / client.price;
            self.now = self.now.max(place.tag);
            if self.sole.is_none_or(|(sole, _)| sole != place.client) {
                self.sole = Some((place.client, self.turn));
            }
            return Some(Slice { client: place.client, connection, budget });
        }
        None
    }

    /// A slice is over and came to `cost`. The connection goes behind the client's others if it wants more.
    pub(crate) fn end(&mut self, slice: Slice<C>, cost: u64, wants_more: bool) {
        // Looking at a connection costs something even if nothing comes of it.
        let cost = cost.max(PDU_COST);
        self.spent = self.spent.saturating_add(cost);
        let Some(client) = self.clients.get_mut(slice.client) else { return };
        client.tag = client.tag.saturating_add(cost.saturating_mul(client.price));
        if wants_more {
            client.queue.push_back(slice.connection);
        }
        if client.queue.is_empty() {
            client.place = None;
        } else {
            let tag = client.tag;
            self.find_place(slice.client, tag, Returns::No);
        }
    }

    fn find_place(&mut self, id: ClientId, tag: u64, returns: Returns) {
        let Some(client) = self.clients.get_mut(id) else { return };
        self.places += 1;
        client.place = Some(self.places);
        self.waiting.push(Reverse(Place { tag, returns, number: self.places, client: id }));
    }

    /// Whether one client has been the only one for a while.
    fn is_alone(&self) -> bool {
        self.sole.is_some_and(|(_, since)| self.turn - since >= ALONE_TURNS)
    }
}

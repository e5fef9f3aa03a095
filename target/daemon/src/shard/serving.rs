//! What comes in, and whose turn it is: input waits in its receive buffers until its connection is served.
//!
//! A connection that keeps several buffers, or whose client keeps more than its share, stops receiving until it has worked
//! them off; TCP then slows its peer down. A connection whose peer does not read is not served, since every
//! command would only add to what waits for it.

use holdfast_block::{Disposition, HostId, RESPONSES_PER_BATCH};
use holdfast_reactor::{Io, Received};

use super::Shard;
use super::links::Link;
use crate::fair::{ClientId, Slice};

/// Whom a connection counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ClientKey {
    /// A host, with all its queues and controllers.
    Host(HostId),
    /// Peers that are no host, or not yet: all together, so that it does not matter how many there are.
    Newcomers,
}

/// What waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    /// The input of a connection.
    Link(usize),
    /// Commands of other cores.
    Guests(usize),
}

/// What a host pays.
pub(super) const HOST_PRICE: u64 = 1;

/// What newcomers pay: against one busy host they get a fifth of a core together, and hundreds of Connects still go
/// through in a few milliseconds.
pub(super) const NEWCOMERS_PRICE: u64 = 4;

/// Receive buffers that a connection may keep from one turn to the next before it stops receiving: 128 KiB, the longest
/// payload of one PDU.
const INPUT_BUFFERS_MAX: usize = 4;

/// It receives again when it keeps so many or fewer: what it is working on, so that the next ones are there in time.
const INPUT_BUFFERS_LOW: usize = 1;

/// Responses that may wait behind a send under way before the connection is served no more: the next batch, and the one
/// after that.
pub(super) const OUTBOX_MAX: usize = 2 * RESPONSES_PER_BATCH;

impl Link {
    /// Whether it has something to do, and may.
    fn wants_service(&self) -> bool {
        !self.queued && !self.closing && !self.input.is_empty() && !self.is_stalled()
    }

    /// Whether its peer is behind with reading.
    pub(super) fn is_stalled(&self) -> bool {
        self.sending.is_some() && self.connection.ready_responses() >= OUTBOX_MAX
    }
}

impl Shard {
    /// Takes input in, to be served in this turn or a later one.
    pub(super) fn take_in(&mut self, at: usize, bytes: Received) {
        let Some(Some(link)) = self.links.get_mut(at) else { return };
        if link.closing || link.connection.disposition() != Disposition::Open {
            return;
        }
        link.input.push(bytes);
        self.fair.keep_buffer(link.client);
        self.arrived.push(at);
        self.queue_link(at);
    }

    /// Queues a connection for service if it wants some.
    pub(super) fn queue_link(&mut self, at: usize) {
        if let Some(Some(link)) = self.links.get_mut(at)
            && link.wants_service()
        {
            link.queued = true;
            self.fair.enqueue(link.client, Served::Link(at));
        }
    }

    /// Serves connections for one turn.
    pub(super) fn serve(&mut self, io: &mut Io) {
        self.fair.begin_turn();
        while let Some(slice) = self.fair.next() {
            match slice.connection {
                Served::Link(at) => self.serve_link(io, slice, at),
                Served::Guests(at) => self.serve_guests(slice, at),
            }
        }
        self.pause_receivers(io);
    }

    fn serve_link(&mut self, io: &mut Io, slice: Slice<Served>, at: usize) {
        let worked = self.with_link(at, |link, cx| {
            link.queued = false;
            let (mut cost, mut freed) = (0, 0);
            while cost < slice.budget
                && let Some(bytes) = link.input.front()
            {
                let taken = link.connection.receive(cx, bytes, slice.budget - cost);
                cost += taken.cost;
                freed += link.input.advance(taken.bytes);
            }
            (cost, freed, link.client)
        });
        let Some((cost, freed, client)) = worked else { return self.fair.end(slice, 0, false) };
        self.mark(at);
        self.deliver_completions();
        let worked_off =
            self.links.get(at).and_then(Option::as_ref).is_some_and(|link| link.input.is_empty());
        // With others to serve first, nothing comes soon that could go into the same send.
        let least = if worked_off && self.fair.is_waiting() { 1 } else { RESPONSES_PER_BATCH };
        self.send_batches(io, at, least);
        self.note_deadline(at);
        let more = self.links.get_mut(at).and_then(Option::as_mut).is_some_and(|link| {
            link.queued = link.wants_service();
            link.queued
        });
        self.fair.end(slice, cost, more);
        self.buffers_freed(io, client, freed);
        self.settle(at);
        self.resume_receiver(io, at);
    }

    /// A connection that has become a host's counts for that from now on.
    fn settle(&mut self, at: usize) {
        let Some(Some(link)) = self.links.get(at) else { return };
        if !link.half_open || link.connection.is_half_open() {
            return;
        }
        self.end_half_open(at);
        let Some(Some(link)) = self.links.get_mut(at) else { return };
        let Some(host) = link.connection.host() else { return };
        let (from, to) = (link.client, self.fair.join(ClientKey::Host(host), HOST_PRICE));
        link.client = to;
        link.queued = false;
        for _ in 0..link.input.buffers() {
            self.fair.free_buffer(from);
            self.fair.keep_buffer(to);
        }
        self.fair.leave(from, Served::Link(at));
        self.queue_link(at);
    }

    /// Drops a connection's input.
    pub(super) fn drop_input(&mut self, io: &mut Io, at: usize) {
        if let Some(Some(link)) = self.links.get_mut(at) {
            let (client, freed) = (link.client, link.input.clear());
            self.buffers_freed(io, client, freed);
        }
    }

    /// Lets connections receive that waited for buffers of their client to be freed: one for each; and all once it keeps
    /// none, since nothing would be freed again.
    fn buffers_freed(&mut self, io: &mut Io, client: ClientId, freed: usize) {
        for _ in 0..freed {
            self.fair.free_buffer(client);
            if let Some(Served::Link(at)) = self.fair.unpark(client) {
                self.receive_again(io, at);
            }
        }
        while freed > 0
            && self.fair.keeps_nothing(client)
            && let Some(Served::Link(at)) = self.fair.unpark(client)
        {
            self.receive_again(io, at);
        }
    }

    /// Stops the receives of connections that keep too much after this turn.
    fn pause_receivers(&mut self, io: &mut Io) {
        while let Some(at) = self.arrived.pop() {
            let Some(Some(link)) = self.links.get_mut(at) else { continue };
            let kept = link.input.buffers();
            let stops = kept > INPUT_BUFFERS_MAX || (kept > 0 && self.fair.is_hoarding(link.client));
            if stops && !link.paused && !link.closing {
                link.paused = true;
                io.pause_receive(link.socket);
            }
        }
    }

    /// Lets a paused connection receive that has worked off its input, once its client is not hoarding.
    fn resume_receiver(&mut self, io: &mut Io, at: usize) {
        let Some(Some(link)) = self.links.get_mut(at) else { return };
        if !link.paused || link.parked || link.input.buffers() > INPUT_BUFFERS_LOW {
            return;
        }
        if self.fair.is_hoarding(link.client) {
            link.parked = true;
            self.fair.park(link.client, Served::Link(at));
        } else {
            self.receive_again(io, at);
        }
    }

    fn receive_again(&mut self, io: &mut Io, at: usize) {
        if let Some(Some(link)) = self.links.get_mut(at) {
            link.paused = false;
            link.parked = false;
            io.resume_receive(link.socket);
        }
    }
}

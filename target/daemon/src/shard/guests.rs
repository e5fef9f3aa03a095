//! Commands of other cores for volumes that live here. They wait for their host's turn like the input of its connections: a
//! host gains nothing by connecting elsewhere. Each other core bounds what it may have under way.

use std::collections::{HashMap, VecDeque};

use holdfast_block::HostId;

use super::Shard;
use super::serving::{ClientKey, HOST_PRICE, Served};
use crate::fair::{ClientId, Slice};
use crate::guests::RemoteCommand;

/// The commands of one host that have come from other cores.
struct GuestQueue {
    host: HostId,
    client: ClientId,
    commands: VecDeque<Box<RemoteCommand>>,
    /// It waits for its turn.
    queued: bool,
}

/// The commands of all hosts that have come from other cores.
#[derive(Default)]
pub(super) struct Guests {
    queues: Vec<Option<GuestQueue>>,
    by_host: HashMap<HostId, usize>,
}

impl Guests {
    fn get_mut(&mut self, at: usize) -> Option<&mut GuestQueue> {
        self.queues.get_mut(at)?.as_mut()
    }
}

impl Shard {
    /// Takes a command of another core in.
    pub(super) fn take_guest(&mut self, command: Box<RemoteCommand>) {
        let host = command.host();
        let at = match self.guests.by_host.get(&host) {
            Some(at) => *at,
            None => self.add_guest_queue(host),
        };
        if let Some(queue) = self.guests.get_mut(at) {
            queue.commands.push_back(command);
            if !std::mem::replace(&mut queue.queued, true) {
                self.fair.enqueue(queue.client, Served::Guests(at));
            }
        }
    }

    fn add_guest_queue(&mut self, host: HostId) -> usize {
        let client = self.fair.join(ClientKey::Host(host), HOST_PRICE);
        let queue = GuestQueue { host, client, commands: VecDeque::new(), queued: false };
        let at = self.guests.queues.iter().position(Option::is_none).unwrap_or(self.guests.queues.len());
        match self.guests.queues.get_mut(at) {
            Some(place) => *place = Some(queue),
            None => self.guests.queues.push(Some(queue)),
        }
        self.guests.by_host.insert(host, at);
        at
    }

    /// Carries out commands of one host for a slice.
    pub(super) fn serve_guests(&mut self, slice: Slice<Served>, at: usize) {
        let mut cost = 0_u64;
        while cost < slice.budget
            && let Some(command) = self.guests.get_mut(at).and_then(|queue| queue.commands.pop_front())
        {
            cost = cost.saturating_add(command.cost());
            self.router.execute(*command);
        }
        self.deliver_completions();
        let more = self.guests.get_mut(at).is_some_and(|queue| {
            queue.queued = !queue.commands.is_empty();
            queue.queued
        });
        self.fair.end(slice, cost, more);
    }

    /// Forgets hosts that have gone.
    pub(super) fn retain_guests(&mut self, stays: impl Fn(HostId) -> bool) {
        for (at, place) in self.guests.queues.iter_mut().enumerate() {
            if let Some(queue) = place.take_if(|queue| queue.commands.is_empty() && !stays(queue.host)) {
                self.guests.by_host.remove(&queue.host);
                self.fair.leave(queue.client, Served::Guests(at));
            }
        }
    }
}

//! The clients of a core: found by key when a connection comes, and by number from then on.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A client, as its table numbers it. The number is used again once the client's last connection has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClientId(usize);

/// What is known of a client.
#[derive(Debug)]
pub(super) struct Client<K, C> {
    key: K,
    connections: usize,
    /// How often a cost counts.
    pub price: u64,
    /// What it has been given.
    pub tag: u64,
    /// The number of its place among those that wait, or while it is served; `None`: nothing is queued.
    pub place: Option<u64>,
    /// Connections that want to be served.
    pub queue: VecDeque<C>,
    /// Receive buffers that are kept for it.
    pub kept: usize,
    /// Connections that do not receive because it keeps too many.
    pub parked: VecDeque<C>,
}

/// All clients with connections.
#[derive(Debug)]
pub(super) struct Clients<K, C> {
    table: Vec<Option<Client<K, C>>>,
    free: Vec<usize>,
    by_key: HashMap<K, ClientId>,
}

impl<K: Copy + Eq + Hash, C> Clients<K, C> {
    pub(super) fn new() -> Self {
        Clients { table: Vec::new(), free: Vec::new(), by_key: HashMap::new() }
    }

    /// Counts a connection of `key`'s client.
    pub(super) fn join(&mut self, key: K, price: u64) -> ClientId {
        if let Some(id) = self.by_key.get(&key).copied()
            && let Some(client) = self.get_mut(id)
        {
            client.connections += 1;
            return id;
        }
        let client = Client {
            key,
            connections: 1,
            price: price.max(1),
            tag: 0,
            place: None,
            queue: VecDeque::new(),
            kept: 0,
            parked: VecDeque::new(),
        };
        let at = self.free.pop().unwrap_or(self.table.len());
        match self.table.get_mut(at) {
            Some(place) => *place = Some(client),
            None => self.table.push(Some(client)),
        }
        self.by_key.insert(key, ClientId(at));
        ClientId(at)
    }

    /// Counts a connection less; the client goes with its last one.
    pub(super) fn leave(&mut self, id: ClientId) {
        let Some(client) = self.get_mut(id) else { return };
        client.connections -= 1;
        if client.connections > 0 {
            return;
        }
        let key = client.key;
        self.by_key.remove(&key);
        if let Some(place) = self.table.get_mut(id.0) {
            *place = None;
        }
        self.free.push(id.0);
    }

    pub(super) fn get_mut(&mut self, id: ClientId) -> Option<&mut Client<K, C>> {
        self.table.get_mut(id.0)?.as_mut()
    }
}

//! Hosts that nobody registered: they get an identifier on their first connection, which is kept and
//! handed to the control plane. Touched when sessions begin, never per I/O.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Exports, HostId};

/// Who a host says it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// NVMe qualified name.
    Nqn(String),
    /// iSCSI qualified name.
    Iqn(String),
}

/// A host that was recorded here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    /// The identifier it was given.
    pub id: HostId,
    /// Who it says it is.
    pub identity: Identity,
}

/// Most hosts that are recorded before the control plane has adopted some: a bound on what strangers
/// can make us remember.
const DISCOVERED_MAX: usize = 4096;

/// The record of discovered hosts, shared by all cores.
#[derive(Debug)]
pub struct HostBook {
    discovered: Mutex<Vec<Discovered>>,
    next_id: fn() -> HostId,
}

impl HostBook {
    /// A record that starts with what was kept; `next_id` gives fresh identifiers (random, unique).
    pub fn new(kept: Vec<Discovered>, next_id: fn() -> HostId) -> Self {
        HostBook { discovered: Mutex::new(kept), next_id }
    }

    /// The host with this identity: one on record, else one discovered before, else a new one.
    /// `None` when the book is full.
    pub fn resolve(&self, exports: &Exports, identity: &Identity) -> Option<HostId> {
        let known = match identity {
            Identity::Nqn(nqn) => exports.host_by_nqn(nqn),
            Identity::Iqn(iqn) => exports.host_by_iqn(iqn),
        };
        if let Some(host) = known {
            return Some(host.id);
        }
        let mut discovered = self.lock();
        if let Some(found) = discovered.iter().find(|found| found.identity == *identity) {
            return Some(found.id);
        }
        if discovered.len() >= DISCOVERED_MAX {
            return None;
        }
        let id = (self.next_id)();
        discovered.push(Discovered { id, identity: identity.clone() });
        Some(id)
    }

    /// Forgets what the desired state now names: from here on that is the authority.
    pub fn adopted(&self, exports: &Exports) {
        let named =
            |id: HostId| exports.hosts().iter().any(|host| host.id == id || host.aliases.contains(&id));
        self.lock().retain(|found| !named(found.id));
    }

    /// Everything not adopted yet.
    pub fn discovered(&self) -> Vec<Discovered> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Discovered>> {
        self.discovered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

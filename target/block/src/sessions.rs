//! Open sessions of all cores and transports. Touched when sessions begin and end, never per I/O.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::reservations::Nexus;
use crate::{HostId, SubsystemId, View};

/// Over what a session runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// NVMe over TCP.
    NvmeTcp,
    /// iSCSI.
    Iscsi,
}

/// An NVMe controller or an iSCSI session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Unique in this run of the target.
    pub id: u64,
    /// Whose.
    pub host: HostId,
    /// Over what.
    pub transport: Transport,
    /// The initiator's address.
    pub peer: SocketAddr,
    /// To which subsystem.
    pub subsystem: SubsystemId,
    /// How its volumes look, for as long as this host has any session with this subsystem.
    pub view: View,
    /// Whether the host proved who it is.
    pub authenticated: bool,
    /// Readable, for incidents: `cntlid 3`, `isid 00023d000001`.
    pub label: String,
    /// Digests on its connections, for incidents.
    pub header_digest: bool,
    /// As above.
    pub data_digest: bool,
    /// Seconds since 1970-01-01 UTC.
    pub since: u64,
    /// Whom reservations take it for.
    pub nexus: Nexus,
}

/// What is needed to open a session.
#[derive(Debug, Clone)]
pub struct SessionRequest {
    /// See [`Session`].
    pub host: HostId,
    /// See [`Session`].
    pub transport: Transport,
    /// See [`Session`].
    pub peer: SocketAddr,
    /// See [`Session`].
    pub subsystem: SubsystemId,
    /// The view that the grant asks for now. An open session of the same host, subsystem and transport decides instead.
    pub view: View,
    /// See [`Session`].
    pub authenticated: bool,
    /// See [`Session`].
    pub label: String,
    /// See [`Session`].
    pub header_digest: bool,
    /// See [`Session`].
    pub data_digest: bool,
    /// See [`Session`].
    pub since: u64,
    /// See [`Session`].
    pub nexus: Nexus,
}

/// Most sessions that may be open at once: a bound on what peers can make us remember.
const SESSIONS_MAX: usize = 4096;

/// The open sessions.
#[derive(Debug, Default)]
pub struct SessionBook {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last_id: u64,
    open: Vec<Arc<Session>>,
}

impl SessionBook {
    /// Opens a session; `None` at the limit of open sessions.
    pub fn open(&self, request: SessionRequest) -> Option<Arc<Session>> {
        let mut inner = self.lock();
        if inner.open.len() >= SESSIONS_MAX {
            return None;
        }
        inner.last_id += 1;
        let sibling = inner.open.iter().find(|session| {
            session.host == request.host
                && session.subsystem == request.subsystem
                && session.transport == request.transport
        });
        let session = Arc::new(Session {
            id: inner.last_id,
            host: request.host,
            transport: request.transport,
            peer: request.peer,
            subsystem: request.subsystem,
            view: sibling.map_or(request.view, |session| session.view),
            authenticated: request.authenticated,
            label: request.label,
            header_digest: request.header_digest,
            data_digest: request.data_digest,
            since: request.since,
            nexus: request.nexus,
        });
        inner.open.push(Arc::clone(&session));
        Some(session)
    }

    /// Closes a session; closing it twice changes nothing.
    pub fn close(&self, id: u64) {
        self.lock().open.retain(|session| session.id != id);
    }

    /// All open sessions, oldest first.
    pub fn list(&self) -> Vec<Arc<Session>> {
        self.lock().open.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

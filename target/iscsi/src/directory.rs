//! The sessions of all cores. RFC 7143 §6.3.1 "Login Phase Start" and §6.3.5 "Session Reinstatement, Closure, and Timeout".
//!
//! Touched when sessions begin and end, never per command. A session that another one takes the place of is asked to end
//! here; its connection does so on its own core, and only then does the new one begin.

use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_block::{Portal, Session, SessionBook, SubsystemId};

use crate::negotiation_limits::{INITIATOR_SESSIONS_MAX, SESSIONS_MAX};
use crate::params::Params;

/// The one portal group that every target has.
pub const PORTAL_GROUP_TAG: u16 = 1;

/// Whose session: RFC 7143 §4.4.3 "Consequences of the Model".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionName {
    /// InitiatorName, normalised.
    pub initiator: String,
    /// ISID.
    pub isid: [u8; 6],
    /// With which target; `None`: discovery.
    pub subsystem: Option<SubsystemId>,
}

/// A session in the directory.
#[derive(Debug)]
pub struct Member {
    /// Who with whom.
    pub name: SessionName,
    /// Target Session Identifying Handle, not 0.
    pub tsih: u16,
    /// Its connection.
    pub cid: u16,
    /// What was agreed for it.
    pub params: Params,
    /// In the block layer; `None`: discovery.
    pub session: Option<Arc<Session>>,
    ended: AtomicBool,
}

impl Member {
    /// Whether its connection has to end, since another session takes its place.
    pub fn is_ended(&self) -> bool {
        self.ended.load(Acquire)
    }
}

/// What a login asks for.
#[derive(Debug)]
pub(crate) struct Opening<'a> {
    pub(crate) name: &'a SessionName,
    /// 0: a new session.
    pub(crate) tsih: u16,
    pub(crate) cid: u16,
    pub(crate) params: Params,
}

/// Why a session cannot begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenRefused {
    /// First its predecessor has to end, which knows it by now: ask again after the next [`Directory::generation`].
    Wait,
    /// No session of this initiator port and target has this TSIH.
    Unknown,
    /// The session has its one connection, under another CID.
    TooManyConnections,
    /// Too many sessions.
    Full,
}

/// All sessions.
#[derive(Debug)]
pub struct Directory {
    portals: Vec<Portal>,
    /// Goes up when connections have to look whether their session goes on, or whether they may begin.
    generation: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last_tsih: u16,
    members: Vec<Arc<Member>>,
}

impl Directory {
    /// A directory without sessions; portals in the order of their numbers.
    pub fn new(portals: Vec<Portal>) -> Directory {
        Directory { portals, generation: AtomicU64::new(0), inner: Mutex::default() }
    }

    /// All portals.
    pub fn portals(&self) -> &[Portal] {
        &self.portals
    }

    /// Goes up when every connection has to be told that sessions have ended or are to end.
    pub fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// Number of sessions now, those for discovery included.
    pub fn sessions(&self) -> usize {
        self.lock().members.len()
    }

    /// Ends a session: its connection calls this when it has given back everything. Doing it twice changes nothing.
    pub fn close(&self, member: &Arc<Member>, sessions: &SessionBook) {
        if let Some(session) = &member.session {
            sessions.close(session.id);
        }
        self.lock().members.retain(|other| !Arc::ptr_eq(other, member));
        if member.is_ended() {
            self.wake();
        }
    }

    /// Asks all other sessions with the target of this one to end.
    pub(crate) fn end_target(&self, member: &Arc<Member>) {
        let concerned = |other: &&Arc<Member>| {
            other.name.subsystem == member.name.subsystem && !Arc::ptr_eq(other, member)
        };
        self.lock().members.iter().filter(concerned).for_each(|other| other.ended.store(true, Release));
        self.wake();
    }

    /// What holds for a session that a connection wants to join; `Err` as [`Directory::open`] would answer.
    pub(crate) fn find(&self, name: &SessionName, tsih: u16, cid: u16) -> Result<Params, OpenRefused> {
        let inner = self.lock();
        let found = inner.members.iter().find(|member| member.tsih == tsih && member.name == *name);
        let found = found.ok_or(OpenRefused::Unknown)?;
        if found.cid == cid { Ok(found.params) } else { Err(OpenRefused::TooManyConnections) }
    }

    /// Begins a session, or one in the place of another. `make` gets its TSIH and opens it in the block layer: `None` if that
    /// is full. `took_over`: the predecessor had to be waited for, so a TSIH that is gone by now is this session's.
    pub(crate) fn open(
        &self,
        opening: &Opening<'_>,
        took_over: bool,
        make: impl FnOnce() -> Option<Option<Arc<Session>>>,
    ) -> Result<Arc<Member>, OpenRefused> {
        let mut inner = self.lock();
        let predecessor = inner.predecessor(opening, took_over)?;
        if let Some(member) = predecessor {
            member.ended.store(true, Release);
            drop(inner);
            self.wake();
            return Err(OpenRefused::Wait);
        }
        let own = inner.members.iter().filter(|member| member.name.initiator == opening.name.initiator);
        if inner.members.len() >= SESSIONS_MAX || own.count() >= INITIATOR_SESSIONS_MAX {
            return Err(OpenRefused::Full);
        }
        let tsih = if opening.tsih == 0 { inner.fresh_tsih() } else { opening.tsih };
        let session = make().ok_or(OpenRefused::Full)?;
        let member = Arc::new(Member {
            name: opening.name.clone(),
            tsih,
            cid: opening.cid,
            params: opening.params,
            session,
            ended: AtomicBool::new(false),
        });
        inner.members.push(Arc::clone(&member));
        Ok(member)
    }

    fn wake(&self) {
        self.generation.fetch_add(1, Release);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The session that has to end first. Discovery sessions stand in nobody's way.
    fn predecessor(
        &self,
        opening: &Opening<'_>,
        took_over: bool,
    ) -> Result<Option<Arc<Member>>, OpenRefused> {
        let same = |member: &&Arc<Member>| member.name == *opening.name;
        if opening.tsih == 0 {
            let normal = opening.name.subsystem.is_some();
            return Ok(self.members.iter().find(same).filter(|_| normal).cloned());
        }
        match self.members.iter().find(|member| member.tsih == opening.tsih && same(member)) {
            Some(member) if member.cid == opening.cid => Ok(Some(Arc::clone(member))),
            Some(_) => Err(OpenRefused::TooManyConnections),
            None if took_over && !self.members.iter().any(|member| member.tsih == opening.tsih) => Ok(None),
            None => Err(OpenRefused::Unknown),
        }
    }

    /// A TSIH that no session has. There are far fewer sessions than numbers.
    fn fresh_tsih(&mut self) -> u16 {
        let mut tsih = self.last_tsih;
        loop {
            tsih = tsih.checked_add(1).unwrap_or(1);
            if !self.members.iter().any(|member| member.tsih == tsih) {
                self.last_tsih = tsih;
                return tsih;
            }
        }
    }
}

const _: () = assert!(SESSIONS_MAX < 60_000, "or the search for a TSIH takes long");

#[cfg(test)]
mod tests {
    use super::*;

    fn name(initiator: &str, subsystem: Option<u64>) -> SessionName {
        let subsystem = subsystem.map(|id| SubsystemId::new(id).unwrap());
        SessionName { initiator: initiator.into(), isid: [1; 6], subsystem }
    }

    fn open(
        directory: &Directory,
        name: &SessionName,
        tsih: u16,
        cid: u16,
    ) -> Result<Arc<Member>, OpenRefused> {
        let params = Params::default();
        directory.open(&Opening { name, tsih, cid, params }, false, || Some(None))
    }

    #[test]
    fn a_session_begins_only_after_its_predecessor_has_ended() {
        let (directory, sessions) = (Directory::new(vec![]), SessionBook::default());
        let port = name("iqn.a", Some(1));
        let old = open(&directory, &port, 0, 0).unwrap();
        let other = open(&directory, &name("iqn.b", Some(1)), 0, 0).unwrap();
        let before = directory.generation();
        assert_eq!(open(&directory, &port, 0, 0).unwrap_err(), OpenRefused::Wait);
        assert!(old.is_ended() && !other.is_ended());
        assert!(directory.generation() > before);
        let before = directory.generation();
        directory.close(&old, &sessions);
        assert!(directory.generation() > before);
        let new = open(&directory, &port, 0, 0).unwrap();
        assert_ne!(new.tsih, 0);
        assert_eq!(directory.sessions(), 2);
    }

    #[test]
    fn a_known_session_takes_one_connection() {
        let directory = Directory::new(vec![]);
        let port = name("iqn.a", Some(1));
        let old = open(&directory, &port, 0, 7).unwrap();
        assert_eq!(open(&directory, &port, old.tsih, 8).unwrap_err(), OpenRefused::TooManyConnections);
        assert_eq!(open(&directory, &port, old.tsih + 1, 7).unwrap_err(), OpenRefused::Unknown);
        assert_eq!(open(&directory, &name("iqn.b", Some(1)), old.tsih, 7).unwrap_err(), OpenRefused::Unknown);
        assert!(!old.is_ended());
        assert_eq!(open(&directory, &port, old.tsih, 7).unwrap_err(), OpenRefused::Wait);
        assert!(old.is_ended());
    }

    #[test]
    fn discovery_sessions_of_one_name_live_side_by_side() {
        let directory = Directory::new(vec![]);
        let asker = name("iqn.a", None);
        let first = open(&directory, &asker, 0, 0).unwrap();
        let second = open(&directory, &asker, 0, 0).unwrap();
        assert_ne!(first.tsih, second.tsih);
        assert!(!first.is_ended());
    }

    #[test]
    fn handles_are_never_zero_and_never_given_twice() {
        let directory = Directory::new(vec![]);
        directory.lock().last_tsih = u16::MAX - 1;
        let handles: Vec<u16> =
            (0..3).map(|_| open(&directory, &name("iqn.a", None), 0, 0).unwrap().tsih).collect();
        assert_eq!(handles, [u16::MAX, 1, 2]);
    }

    #[test]
    fn one_initiator_leaves_room_for_others() {
        let directory = Directory::new(vec![]);
        for _ in 0..INITIATOR_SESSIONS_MAX {
            open(&directory, &name("iqn.a", None), 0, 0).unwrap();
        }
        assert_eq!(open(&directory, &name("iqn.a", None), 0, 0).unwrap_err(), OpenRefused::Full);
        open(&directory, &name("iqn.b", None), 0, 0).unwrap();
    }
}

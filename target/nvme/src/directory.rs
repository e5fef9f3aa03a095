//! The controllers of all cores. Base 2.1 §3.1.1 "NVM Subsystem" and §3.1.2.1.2 "Controller ID": the dynamic controller model.
//!
//! Touched at Connect, at controller reset and when connections end; never per command.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_block::{Portal, SubsystemId};

use crate::controller::{Association, Controller};
use crate::limits::{CONTROLLERS_MAX, HOST_CONNECTIONS_MAX, MAXH2CDATA};
use crate::subsystem::SubsystemState;

/// What never changes while the target runs.
#[derive(Debug, Clone)]
pub struct DirectoryConfig {
    /// First characters of every serial number; the subsystem's identifier follows. At most 4 characters count.
    pub serial_prefix: String,
    /// Model number, at most 40 characters.
    pub model: String,
    /// Firmware revision, at most 8 characters.
    pub firmware: String,
    /// All portals, in the order of their numbers.
    pub portals: Vec<Portal>,
    /// When the target started, in seconds since 1970-01-01 UTC: for power-on hours.
    pub started_unix_seconds: u64,
    /// Longest payload of one H2CData PDU.
    pub h2c_data_max: H2cDataMax,
}

/// MAXH2CDATA. NVMe/TCP 1.1 §3.6.2.3 "Initialize Connection Response PDU".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct H2cDataMax(u32);

impl H2cDataMax {
    /// So many bytes: dwords, and at least 4096 as the clause asks. Nothing for other values, and for more than this front end takes.
    #[must_use]
    pub fn new(bytes: u32) -> Option<H2cDataMax> {
        ((4096..=MAXH2CDATA).contains(&bytes) && bytes.is_multiple_of(4)).then_some(H2cDataMax(bytes))
    }

    pub(crate) fn bytes(self) -> u32 {
        self.0
    }
}

impl Default for H2cDataMax {
    fn default() -> H2cDataMax {
        H2cDataMax(MAXH2CDATA)
    }
}

/// What is to be kept over restarts: persistent event logs, and the age of the target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptEvents {
    /// How often the target has started.
    pub power_cycles: u64,
    /// Whole hours that it has run, in all.
    pub power_on_hours: u64,
    /// By subsystem, in the order of their identifiers.
    pub subsystems: Vec<KeptSubsystem>,
}

/// The persistent event log of one subsystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSubsystem {
    /// Whose.
    pub id: SubsystemId,
    /// Generation Number: how often a host has begun to read it.
    pub generation: u16,
    /// Events as hosts read them, oldest first.
    pub events: Vec<Vec<u8>>,
}

/// All controllers.
#[derive(Debug)]
pub struct Directory {
    config: DirectoryConfig,
    power_cycles: u64,
    earlier_hours: u64,
    /// Goes up when queues of other connections have to end, or have something to do for each other.
    generation: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last_cntlid: u16,
    controllers: Vec<Arc<Controller>>,
    /// Of every subsystem that has had a controller. An administrator makes them, so they need no bound of ours.
    subsystems: BTreeMap<SubsystemId, Arc<SubsystemState>>,
}

impl Inner {
    fn has_room(&self, hostnqn: &str) -> bool {
        let own = self.controllers.iter().filter(|controller| controller.association.hostnqn == hostnqn);
        own.map(|controller| 1 + controller.queue_count()).sum::<usize>() < HOST_CONNECTIONS_MAX
    }
}

const SECONDS_PER_HOUR: u64 = 3600;

/// Highest CNTLID that may be given to a controller.
const CNTLID_MAX: u16 = 0xffef;

impl Directory {
    /// A directory without controllers, in the first run of a target.
    pub fn new(config: DirectoryConfig) -> Directory {
        Directory::restore(config, KeptEvents::default())
    }

    /// A directory without controllers, after a restart. Events that cannot be are left out.
    pub fn restore(config: DirectoryConfig, kept: KeptEvents) -> Directory {
        let subsystems = kept.subsystems.into_iter().map(|subsystem| {
            (subsystem.id, Arc::new(SubsystemState::restore(subsystem.generation, subsystem.events)))
        });
        let inner = Inner { subsystems: subsystems.collect(), ..Inner::default() };
        Directory {
            config,
            power_cycles: kept.power_cycles.saturating_add(1),
            earlier_hours: kept.power_on_hours,
            generation: AtomicU64::new(0),
            inner: Mutex::new(inner),
        }
    }

    /// What is to be kept, at this time.
    pub fn kept(&self, unix_seconds: u64) -> KeptEvents {
        let states: Vec<_> =
            self.lock().subsystems.iter().map(|(id, state)| (*id, Arc::clone(state))).collect();
        let subsystems = states.into_iter().map(|(id, state)| {
            let (generation, events) = state.kept();
            KeptSubsystem { id, generation, events }
        });
        KeptEvents {
            power_cycles: self.power_cycles,
            power_on_hours: self.power_on_hours(unix_seconds),
            subsystems: subsystems.collect(),
        }
    }

    /// Forgets subsystems that are gone.
    pub fn retain_subsystems(&self, keep: impl Fn(SubsystemId) -> bool) {
        self.lock().subsystems.retain(|id, _| keep(*id));
    }

    /// How often the target has started.
    pub(crate) fn power_cycles(&self) -> u64 {
        self.power_cycles
    }

    /// Whole hours that the target has run, in all.
    pub(crate) fn power_on_hours(&self, unix_seconds: u64) -> u64 {
        let now = unix_seconds.saturating_sub(self.config.started_unix_seconds) / SECONDS_PER_HOUR;
        self.earlier_hours.saturating_add(now)
    }

    /// Goes up when controllers were reset or ended, or when their queues have something to do for each other: every
    /// connection then has to be told by [`crate::Connection::directory_changed`].
    pub fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// Number of controllers now, those for discovery included.
    pub fn controllers(&self) -> usize {
        self.lock().controllers.len()
    }

    pub(crate) fn config(&self) -> &DirectoryConfig {
        &self.config
    }

    /// Makes a controller with a fresh CNTLID for a host. `None`: there are too many, or `associate` declines.
    pub(crate) fn create(
        &self,
        hostnqn: &str,
        associate: impl FnOnce(u16) -> Option<Association>,
    ) -> Option<Arc<Controller>> {
        let mut inner = self.lock();
        if inner.controllers.len() >= CONTROLLERS_MAX || !inner.has_room(hostnqn) {
            return None;
        }
        let mut cntlid = inner.last_cntlid;
        // Ends: there are more numbers than controllers.
        loop {
            cntlid = if cntlid >= CNTLID_MAX { 1 } else { cntlid + 1 };
            if !inner.controllers.iter().any(|controller| controller.cntlid == cntlid) {
                break;
            }
        }
        let association = associate(cntlid)?;
        let subsystem = association.subsystem.as_ref().map(|(id, _)| *id);
        let state = subsystem.map(|id| Arc::clone(inner.subsystems.entry(id).or_default()));
        let controller = Arc::new(Controller::new(cntlid, association, state.unwrap_or_default()));
        inner.last_cntlid = cntlid;
        inner.controllers.push(Arc::clone(&controller));
        Some(controller)
    }

    /// Whether this host may have one more connection.
    pub(crate) fn has_room(&self, hostnqn: &str) -> bool {
        self.lock().has_room(hostnqn)
    }

    /// The controller with this CNTLID.
    pub(crate) fn find(&self, cntlid: u16) -> Option<Arc<Controller>> {
        self.lock().controllers.iter().find(|controller| controller.cntlid == cntlid).cloned()
    }

    /// CNTLIDs of the controllers of a subsystem, in order, from `from` on.
    pub(crate) fn controllers_of(&self, subsystem: SubsystemId, from: u16) -> Vec<u16> {
        let inner = self.lock();
        let of_subsystem = inner.controllers.iter().filter(|controller| {
            controller.association.subsystem.as_ref().is_some_and(|(id, _)| *id == subsystem)
        });
        let mut ids: Vec<u16> =
            of_subsystem.map(|controller| controller.cntlid).filter(|id| *id >= from).collect();
        ids.sort_unstable();
        ids
    }

    /// Ends the I/O queues of a controller, which stays.
    pub(crate) fn reset(&self, controller: &Controller) {
        controller.end_queues();
        self.wake();
    }

    /// Ends a controller, with all its queues.
    pub(crate) fn remove(&self, controller: &Controller) {
        self.lock().controllers.retain(|other| !std::ptr::eq(&raw const **other, controller));
        controller.end();
        self.wake();
    }

    /// Has every connection look at its controller.
    pub(crate) fn wake(&self) {
        self.generation.fetch_add(1, Release);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

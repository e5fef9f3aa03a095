//! What all controllers of one subsystem share: the persistent event log, and features whose scope is the namespace. Base 2.1
//! §5.1.12.1.14 "Persistent Event (Log Page Identifier 0Dh)", §4.4 "Feature Values".
//!
//! Touched when something out of the ordinary happens, never per I/O. The log is bounded: the oldest events go.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use holdfast_block::{BlockPort, Subsystem, VolumeId, VolumeInfo};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::connection::Context;
use crate::limits::EVENT_LOG_LEN_MAX;
use crate::wire::events::{
    CHANGE_CREATE, CHANGE_DELETE, EVENT_HEADER_EXTRA, EventHeader, HARDWARE_INTEGRITY, HardwareError,
    NamespaceChange, PORT_NONE, PowerOnReset, TimestampChange, event_type,
};
use crate::wire::log::SmartLog;
use crate::wire::put_text;
use crate::wire::sqe::Cqe;

/// What controllers of one subsystem share.
#[derive(Debug, Default)]
pub(crate) struct SubsystemState {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<Vec<u8>>,
    len_bytes: usize,
    generation: u16,
    started: bool,
    known: Option<Known>,
    last_damage: Option<(u64, u16)>,
    /// TLER of namespaces that have their own.
    error_recovery: BTreeMap<(u32, VolumeId), u16>,
    error_recovery_of_all: u16,
}

/// The namespaces as they were at a revision of the exports.
#[derive(Debug)]
struct Known {
    revision: u64,
    namespaces: BTreeMap<u32, VolumeInfo>,
}

/// Who an event is about, and when it happened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) cntlid: u16,
    /// Milliseconds since 1970-01-01 UTC.
    pub(crate) unix_ms: u64,
    /// Milliseconds since the target started.
    pub(crate) up_ms: u64,
    /// How often it has started.
    pub(crate) power_cycles: u64,
}

impl Moment {
    pub(crate) fn now<P: BlockPort>(cx: &Context<'_, P>, cntlid: u16) -> Moment {
        let up_seconds = cx.unix_seconds.saturating_sub(cx.directory.config().started_unix_seconds);
        let [unix_ms, up_ms] = [cx.unix_seconds, up_seconds].map(|seconds| seconds.saturating_mul(1000));
        Moment { cntlid, unix_ms, up_ms, power_cycles: cx.directory.power_cycles() }
    }
}

/// Equal failures are written down once in this time: otherwise one sick host would push everything else out.
const DAMAGE_INTERVAL_MS: u64 = 1_000;

impl SubsystemState {
    /// The log of earlier runs, oldest event first. What is no event of ours is left out.
    pub(crate) fn restore(generation: u16, events: Vec<Vec<u8>>) -> SubsystemState {
        let mut inner = Inner { generation, ..Inner::default() };
        events.into_iter().filter(|event| is_event(event)).for_each(|event| inner.keep(event));
        SubsystemState { inner: Mutex::new(inner) }
    }

    /// What is to be kept: the generation, and the events, oldest first.
    pub(crate) fn kept(&self) -> (u16, Vec<Vec<u8>>) {
        let inner = self.lock();
        (inner.generation, inner.events.iter().cloned().collect())
    }

    /// Follows the exports, and notes that the subsystem has begun to serve if this is the first that is heard of it.
    pub(crate) fn follow(&self, revision: u64, subsystem: &Subsystem, moment: Moment, firmware: &str) {
        let mut inner = self.lock();
        if !inner.started {
            inner.started = true;
            inner.power_on_or_reset(moment, firmware);
        }
        // Cores learn of a change one after another: an older picture than the newest seen says nothing.
        if inner.known.as_ref().is_some_and(|known| known.revision >= revision) {
            return;
        }
        let namespaces: BTreeMap<_, _> =
            subsystem.namespaces.iter().map(|(nsid, namespace)| (*nsid, namespace.volume)).collect();
        if let Some(known) = inner.known.take() {
            let differs = |nsid: &u32, other: &BTreeMap<u32, VolumeInfo>, volume: &VolumeInfo| {
                other.get(nsid).is_none_or(|other| other.id != volume.id)
            };
            for (nsid, volume) in
                known.namespaces.iter().filter(|(nsid, volume)| differs(nsid, &namespaces, volume))
            {
                inner.namespace_changed(moment, CHANGE_DELETE, *nsid, volume);
                inner.error_recovery.remove(&(*nsid, volume.id));
            }
            for (nsid, volume) in
                namespaces.iter().filter(|(nsid, volume)| differs(nsid, &known.namespaces, volume))
            {
                inner.namespace_changed(moment, CHANGE_CREATE, *nsid, volume);
            }
        }
        inner.known = Some(Known { revision, namespaces });
    }

    /// A Controller Level Reset, with the controller's health as it was then.
    pub(crate) fn controller_reset(&self, moment: Moment, firmware: &str, health: &SmartLog) {
        let mut inner = self.lock();
        inner.power_on_or_reset(moment, firmware);
        inner.add(event_type::SMART_SNAPSHOT, moment, health.as_bytes());
    }

    /// A host has set the time.
    pub(crate) fn timestamp_changed(&self, moment: Moment, previous_ms: u64, since_reset_ms: u64) {
        let mut event = TimestampChange::new_zeroed();
        event.previous.set(previous_ms);
        event.since_reset_ms.set(since_reset_ms);
        self.lock().add(event_type::TIMESTAMP_CHANGE, moment, event.as_bytes());
    }

    /// A command failed because data was found damaged; its completion.
    pub(crate) fn damaged(&self, moment: Moment, completion: Cqe) {
        let mut inner = self.lock();
        let status = completion.status.get();
        if let Some((at_ms, last)) = inner.last_damage
            && last == status
            && moment.unix_ms.saturating_sub(at_ms) < DAMAGE_INTERVAL_MS
        {
            return;
        }
        inner.last_damage = Some((moment.unix_ms, status));
        let mut event = HardwareError::new_zeroed();
        event.code.set(HARDWARE_INTEGRITY);
        event.completion = completion;
        inner.add(event_type::HARDWARE_ERROR, moment, event.as_bytes());
    }

    /// A frozen picture for a host to read: its generation, the number of events, and their bytes, newest first.
    pub(crate) fn report(&self, moment: Moment, health: &SmartLog) -> (u16, u32, Vec<u8>) {
        let mut inner = self.lock();
        inner.add(event_type::SMART_SNAPSHOT, moment, health.as_bytes());
        inner.generation = inner.generation.wrapping_add(1);
        let count = u32::try_from(inner.events.len()).unwrap_or(u32::MAX);
        (inner.generation, count, inner.events.iter().rev().flatten().copied().collect())
    }

    /// Time Limited Error Recovery of a namespace, or of those that have none of their own. NVM Command Set 1.1 §4.1.3.2 "Error Recovery
    /// (Feature Identifier 05h)".
    pub(crate) fn error_recovery(&self, namespace: Option<(u32, VolumeId)>) -> u16 {
        let inner = self.lock();
        let own = namespace.and_then(|namespace| inner.error_recovery.get(&namespace));
        own.copied().unwrap_or(inner.error_recovery_of_all)
    }

    /// Sets it for one namespace, or for all.
    pub(crate) fn set_error_recovery(&self, namespace: Option<(u32, VolumeId)>, limit: u16) {
        let mut inner = self.lock();
        match namespace {
            Some(namespace) => {
                inner.error_recovery.insert(namespace, limit);
            }
            None => {
                inner.error_recovery.clear();
                inner.error_recovery_of_all = limit;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn power_on_or_reset(&mut self, moment: Moment, firmware: &str) {
        let mut event = PowerOnReset::new_zeroed();
        put_text(&mut event.firmware, firmware, b' ');
        event.cntlid.set(moment.cntlid);
        event.power_cycles.set(u32::try_from(moment.power_cycles).unwrap_or(u32::MAX));
        event.up_ms.set(moment.up_ms);
        event.timestamp.set(moment.unix_ms);
        self.add(event_type::POWER_ON_OR_RESET, moment, event.as_bytes());
    }

    fn namespace_changed(&mut self, moment: Moment, selection: u32, nsid: u32, volume: &VolumeInfo) {
        let mut event = NamespaceChange::new_zeroed();
        event.selection.set(selection);
        event.size.set(volume.block_count);
        event.capacity.set(volume.block_count);
        event.protection_type = volume.format.map_or(0, |format| format.pi_type().number());
        event.sharing = 1;
        event.nsid.set(nsid);
        self.add(event_type::CHANGE_NAMESPACE, moment, event.as_bytes());
    }

    fn add(&mut self, kind: u8, moment: Moment, data: &[u8]) {
        let mut header = EventHeader::new_zeroed();
        header.event_type = kind;
        header.revision = 1;
        header.header_len = EVENT_HEADER_EXTRA;
        header.port_type = PORT_NONE;
        header.cntlid.set(moment.cntlid);
        header.timestamp.set(moment.unix_ms);
        header.event_len.set(u16::try_from(data.len()).unwrap_or(0));
        self.keep([header.as_bytes(), data].concat());
    }

    /// Takes up a new event; the oldest ones make room for it.
    fn keep(&mut self, event: Vec<u8>) {
        self.len_bytes += event.len();
        self.events.push_back(event);
        while self.len_bytes > EVENT_LOG_LEN_MAX {
            let Some(oldest) = self.events.pop_front() else { return };
            self.len_bytes -= oldest.len();
        }
    }
}

/// Whether these bytes are one event of a kind that is written here.
fn is_event(bytes: &[u8]) -> bool {
    let Ok((header, data)) = EventHeader::read_from_prefix(bytes) else { return false };
    header.header_len == EVENT_HEADER_EXTRA
        && event_type::ALL.contains(&header.event_type)
        && usize::from(header.event_len.get()) == data.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(unix_ms: u64) -> Moment {
        Moment { cntlid: 1, unix_ms, up_ms: 0, power_cycles: 1 }
    }

    fn kinds(state: &SubsystemState) -> Vec<u8> {
        state.lock().events.iter().map(|event| event[0]).collect()
    }

    #[test]
    fn the_log_is_bounded_and_loses_its_oldest_events() {
        let state = SubsystemState::default();
        for time in 0..1000 {
            state.timestamp_changed(moment(time), time, 0);
        }
        let (_, count, events) = state.report(moment(1000), &SmartLog::new_zeroed());
        assert!(events.len() <= EVENT_LOG_LEN_MAX);
        assert!(count > 100 && count < 1000);
        assert_eq!(events[0], event_type::SMART_SNAPSHOT, "the newest comes first");
    }

    #[test]
    fn a_storm_of_equal_failures_is_written_down_once_a_second() {
        let state = SubsystemState::default();
        let mut completion = Cqe::new_zeroed();
        completion.status.set(0x0504);
        for time in [0, 500, 999, 1000] {
            state.damaged(moment(time), completion);
        }
        completion.status.set(0x0506);
        state.damaged(moment(1001), completion);
        assert_eq!(kinds(&state), [event_type::HARDWARE_ERROR; 3]);
    }

    #[test]
    fn a_restart_keeps_what_was_written_and_nothing_else() {
        let state = SubsystemState::default();
        state.timestamp_changed(moment(1), 0, 0);
        state.timestamp_changed(moment(2), 0, 0);
        let (generation, mut events) = state.kept();
        let good = events.clone();
        events.insert(1, vec![event_type::TIMESTAMP_CHANGE; 30]);
        events.insert(0, vec![]);
        events.push(vec![0; 24]);
        assert_eq!(SubsystemState::restore(generation, events).kept(), (generation, good));
    }
}

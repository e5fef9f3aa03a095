//! What the nexuses of all cores share about logical units: mode parameters, unit attentions for each other, and whose tasks
//! are to be aborted. A logical unit is a volume, through whatever targets it is reached.
//!
//! Locked at changes only. [`UnitBook::generation`] goes up when a nexus has something to look at, and whoever drives
//! nexuses then lets each of them do so.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Mutex, MutexGuard, PoisonError};

use holdfast_block::VolumeId;
use holdfast_block::reservations::{Effects, InitiatorPort, Nexus as PortPair, TargetPort};

use crate::attention::Attention;
use crate::context::WaitId;
use crate::mode::ModeValues;

/// Initiator ports that are remembered to have been here, so that the next session of one is told of a nexus loss and not of
/// a power on. With one more all are forgotten.
const PORTS_REMEMBERED_MAX: usize = 16_384;

/// The book of logical units.
#[derive(Debug, Default)]
pub struct UnitBook {
    generation: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last_wait: u64,
    /// By session.
    nexuses: HashMap<u64, Joined>,
    /// Those that are not as they come.
    modes: HashMap<VolumeId, ModeValues>,
    /// Those that START STOP UNIT has stopped.
    stopped: HashSet<VolumeId>,
    known: HashSet<PortPair>,
    /// Sessions that have yet to abort tasks.
    waits: HashMap<WaitId, HashSet<u64>>,
}

/// A nexus.
#[derive(Debug)]
struct Joined {
    ports: PortPair,
    /// What it has to look at.
    notes: Vec<Note>,
}

impl Joined {
    /// The same thing twice is noted once, which also bounds the list.
    fn note(&mut self, note: Note) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// Something that a nexus has to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) volume: VolumeId,
    pub(crate) what: What,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// Something to tell its initiator.
    Tell(Attention),
    /// Other mode parameters.
    Mode(ModeValues),
    /// Its tasks are to be aborted, and that be told; and what its initiator is told where there were any of which it hears
    /// nothing else.
    Abort(WaitId, Option<Attention>),
    /// The logical unit was stopped, or started.
    Stopped(bool),
}

impl UnitBook {
    /// Goes up when nexuses have something to look at.
    pub fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// Whether all that a task management function waits for is aborted.
    pub fn is_done(&self, wait: WaitId) -> bool {
        !self.lock().waits.contains_key(&wait)
    }

    /// A nexus begins. Whether its ports have met before.
    pub(crate) fn join(&self, session: u64, ports: &PortPair) -> bool {
        let mut inner = self.lock();
        inner.nexuses.insert(session, Joined { ports: ports.clone(), notes: Vec::new() });
        if inner.known.len() >= PORTS_REMEMBERED_MAX {
            inner.known.clear();
        }
        !inner.known.insert(ports.clone())
    }

    /// A nexus ends; nobody waits for it any more.
    pub(crate) fn leave(&self, session: u64) {
        let mut inner = self.lock();
        inner.nexuses.remove(&session);
        let before = inner.waits.len();
        inner.waits.retain(|_, sessions| {
            sessions.remove(&session);
            !sessions.is_empty()
        });
        let woke = inner.waits.len() != before;
        drop(inner);
        if woke {
            self.wake();
        }
    }

    /// What a nexus has to look at, in the order in which it happened.
    pub(crate) fn take_notes(&self, session: u64) -> Vec<Note> {
        let mut inner = self.lock();
        inner.nexuses.get_mut(&session).map(|joined| std::mem::take(&mut joined.notes)).unwrap_or_default()
    }

    /// Has those told that a change of a logical unit's reservations concerns, and has the tasks aborted of those that it
    /// shuts out, but for those of the nexus that has made it. Nobody waits for that: nothing of such a task comes to the
    /// medium any more. SPC-4 §5.13.11.
    pub fn reservations_changed(&self, volume: VolumeId, effects: &Effects, by: Option<u64>) {
        let mut inner = self.lock();
        inner.last_wait += 1;
        let wait = WaitId(inner.last_wait);
        let mut woken = false;
        for (session, joined) in &mut inner.nexuses {
            for (nexus, told) in &effects.attentions {
                if *nexus == joined.ports {
                    joined.note(Note { volume, what: What::Tell((*told).into()) });
                    woken = true;
                }
            }
            if Some(*session) != by && effects.aborted.contains(&joined.ports) {
                joined.note(Note { volume, what: What::Abort(wait, None) });
                woken = true;
            }
        }
        drop(inner);
        if woken {
            self.wake();
        }
    }

    /// The ports of an initiator that have been here, at this target port.
    pub(crate) fn ports_named(&self, at: TargetPort, name: &str) -> Vec<InitiatorPort> {
        let inner = self.lock();
        let known = inner.known.iter().filter_map(|ports| match ports {
            PortPair::Scsi { initiator, target } if *target == at && initiator.name() == name => {
                Some(initiator.clone())
            }
            PortPair::Scsi { .. } | PortPair::Nvme { .. } => None,
        });
        known.collect()
    }

    /// The mode parameters of a logical unit.
    pub(crate) fn mode(&self, volume: VolumeId) -> ModeValues {
        self.lock().modes.get(&volume).copied().unwrap_or_default()
    }

    /// Changes them to what `change` makes of them, and has everybody else told. SPC-4 §6.11: for a nexus that changes them
    /// itself it is no news. Gives those before and those after.
    pub(crate) fn change_mode<E>(
        &self,
        volume: VolumeId,
        by: u64,
        change: impl FnOnce(ModeValues) -> Result<ModeValues, E>,
    ) -> Result<(ModeValues, ModeValues), E> {
        let mut inner = self.lock();
        let before = inner.modes.get(&volume).copied().unwrap_or_default();
        let values = change(before)?;
        if values == before {
            return Ok((before, values));
        }
        if values == ModeValues::default() {
            inner.modes.remove(&volume);
        } else {
            inner.modes.insert(volume, values);
        }
        for (session, joined) in &mut inner.nexuses {
            joined.notes.retain(|note| note.volume != volume || !matches!(note.what, What::Mode(_)));
            joined.note(Note { volume, what: What::Mode(values) });
            if *session != by {
                joined.note(Note { volume, what: What::Tell(Attention::ModeChanged) });
            }
        }
        drop(inner);
        self.wake();
        Ok((before, values))
    }

    /// Whether a logical unit is stopped.
    pub(crate) fn is_stopped(&self, volume: VolumeId) -> bool {
        self.lock().stopped.contains(&volume)
    }

    /// Stops a logical unit for everybody, or starts it.
    pub(crate) fn set_stopped(&self, volume: VolumeId, stopped: bool) {
        let mut inner = self.lock();
        let changes = if stopped { inner.stopped.insert(volume) } else { inner.stopped.remove(&volume) };
        if !changes {
            return;
        }
        for joined in inner.nexuses.values_mut() {
            joined.notes.retain(|note| note.volume != volume || !matches!(note.what, What::Stopped(_)));
            joined.note(Note { volume, what: What::Stopped(stopped) });
        }
        drop(inner);
        self.wake();
    }

    /// A nexus resets a logical unit: mode parameters are as after a power on, and what it has not been told yet is of before.
    pub(crate) fn reset(&self, volume: VolumeId, by: u64) {
        if let Some(joined) = self.lock().nexuses.get_mut(&by) {
            joined.notes.retain(|note| note.volume != volume || !matches!(note.what, What::Tell(_)));
        }
        let _: Result<_, std::convert::Infallible> =
            self.change_mode(volume, by, |_| Ok(ModeValues::default()));
    }

    /// Has all other nexuses abort their tasks on these volumes. Of a reset all their initiators are told; otherwise those that
    /// lose tasks without a word. `None`: there are no others.
    pub(crate) fn order_aborts(&self, volumes: &[VolumeId], told: Attention, by: u64) -> Option<WaitId> {
        let mut inner = self.lock();
        inner.last_wait += 1;
        let wait = WaitId(inner.last_wait);
        let mut sessions = HashSet::new();
        for (session, joined) in inner.nexuses.iter_mut().filter(|(session, _)| **session != by) {
            for volume in volumes {
                let instead = (told != Attention::Reset).then_some(told);
                if instead.is_none() {
                    joined.note(Note { volume: *volume, what: What::Tell(told) });
                }
                joined.note(Note { volume: *volume, what: What::Abort(wait, instead) });
            }
            sessions.insert(*session);
        }
        let is_needed = !sessions.is_empty() && !volumes.is_empty();
        if is_needed {
            inner.waits.insert(wait, sessions);
        }
        drop(inner);
        self.wake();
        is_needed.then_some(wait)
    }

    /// A nexus has aborted what it was told to.
    pub(crate) fn acknowledge(&self, wait: WaitId, session: u64) {
        let mut inner = self.lock();
        let Some(sessions) = inner.waits.get_mut(&wait) else { return };
        sessions.remove(&session);
        if sessions.is_empty() {
            inner.waits.remove(&wait);
            drop(inner);
            self.wake();
        }
    }

    fn wake(&self) {
        self.generation.fetch_add(1, Release);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_block::SubsystemId;
    use holdfast_block::reservations::{InitiatorPort, TargetPort};

    fn ports(name: &str) -> PortPair {
        let target = TargetPort { subsystem: SubsystemId::new(1).unwrap(), relative: 1 };
        PortPair::Scsi { initiator: InitiatorPort::new(name, [1; 6]).unwrap(), target }
    }

    fn volume(id: u64) -> VolumeId {
        VolumeId::new(id).unwrap()
    }

    #[test]
    fn those_that_a_change_of_reservations_concerns_are_told_once_and_have_tasks_aborted() {
        let book = UnitBook::default();
        assert!(!book.join(1, &ports("a")));
        assert!(!book.join(2, &ports("b")));
        let attention = holdfast_block::reservations::Attention::RegistrationsPreempted;
        let (attentions, aborted) = (vec![(ports("b"), attention)], vec![ports("a"), ports("b")]);
        let told = Effects { attentions: attentions.clone(), aborted: Vec::new() };
        let before = book.generation();
        book.reservations_changed(volume(7), &told, Some(1));
        book.reservations_changed(volume(7), &Effects { attentions, aborted }, Some(1));
        assert!(book.generation() > before);
        assert_eq!(book.take_notes(1), []);
        let notes = book.take_notes(2);
        let note = Note { volume: volume(7), what: What::Tell(Attention::RegistrationsPreempted) };
        assert_eq!(notes[0], note);
        assert!(matches!(notes[1..], [Note { what: What::Abort(_, None), .. }]));
        let calm = book.generation();
        book.reservations_changed(volume(7), &Effects::default(), None);
        assert_eq!((book.take_notes(2), book.generation()), (vec![], calm));
    }

    #[test]
    fn a_port_that_comes_again_is_known() {
        let book = UnitBook::default();
        assert!(!book.join(1, &ports("a")));
        book.leave(1);
        assert!(book.join(2, &ports("a")));
    }

    #[test]
    fn an_order_is_done_when_all_others_have_done_it_or_gone() {
        let book = UnitBook::default();
        for (session, name) in [(1, "a"), (2, "b"), (3, "c")] {
            book.join(session, &ports(name));
        }
        let wait = book.order_aborts(&[volume(7)], Attention::Reset, 1).unwrap();
        assert!(!book.is_done(wait));
        book.acknowledge(wait, 2);
        assert!(!book.is_done(wait));
        book.leave(3);
        assert!(book.is_done(wait));
        book.leave(2);
        assert_eq!(book.order_aborts(&[volume(7)], Attention::Reset, 1), None);
    }

    #[test]
    fn mode_parameters_reach_everybody_and_are_news_to_the_others() {
        let book = UnitBook::default();
        book.join(1, &ports("a"));
        book.join(2, &ports("b"));
        let values = ModeValues { write_cache: false, ..ModeValues::default() };
        let change = |_| Ok::<_, std::convert::Infallible>(values);
        assert_eq!(book.change_mode(volume(7), 1, change), Ok((ModeValues::default(), values)));
        assert_eq!(book.mode(volume(7)), values);
        let changed = Note { volume: volume(7), what: What::Mode(values) };
        let told = Note { volume: volume(7), what: What::Tell(Attention::ModeChanged) };
        assert_eq!(book.take_notes(1), [changed]);
        assert_eq!(book.take_notes(2), [changed, told]);
        let calm = book.generation();
        assert_eq!(book.change_mode(volume(7), 2, change), Ok((values, values)));
        assert_eq!(book.change_mode(volume(7), 2, |_| Err(())), Err(()));
        assert_eq!((book.take_notes(1), book.generation()), (vec![], calm));
        book.reset(volume(7), 1);
        assert_eq!(book.mode(volume(7)), ModeValues::default());
    }

    #[test]
    fn of_a_reset_all_are_told_and_of_cleared_tasks_those_that_had_some() {
        let book = UnitBook::default();
        book.join(1, &ports("a"));
        book.join(2, &ports("b"));
        let cleared = book.order_aborts(&[volume(7)], Attention::CommandsCleared, 1).unwrap();
        let order = What::Abort(cleared, Some(Attention::CommandsCleared));
        assert_eq!(book.take_notes(2), [Note { volume: volume(7), what: order }]);
        let reset = book.order_aborts(&[volume(7)], Attention::Reset, 1).unwrap();
        let [told, order] = [What::Tell(Attention::Reset), What::Abort(reset, None)];
        assert_eq!(book.take_notes(2), [told, order].map(|what| Note { volume: volume(7), what }));
    }

    #[test]
    fn a_unit_is_stopped_and_started_for_everybody() {
        let book = UnitBook::default();
        book.join(1, &ports("a"));
        for stopped in [true, false] {
            book.set_stopped(volume(7), stopped);
            book.set_stopped(volume(7), stopped);
            assert_eq!(book.is_stopped(volume(7)), stopped);
            assert_eq!(book.take_notes(1), [Note { volume: volume(7), what: What::Stopped(stopped) }]);
        }
    }
}

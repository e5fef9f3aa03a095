//! Reservations at work: which attachments may do what, and the end of the commands of those that were shut out.
//!
//! What a nexus may do is found out when reservations change and when it attaches, and lies with its attachment: a command
//! on a volume without reservations costs one branch. A change goes in steps: [`Service::propose_reservation`], the caller
//! keeps what it is given, [`Service::commit_reservation`], and after a PREEMPT AND ABORT the caller answers only once
//! [`Service::is_fenced`]: by then no command of those that were preempted can change a block any more.

use std::collections::HashMap;

use crate::attribution::FaultSink;
use crate::reservations::{Desk, Effects, Keep, Nexus, Refusal, Request, Reservations, Standing};
use crate::ticket::{Stage, Work};
use crate::{Service, Store, VolumeId};

/// Reservations of a core's volumes: of those that ever had any.
#[derive(Debug, Default)]
pub(crate) struct Fences(HashMap<VolumeId, Desk>);

impl Fences {
    pub(crate) fn standing(&self, volume: VolumeId, nexus: &Nexus) -> Standing {
        self.0.get(&volume).map_or(Standing::FREE, |desk| desk.state().standing(nexus))
    }
}

impl<S: Store, F: FaultSink> Service<S, F> {
    /// Sets a volume's reservations: as kept, when it is opened; `Reservations::default()` frees it. Whatever was proposed
    /// is given up, and nobody is told.
    pub fn set_reservations(&mut self, volume: VolumeId, reservations: Reservations) {
        let desk = self.fences.0.entry(volume).or_default();
        let aborting = desk.aborting;
        *desk = Desk::new(reservations);
        desk.aborting = aborting;
        self.set_standings(volume);
    }

    /// Forgets the reservations of a volume that is gone.
    pub fn forget_reservations(&mut self, volume: VolumeId) {
        self.fences.0.remove(&volume);
        self.set_standings(volume);
    }

    /// A volume's reservations; `None` if it never had any.
    pub fn reservations(&self, volume: VolumeId) -> Option<&Reservations> {
        self.fences.0.get(&volume).map(Desk::state)
    }

    /// Finds out what comes of a request. If it is not refused, it waits for [`Service::commit_reservation`] or
    /// [`Service::abandon_reservation`], and any other is refused with [`Refusal::UnderWay`] until then.
    pub fn propose_reservation(
        &mut self,
        volume: VolumeId,
        from: &Nexus,
        request: &Request,
    ) -> Result<Keep, Refusal> {
        self.store.geometry(volume).ok_or(Refusal::Gone)?;
        self.fences.0.entry(volume).or_default().propose(from, request)
    }

    /// Makes the proposed change: from here on commands see it, and those under way that it aborts fail with
    /// [`crate::BlockError::Preempted`]. `None` if none was proposed.
    pub fn commit_reservation(&mut self, volume: VolumeId) -> Option<Effects> {
        let effects = self.fences.0.get_mut(&volume)?.commit()?;
        self.set_standings(volume);
        if !effects.aborted.is_empty() {
            let aborting = self.abort_commands(volume, &effects.aborted);
            if let Some(desk) = self.fences.0.get_mut(&volume) {
                desk.aborting = aborting;
            }
        }
        Some(effects)
    }

    /// Gives the proposed change up: it could not be kept.
    pub fn abandon_reservation(&mut self, volume: VolumeId) {
        if let Some(desk) = self.fences.0.get_mut(&volume) {
            desk.abandon();
        }
    }

    /// Whether every command that a PREEMPT AND ABORT has aborted has left the store.
    pub fn is_fenced(&self, volume: VolumeId) -> bool {
        self.fences.0.get(&volume).is_none_or(|desk| desk.aborting == 0)
    }

    /// Ends a RESERVE (6) of a nexus that is lost, or of whoever after a reset.
    pub fn end_legacy_reservation(&mut self, volume: VolumeId, whose: Option<&Nexus>) {
        if let Some(desk) = self.fences.0.get_mut(&volume) {
            desk.end_legacy(whose);
            self.set_standings(volume);
        }
    }

    fn set_standings(&mut self, volume: VolumeId) {
        let accesses = self.attachments.iter_mut().filter_map(|attachment| attachment.access.as_mut());
        for access in accesses.filter(|access| access.volume == volume) {
            access.standing = self.fences.standing(volume, &access.session.nexus);
        }
    }

    /// Marks the commands of these, and counts those that are with the store; the others never get there.
    fn abort_commands(&mut self, volume: VolumeId, of: &[Nexus]) -> usize {
        let mut with_store = 0;
        for ticket in self.tickets.iter_mut() {
            let Some(Work { command, shape }) = ticket.work else { continue };
            let attachment = self.attachments.get(command.attachment);
            let access = attachment.and_then(|attachment| attachment.access.as_ref());
            let named = access.is_some_and(|access| of.contains(&access.session.nexus));
            if shape.volume != volume || !named || ticket.preempted {
                continue;
            }
            ticket.preempted = true;
            if matches!(ticket.stage, Stage::Submitted | Stage::Orphaned) {
                with_store += 1;
            }
        }
        with_store
    }

    /// An aborted command is back from the store.
    pub(crate) fn abort_done(&mut self, volume: VolumeId) {
        if let Some(desk) = self.fences.0.get_mut(&volume) {
            desk.aborting = desk.aborting.saturating_sub(1);
        }
    }
}

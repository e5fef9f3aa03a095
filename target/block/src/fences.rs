//! Reservations at work: which attachments may do what, and the end of the commands of those that were shut out.
//!
//! What a nexus may do is found out when reservations change and when it attaches, and lies with its attachment: a command
//! on a volume without reservations costs one branch. How a change comes about is told in `reserving`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::attribution::FaultSink;
use crate::reservations::{Desk, Effects, Nexus, ReservationBook, Reservations, Standing};
use crate::reserving::KeepOrder;
use crate::ticket::{Stage, Work};
use crate::{AttachmentId, Service, Store, VolumeId};

/// Reservations of a core's volumes: of those that ever had any.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    pub(crate) desks: HashMap<VolumeId, Desk>,
    book: Arc<ReservationBook>,
    /// What is to be written down.
    pub(crate) orders: VecDeque<KeepOrder>,
    pub(crate) last_order: u64,
    /// Effects of changes whose askers are gone.
    pub(crate) unheard: VecDeque<(VolumeId, Effects)>,
}

impl Fences {
    pub(crate) fn standing(&self, volume: VolumeId, nexus: &Nexus) -> Standing {
        self.desks.get(&volume).map_or(Standing::FREE, |desk| desk.state().standing(nexus))
    }
}

impl<S: Store, F: FaultSink> Service<S, F> {
    /// Has this core's reservations put where the other cores find them.
    pub fn share_reservations(&mut self, book: Arc<ReservationBook>) {
        self.fences.book = book;
    }

    /// Where this core's reservations are put.
    pub fn reservation_book(&self) -> &Arc<ReservationBook> {
        &self.fences.book
    }

    /// Sets a volume's reservations: as kept, when it is opened; `Reservations::default()` frees it. Whatever was proposed
    /// is given up, and nobody is told.
    pub fn set_reservations(&mut self, volume: VolumeId, reservations: Reservations) {
        self.fences.desks.entry(volume).or_default().replace(reservations);
        self.show(volume);
    }

    /// Forgets the reservations of a volume that is gone.
    pub fn forget_reservations(&mut self, volume: VolumeId) {
        let Some(desk) = self.fences.desks.remove(&volume) else { return };
        self.show(volume);
        for id in desk.serving.into_iter().chain(desk.line) {
            self.complete_reserving(id, Err(crate::BlockError::Gone));
        }
    }

    /// A volume's reservations; `None` if it never had any.
    pub fn reservations(&self, volume: VolumeId) -> Option<Arc<Reservations>> {
        self.fences.desks.get(&volume).map(|desk| Arc::clone(desk.state()))
    }

    /// Whether a command that was admitted elsewhere, when there had been so many changes in the [`ReservationBook`], was
    /// aborted by a preemption on its way here.
    pub fn was_preempted(&self, attachment: AttachmentId, changes: u64) -> bool {
        self.access(attachment).is_some_and(|access| changes < access.aborted_before)
    }

    /// Ends a RESERVE (6) of a nexus that is lost, or of whoever after a reset.
    pub(crate) fn end_legacy(&mut self, volume: VolumeId, whose: Option<&Nexus>) {
        let changed = self.fences.desks.get_mut(&volume).is_some_and(|desk| desk.end_legacy(whose));
        if changed {
            self.show(volume);
        }
    }

    /// Ends a RESERVE (6) of the nexus of an attachment that ends, unless it has another to the same volume.
    pub(crate) fn end_orphaned_legacy(&mut self, ended: AttachmentId) {
        let Some(access) = self.access(ended) else { return };
        let (volume, nexus) = (access.volume, access.session.nexus.clone());
        let holds =
            self.fences.desks.get(&volume).is_some_and(|desk| desk.state().legacy_holder() == Some(&nexus));
        if !holds {
            return;
        }
        let stays = self.attachments.iter_mut().any(|attachment| {
            !attachment.detached
                && attachment
                    .access
                    .as_ref()
                    .is_some_and(|access| access.volume == volume && access.session.nexus == nexus)
        });
        if !stays {
            self.end_legacy(volume, Some(&nexus));
        }
    }

    /// Lets everybody see the reservations of a volume as they are now; gives the number of changes.
    pub(crate) fn show(&mut self, volume: VolumeId) -> u64 {
        let state = self.reservations(volume);
        let accesses = self.attachments.iter_mut().filter_map(|attachment| attachment.access.as_mut());
        for access in accesses.filter(|access| access.volume == volume) {
            access.standing = self.fences.standing(volume, &access.session.nexus);
        }
        self.fences.book.set(volume, state)
    }

    /// Marks the commands of these, and counts those that are with the store; the others never get there. So are requests
    /// that wait for a change of reservations, but not the one that aborts.
    pub(crate) fn abort_commands(&mut self, volume: VolumeId, of: &[Nexus], changes: u64) -> usize {
        let accesses = self.attachments.iter_mut().filter_map(|attachment| attachment.access.as_mut());
        for access in accesses.filter(|access| access.volume == volume && of.contains(&access.session.nexus))
        {
            access.aborted_before = changes;
        }
        let mut with_store = 0;
        for ticket in self.tickets.iter_mut() {
            let attachment = match (&ticket.work, &ticket.reserving) {
                (Some(Work { command, shape }), _) if shape.volume == volume => command.attachment,
                (None, Some(reserving)) if ticket.stage == Stage::Waiting && reserving.volume == volume => {
                    reserving.attachment
                }
                _ => continue,
            };
            let access = self.attachments.get(attachment).and_then(|found| found.access.as_ref());
            let named = access.is_some_and(|access| of.contains(&access.session.nexus));
            if !named || ticket.preempted {
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
        if let Some(desk) = self.fences.desks.get_mut(&volume) {
            desk.aborting = desk.aborting.saturating_sub(1);
        }
        self.fence_changed(volume);
    }
}

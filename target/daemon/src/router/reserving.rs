//! Requests for changes of reservations of volumes that live on other cores, and the same from there.

use holdfast_block::reservations::{Effects, Nexus, Refusal, Request, Standing};
use holdfast_block::{AttachRequest, AttachmentId, BlockError, BlockPort, Origin, TicketId, VolumeId};

use super::{REMOTE_INDEX, Router};
use crate::core::Mail;

/// A request of this core's for another.
pub(super) struct Asked {
    pub(super) origin: Origin,
    pub(super) answer: Option<Result<Effects, Refusal>>,
}

/// A request on its way to a volume's home.
pub(crate) struct RemoteRequest {
    pub(crate) from: usize,
    pub(crate) ticket: u32,
    pub(crate) generation: u32,
    pub(crate) access: AttachRequest,
    pub(crate) request: Request,
}

impl Router {
    /// What reservations refuse to an attachment to another core's volume, as far as this core knows.
    pub(super) fn remote_standing(&mut self, id: AttachmentId) -> Standing {
        let book = &self.reservations;
        // Counted before it is looked at: what changes in between is looked at again.
        let changes = book.changes();
        let now = |access: &AttachRequest| book.of(access.volume).standing(&access.session.nexus);
        self.attachments.standing(id, changes, now)
    }

    pub(super) fn ask_elsewhere(
        &mut self,
        origin: Origin,
        attachment: AttachmentId,
        request: Request,
    ) -> Result<TicketId, BlockError> {
        let access = self.attachments.get(attachment).cloned().ok_or(BlockError::Gone)?;
        let home = self.home(access.volume).ok_or(BlockError::Gone)?.core;
        let from = self.core;
        let (id, ticket) = self.open_remote()?;
        ticket.asked = Some(Asked { origin, answer: None });
        ticket.under_way = true;
        ticket.access = Some(access.clone());
        let (index, generation) = id.parts();
        let remote = RemoteRequest { from, ticket: index & !REMOTE_INDEX, generation, access, request };
        self.outgoing.push((home, Mail::Request(Box::new(remote))));
        Ok(id)
    }

    /// Ends an attachment. A RESERVE (6) ends with the last one of its session, and the next session may ask for it at once;
    /// an NVMe controller has others on other cores, and holds nothing by its attachments.
    pub(super) fn detach_elsewhere(&mut self, id: AttachmentId) {
        let Some(AttachRequest { session, volume, .. }) = self.attachments.remove(id) else { return };
        let is_last =
            matches!(session.nexus, Nexus::Scsi { .. }) && !self.attachments.has(session.id, volume);
        if let Some(home) = self.home(volume).filter(|_| is_last) {
            self.outgoing.push((home.core, Mail::Detached { session: session.id, volume }));
        }
    }

    /// Ends what was kept here for a session of another core.
    pub(crate) fn forget_guest(&mut self, session: u64, volume: VolumeId) {
        if let Some(attachment) = self.guests.remove(&(session, volume)) {
            self.local.detach(attachment);
        }
    }

    pub(super) fn end_legacy_elsewhere(&mut self, attachment: AttachmentId) {
        let Some(access) = self.attachments.get(attachment).cloned() else { return };
        if let Some(home) = self.home(access.volume) {
            self.outgoing.push((home.core, Mail::EndLegacyReservation(Box::new(access))));
        }
    }

    /// Has a change that was made elsewhere noticed, though nobody here takes its end.
    pub(super) fn leave_unheard(&mut self, id: TicketId) {
        let Some(ticket) = self.remote(id) else { return };
        let volume = ticket.access.as_ref().map(|access| access.volume);
        let answer = ticket.asked.as_mut().and_then(|asked| asked.answer.take());
        if let (Some(volume), Some(Ok(effects))) = (volume, answer) {
            self.unheard.push_back((volume, effects));
        }
    }

    /// Effects of a change whose asker went away before it got to know them.
    pub(crate) fn next_unheard(&mut self) -> Option<(VolumeId, Effects)> {
        self.local.next_unheard().or_else(|| self.unheard.pop_front())
    }

    /// Takes a request of another core.
    pub(crate) fn take_request(&mut self, remote: RemoteRequest) {
        let RemoteRequest { from, ticket, generation, access, request } = remote;
        let begun = self.guest_attachment(&access).and_then(|attachment| {
            let origin = Router::guest_origin(from, ticket, generation)?;
            self.local.begin_reservation(origin, attachment, request)
        });
        if let Err(error) = begun {
            self.refuse((from, ticket, generation), error);
        }
    }

    /// Ends a RESERVE (6) for another core.
    pub(crate) fn take_end_of_legacy(&mut self, access: &AttachRequest) {
        if let Ok(attachment) = self.guest_attachment(access) {
            self.local.end_legacy_reservation(attachment);
        }
    }
}

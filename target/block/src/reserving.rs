//! A request for a change of reservations, as a ticket. It waits for those before it; is decided; if it has to last, an order
//! to write it down goes out and comes back done; then it is made, and everybody sees it; and it is answered once every
//! command that it aborts has left the store. SPC-4 5.13.11.2.6 "Preempting and aborting" has the status wait for that, and
//! 5.13.5.1 for what shall outlast a loss of power.

use crate::attribution::FaultSink;
use crate::reservations::{Effects, Keep, Nexus, Refusal, Request};
use crate::ticket::Stage;
use crate::{AttachmentId, BlockError, Completion, Origin, Service, Store, TicketId, VolumeId};

/// A request under way.
#[derive(Debug)]
pub(crate) struct Reserving {
    origin: Origin,
    pub(crate) attachment: AttachmentId,
    pub(crate) volume: VolumeId,
    from: Nexus,
    request: Request,
    pub(crate) answer: Option<Result<Effects, Refusal>>,
}

/// What is to be written down of a volume's reservations, in the place of what was written before. Whoever takes it says
/// with [`Service::reservation_kept`] how that went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepOrder {
    /// Whose.
    pub volume: VolumeId,
    /// Which order.
    pub number: u64,
    /// For [`crate::reservations::Reservations::restore`]; `None`: nothing is to be kept.
    pub value: Option<Vec<u8>>,
}

impl<S: Store, F: FaultSink> Service<S, F> {
    /// What is to be written down next.
    pub fn next_keep_order(&mut self) -> Option<KeepOrder> {
        self.fences.orders.pop_front()
    }

    /// An order has been carried out, durably, or could not be.
    pub fn reservation_kept(&mut self, volume: VolumeId, number: u64, done: bool) {
        let Some(desk) = self.fences.desks.get_mut(&volume) else { return };
        if desk.keeping != Some(number) {
            return;
        }
        desk.keeping = None;
        if done {
            self.make_change(volume);
        } else {
            desk.abandon();
            if let Some(id) = desk.serving.take() {
                self.complete_reserving(id, Err(BlockError::WriteFault));
            }
        }
        self.serve_desk(volume);
    }

    /// Effects of a change whose asker went away before it got to know them: the others are to notice them all the same.
    pub fn next_unheard(&mut self) -> Option<(VolumeId, Effects)> {
        self.fences.unheard.pop_front()
    }

    pub(crate) fn begin_reserving(
        &mut self,
        origin: Origin,
        attachment: AttachmentId,
        request: Request,
    ) -> Result<TicketId, BlockError> {
        let found = self.attachments.get(attachment).filter(|found| !found.detached);
        let access = found.and_then(|found| found.access.as_ref()).ok_or(BlockError::Gone)?;
        let (volume, from) = (access.volume, access.session.nexus.clone());
        self.store.geometry(volume).ok_or(BlockError::Gone)?;
        let (id, ticket) = self.tickets.insert::<TicketId>().ok_or(BlockError::Busy)?;
        ticket.stage = Stage::Waiting;
        ticket.admitted_us = self.now_us;
        ticket.reserving =
            Some(Box::new(Reserving { origin, attachment, volume, from, request, answer: None }));
        if let Some(attachment) = self.attachments.get_mut(attachment) {
            attachment.commands += 1;
        }
        self.fences.desks.entry(volume).or_default().line.push_back(id);
        self.serve_desk(volume);
        Ok(id)
    }

    /// Nobody wants the end of a request any more.
    pub(crate) fn cancel_reserving(&mut self, id: TicketId) {
        let Some(ticket) = self.tickets.get_mut(id) else { return };
        let Some(reserving) = &ticket.reserving else { return };
        match ticket.stage {
            Stage::Open | Stage::Waiting => {
                if let Some(desk) = self.fences.desks.get_mut(&reserving.volume) {
                    desk.line.retain(|waiting| *waiting != id);
                }
                self.end_reserving(id);
            }
            Stage::Submitted => ticket.stage = Stage::Orphaned,
            Stage::Orphaned => {}
            Stage::Completed => {
                self.completions.retain(|completion| completion.ticket != id);
                self.leave_unheard(id);
            }
        }
    }

    /// Commands that a change aborts are back from the store, perhaps all.
    pub(crate) fn fence_changed(&mut self, volume: VolumeId) {
        self.answer_fenced(volume);
        self.serve_desk(volume);
    }

    /// The last act of a request.
    pub(crate) fn end_reserving(&mut self, id: TicketId) {
        let attachment =
            self.tickets.get(id).and_then(|ticket| ticket.reserving.as_ref()).map(|found| found.attachment);
        self.tickets.remove(id);
        if let Some(attachment) = attachment {
            self.command_ended(attachment);
        }
    }

    /// Takes one request after the other, until one has to wait.
    fn serve_desk(&mut self, volume: VolumeId) {
        while let Some(desk) = self.fences.desks.get_mut(&volume) {
            if desk.is_busy() {
                return;
            }
            let Some(id) = desk.line.pop_front() else { return };
            self.decide(volume, id);
        }
    }

    fn decide(&mut self, volume: VolumeId, id: TicketId) {
        let Some(ticket) = self.tickets.get_mut(id) else { return };
        let Some(reserving) = &mut ticket.reserving else { return };
        let Some(desk) = self.fences.desks.get_mut(&volume) else { return };
        if ticket.preempted {
            return self.complete_reserving(id, Err(BlockError::Preempted));
        }
        let keep = match desk.propose(&reserving.from, &reserving.request) {
            Ok(keep) => keep,
            Err(refusal) => {
                reserving.answer = Some(Err(refusal));
                return self.complete_reserving(id, Ok(()));
            }
        };
        ticket.stage = Stage::Submitted;
        desk.serving = Some(id);
        let value = match keep {
            Keep::AsIs => return self.make_change(volume),
            Keep::Nothing => None,
            Keep::Value(value) => Some(value),
        };
        self.fences.last_order += 1;
        desk.keeping = Some(self.fences.last_order);
        self.fences.orders.push_back(KeepOrder { volume, number: self.fences.last_order, value });
    }

    /// Makes the change of the request that is being served.
    fn make_change(&mut self, volume: VolumeId) {
        let Some(desk) = self.fences.desks.get_mut(&volume) else { return };
        let Some(id) = desk.serving else { return };
        let Some(effects) = desk.commit() else {
            desk.serving = None;
            return self.complete_reserving(id, Err(BlockError::Gone));
        };
        let changes = self.show(volume);
        let aborting = match effects.aborted.is_empty() {
            true => 0,
            false => self.abort_commands(volume, &effects.aborted, changes),
        };
        if let Some(desk) = self.fences.desks.get_mut(&volume) {
            desk.aborting = aborting;
        }
        if let Some(reserving) = self.tickets.get_mut(id).and_then(|ticket| ticket.reserving.as_mut()) {
            reserving.answer = Some(Ok(effects));
        }
        self.answer_fenced(volume);
    }

    /// Answers the request whose change is made, if nothing that it aborts is with the store any more.
    fn answer_fenced(&mut self, volume: VolumeId) {
        let Some(desk) = self.fences.desks.get_mut(&volume) else { return };
        if desk.keeping.is_none()
            && desk.aborting == 0
            && let Some(id) = desk.serving.take()
        {
            self.complete_reserving(id, Ok(()));
        }
    }

    pub(crate) fn complete_reserving(&mut self, id: TicketId, result: Result<(), BlockError>) {
        let Some(ticket) = self.tickets.get_mut(id) else { return };
        let Some(reserving) = &ticket.reserving else { return };
        if ticket.stage == Stage::Orphaned {
            return self.leave_unheard(id);
        }
        ticket.stage = Stage::Completed;
        self.durations.other.record(self.now_us.saturating_sub(ticket.admitted_us));
        self.completions.push_back(Completion { origin: reserving.origin, ticket: id, result });
    }

    /// Ends a request whose end nobody has taken.
    fn leave_unheard(&mut self, id: TicketId) {
        let Some(reserving) = self.tickets.get_mut(id).and_then(|ticket| ticket.reserving.as_mut()) else {
            return;
        };
        if let Some(Ok(effects)) = reserving.answer.take() {
            self.fences.unheard.push_back((reserving.volume, effects));
        }
        self.end_reserving(id);
    }
}

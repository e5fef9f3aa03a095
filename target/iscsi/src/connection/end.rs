//! How tasks end before their time, and how the connection ends.

use holdfast_block::BlockPort;

use super::receive::Ingest;
use super::transmit::Outgoing;
use super::{Connection, Context, Disposition, Phase};
use crate::limits::ENDED_TAGS_MAX;
use crate::slots::{SlotId, State};

impl Connection {
    /// Ends a task without an answer. What of it is on its way out stays until that has left.
    pub(super) fn abort<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId) {
        let slot = self.slots.get_mut(id);
        if matches!(slot.state, State::Free | State::Sent | State::Leaving) {
            return;
        }
        let itt = slot.bhs.itt.get();
        let may_come = slot.awaits_data();
        self.solicited -= slot.bursts.len() + usize::from(slot.unsolicited);
        slot.bursts.clear();
        slot.unsolicited = false;
        match self.ingest {
            Ingest::Immediate(now) if now == id => self.ingest = Ingest::Aborted(slot.bhs),
            Ingest::DataOut { slot: now, .. } if now == id => self.ingest = Ingest::Discard,
            _ => {}
        }
        self.forget_waiting(id);
        self.left_order(id);
        self.outbox.retain(|outgoing| match outgoing {
            Outgoing::Notice(_) => true,
            Outgoing::R2t(r2t) => r2t.slot != id,
            Outgoing::Answer(other) => *other != id,
        });
        if may_come {
            self.remember_ended(itt);
        }
        self.slots.retire(id);
        let slot = self.slots.get_mut(id);
        if slot.in_flight {
            slot.state = State::Leaving;
            return;
        }
        if holdfast_mutant::active("planted-task") && may_come {
            self.tickets -= slot.task.tickets();
            slot.task = holdfast_scsi::Task::default();
        }
        self.give_back(cx, id);
        self.slots.free(id);
    }

    /// Data for the task with this tag may still come, and nobody wants it.
    pub(super) fn remember_ended(&mut self, itt: u32) {
        if self.ended_tags.len() >= ENDED_TAGS_MAX {
            self.ended_tags.pop_front();
        }
        self.ended_tags.push_back(itt);
    }

    /// Ends all tasks that have no answer yet.
    pub(super) fn end_open_tasks<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        let is_open = |id: &SlotId| {
            !matches!(self.slots.get(*id).state, State::Answering | State::Sent | State::Leaving)
        };
        let ids: Vec<SlotId> = self.slots.in_use().filter(is_open).collect();
        ids.into_iter().for_each(|id| self.abort(cx, id));
    }

    /// Ends all tasks.
    pub(super) fn end_tasks<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        self.abort_tasks(cx, |_| true);
    }

    /// The last batch has left, or its socket has gone.
    pub(super) fn land<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        let mut flying = std::mem::take(&mut self.flying);
        for id in flying.drain(..) {
            let slot = self.slots.get_mut(id);
            slot.in_flight = false;
            if matches!(slot.state, State::Sent | State::Leaving) {
                self.tickets -= slot.task.tickets();
                slot.task.release(cx.port);
                self.slots.free(id);
            }
        }
        self.flying = flying;
    }

    /// Ends the connection without a word.
    pub(super) fn lose<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        self.end = Disposition::CloseNow;
        self.end_session(cx);
    }

    /// Ends the session with all its tasks; others may take its place from here on.
    pub(super) fn end_session<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        self.end_tasks(cx);
        self.held.clear();
        self.managing.clear();
        if let Phase::Full(mut full) = std::mem::replace(&mut self.phase, Phase::Over) {
            if let Some(nexus) = &mut full.nexus {
                nexus.close(&mut cx.scsi());
            }
            cx.directory.close(&full.member, cx.sessions);
        }
    }
}

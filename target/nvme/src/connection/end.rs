//! How commands end before their time: Abort (Base 2.1 §5.1.1 "Abort command"), Disconnect (§6.4 "Disconnect Command and
//! Response"), and the end of the connection.
//!
//! A command can be taken back as long as it waits: for room, or for data that the host was asked for. What the block layer
//! has begun goes on to its completion. Data that an aborted command's R2T had asked for may still come; it is taken and
//! thrown away.
//!
//! The command that an Abort names may be on another connection, even on another core. The request is left with the
//! controller, and every connection is woken by the directory's generation, so that I/O pays nothing for this.

use std::collections::VecDeque;

use holdfast_block::BlockPort;

use super::fused::Before;
use super::plan::Plan;
use super::receive::Ingest;
use super::{Connection, Context, Disposition, Outgoing, Role};
use crate::controller::{AbortAnswer, AbortRequest};
use crate::limits::{ABORTED_R2TS_MAX, ABORTS_MAX};
use crate::slots::{SlotId, State};
use crate::status::Status;
use crate::term::{Fatal, FatalStatus};
use crate::wire::sqe::OPCODE_FABRICS;

/// The R2T of an aborted command, whose data is still to be expected.
#[derive(Debug, Clone, Copy)]
pub(super) struct AbortedR2t {
    pub(super) tag: u16,
    pub(super) cid: u16,
    pub(super) transfer_len: usize,
    pub(super) progress: usize,
}

/// Those of a connection, oldest first.
#[derive(Debug, Default)]
pub(super) struct AbortedR2ts(VecDeque<AbortedR2t>);

impl AbortedR2ts {
    fn insert(&mut self, r2t: AbortedR2t) {
        if self.0.len() >= ABORTED_R2TS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(r2t);
    }

    pub(super) fn find(&mut self, tag: u16) -> Option<&mut AbortedR2t> {
        self.0.iter_mut().find(|r2t| r2t.tag == tag)
    }

    pub(super) fn contains(&self, tag: u16) -> bool {
        self.0.iter().any(|r2t| r2t.tag == tag)
    }

    pub(super) fn remove(&mut self, tag: u16) {
        self.0.retain(|r2t| r2t.tag != tag);
    }
}

/// Dword 0 of Abort: the command was not aborted.
const NOT_ABORTED: u64 = 1;

impl Connection {
    /// Carries out an Abort in slot `asker`, as far as this queue can.
    pub(super) fn plan_abort<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        asker: SlotId,
        sqid: u16,
        cid: u16,
    ) -> Result<Plan, Status> {
        if sqid == 0 {
            let aborted = self.abort_command(cx, cid);
            return Ok(Plan::Done(if aborted { 0 } else { NOT_ABORTED }));
        }
        let asking = self.slots.in_use().filter(|id| self.slots.get(*id).state == State::Asking).count();
        if asking >= usize::from(ABORTS_MAX) {
            return Err(Status::ABORT_LIMIT);
        }
        let Role::Admin(queue) = &self.role else { return Ok(Plan::Done(NOT_ABORTED)) };
        if !queue.controller.ask_abort(AbortRequest { qid: sqid, cid, asker: asker.get() }) {
            return Ok(Plan::Done(NOT_ABORTED));
        }
        cx.directory.wake();
        Ok(Plan::Ask)
    }

    /// Looks at what other queues of this controller have left for this one.
    pub(super) fn follow_aborts<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        match &self.role {
            Role::None => {}
            Role::Admin(queue) => {
                for AbortAnswer { asker, aborted } in queue.controller.take_abort_answers() {
                    let asker = self.slots.named(asker.into());
                    if let Some(id) = asker.filter(|id| self.slots.get(*id).state == State::Asking) {
                        self.settle(id, Status::SUCCESS, if aborted { 0 } else { NOT_ABORTED }, 0);
                    }
                }
            }
            Role::Io(queue) => {
                let controller = std::sync::Arc::clone(&queue.controller);
                let requests = controller.take_aborts(queue.qid);
                for AbortRequest { cid, asker, .. } in &requests {
                    let aborted = self.abort_command(cx, *cid);
                    controller.answer_abort(AbortAnswer { asker: *asker, aborted });
                }
                if !requests.is_empty() {
                    cx.directory.wake();
                    self.admit_waiting(cx);
                }
            }
        }
    }

    /// Ends the command with this CID, if it waits; whether it did. Fabrics commands are carried out in any case.
    fn abort_command<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, cid: u16) -> bool {
        let found = self.slots.find(cid).filter(|id| self.slots.get(*id).sqe.opcode != OPCODE_FABRICS);
        found.is_some_and(|id| {
            self.take_back(cx, id, Status::ABORT_REQUESTED) && !holdfast_mutant::active("abort-answer")
        })
    }

    /// Ends a command with this status, if it waits; whether it did.
    fn take_back<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId, status: Status) -> bool {
        match self.slots.get(id).state {
            State::Waiting => self.waiting.retain(|waiting| *waiting != id),
            State::R2tQueued => {
                self.outbox.retain(|outgoing| !matches!(outgoing, Outgoing::R2t(queued) if *queued == id));
            }
            State::Transferring => {
                self.abandon_transfer(id);
                if holdfast_mutant::active("planted-ticket") {
                    self.slots.get_mut(id).ticket = None;
                }
            }
            State::Parked => {
                if let Role::Admin(queue) = &mut self.role {
                    queue.events.unpark(id);
                }
            }
            // A half of a pair, of which the other half hears below.
            State::Paired => {}
            State::Free | State::Arriving | State::Asking | State::Executing | State::Answering => {
                return false;
            }
        }
        self.slots.get_mut(id).staging.clear();
        self.drop_tickets(cx, id);
        self.settle(id, status, 0, 0);
        self.half_ended(cx, id);
        true
    }

    /// Remembers the R2T of a command whose data nobody wants any more.
    fn abandon_transfer(&mut self, id: SlotId) {
        let slot = self.slots.get(id);
        let Some(tag) = slot.tag() else { return };
        let mut progress = slot.progress;
        if let Ingest::Transfer { slot: arriving, end, .. } = self.ingest
            && arriving == id
        {
            self.ingest = Ingest::Idle;
            progress = end;
        }
        if progress < slot.transfer_len {
            let (cid, transfer_len) = (slot.sqe.cid.get(), slot.transfer_len);
            self.aborted_r2ts.insert(AbortedR2t { tag, cid, transfer_len, progress });
        }
    }

    /// Disconnect: what waits is taken back, what is being carried out is waited for, and the response is the last.
    pub(super) fn disconnect<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId) {
        self.slots.get_mut(id).state = State::Asking;
        self.leaving = Some(id);
        let others: Vec<SlotId> = self.slots.in_use().filter(|other| *other != id).collect();
        for other in others {
            self.take_back(cx, other, Status::ABORTED_BY_QUEUE_DELETION);
        }
        self.leave_if_quiet(cx);
    }

    /// Answers a Disconnect once every other command is answered. The queue's number is free from then on.
    pub(super) fn leave_if_quiet<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        let Some(id) = self.leaving else { return };
        let mut others = self.slots.in_use().filter(|other| *other != id);
        let quiet = others.all(|other| self.slots.get(other).state == State::Answering);
        drop(others);
        if quiet {
            self.leaving = None;
            self.end_association(cx);
            self.settle(id, Status::SUCCESS, 0, 0);
            self.end = Disposition::CloseAfterTransmit;
        }
    }

    /// Ends the connection with a C2HTermReq. Nothing else is sent any more, and nothing is carried out.
    pub(super) fn terminate<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, fatal: Fatal) {
        if fatal.status == FatalStatus::HeaderDigest
            && let Some(counters) = &self.digest_counters
        {
            counters.add_header();
        }
        self.end = Disposition::CloseAfterTransmit;
        self.terminated = true;
        self.urgent.clear();
        fatal.write(self.framer.offending_header(), &mut self.urgent);
        self.end_association(cx);
        self.drop_commands(cx);
    }

    /// More commands than the queue has entries: the host does not know its own queue. Base 2.1 §3.3.2.6 "Submission Queue Flow
    /// Control": the connection and the association end.
    pub(super) fn overflow<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        if holdfast_mutant::active("overrun") {
            return;
        }
        if let Role::Io(queue) = &self.role {
            cx.directory.remove(&queue.controller);
        }
        self.terminate(cx, Fatal::new(FatalStatus::PduSequence));
    }

    /// Ends all commands without an answer. Blocks that a batch in flight may refer to are kept until it has left.
    pub(super) fn drop_commands<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        let ids: Vec<SlotId> = self.slots.in_use().collect();
        for id in ids {
            let slot = self.slots.get_mut(id);
            match slot.ticket.take() {
                Some(ticket) if slot.completed => self.in_flight.push(ticket),
                Some(ticket) => {
                    cx.port.cancel(ticket);
                    self.tickets -= 1;
                }
                None => {}
            }
            if let Some(ticket) = slot.held.take() {
                cx.port.cancel(ticket);
                self.tickets -= 1;
            }
            self.slots.free(id);
        }
        self.outbox.clear();
        self.waiting.clear();
        self.ingest = Ingest::Idle;
        self.leaving = None;
        self.before = Before::Other;
        self.reserved = 0;
        self.reply_bytes = 0;
    }
}

//! Fused Compare and Write: between the two halves no write of anybody may come to the same blocks. NVM Command Set 1.1
//! §2.1.3.1 "Compare and Write".
//!
//! A pair takes its turn once no write to its blocks is under way, and from then on writes to them wait until it has
//! ended. Reads need not: they find all of a write or nothing of it. All commands for a volume come by here,
//! whatever core their hosts are connected to. While there is no pair, a write passes without a look.

use std::collections::VecDeque;

use crate::attribution::FaultSink;
use crate::execute::reads;
use crate::ticket::{Stage, Ticket, Work};
use crate::{BlockError, Operation, Service, Store, TicketId};

/// Who waits for a turn or has one, in the order of their coming. Bounded by the number of tickets.
#[derive(Debug, Default)]
pub(crate) struct Turns(VecDeque<Turn>);

#[derive(Debug, Clone, Copy)]
enum Turn {
    /// A pair; `taken` once its Compare is under way.
    Pair { compare: TicketId, write: TicketId, taken: bool },
    /// A write that came after a pair to the same blocks.
    Write(TicketId),
}

impl Turns {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Turn {
    /// The ticket whose range is meant, also the whole pair's.
    fn write(&self) -> TicketId {
        match self {
            Turn::Pair { write, .. } | Turn::Write(write) => *write,
        }
    }

    fn names(&self, id: TicketId) -> bool {
        self.write() == id || matches!(self, Turn::Pair { compare, .. } if *compare == id)
    }
}

impl<S: Store, F: FaultSink> Service<S, F> {
    /// Puts a complete command behind the pairs before it, if it writes to their blocks.
    pub(crate) fn has_to_wait(&mut self, id: TicketId) -> bool {
        let Some(work) = self.work_of(id).filter(changes_blocks) else { return false };
        let is_before = |turn: &Turn| matches!(turn, Turn::Pair { .. }) && self.touches(turn, &work);
        if !self.turns.0.iter().any(is_before) {
            return false;
        }
        self.set_waiting(id);
        self.turns.0.push_back(Turn::Write(id));
        true
    }

    /// Takes a complete pair in.
    pub(crate) fn queue_pair(&mut self, compare: TicketId, write: TicketId) {
        self.set_waiting(compare);
        self.set_waiting(write);
        self.turns.0.push_back(Turn::Pair { compare, write, taken: false });
        self.take_turns();
    }

    /// A ticket has ended that may have had a turn, or stood in the way of one.
    pub(crate) fn turns_changed(&mut self, id: TicketId, result: Result<(), BlockError>) {
        if self.turns.is_empty() {
            return;
        }
        let at = self.turns.0.iter().position(|turn| turn.names(id));
        if let Some(at) = at {
            self.advance_pair(at, id, result);
        }
        self.take_turns();
    }

    /// Nobody wants the end of a ticket any more. What is left of a pair goes on without its protection.
    pub(crate) fn leave_turns(&mut self, id: TicketId) {
        if !self.turns.is_empty() {
            self.turns.0.retain(|turn| !turn.names(id));
            self.take_turns();
        }
    }

    /// The Compare of a pair has ended, and the Write follows or is given up; or the Write has ended.
    fn advance_pair(&mut self, at: usize, ended: TicketId, result: Result<(), BlockError>) {
        let Some(Turn::Pair { compare, write, .. }) = self.turns.0.get(at).copied() else { return };
        if ended == compare && result.is_ok() {
            self.start(write);
        } else if ended == compare {
            self.give_back_reserved(write);
            self.complete(write, Err(BlockError::FusedFailed));
        }
        let goes_on = self.tickets.get(write).is_some_and(|ticket| ticket.stage == Stage::Submitted);
        if ended == write || !goes_on {
            self.turns.0.remove(at);
        }
    }

    /// Lets everybody begin whose turn it is.
    fn take_turns(&mut self) {
        let mut at = 0;
        while let Some(turn) = self.turns.0.get(at).copied() {
            if !self.may_begin(at, &turn) {
                at += 1;
                continue;
            }
            match turn {
                Turn::Write(id) => {
                    self.turns.0.remove(at);
                    self.start(id);
                }
                Turn::Pair { compare, write, .. } => {
                    if let Some(place) = self.turns.0.get_mut(at) {
                        *place = Turn::Pair { compare, write, taken: true };
                    }
                    self.begin_pair(at, compare);
                    if self.turns.0.get(at).is_some_and(|turn| turn.names(compare)) {
                        at += 1;
                    }
                }
            }
        }
    }

    fn begin_pair(&mut self, at: usize, compare: TicketId) {
        self.start(compare);
        let failed = self.tickets.get(compare).is_some_and(|ticket| ticket.stage == Stage::Completed);
        if failed {
            // Its payload was bad, so the store was not asked.
            self.advance_pair(at, compare, Err(BlockError::Miscompare));
        }
    }

    /// Whether nothing stands in the way of the turn at a place. Of writes, only pairs do; of a pair, writes too.
    fn may_begin(&self, at: usize, turn: &Turn) -> bool {
        if matches!(turn, Turn::Pair { taken: true, .. }) {
            return false;
        }
        let Some(work) = self.work_of(turn.write()) else { return true };
        let is_pair = matches!(turn, Turn::Pair { .. });
        let in_front =
            |other: &Turn| (is_pair || matches!(other, Turn::Pair { .. })) && self.touches(other, &work);
        if self.turns.0.iter().take(at).any(in_front) {
            return false;
        }
        let under_way = |ticket: &Ticket| {
            let submitted = matches!(ticket.stage, Stage::Submitted | Stage::Orphaned);
            submitted && ticket.work.is_some_and(|other| changes_blocks(&other) && overlap(&other, &work))
        };
        !is_pair || !self.tickets.iter().any(under_way)
    }

    fn touches(&self, turn: &Turn, work: &Work) -> bool {
        self.work_of(turn.write()).is_some_and(|other| overlap(&other, work))
    }

    fn work_of(&self, id: TicketId) -> Option<Work> {
        self.tickets.get(id)?.work
    }

    fn set_waiting(&mut self, id: TicketId) {
        if let Some(ticket) = self.tickets.get_mut(id) {
            debug_assert_eq!(ticket.stage, Stage::Open, "a ticket is submitted once");
            ticket.stage = Stage::Waiting;
        }
    }
}

fn changes_blocks(work: &Work) -> bool {
    !reads(work.command.operation) && work.command.operation != Operation::Flush
}

fn overlap(a: &Work, b: &Work) -> bool {
    let end = |work: &Work| work.command.lba.0.saturating_add(u64::from(work.command.blocks.get()));
    a.shape.volume == b.shape.volume && a.command.lba.0 < end(b) && b.command.lba.0 < end(a)
}

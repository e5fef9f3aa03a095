//! Fused Compare and Write: between the two halves no write of anybody may come to the same blocks. NVM Command Set 1.1
//! §2.1.3.1 "Compare and Write".
//!
//! A pair takes its turn once no write to its blocks is under way, and from then on writes to them wait until it has
//! ended. Reads need not: they find all of a write or nothing of it. All commands for a volume come by here,
//! whatever core their hosts are connected to.
//!
//! Whoever comes to the line counts what stands in its way, and each end is counted off by those that it was in the way
//! of: nobody is looked at again who has not come closer. While there is no pair, a write passes without a look.

use std::collections::VecDeque;

use crate::attribution::FaultSink;
use crate::execute::reads;
use crate::ticket::{Stage, Work};
use crate::{BlockError, Lba, Operation, Service, Store, TicketId, VolumeId};

/// The line of those that wait for a turn or have one, and what they wait for. Bounded by the number of tickets.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// In the order of their coming, and so of their numbers.
    line: VecDeque<Turn>,
    /// Commands with the store that change blocks and are no half of a pair.
    changes: Vec<Change>,
    /// Numbers of those that nothing is in the way of any more; empty between two calls.
    ready: VecDeque<u64>,
    last_number: u64,
}

/// A pair, or a write that came after a pair to the same blocks.
#[derive(Debug, Clone, Copy)]
struct Turn {
    number: u64,
    /// Of a pair.
    compare: Option<TicketId>,
    write: TicketId,
    span: Span,
    /// Of a write, the pairs before it; of a pair, also the writes before it, in the line or under way.
    obstacles: usize,
}

#[derive(Debug, Clone, Copy)]
struct Change {
    ticket: TicketId,
    span: Span,
}

/// The blocks of a command.
#[derive(Debug, Clone, Copy)]
struct Span {
    volume: VolumeId,
    start: Lba,
    end: u64,
}

impl Turns {
    pub(crate) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.line.len()
    }

    fn at(&self, number: u64) -> Option<usize> {
        self.line.binary_search_by_key(&number, |turn| turn.number).ok()
    }

    /// The number of a new last in the line.
    fn push(&mut self, compare: Option<TicketId>, write: TicketId, span: Span, obstacles: usize) -> u64 {
        self.last_number += 1;
        self.line.push_back(Turn { number: self.last_number, compare, write, span, obstacles });
        self.last_number
    }

    /// Counts an obstacle off for those behind a place whose way it was in.
    fn clear(&mut self, span: &Span, behind: usize, was_pair: bool) {
        for turn in self.line.range_mut(behind..) {
            if (was_pair || turn.compare.is_some()) && turn.obstacles > 0 && turn.span.overlaps(span) {
                turn.obstacles -= 1;
                if turn.obstacles == 0 {
                    self.ready.push_back(turn.number);
                }
            }
        }
    }
}

impl<S: Store, F: FaultSink> Service<S, F> {
    /// Puts a complete command behind the pairs before it, if it writes to their blocks.
    pub(crate) fn has_to_wait(&mut self, id: TicketId) -> bool {
        let Some(span) = self.span_of(id) else { return false };
        let pairs = self.turns.line.iter().filter(|turn| turn.compare.is_some() && turn.span.overlaps(&span));
        let obstacles = pairs.count();
        if obstacles == 0 {
            return false;
        }
        let number = self.turns.push(None, id, span, obstacles);
        self.set_waiting(id, number);
        true
    }

    /// Takes a complete pair in.
    pub(crate) fn queue_pair(&mut self, compare: TicketId, write: TicketId) {
        let Some(span) = self.span_of(write) else { return };
        let before = self.turns.line.iter().filter(|turn| turn.span.overlaps(&span)).count();
        let under_way = self.turns.changes.iter().filter(|change| change.span.overlaps(&span)).count();
        let obstacles = before + under_way;
        let number = self.turns.push(Some(compare), write, span, obstacles);
        self.set_waiting(compare, number);
        self.set_waiting(write, number);
        if obstacles == 0 {
            self.turns.ready.push_back(number);
            self.let_begin();
        }
    }

    /// A ticket goes to the store: from here on it may be in the way of pairs.
    pub(crate) fn change_begins(&mut self, id: TicketId) {
        let Some(span) = self.span_of(id) else { return };
        let place = self.turns.changes.len();
        let Some(ticket) = self.tickets.get_mut(id) else { return };
        if ticket.turn.is_none() {
            ticket.change = Some(place);
            self.turns.changes.push(Change { ticket: id, span });
        }
    }

    /// The store is done with a ticket, which had a turn or was in the way of some, or neither.
    pub(crate) fn turns_changed(&mut self, id: TicketId, result: Result<(), BlockError>) {
        let Some(ticket) = self.tickets.get_mut(id) else { return };
        let number = ticket.turn;
        if let Some(place) = ticket.change.take() {
            let Change { span, .. } = self.turns.changes.swap_remove(place);
            if let Some(moved) = self.turns.changes.get(place)
                && let Some(ticket) = self.tickets.get_mut(moved.ticket)
            {
                ticket.change = Some(place);
            }
            // All pairs on its blocks came after it, or it would be waiting for them.
            self.turns.clear(&span, 0, false);
        } else if let Some(at) = number.and_then(|number| self.turns.at(number)) {
            self.advance_pair(at, id, result);
        }
        self.let_begin();
    }

    /// Nobody wants the end of a ticket any more. A pair whose Write has begun keeps its turn until the store is done with
    /// it; a pair before that gives its turn up, and its other half is expected to be given up too.
    pub(crate) fn leave_turns(&mut self, id: TicketId, was: Stage) {
        let number = self.tickets.get(id).and_then(|ticket| ticket.turn);
        let Some(at) = number.and_then(|number| self.turns.at(number)) else { return };
        let is_write = self.turns.line.get(at).is_some_and(|turn| turn.write == id);
        if !(is_write && was == Stage::Submitted) {
            self.remove_turn(at);
            self.let_begin();
        }
    }

    /// The Compare of a pair has ended, and the Write follows or is given up; or the Write has ended.
    fn advance_pair(&mut self, at: usize, ended: TicketId, result: Result<(), BlockError>) {
        let Some(Turn { compare: Some(compare), write, .. }) = self.turns.line.get(at).copied() else {
            return;
        };
        if ended == compare && result.is_ok() {
            self.start(write);
        } else if ended == compare {
            self.give_back_reserved(write);
            self.complete(write, Err(BlockError::FusedFailed));
        }
        if ended == write || !self.is_with_store(write) {
            self.remove_turn(at);
        }
    }

    /// Lets everybody begin whose turn it is.
    fn let_begin(&mut self) {
        while let Some(number) = self.turns.ready.pop_front() {
            let Some(at) = self.turns.at(number) else { continue };
            let Some(Turn { compare, write, span, .. }) = self.turns.line.get(at).copied() else { continue };
            match compare {
                Some(compare) => {
                    self.start(compare);
                    if !self.is_with_store(compare) {
                        // Its payload was bad, so the store was not asked.
                        self.advance_pair(at, compare, Err(BlockError::FusedFailed));
                    }
                }
                None => {
                    self.turns.line.remove(at);
                    self.forget_turn(write);
                    self.start(write);
                    if !self.is_with_store(write) {
                        self.turns.clear(&span, at, false);
                    }
                }
            }
        }
    }

    fn remove_turn(&mut self, at: usize) {
        let Some(Turn { compare, write, span, .. }) = self.turns.line.remove(at) else { return };
        self.forget_turn(write);
        if let Some(compare) = compare {
            self.forget_turn(compare);
        }
        self.turns.clear(&span, at, compare.is_some());
    }

    fn forget_turn(&mut self, id: TicketId) {
        if let Some(ticket) = self.tickets.get_mut(id) {
            ticket.turn = None;
        }
    }

    fn is_with_store(&self, id: TicketId) -> bool {
        let stage = self.tickets.get(id).map(|ticket| ticket.stage);
        matches!(stage, Some(Stage::Submitted | Stage::Orphaned))
    }

    /// The blocks that a command changes, if any.
    fn span_of(&self, id: TicketId) -> Option<Span> {
        let Work { command, shape } = self.tickets.get(id)?.work?;
        let changes = !reads(command.operation) && command.operation != Operation::Flush;
        changes.then(|| Span {
            volume: shape.volume,
            start: command.lba,
            end: command.lba.0.saturating_add(u64::from(command.blocks.get())),
        })
    }

    fn set_waiting(&mut self, id: TicketId, number: u64) {
        if let Some(ticket) = self.tickets.get_mut(id) {
            debug_assert_eq!(ticket.stage, Stage::Open, "a ticket is submitted once");
            ticket.stage = Stage::Waiting;
            ticket.turn = Some(number);
        }
    }
}

impl Span {
    fn overlaps(&self, other: &Span) -> bool {
        self.volume == other.volume && self.start.0 < other.end && other.start.0 < self.end
    }
}

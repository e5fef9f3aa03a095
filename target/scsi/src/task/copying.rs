//! A task that copies: one piece of a segment after the other, each with room for what is written before anything is read.

use std::sync::Arc;

use holdfast_block::{BlockError, BlockPort, Completion, TicketId};

use super::{Progress, Task, Work};
use crate::context::Context;
use crate::copy::{Account, Copy, Ends, failed};
use crate::nexus::Nexus;
use crate::sense::Ending;
use crate::status::Ended;

/// A copy under way.
#[derive(Debug)]
pub(super) struct Copying {
    copy: Copy,
    account: Option<Arc<Account>>,
    /// The segment, its ends, and how many of its blocks are copied.
    number: usize,
    ends: Option<Ends>,
    done: u32,
    piece: Option<Piece>,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    target: TicketId,
    /// Until its blocks are in the target.
    source: Option<TicketId>,
    blocks: u32,
}

impl Task {
    /// Begins.
    pub(crate) fn copy<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        nexus: &mut Nexus,
        copy: Copy,
        account: Option<Arc<Account>>,
    ) -> Progress {
        self.work = Work::Copy;
        self.copying = Some(Box::new(Copying { copy, account, number: 0, ends: None, done: 0, piece: None }));
        self.copy_on(cx, nexus)
    }

    /// Takes the next step, or tries it again.
    pub(super) fn copy_on<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, nexus: &mut Nexus) -> Progress {
        let (origin, lun) = (self.origin, self.lun);
        let Some(copying) = &mut self.copying else { return Progress::Running };
        loop {
            let ends = match copying.ends {
                Some(ends) => ends,
                None => match Ends::of(cx, nexus, lun, &copying.copy, copying.number) {
                    Some(Ok(ends)) => *copying.ends.insert(ends),
                    Some(Err(sense)) => return self.copy_failed(cx.port, Ending::Check(sense)),
                    None => return self.copy_done(),
                },
            };
            if ends.is_over(copying.done) {
                copying.next_segment();
                continue;
            }
            let (target, source) = ends.piece(origin, copying.done);
            let begun = cx.port.begin(&target).and_then(|target| {
                cx.port.begin(&source).map(|source| (target, source)).inspect_err(|_| cx.port.cancel(target))
            });
            return match begun {
                Ok((target_id, source_id)) => {
                    let blocks = target.blocks.get();
                    self.medium.cost = self.medium.cost.saturating_add(ends.bytes(blocks));
                    copying.piece = Some(Piece { target: target_id, source: Some(source_id), blocks });
                    cx.port.submit(source_id);
                    Progress::Running
                }
                Err(BlockError::Busy) => Progress::Wait,
                Err(error) => {
                    let ending = copying.failed(error);
                    self.copy_failed(cx.port, ending)
                }
            };
        }
    }

    /// Takes a completion of one of its tickets.
    pub(super) fn copy_completed<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        nexus: &mut Nexus,
        completion: Completion,
    ) -> Progress {
        let Some(copying) = &mut self.copying else { return Progress::Running };
        let Some(piece) = &mut copying.piece else {
            debug_assert!(false, "a completion of no ticket of this task");
            cx.port.release(completion.ticket);
            return Progress::Running;
        };
        let is_source = piece.source == Some(completion.ticket);
        debug_assert!(is_source || piece.target == completion.ticket, "one of the two");
        if is_source {
            if completion.result.is_ok() {
                cx.port.carry(completion.ticket, piece.target);
            }
            piece.source = None;
        }
        cx.port.release(completion.ticket);
        match (completion.result, is_source) {
            (Ok(()), true) => {
                cx.port.submit(piece.target);
                Progress::Running
            }
            (Ok(()), false) => {
                copying.piece_done();
                self.copy_on(cx, nexus)
            }
            (Err(error), _) => {
                if !is_source {
                    copying.piece = None;
                }
                let ending = copying.failed(error);
                self.copy_failed(cx.port, ending)
            }
        }
    }

    /// Tickets that its copy holds.
    pub(super) fn copy_tickets(&self) -> usize {
        let piece = self.copying.as_ref().and_then(|copying| copying.piece);
        piece.map_or(0, |piece| 1 + usize::from(piece.source.is_some()))
    }

    /// Gives its copy up, if it has one.
    pub(super) fn cancel_copy<P: BlockPort>(&mut self, port: &mut P) {
        let Some(mut copying) = self.copying.take() else { return };
        copying.give_up(port);
        if let Some(account) = &copying.account {
            account.failed(None);
        }
    }

    fn copy_done(&mut self) -> Progress {
        if let Some(account) = self.copying.take().and_then(|copying| copying.account) {
            account.done();
        }
        self.work = Work::Nothing;
        self.good()
    }

    fn copy_failed<P: BlockPort>(&mut self, port: &mut P, ending: Ending) -> Progress {
        let Some(mut copying) = self.copying.take() else { return self.end(ending) };
        copying.give_up(port);
        if let Some(account) = &copying.account {
            let sense = Ended::of(ending, self.format).sense;
            account.failed(Some(sense).filter(|sense| !sense.as_slice().is_empty()));
        }
        self.end(ending)
    }
}

impl Copying {
    fn failed(&self, error: BlockError) -> Ending {
        let at = self.copy.segments.get(self.number).map_or(0, |segment| segment.at);
        failed(error, self.number, at)
    }

    fn piece_done(&mut self) {
        let (Some(piece), Some(ends)) = (self.piece.take(), &self.ends) else { return };
        self.done = self.done.saturating_add(piece.blocks);
        if let Some(account) = &self.account {
            account.copied(ends.bytes(piece.blocks));
        }
    }

    fn next_segment(&mut self) {
        self.number += 1;
        self.done = 0;
        self.ends = None;
        if let Some(account) = &self.account {
            account.segment_done();
        }
    }

    fn give_up<P: BlockPort>(&mut self, port: &mut P) {
        let Some(piece) = self.piece.take() else { return };
        if let Some(source) = piece.source {
            port.cancel(source);
        }
        port.cancel(piece.target);
    }
}

//! Fused pairs: a Compare and the Write right behind it. Base 2.1 §3.4.2 "Fused Operations"; NVM Command Set 1.1 §2.1.3.1
//! "Compare and Write".
//!
//! ```text
//! first half ─▶ waits for the next command ─▶ both collect their payloads ─▶ the block layer gets the pair
//! ```
//!
//! Nothing is asked of the host for a first half before its second has come, so that a lone one can be answered at once.
//! When a first half fails, its second is aborted; when a second half fails before it was with the block layer,
//! the first goes on as an ordinary Compare: its status does not depend on the Write.

use holdfast_block::BlockPort;

use super::plan::Plan;
use super::{Connection, Context, Role};
use crate::fabrics::connect::Refused;
use crate::sgl::{self, Source};
use crate::slots::{Half, SlotId, State, Work};
use crate::status::Status;
use crate::wire::nvm::{RangeFields, opcode};
use crate::wire::sqe::{OPCODE_FABRICS, Sqe};

/// FUSE.
const FIRST: u8 = 0b01;
const SECOND: u8 = 0b10;

/// What the command before the next one was.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Before {
    /// No first half.
    #[default]
    Other,
    /// A first half that waits.
    First(SlotId),
    /// A first half that has failed.
    Failed,
}

impl Connection {
    /// Starts a command, which may be half of a pair, or come where one was to come.
    pub(super) fn begin_io<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        id: SlotId,
        planned: Result<Plan, Refused>,
        data_len: usize,
    ) {
        let before = std::mem::take(&mut self.before);
        let sqe = &self.slots.get(id).sqe;
        let code = sqe.opcode;
        // Everywhere else the field is reserved, or judged already.
        let is_io = matches!(self.role, Role::Io(_)) && code != OPCODE_FABRICS;
        let fuse = if is_io { sqe.fuse() } else { 0 };
        if fuse == SECOND {
            return self.begin_second(cx, before, id, planned, data_len);
        }
        if let Before::First(first) = before
            && !holdfast_mutant::active("fused-missing")
        {
            self.abandon(cx, first, Status::FUSED_MISSING);
        }
        match (fuse, planned) {
            (FIRST, planned) => {
                let begun = match planned {
                    Ok(plan) if code == opcode::COMPARE => self.begin_first(cx, id, plan, data_len),
                    Ok(_) => Err(Status::INVALID_FIELD),
                    Err(refused) => Err(refused.status),
                };
                self.before = if begun.is_ok() { Before::First(id) } else { Before::Failed };
                if let Err(status) = begun {
                    self.settle(id, status, 0, data_len);
                }
            }
            (_, Ok(plan)) => self.begin(cx, id, plan, data_len),
            (_, Err(refused)) => self.settle(id, refused.status, refused.result.into(), data_len),
        }
    }

    fn begin_first<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        id: SlotId,
        plan: Plan,
        data_len: usize,
    ) -> Result<(), Status> {
        match self.set_half(id, plan, data_len)? {
            Source::InCapsule { offset } => {
                self.open(cx, id)?;
                self.expect_capsule_data(id, offset);
            }
            Source::Transfer => self.slots.get_mut(id).state = State::Paired,
        }
        self.slots.get_mut(id).half = Half::Lone;
        Ok(())
    }

    fn begin_second<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        before: Before,
        id: SlotId,
        planned: Result<Plan, Refused>,
        data_len: usize,
    ) {
        let first = match before {
            Before::Other => return self.settle(id, Status::FUSED_MISSING, 0, data_len),
            Before::Failed => return self.settle(id, Status::FUSED_FAILED, 0, data_len),
            Before::First(first) => first,
        };
        let (one, other) = (&self.slots.get(first).sqe, &self.slots.get(id).sqe);
        if other.opcode != opcode::WRITE {
            self.abandon(cx, first, Status::FUSED_MISSING);
            return self.settle(id, Status::INVALID_FIELD, 0, data_len);
        }
        if !same_range(one, other) {
            self.abandon(cx, first, Status::INVALID_FIELD);
            return self.settle(id, Status::INVALID_FIELD, 0, data_len);
        }
        let planned = planned.map_err(|refused| refused.status);
        match planned.and_then(|plan| self.set_half(id, plan, data_len)) {
            Ok(source) => self.join(cx, first, id, source, data_len),
            Err(status) => {
                self.settle(id, status, 0, data_len);
                self.go_alone(cx, first);
            }
        }
    }

    /// Both halves are there: their payloads are asked for, the first one's first.
    fn join<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        first: SlotId,
        second: SlotId,
        source: Source,
        data_len: usize,
    ) {
        self.slots.get_mut(first).half = Half::Of(second);
        self.slots.get_mut(second).half = Half::Of(first);
        if self.slots.get(first).ticket.is_none() {
            self.start_in_order(cx, first);
        }
        if self.slots.get(second).half == Half::Whole {
            // The first was refused.
            return self.settle(second, Status::FUSED_FAILED, 0, data_len);
        }
        match source {
            Source::Transfer => self.start_in_order(cx, second),
            Source::InCapsule { offset } => match self.open(cx, second) {
                Ok(()) => self.expect_capsule_data(second, offset),
                Err(status) => {
                    self.settle(second, status, 0, data_len);
                    self.half_ended(cx, second);
                }
            },
        }
    }

    /// Notes what a half is to do. Gives where its payload is.
    fn set_half(&mut self, id: SlotId, plan: Plan, data_len: usize) -> Result<Source, Status> {
        let Plan::Run { work: Work::Block(command), transfer_len } = plan else {
            return Err(Status::INTERNAL_ERROR);
        };
        let slot = self.slots.get_mut(id);
        slot.work = Work::Block(command);
        slot.transfer_len = transfer_len;
        sgl::from_host(&slot.sqe, transfer_len, data_len)
    }

    /// A half has its whole payload.
    pub(super) fn half_complete<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId) {
        let slot = self.slots.get_mut(id);
        slot.state = State::Paired;
        let Half::Of(other) = slot.half else { return };
        let opcode = slot.sqe.opcode;
        let mine = slot.ticket;
        let theirs = self.slots.get(other);
        let (Some(mine), Some(theirs)) = (mine, theirs.ticket.filter(|_| theirs.state == State::Paired))
        else {
            return;
        };
        for half in [id, other] {
            let slot = self.slots.get_mut(half);
            slot.half = Half::Whole;
            slot.state = State::Executing;
        }
        if holdfast_mutant::active("fused-apart") {
            cx.port.submit(mine);
            cx.port.submit(theirs);
        } else if opcode == opcode::COMPARE {
            cx.port.submit_fused(mine, theirs);
        } else {
            cx.port.submit_fused(theirs, mine);
        }
    }

    /// A half has been answered before the block layer got the pair: refused, or taken back. Not so for other commands.
    pub(super) fn half_ended<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId) {
        let slot = self.slots.get_mut(id);
        let other = match std::mem::replace(&mut slot.half, Half::Whole) {
            Half::Whole => return,
            Half::Lone => return self.before = Before::Failed,
            Half::Of(other) => other,
        };
        if slot.sqe.opcode == opcode::WRITE {
            return self.go_alone(cx, other);
        }
        let second = self.slots.get_mut(other);
        second.half = Half::Whole;
        match second.state {
            State::Waiting => {
                self.waiting.retain(|waiting| *waiting != other);
                self.settle(other, Status::FUSED_FAILED, 0, 0);
            }
            State::Paired => self.abandon(cx, other, Status::FUSED_FAILED),
            State::Arriving | State::R2tQueued | State::Transferring if second.ticket.is_some() => {
                second.doomed = Some(Status::FUSED_FAILED);
            }
            // It has not begun: whoever is about to begin it finds that it is alone.
            _ => {}
        }
    }

    /// Lets a first half go on as an ordinary Compare.
    fn go_alone<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, first: SlotId) {
        let slot = self.slots.get_mut(first);
        slot.half = Half::Whole;
        if slot.state != State::Paired {
            return;
        }
        match slot.ticket {
            Some(ticket) => {
                slot.state = State::Executing;
                cx.port.submit(ticket);
            }
            None => self.start_in_order(cx, first),
        }
    }

    /// Answers a half that has its payload, or has not asked for it.
    fn abandon<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId, status: Status) {
        self.slots.get_mut(id).half = Half::Whole;
        self.drop_tickets(cx, id);
        self.settle(id, status, 0, 0);
    }
}

/// §2.1.3.1: both halves are for the same blocks of the same namespace.
fn same_range(first: &Sqe, second: &Sqe) -> bool {
    let (a, b) = (RangeFields::of(first), RangeFields::of(second));
    holdfast_mutant::active("fused-range")
        || first.nsid == second.nsid && a.lba == b.lba && a.blocks == b.blocks
}

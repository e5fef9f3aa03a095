//! Task management. RFC 7143 §11.5 "Task Management Function Request", §11.6 "Task Management Function Response", §4.2.3 "SCSI
//! Task Management during iSCSI Full Feature Phase"; SAM-5 §7.

use holdfast_block::BlockPort;
use holdfast_scsi::{Ended, Managed, Status, TaskFunction, lun_number};
use zerocopy::{FromZeros, transmute_ref};

use super::receive::Held;
use super::transmit::{Notice, Outgoing, Stat};
use super::{Connection, Context, Disposition, Managing, Phase};
use crate::limits::{ABORT_WAIT_MS, MANAGING_MAX};
use crate::slots::{Slot, SlotId, State};
use crate::wire::{Bhs, FINAL, NO_TAG, TaskRequest, TaskResponse, opcode, reason};

/// Functions. §11.5.1 "Function".
mod function {
    pub(super) const ABORT_TASK: u8 = 1;
    pub(super) const ABORT_TASK_SET: u8 = 2;
    pub(super) const CLEAR_TASK_SET: u8 = 4;
    pub(super) const UNIT_RESET: u8 = 5;
    pub(super) const WARM_RESET: u8 = 6;
    pub(super) const COLD_RESET: u8 = 7;
    pub(super) const REASSIGN: u8 = 8;
}

/// Responses. §11.6.1 "Response".
mod response {
    pub(super) const COMPLETE: u8 = 0;
    pub(super) const NO_TASK: u8 = 1;
    pub(super) const NO_LUN: u8 = 2;
    pub(super) const NO_REASSIGNMENT: u8 = 4;
    pub(super) const NOT_SUPPORTED: u8 = 5;
}

impl Connection {
    /// Carries out a function. `false`: it was rejected.
    pub(super) fn manage<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, bhs: &Bhs) -> bool {
        let request: &TaskRequest = transmute_ref!(bhs);
        let itt = request.itt.get();
        let scope = match request.function() {
            _ if itt == NO_TAG => {
                self.reject(reason::INVALID_FIELD, bhs);
                return false;
            }
            function::ABORT_TASK => {
                let response = self.abort_task(cx, request);
                self.managed(itt, response);
                return true;
            }
            function::ABORT_TASK_SET => TaskFunction::AbortTaskSet,
            function::CLEAR_TASK_SET => TaskFunction::ClearTaskSet,
            function::UNIT_RESET => TaskFunction::UnitReset,
            function::WARM_RESET | function::COLD_RESET => TaskFunction::TargetReset,
            function::REASSIGN => {
                self.managed(itt, response::NO_REASSIGNMENT);
                return true;
            }
            _ => {
                self.managed(itt, response::NOT_SUPPORTED);
                return true;
            }
        };
        if self.managing.len() >= MANAGING_MAX {
            self.reject(reason::IMMEDIATE, bhs);
            return false;
        }
        let Phase::Full(full) = &mut self.phase else { return false };
        let Some(nexus) = &mut full.nexus else { return false };
        let wait = match nexus.manage(&mut cx.scsi(), scope, request.lun) {
            Managed::NoSuchUnit => {
                self.managed(itt, response::NO_LUN);
                return true;
            }
            Managed::Done => None,
            Managed::Waits(wait) => Some(wait),
        };
        let everything = scope == TaskFunction::TargetReset;
        self.abort_set(cx, |lun| everything || is_same(lun, request.lun));
        let closes = request.function() == function::COLD_RESET;
        let until_ms = cx.now_ms.saturating_add(ABORT_WAIT_MS);
        self.managing.push(Managing { itt, wait, until_ms, closes });
        self.finish_managing(cx);
        true
    }

    /// §11.5.1 and §11.6.1: of a task that is not there but whose number could still come, the number is taken as received.
    fn abort_task<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, request: &TaskRequest) -> u8 {
        let itt = request.referenced.get();
        if let Some(id) = self.slots.find(itt) {
            if !is_same(self.slots.get(id).bhs.lun, request.lun) {
                return response::NO_TASK;
            }
            self.abort(cx, id);
            return response::COMPLETE;
        }
        if let Some(held) = self.held_command(itt)
            && is_same(held.bhs.lun, request.lun)
        {
            held.make_void();
            self.remember_ended(itt);
            return response::COMPLETE;
        }
        let number = request.ref_cmd_sn.get();
        let ahead = number.wrapping_sub(self.exp_cmd_sn);
        let earlier = request.cmd_sn.get().wrapping_sub(number);
        if ahead >= self.room() || !(1..u32::MAX / 2).contains(&earlier) || self.is_held(number) {
            return response::NO_TASK;
        }
        let mut bhs = Bhs::new_zeroed();
        bhs.itt.set(NO_TAG);
        bhs.cmd_sn.set(number);
        self.held.push(Held::void(bhs));
        response::COMPLETE
    }

    /// Aborts all tasks of some logical units, those that wait for their turn included. §4.2.3.3 "Standard Multi-Task Abort
    /// Semantics": data that was asked for is waited for.
    fn abort_set<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, concerned: impl Fn([u8; 8]) -> bool) {
        let held = self.held.iter_mut().filter(|held| held.is_command() && concerned(held.bhs.lun));
        let tags: Vec<u32> = held.map(Held::make_void).collect();
        tags.into_iter().for_each(|itt| self.remember_ended(itt));
        // What has its answer in line is over.
        let is_concerned = |slot: &Slot| {
            matches!(slot.state, State::Receiving | State::Running | State::Draining)
                && concerned(slot.bhs.lun)
        };
        let ids: Vec<SlotId> = self.slots.in_use().filter(|id| is_concerned(self.slots.get(*id))).collect();
        for id in ids {
            self.take_back_r2ts(id);
            let slot = self.slots.get_mut(id);
            if slot.bursts.is_empty() {
                self.abort(cx, id);
                continue;
            }
            slot.state = State::Aborting;
            self.left_order(id);
            self.give_back(cx, id);
            self.forget_waiting(id);
        }
    }

    /// R2Ts that have not been sent are not sent any more.
    fn take_back_r2ts(&mut self, id: SlotId) {
        let (slots, solicited) = (&mut self.slots, &mut self.solicited);
        self.outbox.retain(|outgoing| match outgoing {
            Outgoing::R2t(r2t) if r2t.slot == id => {
                slots.get_mut(id).bursts.retain(|burst| burst.ttt != r2t.ttt);
                *solicited -= 1;
                false
            }
            _ => true,
        });
    }

    /// Until when functions wait for data.
    pub(super) fn abort_deadline_ms(&self) -> Option<u64> {
        let aborting = |id: SlotId| self.slots.get(id).state == State::Aborting;
        let first = self.managing.iter().map(|managing| managing.until_ms).min()?;
        self.slots.in_use().any(aborting).then_some(first)
    }

    /// Functions have waited long enough for data.
    pub(super) fn stop_waiting<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        let aborting = |id: &SlotId| self.slots.get(*id).state == State::Aborting;
        let ids: Vec<SlotId> = self.slots.in_use().filter(aborting).collect();
        ids.into_iter().for_each(|id| self.abort(cx, id));
        self.finish_managing(cx);
    }

    /// Answers functions whose tasks have all ended, here and elsewhere.
    pub(super) fn finish_managing<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        if self.managing.is_empty()
            || self.slots.in_use().any(|id| self.slots.get(id).state == State::Aborting)
        {
            return;
        }
        let is_done = |managing: &Managing| managing.wait.is_none_or(|wait| cx.units.is_done(wait));
        let done: Vec<Managing> = self.managing.extract_if(.., |managing| is_done(managing)).collect();
        for managing in done {
            self.managed(managing.itt, response::COMPLETE);
            if managing.closes {
                self.end_target(cx);
            }
        }
    }

    /// §11.5.1 "Function": after TARGET COLD RESET the target ends all sessions.
    fn end_target<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        if let Phase::Full(full) = &self.phase {
            cx.directory.end_target(&full.member);
        }
        self.end_session(cx);
        self.end = Disposition::CloseAfterTransmit;
    }

    fn managed(&mut self, itt: u32, response: u8) {
        let mut answer = TaskResponse::new(opcode::TASK_RESPONSE);
        answer.flags = FINAL;
        answer.response = response;
        answer.itt.set(itt);
        self.notice(Notice::new(answer, Vec::new(), Stat::Counts));
    }

    /// Aborts all tasks of some logical units, without an answer.
    pub(super) fn abort_tasks<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        concerned: impl Fn([u8; 8]) -> bool,
    ) {
        let ids: Vec<SlotId> =
            self.slots.in_use().filter(|id| concerned(self.slots.get(*id).bhs.lun)).collect();
        for id in ids {
            self.abort(cx, id);
        }
    }

    /// Carries out what other nexuses' task management functions ask for, and sees which of ours are done.
    pub(super) fn follow_units<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        let Phase::Full(full) = &mut self.phase else { return };
        let Some(nexus) = &mut full.nexus else { return };
        let orders = nexus.follow_units(&mut cx.scsi());
        for order in &orders {
            let ids: Vec<SlotId> =
                self.slots.in_use().filter(|id| is_same(self.slots.get(*id).bhs.lun, order.lun)).collect();
            let mut in_silence = false;
            for id in ids {
                in_silence |= self.end_by_others(cx, id, order.tell);
            }
            if in_silence
                && let Phase::Full(full) = &mut self.phase
                && let Some(nexus) = &mut full.nexus
            {
                nexus.aborted_in_silence(order);
            }
        }
        if let Phase::Full(full) = &mut self.phase
            && let Some(nexus) = &full.nexus
        {
            orders.iter().for_each(|order| nexus.aborted(&mut cx.scsi(), order.wait));
        }
        self.finish_managing(cx);
    }

    /// SAM-5 §5.6: the initiator learns of it from a unit attention, or by TAS from the status of each task. Whether a task has
    /// ended and it is the former.
    fn end_by_others<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId, tell: bool) -> bool {
        let slot = self.slots.get_mut(id);
        let is_open = matches!(slot.state, State::Receiving | State::Running | State::Draining);
        if !is_open {
            return false;
        }
        if !tell {
            self.abort(cx, id);
            return true;
        }
        slot.ended = Some(Ended::plain(Status::TaskAborted));
        slot.state = State::Draining;
        self.give_back(cx, id);
        self.forget_waiting(id);
        self.data_moved(cx, id);
        false
    }
}

/// Whether both name the same logical unit, in whatever format. SAM-5 §4.7 "Logical unit numbers".
fn is_same(a: [u8; 8], b: [u8; 8]) -> bool {
    a == b || lun_number(a).is_some_and(|number| lun_number(b) == Some(number))
}

//! Commands on their way into the block layer and back.
//!
//! Data that the host is to be asked for has its buffer first: R2T is sent only against reserved room. Commands for which there
//! is none wait in order; each ticket that this connection gives back lets the next ones try.

use holdfast_block::{BlockError, BlockPort, Command, Completion, Operation, TicketId};

use super::plan::Plan;
use super::{Connection, Context, Outgoing, Role, cost};
use crate::io::{self, IoQueueView, Step, Steps};
use crate::limits::{STAGED_LEN_MAX, TRANSFER_RESERVED_MAX};
use crate::sgl::{self, Source};
use crate::slots::{Half, Slot, SlotId, State, Work};
use crate::status::Status;

impl Connection {
    /// Starts what was planned. `data_len` bytes of payload are behind the command in its capsule.
    pub(super) fn begin<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        id: SlotId,
        plan: Plan,
        data_len: usize,
    ) {
        match plan {
            Plan::Done(result) => {
                self.settle(id, Status::SUCCESS, result, data_len);
                self.tell_events();
            }
            Plan::Reply { data, len } => self.reply(id, data, len, data_len),
            // Bytes behind an Abort, like all that no descriptor is about, are passed over.
            Plan::Ask => self.slots.get_mut(id).state = State::Asking,
            Plan::Disconnect => self.disconnect(cx, id),
            Plan::Park if data_len > 0 => self.settle(id, Status::INVALID_FIELD, 0, data_len),
            Plan::Park => self.park(id),
            Plan::Collect { len } => {
                debug_assert!(len <= STAGED_LEN_MAX);
                let slot = self.slots.get_mut(id);
                slot.transfer_len = len;
                match sgl::from_host(&slot.sqe, len, data_len) {
                    Ok(Source::InCapsule { offset }) => self.expect_capsule_data(id, offset),
                    Ok(Source::Transfer) => self.request(id),
                    Err(status) => self.settle(id, status, 0, data_len),
                }
            }
            Plan::Run { work, transfer_len } => {
                let slot = self.slots.get_mut(id);
                slot.work = work;
                slot.transfer_len = transfer_len;
                if let Err(status) = self.run(cx, id, data_len) {
                    self.settle(id, status, 0, data_len);
                }
            }
        }
    }

    /// Starts work of the block layer.
    fn run<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        id: SlotId,
        data_len: usize,
    ) -> Result<(), Status> {
        let slot = self.slots.get(id);
        match slot.work {
            Work::Block(command) if takes_payload(command.operation) => {
                match sgl::from_host(&slot.sqe, slot.transfer_len, data_len)? {
                    Source::InCapsule { offset } => {
                        // The payload is coming already, so there is no waiting.
                        self.open(cx, id)?;
                        self.expect_capsule_data(id, offset);
                    }
                    Source::Transfer => self.start_in_order(cx, id),
                }
            }
            _ if data_len > 0 => return Err(Status::INVALID_FIELD),
            Work::Block(command) => {
                if command.operation == Operation::Read {
                    sgl::to_host(&slot.sqe, slot.transfer_len)?;
                }
                self.start_or_wait(cx, id);
            }
            Work::None | Work::Steps(_) => self.start_or_wait(cx, id),
        }
        Ok(())
    }

    /// Gets a ticket for a slot's command now or never.
    pub(super) fn open<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId) -> Result<(), Status> {
        let Work::Block(command) = self.slots.get(id).work else { return Err(Status::INTERNAL_ERROR) };
        let ticket = cx.port.begin(&command);
        let ticket = ticket.map_err(|error| Status::from_block(error, command.operation))?;
        let slot = self.slots.get_mut(id);
        slot.ticket = Some(ticket);
        slot.running = Some(command);
        self.tickets += 1;
        Ok(())
    }

    /// Starts a command whose payload is to be asked for, behind those that wait.
    pub(super) fn start_in_order<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId) {
        if self.waiting.is_empty() {
            self.start_or_wait(cx, id);
        } else {
            self.wait(id);
        }
    }

    fn start_or_wait<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId) {
        if !self.start(cx, id) {
            self.wait(id);
        }
    }

    fn wait(&mut self, id: SlotId) {
        self.slots.get_mut(id).state = State::Waiting;
        self.waiting.push_back(id);
    }

    /// Lets waiting commands try again, as long as they find room.
    pub(super) fn admit_waiting<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        while let Some(id) = self.waiting.front().copied() {
            if !self.start(cx, id) {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// Gives a command to the block layer. `false`: there is no room now, and there will be when a ticket of this
    /// connection ends.
    fn start<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId) -> bool {
        let slot = self.slots.get(id);
        let (command, transfer_len) = match slot.work {
            Work::None => return true,
            Work::Steps(_) => return self.step(cx, id),
            Work::Block(command) => (command, slot.transfer_len),
        };
        let reserve = if takes_payload(command.operation) { transfer_len } else { 0 };
        let full = self.reserved > 0 && self.reserved.saturating_add(reserve) > TRANSFER_RESERVED_MAX;
        if (reserve > 0 && full) || (transfer_len > 0 && self.should_yield(cx, &command)) {
            return false;
        }
        let ticket = match self.admit(cx, id, &command) {
            Ok(Some(ticket)) => ticket,
            Ok(None) => return false,
            Err(status) => {
                self.settle(id, status, 0, 0);
                self.half_ended(cx, id);
                return true;
            }
        };
        let slot = self.slots.get_mut(id);
        slot.ticket = Some(ticket);
        if reserve > 0 {
            slot.reserved = reserve;
            if self.reserved == 0 {
                self.transfer_moved_ms = cx.now_ms;
            }
            self.reserved += reserve;
            self.request(id);
        } else {
            slot.state = State::Executing;
            cx.port.submit(ticket);
        }
        true
    }

    /// Gets a ticket for a command. `None`: it has to wait.
    fn admit<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        id: SlotId,
        command: &Command,
    ) -> Result<Option<TicketId>, Status> {
        match cx.port.begin(command) {
            Ok(ticket) => {
                let slot = self.slots.get_mut(id);
                slot.running = Some(*command);
                let cost = cost::command_cost(command, slot.transfer_len);
                self.tickets += 1;
                self.charge(cost);
                Ok(Some(ticket))
            }
            Err(BlockError::Busy) if self.others_will_end() => Ok(None),
            Err(error) => Err(Status::from_block(error, command.operation)),
        }
    }

    /// Whether a core with little room should rather give it to others.
    fn should_yield<P: BlockPort>(&self, cx: &Context<'_, P>, command: &Command) -> bool {
        self.tickets > 0 && cx.port.is_crowded(command) && self.others_will_end()
    }

    /// Whether a ticket of this connection will end by itself: not those that wait for another command's, which are halves
    /// of pairs and destinations of Copies.
    fn others_will_end(&self) -> bool {
        let waits = |id: &SlotId| {
            let slot = self.slots.get(*id);
            let incomplete = match slot.half {
                Half::Whole => false,
                Half::Lone => true,
                Half::Of(other) => self.slots.get(other).ticket.is_none(),
            };
            slot.held.is_some() || (slot.ticket.is_some() && incomplete)
        };
        self.tickets > 0 && self.tickets > self.slots.in_use().filter(waits).count()
    }

    /// The next command of a row. `false`: it has to wait, and this step is tried again.
    fn step<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId) -> bool {
        match self.begin_step(cx, id) {
            Ok(went_on) => return went_on,
            Err(status) => self.row_done(cx, id, status, 0),
        }
        true
    }

    fn begin_step<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId) -> Result<bool, Status> {
        loop {
            let (step, steps) = self.next_of_row(cx, id)?;
            let (command, holds) = match step {
                Step::Run(command) => (command, false),
                Step::Hold(command) if self.should_yield(cx, &command) => return Ok(false),
                Step::Hold(command) => (command, true),
                Step::RunHeld(command) => {
                    let slot = self.slots.get_mut(id);
                    slot.work = Work::Steps(steps);
                    slot.running = Some(command);
                    slot.ticket = Some(slot.held.take().ok_or(Status::INTERNAL_ERROR)?);
                    self.execute(cx, id);
                    return Ok(true);
                }
                Step::Done(result) => {
                    self.row_done(cx, id, Status::SUCCESS, result);
                    return Ok(true);
                }
            };
            let Some(ticket) = self.admit(cx, id, &command)? else { return Ok(false) };
            let slot = self.slots.get_mut(id);
            slot.work = Work::Steps(steps);
            if !holds {
                slot.ticket = Some(ticket);
                self.execute(cx, id);
                return Ok(true);
            }
            slot.held = Some(ticket);
        }
    }

    /// Gives a slot's ticket to the block layer.
    fn execute<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId) {
        let slot = self.slots.get_mut(id);
        if let Some(ticket) = slot.ticket {
            slot.state = State::Executing;
            cx.port.submit(ticket);
        }
    }

    /// Gives up what a command has of the block layer.
    pub(super) fn drop_tickets<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId) {
        let slot = self.slots.get_mut(id);
        self.reserved -= std::mem::take(&mut slot.reserved);
        for ticket in [slot.ticket.take(), slot.held.take()].into_iter().flatten() {
            self.tickets -= 1;
            cx.port.cancel(ticket);
        }
    }

    fn next_of_row<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        id: SlotId,
    ) -> Result<(Step, Steps), Status> {
        let origin = self.origin(id);
        let slot = self.slots.get(id);
        let Work::Steps(mut steps) = slot.work else { return Err(Status::COMMAND_SEQUENCE) };
        let (controller, session) = match &self.role {
            Role::None => return Err(Status::COMMAND_SEQUENCE),
            Role::Io(queue) => (&*queue.controller, &queue.session),
            Role::Admin(queue) => {
                (&*queue.controller, queue.controller.session().ok_or(Status::COMMAND_SEQUENCE)?)
            }
        };
        let mut view = IoQueueView { controller, session, namespaces: &mut self.namespaces };
        let step = io::next_step(cx, &mut view, &slot.sqe, &slot.staging, origin, &mut steps)?;
        Ok((step, steps))
    }

    /// A row has come to its end. On the admin queue it was the flush of a shutdown, which is complete with it, whatever it
    /// could not reach; but not while the flush of another one runs, which a reset in between has made possible.
    fn row_done<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId, status: Status, result: u64) {
        self.drop_tickets(cx, id);
        if let Role::Admin(queue) = &mut self.role {
            let runs = |slot: &Slot| matches!(slot.work, Work::Steps(_)) && slot.state != State::Answering;
            if !self.slots.in_use().any(|other| other != id && runs(self.slots.get(other))) {
                queue.properties.shut_down();
                self.namespaces.clear(cx.port);
            }
            return self.settle(id, Status::SUCCESS, 0, 0);
        }
        self.settle(id, status, result, 0);
    }

    /// Asks the host for a command's payload.
    fn request(&mut self, id: SlotId) {
        self.slots.get_mut(id).state = State::R2tQueued;
        self.outbox.push_back(Outgoing::R2t(id));
    }

    /// The payload is there.
    pub(super) fn payload_complete<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId) {
        let slot = self.slots.get_mut(id);
        if let Some(status) = slot.doomed.take() {
            self.drop_tickets(cx, id);
            return self.settle(id, status, 0, 0);
        }
        if slot.half != Half::Whole {
            return self.half_complete(cx, id);
        }
        if slot.ticket.is_some() {
            return self.execute(cx, id);
        }
        if slot.damaged {
            return self.settle(id, Status::TRANSIENT_TRANSPORT, 0, 0);
        }
        let sqe = slot.sqe;
        let payload = std::mem::take(&mut slot.staging);
        let planned = self.plan_collected(cx, id, &sqe, &payload);
        self.slots.get_mut(id).staging = payload;
        match planned {
            Ok(plan) => self.begin(cx, id, plan, 0),
            Err(refused) => self.settle(id, refused.status, refused.result.into(), 0),
        }
    }

    /// The block layer is done with a command.
    pub(super) fn completed<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, completion: Completion) {
        let named = self.slots.named(completion.origin.command);
        let named = named.filter(|id| self.slots.get(*id).ticket == Some(completion.ticket));
        let Some(id) = named else {
            debug_assert!(false, "a completion of no command of this connection");
            return cx.port.release(completion.ticket);
        };
        match completion.result {
            Ok(()) => self.count(id),
            Err(error) => self.find_failed_block(id, error),
        }
        let slot = self.slots.get_mut(id);
        let operation = slot.running.map_or(Operation::Flush, |command| command.operation);
        let is_row = matches!(slot.work, Work::Steps(_));
        if completion.result.is_ok() && operation == Operation::Read {
            slot.completed = true;
            slot.status = Status::SUCCESS;
            slot.progress = 0;
            self.send(id);
            return self.leave_if_quiet(cx);
        }
        slot.ticket = None;
        self.reserved -= std::mem::take(&mut slot.reserved);
        self.tickets -= 1;
        if let (Some(target), Operation::CopySource, Ok(())) = (slot.held, operation, completion.result) {
            cx.port.carry(completion.ticket, target);
        }
        cx.port.release(completion.ticket);
        // A shutdown flushes what it can reach.
        let goes_on = completion.result.is_ok() || matches!(self.role, Role::Admin(_));
        match completion.result {
            _ if is_row && goes_on => {
                if !self.step(cx, id) {
                    self.wait(id);
                }
            }
            Err(error) if is_row => self.row_done(cx, id, Status::from_block(error, operation), 0),
            Ok(()) => self.settle(id, Status::SUCCESS, 0, 0),
            Err(error) => self.settle(id, Status::from_block(error, operation), 0, 0),
        }
        self.admit_waiting(cx);
        self.leave_if_quiet(cx);
    }
}

fn takes_payload(operation: Operation) -> bool {
    matches!(operation, Operation::Write | Operation::Compare)
}

//! Commands on their way into the block layer and back.
//!
//! Data that the host is to be asked for has its buffer first: R2T is sent only against reserved room. Commands for which there
//! is none wait in order; each ticket that this connection gives back lets the next ones try.

use holdfast_block::{BlockError, BlockPort, Command, Completion, Operation, TicketId};

use super::plan::Plan;
use super::{Connection, Context, Outgoing, Role, cost};
use crate::io::{self, IoQueueView, Steps};
use crate::limits::{STAGED_LEN_MAX, TRANSFER_RESERVED_MAX};
use crate::sgl::{self, Source};
use crate::slots::{SlotId, State, Work};
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
                        let ticket = cx.port.begin(&command);
                        let ticket = ticket.map_err(|error| Status::from_block(error, command.operation))?;
                        self.slots.get_mut(id).ticket = Some(ticket);
                        self.tickets += 1;
                        self.expect_capsule_data(id, offset);
                    }
                    Source::Transfer if !self.waiting.is_empty() => self.wait(id),
                    Source::Transfer => self.start_or_wait(cx, id),
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
        if (reserve > 0 && full) || (self.tickets > 0 && transfer_len > 0 && cx.port.is_crowded(&command)) {
            return false;
        }
        let ticket = match self.admit(cx, id, &command) {
            Ok(Some(ticket)) => ticket,
            Ok(None) => return false,
            Err(status) => {
                self.settle(id, status, 0, 0);
                return true;
            }
        };
        let slot = self.slots.get_mut(id);
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
                slot.ticket = Some(ticket);
                let cost = cost::of_command(command, slot.transfer_len);
                self.tickets += 1;
                self.charge(cost);
                Ok(Some(ticket))
            }
            Err(BlockError::Busy) if self.tickets > 0 => Ok(None),
            Err(error) => Err(Status::from_block(error, command.operation)),
        }
    }

    /// The next command of a row. `false`: it has to wait, and this step is tried again.
    fn step<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId) -> bool {
        match self.begin_step(cx, id) {
            Ok(went_on) => return went_on,
            Err(status) => self.row_done(cx, id, status),
        }
        true
    }

    fn begin_step<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId) -> Result<bool, Status> {
        let Some((command, steps)) = self.next_of_row(cx, id)? else {
            self.row_done(cx, id, Status::SUCCESS);
            return Ok(true);
        };
        let Some(ticket) = self.admit(cx, id, &command)? else { return Ok(false) };
        let slot = self.slots.get_mut(id);
        slot.work = Work::Steps(steps);
        slot.state = State::Executing;
        cx.port.submit(ticket);
        Ok(true)
    }

    fn next_of_row<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        id: SlotId,
    ) -> Result<Option<(Command, Steps)>, Status> {
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
        let command = io::next_step(cx, &mut view, &slot.sqe, &slot.staging, origin, &mut steps)?;
        Ok(command.map(|command| (command, steps)))
    }

    /// A row has come to its end. On the admin queue it was the flush of a shutdown, which is complete with it, whatever it
    /// could not reach.
    fn row_done<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId, status: Status) {
        if let Role::Admin(queue) = &mut self.role {
            queue.properties.shut_down();
            self.namespaces.clear(cx.port);
            return self.settle(id, Status::SUCCESS, 0, 0);
        }
        self.settle(id, status, 0, 0);
    }

    /// Asks the host for a command's payload.
    fn request(&mut self, id: SlotId) {
        self.slots.get_mut(id).state = State::R2tQueued;
        self.outbox.push_back(Outgoing::R2t(id));
    }

    /// The payload is there.
    pub(super) fn payload_complete<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId) {
        let slot = self.slots.get_mut(id);
        if let Some(ticket) = slot.ticket {
            slot.state = State::Executing;
            cx.port.submit(ticket);
            return;
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
        let (operation, is_row) = match slot.work {
            Work::Block(command) => (command.operation, false),
            Work::None | Work::Steps(_) => (Operation::Flush, true),
        };
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
        cx.port.release(completion.ticket);
        // A shutdown flushes what it can reach.
        let goes_on = completion.result.is_ok() || matches!(self.role, Role::Admin(_));
        match completion.result {
            _ if is_row && goes_on => {
                if !self.step(cx, id) {
                    self.wait(id);
                }
            }
            Err(error) if is_row => self.row_done(cx, id, Status::from_block(error, operation)),
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

//! From a command to what is to be done: by the queue that it came in on.

use holdfast_block::{BlockPort, Origin};

use super::{Connection, Context, Role};
use crate::admin::AdminPlan;
use crate::fabrics::connect::{Caller, Queue, Refused, connect};
use crate::fabrics::properties::{self, Effects};
use crate::io::{self, IoPlan, IoQueueView, Steps};
use crate::limits::REPLY_BYTES_MAX;
use crate::slots::{SlotId, State, Work};
use crate::status::Status;
use crate::wire::connect::{CONNECT_DATA_LEN, ConnectFields, PropertyFields, fctype};
use crate::wire::sqe::{OPCODE_FABRICS, Sqe};

/// What is to be done.
#[derive(Debug)]
pub(super) enum Plan {
    /// It is done; Dwords 0 and 1.
    Done(u64),
    /// Send `len` bytes: `data`, and zeroes behind it.
    Reply { data: Vec<u8>, len: usize },
    /// This many bytes of payload are needed first.
    Collect { len: usize },
    /// It waits for an event.
    Park,
    /// It waits for another queue of the controller.
    Ask,
    /// The queue ends.
    Disconnect,
    /// The block layer has to do something; `transfer_len` bytes move.
    Run { work: Work, transfer_len: usize },
}

impl From<IoPlan> for Plan {
    fn from(plan: IoPlan) -> Plan {
        match plan {
            IoPlan::Done => Plan::Done(0),
            IoPlan::Collect { len } => Plan::Collect { len },
            IoPlan::Run { work, transfer_len } => Plan::Run { work, transfer_len },
        }
    }
}

/// SQHD in the response to a Connect that disabled flow control.
pub(super) const NO_FLOW_CONTROL: u16 = 0xffff;

impl Connection {
    /// Judges a command that has just come.
    pub(super) fn plan<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        id: SlotId,
        sqe: &Sqe,
    ) -> Result<Plan, Refused> {
        if sqe.opcode == OPCODE_FABRICS {
            return Ok(self.plan_fabrics(cx, sqe)?);
        }
        let origin = self.origin(id);
        let serving = match &self.role {
            Role::None => false,
            Role::Admin(queue) => queue.controller.is_serving(),
            Role::Io(queue) => queue.controller.is_serving(),
        };
        if !serving && !holdfast_mutant::active("serve-always") {
            return Err(Status::COMMAND_SEQUENCE.into());
        }
        if sqe.has_reserved_fuse() || (!sqe.uses_sgl() && !holdfast_mutant::active("psdt")) {
            return Err(Status::INVALID_FIELD.into());
        }
        match &mut self.role {
            Role::None => Err(Status::COMMAND_SEQUENCE.into()),
            // Only I/O commands come in pairs.
            Role::Admin(_) if sqe.fuse() != 0 => Err(Status::INVALID_FIELD.into()),
            Role::Admin(queue) => {
                let plan = queue.plan(cx, sqe)?;
                Ok(self.carry_out(cx, id, plan)?)
            }
            Role::Io(queue) => {
                let (controller, session) = (&*queue.controller, &queue.session);
                let mut view = IoQueueView { controller, session, namespaces: &mut self.namespaces };
                Ok(io::plan(cx, &mut view, sqe, origin)?.into())
            }
        }
    }

    /// Goes on with a command whose payload has come.
    pub(super) fn plan_collected<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        id: SlotId,
        sqe: &Sqe,
        payload: &[u8],
    ) -> Result<Plan, Refused> {
        if sqe.opcode == OPCODE_FABRICS {
            return self.connect(cx, sqe, payload).map(|cntlid| Plan::Done(cntlid.into()));
        }
        match &mut self.role {
            Role::None => Err(Status::COMMAND_SEQUENCE.into()),
            Role::Admin(queue) => {
                let plan = queue.collected(cx, sqe, payload)?;
                Ok(self.carry_out(cx, id, plan)?)
            }
            Role::Io(queue) => {
                let (controller, session) = (&*queue.controller, &queue.session);
                let mut view = IoQueueView { controller, session, namespaces: &mut self.namespaces };
                Ok(io::collected(cx, &mut view, sqe, payload)?.into())
            }
        }
    }

    fn carry_out<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        id: SlotId,
        plan: AdminPlan,
    ) -> Result<Plan, Status> {
        match plan {
            AdminPlan::Done(result) => Ok(Plan::Done(result.into())),
            AdminPlan::Reply { data, len } => Ok(Plan::Reply { data, len }),
            AdminPlan::Collect { len } => Ok(Plan::Collect { len }),
            AdminPlan::Park => Ok(Plan::Park),
            AdminPlan::Abort { sqid, cid } => self.plan_abort(cx, id, sqid, cid),
        }
    }

    pub(super) fn origin(&self, id: SlotId) -> Origin {
        Origin { connection: self.config.id, command: id.get().into() }
    }

    /// Fabrics commands. Properties belong to the admin queue, Disconnect to I/O queues, Connect to none yet. Their byte 1, FUSE
    /// and PSDT elsewhere, is reserved.
    fn plan_fabrics<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, sqe: &Sqe) -> Result<Plan, Status> {
        match (sqe.fctype(), &mut self.role) {
            (fctype::CONNECT, Role::None) => Ok(Plan::Collect { len: CONNECT_DATA_LEN }),
            (fctype::CONNECT, _) | (_, Role::None) => Err(Status::COMMAND_SEQUENCE),
            (fctype::PROPERTY_GET, Role::Admin(queue)) => {
                queue.keep_alive.command_came(cx.now_ms);
                Ok(Plan::Done(properties::get(queue, &PropertyFields::of(sqe))?))
            }
            (fctype::PROPERTY_SET, Role::Admin(queue)) => {
                queue.keep_alive.command_came(cx.now_ms);
                let effects = queue.properties.set(&PropertyFields::of(sqe))?;
                Ok(self.property_set(cx, effects))
            }
            (fctype::DISCONNECT, Role::Io(_)) => {
                if ConnectFields::of(sqe).record_format != 0 {
                    return Err(Status::CONNECT_INCOMPATIBLE_FORMAT);
                }
                Ok(Plan::Disconnect)
            }
            (fctype::DISCONNECT, Role::Admin(_)) if holdfast_mutant::active("disconnect-admin") => {
                Ok(Plan::Disconnect)
            }
            (fctype::DISCONNECT, Role::Admin(_)) => Err(Status::INVALID_QUEUE_TYPE),
            (fctype::AUTHENTICATION_SEND | fctype::AUTHENTICATION_RECEIVE, _) => Err(Status::INVALID_OPCODE),
            // §6 "Fabrics Command Set": also what is for the other kind of queue.
            _ => Err(Status::INVALID_FIELD),
        }
    }

    /// What a write to CC makes the controller do.
    fn property_set<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, effects: Effects) -> Plan {
        if effects.reset {
            self.reset(cx);
        }
        let Role::Admin(queue) = &mut self.role else { return Plan::Done(0) };
        queue.controller.set_entry_sizes_fit(queue.properties.entry_sizes_fit());
        if effects.enable {
            queue.controller.enable();
        }
        if effects.shut_down {
            queue.controller.stop_serving();
        }
        let timed = queue.controller.is_serving();
        queue.keep_alive.activate(timed, cx.now_ms);
        if !effects.shut_down {
            return Plan::Done(0);
        }
        if queue.controller.session().is_none() {
            queue.properties.shut_down();
            return Plan::Done(0);
        }
        Plan::Run { work: Work::Steps(Steps::FlushAll { after: 0 }), transfer_len: 0 }
    }

    /// Controller Level Reset. Base 2.1 §3.7.2: I/O queues end, events that were asked for are forgotten.
    fn reset<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        let Role::Admin(queue) = &mut self.role else { return };
        cx.directory.reset(&queue.controller);
        queue.reset(cx);
        let parked: Vec<SlotId> =
            self.slots.in_use().filter(|id| self.slots.get(*id).state == State::Parked).collect();
        for id in parked {
            self.slots.free(id);
            self.advance_sq_head();
        }
        self.doom_transfers();
    }

    /// Commands that still wait for their payload do nothing when it comes: what they would set was reset.
    fn doom_transfers(&mut self) {
        let waits = |state| matches!(state, State::R2tQueued | State::Transferring);
        let waiting: Vec<SlotId> =
            self.slots.in_use().filter(|id| waits(self.slots.get(*id).state)).collect();
        for id in waiting {
            self.slots.get_mut(id).doomed = Some(Status::ABORT_REQUESTED);
        }
    }

    fn connect<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        sqe: &Sqe,
        payload: &[u8],
    ) -> Result<u16, Refused> {
        if !matches!(self.role, Role::None) {
            return Err(Status::COMMAND_SEQUENCE.into());
        }
        let caller = Caller {
            peer: self.config.peer,
            local: self.config.local,
            portal: self.config.portal,
            digests: self.digests,
        };
        let connected = connect(cx, caller, sqe, payload)?;
        let session = match &connected.queue {
            Queue::Admin(queue) => queue.controller.session(),
            Queue::Io(queue) => Some(&queue.session),
        };
        self.digest_counters = session.map(|session| cx.counters.digest(session.host));
        self.role = match connected.queue {
            Queue::Admin(queue) => Role::Admin(queue),
            Queue::Io(queue) => Role::Io(queue),
        };
        self.entries = connected.entries;
        self.slots.set_limit(connected.entries);
        self.flow_control = connected.flow_control || holdfast_mutant::active("flow-control-always");
        self.half_open_deadline_ms = None;
        Ok(connected.cntlid)
    }

    /// Answers waiting Asynchronous Event Requests with what has happened.
    pub(super) fn tell_events(&mut self) {
        while let Role::Admin(queue) = &mut self.role
            && let Some((id, result)) = queue.events.next_answer()
        {
            self.settle(id, Status::SUCCESS, result.into(), 0);
        }
    }

    pub(super) fn park(&mut self, id: SlotId) {
        if let Role::Admin(queue) = &mut self.role {
            queue.events.park(id);
        }
        self.slots.get_mut(id).state = State::Parked;
        self.tell_events();
    }

    /// Prepares a reply with data, if there is room for one.
    pub(super) fn reply(&mut self, id: SlotId, data: Vec<u8>, len: usize, data_len: usize) {
        if self.reply_bytes > 0 && self.reply_bytes.saturating_add(data.len()) > REPLY_BYTES_MAX {
            return self.settle(id, Status::COMMAND_INTERRUPTED, 0, data_len);
        }
        self.reply_bytes += data.len();
        let slot = self.slots.get_mut(id);
        slot.staging = data;
        slot.transfer_len = len;
        slot.progress = 0;
        slot.status = Status::SUCCESS;
        self.send_after_payload(id, data_len);
    }
}

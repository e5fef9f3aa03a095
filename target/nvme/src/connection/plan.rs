//! From a command to what is to be done: by the queue that it came in on.

use holdfast_block::{BlockPort, Origin};

use super::{Connection, Context, Disposition, Role};
use crate::admin::AdminPlan;
use crate::fabrics::connect::{Caller, Queue, Refused, connect};
use crate::fabrics::properties::{self, Transition};
use crate::io::{self, IoPlan, IoQueueView};
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
    /// The block layer has to do something; `transfer_len` bytes move.
    Run { work: Work, transfer_len: usize },
}

impl From<AdminPlan> for Plan {
    fn from(plan: AdminPlan) -> Plan {
        match plan {
            AdminPlan::Done(result) => Plan::Done(result.into()),
            AdminPlan::Reply { data, len } => Plan::Reply { data, len },
            AdminPlan::Collect { len } => Plan::Collect { len },
            AdminPlan::Park => Plan::Park,
            // The commands of an I/O queue are on another connection, and are done before an Abort could matter.
            AdminPlan::Abort { .. } => Plan::Done(ABORTED_NOTHING),
        }
    }
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

/// Dword 0 of Abort: the command was not aborted. Base 2.1 §5.1.1 "Abort command".
const ABORTED_NOTHING: u64 = 1;

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
        let ready = match &self.role {
            Role::None => false,
            Role::Admin(queue) => queue.controller.is_ready(),
            Role::Io(queue) => queue.controller.is_ready(),
        };
        if !ready {
            return Err(Status::COMMAND_SEQUENCE.into());
        }
        if sqe.fuse() != 0 || !sqe.uses_sgl() {
            return Err(Status::INVALID_FIELD.into());
        }
        match &mut self.role {
            Role::None => Err(Status::COMMAND_SEQUENCE.into()),
            Role::Admin(queue) => match queue.plan(cx, sqe)? {
                AdminPlan::Abort { sqid: 0, cid } => Ok(Plan::Done(self.abort(cid))),
                plan => Ok(plan.into()),
            },
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
        sqe: &Sqe,
        payload: &[u8],
    ) -> Result<Plan, Refused> {
        if sqe.opcode == OPCODE_FABRICS {
            return self.connect(cx, sqe, payload).map(|cntlid| Plan::Done(cntlid.into()));
        }
        match &mut self.role {
            Role::None => Err(Status::COMMAND_SEQUENCE.into()),
            Role::Admin(queue) => Ok(queue.collected(sqe, payload)?.into()),
            Role::Io(queue) => {
                let (controller, session) = (&*queue.controller, &queue.session);
                let mut view = IoQueueView { controller, session, namespaces: &mut self.namespaces };
                Ok(io::collected(cx, &mut view, sqe, payload)?.into())
            }
        }
    }

    pub(super) fn origin(&self, id: SlotId) -> Origin {
        Origin { connection: self.config.id, command: id.get().into() }
    }

    /// Fabrics commands. Properties belong to the admin queue, Disconnect to I/O queues, Connect to none yet.
    fn plan_fabrics<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, sqe: &Sqe) -> Result<Plan, Status> {
        match (sqe.fctype(), &mut self.role) {
            (fctype::CONNECT, Role::None) => Ok(Plan::Collect { len: CONNECT_DATA_LEN }),
            (fctype::CONNECT, _) | (_, Role::None) => Err(Status::COMMAND_SEQUENCE),
            (fctype::PROPERTY_GET, Role::Admin(queue)) => {
                Ok(Plan::Done(properties::get(queue, &PropertyFields::of(sqe))?))
            }
            (fctype::PROPERTY_SET, Role::Admin(queue)) => {
                let discovery = queue.controller.is_discovery();
                match queue.properties.set(&PropertyFields::of(sqe), discovery)? {
                    Transition::None => {}
                    Transition::Enabled => queue.controller.enable(),
                    Transition::Reset => self.reset(cx),
                }
                Ok(Plan::Done(0))
            }
            (fctype::DISCONNECT, Role::Io(_)) => {
                if ConnectFields::of(sqe).record_format != 0 {
                    return Err(Status::CONNECT_INCOMPATIBLE_FORMAT);
                }
                self.end = Disposition::CloseAfterTransmit;
                Ok(Plan::Done(0))
            }
            (fctype::DISCONNECT, Role::Admin(_)) => Err(Status::INVALID_QUEUE_TYPE),
            _ => Err(Status::INVALID_FIELD),
        }
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
    }

    /// Aborts a command of this queue; Dword 0 of Abort's completion. Only what waits for an event can be waiting here.
    fn abort(&mut self, cid: u16) -> u64 {
        let Role::Admin(queue) = &mut self.role else { return ABORTED_NOTHING };
        let parked = self.slots.find(cid).filter(|id| queue.events.unpark(*id));
        match parked {
            Some(id) => {
                self.settle(id, Status::ABORT_REQUESTED, 0, 0);
                0
            }
            None => ABORTED_NOTHING,
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
        self.flow_control = connected.flow_control;
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
        if self.reply_bytes.saturating_add(data.len()) > REPLY_BYTES_MAX {
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

//! A command under way. SAM-5 §4.9 "Tasks".
//!
//! ```text
//! start ─▶ Receive ─▶ fill … ─▶ received ─▶ Running ─▶ complete ─▶ Ended ─▶ transmit … ─▶ release
//! ```
//!
//! What a command needs is kept from one to the next, so that a warm connection allocates nothing.

mod copying;
mod medium;
mod reserving;

use holdfast_block::{BlockPort, Completion, Origin, TicketId, TransmitSink};

use crate::blocks::Plan;
use crate::context::{Buffers, Context, Request};
use crate::limits::LIST_LEN_MAX;
use crate::nexus::Nexus;
use crate::sense::{Ending, Format, Sense};
use crate::status::{Ended, Status};
use crate::{dispatch, reserve};
use copying::Copying;
use medium::{Medium, Step};

/// Where a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Room is there for so many bytes: [`Task::fill`] them, then [`Task::received`].
    Receive {
        /// At most what the initiator is ready to send.
        out_len: usize,
    },
    /// There is no room now: [`Task::retry`] when another task of this nexus has given some back. With no other, there will be
    /// none: give the task up with status BUSY.
    Wait,
    /// Completions will come.
    Running,
    /// It is over; [`Task::in_len`] bytes are to be sent before its status.
    Ended(Ended),
}

/// A parameter list that comes, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum List {
    /// MODE SELECT; the one of 10 bytes.
    ModeSelect { long: bool },
    /// PERSISTENT RESERVE OUT.
    Reserve(reserve::Asked),
    /// EXTENDED COPY.
    Copy,
}

/// What a task does.
#[derive(Debug, Clone, Copy, Default)]
enum Work {
    /// Nothing, or it has ended without any data.
    #[default]
    Nothing,
    /// The buffer is to be sent.
    Reply,
    /// The buffer takes a parameter list.
    Collect(List),
    /// Blocks are moved, looked at or changed.
    Medium,
    /// A change of reservations is asked for.
    Reserve(TicketId),
    /// Blocks are copied.
    Copy,
}

/// A command under way.
#[derive(Debug)]
pub struct Task {
    origin: Origin,
    lun: u16,
    format: Format,
    buffers: Buffers,
    work: Work,
    medium: Medium,
    copying: Option<Box<Copying>>,
    /// A reply, a parameter list, or a block that is to be written again and again.
    buffer: Vec<u8>,
    damaged: bool,
    wanted_out: usize,
    wanted_in: usize,
    in_len: usize,
    out_len: usize,
}

impl Default for Task {
    fn default() -> Self {
        Task {
            origin: Origin { connection: 0, command: 0 },
            lun: 0,
            format: Format::Fixed,
            buffers: Buffers::default(),
            work: Work::Nothing,
            medium: Medium::default(),
            copying: None,
            buffer: Vec::new(),
            damaged: false,
            wanted_out: 0,
            wanted_in: 0,
            in_len: 0,
            out_len: 0,
        }
    }
}

impl Task {
    /// Before it is started or tried again: whether other tasks of the connection hold room for payloads, so that this one is
    /// to wait while there is little. Those that hold none get theirs from what is left.
    pub fn set_yields(&mut self, yields: bool) {
        self.medium.yields = yields;
    }

    /// What it has done since the last call beside moving the initiator's bytes, in bytes moved: so that whoever drives many
    /// connections can share a core fairly between them.
    pub fn take_cost(&mut self) -> u64 {
        std::mem::take(&mut self.medium.cost)
    }

    /// Takes a completion of one of its tickets.
    pub fn complete<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        nexus: &mut Nexus,
        completion: Completion,
    ) -> Progress {
        match self.work {
            Work::Reserve(ticket) => self.answered(cx, nexus, ticket, completion),
            Work::Copy => self.copy_completed(cx, nexus, completion),
            Work::Nothing | Work::Reply | Work::Collect(_) | Work::Medium => {
                let step = self.medium.complete(cx.port, completion);
                self.advance(cx.port, step)
            }
        }
    }

    /// Tries again what found no room.
    pub fn retry<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, nexus: &mut Nexus) -> Progress {
        if let Work::Copy = self.work {
            return self.copy_on(cx, nexus);
        }
        let step = self.medium.go_on(cx.port);
        self.advance(cx.port, step)
    }

    /// Takes the next bytes from the initiator, in order.
    pub fn fill<P: BlockPort>(&mut self, port: &mut P, offset: usize, bytes: &[u8]) {
        match self.work {
            Work::Collect(_) => {
                debug_assert_eq!(offset, self.buffer.len());
                self.buffer.extend_from_slice(bytes);
            }
            Work::Medium => self.medium.fill(port, offset, bytes),
            Work::Nothing | Work::Reply | Work::Reserve(_) | Work::Copy => {}
        }
    }

    /// What came is damaged: the command will fail and change nothing.
    pub fn digest_failed<P: BlockPort>(&mut self, port: &mut P) {
        self.damaged = true;
        self.medium.digest_failed(port);
    }

    /// All bytes that it waited for have come.
    pub fn received<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, nexus: &mut Nexus) -> Progress {
        match self.work {
            Work::Collect(_) if self.damaged => self.fail(&Sense::DIGEST),
            Work::Collect(list) => {
                self.work = Work::Nothing;
                let bytes = std::mem::take(&mut self.buffer);
                let progress = dispatch::collected(cx, nexus, self, list, &bytes);
                if self.buffer.is_empty() {
                    self.buffer = bytes;
                    self.buffer.clear();
                }
                progress
            }
            Work::Medium => {
                let step = self.medium.received(cx.port);
                self.advance(cx.port, step)
            }
            Work::Nothing | Work::Reply | Work::Reserve(_) | Work::Copy => Progress::Running,
        }
    }

    /// Bytes to be sent before the status.
    pub fn in_len(&self) -> usize {
        self.in_len
    }

    /// Bytes that the command would send if the initiator had room for all: for residuals.
    pub fn wanted_in(&self) -> usize {
        self.wanted_in
    }

    /// Bytes that the command would take if the initiator had them all: for residuals.
    pub fn wanted_out(&self) -> usize {
        self.wanted_out
    }

    /// The same: what came before the work on the medium that ends it.
    pub(crate) fn set_wanted_out(&mut self, wanted_out: usize) {
        self.wanted_out = wanted_out;
    }

    /// Tickets of the block layer that it holds.
    pub fn tickets(&self) -> usize {
        let asked = usize::from(matches!(self.work, Work::Reserve(_)));
        self.medium.tickets() + self.copy_tickets() + asked
    }

    /// Puts bytes to be sent into a send.
    pub fn transmit<P: BlockPort, T: TransmitSink>(&self, port: &P, offset: usize, len: usize, sink: &mut T) {
        match self.work {
            Work::Medium => self.medium.transmit(port, offset, len, sink),
            _ => sink.inline(self.reply_bytes(offset, len)),
        }
    }

    /// Shows the same bytes, piece by piece.
    pub fn visit<P: BlockPort>(&self, port: &P, offset: usize, len: usize, visitor: &mut dyn FnMut(&[u8])) {
        match self.work {
            Work::Medium => self.medium.visit(port, offset, len, visitor),
            _ => visitor(self.reply_bytes(offset, len)),
        }
    }

    fn reply_bytes(&self, offset: usize, len: usize) -> &[u8] {
        self.buffer.get(offset..).and_then(|rest| rest.get(..len)).unwrap_or_default()
    }

    /// Gives it up, before its end: no completion follows, and nothing is stored that is not yet.
    pub fn cancel<P: BlockPort>(&mut self, port: &mut P) {
        self.medium.cancel(port);
        if let Work::Reserve(ticket) = self.work {
            port.cancel(ticket);
        }
        self.cancel_copy(port);
        self.clear();
    }

    /// Its status, or the last of its data, has left.
    pub fn release<P: BlockPort>(&mut self, port: &mut P) {
        self.medium.release(port);
        self.clear();
    }

    /// The LUN that it is for.
    pub fn lun(&self) -> [u8; 8] {
        crate::luns::encode(self.lun)
    }

    /// What the command is.
    pub(crate) fn begin(&mut self, request: &Request<'_>, lun: u16, format: Format) {
        self.clear();
        self.origin = request.origin;
        self.lun = lun;
        self.format = format;
        self.buffers = request.buffers;
    }

    /// Begins work on the medium.
    pub(crate) fn run<P: BlockPort>(&mut self, port: &mut P, plan: Plan) -> Progress {
        self.work = Work::Medium;
        self.wanted_out = plan.wanted_out;
        self.wanted_in = plan.wanted_in;
        self.out_len = plan.out_len;
        let step = self.medium.begin(port, plan.work);
        self.advance(port, step)
    }

    /// What a step on the medium means to the transport.
    fn advance<P: BlockPort>(&mut self, port: &mut P, step: Result<Step, Ending>) -> Progress {
        match step {
            Ok(Step::Receive) => Progress::Receive { out_len: self.out_len },
            Ok(Step::Wait) => Progress::Wait,
            Ok(Step::Running) => Progress::Running,
            Ok(Step::Met) => Progress::Ended(Ended::plain(Status::ConditionMet)),
            Ok(Step::Over) => {
                self.in_len = self.wanted_in.min(self.buffers.data_in);
                Progress::Ended(Ended::GOOD)
            }
            Ok(Step::Answered(allocation_len)) => {
                std::mem::swap(&mut self.buffer, self.medium.answer());
                self.reply(usize::try_from(allocation_len).unwrap_or(usize::MAX))
            }
            Err(ending) => {
                self.medium.cancel(port);
                self.work = Work::Nothing;
                self.in_len = 0;
                Progress::Ended(Ended::of(ending, self.format))
            }
        }
    }

    /// For building a reply.
    pub(crate) fn buffer_mut(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Where its completions belong.
    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// What the initiator has room for.
    pub(crate) fn buffers(&self) -> Buffers {
        self.buffers
    }

    /// Its logical unit.
    pub(crate) fn unit(&self) -> u16 {
        self.lun
    }

    /// Ends it with what is in the buffer, cut to the allocation length. SPC-4 §4.2.5.6 "Allocation length".
    pub(crate) fn reply(&mut self, allocation_len: usize) -> Progress {
        self.buffer.truncate(allocation_len);
        self.work = Work::Reply;
        self.wanted_in = self.buffer.len();
        self.in_len = self.wanted_in.min(self.buffers.data_in);
        Progress::Ended(Ended::GOOD)
    }

    /// Ends it without error and without data.
    pub(crate) fn good(&mut self) -> Progress {
        Progress::Ended(Ended::GOOD)
    }

    /// Ends it with CHECK CONDITION.
    pub(crate) fn fail(&mut self, sense: &Sense) -> Progress {
        self.buffer.clear();
        self.work = Work::Nothing;
        self.in_len = 0;
        self.wanted_in = 0;
        Progress::Ended(Ended::check(sense, self.format))
    }

    /// Waits for a parameter list of so many bytes; none is no error. SPC-4 §4.2.5.5 "Parameter list length".
    pub(crate) fn collect<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        nexus: &mut Nexus,
        list: List,
        list_len: usize,
    ) -> Progress {
        if list_len > LIST_LEN_MAX {
            return self.fail(&Sense::PARAMETER_LIST_LENGTH);
        }
        self.wanted_out = list_len;
        self.work = Work::Collect(list);
        let out_len = list_len.min(self.buffers.data_out);
        if out_len == 0 {
            return self.received(cx, nexus);
        }
        Progress::Receive { out_len }
    }

    fn clear(&mut self) {
        self.work = Work::Nothing;
        self.buffer.clear();
        self.damaged = false;
        self.wanted_out = 0;
        self.wanted_in = 0;
        self.in_len = 0;
        self.out_len = 0;
    }
}

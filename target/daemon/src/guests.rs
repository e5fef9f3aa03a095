//! What other cores ask of this one: commands for volumes that live here, from connections that live there.
//!
//! A command comes whole, with its payload, and its end goes back with a copy of what was read.

use holdfast_block::reservations::{Effects, Refusal};
use holdfast_block::{
    AttachRequest, AttachmentId, BlockError, BlockOrigin, BlockPort, Command, Completion, HostId, Origin,
    PDU_COST, TicketId,
};
use holdfast_nvme::command_cost;

use crate::core::Mail;
use crate::router::{REMOTE_ORIGIN, Router};

/// A command on its way to a volume's home.
pub(crate) struct RemoteCommand {
    pub(crate) from: usize,
    pub(crate) ticket: u32,
    pub(crate) generation: u32,
    pub(crate) access: AttachRequest,
    pub(crate) command: Command,
    pub(crate) payload: Vec<u8>,
    /// Of the payload's blocks, one each, where it is a copy.
    pub(crate) origins: Vec<BlockOrigin>,
    pub(crate) damaged: bool,
    /// Bytes that move.
    pub(crate) transfer_len: usize,
    /// Changes of reservations when it was admitted.
    pub(crate) changes: u64,
    /// The Write of a fused pair, of which this is the Compare.
    pub(crate) fused: Option<Box<RemoteCommand>>,
}

impl RemoteCommand {
    /// Whose it is.
    pub(crate) fn host(&self) -> HostId {
        self.access.session.host
    }

    /// The core that it comes from, and its ticket there.
    fn name(&self) -> (usize, u32, u32) {
        (self.from, self.ticket, self.generation)
    }

    /// What it costs here, in bytes moved.
    pub(crate) fn cost(&self) -> u64 {
        let payload = u64::try_from(self.payload.len()).unwrap_or(u64::MAX);
        let fused = self.fused.as_ref().map_or(0, |second| second.cost());
        [command_cost(&self.command, self.transfer_len), payload, fused]
            .into_iter()
            .fold(PDU_COST, u64::saturating_add)
    }
}

/// A command's end on its way back.
pub(crate) struct RemoteReply {
    pub(crate) ticket: u32,
    pub(crate) generation: u32,
    pub(crate) result: Result<(), BlockError>,
    pub(crate) data: Vec<u8>,
    /// Of the blocks of a Copy's source, one each.
    pub(crate) origins: Vec<BlockOrigin>,
    /// Of a request for a change of reservations.
    pub(crate) answer: Option<Result<Effects, Refusal>>,
}

/// What another core's command gives, beside its result.
#[derive(Default)]
struct Outcome {
    data: Vec<u8>,
    origins: Vec<BlockOrigin>,
    answer: Option<Result<Effects, Refusal>>,
}

impl Router {
    /// Carries out a command for another core.
    pub(crate) fn execute(&mut self, mut remote: RemoteCommand) {
        let fused = remote.fused.take();
        let Some(first) = self.start_remote(remote) else {
            if let Some(second) = fused {
                self.refuse(second.name(), BlockError::FusedFailed);
            }
            return;
        };
        match fused.map(|second| self.start_remote(*second)) {
            Some(Some(second)) => self.local.submit_fused(first, second),
            // Without its Write, the Compare is an ordinary one.
            Some(None) | None => self.local.submit(first),
        }
    }

    /// Gets another core's command ready, or answers it.
    fn start_remote(&mut self, remote: RemoteCommand) -> Option<TicketId> {
        let begun = self.begin_here(&remote);
        let ticket = begun.map_err(|error| self.refuse(remote.name(), error)).ok()?;
        if !remote.origins.is_empty() {
            let block_len = remote.payload.len() / remote.origins.len();
            for (block, origin) in remote.payload.chunks(block_len.max(1)).zip(&remote.origins) {
                self.local.copy_in(ticket, block, *origin);
            }
        } else if !remote.payload.is_empty() {
            self.local.fill(ticket, 0, &remote.payload);
        }
        if remote.damaged {
            self.local.digest_failed(ticket);
        }
        Some(ticket)
    }

    fn begin_here(&mut self, remote: &RemoteCommand) -> Result<TicketId, BlockError> {
        let attachment = self.guest_attachment(&remote.access)?;
        if self.local.was_preempted(attachment, remote.changes) {
            return Err(BlockError::Preempted);
        }
        let origin = Router::guest_origin(remote.from, remote.ticket, remote.generation)?;
        self.local.begin(&Command { origin, attachment, ..remote.command })
    }

    /// The attachment that is kept here for a session of another core.
    pub(crate) fn guest_attachment(&mut self, access: &AttachRequest) -> Result<AttachmentId, BlockError> {
        let key = (access.session.id, access.volume);
        let attachment = match self.guests.get(&key) {
            Some(attachment) => *attachment,
            None => {
                let attachment = self.local.attach(access.clone())?;
                self.guests.insert(key, attachment);
                attachment
            }
        };
        self.local.set_enforce(attachment, access.enforce);
        Ok(attachment)
    }

    /// The way back to another core's ticket.
    pub(crate) fn guest_origin(from: usize, ticket: u32, generation: u32) -> Result<Origin, BlockError> {
        let core = u64::try_from(from).map_err(|_| BlockError::Internal)?;
        Ok(Origin { connection: REMOTE_ORIGIN | (core << 32) | u64::from(generation), command: ticket })
    }

    /// Answers another core's ticket that has come to nothing.
    pub(crate) fn refuse(&mut self, name: (usize, u32, u32), error: BlockError) {
        self.reply(name, Err(error), Outcome::default());
    }

    /// Sends a completion of another core's command home, with what was read.
    pub(crate) fn answer(&mut self, completion: Completion) {
        let Origin { connection, command } = completion.origin;
        let core = usize::try_from((connection & !REMOTE_ORIGIN) >> 32).unwrap_or(usize::MAX);
        let generation = u32::try_from(connection & u64::from(u32::MAX)).unwrap_or(0);
        let mut read = Outcome::default();
        if completion.result.is_ok() {
            let len = self.local.read_len(completion.ticket);
            read.data.reserve_exact(len);
            self.local.visit(completion.ticket, 0, len, &mut |bytes| read.data.extend_from_slice(bytes));
            let mut take = |wire: &[u8], origin| {
                read.data.extend_from_slice(wire);
                read.origins.push(origin);
            };
            let blocks = (0..).map_while(|index| self.local.copy_out(completion.ticket, index, &mut take));
            blocks.for_each(drop);
            read.answer = self.local.reservation_answer(completion.ticket).cloned();
        }
        self.local.release(completion.ticket);
        self.reply((core, command, generation), completion.result, read);
    }

    fn reply(
        &mut self,
        (core, ticket, generation): (usize, u32, u32),
        result: Result<(), BlockError>,
        Outcome { data, origins, answer }: Outcome,
    ) {
        let reply = Box::new(RemoteReply { ticket, generation, result, data, origins, answer });
        self.outgoing.push((core, Mail::Reply(reply)));
    }
}

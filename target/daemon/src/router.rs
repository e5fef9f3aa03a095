//! From a connection's core to the volume's core and back.
//!
//! A pool lives on one core, which alone touches its memory: no lock, and one order of commands for all hosts. Commands
//! from connections on that core go straight into its block service. Others are taken aside whole, sent to the home core
//! as mail, and come back as mail, with a copy of what was read: one copy more, and only with several cores.

mod attachments;
mod reserving;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_block::reservations::{
    Access, Effects, Refusal, Request, ReservationBook, Reservations, Standing,
};
use holdfast_block::{
    AttachRequest, AttachmentId, BlockError, BlockOrigin, BlockPort, Command, Completion, Enforce, Layout,
    Operation, Origin, Service, TicketId, TransmitSink, VolumeId, VolumeInfo, WIRE_BLOCK_LEN_MAX,
};
use holdfast_daemon::device::PoolMap;
use holdfast_store::Stores;

use crate::core::Mail;
use crate::faults::FaultSender;
use crate::guests::{RemoteCommand, RemoteReply};
use attachments::Attachments;
use reserving::Asked;
pub(crate) use reserving::RemoteRequest;

/// The block service of a core.
pub(crate) type LocalService = Service<Stores<PoolMap>, FaultSender>;

/// Set in the index of tickets and attachments that belong to another core's volumes, and in the connection number of
/// commands that came from another core.
const REMOTE_INDEX: u32 = 1 << 31;
pub(crate) const REMOTE_ORIGIN: u64 = 1 << 63;

/// Commands of this core that may be under way on others.
const REMOTE_TICKETS_MAX: usize = 16_384;

/// Their payloads together, in bytes: each is held aside whole, on its way there or back.
const REMOTE_BYTES_MAX: usize = 128 << 20;

/// Above this, connections that hold some already wait with more.
const REMOTE_BYTES_CROWDED: usize = REMOTE_BYTES_MAX / 2;

/// Where a volume lives.
#[derive(Debug, Clone)]
pub(crate) struct VolumeHome {
    /// Number of the core, in the order of `--cores`.
    pub core: usize,
    /// As exported.
    pub info: VolumeInfo,
    /// Blocks that hold data, as of the last report of the home core.
    pub allocated: Arc<AtomicU64>,
}

#[derive(Default)]
struct RemoteTicket {
    generation: u32,
    /// What the ticket is for, while it is in use: a command, or a request for a change of reservations.
    command: Option<Command>,
    asked: Option<Asked>,
    /// Changes of reservations when it was admitted.
    changes: u64,
    /// On whose behalf, on which volume: as it was admitted, whatever becomes of its attachment.
    access: Option<AttachRequest>,
    transfer_len: usize,
    payload: Vec<u8>,
    origins: Vec<BlockOrigin>,
    damaged: bool,
    under_way: bool,
    orphaned: bool,
}

impl RemoteTicket {
    fn is_used(&self) -> bool {
        self.command.is_some() || self.asked.is_some()
    }
}

/// The [`BlockPort`] of a core's connections.
pub(crate) struct Router {
    core: usize,
    pub(crate) local: LocalService,
    homes: Arc<HashMap<VolumeId, VolumeHome>>,
    attachments: Attachments,
    reservations: Arc<ReservationBook>,
    /// Effects of changes elsewhere whose askers here are gone.
    unheard: VecDeque<(VolumeId, Effects)>,
    tickets: Vec<RemoteTicket>,
    free: Vec<u32>,
    /// Payload bytes of all tickets in use.
    remote_bytes: usize,
    /// Attachments made here for sessions on other cores, by session and volume.
    pub(crate) guests: HashMap<(u64, VolumeId), AttachmentId>,
    completions: VecDeque<Completion>,
    pub(crate) outgoing: Vec<(usize, Mail)>,
}

impl Router {
    /// The router of core number `core`.
    pub(crate) fn new(core: usize, local: LocalService) -> Self {
        Router {
            core,
            reservations: Arc::clone(local.reservation_book()),
            unheard: VecDeque::new(),
            local,
            homes: Arc::default(),
            attachments: Attachments::default(),
            tickets: Vec::new(),
            free: Vec::new(),
            remote_bytes: 0,
            guests: HashMap::new(),
            completions: VecDeque::new(),
            outgoing: Vec::new(),
        }
    }

    /// The core's number.
    pub(crate) fn core(&self) -> usize {
        self.core
    }

    /// The core's own pools.
    pub(crate) fn local(&mut self) -> &mut LocalService {
        &mut self.local
    }

    /// Takes up where volumes live now.
    pub(crate) fn set_homes(&mut self, homes: Arc<HashMap<VolumeId, VolumeHome>>) {
        let gone: Vec<_> =
            self.guests.keys().filter(|(_, volume)| !homes.contains_key(volume)).copied().collect();
        for key in gone {
            if let Some(attachment) = self.guests.remove(&key) {
                self.local.detach(attachment);
            }
        }
        self.homes = homes;
    }

    /// Forgets what was kept for sessions of other cores that have ended.
    pub(crate) fn retain_sessions(&mut self, open: impl Fn(u64) -> bool) {
        let gone: Vec<_> = self.guests.keys().filter(|(session, _)| !open(*session)).copied().collect();
        for key in gone {
            if let Some(attachment) = self.guests.remove(&key) {
                self.local.detach(attachment);
            }
        }
    }

    /// Lets the pools go on, and answers other cores' commands that are done.
    pub(crate) fn poll(&mut self) {
        self.local.poll();
        while let Some(completion) = self.local.next_completion() {
            if completion.origin.connection & REMOTE_ORIGIN == 0 {
                self.completions.push_back(completion);
            } else {
                self.answer(completion);
            }
        }
    }

    /// Mail for other cores since the last call, by core.
    pub(crate) fn take_outgoing(&mut self) -> Vec<(usize, Mail)> {
        std::mem::take(&mut self.outgoing)
    }

    /// Commands that other cores have not ended yet.
    #[cfg(test)]
    pub(crate) fn commands_elsewhere(&self) -> usize {
        self.tickets.len() - self.free.len()
    }

    /// Whether the pools have work left that nothing from outside will start again.
    pub(crate) fn is_busy(&self) -> bool {
        self.local.store().has_work()
    }

    /// Takes the end of a command that was sent to another core.
    pub(crate) fn finish(&mut self, reply: RemoteReply) {
        let index = usize::try_from(reply.ticket).unwrap_or(usize::MAX);
        let Some(ticket) = self.tickets.get_mut(index) else { return };
        if ticket.generation != reply.generation {
            return;
        }
        ticket.under_way = false;
        ticket.payload = reply.data;
        ticket.origins = reply.origins;
        if let Some(asked) = &mut ticket.asked {
            asked.answer = reply.answer;
        }
        let id = TicketId::from_parts(reply.ticket | REMOTE_INDEX, reply.generation);
        if ticket.orphaned {
            self.leave_unheard(id);
            self.end_remote(id);
            return;
        }
        let asked = ticket.asked.as_ref().map(|asked| asked.origin);
        let Some(origin) = asked.or(ticket.command.map(|command| command.origin)) else { return };
        self.completions.push_back(Completion { origin, ticket: id, result: reply.result });
    }

    fn home(&self, volume: VolumeId) -> Option<&VolumeHome> {
        self.homes.get(&volume).filter(|home| home.core != self.core)
    }

    fn begin_remote(&mut self, command: &Command, request: AttachRequest) -> Result<TicketId, BlockError> {
        let info = self.home(request.volume).ok_or(BlockError::Gone)?.info;
        let end = command.lba.checked_add(u64::from(command.blocks.get())).ok_or(BlockError::OutOfRange)?;
        if end.0 > info.block_count && command.operation != Operation::Flush {
            return Err(BlockError::OutOfRange);
        }
        let tuple_len = match (command.layout, info.format) {
            (Layout::Interleaved, Some(format)) => format.tuple_len(),
            (Layout::Interleaved, None) => return Err(BlockError::InvalidProtection),
            (Layout::DataOnly, _) => 0,
        };
        let carries = matches!(
            command.operation,
            Operation::Read
                | Operation::Write
                | Operation::Compare
                | Operation::CopySource
                | Operation::CopyTarget
        );
        let per_block = if carries { info.block_len + tuple_len } else { 0 };
        let transfer_len = command.blocks.as_usize().saturating_mul(per_block);
        if self.remote_bytes.saturating_add(transfer_len) > REMOTE_BYTES_MAX {
            return Err(BlockError::Busy);
        }
        let changes = self.reservations.changes();
        let (id, ticket) = self.open_remote()?;
        ticket.command = Some(*command);
        ticket.changes = changes;
        ticket.access = Some(request);
        ticket.transfer_len = transfer_len;
        self.remote_bytes += transfer_len;
        Ok(id)
    }

    fn open_remote(&mut self) -> Result<(TicketId, &mut RemoteTicket), BlockError> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.tickets.len() < REMOTE_TICKETS_MAX => {
                self.tickets.push(RemoteTicket::default());
                u32::try_from(self.tickets.len() - 1).map_err(|_| BlockError::Internal)?
            }
            None => return Err(BlockError::Busy),
        };
        let at = usize::try_from(index).map_err(|_| BlockError::Internal)?;
        let ticket = self.tickets.get_mut(at).ok_or(BlockError::Internal)?;
        Ok((TicketId::from_parts(index | REMOTE_INDEX, ticket.generation), ticket))
    }

    fn submit_remote(&mut self, id: TicketId) {
        if let Some((home, remote)) = self.send_off(id) {
            self.outgoing.push((home, Mail::Command(Box::new(remote))));
        }
    }

    /// A pair goes as one message, so that it arrives as one.
    fn submit_remote_pair(&mut self, compare: TicketId, write: TicketId) {
        match (self.send_off(compare), self.send_off(write)) {
            (Some((home, mut first)), Some((_, second))) => {
                first.fused = Some(Box::new(second));
                self.outgoing.push((home, Mail::Command(Box::new(first))));
            }
            // The volume is gone: whoever was sent off is answered like the other.
            (first, second) => {
                for (_, remote) in first.into_iter().chain(second) {
                    self.finish_gone(remote.ticket, remote.generation);
                }
            }
        }
    }

    /// What a ticket's command is for its volume's core, and which that is; nothing if the volume is gone, which is answered.
    fn send_off(&mut self, id: TicketId) -> Option<(usize, RemoteCommand)> {
        let from = self.core;
        let ticket = self.remote(id)?;
        let command = ticket.command?;
        let (payload, origins) = (std::mem::take(&mut ticket.payload), std::mem::take(&mut ticket.origins));
        let (damaged, transfer_len, changes) = (ticket.damaged, ticket.transfer_len, ticket.changes);
        ticket.under_way = true;
        let (index, generation) = id.parts();
        let index = index & !REMOTE_INDEX;
        let access = ticket.access.take();
        let home = access.as_ref().and_then(|access| self.home(access.volume)).map(|home| home.core);
        let (Some(access), Some(home)) = (access, home) else {
            self.finish_gone(index, generation);
            return None;
        };
        let remote = RemoteCommand {
            from,
            ticket: index,
            generation,
            access,
            command,
            payload,
            origins,
            damaged,
            transfer_len,
            changes,
            fused: None,
        };
        Some((home, remote))
    }

    fn finish_gone(&mut self, ticket: u32, generation: u32) {
        self.finish(RemoteReply {
            ticket,
            generation,
            result: Err(BlockError::Gone),
            data: Vec::new(),
            origins: Vec::new(),
            answer: None,
        });
    }

    /// Takes one block into a Copy's target, wherever that lives.
    fn carry_block(&mut self, target: TicketId, wire: &[u8], origin: BlockOrigin) {
        if !is_remote_ticket(target) {
            return self.local.copy_in(target, wire, origin);
        }
        let Some(ticket) = self.remote(target) else { return };
        if ticket.payload.capacity() == 0 {
            ticket.payload.reserve_exact(ticket.transfer_len);
        }
        ticket.payload.extend_from_slice(wire);
        ticket.origins.push(origin);
    }

    /// Block `index` of a Copy's completed source, wherever that lives; gives its length.
    fn copy_block_out(
        &self,
        source: TicketId,
        index: usize,
        room: &mut [u8; WIRE_BLOCK_LEN_MAX],
    ) -> Option<(usize, BlockOrigin)> {
        let mut take = |wire: &[u8], origin| {
            room.get_mut(..wire.len())?.copy_from_slice(wire);
            Some((wire.len(), origin))
        };
        if !is_remote_ticket(source) {
            return self.local.copy_out(source, index, take)?;
        }
        let ticket = self.remote_ref(source)?;
        let origin = *ticket.origins.get(index)?;
        let wire_block_len = ticket.payload.len() / ticket.origins.len();
        let start = index.checked_mul(wire_block_len)?;
        take(ticket.payload.get(start..start.checked_add(wire_block_len)?)?, origin)
    }

    fn remote(&mut self, id: TicketId) -> Option<&mut RemoteTicket> {
        let (index, generation) = id.parts();
        let at = usize::try_from(index & !REMOTE_INDEX).ok()?;
        self.tickets.get_mut(at).filter(|ticket| ticket.generation == generation && ticket.is_used())
    }

    fn remote_ref(&self, id: TicketId) -> Option<&RemoteTicket> {
        let (index, generation) = id.parts();
        let at = usize::try_from(index & !REMOTE_INDEX).ok()?;
        self.tickets.get(at).filter(|ticket| ticket.generation == generation && ticket.is_used())
    }

    fn end_remote(&mut self, id: TicketId) {
        let Some(ticket) = self.remote(id) else { return };
        let generation = ticket.generation.wrapping_add(1);
        let freed = ticket.transfer_len;
        *ticket = RemoteTicket { generation, ..RemoteTicket::default() };
        self.remote_bytes -= freed;
        self.free.push(id.parts().0 & !REMOTE_INDEX);
    }
}

fn is_remote_ticket(id: TicketId) -> bool {
    id.parts().0 & REMOTE_INDEX != 0
}

fn is_remote_attachment(id: AttachmentId) -> bool {
    id.parts().0 & REMOTE_INDEX != 0
}

impl BlockPort for Router {
    fn attach(&mut self, request: AttachRequest) -> Result<AttachmentId, BlockError> {
        if self.home(request.volume).is_none() {
            return self.local.attach(request);
        }
        self.attachments.insert(request)
    }

    fn detach(&mut self, id: AttachmentId) {
        if !is_remote_attachment(id) {
            return self.local.detach(id);
        }
        self.detach_elsewhere(id);
    }

    fn set_enforce(&mut self, id: AttachmentId, enforce: Enforce) {
        if !is_remote_attachment(id) {
            return self.local.set_enforce(id, enforce);
        }
        if let Some(request) = self.attachments.get_mut(id) {
            request.enforce = enforce;
        }
    }

    fn begin(&mut self, command: &Command) -> Result<TicketId, BlockError> {
        if !is_remote_attachment(command.attachment) {
            return self.local.begin(command);
        }
        let request = self.attachments.get(command.attachment).cloned().ok_or(BlockError::Gone)?;
        // The volume's core decides; what it would refuse needs no payload.
        self.remote_standing(command.attachment).check(Access::of(command.operation))?;
        self.begin_remote(command, request)
    }

    fn is_crowded(&self, command: &Command) -> bool {
        if is_remote_attachment(command.attachment) {
            return self.remote_bytes > REMOTE_BYTES_CROWDED;
        }
        self.local.is_crowded(command)
    }

    fn transfer_len(&self, id: TicketId) -> usize {
        if is_remote_ticket(id) {
            return self.remote_ref(id).map_or(0, |ticket| ticket.transfer_len);
        }
        self.local.transfer_len(id)
    }

    fn fill(&mut self, id: TicketId, offset: usize, bytes: &[u8]) {
        if !is_remote_ticket(id) {
            return self.local.fill(id, offset, bytes);
        }
        let Some(ticket) = self.remote(id) else { return };
        debug_assert_eq!(offset, ticket.payload.len(), "a payload comes in order");
        if ticket.payload.capacity() == 0 {
            ticket.payload.reserve_exact(ticket.transfer_len);
        }
        ticket.payload.extend_from_slice(bytes);
    }

    fn digest_failed(&mut self, id: TicketId) {
        if !is_remote_ticket(id) {
            return self.local.digest_failed(id);
        }
        if let Some(ticket) = self.remote(id) {
            ticket.damaged = true;
        }
    }

    fn submit(&mut self, id: TicketId) {
        if is_remote_ticket(id) { self.submit_remote(id) } else { self.local.submit(id) }
    }

    fn submit_fused(&mut self, compare: TicketId, write: TicketId) {
        if is_remote_ticket(compare) {
            self.submit_remote_pair(compare, write);
        } else {
            self.local.submit_fused(compare, write);
        }
    }

    fn carry(&mut self, source: TicketId, target: TicketId) {
        let mut room = [0; WIRE_BLOCK_LEN_MAX];
        for index in 0.. {
            let Some((len, origin)) = self.copy_block_out(source, index, &mut room) else { return };
            self.carry_block(target, room.get(..len).unwrap_or_default(), origin);
        }
    }

    fn block_origin(&self, source: TicketId, index: usize) -> Option<BlockOrigin> {
        if !is_remote_ticket(source) {
            return self.local.block_origin(source, index);
        }
        self.remote_ref(source)?.origins.get(index).copied()
    }

    fn begin_reservation(
        &mut self,
        origin: Origin,
        attachment: AttachmentId,
        request: Request,
    ) -> Result<TicketId, BlockError> {
        if !is_remote_attachment(attachment) {
            return self.local.begin_reservation(origin, attachment, request);
        }
        self.ask_elsewhere(origin, attachment, request)
    }

    fn reservation_answer(&self, id: TicketId) -> Option<&Result<Effects, Refusal>> {
        if !is_remote_ticket(id) {
            return self.local.reservation_answer(id);
        }
        self.remote_ref(id)?.asked.as_ref()?.answer.as_ref()
    }

    fn reservation_report(&self, attachment: AttachmentId) -> Option<Arc<Reservations>> {
        if !is_remote_attachment(attachment) {
            return self.local.reservation_report(attachment);
        }
        Some(self.reservations.of(self.attachments.get(attachment)?.volume))
    }

    fn standing(&mut self, attachment: AttachmentId) -> Standing {
        if is_remote_attachment(attachment) {
            self.remote_standing(attachment)
        } else {
            self.local.standing(attachment)
        }
    }

    fn end_legacy_reservation(&mut self, attachment: AttachmentId) {
        if !is_remote_attachment(attachment) {
            return self.local.end_legacy_reservation(attachment);
        }
        self.end_legacy_elsewhere(attachment);
    }

    fn cancel(&mut self, id: TicketId) {
        if !is_remote_ticket(id) {
            // The completion may have been taken over from the service already.
            if let Some(at) = self.completions.iter().position(|completion| completion.ticket == id) {
                self.completions.remove(at);
            }
            return self.local.cancel(id);
        }
        self.completions.retain(|completion| completion.ticket != id);
        let Some(ticket) = self.remote(id) else { return };
        if ticket.under_way {
            ticket.orphaned = true;
        } else {
            self.leave_unheard(id);
            self.end_remote(id);
        }
    }

    fn transmit<T: TransmitSink>(&self, id: TicketId, offset: usize, len: usize, sink: &mut T) {
        if !is_remote_ticket(id) {
            return self.local.transmit(id, offset, len, sink);
        }
        let payload = self.remote_ref(id).and_then(|ticket| ticket.payload.get(offset..offset + len));
        sink.inline(payload.unwrap_or_default());
    }

    fn visit(&self, id: TicketId, offset: usize, len: usize, visitor: &mut dyn FnMut(&[u8])) {
        if !is_remote_ticket(id) {
            return self.local.visit(id, offset, len, visitor);
        }
        let payload = self.remote_ref(id).and_then(|ticket| ticket.payload.get(offset..offset + len));
        visitor(payload.unwrap_or_default());
    }

    fn release(&mut self, id: TicketId) {
        if is_remote_ticket(id) { self.end_remote(id) } else { self.local.release(id) }
    }

    fn next_completion(&mut self) -> Option<Completion> {
        self.poll();
        self.completions.pop_front()
    }

    fn blocks_allocated(&self, volume: VolumeId) -> Option<u64> {
        match self.home(volume) {
            Some(home) => Some(home.allocated.load(Ordering::Relaxed)),
            None => self.local.blocks_allocated(volume),
        }
    }
}

#[cfg(test)]
mod tests;

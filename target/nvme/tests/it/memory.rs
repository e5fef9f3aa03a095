//! A block layer for tests: blocks in maps, completions in order, switches for what can go wrong.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use holdfast_block::reservations::{Effects, Refusal, Request, Reservations, Standing};
use holdfast_block::{
    AttachRequest, AttachmentId, BlockError, BlockOrigin, BlockPort, Command, Completion, Difference,
    Enforce, Layout, Lba, Operation, Origin, TicketId, TransmitSink, VolumeId,
};
use holdfast_pi::{PiFormat, Tuple, check_tuple, guard_of, make_tuple};

/// A volume.
pub(crate) struct Volume {
    pub(crate) block_len: usize,
    pub(crate) format: Option<PiFormat>,
    /// Data and tuple of written blocks.
    pub(crate) blocks: HashMap<u64, (Vec<u8>, Vec<u8>)>,
    /// Blocks that cannot be read.
    pub(crate) marked: HashSet<u64>,
}

struct Ticket {
    command: Command,
    volume: VolumeId,
    payload: Vec<u8>,
    damaged: bool,
    completed: bool,
}

/// The block layer.
#[derive(Default)]
pub(crate) struct MemoryPort {
    pub(crate) volumes: HashMap<VolumeId, Volume>,
    attachments: HashMap<u32, (VolumeId, Enforce)>,
    tickets: HashMap<u32, Ticket>,
    next: u32,
    completions: VecDeque<Completion>,
    /// Most tickets at once.
    pub(crate) tickets_max: usize,
    /// Completions are held back.
    pub(crate) stalled: bool,
    /// Pairs that came.
    pub(crate) pairs: usize,
    /// Every command that was started, in order.
    pub(crate) log: Vec<Command>,
}

impl MemoryPort {
    pub(crate) fn new() -> MemoryPort {
        MemoryPort { tickets_max: 1024, ..MemoryPort::default() }
    }

    pub(crate) fn live_tickets(&self) -> usize {
        self.tickets.len()
    }

    pub(crate) fn live_attachments(&self) -> usize {
        self.attachments.len()
    }

    pub(crate) fn enforce(&self) -> Vec<Enforce> {
        self.attachments.values().map(|attachment| attachment.1).collect()
    }

    fn tuple_len(&self, ticket: &Ticket) -> usize {
        let format = self.volumes[&ticket.volume].format;
        match ticket.command.layout {
            Layout::Interleaved => format.map_or(0, |format| format.tuple_len()),
            Layout::DataOnly => 0,
        }
    }

    fn wire(&self, ticket: &Ticket) -> Vec<u8> {
        let volume = &self.volumes[&ticket.volume];
        let mut wire = Vec::new();
        for lba in ticket.command.lba.0..ticket.command.lba.0 + u64::from(ticket.command.blocks.get()) {
            let tuple_len = self.tuple_len(ticket);
            match volume.blocks.get(&lba) {
                Some((data, tuple)) => {
                    wire.extend_from_slice(data);
                    wire.extend_from_slice(&tuple[..tuple_len]);
                }
                None => {
                    wire.resize(wire.len() + volume.block_len, 0);
                    wire.resize(wire.len() + tuple_len, 0xff);
                }
            }
        }
        wire
    }

    fn write(&mut self, ticket: &Ticket) -> Result<(), BlockError> {
        let tuple_len = self.tuple_len(ticket);
        let volume = self.volumes.get_mut(&ticket.volume).ok_or(BlockError::Gone)?;
        let mut fresh = Vec::new();
        for (index, wire) in (0_u32..).zip(ticket.payload.chunks(volume.block_len + tuple_len)) {
            let (data, tuple) = wire.split_at(volume.block_len);
            let mut tuple = tuple.to_vec();
            if let Some(format) = volume.format {
                let guard = guard_of(format.guard(), data);
                match ticket.command.insert {
                    Some(tags) => {
                        tuple = vec![0; format.tuple_len()];
                        assert!(make_tuple(format, &tags, index, guard).encode(format, &mut tuple));
                    }
                    None => {
                        let decoded = Tuple::decode(format, &tuple).unwrap();
                        check_tuple(format, &ticket.command.plan, index, guard, &decoded)
                            .map_err(BlockError::Protection)?;
                    }
                }
            }
            fresh.push((ticket.command.lba.0 + u64::from(index), (data.to_vec(), tuple)));
        }
        fresh.iter().for_each(|(lba, _)| {
            volume.marked.remove(lba);
        });
        volume.blocks.extend(fresh);
        Ok(())
    }

    fn finish(&mut self, id: TicketId, refused: Option<BlockError>) -> Result<(), BlockError> {
        let ticket = self.tickets.remove(&id.parts().0).unwrap();
        assert!(!ticket.completed);
        let brings = [Operation::Write, Operation::Compare, Operation::CopyTarget];
        if brings.contains(&ticket.command.operation) {
            assert_eq!(ticket.payload.len(), {
                let volume = &self.volumes[&ticket.volume];
                (volume.block_len + self.tuple_len(&ticket)) * ticket.command.blocks.as_usize()
            });
        }
        let result = match refused {
            Some(error) => Err(error),
            None => self.execute(&ticket),
        };
        let origin = ticket.command.origin;
        self.tickets.insert(id.parts().0, ticket);
        self.completions.push_back(Completion { origin, ticket: id, result });
        result
    }

    fn execute(&mut self, ticket: &Ticket) -> Result<(), BlockError> {
        if ticket.damaged {
            return Err(BlockError::Digest);
        }
        let range = ticket.command.lba.0..ticket.command.lba.0 + u64::from(ticket.command.blocks.get());
        let volume = self.volumes.get_mut(&ticket.volume).ok_or(BlockError::Gone)?;
        match ticket.command.operation {
            Operation::Write | Operation::CopyTarget => self.write(ticket),
            Operation::Deallocate | Operation::WriteZeroes | Operation::WriteUncorrectable => {
                let marks = ticket.command.operation == Operation::WriteUncorrectable;
                range.for_each(|lba| {
                    volume.blocks.remove(&lba);
                    volume.marked.remove(&lba);
                    if marks {
                        volume.marked.insert(lba);
                    }
                });
                Ok(())
            }
            Operation::Flush => Ok(()),
            Operation::Read | Operation::Verify | Operation::Compare | Operation::CopySource => {
                if let Some(lba) = range.clone().find(|lba| volume.marked.contains(lba)) {
                    return Err(BlockError::Uncorrectable(Lba(lba)));
                }
                let compares = ticket.command.operation == Operation::Compare;
                let differs = compares && self.wire(ticket) != ticket.payload;
                let difference = Difference { block_index: 0, offset: 0, tag: None };
                if differs { Err(BlockError::Miscompare(difference)) } else { Ok(()) }
            }
        }
    }
}

impl BlockPort for MemoryPort {
    fn attach(&mut self, request: AttachRequest) -> Result<AttachmentId, BlockError> {
        self.next += 1;
        self.attachments.insert(self.next, (request.volume, request.enforce));
        Ok(AttachmentId::from_parts(self.next, 0))
    }

    fn detach(&mut self, attachment: AttachmentId) {
        assert!(self.attachments.remove(&attachment.parts().0).is_some(), "detached twice");
    }

    fn set_enforce(&mut self, attachment: AttachmentId, enforce: Enforce) {
        self.attachments.get_mut(&attachment.parts().0).unwrap().1 = enforce;
    }

    fn begin(&mut self, command: &Command) -> Result<TicketId, BlockError> {
        if self.tickets.len() >= self.tickets_max {
            return Err(BlockError::Busy);
        }
        let (volume, _) = *self.attachments.get(&command.attachment.parts().0).ok_or(BlockError::Gone)?;
        self.next += 1;
        self.log.push(*command);
        let ticket =
            Ticket { command: *command, volume, payload: Vec::new(), damaged: false, completed: false };
        self.tickets.insert(self.next, ticket);
        Ok(TicketId::from_parts(self.next, 0))
    }

    fn transfer_len(&self, ticket: TicketId) -> usize {
        let ticket = &self.tickets[&ticket.parts().0];
        (self.volumes[&ticket.volume].block_len + self.tuple_len(ticket)) * ticket.command.blocks.as_usize()
    }

    fn fill(&mut self, ticket: TicketId, offset: usize, bytes: &[u8]) {
        let len = self.transfer_len(ticket);
        let ticket = self.tickets.get_mut(&ticket.parts().0).unwrap();
        assert_eq!(ticket.payload.len(), offset, "payload comes in order");
        assert!(!bytes.is_empty() && offset + bytes.len() <= len);
        ticket.payload.extend_from_slice(bytes);
    }

    fn digest_failed(&mut self, ticket: TicketId) {
        self.tickets.get_mut(&ticket.parts().0).unwrap().damaged = true;
    }

    fn submit(&mut self, id: TicketId) {
        self.finish(id, None).ok();
    }

    fn submit_fused(&mut self, compare: TicketId, write: TicketId) {
        self.pairs += 1;
        let refused = self.finish(compare, None).is_err().then_some(BlockError::FusedFailed);
        self.finish(write, refused).ok();
    }

    fn carry(&mut self, source: TicketId, target: TicketId) {
        let wire = self.wire(&self.tickets[&source.parts().0]);
        self.tickets.get_mut(&target.parts().0).unwrap().payload.extend(wire);
    }

    fn begin_reservation(&mut self, _: Origin, _: AttachmentId, _: Request) -> Result<TicketId, BlockError> {
        panic!("no command of these tests reserves")
    }

    fn reservation_answer(&self, _: TicketId) -> Option<&Result<Effects, Refusal>> {
        None
    }

    fn reservation_report(&self, _: AttachmentId) -> Option<Arc<Reservations>> {
        None
    }

    fn standing(&mut self, _: AttachmentId) -> Standing {
        Standing::FREE
    }

    fn end_legacy_reservation(&mut self, _: AttachmentId) {}

    fn cancel(&mut self, ticket: TicketId) {
        self.completions.retain(|completion| completion.ticket != ticket);
        assert!(self.tickets.remove(&ticket.parts().0).is_some());
    }

    fn transmit<T: TransmitSink>(&self, ticket: TicketId, offset: usize, len: usize, sink: &mut T) {
        self.visit(ticket, offset, len, &mut |piece| sink.inline(piece));
    }

    fn visit(&self, ticket: TicketId, offset: usize, len: usize, visitor: &mut dyn FnMut(&[u8])) {
        let wire = self.wire(&self.tickets[&ticket.parts().0]);
        wire[offset..offset + len].chunks(1000).for_each(visitor);
    }

    fn release(&mut self, ticket: TicketId) {
        assert!(self.tickets.remove(&ticket.parts().0).is_some_and(|ticket| ticket.completed));
    }

    fn next_completion(&mut self) -> Option<Completion> {
        if self.stalled {
            return None;
        }
        let completion = self.completions.pop_front()?;
        self.tickets.get_mut(&completion.ticket.parts().0).unwrap().completed = true;
        Some(completion)
    }

    fn is_crowded(&self, _command: &Command) -> bool {
        false
    }

    fn block_origin(&self, _source: TicketId, _index: usize) -> Option<BlockOrigin> {
        None
    }

    fn blocks_allocated(&self, volume: VolumeId) -> Option<u64> {
        self.volumes.get(&volume).map(|volume| volume.blocks.len() as u64)
    }
}

//! What a command does on the medium, step by step: tickets of the block layer, one or two at a time.

use holdfast_block::{
    BlockCount, BlockError, BlockPort, Command, Completion, Lba, Operation, TicketId, TransmitSink,
};

use crate::blocks::{Pattern, Same, Unmap, Work, ending};
use crate::limits::{BLOCK_COST, TRANSFER_BYTES_MAX};
use crate::sense::{Ending, Sense};

/// Where it stands after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// There is room for the payload.
    Receive,
    /// There is no room now.
    Wait,
    /// Completions will come.
    Running,
    /// It is over, without error.
    Over,
    /// The same, with status CONDITION MET.
    Met,
    /// It is over, and [`Medium::answer`] is to be sent, cut to so many bytes.
    Answered(u32),
}

/// A command of the block layer under way.
#[derive(Debug, Clone, Copy)]
struct Held {
    ticket: TicketId,
    command: Command,
}

/// Work on the medium.
#[derive(Debug, Default)]
pub(super) struct Medium {
    work: Work,
    first: Option<Held>,
    second: Option<Held>,
    /// How a half of a pair failed that has ended before the other.
    failed: Option<Ending>,
    /// A block or a list that has come, or an answer in the making.
    bytes: Vec<u8>,
    damaged: bool,
    /// Whether it waits while room is scarce, since others of its connection hold some.
    pub(super) yields: bool,
    /// What was done without the initiator's bytes and is not charged yet, in bytes moved.
    pub(super) cost: u64,
}

impl Medium {
    /// Begins.
    pub(super) fn begin<P: BlockPort>(&mut self, port: &mut P, work: Work) -> Result<Step, Ending> {
        self.work = work;
        self.failed = None;
        self.damaged = false;
        self.bytes.clear();
        self.go_on(port)
    }

    /// Takes the next step, or tries it again.
    pub(super) fn go_on<P: BlockPort>(&mut self, port: &mut P) -> Result<Step, Ending> {
        match self.work {
            Work::Nothing => Ok(Step::Over),
            Work::Met => Ok(Step::Met),
            Work::Run(command) => self.run(port, command),
            Work::Take(command) => self.open(port, command, None),
            Work::ThenCheck(write, check) => {
                self.open(port, write, Some(check).filter(|check| check.operation == Operation::Compare))
            }
            Work::Pair(compare, write) => self.open(port, compare, Some(write)),
            Work::Pieces(whole, done) => {
                let Some(piece) = whole.after(done) else { return self.settle(port, whole.command) };
                let step = self.run(port, piece)?;
                if step == Step::Running {
                    self.work = Work::Pieces(whole, done.saturating_add(u64::from(piece.blocks.get())));
                }
                Ok(step)
            }
            Work::Same(same) => self.same(port, same),
            Work::Unmap(unmap) => {
                let Some((count, next)) = unmap.left else { return Ok(Step::Receive) };
                let wanted = (next..count).find_map(|index| Some((index, unmap.at(&self.bytes, index)?)));
                let Some((index, command)) = wanted else { return self.settle(port, unmap.command) };
                let step = self.run(port, command)?;
                if step == Step::Running {
                    self.work = Work::Unmap(Unmap { left: Some((count, index + 1)), ..unmap });
                }
                Ok(step)
            }
            Work::Scan(mut scan) => {
                let next = scan.next(&mut self.bytes);
                self.work = Work::Scan(scan);
                match next {
                    Some(piece) => self.run(port, piece),
                    None => Ok(Step::Answered(scan.allocation_len)),
                }
            }
        }
    }

    /// All is done. Holes become durable with the next flush, where they have to be.
    fn settle<P: BlockPort>(&mut self, port: &mut P, command: Command) -> Result<Step, Ending> {
        if command.operation != Operation::Deallocate || !command.force_unit_access {
            return Ok(Step::Over);
        }
        let flush = Command { operation: Operation::Flush, lba: Lba(0), blocks: BlockCount::ZERO, ..command };
        self.work = Work::Run(flush);
        self.run(port, flush)
    }

    /// Writes, or holds against the block, the next piece.
    fn same<P: BlockPort>(&mut self, port: &mut P, same: Same) -> Result<Step, Ending> {
        let Some(done) = same.done else { return Ok(Step::Receive) };
        let Some(piece) = same.whole.after(done) else { return Ok(Step::Over) };
        let Some(held) = admit(port, piece)? else { return Ok(Step::Wait) };
        let pattern = Pattern::of(&self.bytes, &same);
        let mut offset = 0;
        for index in (done..).take(piece.blocks.as_usize()) {
            port.fill(held.ticket, offset, pattern.data);
            offset += pattern.data.len();
            if let Some(format) = same.whole.format.filter(|_| !pattern.tuple.is_empty()) {
                let tuple = pattern.tuple_at(format, index);
                port.fill(held.ticket, offset, &tuple);
                offset += tuple.len();
            }
        }
        self.cost = self.cost.saturating_add(u64::try_from(offset).unwrap_or(u64::MAX));
        self.first = Some(held);
        port.submit(held.ticket);
        self.work = Work::Same(Same { done: Some(done + u64::from(piece.blocks.get())), ..same });
        Ok(Step::Running)
    }

    /// Takes the next bytes of the payload.
    pub(super) fn fill<P: BlockPort>(&mut self, port: &mut P, offset: usize, bytes: &[u8]) {
        let Some(first) = self.first else { return self.bytes.extend_from_slice(bytes) };
        let Some(second) = self.second else { return port.fill(first.ticket, offset, bytes) };
        if let Work::ThenCheck(..) = self.work {
            port.fill(first.ticket, offset, bytes);
            return port.fill(second.ticket, offset, bytes);
        }
        let half = port.transfer_len(first.ticket);
        let (to_first, to_second) = bytes.split_at(half.saturating_sub(offset).min(bytes.len()));
        if !to_first.is_empty() {
            port.fill(first.ticket, offset, to_first);
        }
        if !to_second.is_empty() {
            port.fill(second.ticket, offset.saturating_sub(half), to_second);
        }
    }

    /// The payload is damaged.
    pub(super) fn digest_failed<P: BlockPort>(&mut self, port: &mut P) {
        self.damaged = true;
        for held in [self.first, self.second].into_iter().flatten() {
            port.digest_failed(held.ticket);
        }
    }

    /// The payload is complete.
    pub(super) fn received<P: BlockPort>(&mut self, port: &mut P) -> Result<Step, Ending> {
        match (self.first, self.second) {
            (Some(compare), Some(write)) if matches!(self.work, Work::Pair(..)) => {
                port.submit_fused(compare.ticket, write.ticket);
            }
            (Some(held), _) => port.submit(held.ticket),
            (None, _) => return self.collected(port),
        }
        Ok(Step::Running)
    }

    /// The single block, or the list, has come.
    fn collected<P: BlockPort>(&mut self, port: &mut P) -> Result<Step, Ending> {
        if self.damaged {
            return Err(Ending::Check(Sense::DIGEST));
        }
        match self.work {
            Work::Same(same) => {
                self.work = match Pattern::of(&self.bytes, &same).zeroes(&same) {
                    Some(zeroes) => Work::Pieces(zeroes, 0),
                    None => Work::Same(Same { done: Some(0), ..same }),
                };
            }
            Work::Unmap(unmap) => {
                let count = unmap.count(&self.bytes).map_err(Ending::Check)?;
                self.work = Work::Unmap(Unmap { left: Some((count, 0)), ..unmap });
            }
            _ => return Err(Ending::Check(Sense::INTERNAL)),
        }
        self.go_on(port)
    }

    /// Takes a completion.
    pub(super) fn complete<P: BlockPort>(
        &mut self,
        port: &mut P,
        completion: Completion,
    ) -> Result<Step, Ending> {
        let is_first = self.first.is_some_and(|held| held.ticket == completion.ticket);
        let place = if is_first { &mut self.first } else { &mut self.second };
        let Some(held) = place.filter(|held| held.ticket == completion.ticket) else {
            debug_assert!(false, "a completion of no ticket of this task");
            port.release(completion.ticket);
            return Ok(Step::Running);
        };
        if held.command.operation == Operation::Read && completion.result.is_ok() {
            return Ok(Step::Over);
        }
        *place = None;
        if let Work::Scan(scan) = &mut self.work {
            let taken = match completion.result {
                Ok(()) => {
                    scan.take(port, held.ticket, &mut self.bytes);
                    Ok(())
                }
                Err(error) => scan.take_error(error, &mut self.bytes),
            };
            port.release(held.ticket);
            taken.map_err(|error| ending(error, &held.command, true))?;
            return self.go_on(port);
        }
        port.release(held.ticket);
        if let Work::Pair(..) = self.work {
            let failed = completion.result.err().map(|error| ending(error, &held.command, false));
            self.failed = self.failed.or(failed);
            return match (self.first, self.second, self.failed) {
                (None, None, Some(failed)) => Err(failed),
                (None, None, None) => Ok(Step::Over),
                _ => Ok(Step::Running),
            };
        }
        completion.result.map_err(|error| ending(error, &held.command, true))?;
        match self.work {
            Work::ThenCheck(_, check) => {
                let Some(compare) = self.second.take() else {
                    self.work = Work::Run(check);
                    return self.go_on(port);
                };
                self.work = Work::Take(check);
                self.first = Some(compare);
                self.received(port)
            }
            Work::Pieces(..) | Work::Same(_) | Work::Unmap(_) | Work::Scan(_) => self.go_on(port),
            Work::Nothing | Work::Met | Work::Run(_) | Work::Take(_) | Work::Pair(..) => Ok(Step::Over),
        }
    }

    /// What is to be sent after [`Step::Answered`].
    pub(super) fn answer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Tickets that it holds.
    pub(super) fn tickets(&self) -> usize {
        [self.first, self.second].into_iter().flatten().count()
    }

    /// Puts bytes of a Read into a send.
    pub(super) fn transmit<P: BlockPort, T: TransmitSink>(
        &self,
        port: &P,
        offset: usize,
        len: usize,
        sink: &mut T,
    ) {
        if let Some(held) = self.first {
            port.transmit(held.ticket, offset, len, sink);
        }
    }

    /// Shows the same bytes.
    pub(super) fn visit<P: BlockPort>(
        &self,
        port: &P,
        offset: usize,
        len: usize,
        visitor: &mut dyn FnMut(&[u8]),
    ) {
        if let Some(held) = self.first {
            port.visit(held.ticket, offset, len, visitor);
        }
    }

    /// Gives up what has no completion yet.
    pub(super) fn cancel<P: BlockPort>(&mut self, port: &mut P) {
        for held in [self.first.take(), self.second.take()].into_iter().flatten() {
            port.cancel(held.ticket);
        }
        self.work = Work::Nothing;
    }

    /// Lets go of what was sent.
    pub(super) fn release<P: BlockPort>(&mut self, port: &mut P) {
        for held in [self.first.take(), self.second.take()].into_iter().flatten() {
            port.release(held.ticket);
        }
        self.work = Work::Nothing;
    }

    /// Gets a ticket for a command without a payload and gives it to the block layer.
    fn run<P: BlockPort>(&mut self, port: &mut P, command: Command) -> Result<Step, Ending> {
        let Some(held) = admit(port, command)? else { return Ok(Step::Wait) };
        if matches!(
            command.operation,
            Operation::Verify | Operation::WriteZeroes | Operation::Deallocate | Operation::CopySource
        ) {
            let cost = u64::from(command.blocks.get()).saturating_mul(BLOCK_COST).min(TRANSFER_BYTES_MAX);
            self.cost = self.cost.saturating_add(cost);
        }
        self.first = Some(held);
        port.submit(held.ticket);
        Ok(Step::Running)
    }

    /// Gets room for a payload, that of both commands or of neither.
    fn open<P: BlockPort>(
        &mut self,
        port: &mut P,
        first: Command,
        second: Option<Command>,
    ) -> Result<Step, Ending> {
        let is_crowded = [Some(first), second].iter().flatten().any(|command| port.is_crowded(command));
        if self.yields && is_crowded {
            return Ok(Step::Wait);
        }
        let Some(held) = admit(port, first)? else { return Ok(Step::Wait) };
        if let Some(second) = second {
            match admit(port, second) {
                Ok(Some(held)) => self.second = Some(held),
                failed => {
                    port.cancel(held.ticket);
                    return failed.map(|_| Step::Wait);
                }
            }
        }
        self.first = Some(held);
        Ok(Step::Receive)
    }
}

/// A ticket. `None`: there is no room now.
fn admit<P: BlockPort>(port: &mut P, command: Command) -> Result<Option<Held>, Ending> {
    match port.begin(&command) {
        Ok(ticket) => Ok(Some(Held { ticket, command })),
        Err(BlockError::Busy) => Ok(None),
        Err(error) => Err(ending(error, &command, true)),
    }
}

//! Blocks that move. SBC-4 §5 "READ (10) command", "WRITE (10) command", "VERIFY (10) command", "WRITE AND VERIFY (10)
//! command", "COMPARE AND WRITE command", and their longer forms.
//!
//! A shorter Data-Out Buffer cuts a WRITE to the whole blocks that are carried. What would lose its meaning that way is refused.

use holdfast_block::{BlockCount, Command, Operation};

use super::{Asked, Plan, Whole, Work};
use crate::cdb::{Blocks, ByteCheck, Protected};
use crate::protect::Act;
use crate::sense::{Sense, SenseKey};

/// INVALID FIELD IN COMMAND INFORMATION UNIT: the Data-Out Buffer is not as long as the CDB says.
pub(super) const WRONG_BUFFER: Sense = Sense::new(SenseKey::IllegalRequest, 0x0e, 0x03);

impl Asked<'_> {
    pub(super) fn read(&self, range: &Protected, fua: bool) -> Result<Plan, Sense> {
        let protection = self.seen.scheme().decide(Act::Read, range)?;
        self.check_transfer(range.blocks)?;
        let mut command = self.ranged(Operation::Read, range, &protection);
        command.force_unit_access = fua;
        let wanted_in = command.blocks.as_usize() * self.wire_block_len(protection.layout);
        if wanted_in == 0 {
            return Ok(Plan::NOTHING);
        }
        Ok(Plan { wanted_in, ..Plan::without_data(Work::Run(command)) })
    }

    pub(super) fn write(&self, range: &Protected, fua: bool) -> Result<Plan, Sense> {
        let protection = self.seen.scheme().decide(Act::Write, range)?;
        self.check_transfer(range.blocks)?;
        self.check_writable()?;
        let mut command = self.ranged(Operation::Write, range, &protection);
        command.force_unit_access = self.durable(fua);
        Ok(self.taking(command, Work::Take))
    }

    pub(super) fn write_and_verify(&self, range: &Protected, check: ByteCheck) -> Result<Plan, Sense> {
        let (act, operation) = match check {
            ByteCheck::Medium => (Act::Verify, Operation::Verify),
            ByteCheck::EachBlock => (Act::Compare, Operation::Compare),
            ByteCheck::SingleBlock => {
                return Err(Sense::invalid_in_cdb(if range.tags.is_some() { 10 } else { 1 }, Some(2)));
            }
        };
        let protection = self.seen.scheme().decide(Act::Write, range)?;
        let again = self.seen.scheme().decide(act, range)?;
        self.check_transfer(range.blocks)?;
        self.check_writable()?;
        let mut write = self.ranged(Operation::Write, range, &protection);
        // The medium is what is verified.
        write.force_unit_access = true;
        let mut check = self.ranged(operation, range, &again);
        check.held = self.held(range.protect).filter(|_| operation == Operation::Compare);
        Ok(self.taking(write, |write| Work::ThenCheck(write, Command { blocks: write.blocks, ..check })))
    }

    pub(super) fn verify(&self, range: &Protected, check: ByteCheck) -> Result<Plan, Sense> {
        let act = if check == ByteCheck::Medium { Act::Verify } else { Act::Compare };
        let protection = self.seen.scheme().decide(act, range)?;
        let Blocks { lba, count, .. } = range.blocks;
        self.check_range(lba, u64::from(count))?;
        if count == 0 {
            return Ok(Plan::NOTHING);
        }
        let operation = if check == ByteCheck::Medium { Operation::Verify } else { Operation::Compare };
        let mut command = self.ranged(operation, range, &protection);
        let whole = |command| Whole {
            command,
            blocks: u64::from(count),
            piece: self.blocks_at_once(),
            format: self.seen.volume.format,
        };
        match check {
            ByteCheck::Medium => Ok(Plan::without_data(Work::Pieces(whole(command), 0))),
            ByteCheck::EachBlock => {
                self.check_transfer(range.blocks)?;
                command.held = self.held(range.protect);
                let plan = self.taking(command, Work::Take);
                if plan.out_len < plan.wanted_out { Err(WRONG_BUFFER) } else { Ok(plan) }
            }
            ByteCheck::SingleBlock => {
                command.held = self.held(range.protect);
                self.verify_same(whole(command))
            }
        }
    }

    pub(super) fn compare_and_write(&self, range: &Protected, fua: bool) -> Result<Plan, Sense> {
        let compare = self.seen.scheme().decide(Act::Compare, range)?;
        let write = self.seen.scheme().decide(Act::Write, range)?;
        self.check_transfer(range.blocks)?;
        self.check_writable()?;
        let compare = self.ranged(Operation::Compare, range, &compare);
        let mut write = self.ranged(Operation::Write, range, &write);
        write.force_unit_access = self.durable(fua);
        let wanted_out = 2 * write.blocks.as_usize() * self.wire_block_len(write.layout);
        if wanted_out == 0 && self.buffers.data_out > 0 {
            // More blocks were meant than the field can name.
            return Err(Sense::invalid_in_cdb(range.blocks.count_at, None));
        }
        if wanted_out == 0 {
            return Ok(Plan::NOTHING);
        }
        if self.buffers.data_out != wanted_out {
            return Err(WRONG_BUFFER);
        }
        Ok(Plan { work: Work::Pair(compare, write), wanted_out, out_len: wanted_out, wanted_in: 0 })
    }

    /// A command that takes the blocks that the initiator has.
    fn taking(&self, command: Command, work: impl FnOnce(Command) -> Work) -> Plan {
        let wire_block_len = self.wire_block_len(command.layout);
        let wanted_out = command.blocks.as_usize() * wire_block_len;
        let carried = wanted_out.min(self.buffers.data_out) / wire_block_len;
        let blocks = u32::try_from(carried).unwrap_or(0);
        if blocks == 0 {
            return Plan { wanted_out, ..Plan::NOTHING };
        }
        let command = Command { blocks: BlockCount::new(blocks), ..command };
        Plan { work: work(command), wanted_out, out_len: carried * wire_block_len, wanted_in: 0 }
    }
}

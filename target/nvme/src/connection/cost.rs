//! What a connection's input costs, so that whoever drives many connections can share a core fairly between them.
//!
//! Costs are counted in bytes moved: a PDU counts as so many by itself, payload by its length either way, and blocks that are
//! worked on without leaving the target as a part of theirs. What is started outside [`Connection::receive`], such
//! as a command that had to wait for room, is reported by the next call.

use holdfast_block::{Command, Operation, PDU_COST};

use super::Connection;
use crate::limits::{BLOCK_COST, TRANSFER_DATA_MAX};

impl Connection {
    pub(super) fn charge(&mut self, cost: u64) {
        self.cost = self.cost.saturating_add(cost);
    }

    /// Counts a payload, or what is left of one.
    pub(super) fn charge_bytes(&mut self, len: usize) {
        self.charge(u64::try_from(len).unwrap_or(u64::MAX));
    }
}

/// What a command costs beside its PDU ([`holdfast_block::PDU_COST`]) and its host's payload, in bytes moved. `transfer_len` bytes of it
/// move.
pub fn command_cost(command: &Command, transfer_len: usize) -> u64 {
    match command.operation {
        Operation::Write | Operation::Compare | Operation::Flush => 0,
        Operation::Read => u64::try_from(transfer_len).unwrap_or(u64::MAX),
        // The sources of a Copy are paid for, as if each block were moved once.
        Operation::CopyTarget => 0,
        Operation::CopySource => {
            let blocks = u64::from(command.blocks.get());
            blocks.saturating_mul(PDU_COST).min(TRANSFER_DATA_MAX)
        }
        Operation::Verify
        | Operation::WriteZeroes
        | Operation::WriteUncorrectable
        | Operation::Deallocate => {
            let blocks = u64::from(command.blocks.get());
            blocks.saturating_mul(BLOCK_COST).min(TRANSFER_DATA_MAX)
        }
    }
}

//! What becomes of a command besides its answer: what it moved is counted, and how it failed is written down. Base 2.1 §4.2.3
//! "Status Field Definition": the More bit says that the error log knows more.

use holdfast_block::{BlockError, BlockPort, Lba};
use zerocopy::FromZeros;
use zerocopy::little_endian::{U16, U64};

use super::{Connection, Context, Role};
use crate::slots::SlotId;
use crate::status::Status;
use crate::subsystem::Moment;
use crate::wire::discovery::TRANSPORT_TCP;
use crate::wire::log::{ERROR_ENTRY_VERSION, ErrorEntry};
use crate::wire::nvm::{RangeFields, opcode};
use crate::wire::sqe::Cqe;

/// The More bit, in the upper half of Dword 3 of a completion.
pub(super) const STATUS_MORE: u16 = 1 << 14;

impl Connection {
    /// Counts a block command that has succeeded.
    pub(super) fn count(&self, id: SlotId) {
        let slot = self.slots.get(id);
        let (Some(command), Role::Io(queue)) = (slot.running, &self.role) else { return };
        let block_len = self.namespaces.volume(slot.sqe.nsid.get()).map_or(0, |volume| volume.block_len);
        let data_len = command.blocks.as_usize().saturating_mul(block_len);
        queue.traffic.done(command.operation, u64::try_from(data_len).unwrap_or(u64::MAX));
    }

    /// Remembers the lowest block in which a block command has failed.
    pub(super) fn find_failed_block(&mut self, id: SlotId, error: BlockError) {
        let slot = self.slots.get_mut(id);
        let Some(command) = slot.running else { return };
        let lba = command.lba;
        slot.failed_lba = match error {
            BlockError::Protection(fault) if !holdfast_mutant::active("error-log-lba") => {
                lba.checked_add(u64::from(fault.block_index))
            }
            BlockError::Media(lba) | BlockError::Uncorrectable(lba) => Some(lba),
            _ => Some(lba),
        };
    }

    /// Writes a failure down; whether there was one that belongs into the error log. To be called once, when the answer goes out.
    pub(super) fn record_failure<P: BlockPort>(&self, cx: &Context<'_, P>, id: SlotId) -> bool {
        let slot = self.slots.get(id);
        if !slot.status.is_logged() {
            return false;
        }
        let (controller, sqid) = match &self.role {
            Role::None => return false,
            Role::Admin(queue) => (&queue.controller, 0),
            Role::Io(queue) => (&queue.controller, queue.qid),
        };
        let mut entry = ErrorEntry::new_zeroed();
        entry.sqid.set(sqid);
        entry.cid = slot.sqe.cid;
        entry.status.set(slot.status.to_wire() | STATUS_MORE);
        entry.location.set(slot.status.location());
        entry.lba.set(self.failed_lba(id).unwrap_or(Lba(0)).0);
        entry.nsid = slot.sqe.nsid;
        entry.transport = TRANSPORT_TCP;
        entry.opcode = slot.sqe.opcode;
        entry.version = ERROR_ENTRY_VERSION;
        let is_damage = slot.status.is_damage();
        controller.health.record(entry, is_damage);
        if is_damage {
            let completion = Cqe {
                result: U64::new(slot.result),
                sqhd: U16::new(self.sq_head),
                sqid: U16::new(sqid),
                cid: slot.sqe.cid,
                status: entry.status,
            };
            controller.subsystem.damaged(Moment::now(cx, controller.cntlid), completion);
        }
        true
    }

    /// The lowest block of the command that has to do with its failure.
    fn failed_lba(&self, id: SlotId) -> Option<Lba> {
        let slot = self.slots.get(id);
        let has_list = matches!(slot.sqe.opcode, opcode::DATASET_MANAGEMENT | opcode::COPY);
        if slot.status != Status::LBA_OUT_OF_RANGE || has_list {
            return slot.failed_lba;
        }
        let end = self.namespaces.volume(slot.sqe.nsid.get())?.block_count;
        Some(RangeFields::of(&slot.sqe).lba.max(Lba(end)))
    }
}

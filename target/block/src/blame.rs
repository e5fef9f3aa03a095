//! Failed commands: counted once, and reported once with their evidence.

use std::sync::Arc;

use holdfast_pi::{Fault, PiFormat, Tag};

use crate::attribution::{
    Confidence, FaultKind, FaultReport, FaultSink, Judgement, Verdict, judge_arrival, judge_stored,
};
use crate::execute::direction;
use crate::ticket::{Shape, Ticket, Work};
use crate::{BlockRecord, Operation, Provenance, Service, SlotRef, Store, StoreError, TicketId, read_path};

impl<S: Store, F: FaultSink> Service<S, F> {
    /// A tag failed on arrival; the block still lies in its reserved slot (Write) or in the staged payload (Compare).
    pub(crate) fn blame_arrival(&mut self, id: TicketId, fault: &Fault) {
        let Some((work, slot)) = self.work_and_slot(id, fault) else { return };
        if work.command.operation == Operation::CopyTarget {
            // Nothing arrived: the block was stored long before.
            return self.blame_stored(id, fault);
        }
        let staged =
            self.tickets.get(id).and_then(|ticket| staged_block(ticket, &work.shape, fault.block_index));
        let (data, record) = staged.unwrap_or_else(|| self.kept(&work.shape, slot));
        let guard_good = self.tickets.get(id).is_some_and(|ticket| ticket.arrival.fault_guard_good);
        let judgement = judge_arrival(fault, guard_good);
        self.blame_tag(&work, fault, judgement, data, record, false);
    }

    /// A tag failed on the way out.
    pub(crate) fn blame_stored(&mut self, id: TicketId, fault: &Fault) {
        let Some((work, slot)) = self.work_and_slot(id, fault) else { return };
        let (data, record) = self.kept(&work.shape, slot);
        let judgement = judge_stored(fault, &record);
        self.blame_tag(&work, fault, judgement, data, record, true);
    }

    /// A payload came under a data digest that does not match it.
    pub(crate) fn blame_digest(&mut self, id: TicketId) {
        let Some(work) = self.tickets.get(id).and_then(|ticket| ticket.work) else { return };
        let judgement = Judgement {
            verdict: Verdict::Undetermined,
            confidence: Confidence::Low,
            reason: "a data digest does not match: the wire, or a page that changed after its digest was computed",
        };
        if let Some(report) = self.bare_report(&work, FaultKind::Digest, 32, judgement) {
            self.faults.report(report);
        }
    }

    /// The store could not return a block as it was stored.
    pub(crate) fn blame_store(&mut self, id: TicketId, error: StoreError) {
        let Some(work) = self.tickets.get(id).and_then(|ticket| ticket.work) else { return };
        let (lba, reason) = match error {
            StoreError::Media(lba) => (lba, "the store's checksum does not match what the medium returned"),
            StoreError::ReadFault(lba) => (lba, "the medium reported that it cannot read the block"),
            StoreError::NoVolume
            | StoreError::OutOfRange
            | StoreError::NoRoom
            | StoreError::Busy
            | StoreError::Uncorrectable(_)
            | StoreError::WriteFault => return,
        };
        if let Some(access) = self.access(work.command.attachment) {
            access.counters.media_error(direction(work.command.operation));
        }
        let judgement = Judgement { verdict: Verdict::Media, confidence: Confidence::High, reason };
        if let Some(mut report) = self.bare_report(&work, FaultKind::Media, 64, judgement) {
            report.lba = lba;
            self.faults.report(report);
        }
    }

    fn blame_tag(
        &mut self,
        work: &Work,
        fault: &Fault,
        judgement: Judgement,
        data: Vec<u8>,
        record: BlockRecord,
        stored: bool,
    ) {
        let Some(format) = work.shape.format else { return };
        if let Some(access) = self.access(work.command.attachment) {
            access.counters.tag_error(direction(work.command.operation), fault.tag);
        }
        let bits = tag_bits(format, fault.tag);
        let Some(mut report) = self.bare_report(work, FaultKind::Tag(fault.tag), bits, judgement) else {
            return;
        };
        let lba = work.command.lba;
        report.lba = lba.checked_add(u64::from(fault.block_index)).unwrap_or(lba);
        report.expected = fault.expected;
        report.actual = fault.actual;
        report.writer = record.writer.filter(|_| stored);
        report.data = data;
        report.tuple = record.tuple.get(..format.tuple_len()).unwrap_or_default().to_vec();
        self.faults.report(report);
    }

    /// A report without tag values and evidence.
    fn bare_report(
        &self,
        work: &Work,
        kind: FaultKind,
        value_bits: u8,
        judgement: Judgement,
    ) -> Option<FaultReport> {
        let access = self.access(work.command.attachment)?;
        Some(FaultReport {
            time_ms: self.now_unix_ms,
            session: Arc::clone(&access.session),
            volume: work.shape.volume,
            lba: work.command.lba,
            blocks: u64::from(work.command.blocks.get()),
            operation: work.command.operation,
            kind,
            expected: 0,
            actual: 0,
            value_bits,
            writer: None,
            verdict: judgement.verdict,
            confidence: judgement.confidence,
            reason: judgement.reason,
            data: Vec::new(),
            tuple: Vec::new(),
        })
    }

    fn work_and_slot(&self, id: TicketId, fault: &Fault) -> Option<(Work, SlotRef)> {
        let Ticket { work, slots, .. } = self.tickets.get(id)?;
        let slot = slots.get(usize::try_from(fault.block_index).ok()?).copied();
        Some(((*work)?, slot.unwrap_or(SlotRef::HOLE)))
    }

    fn kept(&self, shape: &Shape, slot: SlotRef) -> (Vec<u8>, BlockRecord) {
        (read_path::data_of(&self.store, shape, slot).to_vec(), self.store.record(shape.volume, slot))
    }
}

/// A block of a staged payload, as it came.
fn staged_block(ticket: &Ticket, shape: &Shape, index: u32) -> Option<(Vec<u8>, BlockRecord)> {
    let wire_block_len = shape.block_len + shape.wire_tuple_len;
    let start = usize::try_from(index).ok()?.checked_mul(wire_block_len)?;
    let block = ticket.staged.get(start..start.checked_add(wire_block_len)?)?;
    let (data, bytes) = block.split_at_checked(shape.block_len)?;
    let mut tuple = [0; 16];
    tuple.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some((data.to_vec(), BlockRecord { tuple, provenance: Provenance::HostBadGuard, writer: None }))
}

/// Width of a tag, for full-width printing.
fn tag_bits(format: PiFormat, tag: Tag) -> u8 {
    match tag {
        Tag::Guard => format.guard().guard_bits(),
        Tag::App => 16,
        Tag::Ref => format.ref_tag_bits(),
        Tag::Storage => format.storage_tag_bits(),
    }
}

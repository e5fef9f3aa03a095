//! Incidents on their way to the control plane: kept until it says that it has them, bounded, over restarts.
//!
//! Every new or changed incident takes the next sequence number; the control plane asks for what is above the last one
//! it stored, in the same transaction as that number. So each state of an incident is handed over exactly once. After a
//! crash the numbers go on beyond any that may have been given out, though the last second was not written down.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_block::attribution::{
    Confidence as BlockConfidence, FaultKind, FaultReport, IncidentBook, IncidentRecord,
    Verdict as BlockVerdict,
};
use holdfast_block::{Operation, Session, Transport as BlockTransport};
use holdfast_contract::{
    Confidence, Evidence, HostId, Incident, OperationWord, PoolId, TagWord, Transport, Verdict, VolumeId,
};
use holdfast_pi::Tag;
use serde::{Deserialize, Serialize};

/// Incidents kept for a control plane that is away. With their evidence at most about 20 MiB.
pub(crate) const SPOOL_INCIDENTS_MAX: usize = 2048;

/// Numbers set aside at each start: more than one run of the target gives out between two writes to disk.
const NUMBERS_AHEAD: u64 = 1 << 20;

/// What is written down.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct SpoolRecord {
    /// Every number below it may have been given out.
    next_sequence: u64,
    /// Incidents that found no room, since the record began.
    dropped: u64,
    incidents: Vec<Incident>,
}

/// The spool.
#[derive(Debug)]
pub(crate) struct Spool {
    next_sequence: u64,
    dropped: u64,
    book: IncidentBook,
    /// By sequence.
    waiting: BTreeMap<u64, Incident>,
    changed: bool,
}

impl Spool {
    /// Goes on where an earlier run left off.
    pub(crate) fn restore(record: SpoolRecord) -> Self {
        let next_sequence = record.next_sequence.max(1) + NUMBERS_AHEAD;
        let waiting = record.incidents.into_iter().map(|incident| (incident.sequence, incident)).collect();
        Spool {
            next_sequence,
            dropped: record.dropped,
            book: IncidentBook::new(next_sequence),
            waiting,
            changed: true,
        }
    }

    /// Takes a failed command in.
    pub(crate) fn add(&mut self, report: FaultReport) {
        let record = self.book.add(report);
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.changed = true;
        let incident = incident(sequence, &record);
        self.waiting.retain(|_, waiting| waiting.id != incident.id);
        if self.waiting.len() >= SPOOL_INCIDENTS_MAX {
            self.dropped += 1;
            return;
        }
        self.waiting.insert(sequence, incident);
    }

    /// Counts reports that were lost before they came here.
    pub(crate) fn add_dropped(&mut self, reports: u64) {
        self.dropped += reports;
        self.changed |= reports > 0;
    }

    /// Incidents above `after`, lowest first.
    pub(crate) fn after(&self, after: u64, limit: usize) -> Vec<Incident> {
        let above = after.saturating_add(1)..;
        self.waiting.range(above).take(limit).map(|(_, incident)| incident.clone()).collect()
    }

    /// Forgets what is stored elsewhere.
    pub(crate) fn acknowledge(&mut self, through: u64) {
        let keep = self.waiting.split_off(&through.saturating_add(1));
        self.changed |= !self.waiting.is_empty();
        self.waiting = keep;
    }

    /// Incidents that found no room.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// What is to be written down, if anything changed since the last call.
    pub(crate) fn take_changed(&mut self) -> Option<SpoolRecord> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        Some(SpoolRecord {
            next_sequence: self.next_sequence,
            dropped: self.dropped,
            incidents: self.waiting.values().cloned().collect(),
        })
    }
}

fn incident(sequence: u64, record: &IncidentRecord) -> Incident {
    let FaultReport { session, volume, lba, blocks, operation, kind, reason, .. } = &record.first;
    let first = &record.first;
    Incident {
        sequence,
        id: format!("{:016x}", record.number),
        first_time_ms: record.first_time_ms,
        last_time_ms: record.last_time_ms,
        count: record.count,
        host: host(session.host),
        authenticated: session.authenticated,
        transport: transport(session.transport),
        peer: session.peer.to_string(),
        session: session.label.clone(),
        volume: volume_id(*volume),
        lba: lba.0,
        blocks: *blocks,
        operation: operation_word(*operation),
        tag: tag_word(*kind),
        expected: tag_value(first, first.expected),
        actual: tag_value(first, first.actual),
        writer: first.writer.map(host),
        verdict: verdict(first.verdict),
        confidence: confidence(first.confidence),
        reasons: vec![(*reason).to_owned()],
        evidence: evidence(session, first),
    }
}

fn evidence(session: &Arc<Session>, report: &FaultReport) -> Evidence {
    Evidence {
        data: hex(&report.data),
        tuple: hex(&report.tuple),
        header_digest: session.header_digest,
        data_digest: session.data_digest,
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// A tag's value. A digest and the store's checksum belong to the whole transfer or slot, not to a tag.
fn tag_value(report: &FaultReport, value: u64) -> Option<String> {
    matches!(report.kind, FaultKind::Tag(_)).then(|| full_width(value, report.value_bits))
}

/// `0x…`, as wide as the value's field.
fn full_width(value: u64, bits: u8) -> String {
    format!("0x{value:0width$x}", width = usize::from(bits).div_ceil(4))
}

/// The same identifier in the contract's type.
pub(crate) fn host(id: holdfast_block::HostId) -> HostId {
    HostId::from_nonzero(id.nonzero())
}

/// The same identifier in the contract's type.
pub(crate) fn volume_id(id: holdfast_block::VolumeId) -> VolumeId {
    VolumeId::from_nonzero(id.nonzero())
}

/// The same identifier in the contract's type.
pub(crate) fn pool_id(id: holdfast_block::PoolId) -> PoolId {
    PoolId::from_nonzero(id.nonzero())
}

/// The contract's word.
pub(crate) fn transport(transport: BlockTransport) -> Transport {
    match transport {
        BlockTransport::NvmeTcp => Transport::NvmeTcp,
        BlockTransport::Iscsi => Transport::Iscsi,
    }
}

fn operation_word(operation: Operation) -> OperationWord {
    match operation {
        Operation::Read | Operation::CopySource => OperationWord::Read,
        Operation::Compare => OperationWord::Compare,
        Operation::Verify => OperationWord::Verify,
        Operation::Write
        | Operation::WriteZeroes
        | Operation::WriteUncorrectable
        | Operation::Deallocate
        | Operation::Flush
        | Operation::CopyTarget => OperationWord::Write,
    }
}

fn tag_word(kind: FaultKind) -> TagWord {
    match kind {
        FaultKind::Tag(Tag::Guard) => TagWord::Guard,
        FaultKind::Tag(Tag::App) => TagWord::App,
        FaultKind::Tag(Tag::Ref) => TagWord::Ref,
        FaultKind::Tag(Tag::Storage) => TagWord::Storage,
        FaultKind::Digest => TagWord::Digest,
        FaultKind::Media => TagWord::Media,
    }
}

fn verdict(verdict: BlockVerdict) -> Verdict {
    match verdict {
        BlockVerdict::Misdirected => Verdict::Misdirected,
        BlockVerdict::Target => Verdict::Target,
        BlockVerdict::Media => Verdict::Media,
        BlockVerdict::Undetermined => Verdict::Undetermined,
    }
}

fn confidence(confidence: BlockConfidence) -> Confidence {
    match confidence {
        BlockConfidence::Low => Confidence::Low,
        BlockConfidence::Medium => Confidence::Medium,
        BlockConfidence::High => Confidence::High,
    }
}

//! From failed commands to incidents: whose fault, how sure, and why.
//!
//! A core reports each failed command as a [`FaultReport`]. Reports with one cause (same host, volume,
//! tag and operation, close in time) form one [`IncidentRecord`]. Identifiers are the immutable ones.
//! A wrong accusation is worse than `undetermined`.

use std::sync::Arc;

use holdfast_pi::{Fault, Tag};

use crate::{BlockRecord, HostId, Lba, Operation, Provenance, Session, VolumeId};

/// What did not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// A tag of a tuple.
    Tag(Tag),
    /// A data digest of the transport.
    Digest,
    /// The store's own checksum.
    Media,
}

/// Whose fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The host sent a good block to another address than its tuple says.
    Misdirected,
    /// The target: the block was good when it came and is not any more, and nothing below the target's memory holds it.
    Target,
    /// The medium.
    Media,
    /// Not known.
    Undetermined,
}

/// How sure a verdict is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Confidence {
    /// A guess.
    Low,
    /// Likely.
    Medium,
    /// Nothing else fits.
    High,
}

/// A verdict with its grounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) confidence: Confidence,
    pub(crate) reason: &'static str,
}

/// One failed command.
#[derive(Debug, Clone)]
pub struct FaultReport {
    /// Milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// Whose command failed, and over what.
    pub session: Arc<Session>,
    /// The volume.
    pub volume: VolumeId,
    /// Lowest failing block.
    pub lba: Lba,
    /// Length of the command in blocks.
    pub blocks: u64,
    /// The command.
    pub operation: Operation,
    /// What did not match.
    pub kind: FaultKind,
    /// Value that should have been there.
    pub expected: u64,
    /// Value that was there.
    pub actual: u64,
    /// Bits of the value, for full-width printing.
    pub value_bits: u8,
    /// Who wrote the block (reads).
    pub writer: Option<HostId>,
    /// Whose fault.
    pub verdict: Verdict,
    /// How sure.
    pub confidence: Confidence,
    /// Why.
    pub reason: &'static str,
    /// The failing block's data as it came or lay.
    pub data: Vec<u8>,
    /// Its tuple.
    pub tuple: Vec<u8>,
}

/// Where reports go. Called once per failed command; must not wait.
pub trait FaultSink {
    /// Takes a report, or drops it and counts the drop.
    fn report(&mut self, report: FaultReport);
}

/// Judges a tag that failed on arrival. `guard_good` is what was computed, asked for or not.
pub(crate) fn judge_arrival(fault: &Fault, guard_good: bool) -> Judgement {
    let undetermined =
        |reason| Judgement { verdict: Verdict::Undetermined, confidence: Confidence::Low, reason };
    match fault.tag {
        Tag::Ref if guard_good => Judgement {
            verdict: Verdict::Misdirected,
            confidence: Confidence::High,
            reason: "the guard is right and the reference tag names another address: a good block was sent to the wrong place",
        },
        Tag::Ref => undetermined("the reference tag names another address, and the guard is wrong too"),
        Tag::Guard => undetermined(
            "the block does not match its guard on arrival: a page changed in flight, the host's memory and the wire all look like this",
        ),
        Tag::App | Tag::Storage => undetermined(
            "the tag is not what the command says to expect, and only the host knows what it means",
        ),
    }
}

/// Judges a tag that failed on the way out.
pub(crate) fn judge_stored(fault: &Fault, record: &BlockRecord) -> Judgement {
    let undetermined =
        |reason| Judgement { verdict: Verdict::Undetermined, confidence: Confidence::Low, reason };
    match (fault.tag, record.provenance) {
        (Tag::Guard, Provenance::HostGood | Provenance::Inserted) => Judgement {
            verdict: Verdict::Target,
            confidence: Confidence::High,
            reason: "the block matched its guard when it was stored and does not any more, and nothing but the target held it",
        },
        (Tag::Guard, Provenance::HostBadGuard | Provenance::Hole | Provenance::Uncorrectable) => {
            undetermined(
                "the writer had the block stored unchecked, and its guard was wrong already on arrival",
            )
        }
        (Tag::Ref | Tag::App | Tag::Storage, _) => {
            undetermined("the stored tag is as its writer made it, and the reader's command expects another")
        }
    }
}

/// Reports of one cause that follow within this time of the latest belong to one incident.
pub const INCIDENT_WINDOW_MS: u64 = 60_000;

/// Incidents that are still growing: a bound on memory. The one that was quiet longest ends early.
pub const OPEN_INCIDENTS_MAX: usize = 1024;

/// One incident.
#[derive(Debug, Clone)]
pub struct IncidentRecord {
    /// Unique for as long as the record is kept.
    pub number: u64,
    /// When it began; the latest failure is in `last_time_ms`.
    pub first_time_ms: u64,
    /// As above.
    pub last_time_ms: u64,
    /// Failed commands.
    pub count: u64,
    /// The first of them.
    pub first: FaultReport,
}

/// Brings reports with one cause together.
#[derive(Debug)]
pub struct IncidentBook {
    next_number: u64,
    open: Vec<IncidentRecord>,
}

impl IncidentBook {
    /// An empty book whose first incident gets `next_number`.
    pub fn new(next_number: u64) -> Self {
        IncidentBook { next_number, open: Vec::new() }
    }

    /// The number that the next new incident gets.
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Takes a report in and returns its incident in its newest form.
    pub fn add(&mut self, report: FaultReport) -> IncidentRecord {
        let now_ms = report.time_ms;
        self.open.retain(|incident| incident.last_time_ms.saturating_add(INCIDENT_WINDOW_MS) >= now_ms);
        if let Some(incident) = self.open.iter_mut().find(|incident| same_cause(&incident.first, &report)) {
            incident.count += 1;
            incident.last_time_ms = now_ms.max(incident.last_time_ms);
            return incident.clone();
        }
        if self.open.len() >= OPEN_INCIDENTS_MAX {
            let oldest = (0..self.open.len()).min_by_key(|at| self.open.get(*at).map(|i| i.last_time_ms));
            if let Some(oldest) = oldest {
                self.open.swap_remove(oldest);
            }
        }
        let incident = IncidentRecord {
            number: self.next_number,
            first_time_ms: now_ms,
            last_time_ms: now_ms,
            count: 1,
            first: report,
        };
        self.next_number += 1;
        self.open.push(incident.clone());
        incident
    }
}

/// Same host, volume, tag, operation; and the same writer and verdict, so that a count never says more than it knows.
fn same_cause(a: &FaultReport, b: &FaultReport) -> bool {
    a.session.host == b.session.host
        && a.volume == b.volume
        && a.kind == b.kind
        && a.operation == b.operation
        && a.writer == b.writer
        && a.verdict == b.verdict
}

//! What the target writes down about itself: the state applied last, hosts it met, counters, events.

use std::path::Path;

use holdfast_block::{CounterBook, DURATION_BOUNDS_US, Discovered, Identity, IoRow, PiRow};
use holdfast_contract::{
    CounterRow, DesiredState, DigestRow, DiscoveredHost, DurationRow, IoTotals, PiTotals,
};
use serde::{Deserialize, Serialize};

use crate::events::EventRecord;
use crate::files::{FileError, StateFile};
use crate::intent::{host_id, volume_id};
use crate::spool::{self, SpoolRecord};

/// The files in the state folder. Each is replaced whole.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    applied: StateFile,
    hosts: StateFile,
    counters: StateFile,
    incidents: StateFile,
    events: StateFile,
}

/// Counters as written down.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CounterRecord {
    /// By host and volume.
    pub io: Vec<CounterRow>,
    /// By host.
    pub digests: Vec<DigestRow>,
}

impl Records {
    /// The files in this folder.
    pub(crate) fn new(folder: &Path) -> Self {
        Records {
            applied: StateFile::new(folder, "applied.json", "holdfast-applied", 1),
            hosts: StateFile::new(folder, "hosts.json", "holdfast-hosts", 1),
            counters: StateFile::new(folder, "counters.json", "holdfast-counters", 1),
            incidents: StateFile::new(folder, "incidents.json", "holdfast-incidents", 1),
            events: StateFile::new(folder, "events.json", "holdfast-events", 1),
        }
    }

    /// The state applied last.
    pub(crate) fn applied(&self) -> Result<Option<DesiredState>, FileError> {
        self.applied.read()
    }

    /// Writes the applied state down.
    pub(crate) fn write_applied(&self, desired: &DesiredState) -> Result<(), FileError> {
        self.applied.write(desired)
    }

    /// Hosts that were met and not adopted yet.
    pub(crate) fn hosts(&self) -> Result<Vec<Discovered>, FileError> {
        let kept: Vec<DiscoveredHost> = self.hosts.read()?.unwrap_or_default();
        Ok(kept.into_iter().filter_map(discovered).collect())
    }

    /// Writes the met hosts down.
    pub(crate) fn write_hosts(&self, hosts: &[DiscoveredHost]) -> Result<(), FileError> {
        self.hosts.write(&hosts)
    }

    /// Takes up the counters of earlier runs.
    pub(crate) fn restore_counters(&self, book: &CounterBook) -> Result<CounterRecord, FileError> {
        let record: CounterRecord = self.counters.read()?.unwrap_or_default();
        for row in &record.io {
            book.restore(host_id(row.host), volume_id(row.volume), &io_row(row));
        }
        for row in &record.digests {
            book.restore_digest(host_id(row.host), row.header, row.data);
        }
        Ok(record)
    }

    /// Writes the counters down.
    pub(crate) fn write_counters(&self, record: &CounterRecord) -> Result<(), FileError> {
        self.counters.write(record)
    }

    /// Incidents not handed over yet.
    pub(crate) fn incidents(&self) -> Result<SpoolRecord, FileError> {
        Ok(self.incidents.read()?.unwrap_or_default())
    }

    /// Writes the incidents down.
    pub(crate) fn write_incidents(&self, record: &SpoolRecord) -> Result<(), FileError> {
        self.incidents.write(record)
    }

    /// Persistent event logs of earlier runs.
    pub(crate) fn events(&self) -> Result<EventRecord, FileError> {
        Ok(self.events.read()?.unwrap_or_default())
    }

    /// Writes the persistent event logs down.
    pub(crate) fn write_events(&self, record: &EventRecord) -> Result<(), FileError> {
        self.events.write(record)
    }
}

/// The counters now.
pub(crate) fn counter_record(book: &CounterBook) -> CounterRecord {
    let io = book.rows().into_iter().map(|(host, volume, row)| CounterRow {
        host: spool::host(host),
        volume: spool::volume_id(volume),
        write: totals(&row.write),
        read: totals(&row.read),
        io: IoTotals {
            read_ops: row.read_ops,
            read_bytes: row.read_bytes,
            write_ops: row.write_ops,
            write_bytes: row.write_bytes,
        },
    });
    let digests = book.digest_rows().into_iter().map(|(host, header, data)| DigestRow {
        host: spool::host(host),
        header,
        data,
    });
    CounterRecord { io: io.collect(), digests: digests.collect() }
}

/// How long commands took, since the start of this process.
pub(crate) fn duration_rows(book: &CounterBook) -> Vec<DurationRow> {
    let rows = book.duration_rows().into_iter().map(|(operation, counts, sum_us)| DurationRow {
        operation: operation.to_owned(),
        bounds_us: DURATION_BOUNDS_US.to_vec(),
        counts,
        sum_us,
    });
    rows.collect()
}

/// A met host in the contract's type.
pub(crate) fn discovered_host(found: &Discovered) -> DiscoveredHost {
    let (nqn, iqn) = match &found.identity {
        Identity::Nqn(nqn) => (Some(nqn.clone()), None),
        Identity::Iqn(iqn) => (None, Some(iqn.clone())),
    };
    DiscoveredHost { id: spool::host(found.id), nqn, iqn }
}

fn discovered(host: DiscoveredHost) -> Option<Discovered> {
    let identity = host.nqn.map(Identity::Nqn).or(host.iqn.map(Identity::Iqn))?;
    Some(Discovered { id: host_id(host.id), identity })
}

fn totals(row: &PiRow) -> PiTotals {
    PiTotals {
        blocks_checked: row.checked,
        blocks_escaped: row.escaped,
        blocks_unchecked: row.unchecked,
        blocks_inserted: row.inserted,
        blocks_stripped: row.stripped,
        guard_errors: row.guard_errors,
        app_tag_errors: row.app_tag_errors,
        ref_tag_errors: row.ref_tag_errors,
        storage_tag_errors: row.storage_tag_errors,
        media_errors: row.media_errors,
    }
}

fn pi_row(totals: &PiTotals) -> PiRow {
    PiRow {
        checked: totals.blocks_checked,
        escaped: totals.blocks_escaped,
        unchecked: totals.blocks_unchecked,
        inserted: totals.blocks_inserted,
        stripped: totals.blocks_stripped,
        guard_errors: totals.guard_errors,
        app_tag_errors: totals.app_tag_errors,
        ref_tag_errors: totals.ref_tag_errors,
        storage_tag_errors: totals.storage_tag_errors,
        media_errors: totals.media_errors,
    }
}

fn io_row(row: &CounterRow) -> IoRow {
    IoRow {
        write: pi_row(&row.write),
        read: pi_row(&row.read),
        read_ops: row.io.read_ops,
        read_bytes: row.io.read_bytes,
        write_ops: row.io.write_ops,
        write_bytes: row.io.write_bytes,
    }
}

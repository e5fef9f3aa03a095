//! Counters: what went over the wire between a host and its volumes, with and without protection information.

use std::collections::{BTreeMap, HashMap};

use holdfast_contract::{CounterRow, IoTotals, PiTotals, VolumeId};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::hosts::{Owners, find};
use super::words::ObservedPolicy;
use crate::db::reports::WatchRow;
use crate::db::{Conn, volumes};
use crate::error::Result;
use crate::names::Name;

/// Counters of one host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct HostCounters {
    /// By volume name.
    pub volumes: Vec<VolumeCounters>,
    /// PDUs whose digest did not match.
    pub digest_errors: DigestErrors,
}

/// Counters of one host on one volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct VolumeCounters {
    /// Name of the volume.
    #[schema(value_type = Name)]
    pub volume: String,
    /// Write.
    pub write: PiCounters,
    /// Read, Compare and Verify.
    pub read: PiCounters,
    /// Operations and bytes.
    pub io: IoCounters,
}

/// Protection information of one direction. A block that came or left with a tuple is checked (at least one tag
/// compared), escaped, or unchecked; an inserted block is none of these; stripped counts beside them. A failed command
/// adds one to one error counter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the names are explained above")]
pub struct PiCounters {
    pub blocks_checked: u64,
    pub blocks_escaped: u64,
    pub blocks_unchecked: u64,
    pub blocks_inserted: u64,
    pub blocks_stripped: u64,
    pub guard_errors: u64,
    pub app_tag_errors: u64,
    pub ref_tag_errors: u64,
    pub storage_tag_errors: u64,
    pub media_errors: u64,
}

/// Commands completed with success, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[expect(missing_docs, reason = "the names say it")]
pub struct IoCounters {
    pub read_ops: u64,
    pub read_bytes: u64,
    pub write_ops: u64,
    pub write_bytes: u64,
}

/// Digest errors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct DigestErrors {
    /// Header digests.
    pub header: u64,
    /// Data digests.
    pub data: u64,
}

/// How much of a host's I/O on one volume was protected, as shares of all its blocks.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Coverage {
    /// Name of the volume.
    #[schema(value_type = Name)]
    pub volume: String,
    /// Blocks read and written that can be told apart.
    pub blocks: u64,
    /// With a tuple on the wire, compared.
    pub checked: f64,
    /// With a tuple on the wire, not compared: escaped, or the command asked for no check.
    pub unchecked: f64,
    /// Without a tuple on the wire: inserted or stripped by the target.
    pub inserted: f64,
}

impl PiCounters {
    fn add(&mut self, more: &PiTotals) {
        let pairs = [
            (&mut self.blocks_checked, more.blocks_checked),
            (&mut self.blocks_escaped, more.blocks_escaped),
            (&mut self.blocks_unchecked, more.blocks_unchecked),
            (&mut self.blocks_inserted, more.blocks_inserted),
            (&mut self.blocks_stripped, more.blocks_stripped),
            (&mut self.guard_errors, more.guard_errors),
            (&mut self.app_tag_errors, more.app_tag_errors),
            (&mut self.ref_tag_errors, more.ref_tag_errors),
            (&mut self.storage_tag_errors, more.storage_tag_errors),
            (&mut self.media_errors, more.media_errors),
        ];
        for (sum, more) in pairs {
            *sum = sum.saturating_add(more);
        }
    }
}

impl IoCounters {
    fn add(&mut self, more: &IoTotals) {
        let pairs = [
            (&mut self.read_ops, more.read_ops),
            (&mut self.read_bytes, more.read_bytes),
            (&mut self.write_ops, more.write_ops),
            (&mut self.write_bytes, more.write_bytes),
        ];
        for (sum, more) in pairs {
            *sum = sum.saturating_add(more);
        }
    }
}

impl App {
    /// A host's counters, those of the records merged into it included.
    pub async fn counters(&self, name: &str) -> Result<HostCounters> {
        let mut tx = self.db.read().await?;
        let row = find(&mut tx, name).await?;
        let owners = Owners::load(&mut tx).await?;
        let names = volume_names(&mut tx).await?;
        let numbers = self.telemetry.numbers();
        let rows = numbers.counters.iter().filter(|counters| owners.owner(counters.host) == row.id);
        let mut digest_errors = DigestErrors::default();
        for digests in numbers.digests.iter().filter(|digests| owners.owner(digests.host) == row.id) {
            digest_errors.header = digest_errors.header.saturating_add(digests.header);
            digest_errors.data = digest_errors.data.saturating_add(digests.data);
        }
        Ok(HostCounters { volumes: sum_by_volume(rows, &names), digest_errors })
    }
}

/// Sums rows of one host by volume name. Rows of volumes that are gone are left out.
pub(super) fn sum_by_volume<'a>(
    rows: impl Iterator<Item = &'a CounterRow>,
    names: &HashMap<VolumeId, String>,
) -> Vec<VolumeCounters> {
    let mut sums: BTreeMap<&str, VolumeCounters> = BTreeMap::new();
    for row in rows {
        let Some(name) = names.get(&row.volume) else { continue };
        let sum = sums.entry(name).or_insert_with(|| VolumeCounters {
            volume: name.clone(),
            write: PiCounters::default(),
            read: PiCounters::default(),
            io: IoCounters::default(),
        });
        sum.write.add(&row.write);
        sum.read.add(&row.read);
        sum.io.add(&row.io);
    }
    sums.into_values().collect()
}

/// Volumes that exist, by identifier.
pub(super) async fn volume_names(conn: &mut Conn) -> Result<HashMap<VolumeId, String>> {
    Ok(volumes::all(conn).await?.into_iter().map(|row| (row.id, row.name)).collect())
}

/// Blocks of a host told apart by who handled their tuple.
#[derive(Debug, Clone, Copy, Default)]
struct Blocks {
    checked: u64,
    unchecked: u64,
    by_target: u64,
}

impl Blocks {
    fn of(write: &PiCounters, read: &PiCounters) -> Self {
        // A stripped block is counted as checked, escaped or unchecked as well: the tuple was looked at, but it was
        // not on the wire.
        let read_unchecked = read.blocks_escaped.saturating_add(read.blocks_unchecked);
        let checked_stripped = read.blocks_stripped.min(read.blocks_checked);
        let unchecked_stripped = read.blocks_stripped.saturating_sub(checked_stripped).min(read_unchecked);
        Self {
            checked: write.blocks_checked.saturating_add(read.blocks_checked - checked_stripped),
            unchecked: write
                .blocks_escaped
                .saturating_add(write.blocks_unchecked)
                .saturating_add(read_unchecked - unchecked_stripped),
            by_target: write.blocks_inserted.saturating_add(read.blocks_stripped),
        }
    }

    fn total(self) -> u64 {
        self.checked.saturating_add(self.unchecked).saturating_add(self.by_target)
    }
}

/// What the target saw of a host: blocks by who handled their tuple, commands, and writes with a bad guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) by_host: u64,
    pub(super) by_target: u64,
    pub(super) operations: u64,
    pub(super) guard_errors: u64,
}

impl Seen {
    /// Over all of the host's record.
    pub(super) fn of(rows: &[&CounterRow]) -> Self {
        let (mut write, mut read, mut io) =
            (PiCounters::default(), PiCounters::default(), IoCounters::default());
        for row in rows {
            write.add(&row.write);
            read.add(&row.read);
            io.add(&row.io);
        }
        let blocks = Blocks::of(&write, &read);
        Self {
            by_host: blocks.checked.saturating_add(blocks.unchecked),
            by_target: blocks.by_target,
            operations: io.read_ops.saturating_add(io.write_ops),
            guard_errors: write.guard_errors,
        }
    }

    /// Up to when a watch began.
    pub(super) fn begun(watch: &WatchRow) -> Self {
        Self {
            by_host: watch.by_host,
            by_target: watch.by_target,
            operations: watch.operations,
            guard_errors: watch.guard_errors,
        }
    }

    /// What came after `begin`. Counters of volumes that are gone are gone, too.
    pub(super) fn since(self, begin: &Self) -> Self {
        Self {
            by_host: self.by_host.saturating_sub(begin.by_host),
            by_target: self.by_target.saturating_sub(begin.by_target),
            operations: self.operations.saturating_sub(begin.operations),
            guard_errors: self.guard_errors.saturating_sub(begin.guard_errors),
        }
    }

    /// What that says of the host's protection information.
    pub(super) fn policy(self) -> ObservedPolicy {
        match (self.by_host > 0, self.by_target > 0) {
            (true, true) => ObservedPolicy::Mixed,
            (true, false) => ObservedPolicy::EndToEnd,
            (false, true) => ObservedPolicy::Inserted,
            (false, false) if self.operations > 0 => ObservedPolicy::None,
            (false, false) => ObservedPolicy::Unknown,
        }
    }
}

/// What the target saw of a host's protection information, over all of its record.
pub(super) fn observed_policy(rows: &[&CounterRow]) -> ObservedPolicy {
    Seen::of(rows).policy()
}

/// How much of a host's I/O was protected, by volume.
pub(super) fn coverage(rows: &[&CounterRow], names: &HashMap<VolumeId, String>) -> Vec<Coverage> {
    sum_by_volume(rows.iter().copied(), names)
        .into_iter()
        .map(|sum| {
            let blocks = Blocks::of(&sum.write, &sum.read);
            let total = blocks.total();
            Coverage {
                volume: sum.volume,
                blocks: total,
                checked: share(blocks.checked, total),
                unchecked: share(blocks.unchecked, total),
                inserted: share(blocks.by_target, total),
            }
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "a share for people")]
fn share(part: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { part as f64 / total as f64 }
}

#[cfg(test)]
mod tests {
    use holdfast_contract::HostId;

    use super::*;

    fn row(write: PiTotals, read: PiTotals, io: IoTotals) -> CounterRow {
        CounterRow { host: HostId::new(1).unwrap(), volume: VolumeId::new(1).unwrap(), write, read, io }
    }

    #[test]
    fn policy_is_read_off_the_counters() {
        let inserted = row(
            PiTotals { blocks_inserted: 4, ..PiTotals::default() },
            PiTotals { blocks_checked: 4, blocks_stripped: 4, ..PiTotals::default() },
            IoTotals { write_ops: 1, read_ops: 1, ..IoTotals::default() },
        );
        let end_to_end = row(
            PiTotals { blocks_checked: 4, ..PiTotals::default() },
            PiTotals { blocks_checked: 4, ..PiTotals::default() },
            IoTotals { write_ops: 1, read_ops: 1, ..IoTotals::default() },
        );
        let bare =
            row(PiTotals::default(), PiTotals::default(), IoTotals { write_ops: 1, ..IoTotals::default() });
        assert_eq!(observed_policy(&[]), ObservedPolicy::Unknown);
        assert_eq!(observed_policy(&[&inserted]), ObservedPolicy::Inserted);
        assert_eq!(observed_policy(&[&end_to_end]), ObservedPolicy::EndToEnd);
        assert_eq!(observed_policy(&[&end_to_end, &inserted]), ObservedPolicy::Mixed);
        assert_eq!(observed_policy(&[&bare]), ObservedPolicy::None);
    }

    #[test]
    fn shares_add_up_and_gone_volumes_are_left_out() {
        let mixed = row(
            PiTotals { blocks_checked: 2, blocks_unchecked: 1, blocks_inserted: 1, ..PiTotals::default() },
            PiTotals { blocks_checked: 4, blocks_stripped: 4, ..PiTotals::default() },
            IoTotals::default(),
        );
        let names = HashMap::from([(VolumeId::new(1).unwrap(), "v".to_owned())]);
        let shares = coverage(&[&mixed], &names);
        assert_eq!(shares.len(), 1);
        assert_eq!((shares[0].blocks, shares[0].checked, shares[0].unchecked), (8, 0.25, 0.125));
        assert_eq!(shares[0].inserted, 0.625);
        assert!(coverage(&[&mixed], &HashMap::new()).is_empty());
    }
}

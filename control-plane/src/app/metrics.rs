//! Everything that `/metrics` shows, taken at one moment.

use std::collections::BTreeMap;

use holdfast_contract::{CounterRow, DurationRow, HostId, Transport};

use super::counters::{DigestErrors, VolumeCounters, sum_by_volume, volume_names};
use super::hosts::Owners;
use super::page::{LIMIT_MAX, PageQuery};
use super::pools::Pool;
use super::{App, Sync};
use crate::db::hosts;
use crate::error::Result;

/// Figures of one moment.
#[derive(Debug)]
pub struct Figures {
    /// Counters by host name, then volume name.
    pub counters: Vec<(String, Vec<VolumeCounters>)>,
    /// Digest errors by host name.
    pub digests: Vec<(String, DigestErrors)>,
    /// Open sessions by transport.
    pub sessions: Vec<(&'static str, u64)>,
    /// Pools, the first thousand.
    pub pools: Vec<Pool>,
    /// How long commands took.
    pub durations: Vec<DurationRow>,
    /// Incidents that found no room in the target's spool.
    pub incidents_dropped: u64,
    /// Whether the target runs what is wanted.
    pub target_up: bool,
    /// Resident memory of the target, its pools included; none while it is away.
    pub target_resident_bytes: Option<u64>,
}

impl App {
    /// Takes the figures of this moment.
    pub async fn figures(&self) -> Result<Figures> {
        let pools = self.pools(&PageQuery { limit: LIMIT_MAX, after: None }).await?.items;
        let mut tx = self.db.read().await?;
        let owners = Owners::load(&mut tx).await?;
        let volumes = volume_names(&mut tx).await?;
        let numbers = self.telemetry.numbers();
        let mut rows: BTreeMap<HostId, Vec<&CounterRow>> = BTreeMap::new();
        for row in &numbers.counters {
            rows.entry(owners.owner(row.host)).or_default().push(row);
        }
        let mut errors: BTreeMap<HostId, DigestErrors> = BTreeMap::new();
        for row in &numbers.digests {
            let sum = errors.entry(owners.owner(row.host)).or_default();
            sum.header = sum.header.saturating_add(row.header);
            sum.data = sum.data.saturating_add(row.data);
        }
        let (mut counters, mut digests) = (Vec::new(), Vec::new());
        for host in hosts::all(&mut tx).await? {
            if let Some(rows) = rows.get(&host.id) {
                counters.push((host.name.clone(), sum_by_volume(rows.iter().copied(), &volumes)));
            }
            digests.push((host.name, errors.get(&host.id).copied().unwrap_or_default()));
        }
        let observed = self.telemetry.observed();
        let count = |transport: Transport| {
            let sessions = observed.iter().flat_map(|state| &state.sessions);
            u64::try_from(sessions.filter(|session| session.transport == transport).count())
                .unwrap_or(u64::MAX)
        };
        Ok(Figures {
            counters,
            digests,
            sessions: vec![("nvme-tcp", count(Transport::NvmeTcp)), ("iscsi", count(Transport::Iscsi))],
            pools,
            durations: observed.as_ref().map(|state| state.durations.clone()).unwrap_or_default(),
            incidents_dropped: numbers.incidents_dropped,
            target_up: *self.sync().borrow() == Sync::InSync,
            target_resident_bytes: observed.as_ref().map(|state| state.resident_bytes),
        })
    }
}

//! Writes down, once a second and only what has changed, what a kill may take: counters, met hosts, events, incidents.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_contract::DiscoveredHost;

use crate::events::EventRecord;
use crate::faults::FaultReceiver;
use crate::record::{self, CounterRecord, Records};
use crate::shard::Shared;
use crate::spool::Spool;

/// How much of the record a kill may lose.
const WRITE_EVERY: Duration = Duration::from_millis(900);

/// The spool, shared between the keeper and the admin socket.
pub(crate) type SharedSpool = Arc<Mutex<Spool>>;

/// What was written last.
pub(crate) struct Keeper {
    records: Records,
    shared: Shared,
    spool: SharedSpool,
    counters: CounterRecord,
    hosts: Vec<DiscoveredHost>,
    events: EventRecord,
}

impl Keeper {
    /// A keeper that starts from what was read.
    pub(crate) fn new(records: Records, shared: Shared, spool: SharedSpool, counters: CounterRecord) -> Self {
        let hosts = shared.hosts.discovered().iter().map(record::discovered_host).collect();
        // Written at once: that the target has started is an event of its own.
        Keeper { records, shared, spool, counters, hosts, events: EventRecord::default() }
    }

    /// Collects reports and writes, until the cores are gone; then writes once more.
    pub(crate) fn run(mut self, faults: &FaultReceiver) {
        loop {
            let going = faults.drain(WRITE_EVERY, |report| lock(&self.spool).add(report));
            lock(&self.spool).add_dropped(faults.take_dropped());
            self.write();
            if !going {
                return;
            }
        }
    }

    fn write(&mut self) {
        let counters = record::counter_record(&self.shared.counters);
        if counters != self.counters {
            match self.records.write_counters(&counters) {
                Ok(()) => self.counters = counters,
                Err(error) => tracing::error!(%error, "cannot write the counters down"),
            }
        }
        let hosts: Vec<DiscoveredHost> =
            self.shared.hosts.discovered().iter().map(record::discovered_host).collect();
        if hosts != self.hosts {
            match self.records.write_hosts(&hosts) {
                Ok(()) => self.hosts = hosts,
                Err(error) => tracing::error!(%error, "cannot write the new hosts down"),
            }
        }
        let events = EventRecord::of(&self.shared.directory);
        if events != self.events {
            match self.records.write_events(&events) {
                Ok(()) => self.events = events,
                Err(error) => tracing::error!(%error, "cannot write the persistent events down"),
            }
        }
        let incidents = lock(&self.spool).take_changed();
        if let Some(incidents) = incidents
            && let Err(error) = self.records.write_incidents(&incidents)
        {
            tracing::error!(%error, "cannot write the incidents down");
        }
    }
}

/// The spool, whatever happened to another holder of the lock.
pub(crate) fn lock(spool: &SharedSpool) -> MutexGuard<'_, Spool> {
    spool.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Power cuts, clean ends, and what goes wrong with the device.

use std::collections::BTreeMap;
use std::rc::Rc;

use holdfast_block::VolumeId;
use holdfast_store::Stores;
use holdfast_store::disk::DiskPool;
use holdfast_store::disk::check::{CheckOptions, Severity, check};
use holdfast_store::disk::io::DiskError;

use super::{ChangeKind, LIMITS, World, pool_id, uuid};
use crate::classes::{self, Class};
use crate::faults::Faults;
use crate::scenario::Trouble;

/// Power cuts in the middle of one recovery at most.
const RECOVERY_CUTS_MAX: u64 = 3;

impl World {
    /// Switches on what goes wrong in this run.
    pub(super) fn start_trouble(&mut self) {
        let data = self.layout.data_first()..self.layout.slots();
        let chance = self.rng.between(1, 12);
        let none = Faults::default();
        let faults = match self.scenario.trouble {
            Trouble::Nothing | Trouble::Rot => none,
            Trouble::DataWriteErrors => Faults { only: data, write_error: chance, ..none },
            Trouble::WriteErrors => {
                let error = *self.rng.pick(&[DiskError::Io, DiskError::NoSpace]);
                Faults { write_error: 1 + chance / 4, write_error_is: Some(error), ..none }
            }
            Trouble::FlushErrors => {
                Faults { flush_error: 10 * chance, flush_drops: self.rng.chance(500), ..none }
            }
            Trouble::Gone => none,
            Trouble::ReadErrors => Faults { read_error: chance, unreadable: self.some_slots(3), ..none },
            Trouble::ReadsElsewhere => Faults { read_elsewhere: chance, ..none },
            Trouble::LostDataWrites => {
                Faults { only: data, write_lost: chance / 4, write_elsewhere: chance / 4, ..none }
            }
            Trouble::LostWrites => Faults { write_lost: 1 + chance / 6, write_elsewhere: chance / 6, ..none },
        };
        self.disk.set_faults(faults);
        self.gone_after = (self.scenario.trouble == Trouble::Gone).then(|| self.rng.below(400));
    }

    fn some_slots(&mut self, at_most: u64) -> std::collections::BTreeSet<u64> {
        let used = self.disk.used_slots();
        let count = self.rng.below(at_most + 1);
        let data: Vec<u64> = used.into_iter().filter(|slot| self.layout.is_data(*slot)).collect();
        if data.is_empty() {
            return Default::default();
        }
        (0..count).map(|_| *self.rng.pick(&data)).collect()
    }

    /// The device is not there any more.
    pub(super) fn go_away(&mut self) {
        self.disk.with_faults(|faults| faults.gone = true);
    }

    /// Closes the pool as it should be: after that, everything is durable.
    pub(super) fn close(&mut self) -> Result<(), String> {
        self.settle()?;
        self.stores.disk_pool_mut(pool_id()).ok_or("no pool")?.close();
        for _ in 0..10_000 {
            self.pump()?;
            if self.stores.disk_pool(pool_id()).is_some_and(|pool| pool.is_closed()) {
                let now = self.model.now();
                let volumes: Vec<u64> = self.model.present().map(|spec| spec.id.get()).collect();
                volumes.into_iter().for_each(|id| self.model.flushed(id, now));
                for change in std::mem::take(&mut self.changes) {
                    self.model.change_is_durable(change.volume, change.since);
                }
                self.closed = true;
                return Ok(());
            }
            self.end_one()?;
        }
        Err("a pool that nobody uses does not close".to_owned())
    }

    /// The power fails, comes back, and everything must be as it may be.
    pub(super) fn crash_and_recover(&mut self) -> Result<(), String> {
        let mut under_way = self.under_way();
        self.stores = Stores::new();
        self.pending.clear();
        self.held.clear();
        self.changes.clear();
        self.stopped = false;
        self.closed = false;
        let fates = self.disk.crash();
        let [a, b, c, d, e, f, g, h, ..] = uuid(self.scenario.seed);
        let tag = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        under_way.extend(classes::of_fates(&self.layout, tag, &fates));
        self.tally.count(&under_way);
        self.disk.set_faults(Faults::default());
        self.damage_medium();
        self.check_offline(Severity::Warning)?;
        let Some(pool) = self.recover()? else {
            self.refused = true;
            return Ok(());
        };
        self.check_offline(Severity::Note)?;
        self.stores.add_disk_pool(0, pool).map_err(|error| error.to_string())?;
        self.verify()
    }

    /// The offline check finds nothing worse than this on a device that has damaged nothing.
    fn check_offline(&mut self, worst: Severity) -> Result<(), String> {
        if self.scenario.trouble.damages_for_good() || !self.rng.chance(300) {
            return Ok(());
        }
        let report =
            check(&self.disk, CheckOptions { data: true }, &mut |_| {}).map_err(|error| error.to_string())?;
        if report.worst.is_none_or(|found| found <= worst) {
            return Ok(());
        }
        let findings: Vec<_> = report.findings.iter().filter(|finding| finding.severity > worst).collect();
        Err(format!("the offline check finds {findings:?}"))
    }

    /// What a crash now would interrupt.
    fn under_way(&self) -> Vec<Class> {
        let mut classes = Vec::new();
        let changing = |kind| self.changes.iter().any(|change| change.kind == kind);
        let journal = self.layout.journal_first()..self.layout.data_first();
        let conditions = [
            (Class::MidCheckpoint, self.is_in_checkpoint()),
            (Class::MidDelete, changing(ChangeKind::Delete)),
            (Class::MidGrow, changing(ChangeKind::Grow)),
            (Class::AfterWrap, journal.clone().any(|slot| self.disk.times_written(slot) > 1)),
            (Class::JournalFull, self.is_journal_full()),
            (Class::NearlyFull, self.is_nearly_full()),
            (Class::Closed, self.closed),
        ];
        classes.extend(conditions.into_iter().filter(|(_, so)| *so).map(|(class, _)| class));
        classes
    }

    /// Opens the pool, though the power may fail again while that goes on. `None`: it was refused, for a reason.
    fn recover(&mut self) -> Result<Option<DiskPool<Vec<u8>>>, String> {
        let mut cuts = if self.rng.chance(400) { self.rng.between(1, RECOVERY_CUTS_MAX) } else { 0 };
        loop {
            if cuts > 0 {
                let limit = *self.rng.pick(&[8, 80, 300]);
                let after = self.rng.between(1, limit);
                self.disk.lose_power_after(Some(after));
            }
            let arena = vec![0; self.scenario.arena_bytes];
            let opened = DiskPool::open(&self.disk, arena, LIMITS, &mut |_| {});
            if let Some(violation) = self.disk.violation() {
                return Err(violation);
            }
            let dark = self.disk.is_dark();
            match opened {
                Ok(pool) if !dark => {
                    self.disk.lose_power_after(None);
                    return Ok(Some(pool));
                }
                _ if dark => {
                    self.disk.crash();
                    self.tally.count(&[Class::MidRecovery]);
                    cuts -= 1;
                }
                Ok(_) => return Err("a pool was opened on a device without power".to_owned()),
                Err(_) if self.scenario.trouble.may_refuse() => return Ok(None),
                Err(error) => return Err(format!("the pool cannot be opened: {error}")),
            }
        }
    }

    /// Bits change while nobody looks.
    fn damage_medium(&mut self) {
        if self.scenario.trouble == Trouble::ReadErrors {
            let unreadable = self.some_slots(2);
            self.disk.set_faults(Faults { unreadable, ..Faults::default() });
        }
        if self.scenario.trouble != Trouble::Rot {
            return;
        }
        let used = self.disk.used_slots();
        for _ in 0..self.rng.skewed(8) {
            // Any slot, but at most one superblock: both at once are more than any pool can bear.
            let slot = *self.rng.pick(&used);
            if slot == 0 {
                continue;
            }
            let mut bytes = *self.disk.slot(slot);
            match self.rng.below(3) {
                0 => bytes[self.rng.below(4096) as usize] ^= 1 << self.rng.below(8),
                1 => {
                    let sector = self.rng.below(8) as usize * 512;
                    bytes[sector..sector + 512].fill(self.rng.next() as u8);
                }
                _ => {
                    let other = *self.rng.pick(&used);
                    bytes = *self.disk.slot(other);
                }
            }
            self.disk.overwrite(slot, Rc::new(bytes));
        }
    }

    /// The volumes that a recovery has found.
    pub(super) fn volumes_found(&self) -> BTreeMap<u64, holdfast_store::VolumeSpec> {
        let volumes = self.stores.volumes().map(|(_, state)| (state.spec.id.get(), state.spec));
        volumes.collect()
    }

    pub(super) fn usage_of(&self, volume: u64) -> u64 {
        use holdfast_block::Store as _;
        let usage = VolumeId::new(volume).and_then(|id| self.stores.usage(id));
        usage.map_or(0, |usage| usage.bytes_allocated)
    }
}

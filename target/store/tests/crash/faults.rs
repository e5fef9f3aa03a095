//! What goes wrong on a simulated device, besides power cuts: drawn from its seed, and remembered, so that the verdict can
//! tell what was damaged.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::rng::Rng;
use holdfast_store::disk::io::DiskError;

/// What goes wrong. Chances are in a thousand, for each slot of an operation.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Slots that this is about; empty: all.
    pub(crate) only: Range<u64>,
    /// Writes that are reported and never done.
    pub(crate) write_lost: u64,
    /// Writes that end up in another slot.
    pub(crate) write_elsewhere: u64,
    /// Writes that fail; any of their sectors may have been written.
    pub(crate) write_error: u64,
    /// What those fail with.
    pub(crate) write_error_is: Option<DiskError>,
    /// Reads that return another slot.
    pub(crate) read_elsewhere: u64,
    /// Reads that fail once.
    pub(crate) read_error: u64,
    /// Slots that cannot be read before they are written again.
    pub(crate) unreadable: BTreeSet<u64>,
    /// Flushes that fail.
    pub(crate) flush_error: u64,
    /// A failed flush takes what was in the cache.
    pub(crate) flush_drops: bool,
    /// The device is not there any more, until the power comes back.
    pub(crate) gone: bool,
    /// What has happened.
    pub(crate) happened: Happened,
}

/// Faults so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Happened {
    pub(crate) damaged_slots: u64,
    pub(crate) reads_elsewhere: u64,
    pub(crate) read_errors: u64,
    pub(crate) write_errors: u64,
    pub(crate) flush_errors: u64,
}

pub(crate) enum ReadFate {
    Good,
    Elsewhere(u64),
    Error(DiskError),
}

pub(crate) enum WriteFate {
    Good,
    Lost,
    Elsewhere(u64),
    Error(DiskError),
}

impl Faults {
    fn concerns(&self, slot: u64) -> bool {
        self.only.is_empty() || self.only.contains(&slot)
    }

    pub(crate) fn read(&mut self, slot: u64, slots: u64, rng: &mut Rng) -> ReadFate {
        if self.gone {
            return ReadFate::Error(DiskError::Gone);
        }
        if self.unreadable.contains(&slot) || (self.concerns(slot) && rng.chance(self.read_error)) {
            self.happened.read_errors += 1;
            return ReadFate::Error(DiskError::Io);
        }
        if self.concerns(slot) && rng.chance(self.read_elsewhere) {
            self.happened.reads_elsewhere += 1;
            return ReadFate::Elsewhere(self.other(slots, rng));
        }
        ReadFate::Good
    }

    pub(crate) fn write(&mut self, slot: u64, slots: u64, rng: &mut Rng) -> WriteFate {
        if self.gone {
            return WriteFate::Error(DiskError::Gone);
        }
        if !self.concerns(slot) {
            return WriteFate::Good;
        }
        if rng.chance(self.write_error) {
            self.happened.write_errors += 1;
            return WriteFate::Error(self.write_error_is.unwrap_or(DiskError::Io));
        }
        if rng.chance(self.write_lost) {
            self.happened.damaged_slots += 1;
            return WriteFate::Lost;
        }
        if rng.chance(self.write_elsewhere) {
            self.happened.damaged_slots += 2;
            return WriteFate::Elsewhere(self.other(slots, rng));
        }
        self.unreadable.remove(&slot);
        WriteFate::Good
    }

    /// Whether a flush fails, and whether it takes the cache with it.
    pub(crate) fn flush(&mut self, rng: &mut Rng) -> Option<(DiskError, bool)> {
        if self.gone {
            return Some((DiskError::Gone, false));
        }
        if !rng.chance(self.flush_error) {
            return None;
        }
        self.happened.flush_errors += 1;
        Some((DiskError::Io, self.flush_drops))
    }

    pub(crate) fn power_is_back(&mut self) {
        self.gone = false;
    }

    fn other(&self, slots: u64, rng: &mut Rng) -> u64 {
        let Range { start, end } = if self.only.is_empty() { 0..slots } else { self.only.clone() };
        start + rng.below(end - start)
    }
}

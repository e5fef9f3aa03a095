//! What hosts are told, held against what they may be told.

use std::ops::Range;

use holdfast_block::{BlockRecord, Lba, SlotRef, Store as _, StoreDone, StoreError, VolumeId};

use super::{Ask, Held, Pending, World, pool_id};
use crate::content::{Address, Found, What};
use crate::model::Time;
use crate::rng::mix;

/// Reads whose blocks stay pinned for a while.
const HELD_MAX: usize = 4;

impl World {
    /// An operation has ended.
    pub(super) fn done(&mut self, done: StoreDone) -> Result<(), String> {
        let StoreDone { token, slots, result, .. } = done;
        let pending =
            self.pending.remove(&token).ok_or_else(|| format!("{token} ended and was not under way"))?;
        self.digest = mix(self.digest ^ u64::from(token) << 1 ^ u64::from(result.is_ok()));
        self.note_health();
        let Pending { volume, range, order, ask } = pending;
        match ask {
            Ask::Publish { what, durable, surely_there } => {
                self.write_ended(volume, &range, order, durable, surely_there, result)?;
                if result.is_ok() && what == What::Marked {
                    self.forget_damage(volume, &range);
                }
                Ok(())
            }
            // What a deallocation that failed has emptied, it has.
            Ask::Trim if result == Err(StoreError::WriteFault) && self.scenario.trouble.fails_writes() => {
                Ok(())
            }
            Ask::Trim => self.write_ended(volume, &range, order, false, true, result),
            Ask::Flush => self.flush_ended(volume, order, result),
            Ask::Read { floors } => self.read_ended(volume, &range, &floors, slots, result),
            Ask::Verify => self.verify_ended(volume, range, slots, result),
        }
    }

    pub(super) fn note_health(&mut self) {
        let health = self.stores.disk_pool(pool_id()).map(|pool| pool.health());
        self.stopped |= matches!(health, Some(holdfast_store::disk::Health::Failed(_)));
    }

    fn write_ended(
        &mut self,
        volume: u64,
        range: &Range<u64>,
        order: Time,
        durable: bool,
        surely_there: bool,
        result: Result<(), StoreError>,
    ) -> Result<(), String> {
        match result {
            Ok(()) => {
                self.model.acknowledge(volume, range, order, durable);
                self.forget_damage(volume, range);
                Ok(())
            }
            Err(StoreError::NoRoom) if !surely_there || self.scenario.trouble.damages() => {
                self.model.withdraw(volume, range, order);
                Ok(())
            }
            Err(StoreError::NoVolume) if self.is_deleted(volume) => Ok(()),
            Err(StoreError::WriteFault) if self.scenario.trouble.fails_writes() => {
                if !self.stopped {
                    self.model.fail(volume, range, order);
                }
                Ok(())
            }
            Err(error) => Err(format!("a write of {range:?} of volume {volume}: {error}")),
        }
    }

    fn flush_ended(
        &mut self,
        volume: u64,
        order: Time,
        result: Result<(), StoreError>,
    ) -> Result<(), String> {
        match result {
            Ok(()) => {
                self.model.flushed(volume, order);
                Ok(())
            }
            Err(StoreError::NoVolume) if self.is_deleted(volume) => Ok(()),
            Err(StoreError::WriteFault) if self.stopped => Ok(()),
            Err(error) => Err(format!("a flush of volume {volume}: {error}")),
        }
    }

    /// Nobody who asks for the volume finds it.
    fn is_deleted(&self, volume: u64) -> bool {
        self.model.volume(volume).is_none_or(|volume| volume.spec().is_none())
    }

    fn read_ended(
        &mut self,
        volume: u64,
        range: &Range<u64>,
        floors: &[Time],
        slots: Vec<SlotRef>,
        result: Result<(), StoreError>,
    ) -> Result<(), String> {
        match result {
            Ok(()) => {
                if slots.len() as u64 != range.end - range.start {
                    return Err(format!("a read of {range:?} gave {} blocks", slots.len()));
                }
                self.check_blocks(volume, range, floors, &slots)?;
                self.hold(volume, slots)
            }
            Err(StoreError::Uncorrectable(Lba(lba))) if range.contains(&lba) => {
                let floor = floors[(lba - range.start) as usize];
                let at = Address { volume, lba };
                if self.is_deleted(volume) {
                    return Ok(());
                }
                self.model.read(at, floor, &Found::Marked, &mut self.scratch).map(|_| ())
            }
            Err(StoreError::Media(Lba(lba)) | StoreError::ReadFault(Lba(lba)))
                if self.may_be_damaged(volume, lba) && range.contains(&lba) =>
            {
                self.damaged.insert((volume, lba));
                Ok(())
            }
            Err(StoreError::NoVolume) if self.is_deleted(volume) => Ok(()),
            Err(error) => Err(format!("a read of {range:?} of volume {volume}: {error}")),
        }
    }

    fn check_blocks(
        &mut self,
        volume: u64,
        range: &Range<u64>,
        floors: &[Time],
        slots: &[SlotRef],
    ) -> Result<(), String> {
        if self.is_deleted(volume) {
            return Ok(());
        }
        let id = VolumeId::new(volume).ok_or("a volume without a number")?;
        let mut orders = Vec::with_capacity(slots.len());
        for ((lba, slot), floor) in range.clone().zip(slots).zip(floors) {
            let at = Address { volume, lba };
            let found =
                Found::Block { data: self.stores.data(id, *slot), record: self.stores.record(id, *slot) };
            orders.push(self.model.read(at, *floor, &found, &mut self.scratch)?);
        }
        self.check_whole(range, &orders)
    }

    /// A read finds all of a write or nothing of it.
    fn check_whole(&self, range: &Range<u64>, orders: &[Time]) -> Result<(), String> {
        let publishes = self.pending.values().filter(|pending| matches!(pending.ask, Ask::Publish { .. }));
        for Pending { range: written, order, .. } in publishes {
            let common = range.start.max(written.start)..range.end.min(written.end);
            let mut found = common.clone().map(|lba| orders[(lba - range.start) as usize]);
            if found.clone().any(|found| found == *order) && found.any(|found| found < *order) {
                return Err(format!(
                    "a read of {range:?} found only a part of the write of {written:?} at {order}"
                ));
            }
        }
        Ok(())
    }

    /// Whether the device's faults may have reached a block.
    pub(super) fn may_be_damaged(&self, _volume: u64, _lba: u64) -> bool {
        self.scenario.trouble.damages()
    }

    fn forget_damage(&mut self, volume: u64, range: &Range<u64>) {
        if !self.damaged.is_empty() {
            range.clone().for_each(|lba| {
                self.damaged.remove(&(volume, lba));
            });
        }
    }

    /// Keeps what was read pinned, to look at it again later.
    fn hold(&mut self, volume: u64, slots: Vec<SlotRef>) -> Result<(), String> {
        let sums = self.sums(volume, &slots);
        self.held.push(Held { volume, slots, sums });
        if self.held.len() > HELD_MAX { self.let_go() } else { Ok(()) }
    }

    /// Unpins what was read some time ago: it must not have changed.
    pub(super) fn let_go(&mut self) -> Result<(), String> {
        if self.held.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.held.len() as u64) as usize;
        let Held { volume, slots, sums } = self.held.swap_remove(at);
        if self.sums(volume, &slots) != sums {
            return Err(format!("blocks of volume {volume} changed while they were pinned"));
        }
        if let Some(id) = VolumeId::new(volume) {
            self.stores.unpin(id, &slots);
        }
        Ok(())
    }

    fn sums(&self, volume: u64, slots: &[SlotRef]) -> Vec<u64> {
        let Some(id) = VolumeId::new(volume) else { return Vec::new() };
        let sum = |slot: &SlotRef| {
            let BlockRecord { tuple, .. } = self.stores.record(id, *slot);
            let words = self.stores.data(id, *slot).unwrap_or_default().chunks_exact(8);
            let words = words.chain(tuple.chunks_exact(8));
            words.fold(0, |sum, word| mix(sum ^ u64::from_le_bytes(word.try_into().unwrap())))
        };
        slots.iter().map(sum).collect()
    }
}

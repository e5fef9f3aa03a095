//! Everything is read after a recovery, and is from then on what it was found to be.

use std::ops::Range;

use holdfast_block::{Lba, SlotRef, Store as _, StoreError, VolumeId};

use super::{Ask, World};
use crate::content::{Address, Found, What};

/// Blocks that are read at once.
const CHUNK: u64 = 64;

impl World {
    /// Every block is what it may be, and counted right.
    pub(super) fn verify(&mut self) -> Result<(), String> {
        let found = self.volumes_found();
        self.model.settle_volumes(&found).or_else(|error| self.forgive(error))?;
        if self.refused {
            return Ok(());
        }
        self.damaged.retain(|(volume, lba)| found.get(volume).is_some_and(|spec| *lba < spec.block_count));
        let damaged_before = self.damaged.len();
        self.there.clear();
        for (id, spec) in &found {
            for start in (0..spec.block_count).step_by(CHUNK as usize) {
                let range = start..(start + CHUNK).min(spec.block_count);
                self.read(*id, range, Ask::Verify);
                self.settle()?;
            }
        }
        if self.damaged.len() > damaged_before || !self.damaged.is_empty() {
            return Ok(());
        }
        for (id, spec) in &found {
            let per_cell = 4096 / spec.block_len as u64;
            let cells = self.there.range((*id, 0)..(*id + 1, 0)).count() as u64;
            let counted = self.usage_of(*id);
            if counted != cells * 4096 {
                return Err(format!(
                    "volume {id} has {cells} cells of {per_cell} blocks, and is said to use {counted}"
                ));
            }
        }
        Ok(())
    }

    /// Where the device may have lost journal blocks, changes of volumes may be lost with them.
    fn forgive(&mut self, error: String) -> Result<(), String> {
        if !self.scenario.trouble.brings_back() {
            return Err(error);
        }
        self.refused = true;
        Ok(())
    }

    pub(super) fn verify_ended(
        &mut self,
        volume: u64,
        range: Range<u64>,
        slots: Vec<SlotRef>,
        result: Result<(), StoreError>,
    ) -> Result<(), String> {
        let id = VolumeId::new(volume).ok_or("a volume without a number")?;
        match result {
            Ok(()) => {
                for (lba, slot) in range.zip(&slots) {
                    let data = self.stores.data(id, *slot);
                    let found = Found::Block { data, record: self.stores.record(id, *slot) };
                    let what = self.model.settle(Address { volume, lba }, &found, &mut self.scratch)?;
                    self.note(volume, lba, what);
                }
                self.stores.unpin(id, &slots);
                Ok(())
            }
            Err(StoreError::Uncorrectable(_) | StoreError::Media(_) | StoreError::ReadFault(_))
                if range.end - range.start > 1 =>
            {
                range.for_each(|lba| self.read(volume, lba..lba + 1, Ask::Verify));
                Ok(())
            }
            Err(StoreError::Uncorrectable(Lba(lba))) if range.contains(&lba) => {
                let what = self.model.settle(Address { volume, lba }, &Found::Marked, &mut self.scratch)?;
                self.note(volume, lba, what);
                Ok(())
            }
            Err(StoreError::Media(Lba(lba)) | StoreError::ReadFault(Lba(lba)))
                if self.scenario.trouble.damages_for_good() && range.contains(&lba) =>
            {
                self.damaged.insert((volume, lba));
                self.model.leave_open(Address { volume, lba });
                Ok(())
            }
            Err(error) => Err(format!("block {range:?} of volume {volume} after a recovery: {error}")),
        }
    }

    /// Remembers which cells have something.
    fn note(&mut self, volume: u64, lba: u64, what: What) {
        if what != What::Hole {
            let id = VolumeId::new(volume);
            let geometry = id.and_then(|id| self.stores.geometry(id));
            let per_cell = geometry.map_or(1, |geometry| 4096 / geometry.block_len as u64);
            self.there.insert((volume, lba / per_cell));
        }
    }
}

//! The journal as recovery reads it: where it ends, what of it is durable, and what it adds to the checkpoint.

use super::found::{Found, volume_of};
use super::{OpenPoolError, OpeningProgress, READ_SLOTS};
use crate::disk::format::{
    CellRef, JournalBlock, JournalError, Layout, Record, SLOT_LEN, Superblock, VolumeEntry, WINDOW,
};
use crate::disk::io::{Device, DiskError};
use crate::memory::VolumeIndex;

impl Found {
    /// Replays the journal. Tells whether what was found has to be kept by a checkpoint before the pool serves.
    pub(super) fn replay(
        &mut self,
        device: &impl Device,
        superblock: &Superblock,
        progress: &mut dyn FnMut(OpeningProgress),
    ) -> Result<bool, OpenPoolError> {
        let journal = Journal { device, layout: self.layout, tag: superblock.journal_tag() };
        let survey = journal.survey(superblock)?;
        if let Some(last) = survey.last {
            let mut blocks = 0;
            journal.visit(superblock.journal_start, last, &mut |block| {
                self.replay_block(device, block, survey.durable)?;
                blocks += 1;
                progress(OpeningProgress::Journal { blocks });
                Ok(())
            })?;
        }
        if superblock.clean && superblock.journal_start == superblock.next_number && survey.highest.is_none()
        {
            return Ok(false);
        }
        // Blocks of before, also those behind the end of the log and those that come to light later, must not be taken for new
        // ones.
        let above = survey.highest.map_or(self.next_number, |highest| self.next_number.max(highest + 1));
        self.next_number = above + WINDOW;
        if holdfast_mutant::active("store-hole-ends-log") {
            self.next_number = survey.last.map_or(superblock.journal_start, |last| last + 1);
        }
        Ok(true)
    }

    fn replay_block(
        &mut self,
        device: &impl Device,
        block: &JournalBlock<'_>,
        durable: u64,
    ) -> Result<(), OpenPoolError> {
        for record in block.records() {
            let at = record.volume().and_then(VolumeIndex::from_u32);
            match record {
                Record::Writer { index, host } => self.writers.load(index, host),
                Record::PutVolume { entry, .. } => {
                    if let Some(at) = at {
                        self.put_volume(at, &entry);
                    }
                }
                Record::DeleteVolume { id, .. } => {
                    let there =
                        at.filter(|at| self.volumes.get(*at).is_some_and(|volume| volume.spec.id == id));
                    if let Some(at) = there {
                        self.tree.detach(at, 0);
                        self.volumes.load(at, None);
                    }
                }
                Record::Trim { first_cell, cells, .. } => {
                    if let Some(at) = at.filter(|_| !holdfast_mutant::active("store-trim-not-replayed")) {
                        let end = first_cell.saturating_add(cells);
                        self.tree.trim(at, first_cell..end, 0, &mut |_| ());
                    }
                }
                Record::Cells { .. } => {
                    let Some((at, volume)) = at.and_then(|at| Some((at, self.volumes.get(at)?))) else {
                        continue;
                    };
                    let (id, cells) = (volume.spec.id.get(), volume.shape.cells_of(volume.spec.block_count));
                    for (cell, image) in record.cells().filter(|(cell, _)| *cell < cells) {
                        let sure = block.number() <= durable || image.slot() == 0;
                        let data =
                            if sure { Data::There } else { find(device, &self.layout, id, cell, image)? };
                        match data {
                            Data::There => drop(self.tree.set(at, cell, image.bytes())),
                            Data::NotThere => {}
                            Data::Unreadable => self.tree.lose_cell(at, cell),
                        }
                    }
                }
            }
        }
        // What was detached has no slots to give back: what is free is found out when all is known.
        while self.tree.has_detached() {
            self.tree.reap(usize::MAX, &mut |_, _| ());
        }
        Ok(())
    }

    fn put_volume(&mut self, at: VolumeIndex, entry: &VolumeEntry) {
        match self.volumes.get_mut(at).filter(|volume| volume.spec.id == entry.id) {
            Some(_) if holdfast_mutant::active("store-growth-not-replayed") => {}
            Some(volume) => {
                volume.spec.block_count = entry.block_count;
                self.tree.grow(at, entry.cells());
            }
            None => {
                self.tree.add(at, entry.shape, entry.cells());
                self.volumes.load(at, Some(volume_of(entry)));
            }
        }
    }
}

/// What became of the data of a cell.
enum Data {
    There,
    /// It never became durable: what was before counts.
    NotThere,
    /// It may have been flushed: nobody knows what counts.
    Unreadable,
}

/// Looks whether the data of a cell is on the device as its image says.
fn find(
    device: &impl Device,
    layout: &Layout,
    volume_id: u64,
    cell: u64,
    image: CellRef<'_>,
) -> Result<Data, OpenPoolError> {
    if holdfast_mutant::active("store-replay-without-checksum") {
        return Ok(Data::There);
    }
    if !layout.is_data(image.slot()) {
        return Ok(Data::NotThere);
    }
    let mut page = [0; SLOT_LEN];
    match device.read_at(image.slot() * SLOT_LEN as u64, &mut page) {
        Ok(()) if image.holds(&page, volume_id, cell) => Ok(Data::There),
        Ok(()) => Ok(Data::NotThere),
        Err(DiskError::Io) => Ok(Data::Unreadable),
        Err(error) => Err(OpenPoolError::Device(error)),
    }
}

/// The journal of a pool that is being opened.
struct Journal<'a, D> {
    device: &'a D,
    layout: Layout,
    tag: u64,
}

/// What the journal holds.
struct Survey {
    /// The last block of the log; `None` if there is nothing to replay.
    last: Option<u64>,
    /// The last block that is there at all.
    highest: Option<u64>,
    /// All up to this one are durable.
    durable: u64,
}

impl<D: Device> Journal<'_, D> {
    /// Finds out where the journal ends and what of it is durable. The whole ring is looked at: a loss of power leaves any of
    /// the blocks that were not flushed, also behind a gap that is the end of the log.
    fn survey(&self, superblock: &Superblock) -> Result<Survey, OpenPoolError> {
        let start = superblock.journal_start;
        let mut survey = Survey { last: None, highest: None, durable: superblock.durable_through };
        // Where blocks are missing: the first of each gap.
        let mut gaps = Vec::new();
        let mut ended = false;
        let hole_ends = holdfast_mutant::active("store-hole-ends-log");
        let window = if hole_ends { 1 } else { WINDOW };
        let end = start.saturating_add(self.layout.journal_slots() - 1);
        self.visit(start, end, &mut |block| {
            let (number, found) = (block.number(), block.stamp());
            if found.generation > superblock.generation {
                return Err(OpenPoolError::SuperblockLost { number });
            }
            let first = survey.last.map_or(start, |last| last + 1);
            ended |= number - first >= window;
            if ended && hole_ends {
                return Ok(());
            }
            survey.highest = Some(number);
            survey.durable = survey.durable.max(found.durable_through);
            if !ended {
                if first < number {
                    gaps.push(first);
                }
                survey.last = Some(number);
            }
            Ok(())
        })?;
        // Behind the last block there may be others that must be there.
        gaps.push(survey.last.map_or(start, |last| last + 1));
        match gaps.into_iter().find(|number| *number <= survey.durable) {
            Some(number) => Err(OpenPoolError::JournalLost { number }),
            None => Ok(survey),
        }
    }

    /// Shows the blocks from `first` to `last` that are there, in order.
    fn visit(
        &self,
        first: u64,
        last: u64,
        see: &mut dyn FnMut(&JournalBlock<'_>) -> Result<(), OpenPoolError>,
    ) -> Result<(), OpenPoolError> {
        let mut bytes = Vec::new();
        let mut next = first;
        while next <= last {
            let place = self.layout.journal_slot(next);
            let to_end = self.layout.journal_first() + self.layout.journal_slots() - place;
            let count = READ_SLOTS.min(to_end).min(last - next + 1);
            bytes.resize(usize::try_from(count).unwrap_or(0) * SLOT_LEN, 0);
            let together = self.device.read_at(place * SLOT_LEN as u64, &mut bytes).is_ok();
            for (page, (number, place)) in
                bytes.as_chunks_mut::<SLOT_LEN>().0.iter_mut().zip((next..).zip(place..))
            {
                if !together {
                    match self.device.read_at(place * SLOT_LEN as u64, page) {
                        Ok(()) => {}
                        Err(DiskError::Io) => page.fill(0),
                        Err(error) => return Err(OpenPoolError::Device(error)),
                    }
                }
                match JournalBlock::decode(page, self.tag) {
                    Ok(block) if block.number() == number => see(&block)?,
                    // One that belongs elsewhere was written here by mistake: what should be here is missing.
                    Ok(block)
                        if block.number() > number && self.layout.journal_slot(block.number()) == place =>
                    {
                        return Err(OpenPoolError::SuperblockLost { number: block.number() });
                    }
                    // What is behind us needs not be understood.
                    Err(
                        JournalError::Record { number: old, .. } | JournalError::Number { number: old, .. },
                    ) if old < first => {}
                    Err(error) if !error.is_missing() => return Err(OpenPoolError::Journal(error)),
                    Ok(_) | Err(_) => {}
                }
            }
            next += count;
        }
        Ok(())
    }
}

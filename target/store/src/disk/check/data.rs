//! What cells hold, against their checksums: read in the order of slots, so that a device with heads is not torn to and
//! fro, and told in the order of blocks.

use holdfast_block::VolumeId;

use super::super::format::{CELL_IMAGE_LEN_MAX, CellRef, CellShape, SLOT_LEN, VolumeEntry};
use super::report::{Problem, Structure};
use super::{Check, walk};

/// Cells that are read together.
const CELLS_PER_BATCH: usize = 4096;

/// Slots of one read: 1 MiB.
const SLOTS_PER_READ: usize = 256;

/// Whether a cell counts that may not have been durable: if its slot holds its data, or cannot be read. Then it is lost.
pub(super) fn counts(check: &mut Check<'_>, volume: VolumeId, cell: u64, image: CellRef<'_>) -> bool {
    if !check.layout.is_data(image.slot()) {
        return false;
    }
    check.looked_at.cells_data += 1;
    let page = check.slot(image.slot());
    page.map_or(true, |page| image.holds(&page, volume.get(), cell))
}

/// Cells of one volume whose data is to be read.
pub(super) struct DataBatch {
    cells: Vec<Wanted>,
    buffer: Vec<u8>,
}

struct Wanted {
    slot: u64,
    cell: u64,
    image: [u8; CELL_IMAGE_LEN_MAX],
}

impl Wanted {
    fn image(&self, shape: CellShape) -> Option<CellRef<'_>> {
        CellRef::new(shape, self.image.get(..shape.image_len())?)
    }
}

/// A cell that cannot be read well.
struct Bad {
    cell: u64,
    slot: u64,
    problem: Problem,
    what: String,
}

impl DataBatch {
    pub(super) fn new() -> DataBatch {
        DataBatch { cells: Vec::new(), buffer: Vec::new() }
    }

    /// Adds a cell; the number of blocks that were found lost, if it was time to look.
    pub(super) fn add(
        &mut self,
        check: &mut Check<'_>,
        volume: &VolumeEntry,
        cell: u64,
        image: CellRef<'_>,
    ) -> u64 {
        let mut wanted = Wanted { slot: image.slot(), cell, image: [0; CELL_IMAGE_LEN_MAX] };
        wanted.image.iter_mut().zip(image.bytes()).for_each(|(to, from)| *to = *from);
        self.cells.push(wanted);
        if self.cells.len() < CELLS_PER_BATCH { 0 } else { self.finish(check, volume) }
    }

    /// Reads what is left. The number of blocks that were found lost.
    pub(super) fn finish(&mut self, check: &mut Check<'_>, volume: &VolumeEntry) -> u64 {
        self.cells.sort_unstable_by_key(|wanted| wanted.slot);
        check.looked_at.cells_data += self.cells.len() as u64;
        let mut bad = Vec::new();
        let mut buffer = std::mem::take(&mut self.buffer);
        let in_a_row = |a: &Wanted, b: &Wanted| b.slot == a.slot + 1;
        for row in self.cells.chunk_by(in_a_row).flat_map(|row| row.chunks(SLOTS_PER_READ)) {
            read_row(check, volume, row, &mut buffer, &mut bad);
        }
        self.buffer = buffer;
        self.cells.clear();
        bad.sort_unstable_by_key(|bad| bad.cell);
        let mut lost = 0;
        for Bad { cell, slot, problem, what } in bad {
            let extent = walk::extent_of(volume, cell, 1);
            lost += extent.blocks;
            check.findings.add_blocks(Structure::Data, problem, Some(slot), extent, what);
        }
        lost
    }
}

fn read_row(
    check: &Check<'_>,
    volume: &VolumeEntry,
    row: &[Wanted],
    buffer: &mut Vec<u8>,
    bad: &mut Vec<Bad>,
) {
    let Some(first) = row.first() else { return };
    buffer.resize(row.len() * SLOT_LEN, 0);
    match (check.device.read_at(first.slot * SLOT_LEN as u64, buffer), row) {
        (Ok(()), _) => {
            let wrong = |(wanted, data): &(&Wanted, &[u8])| {
                let image = wanted.image(volume.shape);
                image.is_none_or(|image| !image.holds(data, volume.id.get(), wanted.cell))
            };
            for (wanted, _) in row.iter().zip(buffer.chunks_exact(SLOT_LEN)).filter(wrong) {
                let what = "the data does not have its checksum".to_owned();
                bad.push(Bad { cell: wanted.cell, slot: wanted.slot, problem: Problem::DataDamaged, what });
            }
        }
        (Err(error), [alone]) => {
            let what = error.to_string();
            bad.push(Bad { cell: alone.cell, slot: alone.slot, problem: Problem::DataUnreadable, what });
        }
        // One bad slot must not condemn its neighbours.
        (Err(_), _) => row.chunks(1).for_each(|alone| read_row(check, volume, alone, buffer, bad)),
    }
}

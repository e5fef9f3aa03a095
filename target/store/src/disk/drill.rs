//! Damage on purpose, beneath the checksum that binds a block's data to its tuple: to see that reads notice.

use holdfast_block::Lba;

use super::format::SLOT_LEN;
use super::image::Image;
use super::pool::DiskPool;
use crate::PoolMemory;
use crate::memory::VolumeIndex;

impl<A: PoolMemory> DiskPool<A> {
    /// Where on the device the data of a block lies, in bytes from its start; `None` if it holds none. True until the block
    /// is written again.
    pub(crate) fn place_on_device(&self, index: VolumeIndex, lba: Lba) -> Option<u64> {
        let volume = self.volumes.present(index)?;
        let (cell, sector) = volume.shape.cell_of(lba.0);
        let image = Image::of(volume.shape, self.tree.get(index, cell));
        let sector_place = usize::try_from(sector).ok()?;
        if image.get().slot() == 0 || !image.get().state(sector_place).has_data() {
            return None;
        }
        let block_len = u64::try_from(volume.spec.block_len).ok()?;
        Some(image.get().slot() * SLOT_LEN as u64 + sector * block_len)
    }

    /// Flips a bit of a stored block's tuple and leaves the checksum over it as it is. `false` if the block holds no data. It is on
    /// the device with the next checkpoint; a kill before that undoes it, for the journal says how the tuple was.
    pub(crate) fn damage_tuple(&mut self, index: VolumeIndex, lba: Lba, bit: usize) -> bool {
        if self.place_on_device(index, lba).is_none() {
            return false;
        }
        let Some(volume) = self.volumes.present(index) else { return false };
        let (cell, sector) = volume.shape.cell_of(lba.0);
        let Ok(sector) = usize::try_from(sector) else { return false };
        let mut image = Image::of(volume.shape, self.tree.get(index, cell));
        let before = image.get();
        let (state, writer, mut tuple) =
            (before.state(sector), before.writer(sector), before.tuple(sector).to_vec());
        let Some(byte) = tuple.get_mut(bit / 8) else { return false };
        *byte ^= 1 << (bit % 8);
        image.set_block(sector, state, writer, &tuple);
        // It is the slot of the cell itself that comes back: still in use.
        let _same = self.tree.set(index, cell, image.bytes());
        true
    }
}

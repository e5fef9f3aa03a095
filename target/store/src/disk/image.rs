//! A cell image on its way: composed here, kept in the journal and the map.

use super::format::{BlockState, CELL_IMAGE_LEN_MAX, CellMut, CellRef, CellShape, cell_checksum};

/// An image of either shape, to be changed and moved about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Image {
    shape: CellShape,
    bytes: [u8; CELL_IMAGE_LEN_MAX],
}

impl Image {
    /// A hole.
    pub(super) fn hole(shape: CellShape) -> Image {
        Image { shape, bytes: [0; CELL_IMAGE_LEN_MAX] }
    }

    /// What stands in a map or in the journal; a hole if that is nothing.
    pub(super) fn of(shape: CellShape, bytes: Option<&[u8]>) -> Image {
        let mut image = Image::hole(shape);
        if let Some((to, from)) = image.bytes.get_mut(..shape.image_len()).zip(bytes)
            && to.len() == from.len()
        {
            to.copy_from_slice(from);
        }
        image
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.shape.image_len()).unwrap_or_default()
    }

    /// To be read.
    pub(super) fn get(&self) -> CellRef<'_> {
        let image = CellRef::new(self.shape, self.bytes());
        image.expect("an image has the length of its shape")
    }

    pub(super) fn set_block(&mut self, sector: usize, state: BlockState, writer: u16, tuple: &[u8]) {
        self.get_mut().set_block(sector, state, writer, tuple);
    }

    /// The slot whose data it speaks of, and that data's CRC.
    pub(super) fn seal(&mut self, slot: u64, data_crc: u64, volume_id: u64, cell: u64) {
        let checksum = cell_checksum(data_crc, volume_id, cell, self.get());
        let mut image = self.get_mut();
        image.set_slot(slot);
        image.set_checksum(checksum);
    }

    /// Without data there is neither a slot nor a checksum.
    pub(super) fn unseal(&mut self) {
        let mut image = self.get_mut();
        image.set_slot(0);
        image.set_checksum(0);
    }

    fn get_mut(&mut self) -> CellMut<'_> {
        let bytes = self.bytes.get_mut(..self.shape.image_len());
        let image = bytes.and_then(|bytes| CellMut::new(self.shape, bytes));
        image.expect("an image has the length of its shape")
    }
}

//! The memory under a pool, and how slots and their records lie in it.
//!
//! A record, 32 bytes beside its slot: the tuple (16 bytes as on the wire), the writer's identifier (8 bytes,
//! 0: nobody), and a word: bits 7:0 provenance, 53:8 LBA, 63:54 volume table index. The address makes a slot
//! say whose it is: recovery holds it against the map.

use holdfast_block::{BlockRecord, HostId, Provenance};

use super::alloc::SlotIndex;
use super::layout::{Area, BlockClass, Layout, PAGE_LEN, RECORD_LEN, WORD_LEN};
use super::volume::VolumeIndex;

/// Memory that outlives this process. Offsets and lengths are bytes from its start.
pub trait PoolMemory {
    /// Its length. Never changes.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `len` bytes at `offset`; `None` if they are not all inside.
    fn slice(&self, offset: usize, len: usize) -> Option<&[u8]>;

    /// The same, to be written.
    fn slice_mut(&mut self, offset: usize, len: usize) -> Option<&mut [u8]>;

    /// The word at `offset`, in the machine's order; `None` if outside or not aligned to 8.
    fn load_u64(&self, offset: usize) -> Option<u64>;

    /// Stores a word by one indivisible store. Everything written before is in the memory before it; nothing
    /// that is written after it gets there first (a slot that the word gave up may be filled next).
    fn publish_u64(&mut self, offset: usize, value: u64) -> Option<()>;

    /// Gives whole pages back. They read as zeroes.
    fn punch(&mut self, offset: usize, len: usize);
}

/// Plain memory, for tests of every layer above: it outlives nothing.
impl PoolMemory for Vec<u8> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn slice(&self, offset: usize, len: usize) -> Option<&[u8]> {
        self.get(offset..offset.checked_add(len)?)
    }

    fn slice_mut(&mut self, offset: usize, len: usize) -> Option<&mut [u8]> {
        self.get_mut(offset..offset.checked_add(len)?)
    }

    fn load_u64(&self, offset: usize) -> Option<u64> {
        let word = self.slice(offset, WORD_LEN).filter(|_| offset.is_multiple_of(WORD_LEN))?;
        word.try_into().ok().map(u64::from_ne_bytes)
    }

    fn publish_u64(&mut self, offset: usize, value: u64) -> Option<()> {
        let word = self.slice_mut(offset, WORD_LEN).filter(|_| offset.is_multiple_of(WORD_LEN))?;
        word.copy_from_slice(&value.to_ne_bytes());
        Some(())
    }

    fn punch(&mut self, offset: usize, len: usize) {
        if let Some(bytes) = self.slice_mut(offset, len) {
            bytes.fill(0);
        }
    }
}

/// A pool's memory with its layout. Offsets come from the layout or from structures that were verified, so
/// an access outside is a mistake of ours.
#[derive(Debug)]
pub(super) struct Medium<M> {
    pub(super) memory: M,
    pub(super) layout: Layout,
}

/// Width of the LBA in a record's address.
const LBA_BITS: u32 = 46;

impl<M: PoolMemory> Medium<M> {
    pub(super) fn word(&self, offset: usize) -> u64 {
        let word = self.memory.load_u64(offset);
        debug_assert!(word.is_some(), "no word at {offset:#x}");
        word.unwrap_or(0)
    }

    pub(super) fn publish(&mut self, offset: usize, value: u64) {
        let stored = self.memory.publish_u64(offset, value);
        debug_assert!(stored.is_some(), "no word at {offset:#x}");
    }

    pub(super) fn area(&self, class: BlockClass) -> &Area {
        self.layout.area(class)
    }

    pub(super) fn data(&self, class: BlockClass, slot: SlotIndex) -> Option<&[u8]> {
        let area = self.area(class);
        self.memory.slice(area.data_offset(slot), area.block_len)
    }

    pub(super) fn data_mut(&mut self, class: BlockClass, slot: SlotIndex) -> Option<&mut [u8]> {
        let Area { block_len, .. } = *self.area(class);
        let offset = self.area(class).data_offset(slot);
        self.memory.slice_mut(offset, block_len)
    }

    /// Zeroes a map page that nothing points to.
    pub(super) fn zero_page(&mut self, page: u32) {
        let offset = self.layout.page_offset(page);
        if let Some(bytes) = self.memory.slice_mut(offset, PAGE_LEN) {
            bytes.fill(0);
        }
    }

    /// Gives the memory of an empty chunk back.
    pub(super) fn punch_chunk(&mut self, class: BlockClass, chunk: usize) {
        for (offset, len) in self.area(class).chunk_spans(chunk) {
            self.memory.punch(offset, len);
        }
    }

    pub(super) fn record(&self, class: BlockClass, slot: SlotIndex) -> Option<BlockRecord> {
        let bytes = self.memory.slice(self.area(class).record_offset(slot), RECORD_LEN)?;
        let (tuple, rest) = bytes.split_first_chunk::<16>()?;
        let (writer, rest) = rest.split_first_chunk::<8>()?;
        let provenance = provenance_of(u64::from_ne_bytes(*rest.first_chunk()?))?;
        Some(BlockRecord { tuple: *tuple, provenance, writer: HostId::new(u64::from_ne_bytes(*writer)) })
    }

    /// Where a record lies; nothing if nowhere.
    pub(super) fn record_place(&self, class: BlockClass, slot: SlotIndex) -> &[u8] {
        self.memory.slice(self.area(class).record_offset(slot), RECORD_LEN).unwrap_or_default()
    }

    /// Fills a record. Its address is left to [`Self::stamp`].
    pub(super) fn set_record(&mut self, class: BlockClass, slot: SlotIndex, record: &BlockRecord) {
        let offset = self.area(class).record_offset(slot);
        let Some((tuple, rest)) =
            self.memory.slice_mut(offset, RECORD_LEN).and_then(|bytes| bytes.split_first_chunk_mut::<16>())
        else {
            return;
        };
        *tuple = record.tuple;
        if let Some((writer, word)) = rest.split_first_chunk_mut::<8>() {
            *writer = record.writer.map_or(0, HostId::get).to_ne_bytes();
            word.copy_from_slice(&provenance_code(record.provenance).to_ne_bytes());
        }
    }

    /// Writes into a record which block it belongs to, just before the block is published. Tells whether it is marked.
    pub(super) fn stamp(
        &mut self,
        class: BlockClass,
        slot: SlotIndex,
        volume: VolumeIndex,
        lba: u64,
    ) -> bool {
        let offset = self.last_record_word(class, slot);
        let code = self.word(offset) & 0xff;
        self.publish(offset, code | address(volume, lba));
        code == UNCORRECTABLE
    }

    /// Whether a record says that its block cannot be read.
    pub(super) fn is_marked(&self, class: BlockClass, slot: SlotIndex) -> bool {
        self.word(self.last_record_word(class, slot)) & 0xff == UNCORRECTABLE
    }

    /// Whether a record belongs to this block and says what it can say.
    pub(super) fn is_stamped(
        &self,
        class: BlockClass,
        slot: SlotIndex,
        volume: VolumeIndex,
        lba: u64,
    ) -> bool {
        let word = self.memory.load_u64(self.last_record_word(class, slot));
        word.is_some_and(|word| word & !0xff == address(volume, lba) && provenance_of(word).is_some())
    }

    fn last_record_word(&self, class: BlockClass, slot: SlotIndex) -> usize {
        self.area(class).record_offset(slot).saturating_add(RECORD_LEN - WORD_LEN)
    }
}

/// The address part of a record's last word.
fn address(volume: VolumeIndex, lba: u64) -> u64 {
    debug_assert!(lba >> LBA_BITS == 0, "block {lba} is beyond every volume");
    (volume.as_u64() << LBA_BITS | lba) << 8
}

/// The code of [`Provenance::Uncorrectable`].
const UNCORRECTABLE: u64 = 4;

fn provenance_code(provenance: Provenance) -> u64 {
    match provenance {
        Provenance::Hole => 0,
        Provenance::Inserted => 1,
        Provenance::HostGood => 2,
        Provenance::HostBadGuard => 3,
        Provenance::Uncorrectable => UNCORRECTABLE,
    }
}

fn provenance_of(word: u64) -> Option<Provenance> {
    match word & 0xff {
        0 => Some(Provenance::Hole),
        1 => Some(Provenance::Inserted),
        2 => Some(Provenance::HostGood),
        3 => Some(Provenance::HostBadGuard),
        UNCORRECTABLE => Some(Provenance::Uncorrectable),
        _ => None,
    }
}

//! Where what lies in a pool's memory, and the header that says so.

use holdfast_block::PoolId;
use holdfast_pi::{GuardKind, guard_of};

use super::alloc::{SLOTS_PER_CHUNK, SlotIndex};
use super::medium::PoolMemory;
use super::volume::{ENTRY_LEN, VOLUMES_PER_POOL_MAX, VolumeIndex};
use crate::PoolError;

/// Smallest pool: one large block.
pub const POOL_BYTES_MIN: u64 = 4096;

/// Largest pool, 16 TiB: more than a machine's memory, and small enough that no offset overflows.
pub const POOL_BYTES_MAX: u64 = 1 << 44;

/// Slots beyond the capacity unless somebody asks for others: payloads on their way in, and blocks that were
/// overwritten while they are being sent. Sparse: costs memory only in a pool that is full and busy at once.
pub const IN_FLIGHT_BYTES_DEFAULT: u64 = 256 << 20;

/// Unit of the map area and of giving memory back.
pub(super) const PAGE_LEN: usize = 4096;

/// Bytes of a slot's record.
pub(super) const RECORD_LEN: usize = 32;

/// Bytes of a word.
pub(super) const WORD_LEN: usize = 8;

/// Says that a header follows; its last byte is not the version.
const MAGIC: u64 = u64::from_be_bytes(*b"HFmempol");

/// Version of everything in this module's [`Header`].
const VERSION: u64 = 1;

/// Smallest map area: the way to one block of each of a few volumes.
const MAP_BYTES_MIN: u64 = 16 * PAGE_LEN as u64;

/// What a pool is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// Identifier.
    pub id: PoolId,
    /// Capacity: bytes of blocks that the pool can hold, all of them.
    pub size_bytes: u64,
    /// Bytes of slots beyond the capacity, see [`IN_FLIGHT_BYTES_DEFAULT`].
    pub in_flight_bytes: u64,
    /// Bytes of map pages, of which one covers 512 blocks in a row. When they are used up, a write that needs
    /// another one finds no room.
    pub map_bytes: u64,
}

impl PoolConfig {
    /// The usual pool of a capacity. An eighth of it for map pages is enough for any pattern of blocks as long
    /// as the volumes' sizes together stay below 8 times the capacity for 512-byte volumes and 64 times for
    /// 4096-byte ones; beyond that, only blocks scattered one by one can use it up.
    pub fn new(id: PoolId, size_bytes: u64) -> Self {
        PoolConfig {
            id,
            size_bytes,
            in_flight_bytes: IN_FLIGHT_BYTES_DEFAULT,
            // The fixed part: the upper pages of as many volumes as there can be.
            map_bytes: (size_bytes / 8).saturating_add(16 << 20),
        }
    }
}

/// The two block sizes, each with slots of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockClass {
    /// 512 bytes.
    Small,
    /// 4096 bytes.
    Large,
}

impl BlockClass {
    pub(super) fn of(block_len: usize) -> Option<BlockClass> {
        match block_len {
            512 => Some(BlockClass::Small),
            4096 => Some(BlockClass::Large),
            _ => None,
        }
    }

    pub(super) fn block_len(self) -> usize {
        match self {
            BlockClass::Small => 512,
            BlockClass::Large => 4096,
        }
    }
}

/// The slots of one block size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) block_len: usize,
    pub(super) chunks: usize,
    records: usize,
    data: usize,
}

impl Area {
    pub(super) fn data_offset(&self, slot: SlotIndex) -> usize {
        self.data.saturating_add(slot.0.saturating_mul(self.block_len))
    }

    pub(super) fn record_offset(&self, slot: SlotIndex) -> usize {
        self.records.saturating_add(slot.0.saturating_mul(RECORD_LEN))
    }

    /// Offset and length of a chunk's data, and of its records.
    pub(super) fn chunk_spans(&self, chunk: usize) -> [(usize, usize); 2] {
        let first = SlotIndex(chunk.saturating_mul(SLOTS_PER_CHUNK));
        [
            (self.data_offset(first), SLOTS_PER_CHUNK * self.block_len),
            (self.record_offset(first), SLOTS_PER_CHUNK * RECORD_LEN),
        ]
    }
}

/// Offsets of everything, from a pool's sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) capacity_bytes: u64,
    pub(super) map_pages: usize,
    map: usize,
    small: Area,
    large: Area,
    pub(super) len: usize,
}

impl Layout {
    pub(super) fn new(config: &PoolConfig) -> Result<Layout, PoolError> {
        let sizes = [config.size_bytes, config.in_flight_bytes, config.map_bytes];
        if config.size_bytes < POOL_BYTES_MIN || sizes.iter().any(|size| *size > POOL_BYTES_MAX) {
            return Err(PoolError::Size(config.size_bytes));
        }
        Layout::place(config).ok_or(PoolError::Size(config.size_bytes))
    }

    fn place(config: &PoolConfig) -> Option<Layout> {
        let map_bytes = usize::try_from(config.map_bytes.max(MAP_BYTES_MIN)).ok()?;
        let map_pages = map_bytes.div_ceil(PAGE_LEN);
        let slot_bytes = usize::try_from(config.size_bytes.checked_add(config.in_flight_bytes)?).ok()?;
        let map = PAGE_LEN + (VOLUMES_PER_POOL_MAX * ENTRY_LEN).next_multiple_of(PAGE_LEN);
        let mut end = map.checked_add(map_pages.checked_mul(PAGE_LEN)?)?;
        let mut area = |class: BlockClass| {
            let block_len = class.block_len();
            let chunks = slot_bytes.div_ceil(SLOTS_PER_CHUNK * block_len);
            let slots = chunks.checked_mul(SLOTS_PER_CHUNK)?;
            let records = end;
            let data = records.checked_add(slots.checked_mul(RECORD_LEN)?)?;
            end = data.checked_add(slots.checked_mul(block_len)?)?;
            Some(Area { block_len, chunks, records, data })
        };
        let (small, large) = (area(BlockClass::Small)?, area(BlockClass::Large)?);
        Some(Layout { capacity_bytes: config.size_bytes, map_pages, map, small, large, len: end })
    }

    pub(super) fn area(&self, class: BlockClass) -> &Area {
        match class {
            BlockClass::Small => &self.small,
            BlockClass::Large => &self.large,
        }
    }

    /// Offset of a volume's table entry.
    pub(super) fn entry_offset(&self, volume: VolumeIndex) -> usize {
        PAGE_LEN + volume.as_usize() * ENTRY_LEN
    }

    /// Offset of a map page.
    pub(super) fn page_offset(&self, page: u32) -> usize {
        self.map.saturating_add(usize::try_from(page).unwrap_or(usize::MAX).saturating_mul(PAGE_LEN))
    }

    /// Offset of the word that counts a size's touched chunks.
    pub(super) fn touched_offset(class: BlockClass) -> usize {
        match class {
            BlockClass::Small => Header::TOUCHED_SMALL * WORD_LEN,
            BlockClass::Large => Header::TOUCHED_LARGE * WORD_LEN,
        }
    }
}

/// The first page of a pool's memory, and what follows it. Layout version 1.
///
/// The medium is not durable, but another build of this program may open it. Words are 8 bytes in the
/// machine's order: the memory never leaves its machine. Everything else is offsets from the start.
///
/// | offset | length | what |
/// |---|---|---|
/// | 0 | 8 | magic, `HFmempol` as a big-endian number; published last |
/// | 8 | 8 | layout version |
/// | 16 | 8 | pool identifier |
/// | 24 | 8 | capacity in bytes |
/// | 32 | 8 | bytes of slots beyond the capacity |
/// | 40 | 8 | bytes of map pages |
/// | 48 | 8 | CRC-64/NVME of bytes 8 to 47 |
/// | 64 | 8 | chunks of 512-byte slots ever touched |
/// | 72 | 8 | chunks of 4096-byte slots ever touched |
/// | 4096 | 128 KiB | volume table: 1024 entries of 128 bytes, see `volume` |
/// | then | map bytes, in pages | map pages of 512 words, see `map`; those that nothing points to hold anything |
/// | then | 32 × slots | records of the 512-byte slots, see `medium` |
/// | then | 512 × slots | 512-byte slots: (capacity + beyond) rounded up to chunks of 512 slots |
/// | then | 32 × slots | records of the 4096-byte slots |
/// | then | 4096 × slots | 4096-byte slots, counted in the same way |
#[derive(Debug)]
pub(super) struct Header;

impl Header {
    const WORDS_SUMMED: usize = 5;
    const SUM: usize = 6;
    const TOUCHED_SMALL: usize = 8;
    const TOUCHED_LARGE: usize = 9;

    /// Makes the memory an empty pool. Until the last store it is none.
    pub(super) fn write<M: PoolMemory>(memory: &mut M, config: &PoolConfig) -> Option<()> {
        memory.publish_u64(0, 0)?;
        let table_len = VOLUMES_PER_POOL_MAX * ENTRY_LEN;
        memory.slice_mut(WORD_LEN, PAGE_LEN - WORD_LEN + table_len)?.fill(0);
        let words = [VERSION, config.id.get(), config.size_bytes, config.in_flight_bytes, config.map_bytes];
        for (number, word) in (1..).zip(words) {
            memory.publish_u64(number * WORD_LEN, word)?;
        }
        memory.publish_u64(Header::SUM * WORD_LEN, Header::sum(memory)?)?;
        memory.publish_u64(0, MAGIC)
    }

    /// Reads the sizes that a pool was made from.
    pub(super) fn read<M: PoolMemory>(memory: &M) -> Result<PoolConfig, PoolError> {
        let word = |number: usize| memory.load_u64(number * WORD_LEN).ok_or(PoolError::NotAPool);
        if word(0)? != MAGIC {
            return Err(PoolError::NotAPool);
        }
        match word(1)? {
            VERSION => {}
            version => return Err(PoolError::Version(version)),
        }
        if Header::sum(memory) != Some(word(Header::SUM)?) {
            return Err(PoolError::HeaderDamaged);
        }
        let id = PoolId::new(word(2)?).ok_or(PoolError::HeaderDamaged)?;
        Ok(PoolConfig { id, size_bytes: word(3)?, in_flight_bytes: word(4)?, map_bytes: word(5)? })
    }

    fn sum<M: PoolMemory>(memory: &M) -> Option<u64> {
        let bytes = memory.slice(WORD_LEN, Header::WORDS_SUMMED * WORD_LEN)?;
        Some(guard_of(GuardKind::Crc64, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(size_bytes: u64) -> PoolConfig {
        PoolConfig::new(PoolId::new(7).unwrap(), size_bytes)
    }

    #[test]
    fn areas_follow_each_other_and_chunks_are_whole_pages() {
        let layout = Layout::new(&config(1 << 30)).unwrap();
        assert_eq!(layout.map, PAGE_LEN + 128 * 1024);
        assert_eq!(layout.small.records, layout.page_offset(u32::try_from(layout.map_pages).unwrap()));
        for area in [layout.small, layout.large] {
            let slots = area.chunks * SLOTS_PER_CHUNK;
            assert_eq!(area.data, area.records + slots * RECORD_LEN);
            assert!(slots * area.block_len >= (1 << 30) + (256 << 20));
            for (offset, len) in area.chunk_spans(3) {
                assert!(offset % PAGE_LEN == 0 && len % PAGE_LEN == 0);
            }
        }
        assert_eq!(layout.large.records, layout.small.data_offset(SlotIndex(layout.small.chunks * 512)));
        assert_eq!(layout.len, layout.large.data_offset(SlotIndex(layout.large.chunks * 512)));
    }

    #[test]
    fn sizes_outside_the_limits_are_refused() {
        for size in [0, POOL_BYTES_MIN - 1, POOL_BYTES_MAX + 1, u64::MAX] {
            assert_eq!(Layout::new(&config(size)), Err(PoolError::Size(size)));
        }
        assert!(Layout::new(&config(POOL_BYTES_MIN)).is_ok());
        assert!(Layout::new(&config(POOL_BYTES_MAX - (256 << 20))).is_ok());
        let greedy = PoolConfig { map_bytes: u64::MAX, ..config(1 << 20) };
        assert!(Layout::new(&greedy).is_err());
    }
}

//! Volumes of a memory pool: what they are, their entries in the pool's volume table, and what is known of
//! them while the process lives.
//!
//! A table entry, 128 bytes:
//!
//! | offset | what |
//! |---|---|
//! | 0 | seal: CRC-64/NVME of bytes 8 to 55 with the lowest bit set; 0: no volume here |
//! | 8 | volume identifier |
//! | 16 | namespace UUID |
//! | 32 | NGUID |
//! | 48 | shape: bits 15:0 block length; 23:16 protection type, 0 without; 31:24 guard width; 39:32 storage tag width |
//! | 56 | number of blocks; grows by one store |
//! | 64 | root of the map: bits 7:0 height, 63:8 page number + 1; 0: no block is written |

use holdfast_block::{Usage, VolumeId};
use holdfast_pi::{GuardKind, PiFormat, PiType, guard_of};

use super::alloc::Cursor;
use super::layout::{BlockClass, WORD_LEN};
use super::map::{HEIGHT_MAX, Root};
use super::medium::PoolMemory;
use crate::{Damage, PoolError};

/// Volumes in one pool: the table's length, and what fits into a record's address.
pub const VOLUMES_PER_POOL_MAX: usize = 1024;

/// Blocks of one volume: covers every size below 2^53 bytes, the largest that the API can express, and fits
/// into a record's address.
pub const VOLUME_BLOCKS_MAX: u64 = 1 << 44;

/// Bytes of a table entry.
pub(super) const ENTRY_LEN: usize = 128;

/// Number of words under the seal.
const SEALED_WORDS: usize = 6;

/// What a volume is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Identifier, unique over all pools.
    pub id: VolumeId,
    /// Namespace UUID.
    pub uuid: [u8; 16],
    /// Namespace Globally Unique Identifier.
    pub nguid: [u8; 16],
    /// 512 or 4096.
    pub block_len: usize,
    /// Number of blocks, 1 to [`VOLUME_BLOCKS_MAX`].
    pub block_count: u64,
    /// Protection information kept with each block.
    pub format: Option<PiFormat>,
}

impl VolumeSpec {
    /// Whether there can be such a volume.
    pub(crate) fn can_be(&self) -> Result<(), PoolError> {
        self.check().map(|_| ())
    }

    pub(super) fn check(&self) -> Result<BlockClass, PoolError> {
        let class = BlockClass::of(self.block_len).ok_or(PoolError::BlockLen(self.block_len))?;
        if self.format.is_some_and(|format| format.block_len() != self.block_len) {
            return Err(PoolError::BlockLen(self.block_len));
        }
        if self.block_count == 0 || self.block_count > VOLUME_BLOCKS_MAX {
            return Err(PoolError::BlockCount(self.block_count));
        }
        Ok(class)
    }
}

/// A volume as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeState {
    /// What it is, at its present size.
    pub spec: VolumeSpec,
    /// How much of it holds data.
    pub usage: Usage,
}

/// A volume's place in its pool's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct VolumeIndex(u16);

impl VolumeIndex {
    pub(crate) const FIRST: VolumeIndex = VolumeIndex(0);

    /// `None` beyond the table.
    pub(crate) fn new(index: usize) -> Option<VolumeIndex> {
        u16::try_from(index).ok().filter(|_| index < VOLUMES_PER_POOL_MAX).map(VolumeIndex)
    }

    /// Every place of a table.
    pub(crate) fn all() -> impl Iterator<Item = VolumeIndex> {
        (0..VOLUMES_PER_POOL_MAX).filter_map(VolumeIndex::new)
    }

    pub(crate) fn as_usize(self) -> usize {
        usize::from(self.0)
    }

    pub(crate) fn as_u64(self) -> u64 {
        u64::from(self.0)
    }

    pub(crate) fn as_u32(self) -> u32 {
        u32::from(self.0)
    }

    /// `None` beyond the table.
    pub(crate) fn from_u32(index: u32) -> Option<VolumeIndex> {
        VolumeIndex::new(usize::try_from(index).ok()?)
    }
}

/// What is known of a volume while the process lives.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) spec: VolumeSpec,
    pub(super) class: BlockClass,
    pub(super) root: Root,
    pub(super) cursor: Cursor,
    /// Blocks that are not holes.
    pub(super) blocks_live: u64,
    /// Slots reserved, and pins: what callers still hold.
    pub(super) held: u64,
    /// Deallocations under way.
    pub(super) jobs: u32,
    /// Deleted: gone from the table and for everybody who asks, but not yet let go of by all.
    pub(super) deleted: bool,
}

impl Volume {
    pub(super) fn new(spec: VolumeSpec, class: BlockClass, root: Root) -> Self {
        let cursor = Cursor::default();
        Volume { spec, class, root, cursor, blocks_live: 0, held: 0, jobs: 0, deleted: false }
    }

    pub(super) fn usage(&self) -> Usage {
        let bytes_allocated = self.blocks_live.saturating_mul(self.spec.block_len as u64);
        Usage { blocks_allocated: self.blocks_live, bytes_allocated }
    }

    /// Whether `blocks` blocks from `lba` on lie within.
    pub(super) fn covers(&self, lba: u64, blocks: u64) -> bool {
        lba.checked_add(blocks).is_some_and(|end| end <= self.spec.block_count)
    }
}

/// A table entry in a pool's memory, by its offset.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry(pub(super) usize);

impl Entry {
    const SHAPE: usize = 6;
    const BLOCK_COUNT: usize = 7;
    const ROOT: usize = 8;

    /// Fills an empty entry; the volume is there with the last store.
    pub(super) fn write<M: PoolMemory>(self, memory: &mut M, spec: &VolumeSpec) -> Option<()> {
        self.set_root(memory, 0)?;
        self.set_block_count(memory, spec.block_count)?;
        self.publish(memory, 1, spec.id.get())?;
        memory.slice_mut(self.0 + 2 * WORD_LEN, 16)?.copy_from_slice(&spec.uuid);
        memory.slice_mut(self.0 + 4 * WORD_LEN, 16)?.copy_from_slice(&spec.nguid);
        self.publish(memory, Entry::SHAPE, shape(spec))?;
        let seal = self.seal(memory)?;
        self.publish(memory, 0, seal)
    }

    /// Reads an entry; `None` if there is no volume in it.
    pub(super) fn read<M: PoolMemory>(self, memory: &M) -> Result<Option<VolumeSpec>, Damage> {
        if self.load(memory, 0) == Some(0) {
            return Ok(None);
        }
        let whole = self.seal(memory).filter(|seal| self.load(memory, 0) == Some(*seal));
        whole.and_then(|_| self.parse(memory)).map(Some).ok_or(Damage::TableEntry)
    }

    fn parse<M: PoolMemory>(self, memory: &M) -> Option<VolumeSpec> {
        let shape = self.load(memory, Entry::SHAPE)?;
        let byte = |shift: u32| u8::try_from((shape >> shift) & 0xff).ok();
        let block_len = u32::try_from(shape & 0xffff).ok()?;
        let format = match byte(16)? {
            0 => None,
            number => {
                let guard = match byte(24)? {
                    16 => GuardKind::Crc16,
                    32 => GuardKind::Crc32c,
                    64 => GuardKind::Crc64,
                    _ => return None,
                };
                Some(PiFormat::new(PiType::from_number(number)?, guard, block_len, byte(32)?).ok()?)
            }
        };
        let bytes = |word: usize| memory.slice(self.0 + word * WORD_LEN, 16)?.try_into().ok();
        let spec = VolumeSpec {
            id: VolumeId::new(self.load(memory, 1)?)?,
            uuid: bytes(2)?,
            nguid: bytes(4)?,
            block_len: usize::try_from(block_len).ok()?,
            block_count: self.load(memory, Entry::BLOCK_COUNT)?,
            format,
        };
        spec.check().ok().map(|_| spec)
    }

    /// Takes the volume away with one store.
    pub(super) fn clear<M: PoolMemory>(self, memory: &mut M) -> Option<()> {
        self.publish(memory, 0, 0)
    }

    pub(super) fn set_block_count<M: PoolMemory>(self, memory: &mut M, count: u64) -> Option<()> {
        self.publish(memory, Entry::BLOCK_COUNT, count)
    }

    fn set_root<M: PoolMemory>(self, memory: &mut M, word: u64) -> Option<()> {
        self.publish(memory, Entry::ROOT, word)
    }

    /// The root of the volume's map.
    pub(super) fn root<M: PoolMemory>(self, memory: &M) -> Result<Root, Damage> {
        let word_offset = self.0 + Entry::ROOT * WORD_LEN;
        let root = self.load(memory, Entry::ROOT).and_then(|word| Root::decode(word_offset, word));
        root.filter(|root| root.height <= HEIGHT_MAX).ok_or(Damage::MapPointer)
    }

    fn seal<M: PoolMemory>(self, memory: &M) -> Option<u64> {
        let sealed = memory.slice(self.0 + WORD_LEN, SEALED_WORDS * WORD_LEN)?;
        Some(guard_of(GuardKind::Crc64, sealed) | 1)
    }

    fn load<M: PoolMemory>(self, memory: &M, word: usize) -> Option<u64> {
        memory.load_u64(self.0 + word * WORD_LEN)
    }

    fn publish<M: PoolMemory>(self, memory: &mut M, word: usize, value: u64) -> Option<()> {
        memory.publish_u64(self.0 + word * WORD_LEN, value)
    }
}

fn shape(spec: &VolumeSpec) -> u64 {
    let format = spec.format.map_or(0, |format| {
        u64::from(format.pi_type().number()) << 16
            | u64::from(format.guard().guard_bits()) << 24
            | u64::from(format.storage_tag_bits()) << 32
    });
    spec.block_len as u64 | format
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(block_len: usize, format: Option<PiFormat>) -> VolumeSpec {
        let id = VolumeId::new(0x1234_5678_9abc_def0).unwrap();
        VolumeSpec { id, uuid: [3; 16], nguid: [4; 16], block_len, block_count: 99, format }
    }

    #[test]
    fn every_format_survives_its_table_entry() {
        let mut formats = vec![(512, None), (4096, None)];
        for pi_type in [PiType::Type1, PiType::Type2, PiType::Type3] {
            formats.push((512, Some(PiFormat::new(pi_type, GuardKind::Crc16, 512, 0).unwrap())));
            for (guard, bits) in [(GuardKind::Crc16, 0), (GuardKind::Crc32c, 64), (GuardKind::Crc64, 48)] {
                formats.push((4096, Some(PiFormat::new(pi_type, guard, 4096, bits).unwrap())));
            }
        }
        for (block_len, format) in formats {
            let mut memory = vec![0xff; 2 * ENTRY_LEN];
            let spec = spec(block_len, format);
            Entry(ENTRY_LEN).write(&mut memory, &spec).unwrap();
            assert_eq!(Entry(ENTRY_LEN).read(&memory), Ok(Some(spec)));
            assert!(Entry(ENTRY_LEN).root(&memory).unwrap().page.is_none());
        }
    }

    #[test]
    fn a_flipped_bit_under_the_seal_is_found() {
        let mut memory = vec![0; ENTRY_LEN];
        Entry(0).write(&mut memory, &spec(4096, None)).unwrap();
        for bit in 1..(1 + SEALED_WORDS) * WORD_LEN * 8 {
            memory[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Entry(0).read(&memory), Err(Damage::TableEntry), "bit {bit}");
            memory[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn impossible_volumes_are_refused() {
        let mut odd = spec(520, None);
        assert_eq!(odd.check(), Err(PoolError::BlockLen(520)));
        odd = spec(512, Some(PiFormat::new(PiType::Type1, GuardKind::Crc16, 4096, 0).unwrap()));
        assert_eq!(odd.check(), Err(PoolError::BlockLen(512)));
        for block_count in [0, VOLUME_BLOCKS_MAX + 1, u64::MAX] {
            let long = VolumeSpec { block_count, ..spec(4096, None) };
            assert_eq!(long.check(), Err(PoolError::BlockCount(block_count)));
        }
    }
}

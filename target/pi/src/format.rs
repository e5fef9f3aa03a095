//! Protection types and formats. NVM Command Set 1.1 §5.3.1 "Protection Information Formats" and
//! §5.3.1.4 "Storage Tag and Logical Block Reference Tag from Storage and Reference Space".
//!
//! A [`PiFormat`] can only be made from a combination that the standards allow, so the rest of the
//! crate computes with it without asking again.

use thiserror::Error;

/// The protection type a volume is formatted with. It decides what the reference tag means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PiType {
    /// The reference tag is the low bits of the LBA.
    Type1,
    /// The reference tag starts at a value of the host's choice and goes up by one a block.
    Type2,
    /// The reference tag belongs to the application and is not checked.
    Type3,
}

impl PiType {
    /// The number as in NVMe's DPS field and in the API: 1, 2 or 3.
    pub const fn number(self) -> u8 {
        match self {
            PiType::Type1 => 1,
            PiType::Type2 => 2,
            PiType::Type3 => 3,
        }
    }

    /// The type with this number. `None` for 0 (no protection) and for everything above 3.
    pub const fn from_number(number: u8) -> Option<PiType> {
        match number {
            1 => Some(PiType::Type1),
            2 => Some(PiType::Type2),
            3 => Some(PiType::Type3),
            _ => None,
        }
    }
}

/// The CRC in the guard field; with it come the tuple's length and the width of its other fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GuardKind {
    /// CRC-16/T10-DIF, 8-byte tuples. §5.3.1.1 "16b Guard Protection Information".
    Crc16,
    /// CRC-32C, 16-byte tuples. §5.3.1.2 "32b Guard Protection Information".
    Crc32c,
    /// CRC-64/NVME, 16-byte tuples. §5.3.1.3 "64b Guard Protection Information".
    Crc64,
}

impl GuardKind {
    /// Bytes of one tuple on the wire: 8 or 16.
    pub const fn tuple_len(self) -> usize {
        match self {
            GuardKind::Crc16 => 8,
            GuardKind::Crc32c | GuardKind::Crc64 => 16,
        }
    }

    /// Width of the guard field in bits.
    pub const fn guard_bits(self) -> u8 {
        match self {
            GuardKind::Crc16 => 16,
            GuardKind::Crc32c => 32,
            GuardKind::Crc64 => 64,
        }
    }

    /// Width in bits of the Storage and Reference Space: what the tuple has left beside the guard and
    /// the 16-bit application tag.
    pub const fn space_bits(self) -> u8 {
        match self {
            GuardKind::Crc16 => 32,
            GuardKind::Crc32c => 80,
            GuardKind::Crc64 => 48,
        }
    }

    /// Smallest and largest storage tag, in bits. §5.3.1.4.1 Figure 157 "LBST and LBRT Minimum and
    /// Maximum Sizes" has the same bounds, except that it also lets 16-bit guards carry a storage tag.
    /// SCSI knows no such tuple, and 16-bit guards are what both command sets share, so here they have
    /// none.
    pub const fn storage_tag_bits_range(self) -> (u8, u8) {
        match self {
            GuardKind::Crc16 => (0, 0),
            GuardKind::Crc32c => (16, 64),
            GuardKind::Crc64 => (0, 48),
        }
    }
}

/// Why a combination is not a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FormatError {
    /// Volumes have blocks of 512 or 4096 bytes.
    #[error("a block of {0} bytes cannot be protected: 512 or 4096")]
    BlockLen(u32),
    /// §5.3.1.2 and §5.3.1.3: 32- and 64-bit guards need blocks of at least 4 KiB.
    #[error("a {guard_bits}-bit guard needs blocks of 4096 bytes, not {block_len}")]
    GuardNeeds4096 {
        /// Width of the guard asked for.
        guard_bits: u8,
        /// Block length asked for, in bytes.
        block_len: u32,
    },
    /// The storage tag does not fit the format.
    #[error("a storage tag of {bits} bits is outside {min} to {max}")]
    StorageTagBits {
        /// Width asked for.
        bits: u8,
        /// Smallest width that the guard allows.
        min: u8,
        /// Largest width that the guard allows.
        max: u8,
    },
}

/// How the blocks of one volume are protected. Only valid combinations exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PiFormat {
    pi_type: PiType,
    guard: GuardKind,
    block_len: usize,
    storage_tag_bits: u8,
}

impl PiFormat {
    /// A format of `block_len` bytes a block (512 or 4096) and a storage tag of `storage_tag_bits`.
    pub const fn new(
        pi_type: PiType,
        guard: GuardKind,
        block_len: u32,
        storage_tag_bits: u8,
    ) -> Result<PiFormat, FormatError> {
        let block_bytes = match (block_len, guard) {
            (512, GuardKind::Crc16) => 512,
            (512, GuardKind::Crc32c | GuardKind::Crc64) => {
                return Err(FormatError::GuardNeeds4096 { guard_bits: guard.guard_bits(), block_len });
            }
            (4096, _) => 4096,
            _ => return Err(FormatError::BlockLen(block_len)),
        };
        let (min, max) = guard.storage_tag_bits_range();
        if storage_tag_bits < min || storage_tag_bits > max {
            return Err(FormatError::StorageTagBits { bits: storage_tag_bits, min, max });
        }
        Ok(PiFormat { pi_type, guard, block_len: block_bytes, storage_tag_bits })
    }

    /// The protection type.
    pub const fn pi_type(&self) -> PiType {
        self.pi_type
    }

    /// The guard, and with it the shape of the tuple.
    pub const fn guard(&self) -> GuardKind {
        self.guard
    }

    /// Bytes of data in a block.
    pub const fn block_len(&self) -> usize {
        self.block_len
    }

    /// Bytes of the tuple behind a block: 8 or 16.
    pub const fn tuple_len(&self) -> usize {
        self.guard.tuple_len()
    }

    /// Bytes of a block with its tuple, as they follow each other on the wire.
    pub const fn wire_block_len(&self) -> usize {
        self.block_len + self.guard.tuple_len()
    }

    /// Width of the storage tag in bits; 0 if the format has none.
    pub const fn storage_tag_bits(&self) -> u8 {
        self.storage_tag_bits
    }

    /// Width of the reference tag in bits, 0 to 64; 0 if the storage tag takes all the space.
    pub const fn ref_tag_bits(&self) -> u8 {
        self.guard.space_bits() - self.storage_tag_bits
    }

    /// The bits that a storage tag can have.
    pub const fn storage_tag_mask(&self) -> u64 {
        low_bits(self.storage_tag_bits)
    }

    /// The bits that a reference tag can have.
    pub const fn ref_tag_mask(&self) -> u64 {
        low_bits(self.ref_tag_bits())
    }

    /// The bits that a guard can have.
    pub const fn guard_mask(&self) -> u64 {
        low_bits(self.guard.guard_bits())
    }

    /// The reference tag that block `index` of a command has when its first block has `initial`.
    /// Types 1 and 2 count up and roll over to 0 at the tag's width; type 3 stays.
    /// §5.3.3 "Control of Protection Information Checking - PRCHK".
    pub const fn ref_tag_at(&self, initial: u64, index: u32) -> u64 {
        let tag = match self.pi_type {
            PiType::Type1 | PiType::Type2 => initial.wrapping_add(index as u64),
            PiType::Type3 => initial,
        };
        tag & self.ref_tag_mask()
    }

    /// Cuts a Storage and Reference Space (the low 32, 80 or 48 bits of `space`) into storage tag and
    /// reference tag, in this order. A command's LBST and ILBRT come packed the same way: for NVMe,
    /// `space` is Command Dword 2 (bits 79 to 64), Dword 3 (63 to 32) and Dword 14 (31 to 0);
    /// bits beyond the format's space are ignored, as §5.3.1.4.1 asks.
    #[inline]
    pub fn split_space(&self, space: u128) -> (u64, u64) {
        let storage = low64(space >> self.ref_tag_bits()) & self.storage_tag_mask();
        let reference = low64(space) & self.ref_tag_mask();
        (storage, reference)
    }

    /// The reverse of [`split_space`](Self::split_space). Bits beyond a tag's width are dropped.
    #[inline]
    pub fn join_space(&self, storage_tag: u64, ref_tag: u64) -> u128 {
        (u128::from(storage_tag & self.storage_tag_mask()) << self.ref_tag_bits())
            | u128::from(ref_tag & self.ref_tag_mask())
    }
}

/// The lowest `bits` bits set. All 64 for anything from 64 up.
const fn low_bits(bits: u8) -> u64 {
    match bits {
        0 => 0,
        1..=63 => (1 << bits) - 1,
        64.. => u64::MAX,
    }
}

/// The low half. The conversion cannot fail after the mask, and compiles to nothing.
#[inline]
pub(crate) fn low64(wide: u128) -> u64 {
    u64::try_from(wide & u128::from(u64::MAX)).unwrap_or(u64::MAX)
}

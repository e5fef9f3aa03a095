//! Protection information as a host makes it: tuples, guards, reference tags, interleaving, and bits to flip.
//!
//! NVM Command Set 1.1 §5.3.1 "Protection Information Formats": the 16b guard has 8-byte tuples (guard,
//! application tag, 32 bits of storage and reference space), the 32b guard 16-byte tuples (80 bits of space),
//! the 64b guard 16-byte tuples (48 bits). The storage tag takes the high bits of the space, the reference tag
//! the rest. All fields are big-endian. Tuples directly follow their block ("extended LBA").

use crate::crc;

/// Which guard a namespace uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GuardKind {
    /// 16b: CRC-16/T10-DIF.
    #[default]
    Crc16,
    /// 32b: CRC-32C.
    Crc32c,
    /// 64b: CRC-64/NVME.
    Crc64,
}

/// A protection information format: the guard and how many bits the storage tag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PiFormat {
    /// The guard.
    pub guard: GuardKind,
    /// Storage Tag Size in bits.
    pub storage_tag_bits: u8,
}

/// One block's tuple. Tags are held in the low bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tuple {
    /// Guard: 16, 32 or 64 bits.
    pub guard: u64,
    /// Application tag.
    pub app_tag: u16,
    /// Storage tag.
    pub storage_tag: u64,
    /// Reference tag.
    pub ref_tag: u64,
}

/// The tags that [`PiFormat::protect`] gives to consecutive blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tags {
    /// Application tag of every block.
    pub app_tag: u16,
    /// Storage tag of every block.
    pub storage_tag: u64,
    /// Reference tag of the first block.
    pub ref_tag: u64,
    /// Whether the reference tag grows by one with each block (types 1 and 2) or stays (type 3).
    pub counting: bool,
}

impl Tags {
    /// Reference tags `first`, `first + 1`, …; other tags 0.
    #[must_use]
    pub fn counting(first: u64) -> Self {
        Self { app_tag: 0, storage_tag: 0, ref_tag: first, counting: true }
    }

    /// The same reference tag in every block (type 3); other tags 0.
    #[must_use]
    pub fn constant(ref_tag: u64) -> Self {
        Self { counting: false, ..Self::counting(ref_tag) }
    }

    /// With this application tag.
    #[must_use]
    pub fn app(self, app_tag: u16) -> Self {
        Self { app_tag, ..self }
    }

    /// With this storage tag.
    #[must_use]
    pub fn storage(self, storage_tag: u64) -> Self {
        Self { storage_tag, ..self }
    }
}

impl PiFormat {
    /// 8-byte tuples with a 16b guard and no storage tag.
    pub const CRC16: Self = Self { guard: GuardKind::Crc16, storage_tag_bits: 0 };

    /// Bytes of a tuple: 8 or 16.
    #[must_use]
    pub fn tuple_len(self) -> usize {
        match self.guard {
            GuardKind::Crc16 => 8,
            GuardKind::Crc32c | GuardKind::Crc64 => 16,
        }
    }

    /// The guard of one block's data.
    #[must_use]
    pub fn guard_of(self, block: &[u8]) -> u64 {
        match self.guard {
            GuardKind::Crc16 => crc::t10_dif(block).into(),
            GuardKind::Crc32c => crc::crc32c(block).into(),
            GuardKind::Crc64 => crc::crc64_nvme(block),
        }
    }

    /// A tuple with the right guard for `block`.
    #[must_use]
    pub fn tuple_for(self, block: &[u8], tags: Tags) -> Tuple {
        Tuple {
            guard: self.guard_of(block),
            app_tag: tags.app_tag,
            storage_tag: tags.storage_tag,
            ref_tag: tags.ref_tag,
        }
    }

    /// A tuple's bytes. Bits of a tag that do not fit the format are cut off.
    #[must_use]
    pub fn encode(self, tuple: &Tuple) -> Vec<u8> {
        let space = self.space(tuple.storage_tag, tuple.ref_tag);
        let mut bytes = Vec::with_capacity(self.tuple_len());
        extend_low(&mut bytes, tuple.guard.into(), self.guard_len());
        bytes.extend_from_slice(&tuple.app_tag.to_be_bytes());
        extend_low(&mut bytes, space, self.space_len());
        bytes
    }

    /// Reads a tuple; `None` unless there are exactly [`Self::tuple_len`] bytes.
    #[must_use]
    pub fn parse(self, bytes: &[u8]) -> Option<Tuple> {
        if bytes.len() != self.tuple_len() {
            return None;
        }
        let (guard, rest) = bytes.split_at_checked(self.guard_len())?;
        let (app_tag, space) = rest.split_first_chunk()?;
        let (space, ref_bits) = (big_endian(space), self.ref_tag_bits());
        Some(Tuple {
            guard: u64::try_from(big_endian(guard)).ok()?,
            app_tag: u16::from_be_bytes(*app_tag),
            storage_tag: u64::try_from(space >> ref_bits).ok()?,
            ref_tag: u64::try_from(space & mask(ref_bits)).ok()?,
        })
    }

    /// Blocks of `block_size` bytes, each followed by a right tuple. Bytes beyond the last whole block are
    /// left out.
    #[must_use]
    pub fn protect(self, data: &[u8], block_size: usize, tags: Tags) -> Vec<u8> {
        let mut tags = tags;
        let mut out = Vec::with_capacity(data.len().saturating_mul(2));
        for block in data.chunks_exact(block_size.max(1)) {
            out.extend_from_slice(block);
            out.extend_from_slice(&self.encode(&self.tuple_for(block, tags)));
            tags.ref_tag = tags.ref_tag.wrapping_add(u64::from(tags.counting));
        }
        out
    }

    /// The tuple of block `index` in an interleaved buffer; `None` beyond its end.
    #[must_use]
    pub fn tuple_at(self, interleaved: &[u8], block_size: usize, index: usize) -> Option<Tuple> {
        let stride = block_size.checked_add(self.tuple_len())?;
        let start = index.checked_mul(stride)?.checked_add(block_size)?;
        self.parse(interleaved.get(start..start.checked_add(self.tuple_len())?)?)
    }

    /// Which block is the first whose guard does not match its data, if any. Tuples that escape checking
    /// (application tag FFFFh) are passed over.
    #[must_use]
    pub fn first_bad_guard(self, interleaved: &[u8], block_size: usize) -> Option<usize> {
        let stride = block_size.saturating_add(self.tuple_len()).max(1);
        interleaved.chunks_exact(stride).position(|chunk| {
            let tuple =
                chunk.split_at_checked(block_size).and_then(|(data, tuple)| Some((data, self.parse(tuple)?)));
            tuple.is_none_or(|(data, tuple)| tuple.app_tag != 0xffff && tuple.guard != self.guard_of(data))
        })
    }

    /// A storage and a reference tag as the format's space holds them, for [`crate::Io::storage_and_ref`].
    #[must_use]
    pub fn space(self, storage_tag: u64, ref_tag: u64) -> u128 {
        let ref_bits = self.ref_tag_bits();
        (u128::from(storage_tag) & mask(self.storage_tag_bits)) << ref_bits
            | u128::from(ref_tag) & mask(ref_bits)
    }

    /// Bits of the reference tag: what the storage tag leaves of the format's space.
    #[must_use]
    pub fn ref_tag_bits(self) -> u8 {
        let space_bits = match self.guard {
            GuardKind::Crc16 => 32,
            GuardKind::Crc32c => 80,
            GuardKind::Crc64 => 48_u8,
        };
        // The 32b guard has at least 16 storage tag bits, so that the reference tag fits 64 bits.
        space_bits.saturating_sub(self.storage_tag_bits).min(64)
    }

    fn guard_len(self) -> usize {
        match self.guard {
            GuardKind::Crc16 => 2,
            GuardKind::Crc32c => 4,
            GuardKind::Crc64 => 8,
        }
    }

    fn space_len(self) -> usize {
        self.tuple_len().saturating_sub(self.guard_len()).saturating_sub(2)
    }
}

/// Puts a tuple of `tuple_len` bytes behind each block.
#[must_use]
pub fn interleave(data: &[u8], tuples: &[u8], block_size: usize, tuple_len: usize) -> Vec<u8> {
    let blocks = data.chunks_exact(block_size.max(1));
    let tuples = tuples.chunks_exact(tuple_len.max(1));
    blocks.zip(tuples).flat_map(|(block, tuple)| block.iter().chain(tuple).copied()).collect()
}

/// Takes an interleaved buffer apart into data and tuples.
#[must_use]
pub fn deinterleave(interleaved: &[u8], block_size: usize, tuple_len: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut data, mut tuples) = (Vec::new(), Vec::new());
    for chunk in interleaved.chunks_exact(block_size.saturating_add(tuple_len).max(1)) {
        if let Some((block, tuple)) = chunk.split_at_checked(block_size) {
            data.extend_from_slice(block);
            tuples.extend_from_slice(tuple);
        }
    }
    (data, tuples)
}

/// Flips bit `index % 8` of byte `index / 8`; nothing happens beyond the end.
pub fn flip_bit(bytes: &mut [u8], index: usize) {
    if let Some(byte) = bytes.get_mut(index / 8) {
        *byte ^= 1 << (index % 8);
    }
}

/// Flips one bit in the tuple of block `block`: `bit` counts from the tuple's first byte, so with a 16b guard 0 to
/// 15 hit the guard, 16 to 31 the application tag, 32 to 63 the reference tag.
pub fn flip_tuple_bit(interleaved: &mut [u8], block_size: usize, tuple_len: usize, block: usize, bit: usize) {
    let stride = block_size.saturating_add(tuple_len);
    let tuple = block.saturating_mul(stride).saturating_add(block_size);
    flip_bit(interleaved, tuple.saturating_mul(8).saturating_add(bit));
}

/// Flips one bit in the data of block `block`.
pub fn flip_data_bit(interleaved: &mut [u8], block_size: usize, tuple_len: usize, block: usize, bit: usize) {
    let start = block.saturating_mul(block_size.saturating_add(tuple_len));
    flip_bit(interleaved, start.saturating_mul(8).saturating_add(bit));
}

fn mask(bits: u8) -> u128 {
    (1_u128 << bits.min(127)) - 1
}

/// Appends the low `len` bytes of `value`, most significant first.
fn extend_low(bytes: &mut Vec<u8>, value: u128, len: usize) {
    bytes.extend(value.to_be_bytes().into_iter().skip(16_usize.saturating_sub(len)));
}

fn big_endian(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |value, byte| value << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests;

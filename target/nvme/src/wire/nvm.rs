//! I/O commands. NVM Command Set 1.1 §3.3 "NVM Command Set Commands".

use holdfast_block::{BlockCount, Lba};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::sqe::Sqe;

/// Opcodes.
pub(crate) mod opcode {
    pub(crate) const FLUSH: u8 = 0x00;
    pub(crate) const WRITE: u8 = 0x01;
    pub(crate) const READ: u8 = 0x02;
    pub(crate) const WRITE_UNCORRECTABLE: u8 = 0x04;
    pub(crate) const COMPARE: u8 = 0x05;
    pub(crate) const WRITE_ZEROES: u8 = 0x08;
    pub(crate) const DATASET_MANAGEMENT: u8 = 0x09;
    pub(crate) const VERIFY: u8 = 0x0c;
    pub(crate) const COPY: u8 = 0x19;
}

/// The fields that commands with a range of blocks have in common. What a command does not have is zero in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RangeFields {
    pub(crate) lba: Lba,
    pub(crate) blocks: BlockCount,
    pub(crate) force_unit_access: bool,
    pub(crate) pract: bool,
    /// PRCHK: bit 2 guard, bit 1 application tag, bit 0 reference tag.
    pub(crate) prchk: u8,
    pub(crate) storage_tag_check: bool,
    /// Dwords 2, 3 and 14: storage tag and reference tag, packed as in a tuple.
    pub(crate) tag_space: u128,
    pub(crate) app_tag: u16,
    pub(crate) app_mask: u16,
}

impl RangeFields {
    pub(crate) fn of(sqe: &Sqe) -> RangeFields {
        let cdw12 = sqe.cdw12.get();
        let [nlb_low, nlb_high, _, control] = sqe.cdw12.to_bytes();
        let [tag_low, tag_high, mask_low, mask_high] = sqe.cdw15.to_bytes();
        RangeFields {
            lba: Lba(u64::from(sqe.cdw10.get()) | (u64::from(sqe.cdw11.get()) << 32)),
            blocks: BlockCount::from_zeroes_based(u16::from_le_bytes([nlb_low, nlb_high])),
            force_unit_access: cdw12 & (1 << 30) != 0,
            pract: cdw12 & (1 << 29) != 0,
            prchk: (control >> 2) & 0b111,
            storage_tag_check: cdw12 & (1 << 24) != 0,
            tag_space: (u128::from(sqe.cdw2.get() & 0xffff) << 64)
                | (u128::from(sqe.cdw3.get()) << 32)
                | u128::from(sqe.cdw14.get()),
            app_tag: u16::from_le_bytes([tag_low, tag_high]),
            app_mask: u16::from_le_bytes([mask_low, mask_high]),
        }
    }
}

/// CETYPE of Dword 12: a key for each I/O, which we do not have.
pub(crate) fn extension_type(sqe: &Sqe) -> u32 {
    (sqe.cdw12.get() >> 16) & 0xf
}

/// DTYPE of Dword 12 in Write, Write Uncorrectable and Copy.
pub(crate) fn directive_type(sqe: &Sqe) -> u32 {
    (sqe.cdw12.get() >> 20) & 0xf
}

/// DTYPE of Dword 12 in Write Zeroes, which has a bit less of it.
pub(crate) fn zeroes_directive_type(sqe: &Sqe) -> u32 {
    (sqe.cdw12.get() >> 20) & 0x7
}

/// Dword 12 of Write Zeroes: deallocate.
pub(crate) const ZEROES_DEALLOCATE: u32 = 1 << 25;
/// Dword 12 of Write Zeroes: the whole namespace.
pub(crate) const ZEROES_NAMESPACE: u32 = 1 << 23;
/// Dword 0 of the completion of such a Write Zeroes: it was the whole namespace.
pub(crate) const ZEROES_ALL_CLEARED: u64 = 1;

/// One range of a Dataset Management command.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct DsmRange {
    attributes: U32,
    pub(crate) blocks: U32,
    pub(crate) lba: U64,
}
const _: () = assert!(size_of::<DsmRange>() == DSM_RANGE_LEN);

/// Bytes of a [`DsmRange`].
pub(crate) const DSM_RANGE_LEN: usize = 16;

/// Dword 11 of Dataset Management: deallocate. The other attributes are hints, which we do not use.
pub(crate) const DSM_DEALLOCATE: u32 = 1 << 2;

/// Number of ranges of Dataset Management and Copy, from the zeroes based field: 1 to 256.
pub(crate) fn range_count(field: u32) -> usize {
    let [ranges, ..] = field.to_le_bytes();
    usize::from(ranges) + 1
}

/// What a Copy says about its write portion, and about all its reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CopyFields {
    /// The destination; its length is the sum of the ranges'.
    pub(crate) target: RangeFields,
    /// PRINFOR and STCR, for the reads.
    pub(crate) pract_read: bool,
    pub(crate) prchk_read: u8,
    pub(crate) storage_tag_check_read: bool,
    /// DESFMT.
    pub(crate) format: u8,
    /// NR, as a number.
    pub(crate) ranges: usize,
}

impl CopyFields {
    pub(crate) fn of(sqe: &Sqe) -> CopyFields {
        let cdw12 = sqe.cdw12.get();
        let [_, control, _, _] = sqe.cdw12.to_bytes();
        CopyFields {
            target: RangeFields { blocks: BlockCount::ZERO, ..RangeFields::of(sqe) },
            pract_read: control & 0x80 != 0,
            prchk_read: (control >> 4) & 0b111,
            storage_tag_check_read: cdw12 & (1 << 25) != 0,
            format: control & 0xf,
            ranges: range_count(cdw12),
        }
    }
}

/// The beginning of a Source Range entry, in all formats.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct CopyEntry {
    /// SNSID in formats 2h and 3h.
    nsid: U32,
    zero_4: [u8; 4],
    lba: U64,
    blocks: U16,
    /// CETYPE in bits 3:0.
    extension_type: U16,
    extension: U16,
    options: U16,
}
const _: () = assert!(size_of::<CopyEntry>() == 24);

/// The rest of it in formats 0h and 2h.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct CopyTags {
    tag_space: U32,
    app_tag: U16,
    app_mask: U16,
}
const _: () = assert!(size_of::<CopyTags>() == 8);

/// The rest of it in formats 1h and 3h. The tags are as in a tuple, highest byte first.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct CopyTagsExtended {
    zero_24: [u8; 2],
    tag_space: [u8; 10],
    app_tag: U16,
    app_mask: U16,
}
const _: () = assert!(size_of::<CopyTagsExtended>() == 16);

/// One source of a Copy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CopyRange {
    /// SNSID; means something in formats 2h and 3h only.
    pub(crate) nsid: u32,
    pub(crate) extension_type: u16,
    pub(crate) fields: RangeFields,
}

impl CopyRange {
    /// Bytes of an entry in a format.
    pub(crate) fn len(format: u8) -> usize {
        match format & 1 {
            0 => size_of::<CopyEntry>() + size_of::<CopyTags>(),
            _ => size_of::<CopyEntry>() + size_of::<CopyTagsExtended>(),
        }
    }

    /// The entry with this number.
    pub(crate) fn of(copy: &CopyFields, payload: &[u8], number: usize) -> Option<CopyRange> {
        let start = number.checked_mul(CopyRange::len(copy.format))?;
        let (entry, rest) = CopyEntry::read_from_prefix(payload.get(start..)?).ok()?;
        let (tag_space, app_tag, app_mask) = if copy.format & 1 == 0 {
            let (tags, _) = CopyTags::read_from_prefix(rest).ok()?;
            (u128::from(tags.tag_space.get()), tags.app_tag, tags.app_mask)
        } else {
            let (tags, _) = CopyTagsExtended::read_from_prefix(rest).ok()?;
            let space = tags.tag_space.iter().fold(0, |space, byte| (space << 8) | u128::from(*byte));
            (space, tags.app_tag, tags.app_mask)
        };
        let fields = RangeFields {
            lba: Lba(entry.lba.get()),
            blocks: BlockCount::from_zeroes_based(entry.blocks.get()),
            force_unit_access: false,
            pract: copy.pract_read,
            prchk: copy.prchk_read,
            storage_tag_check: copy.storage_tag_check_read,
            tag_space,
            app_tag: app_tag.get(),
            app_mask: app_mask.get(),
        };
        let extension_type = entry.extension_type.get() & 0xf;
        Some(CopyRange { nsid: entry.nsid.get(), extension_type, fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[test]
    fn protection_fields_are_where_the_command_set_puts_them() {
        let mut sqe = Sqe::new_zeroed();
        sqe.cdw10.set(0x1122_3344);
        sqe.cdw11.set(0x5566_7788);
        sqe.cdw12.set(31 | (1 << 24) | (0b101 << 26) | (1 << 29) | (1 << 30));
        sqe.cdw14.set(0xaabb_ccdd);
        sqe.cdw15.set(0xf00f_1234);
        sqe.cdw3.set(0x0102_0304);
        sqe.cdw2.set(0xffff_0506);
        let fields = RangeFields::of(&sqe);
        assert_eq!(fields.lba, Lba(0x5566_7788_1122_3344));
        assert_eq!(fields.blocks.get(), 32);
        assert!(fields.force_unit_access && fields.pract && fields.storage_tag_check);
        assert_eq!(fields.prchk, 0b101);
        assert_eq!((fields.app_mask, fields.app_tag), (0xf00f, 0x1234));
        assert_eq!(fields.tag_space, 0x0506_0102_0304_aabb_ccdd);
    }

    #[test]
    fn a_copy_has_its_read_fields_between_format_and_extension() {
        let mut sqe = Sqe::new_zeroed();
        sqe.cdw12.set(0xff | (3 << 8) | (0b1010 << 12) | (1 << 25) | (0b0101 << 26));
        let copy = CopyFields::of(&sqe);
        assert_eq!((copy.format, copy.ranges), (3, 256));
        assert!(copy.pract_read && copy.storage_tag_check_read && !copy.target.storage_tag_check);
        assert_eq!((copy.prchk_read, copy.target.prchk, copy.target.pract), (0b010, 0b101, false));
    }

    #[test]
    fn source_ranges_have_little_endian_tags_of_32_bits_and_big_endian_ones_of_80() {
        let mut sqe = Sqe::new_zeroed();
        let mut entry = vec![0xee; 40];
        entry[..4].copy_from_slice(&7_u32.to_le_bytes());
        entry[8..16].copy_from_slice(&0x1234_5678_9abc_u64.to_le_bytes());
        entry[16..18].copy_from_slice(&9_u16.to_le_bytes());
        entry[18..20].copy_from_slice(&1_u16.to_le_bytes());
        let mut narrow = vec![0; 32];
        narrow.extend_from_slice(&entry[..24]);
        narrow.extend_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        let range = CopyRange::of(&CopyFields::of(&sqe), &narrow, 1).unwrap();
        assert_eq!((range.nsid, range.extension_type), (7, 1));
        assert_eq!((range.fields.lba, range.fields.blocks.get()), (Lba(0x1234_5678_9abc), 10));
        assert_eq!(range.fields.tag_space, 0x0403_0201);
        assert_eq!((range.fields.app_tag, range.fields.app_mask), (0x0605, 0x0807));
        entry[26..36].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        sqe.cdw12.set(1 << 8);
        let range = CopyRange::of(&CopyFields::of(&sqe), &entry, 0).unwrap();
        assert_eq!(range.fields.tag_space, 0x0102_0304_0506_0708_090a);
        assert!(CopyRange::of(&CopyFields::of(&sqe), &entry[..39], 0).is_none());
    }
}

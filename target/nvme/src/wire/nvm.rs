//! I/O commands. NVM Command Set 1.1 §3.3 "NVM Command Set Commands".

use holdfast_block::{BlockCount, Lba};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::sqe::Sqe;

/// Opcodes.
pub(crate) mod opcode {
    pub(crate) const FLUSH: u8 = 0x00;
    pub(crate) const WRITE: u8 = 0x01;
    pub(crate) const READ: u8 = 0x02;
    pub(crate) const COMPARE: u8 = 0x05;
    pub(crate) const WRITE_ZEROES: u8 = 0x08;
    pub(crate) const DATASET_MANAGEMENT: u8 = 0x09;
    pub(crate) const VERIFY: u8 = 0x0c;
}

/// The fields that Read, Write, Compare, Verify and Write Zeroes have in common.
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
}

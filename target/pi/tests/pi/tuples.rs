//! Formats and the wire bytes of tuples.

use crate::{PI_TYPES, any_format, pi_format, reference, small_formats};
use holdfast_pi::{FormatError, GuardKind, PiFormat, PiType, Tuple};
use proptest::prelude::*;

const TYPE1: PiType = PiType::Type1;

fn any_tuple() -> impl Strategy<Value = Tuple> {
    (any::<u64>(), any::<u16>(), any::<u64>(), any::<u64>())
        .prop_map(|(guard, app_tag, storage_tag, ref_tag)| Tuple { guard, app_tag, storage_tag, ref_tag })
}

#[test]
fn types_have_their_numbers() {
    assert_eq!(PI_TYPES.map(PiType::number), [1, 2, 3]);
    assert_eq!((0..=4).map(PiType::from_number).collect::<Vec<_>>(), {
        let [one, two, three] = PI_TYPES.map(Some);
        [None, one, two, three, None]
    });
    assert_eq!(PiType::from_number(255), None);
}

#[test]
fn wide_guards_need_blocks_of_4096() {
    for (guard, guard_bits, bits) in [(GuardKind::Crc32c, 32, 16), (GuardKind::Crc64, 64, 0)] {
        let refused = PiFormat::new(TYPE1, guard, 512, bits);
        assert_eq!(refused, Err(FormatError::GuardNeeds4096 { guard_bits, block_len: 512 }));
        assert!(PiFormat::new(TYPE1, guard, 4096, bits).is_ok());
    }
}

#[test]
fn blocks_are_512_or_4096_bytes() {
    for block_len in [0, 1, 511, 513, 520, 1024, 4095, 4104, 8192, u32::MAX] {
        for (guard, bits) in [(GuardKind::Crc16, 0), (GuardKind::Crc32c, 16), (GuardKind::Crc64, 0)] {
            let refused = PiFormat::new(TYPE1, guard, block_len, bits);
            assert_eq!(refused, Err(FormatError::BlockLen(block_len)));
        }
    }
}

#[test]
fn storage_tag_keeps_to_the_range_of_its_guard() {
    let ranges = [(GuardKind::Crc16, 0, 0), (GuardKind::Crc32c, 16, 64), (GuardKind::Crc64, 0, 48)];
    for (guard, min, max) in ranges {
        for bits in 0..=u8::MAX {
            let made = PiFormat::new(TYPE1, guard, 4096, bits);
            if (min..=max).contains(&bits) {
                assert_eq!(made.map(|format| format.storage_tag_bits()), Ok(bits));
            } else {
                assert_eq!(made, Err(FormatError::StorageTagBits { bits, min, max }));
            }
        }
    }
}

#[test]
fn format_knows_its_lengths() {
    let small = pi_format(TYPE1, GuardKind::Crc16, 512, 0);
    assert_eq!((small.block_len(), small.tuple_len(), small.wire_block_len()), (512, 8, 520));
    let large = pi_format(TYPE1, GuardKind::Crc16, 4096, 0);
    assert_eq!((large.block_len(), large.tuple_len(), large.wire_block_len()), (4096, 8, 4104));
    for (guard, bits, ref_bits) in
        [(GuardKind::Crc32c, 16, 64), (GuardKind::Crc32c, 64, 16), (GuardKind::Crc64, 48, 0)]
    {
        let wide = pi_format(TYPE1, guard, 4096, bits);
        assert_eq!((wide.tuple_len(), wide.wire_block_len(), wide.ref_tag_bits()), (16, 4112, ref_bits));
    }
}

#[test]
fn tuple_of_16_bit_guard_is_laid_out_as_in_figure_147() {
    let format = pi_format(TYPE1, GuardKind::Crc16, 512, 0);
    let bytes = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];
    let tuple = Tuple { guard: 0x1122, app_tag: 0x3344, storage_tag: 0, ref_tag: 0x5566_7788 };
    assert_eq!(Tuple::decode(format, &bytes), Some(tuple));
    let mut out = [0; 8];
    assert!(tuple.encode(format, &mut out));
    assert_eq!(out, bytes);
}

#[test]
fn tuple_of_32_bit_guard_is_laid_out_as_in_figure_149() {
    let format = pi_format(TYPE1, GuardKind::Crc32c, 4096, 20);
    let bytes = *b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10";
    let tuple =
        Tuple { guard: 0x0102_0304, app_tag: 0x0506, storage_tag: 0x0_7080, ref_tag: 0x90a_0b0c_0d0e_0f10 };
    assert_eq!(Tuple::decode(format, &bytes), Some(tuple));
    let mut out = [0; 16];
    assert!(tuple.encode(format, &mut out));
    assert_eq!(out, bytes);
}

#[test]
fn tuple_of_64_bit_guard_is_laid_out_as_in_figure_151() {
    let format = pi_format(TYPE1, GuardKind::Crc64, 4096, 12);
    let bytes = *b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10";
    let tuple =
        Tuple { guard: 0x0102_0304_0506_0708, app_tag: 0x090a, storage_tag: 0x0b0, ref_tag: 0xc_0d0e_0f10 };
    assert_eq!(Tuple::decode(format, &bytes), Some(tuple));
    let mut out = [0; 16];
    assert!(tuple.encode(format, &mut out));
    assert_eq!(out, bytes);
}

#[test]
fn command_tags_split_as_in_figure_162() {
    let format = pi_format(TYPE1, GuardKind::Crc32c, 4096, 32);
    let (cdw2, cdw3, cdw14) = (0xffff_aaaa_u128, 0xbbbb_cccc_u128, 0xdddd_eeee_u128);
    let space = cdw2 << 64 | cdw3 << 32 | cdw14;
    assert_eq!(format.split_space(space), (0xaaaa_bbbb, 0xcccc_dddd_eeee));
}

#[test]
fn command_tags_split_as_in_figure_164() {
    let format = pi_format(TYPE1, GuardKind::Crc64, 4096, 18);
    let (cdw2, cdw3, cdw14) = (0xffff_ffff_u128, 0xffff_8001_u128, 0xbfff_fffe_u128);
    let space = cdw2 << 64 | cdw3 << 32 | cdw14;
    assert_eq!(format.split_space(space), (0b10_0000_0000_0000_0110, 0x3fff_fffe));
}

#[test]
fn tuple_of_another_length_is_refused() {
    for format in [small_formats()[0], pi_format(TYPE1, GuardKind::Crc64, 4096, 0)] {
        for len in (0..20).filter(|len| *len != format.tuple_len()) {
            let mut bytes = vec![0xa5; len];
            assert_eq!(Tuple::decode(format, &bytes), None);
            assert!(!Tuple::all_ones(format).encode(format, &mut bytes));
            assert_eq!(bytes, vec![0xa5; len]);
        }
    }
}

proptest! {
    #[test]
    fn encoding_equals_the_reference(format in any_format(), tuple in any_tuple()) {
        let mut bytes = vec![0xa5; format.tuple_len()];
        prop_assert!(tuple.encode(format, &mut bytes));
        prop_assert_eq!(&bytes, &reference::encode(format, &tuple));
    }

    #[test]
    fn decoding_equals_the_reference(format in any_format(), bytes in any::<[u8; 16]>()) {
        let bytes = &bytes[..format.tuple_len()];
        prop_assert_eq!(Tuple::decode(format, bytes), Some(reference::decode(format, bytes)));
    }

    #[test]
    fn tuple_survives_the_wire_byte_for_byte(format in any_format(), bytes in any::<[u8; 16]>()) {
        let bytes = &bytes[..format.tuple_len()];
        let mut out = vec![0; bytes.len()];
        prop_assert!(Tuple::decode(format, bytes).is_some_and(|tuple| tuple.encode(format, &mut out)));
        prop_assert_eq!(&out, bytes);
    }

    #[test]
    fn unwritten_tuple_is_all_ones_and_escapes(format in any_format()) {
        let tuple = Tuple::all_ones(format);
        let mut bytes = vec![0; format.tuple_len()];
        prop_assert!(tuple.encode(format, &mut bytes));
        prop_assert_eq!(&bytes, &vec![0xff; format.tuple_len()]);
        prop_assert_eq!(Tuple::decode(format, &bytes), Some(tuple));
        prop_assert!(tuple.escapes(format));
    }

    #[test]
    fn space_joins_as_it_was_split(format in any_format(), space in any::<u128>()) {
        let (storage, reference) = format.split_space(space);
        let bits = u32::from(format.guard().space_bits());
        prop_assert_eq!(format.join_space(storage, reference), space & ((1 << bits) - 1));
    }
}

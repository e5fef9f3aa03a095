use super::*;
use proptest::prelude::*;

fn formats() -> impl Strategy<Value = PiFormat> {
    prop_oneof![
        Just(PiFormat::CRC16),
        (16_u8..=64).prop_map(|bits| PiFormat { guard: GuardKind::Crc32c, storage_tag_bits: bits }),
        (0_u8..=48).prop_map(|bits| PiFormat { guard: GuardKind::Crc64, storage_tag_bits: bits }),
    ]
}

#[test]
fn a_16_bit_tuple_is_guard_application_reference_big_endian() {
    let tuple = Tuple { guard: 0x1234, app_tag: 0x5678, storage_tag: 0, ref_tag: 0x9abc_def0 };
    assert_eq!(PiFormat::CRC16.encode(&tuple), [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0]);
}

#[test]
fn a_32_bit_tuple_keeps_the_storage_tag_above_the_reference_tag() {
    let format = PiFormat { guard: GuardKind::Crc32c, storage_tag_bits: 16 };
    let tuple =
        Tuple { guard: 0x0102_0304, app_tag: 0x0506, storage_tag: 0x0708, ref_tag: 0x090a_0b0c_0d0e_0f10 };
    assert_eq!(format.encode(&tuple), (1..=16).collect::<Vec<u8>>());
}

#[test]
fn a_64_bit_tuple_splits_its_48_bits_as_told() {
    let format = PiFormat { guard: GuardKind::Crc64, storage_tag_bits: 12 };
    let tuple = Tuple { guard: 1, app_tag: 2, storage_tag: 0xabc, ref_tag: 0xd_ef01_2345 };
    assert_eq!(format.encode(&tuple)[10..], [0xab, 0xcd, 0xef, 0x01, 0x23, 0x45]);
}

#[test]
fn reference_tags_count_from_the_first_block() {
    let blocks = PiFormat::CRC16.protect(&[9; 512 * 3], 512, Tags::counting(0xffff_ffff).app(7));
    let tags: Vec<_> =
        (0..3).map(|index| PiFormat::CRC16.tuple_at(&blocks, 512, index).unwrap().ref_tag).collect();
    assert_eq!(tags, [0xffff_ffff, 0, 1]);
    assert_eq!(PiFormat::CRC16.tuple_at(&blocks, 512, 3), None);
}

#[test]
fn a_flipped_data_bit_is_found_in_its_block() {
    let mut blocks = PiFormat::CRC16.protect(&[9; 512 * 3], 512, Tags::constant(1));
    assert_eq!(PiFormat::CRC16.first_bad_guard(&blocks, 512), None);
    flip_data_bit(&mut blocks, 512, 8, 2, 4095);
    assert_eq!(PiFormat::CRC16.first_bad_guard(&blocks, 512), Some(2));
}

#[test]
fn tuple_bits_are_counted_from_the_guards_first_byte() {
    let mut blocks = PiFormat::CRC16.protect(&[0; 1024], 512, Tags::counting(0));
    flip_tuple_bit(&mut blocks, 512, 8, 1, 16);
    let tuple = PiFormat::CRC16.tuple_at(&blocks, 512, 1).unwrap();
    assert_eq!((tuple.guard, tuple.app_tag, tuple.ref_tag), (0, 0x0100, 1));
}

proptest! {
    #[test]
    fn tuples_survive_the_round_trip(format in formats(), guard: u64, app_tag: u16, storage: u64, reference: u64) {
        let low = |value: u64, bits: u8| u64::try_from(u128::from(value) & mask(bits)).unwrap();
        let guard_bits = u8::try_from(format.guard_len() * 8).unwrap();
        let tuple = Tuple {
            guard: low(guard, guard_bits),
            app_tag,
            storage_tag: low(storage, format.storage_tag_bits),
            ref_tag: low(reference, format.ref_tag_bits()),
        };
        let bytes = format.encode(&tuple);
        prop_assert_eq!(bytes.len(), format.tuple_len());
        prop_assert_eq!(format.parse(&bytes), Some(tuple));
    }

    #[test]
    fn interleaving_is_undone(blocks in 0_usize..6, format in formats()) {
        let data: Vec<u8> = (0..blocks * 512).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let whole = format.protect(&data, 512, Tags::counting(5));
        let (back, tuples) = deinterleave(&whole, 512, format.tuple_len());
        prop_assert_eq!(&back, &data);
        prop_assert_eq!(interleave(&back, &tuples, 512, format.tuple_len()), whole);
    }
}

//! Streams in pieces: cutting, verifying, stripping, inserting.

use crate::{any_format, pi_format, reference, small_formats};
use holdfast_pi::{
    CheckPlan, Counts, Fault, GuardKind, InsertTags, Inserter, NvmePi, Part, PiFormat, PiType, Piece, Tag,
    Tuple, Verifier, split,
};
use proptest::prelude::*;
use proptest::sample::Index;

const APP_TAG: u16 = 0x1234;
const INITIAL_REF: u64 = 0xffff_ffff_ffff_fffe;
const STORAGE_TAG: u64 = 0x5a5a_5a5a_5a5a_5a5a;

/// Every check on, with the tags above; the reference tag rolls over at the third block.
fn strict_plan(format: PiFormat) -> CheckPlan {
    let pi = NvmePi {
        pract: false,
        prchk: 0b111,
        stc: true,
        initial_ref: INITIAL_REF,
        app_tag: APP_TAG,
        app_mask: 0xffff,
        storage_tag: STORAGE_TAG,
        storage_mask: u64::MAX,
    };
    CheckPlan::from_nvme(format, pi)
}

/// Data of `blocks` blocks, and the stream with good tuples between.
fn stream(format: PiFormat, blocks: usize) -> (Vec<u8>, Vec<u8>) {
    let bytes = (0_u32..).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8);
    let data = bytes.take(blocks * format.block_len()).collect::<Vec<u8>>();
    let wire = reference::interleave(format, APP_TAG, INITIAL_REF, STORAGE_TAG, &data);
    (data, wire)
}

/// `bytes` cut at `cuts`, some pieces perhaps empty.
fn cut<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect::<Vec<usize>>();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

fn any_cuts() -> impl Strategy<Value = Vec<Index>> {
    prop::collection::vec(any::<Index>(), 0..40)
}

/// Feeds all pieces, and gives what the verifier said last, its counts, and the data it handed out.
fn verify(format: PiFormat, plan: CheckPlan, pieces: &[&[u8]]) -> (Result<(), Fault>, Counts, Vec<u8>) {
    let mut verifier = Verifier::new(format, plan);
    let mut data = Vec::new();
    let mut last = Ok(());
    for piece in pieces {
        last = verifier.feed_stripping(piece, |bytes| data.extend_from_slice(bytes));
    }
    (last, verifier.counts(), data)
}

/// The tag that bit `bit` of an extended block belongs to: the guard for data too.
fn tag_of_bit(format: PiFormat, bit: usize) -> Tag {
    let [guard, app, storage, _] = reference::widths(format).map(|width| width as usize);
    let Some(in_tuple) = bit.checked_sub(format.block_len() * 8) else {
        return Tag::Guard;
    };
    let ends = [guard, guard + app, guard + app + storage];
    let tags = [Tag::Guard, Tag::App, Tag::Storage];
    ends.into_iter().zip(tags).find(|(end, _)| in_tuple < *end).map_or(Tag::Ref, |(_, tag)| tag)
}

/// The fault that a good stream has once this bit of this block is flipped.
fn expected_fault(format: PiFormat, wire: &[u8], block: usize, bit: usize) -> Option<Fault> {
    let tag = tag_of_bit(format, bit);
    if tag == Tag::Ref && format.pi_type() == PiType::Type3 {
        return None;
    }
    let bytes = &wire[block * format.wire_block_len()..][..format.wire_block_len()];
    let (data, tuple) = bytes.split_at(format.block_len());
    let tuple = reference::decode(format, tuple);
    let good = Tuple {
        guard: reference::crc(format.guard(), data),
        app_tag: APP_TAG,
        storage_tag: format.split_space(format.join_space(STORAGE_TAG, 0)).0,
        ref_tag: reference::ref_tag(format, INITIAL_REF, block as u32),
    };
    let (expected, actual) = match tag {
        Tag::Guard => (good.guard, tuple.guard),
        Tag::App => (good.app_tag.into(), tuple.app_tag.into()),
        Tag::Ref => (good.ref_tag, tuple.ref_tag),
        Tag::Storage => (good.storage_tag, tuple.storage_tag),
    };
    Some(Fault { block_index: block as u32, tag, expected, actual })
}

fn flip(bytes: &mut [u8], bit: usize) {
    bytes[bit / 8] ^= 0x80 >> (bit % 8);
}

#[test]
fn every_flipped_bit_is_found_and_named() {
    for format in small_formats() {
        let (_, mut wire) = stream(format, 2);
        let bits = format.wire_block_len() * 8;
        for block in 0..2 {
            for bit in 0..bits {
                flip(&mut wire, block * bits + bit);
                let found = verify(format, strict_plan(format), &[&wire]).0.err();
                assert_eq!(found, expected_fault(format, &wire, block, bit), "block {block}, bit {bit}");
                flip(&mut wire, block * bits + bit);
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_a_wide_tuple_is_found_and_named() {
    for (guard, storage_bits) in [(GuardKind::Crc32c, 21), (GuardKind::Crc64, 13), (GuardKind::Crc64, 48)] {
        let format = pi_format(PiType::Type1, guard, 4096, storage_bits);
        let (_, mut wire) = stream(format, 1);
        for bit in format.block_len() * 8..format.wire_block_len() * 8 {
            flip(&mut wire, bit);
            let found = verify(format, strict_plan(format), &[&wire]).0.err();
            assert_eq!(found, expected_fault(format, &wire, 0, bit), "bit {bit}");
            flip(&mut wire, bit);
        }
    }
}

#[test]
fn lowest_bad_block_is_reported_and_stays_reported() {
    let [format, ..] = small_formats();
    let (_, mut wire) = stream(format, 4);
    let bits = format.wire_block_len() * 8;
    flip(&mut wire, bits + 5);
    flip(&mut wire, 3 * bits + 5);
    let mut verifier = Verifier::new(format, strict_plan(format));
    let first = verifier.feed(&wire).unwrap_err();
    assert_eq!((first.block_index, first.tag), (1, Tag::Guard));
    assert_eq!(verifier.feed(&wire), Err(first));
    assert_eq!(verifier.counts(), Counts { checked: 1, escaped: 0, unchecked: 0 });
}

#[test]
fn escaped_blocks_are_counted_apart() {
    let [format, ..] = small_formats();
    let (_, mut wire) = stream(format, 3);
    let tuple_at = 2 * format.wire_block_len() - format.tuple_len();
    wire[tuple_at..][..format.tuple_len()].fill(0xff);
    let (last, counts, _) = verify(format, strict_plan(format), &[&wire]);
    assert_eq!(last, Ok(()));
    assert_eq!(counts, Counts { checked: 2, escaped: 1, unchecked: 0 });
}

#[test]
fn bad_blocks_pass_unchecked_without_a_plan() {
    let [format, ..] = small_formats();
    let wire = vec![0xa5; 3 * format.wire_block_len()];
    let (last, counts, _) = verify(format, CheckPlan::none(), &[&wire]);
    assert_eq!(last, Ok(()));
    assert_eq!(counts, Counts { checked: 0, escaped: 0, unchecked: 3 });
}

#[test]
fn block_counts_only_when_its_tuple_is_complete() {
    let [format, ..] = small_formats();
    let (_, wire) = stream(format, 1);
    let (most, last) = wire.split_at(wire.len() - 1);
    let mut verifier = Verifier::new(format, strict_plan(format));
    assert_eq!(verifier.feed(most), Ok(()));
    assert_eq!(verifier.counts().checked, 0);
    assert_eq!(verifier.feed(last), Ok(()));
    assert_eq!(verifier.counts().checked, 1);
}

#[test]
fn splitting_blocks_of_no_bytes_gives_nothing() {
    assert_eq!(split(0, 0, 0, b"bytes").count(), 0);
    assert_eq!(split(0, 0, 7, b"bytes").count(), 0);
}

#[test]
fn splitting_stops_where_block_numbers_end() {
    let last = usize::try_from(u32::MAX).unwrap() * 2;
    let blocks = split(1, 1, last, b"abcdef").map(|piece| (piece.block, piece.bytes)).collect::<Vec<_>>();
    assert_eq!(blocks, [(u32::MAX, b"a".as_slice()), (u32::MAX, b"b")]);
    assert_eq!(split(1, 1, last + 2, b"abcdef").count(), 0);
    assert_eq!(split(512, 8, usize::MAX, b"abcdef").count(), 0);
    assert_eq!(split(usize::MAX, usize::MAX, 0, b"abcdef").map(|piece| piece.bytes.len()).sum::<usize>(), 6);
}

proptest! {
    #[test]
    fn splitting_gives_each_byte_its_place(
        block_len in 1_usize..40,
        tuple_len in 0_usize..20,
        wire_offset in 0_usize..500,
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let placed = split(block_len, tuple_len, wire_offset, &bytes).flat_map(|piece| {
            let Piece { block, part, offset, bytes } = piece;
            (offset..).zip(bytes).map(move |(offset, byte)| (block, part, offset, *byte))
        });
        let expected = (wire_offset..).zip(&bytes).map(|(at, byte)| {
            let within = at % (block_len + tuple_len);
            let block = (at / (block_len + tuple_len)) as u32;
            match within.checked_sub(block_len) {
                None => (block, Part::Data, within, *byte),
                Some(in_tuple) => (block, Part::Tuple, in_tuple, *byte),
            }
        });
        prop_assert!(placed.eq(expected));
        prop_assert!(split(block_len, tuple_len, wire_offset, &bytes).all(|piece| !piece.bytes.is_empty()));
    }

    #[test]
    fn good_stream_verifies_and_strips_however_it_is_cut(format in any_format(), cuts in any_cuts()) {
        let (data, wire) = stream(format, 5);
        let (last, counts, stripped) = verify(format, strict_plan(format), &cut(&wire, &cuts));
        prop_assert_eq!(last, Ok(()));
        prop_assert_eq!(counts, Counts { checked: 5, escaped: 0, unchecked: 0 });
        prop_assert_eq!(stripped, data);
    }

    #[test]
    fn flipped_bit_is_found_however_the_stream_is_cut(
        format in any_format(),
        cuts in any_cuts(),
        block in 0_usize..3,
        place in prop_oneof![any::<Index>().prop_map(Ok), any::<Index>().prop_map(Err)],
    ) {
        let (_, mut wire) = stream(format, 3);
        let data_bits = format.block_len() * 8;
        let bit = match place {
            Ok(in_data) => in_data.index(data_bits),
            Err(in_tuple) => data_bits + in_tuple.index(format.tuple_len() * 8),
        };
        flip(&mut wire, block * format.wire_block_len() * 8 + bit);
        let in_one = verify(format, strict_plan(format), &[&wire]);
        prop_assert_eq!(in_one.0.err(), expected_fault(format, &wire, block, bit));
        let in_pieces = verify(format, strict_plan(format), &cut(&wire, &cuts));
        prop_assert_eq!((in_one.0, in_one.1), (in_pieces.0, in_pieces.1));
    }

    #[test]
    fn inserting_makes_the_reference_stream_however_the_data_is_cut(
        format in any_format(),
        cuts in any_cuts(),
        app_tag in any::<u16>(),
        initial_ref in any::<u64>(),
        storage_tag in any::<u64>(),
    ) {
        let (data, _) = stream(format, 4);
        let mut inserter = Inserter::new(format, InsertTags { app_tag, initial_ref, storage_tag, ref_stays: false });
        let mut wire = Vec::new();
        for piece in cut(&data, &cuts) {
            inserter.feed(piece, |piece| wire.extend_from_slice(piece.bytes));
        }
        prop_assert_eq!(wire, reference::interleave(format, app_tag, initial_ref, storage_tag, &data));
    }

    #[test]
    fn any_bytes_get_an_answer(
        format in any_format(),
        bytes in prop::collection::vec(any::<u8>(), 0..9000),
        cuts in any_cuts(),
        plain in any::<bool>(),
    ) {
        let plan = if plain { CheckPlan::for_plain_view(format, 0) } else { strict_plan(format) };
        let in_one = verify(format, plan, &[&bytes]);
        let in_pieces = verify(format, plan, &cut(&bytes, &cuts));
        prop_assert_eq!((in_one.0, in_one.1), (in_pieces.0, in_pieces.1));
    }
}

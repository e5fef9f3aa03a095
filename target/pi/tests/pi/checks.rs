//! Plans, and one block against a plan.

use crate::{any_format, pi_format, reference, small_formats};
use holdfast_pi::{
    CheckPlan, Checked, Fault, GuardKind, InsertTags, InvalidPi, NvmePi, PiFormat, PiType, Tag, Tuple,
    check_tuple, make_tuple, validate_nvme,
};
use proptest::prelude::*;

const GUARD: u64 = 0x1234;

/// A format with all four tags: 32-bit storage tag, 48-bit reference tag.
fn wide_format() -> PiFormat {
    pi_format(PiType::Type2, GuardKind::Crc32c, 4096, 32)
}

/// A command that asks for every check, and the tuple of its first block.
fn strict_command(format: PiFormat) -> (NvmePi, Tuple) {
    let pi = NvmePi {
        pract: false,
        prchk: 0b111,
        stc: true,
        initial_ref: 0x0102_0304_0506,
        app_tag: 0xbeef,
        app_mask: 0xffff,
        storage_tag: 0xa5a5_5a5a,
        storage_mask: u64::MAX,
    };
    (pi, make_tuple(format, &InsertTags::from_nvme(format, pi), 0, GUARD))
}

fn outcome(format: PiFormat, pi: NvmePi, tuple: &Tuple) -> Result<Checked, Fault> {
    check_tuple(format, &CheckPlan::from_nvme(format, pi), 0, GUARD, tuple)
}

fn tag_at_fault(outcome: Result<Checked, Fault>) -> Option<Tag> {
    outcome.err().map(|fault| fault.tag)
}

#[test]
fn tags_are_reported_in_the_order_guard_app_ref_storage() {
    let format = wide_format();
    let (pi, good) = strict_command(format);
    let mut tuple = Tuple { guard: 1, app_tag: 1, storage_tag: 1, ref_tag: 1 };
    assert_eq!(tag_at_fault(outcome(format, pi, &tuple)), Some(Tag::Guard));
    tuple.guard = good.guard;
    assert_eq!(tag_at_fault(outcome(format, pi, &tuple)), Some(Tag::App));
    tuple.app_tag = good.app_tag;
    assert_eq!(tag_at_fault(outcome(format, pi, &tuple)), Some(Tag::Ref));
    tuple.ref_tag = good.ref_tag;
    assert_eq!(tag_at_fault(outcome(format, pi, &tuple)), Some(Tag::Storage));
    tuple.storage_tag = good.storage_tag;
    assert_eq!(outcome(format, pi, &tuple), Ok(Checked::Checked));
}

#[test]
fn fault_names_block_tag_expected_and_actual() {
    let format = wide_format();
    let (pi, good) = strict_command(format);
    let plan = CheckPlan::from_nvme(format, pi);
    let fault = |tuple: Tuple| check_tuple(format, &plan, 7, GUARD, &tuple).unwrap_err();
    let moved = Tuple { ref_tag: good.ref_tag + 7, ..good };
    let cases = [
        (Tuple { guard: 0x4321, ..moved }, Tag::Guard, GUARD, 0x4321),
        (Tuple { app_tag: 0xbeee, ..moved }, Tag::App, 0xbeef, 0xbeee),
        (good, Tag::Ref, 0x0102_0304_050d, 0x0102_0304_0506),
        (Tuple { storage_tag: 0xa5a5_5a5b, ..moved }, Tag::Storage, 0xa5a5_5a5a, 0xa5a5_5a5b),
    ];
    for (tuple, tag, expected, actual) in cases {
        assert_eq!(fault(tuple), Fault { block_index: 7, tag, expected, actual });
    }
    assert_eq!(fault(good).to_string(), "block 7: ref tag is 0x10203040506, expected 0x1020304050d");
}

#[test]
fn each_prchk_bit_switches_its_own_check_on() {
    let format = wide_format();
    let (pi, _) = strict_command(format);
    let tuple = Tuple { guard: 1, app_tag: 1, storage_tag: 1, ref_tag: 1 };
    let with = |prchk, stc| tag_at_fault(outcome(format, NvmePi { prchk, stc, ..pi }, &tuple));
    assert_eq!(with(0b100, false), Some(Tag::Guard));
    assert_eq!(with(0b010, false), Some(Tag::App));
    assert_eq!(with(0b001, false), Some(Tag::Ref));
    assert_eq!(with(0b000, true), Some(Tag::Storage));
    assert_eq!(with(0b000, false), None);
}

#[test]
fn masked_bits_do_not_count_and_whole_tags_are_reported() {
    let format = wide_format();
    let (pi, good) = strict_command(format);
    let pi = NvmePi { app_mask: 0xff00, storage_mask: 0x0000_ffff, ..pi };
    let tuple = Tuple { app_tag: 0xbe00, storage_tag: 0x1111_5a5a, ..good };
    assert_eq!(outcome(format, pi, &tuple), Ok(Checked::Checked));
    let fault = outcome(format, pi, &Tuple { app_tag: 0xae00, ..tuple });
    assert_eq!(fault, Err(Fault { block_index: 0, tag: Tag::App, expected: 0xbeef, actual: 0xae00 }));
    let fault = outcome(format, pi, &Tuple { storage_tag: 0x1111_5a5b, ..tuple });
    let (expected, actual) = (0xa5a5_5a5a, 0x1111_5a5b);
    assert_eq!(fault, Err(Fault { block_index: 0, tag: Tag::Storage, expected, actual }));
}

#[test]
fn block_is_unchecked_when_no_bit_is_compared() {
    let format = wide_format();
    let (pi, good) = strict_command(format);
    let nothing = NvmePi { prchk: 0, stc: false, ..pi };
    assert_eq!(outcome(format, nothing, &good), Ok(Checked::Unchecked));
    let masked = NvmePi { prchk: 0b010, app_mask: 0, storage_mask: 0, ..pi };
    assert_eq!(outcome(format, masked, &Tuple { app_tag: 1, ..good }), Ok(Checked::Unchecked));
    let unwritten = Tuple::all_ones(format);
    assert_eq!(check_tuple(format, &CheckPlan::none(), 0, GUARD, &unwritten), Ok(Checked::Unchecked));
}

#[test]
fn app_tag_of_ones_escapes_types_1_and_2() {
    let [type1, type2, type3] = small_formats();
    let tuple = Tuple { guard: 1, app_tag: 0xffff, storage_tag: 0, ref_tag: 1 };
    let plan = CheckPlan { check_guard: true, ..CheckPlan::none() };
    assert_eq!(check_tuple(type1, &plan, 0, GUARD, &tuple), Ok(Checked::Escaped));
    assert_eq!(check_tuple(type2, &plan, 0, GUARD, &tuple), Ok(Checked::Escaped));
    assert_eq!(tag_at_fault(check_tuple(type3, &plan, 0, GUARD, &tuple)), Some(Tag::Guard));
}

#[test]
fn type_3_escapes_only_with_all_ones_in_both_tags() {
    let [type1, _, type3] = small_formats();
    let plan = CheckPlan { check_guard: true, ..CheckPlan::none() };
    let tuple = Tuple { guard: 1, app_tag: 0xffff, storage_tag: 0, ref_tag: 0xffff_ffff };
    assert_eq!(check_tuple(type3, &plan, 0, GUARD, &tuple), Ok(Checked::Escaped));
    let by_ref_alone = Tuple { app_tag: 0xfffe, ..tuple };
    assert_eq!(tag_at_fault(check_tuple(type3, &plan, 0, GUARD, &by_ref_alone)), Some(Tag::Guard));
    assert_eq!(tag_at_fault(check_tuple(type1, &plan, 0, GUARD, &by_ref_alone)), Some(Tag::Guard));
}

#[test]
fn type_3_without_a_reference_tag_escapes_by_the_app_tag() {
    let format = pi_format(PiType::Type3, GuardKind::Crc64, 4096, 48);
    let plan = CheckPlan { check_guard: true, ..CheckPlan::none() };
    let tuple = Tuple { guard: 1, app_tag: 0xffff, storage_tag: 5, ref_tag: 0 };
    assert_eq!(check_tuple(format, &plan, 0, GUARD, &tuple), Ok(Checked::Escaped));
}

#[test]
fn type_3_never_compares_the_reference_tag() {
    let [_, _, type3] = small_formats();
    let (pi, good) = strict_command(type3);
    let tuple = Tuple { ref_tag: good.ref_tag ^ 1, ..good };
    assert_eq!(outcome(type3, pi, &tuple), Ok(Checked::Checked));
    let only_ref = NvmePi { prchk: 0b001, ..pi };
    assert_eq!(outcome(type3, only_ref, &tuple), Ok(Checked::Unchecked));
}

#[test]
fn tags_that_the_format_lacks_are_not_checked() {
    let [type1, ..] = small_formats();
    let (pi, good) = strict_command(type1);
    assert!(!CheckPlan::from_nvme(type1, pi).check_storage);
    assert_eq!(outcome(type1, pi, &good), Ok(Checked::Checked));
    let no_ref = pi_format(PiType::Type1, GuardKind::Crc64, 4096, 48);
    assert!(!CheckPlan::from_nvme(no_ref, pi).check_ref);
    assert!(!CheckPlan::for_plain_view(no_ref, 1).check_ref);
}

#[test]
fn reference_tag_rolls_over_to_zero() {
    let [type1, type2, type3] = small_formats();
    for format in [type1, type2] {
        let tags = [0, 1, 2].map(|index| format.ref_tag_at(0xffff_ffff, index));
        assert_eq!(tags, [0xffff_ffff, 0, 1]);
    }
    assert_eq!(type3.ref_tag_at(0xffff_ffff, 2), 0xffff_ffff);
    let full = pi_format(PiType::Type1, GuardKind::Crc32c, 4096, 16);
    assert_eq!(full.ref_tag_at(u64::MAX, 1), 0);
    let odd = pi_format(PiType::Type1, GuardKind::Crc64, 4096, 11);
    assert_eq!(odd.ref_tag_at((1 << 37) - 1, 1), 0);
}

#[test]
fn plain_view_checks_the_guard_and_the_type_1_reference_tag() {
    let lba = 0x12_3456_789a;
    let [type1, type2, type3] = small_formats().map(|format| CheckPlan::for_plain_view(format, lba));
    let expected = CheckPlan { check_guard: true, initial_ref: 0x3456_789a, ..CheckPlan::none() };
    assert_eq!(type1, CheckPlan { check_ref: true, ..expected });
    assert_eq!(type2, expected);
    assert_eq!(type3, expected);
}

#[test]
fn plain_view_inserts_low_lba_bits_or_all_ones() {
    let lba = 0x12_3456_789a;
    let tuples = small_formats().map(|format| make_tuple(format, &InsertTags::plain(format, lba), 1, GUARD));
    let expected = Tuple { guard: GUARD, app_tag: 0, storage_tag: 0, ref_tag: 0x3456_789b };
    assert_eq!(tuples, [expected, expected, Tuple { ref_tag: 0xffff_ffff, ..expected }]);
}

#[test]
fn type_1_initial_reference_tag_has_to_be_the_lba() {
    let [type1, type2, _] = small_formats();
    let pi = NvmePi { prchk: 0b001, initial_ref: 0x3456_789a, ..NvmePi::default() };
    assert_eq!(validate_nvme(type1, &pi, 0x12_3456_789a), Ok(()));
    let mismatch = InvalidPi::Type1InitialRef { expected: 0x3456_789b, actual: 0x3456_789a };
    assert_eq!(validate_nvme(type1, &pi, 0x12_3456_789b), Err(mismatch));
    assert_eq!(validate_nvme(type2, &pi, 0x12_3456_789b), Ok(()));
    let unchecked = NvmePi { prchk: 0b110, ..pi };
    assert_eq!(validate_nvme(type1, &unchecked, 0x12_3456_789b), Ok(()));
}

#[test]
fn type_3_reference_tag_check_is_refused() {
    let [_, _, type3] = small_formats();
    for prchk in 0..8 {
        let pi = NvmePi { prchk, ..NvmePi::default() };
        let expected = if prchk & 1 == 1 { Err(InvalidPi::Type3RefCheck) } else { Ok(()) };
        assert_eq!(validate_nvme(type3, &pi, 0), expected);
    }
}

proptest! {
    #[test]
    fn reference_tags_count_as_in_the_reference(
        format in any_format(),
        initial in prop_oneof![any::<u64>(), (0_u64..40).prop_map(|below| u64::MAX - below)],
        index in 0_u32..80,
    ) {
        prop_assert_eq!(format.ref_tag_at(initial, index), reference::ref_tag(format, initial, index));
    }

    #[test]
    fn inserted_tuples_pass_every_check_of_the_same_command(
        format in any_format(),
        initial_ref in any::<u64>(),
        app_tag in any::<u16>(),
        storage_tag in any::<u64>(),
        index in any::<u32>(),
        guard in any::<u64>(),
    ) {
        let pi = NvmePi {
            pract: true, prchk: 0b111, stc: true, initial_ref, app_tag,
            app_mask: 0xffff, storage_tag, storage_mask: u64::MAX,
        };
        let tuple = make_tuple(format, &InsertTags::from_nvme(format, pi), index, guard);
        let plan = CheckPlan::from_nvme(format, pi);
        let outcome = check_tuple(format, &plan, index, guard & format.guard_mask(), &tuple);
        let expected = if tuple.escapes(format) { Checked::Escaped } else { Checked::Checked };
        prop_assert_eq!(outcome, Ok(expected));
    }
}

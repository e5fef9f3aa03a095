//! The tables of the protect fields, row by row, against what the standard has in them.

use super::*;
use crate::cdb::{Blocks, ExpectedTags};
use holdfast_pi::{GuardKind, make_tuple};

const LBA: u64 = 0x1_0000_0007;
const LOW: u64 = 7;
const TAGS: ExpectedTags = ExpectedTags { initial_ref: 0x99, app_tag: 0x1234, app_mask: 0x00ff };
const ACTS: [Act; 4] = [Act::Read, Act::Verify, Act::Compare, Act::Write];
const TYPES: [PiType; 3] = [PiType::Type1, PiType::Type2, PiType::Type3];

fn format(kind: PiType) -> PiFormat {
    PiFormat::new(kind, GuardKind::Crc16, 512, 0).unwrap()
}

fn range(protect: u8, long: bool) -> Protected {
    let blocks = Blocks { lba: Lba(LBA), count: 8, count_at: 7 };
    Protected { blocks, protect, tags: long.then_some(TAGS) }
}

fn scheme(kind: PiType) -> Scheme<'static> {
    let format = Some(format(kind));
    Scheme { visible: format, stored: format, enforce: Enforce::Any, ato: true, app_tags: None }
}

/// Which CDBs a type takes: the short ones with any field for types 1 and 3; those of 32 bytes for type 2 alone, which
/// takes a short one only without tuples.
fn is_taken(kind: PiType, protect: u8, long: bool) -> bool {
    match kind {
        PiType::Type1 | PiType::Type3 => !long,
        PiType::Type2 => long || protect == 0,
    }
}

/// Guard and tags that a row of the tables checks.
const CHECKS: [(u8, bool, bool); 6] = [
    (0, true, true),
    (1, true, true),
    (2, false, true),
    (3, false, false),
    (4, true, false),
    (5, true, true),
];

#[test]
fn every_row_of_the_tables_of_every_type() {
    for kind in TYPES {
        for act in ACTS {
            for (protect, guard, tags) in CHECKS {
                for long in [false, true].into_iter().filter(|long| is_taken(kind, protect, *long)) {
                    let decided = scheme(kind).decide(act, &range(protect, long)).unwrap();
                    let case = format!("{kind:?} {act:?} {protect} {long}: {decided:?}");
                    let carried = protect != 0;
                    assert_eq!(decided.layout == Layout::Interleaved, carried, "{case}");
                    assert_eq!(decided.insert.is_some(), act == Act::Write && !carried, "{case}");
                    if decided.insert.is_some() {
                        assert_eq!(decided.plan, CheckPlan::none(), "{case}");
                        continue;
                    }
                    let knows_ref = kind == PiType::Type1 || long;
                    let expected = CheckPlan {
                        check_guard: guard,
                        check_app: tags && long,
                        app_tag: if tags && long { 0x1234 } else { 0 },
                        app_mask: if tags && long { 0x00ff } else { 0 },
                        check_ref: tags && knows_ref,
                        initial_ref: match (tags && knows_ref, long) {
                            (false, _) => 0,
                            (true, true) => 0x99,
                            (true, false) => LOW,
                        },
                        ..CheckPlan::none()
                    };
                    assert_eq!(decided.plan, expected, "{case}");
                }
            }
        }
    }
}

#[test]
fn a_cdb_that_the_type_does_not_know_is_no_command() {
    for kind in TYPES {
        for act in ACTS {
            for protect in 0..8 {
                for long in [false, true].into_iter().filter(|long| !is_taken(kind, protect, *long)) {
                    let decided = scheme(kind).decide(act, &range(protect, long));
                    assert_eq!(decided, Err(Sense::INVALID_OPCODE), "{kind:?} {act:?} {protect} {long}");
                }
            }
        }
    }
}

#[test]
fn reserved_values_are_invalid_where_the_command_is_known() {
    for act in ACTS {
        for protect in [6, 7] {
            for kind in [PiType::Type1, PiType::Type3] {
                let decided = scheme(kind).decide(act, &range(protect, false));
                assert_eq!(decided, Err(Sense::invalid_in_cdb(1, Some(7))));
            }
            let decided = scheme(PiType::Type2).decide(act, &range(protect, true));
            assert_eq!(decided, Err(Sense::invalid_in_cdb(10, Some(7))));
        }
    }
}

#[test]
fn without_visible_tuples_every_field_but_zero_is_invalid_and_32_bytes_are_no_command() {
    for stored in
        [None, Some(format(PiType::Type1)), Some(format(PiType::Type2)), Some(format(PiType::Type3))]
    {
        let plain = Scheme { visible: None, stored, enforce: Enforce::Any, ato: true, app_tags: None };
        for act in ACTS {
            for protect in 1..8 {
                let decided = plain.decide(act, &range(protect, false));
                assert_eq!(decided, Err(Sense::invalid_in_cdb(1, Some(7))));
            }
            for protect in 0..8 {
                assert_eq!(plain.decide(act, &range(protect, true)), Err(Sense::INVALID_OPCODE));
            }
            let expected = match (stored, act) {
                (None, _) => BARE,
                (Some(format), Act::Write) => {
                    Protection { insert: Some(InsertTags::plain(format, LBA)), ..BARE }
                }
                (Some(format), _) => Protection { plan: CheckPlan::for_plain_view(format, LBA), ..BARE },
            };
            assert_eq!(plain.decide(act, &range(0, false)), Ok(expected));
        }
    }
}

#[test]
fn who_must_bring_tuples_may_not_leave_them_out() {
    for kind in TYPES {
        let strict = Scheme { enforce: Enforce::RequirePi, ..scheme(kind) };
        for act in ACTS {
            assert_eq!(strict.decide(act, &range(0, false)), Err(Sense::invalid_in_cdb(1, Some(7))));
            let long = kind == PiType::Type2;
            assert!(strict.decide(act, &range(1, long)).is_ok());
        }
    }
    let strict = Scheme { enforce: Enforce::RequirePi, ..scheme(PiType::Type2) };
    assert_eq!(strict.decide(Act::Read, &range(0, true)), Err(Sense::invalid_in_cdb(10, Some(7))));
}

#[test]
fn application_tags_that_the_device_owns_are_not_checked() {
    let tags = [AppTagRange { app_tag: 5, lba: Lba(0), blocks: u64::MAX }];
    for kind in TYPES {
        let owned = Scheme { ato: false, app_tags: Some(&tags), ..scheme(kind) };
        let decided = owned.decide(Act::Read, &range(1, kind == PiType::Type2)).unwrap();
        assert!(!decided.plan.check_app);
    }
}

#[test]
fn the_mode_page_gives_the_application_tag_of_blocks_that_have_one_alone() {
    let around = |lba, blocks| [AppTagRange { app_tag: 5, lba: Lba(lba), blocks }];
    for (lba, blocks, known) in [(LBA, 8, true), (0, u64::MAX, true), (LBA, 7, false), (LBA + 1, 7, false)] {
        for kind in [PiType::Type1, PiType::Type3] {
            let tags = around(lba, blocks);
            let decided = Scheme { app_tags: Some(&tags), ..scheme(kind) };
            let plan = decided.decide(Act::Write, &range(1, false)).unwrap().plan;
            assert_eq!(plan.check_app, known);
            assert_eq!((plan.app_tag, plan.app_mask), if known { (5, 0xffff) } else { (0, 0) });
        }
    }
    // What a CDB brings goes before.
    let tags = around(0, u64::MAX);
    let both = Scheme { app_tags: Some(&tags), ..scheme(PiType::Type2) };
    assert_eq!(both.decide(Act::Read, &range(1, true)).unwrap().plan.app_tag, 0x1234);
}

#[test]
fn tuples_that_are_made_say_what_the_device_knows() {
    let made = |kind: PiType, ato| {
        let scheme = Scheme { ato, ..scheme(kind) };
        let tags = scheme.decide(Act::Write, &range(0, false)).unwrap().insert.unwrap();
        let tuple = |index| make_tuple(format(kind), &tags, index, 0xabcd);
        [tuple(0), tuple(1)].map(|tuple| (tuple.guard, tuple.app_tag, tuple.ref_tag))
    };
    assert_eq!(made(PiType::Type1, true), [(0xabcd, 0xffff, LOW), (0xabcd, 0xffff, LOW + 1)]);
    assert_eq!(made(PiType::Type1, false), [(0xabcd, 0, LOW), (0xabcd, 0, LOW + 1)]);
    for kind in [PiType::Type2, PiType::Type3] {
        assert_eq!(made(kind, true), [(0xabcd, 0xffff, 0xffff_ffff); 2]);
        assert_eq!(made(kind, false), [(0xabcd, 0, 0xffff_ffff); 2]);
    }
}

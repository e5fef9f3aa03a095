//! Drills: a bit that goes bad between the check and the store is noticed by the next reader.

use holdfast_block::attribution::{FaultKind, Verdict};
use holdfast_block::{BlockError, DRILLS_MAX, Drill, Enforce, Lba};
use holdfast_pi::{PiType, Tag};

use crate::world::{Kind, World, host};

on_each_pool!(a_flipped_bit_waits_for_its_block_and_is_the_targets_fault, drills_that_wait_are_limited,);

fn drill(world: &World, key: u64, lba: u64, bit: usize) -> Drill {
    Drill { key, volume: world.volume, lba: Lba(lba), bit }
}

fn a_flipped_bit_waits_for_its_block_and_is_the_targets_fault(kind: Kind) {
    for block_len in [512_u32, 4096] {
        let bits = 8 * usize::try_from(block_len).unwrap();
        for (bit, tag) in [(0, Tag::Guard), (bits - 1, Tag::Guard), (bits, Tag::Guard), (bits + 56, Tag::Ref)]
        {
            let mut world = World::new(kind, PiType::Type1, block_len);
            let a = world.attach(1, Enforce::Any);
            let armed = drill(&world, 7, 5, bit);
            assert!(world.service.arm(armed));
            let elsewhere = world.good(6, 4, 0);
            assert_eq!(world.write(a, 6, &elsewhere), Ok(()));
            assert!(world.service.take_sprung().is_empty(), "another block is written");
            let wire = world.good(3, 4, 0);
            assert_eq!(world.write(a, 3, &wire), Ok(()), "the writer does not notice");
            assert_eq!(world.service.take_sprung(), [7]);
            assert_eq!(world.read(a, 3, 2), Ok(world.good(3, 2, 0)), "its neighbours are as they were");
            let error = world.read(a, 3, 4).unwrap_err();
            assert!(
                matches!(error, BlockError::Protection(fault) if fault.tag == tag && fault.block_index == 2),
                "{error:?}"
            );
            let reports = world.faults.0.borrow();
            let [report] = reports.as_slice() else { panic!("one report, not {}", reports.len()) };
            assert_eq!((report.kind, report.lba), (FaultKind::Tag(tag), Lba(5)));
            // A reference tag may have been stored as it is, unchecked; a guard was right when it came.
            let verdict = if tag == Tag::Guard { Verdict::Target } else { Verdict::Undetermined };
            assert_eq!((report.verdict, report.writer), (verdict, Some(host(1))), "bit {bit}");
            drop(reports);
            // Once only.
            assert_eq!(world.write(a, 3, &wire), Ok(()));
            assert_eq!(world.read(a, 3, 4), Ok(wire));
        }
    }
}

fn drills_that_wait_are_limited(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    for key in 0..DRILLS_MAX {
        let armed = drill(&world, u64::try_from(key).unwrap(), 0, 0);
        assert!(world.service.arm(armed));
    }
    let one_more = drill(&world, 99, 0, 0);
    assert!(!world.service.arm(one_more));
    let a = world.attach(1, Enforce::Any);
    let wire = world.good(0, 1, 0);
    assert_eq!(world.write(a, 0, &wire), Ok(()));
    assert_eq!(world.service.take_sprung().len(), DRILLS_MAX);
    let again = drill(&world, 99, 0, 0);
    assert!(world.service.arm(again));
}

//! Runs, lists of chunks and the watermark, by example and against a model.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn take_all(space: &mut Space, wanted: u64) -> Vec<Run> {
    std::iter::from_fn(|| space.take_run(wanted)).collect()
}

#[test]
fn a_new_pool_is_filled_in_the_order_of_its_slots() {
    let mut space = Space::new(320, 320 + 1300);
    let mut next = 320;
    while let Some(run) = space.take_run(100) {
        assert_eq!(run.first, next);
        next += run.len;
    }
    assert_eq!((next, space.free()), (1620, 0));
    assert_eq!(space.audit().len(), 1300);
    assert_eq!(space.take_run(1), None);
}

#[test]
fn nothing_is_taken_by_a_request_for_nothing() {
    let mut space = Space::new(7, 100);
    assert_eq!(space.take_run(0), None);
    assert_eq!(space.free(), 93);
    assert_eq!(Space::new(7, 7).take_run(4), None);
}

#[test]
fn what_was_found_used_is_not_handed_out() {
    let mut space = Space::new(1000, 6000);
    assert!(space.occupy(1000) && space.occupy(3003) && space.occupy(5999));
    assert!(!space.occupy(3003), "taken");
    assert!(!space.occupy(999) && !space.occupy(6000), "none of these");
    let taken: BTreeSet<u64> =
        take_all(&mut space, 64).iter().flat_map(|run| run.first..run.first + run.len).collect();
    assert_eq!(taken.len(), 4997);
    assert!([1000, 3003, 5999].iter().all(|slot| !taken.contains(slot)));
}

#[test]
fn empty_chunks_come_before_untouched_ones_and_these_before_the_emptiest() {
    let mut space = Space::new(0, 512 * 5);
    for chunk in 0..3 {
        assert_eq!(space.take_run(512), Some(Run { first: chunk * 512, len: 512 }));
    }
    (0..512).for_each(|slot| space.give_back(slot));
    (512..800).for_each(|slot| space.give_back(slot));
    (1024..1100).for_each(|slot| space.give_back(slot));
    let firsts: Vec<u64> = take_all(&mut space, 512).iter().map(|run| run.first).collect();
    assert_eq!(firsts, [0, 1536, 2048, 512, 1024]);
}

#[test]
fn slots_above_the_watermark_are_the_last_to_be_taken() {
    let mut space = Space::with_watermark(100, 100 + 512 * 4, 100 + 1200);
    assert!(space.occupy(100 + 512 * 3));
    let firsts: Vec<u64> = (0..3).filter_map(|_| space.take_run(512)).map(|run| run.first - 100).collect();
    assert_eq!(firsts, [0, 512, 1024], "the third chunk reaches above it");
    space.give_back(105);
    space.advance(100 + 1000);
    assert_eq!(space.take_run(9), Some(Run { first: 105, len: 1 }));
    space.give_back(104);
    space.advance(100 + 512 * 4);
    assert_eq!(space.take_run(9).map(|run| run.first), Some(100 + 512 * 3 + 1), "now the emptiest counts");
    space.audit();
}

#[test]
fn the_last_chunk_may_be_short_and_pools_may_be_vast() {
    let mut space = Space::new(0, 1 << 32);
    assert!(space.take_run(512).is_some());
    assert_eq!(space.chunks.len(), 1, "what is not touched costs nothing");
    assert_eq!(space.free(), (1 << 32) - 512);
    let mut space = Space::new(0, 513);
    assert_eq!(take_all(&mut space, 512), [Run { first: 0, len: 512 }, Run { first: 512, len: 1 }]);
    space.give_back(512);
    assert_eq!(space.take_run(512), Some(Run { first: 512, len: 1 }));
}

/// A sequence of pseudo-random numbers below `bound`.
fn random(bound: usize) -> impl FnMut() -> usize {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % bound as u64).unwrap()
    }
}

/// The mean length of runs while a pool filled to `percent` is overwritten at random, 32 blocks at a time.
fn mean_run(percent: usize) -> f64 {
    const SLOTS: usize = 512 * 256;
    const BATCH: usize = 32;
    let cells = SLOTS * percent / 100;
    let mut space = Space::new(0, SLOTS as u64);
    let mut map = vec![u64::MAX; cells];
    let mut random = random(cells);
    let (mut runs, mut slots) = (0_u64, 0_u64);
    let rounds = 4 * cells / BATCH;
    for round in 0..rounds {
        let mut left = BATCH;
        while left > 0 {
            let run = space.take_run(left as u64).unwrap();
            left -= usize::try_from(run.len).unwrap();
            if round > rounds / 2 {
                (runs, slots) = (runs + 1, slots + run.len);
            }
            for slot in run.first..run.first + run.len {
                let cell =
                    if round < cells / BATCH { usize::try_from(slot).unwrap() % cells } else { random() };
                let old = std::mem::replace(&mut map[cell], slot);
                if old != u64::MAX {
                    space.give_back(old);
                }
            }
        }
    }
    slots as f64 / runs as f64
}

#[test]
fn runs_stay_longer_under_random_overwrites_than_the_pool_is_empty() {
    for (percent, least) in [(50, 3.5), (80, 1.5), (95, 1.08)] {
        let mean = mean_run(percent);
        println!("filled to {percent} %: {mean:.2} slots a run");
        assert!(mean > least, "filled to {percent} %: {mean:.2} slots a run");
        assert!(mean > 1.0 / (f64::from(u32::try_from(percent).unwrap()) / 100.0), "better than by chance");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_slot_is_handed_out_once_until_it_comes_back(
        first in 0_u64..5000,
        slots in 1_u64..4000,
        watermark in 0_u64..9000,
        steps in prop::collection::vec((0_u8..8, any::<u16>(), 1_u64..600), 1..200),
    ) {
        let mut space = Space::with_watermark(first, first + slots, watermark);
        let mut used = BTreeSet::new();
        for (kind, pick, amount) in steps {
            match kind {
                0..=3 => match space.take_run(amount) {
                    Some(run) => {
                        prop_assert!(run.len > 0 && run.len <= amount);
                        for slot in run.first..run.first + run.len {
                            prop_assert!((first..first + slots).contains(&slot));
                            prop_assert!(used.insert(slot), "{} twice", slot);
                        }
                    }
                    None => prop_assert_eq!(used.len() as u64, slots),
                },
                4..=5 => {
                    let from = first + u64::from(pick) % slots;
                    let back: Vec<u64> = used.range(from..).copied().take(usize::try_from(amount).unwrap()).collect();
                    for slot in back {
                        used.remove(&slot);
                        space.give_back(slot);
                    }
                }
                6 => {
                    let slot = first + u64::from(pick) % slots;
                    prop_assert_eq!(space.occupy(slot), used.insert(slot));
                }
                _ => space.advance(u64::from(pick) % 9000),
            }
            prop_assert_eq!(space.free(), slots - used.len() as u64);
        }
        prop_assert_eq!(space.audit(), used.into_iter().collect::<Vec<_>>());
    }
}

//! Fused Compare and Write, and what else is whole.

use std::ops::Range;

use holdfast_block::{
    AttachmentId, BlockError, BlockPort, Command, Completion, Difference, Enforce, Layout, Operation,
    StoreOp, TicketId,
};
use holdfast_pi::{PiType, Tag};

use crate::world::{Kind, World};

on_each_pool!(
    a_pair_writes_only_what_it_has_compared,
    each_half_is_checked_by_itself,
    compare_holds_data_against_data_and_checks_tuples,
    nobody_writes_between_the_halves_of_a_pair,
    a_pair_waits_for_writes_that_are_under_way,
    of_many_pairs_that_expect_the_same_one_wins_whatever_the_store_does_first,
    a_pair_may_be_given_up_at_any_point_and_blocks_nobody,
    a_pair_that_is_given_up_while_it_waits_leaves_its_turn,
    a_reader_finds_all_of_a_write_or_nothing_of_it,
    whatever_comes_and_goes_pairs_are_alone_and_everything_ends,
);

/// Begins a command and gives it its whole payload.
fn begin(world: &mut World, command: &Command, payload: &[u8]) -> TicketId {
    let ticket = world.service.begin(command).unwrap();
    if !payload.is_empty() {
        world.service.fill(ticket, 0, payload);
    }
    ticket
}

/// Begins both halves of a pair for one block.
fn pair(world: &mut World, who: AttachmentId, lba: u64, old: &[u8], new: &[u8]) -> (TicketId, TicketId) {
    let compare = world.command(who, Operation::Compare, lba, 1);
    let write = world.command(who, Operation::Write, lba, 1);
    (begin(world, &compare, old), begin(world, &write, new))
}

/// All completions there are; their tickets are released.
fn completions(world: &mut World) -> Vec<(TicketId, Result<(), BlockError>)> {
    world.service.poll();
    let mut all = Vec::new();
    while let Some(Completion { ticket, result, .. }) = world.service.next_completion() {
        world.service.release(ticket);
        all.push((ticket, result));
    }
    all
}

fn let_go(world: &mut World, at: usize) -> Vec<(TicketId, Result<(), BlockError>)> {
    world.service.store_mut().let_go(at);
    completions(world)
}

fn waiting(world: &mut World) -> usize {
    world.service.store().waiting()
}

fn a_pair_writes_only_what_it_has_compared(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    let a = world.attach(1, Enforce::Any);
    let [old, new, other] = [0, 1, 2].map(|seed| world.good(3, 1, seed));
    world.write(a, 3, &old).unwrap();
    let (compare, write) = pair(&mut world, a, 3, &old, &new);
    world.service.submit_fused(compare, write);
    assert_eq!(completions(&mut world), [(compare, Ok(())), (write, Ok(()))]);
    assert_eq!(world.read(a, 3, 1), Ok(new.clone()));
    let (compare, write) = pair(&mut world, a, 3, &old, &other);
    world.service.submit_fused(compare, write);
    let failed = [(compare, Err(miscompare())), (write, Err(BlockError::FusedFailed))];
    assert_eq!(completions(&mut world), failed);
    assert_eq!(world.read(a, 3, 1), Ok(new));
    assert_eq!(world.service.tickets_in_use(), 0);
}

fn each_half_is_checked_by_itself(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 512);
    let a = world.attach(1, Enforce::Any);
    let [old, new] = [0, 1].map(|seed| world.good(3, 1, seed));
    world.write(a, 3, &old).unwrap();
    let mut bad = new.clone();
    bad[100] ^= 1;
    let (compare, write) = pair(&mut world, a, 3, &old, &bad);
    world.service.submit_fused(compare, write);
    let done = completions(&mut world);
    assert_eq!(done[0], (compare, Ok(())), "the Compare does not depend on the Write");
    assert!(matches!(done[1].1, Err(BlockError::Protection(fault)) if fault.tag == Tag::Guard));
    assert_eq!(world.row(1).write.guard_errors, 1);
    let (compare, write) = pair(&mut world, a, 3, &bad, &new);
    world.service.submit_fused(compare, write);
    let done = completions(&mut world);
    assert!(matches!(done[0].1, Err(BlockError::Protection(fault)) if fault.tag == Tag::Guard));
    assert_eq!(done[1], (write, Err(BlockError::FusedFailed)));
    assert_eq!((world.row(1).read.guard_errors, world.faults.0.borrow().len()), (1, 2));
    let (compare, write) = pair(&mut world, a, 3, &old, &new);
    world.service.digest_failed(write);
    world.service.submit_fused(compare, write);
    assert_eq!(completions(&mut world), [(compare, Ok(())), (write, Err(BlockError::Digest))]);
    assert_eq!(world.read(a, 3, 1), Ok(old));
}

fn compare_holds_data_against_data_and_checks_tuples(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    let a = world.attach(1, Enforce::Any);
    let zeroes = [vec![0; 4096], vec![0xff; 8]].concat();
    let mut other = zeroes.clone();
    other[4096..].copy_from_slice(&[0, 0, 0x12, 0x34, 0, 0, 0, 7]);
    for wire in [zeroes, other] {
        let compare = world.command(a, Operation::Compare, 7, 1);
        let ticket = begin(&mut world, &compare, &wire);
        world.service.submit(ticket);
        assert_eq!(completions(&mut world), [(ticket, Ok(()))], "a hole is zeroes under any good tuple");
    }
}

fn nobody_writes_between_the_halves_of_a_pair(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    let (a, b) = (world.attach(1, Enforce::Any), world.attach(2, Enforce::Any));
    let [old, new, late] = [0, 1, 2].map(|seed| world.good(3, 1, seed));
    world.write(a, 3, &old).unwrap();
    world.service.store_mut().hold();
    let (compare, write) = pair(&mut world, a, 3, &old, &new);
    world.service.submit_fused(compare, write);
    assert_eq!(waiting(&mut world), 1, "the pair's Compare");
    let overlapping = world.command(b, Operation::Write, 3, 1);
    let overlapping = begin(&mut world, &overlapping, &late);
    world.service.submit(overlapping);
    for (operation, lba, blocks) in
        [(Operation::Deallocate, 0, 8), (Operation::WriteZeroes, 3, 2), (Operation::WriteUncorrectable, 2, 2)]
    {
        let command = Command { layout: Layout::DataOnly, ..world.command(b, operation, lba, blocks) };
        let ticket = begin(&mut world, &command, &[]);
        world.service.submit(ticket);
    }
    assert_eq!(waiting(&mut world), 1, "whoever changes the block waits");
    let elsewhere = world.command(b, Operation::Write, 4, 1);
    let wire = world.good(4, 1, 0);
    let elsewhere = begin(&mut world, &elsewhere, &wire);
    world.service.submit(elsewhere);
    let reader = world.command(b, Operation::Read, 3, 1);
    let reader = begin(&mut world, &reader, &[]);
    world.service.submit(reader);
    assert_eq!(waiting(&mut world), 3, "the block beside it, and readers, do not wait");
    assert_eq!(let_go(&mut world, 2), [(reader, Ok(()))]);
    assert_eq!(let_go(&mut world, 1), [(elsewhere, Ok(()))]);
    assert_eq!(let_go(&mut world, 0), [(compare, Ok(()))]);
    assert_eq!(waiting(&mut world), 1, "the pair's Write, and nobody else's");
    assert_eq!(let_go(&mut world, 0), [(write, Ok(()))]);
    assert_eq!(waiting(&mut world), 4, "now the others");
    assert_eq!(let_go(&mut world, 0), [(overlapping, Ok(()))]);
    while waiting(&mut world) > 0 {
        let_go(&mut world, 0);
    }
    assert_eq!(world.service.tickets_in_use(), 0);
}

fn a_pair_waits_for_writes_that_are_under_way(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    let (a, b) = (world.attach(1, Enforce::Any), world.attach(2, Enforce::Any));
    let [old, new, other] = [0, 1, 2].map(|seed| world.good(3, 1, seed));
    world.write(a, 3, &old).unwrap();
    world.service.store_mut().hold();
    let before = world.command(b, Operation::Write, 3, 1);
    let before = begin(&mut world, &before, &other);
    world.service.submit(before);
    let (compare, write) = pair(&mut world, a, 3, &old, &new);
    world.service.submit_fused(compare, write);
    assert_eq!(waiting(&mut world), 1, "the write that came first");
    assert_eq!(let_go(&mut world, 0), [(before, Ok(()))]);
    let failed = [(compare, Err(miscompare())), (write, Err(BlockError::FusedFailed))];
    assert_eq!(let_go(&mut world, 0), failed, "it has seen what the other wrote");
}

fn of_many_pairs_that_expect_the_same_one_wins_whatever_the_store_does_first(kind: Kind) {
    for seed in 1..=40_u64 {
        let mut world = World::new(kind, PiType::Type1, 512);
        let hosts: Vec<AttachmentId> = (1..=8).map(|host| world.attach(host, Enforce::Any)).collect();
        let mut now = world.good(9, 1, 0);
        world.write(hosts[0], 9, &now).unwrap();
        world.service.store_mut().hold();
        let mut dice = seed;
        for round in 1..=6 {
            let mut writes = Vec::new();
            for (number, host) in (0..).zip(&hosts) {
                let next = world.good(9, 1, round * 16 + number);
                let (compare, write) = pair(&mut world, *host, 9, &now, &next);
                world.service.submit_fused(compare, write);
                writes.push((write, next));
            }
            let mut won = Vec::new();
            while waiting(&mut world) > 0 {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (dice >> 33) as usize % waiting(&mut world);
                let done = let_go(&mut world, at);
                won.extend(done.iter().filter(|(_, result)| result.is_ok()).map(|(ticket, _)| *ticket));
            }
            let winners: Vec<&Vec<u8>> =
                writes.iter().filter(|(write, _)| won.contains(write)).map(|(_, next)| next).collect();
            let [winner] = winners[..] else { panic!("{} winners, seed {seed}", winners.len()) };
            now = winner.clone();
        }
        assert_eq!((world.service.tickets_in_use(), world.service.turns_in_use()), (0, 0));
    }
}

fn a_pair_may_be_given_up_at_any_point_and_blocks_nobody(kind: Kind) {
    for steps in 0..=3 {
        for first in [true, false] {
            let mut world = World::new(kind, PiType::Type1, 4096);
            let (a, b) = (world.attach(1, Enforce::Any), world.attach(2, Enforce::Any));
            let [old, new, late] = [0, 1, 2].map(|seed| world.good(3, 1, seed));
            world.write(a, 3, &old).unwrap();
            world.service.store_mut().hold();
            let (compare, write) = pair(&mut world, a, 3, &old, &new);
            world.service.submit_fused(compare, write);
            let after = world.command(b, Operation::Write, 3, 1);
            let after = begin(&mut world, &after, &late);
            world.service.submit(after);
            for _ in 0..steps.min(2) {
                world.service.store_mut().let_go(0);
                world.service.poll();
            }
            let halves = if first { [compare, write] } else { [write, compare] };
            halves.into_iter().for_each(|half| world.service.cancel(half));
            while waiting(&mut world) > 0 {
                world.service.store_mut().let_go(0);
                world.service.poll();
            }
            assert_eq!(completions(&mut world), [(after, Ok(()))], "{steps} steps");
            assert_eq!((world.service.tickets_in_use(), world.service.turns_in_use()), (0, 0));
        }
    }
}

fn a_pair_that_is_given_up_while_it_waits_leaves_its_turn(kind: Kind) {
    for first in [true, false] {
        let mut world = World::new(kind, PiType::Type1, 4096);
        let (a, b) = (world.attach(1, Enforce::Any), world.attach(2, Enforce::Any));
        let [old, new, early] = [0, 1, 2].map(|seed| world.good(3, 1, seed));
        world.service.store_mut().hold();
        let before = world.command(b, Operation::Write, 3, 1);
        let before = begin(&mut world, &before, &early);
        world.service.submit(before);
        let (compare, write) = pair(&mut world, a, 3, &old, &new);
        world.service.submit_fused(compare, write);
        assert_eq!(
            (waiting(&mut world), world.service.turns_in_use()),
            (1, 1),
            "behind the other host's write"
        );
        let halves = if first { [compare, write] } else { [write, compare] };
        halves.into_iter().for_each(|half| world.service.cancel(half));
        assert_eq!(world.service.turns_in_use(), 0);
        world.service.store_mut().let_go(0);
        world.service.poll();
        assert_eq!(completions(&mut world), [(before, Ok(()))]);
        assert_eq!(world.service.tickets_in_use(), 0);
    }
}

fn a_reader_finds_all_of_a_write_or_nothing_of_it(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 512);
    let (a, b) = (world.attach(1, Enforce::Any), world.attach(2, Enforce::Any));
    let [old, new] = [0, 1].map(|seed| world.good(0, 200, seed));
    world.write(a, 0, &old).unwrap();
    world.service.store_mut().hold();
    // Readers submitted before and after the write, done in every order.
    for order in [[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0], [2, 0, 0], [2, 1, 0]] {
        let reader = world.command(b, Operation::Read, 0, 200);
        let early = begin(&mut world, &reader, &[]);
        world.service.submit(early);
        let write = world.command(a, Operation::Write, 0, 200);
        let write = begin(&mut world, &write, &new);
        world.service.submit(write);
        let late = begin(&mut world, &reader, &[]);
        world.service.submit(late);
        for at in order {
            world.service.store_mut().let_go(at);
            world.service.poll();
        }
        while let Some(Completion { ticket, result, .. }) = world.service.next_completion() {
            assert_eq!(result, Ok(()));
            if ticket != write {
                let mut read = Vec::new();
                world.service.visit(ticket, 0, old.len(), &mut |piece| read.extend_from_slice(piece));
                assert!(read == old || read == new, "a mixture");
            }
            world.service.release(ticket);
        }
        let back = world.command(a, Operation::Write, 0, 200);
        let back = begin(&mut world, &back, &old);
        world.service.submit(back);
        assert_eq!(let_go(&mut world, 0), [(back, Ok(()))]);
    }
}

/// The token of an operation with the store, and the blocks that it changes.
fn changed(op: &StoreOp) -> (u32, Range<u64>) {
    match op {
        StoreOp::Publish { token, lba, slots, .. } => (*token, lba.0..lba.0 + slots.len() as u64),
        StoreOp::Deallocate { token, lba, blocks, .. } => (*token, lba.0..lba.0 + blocks),
        StoreOp::Read { token, .. } | StoreOp::Flush { token, .. } => (*token, 0..0),
    }
}

/// A pair that has not ended: its blocks and its halves.
type PairUnderWay = (Range<u64>, [TicketId; 2]);

/// While a half of a pair is with the store, nobody else's change of its blocks is there.
fn assert_alone(world: &World, pairs: &[PairUnderWay], seed: u64) {
    let held: Vec<(u32, Range<u64>)> = world.service.store().held().map(changed).collect();
    for (blocks, halves) in pairs {
        let is_half = |token: u32| halves.iter().any(|half| half.parts().0 == token);
        if !held.iter().any(|(token, _)| is_half(*token)) {
            continue;
        }
        let intruder = held
            .iter()
            .find(|(token, range)| !is_half(*token) && range.start < blocks.end && blocks.start < range.end);
        assert!(intruder.is_none(), "{intruder:?} is with the store beside {blocks:?}, seed {seed}");
    }
}

/// What a store does next, until it has no more to do.
fn let_one_go(world: &mut World, pairs: &mut Vec<PairUnderWay>, roll: &mut impl FnMut(u64) -> u64) -> usize {
    let at = roll(waiting(world) as u64) as usize;
    let done = let_go(world, at);
    pairs.retain(|(_, [_, write])| !done.iter().any(|(ticket, _)| ticket == write));
    done.len()
}

fn whatever_comes_and_goes_pairs_are_alone_and_everything_ends(kind: Kind) {
    for seed in 1..=300_u64 {
        let mut world = World::new(kind, PiType::Type1, 512);
        let hosts: Vec<AttachmentId> = (1..=3).map(|host| world.attach(host, Enforce::Any)).collect();
        world.service.store_mut().hold();
        let mut dice = seed;
        let mut roll = |below: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % below
        };
        let (mut pairs, mut open): (Vec<PairUnderWay>, Vec<Vec<TicketId>>) = (Vec::new(), Vec::new());
        let mut ended = 0;
        let mut begun = 0;
        for step in 0..200 {
            let host = hosts[roll(3) as usize];
            let (lba, blocks) = (roll(12), 1 + roll(5) as u32);
            match roll(8) {
                0..=2 => {
                    let seen = world.good(lba, blocks, 0);
                    let zeroes = [vec![0; 512], vec![0xff; 8]].concat().repeat(blocks as usize);
                    let mut old = if roll(2) == 0 { seen } else { zeroes };
                    if roll(8) == 0 {
                        old[7] ^= 1;
                    }
                    let compare = world.command(host, Operation::Compare, lba, blocks);
                    let write = world.command(host, Operation::Write, lba, blocks);
                    let new = world.good(lba, blocks, roll(2) as u8);
                    let halves = [begin(&mut world, &compare, &old), begin(&mut world, &write, &new)];
                    world.service.submit_fused(halves[0], halves[1]);
                    pairs.push((lba..lba + u64::from(blocks), halves));
                    open.push(halves.to_vec());
                    begun += 2;
                }
                3 | 4 => {
                    let write = world.command(host, Operation::Write, lba, blocks);
                    let mut payload = world.good(lba, blocks, 0);
                    if roll(8) == 0 {
                        payload[9] ^= 1;
                    }
                    let ticket = begin(&mut world, &write, &payload);
                    world.service.submit(ticket);
                    open.push(vec![ticket]);
                    begun += 1;
                }
                5 => {
                    let kind = [Operation::Deallocate, Operation::Read, Operation::Flush][roll(3) as usize];
                    let layout = if kind == Operation::Read { Layout::Interleaved } else { Layout::DataOnly };
                    let command = Command { layout, ..world.command(host, kind, lba, blocks) };
                    let ticket = begin(&mut world, &command, &[]);
                    world.service.submit(ticket);
                    open.push(vec![ticket]);
                    begun += 1;
                }
                6 if !open.is_empty() && step % 3 == 0 => {
                    let given_up = open.swap_remove(roll(open.len() as u64) as usize);
                    pairs.retain(|(_, halves)| *halves != given_up[..]);
                    given_up.into_iter().for_each(|ticket| world.service.cancel(ticket));
                }
                _ if waiting(&mut world) > 0 => {
                    ended += let_one_go(&mut world, &mut pairs, &mut roll);
                }
                _ => {}
            }
            assert_alone(&world, &pairs, seed);
        }
        while waiting(&mut world) > 0 {
            ended += let_one_go(&mut world, &mut pairs, &mut roll);
            assert_alone(&world, &pairs, seed);
        }
        assert!(ended > begun / 2, "{ended} of {begun} ended, seed {seed}");
        assert_eq!((world.service.tickets_in_use(), world.service.turns_in_use()), (0, 0), "seed {seed}");
    }
}

/// The payloads of these tests differ in their first byte.
fn miscompare() -> BlockError {
    BlockError::Miscompare(Difference { block_index: 0, offset: 0, tag: None })
}

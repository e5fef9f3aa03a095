//! Reservations in the service: who gets in, and the end of those that were shut out.

use holdfast_block::{AttachmentId, BlockError, BlockPort, Enforce, Operation, TicketId};
use holdfast_pi::PiType;

use super::*;
use crate::world::{Kind, World, nexus};

use ReservationType::{ExclusiveAccess, WriteExclusive, WriteExclusiveRegistrantsOnly};

on_each_pool!(
    a_stranger_to_a_write_exclusive_reads_and_does_not_write,
    a_stranger_to_an_exclusive_access_does_nothing_until_it_is_released,
    who_attaches_later_finds_the_reservation_and_other_volumes_have_none,
    a_change_takes_effect_when_it_is_committed_and_another_waits_for_that,
    lost_reservations_stop_everybody_until_they_are_replaced,
    the_old_reserve_ends_with_its_nexus_even_if_it_is_only_proposed,
    a_preempted_write_that_is_not_with_the_store_never_gets_there,
    preempting_without_abort_lets_commands_under_way_end,
    a_volume_is_fenced_once_no_preempted_write_is_with_the_store,
    a_preempted_pair_ends_without_its_write,
);

fn world(kind: Kind) -> World {
    World::new(kind, PiType::Type1, 512)
}

/// Host 1 holds the volume, host 2 is registered, host 3 is a stranger.
fn held_by_one(pool: Kind, kind: ReservationType) -> (World, [AttachmentId; 3]) {
    let mut world = world(pool);
    let attached = [1, 2, 3].map(|number| world.attach(number, Enforce::Any));
    change(&mut world, 1, &register(0, 11));
    change(&mut world, 2, &register(0, 12));
    change(&mut world, 1, &reserve(11, kind));
    (world, attached)
}

fn change(world: &mut World, number: u64, request: &Request) -> Effects {
    let volume = world.volume;
    world.service.propose_reservation(volume, &nexus(number), request).unwrap();
    world.service.commit_reservation(volume).unwrap()
}

fn write(world: &mut World, attachment: AttachmentId, seed: u8) -> Result<(), BlockError> {
    let command = world.command(attachment, Operation::Write, 0, 1);
    let ticket = world.service.begin(&command)?;
    let wire = world.good(0, 1, seed);
    world.service.fill(ticket, 0, &wire);
    world.service.submit(ticket);
    world.service.poll();
    let completion = world.service.next_completion().unwrap();
    world.service.release(completion.ticket);
    completion.result
}

fn begin(world: &mut World, attachment: AttachmentId, operation: Operation) -> Result<(), BlockError> {
    let command = world.command(attachment, operation, 0, 1);
    let ticket = world.service.begin(&command)?;
    world.service.cancel(ticket);
    Ok(())
}

fn a_stranger_to_a_write_exclusive_reads_and_does_not_write(kind: Kind) {
    let (mut world, [one, two, three]) = held_by_one(kind, WriteExclusive);
    assert_eq!(write(&mut world, one, 1), Ok(()));
    for stranger in [two, three] {
        assert_eq!(write(&mut world, stranger, 2), Err(BlockError::ReservationConflict));
        let changes = [
            Operation::WriteZeroes,
            Operation::Deallocate,
            Operation::WriteUncorrectable,
            Operation::CopyTarget,
            Operation::Flush,
        ];
        for operation in changes {
            assert_eq!(begin(&mut world, stranger, operation), Err(BlockError::ReservationConflict));
        }
        for operation in [Operation::Read, Operation::Compare, Operation::Verify, Operation::CopySource] {
            assert_eq!(begin(&mut world, stranger, operation), Ok(()));
        }
    }
    assert_eq!(world.read(three, 0, 1).unwrap(), world.good(0, 1, 1), "as the holder wrote it");
    assert_eq!(world.service.tickets_in_use(), 0);
}

fn a_stranger_to_an_exclusive_access_does_nothing_until_it_is_released(kind: Kind) {
    let (mut world, [one, _, three]) = held_by_one(kind, ExclusiveAccess);
    assert_eq!(begin(&mut world, three, Operation::Read), Err(BlockError::ReservationConflict));
    assert_eq!(begin(&mut world, one, Operation::Read), Ok(()));
    change(&mut world, 1, &Request::Release { key: key(11), kind: ExclusiveAccess });
    assert_eq!(begin(&mut world, three, Operation::Read), Ok(()));
}

fn who_attaches_later_finds_the_reservation_and_other_volumes_have_none(kind: Kind) {
    let (mut world, _) = held_by_one(kind, WriteExclusiveRegistrantsOnly);
    let again = [1, 2, 3].map(|number| world.attach(number, Enforce::Any));
    assert_eq!(begin(&mut world, again[0], Operation::Write), Ok(()));
    assert_eq!(begin(&mut world, again[1], Operation::Write), Ok(()), "registered with the same identifier");
    assert_eq!(begin(&mut world, again[2], Operation::Write), Err(BlockError::ReservationConflict));
    let volume = world.volume;
    world.service.forget_reservations(volume);
    assert_eq!(begin(&mut world, again[2], Operation::Write), Ok(()));
    assert_eq!(world.service.reservations(volume), None);
}

fn a_change_takes_effect_when_it_is_committed_and_another_waits_for_that(kind: Kind) {
    let (mut world, [_, two, _]) = held_by_one(kind, WriteExclusive);
    let volume = world.volume;
    let preempt = preempt(12, 11, WriteExclusive, false);
    assert_eq!(world.service.propose_reservation(volume, &nexus(2), &preempt), Ok(Keep::AsIs));
    assert_eq!(begin(&mut world, two, Operation::Write), Err(BlockError::ReservationConflict));
    let other = world.service.propose_reservation(volume, &nexus(1), &register(11, 0));
    assert_eq!(other, Err(Refusal::UnderWay));
    world.service.abandon_reservation(volume);
    assert_eq!(world.service.commit_reservation(volume), None, "given up");
    assert_eq!(begin(&mut world, two, Operation::Write), Err(BlockError::ReservationConflict));
    world.service.propose_reservation(volume, &nexus(2), &preempt).unwrap();
    let effects = world.service.commit_reservation(volume).unwrap();
    assert_eq!(effects.attentions, [(nexus(1), Attention::RegistrationsPreempted)]);
    assert_eq!(begin(&mut world, two, Operation::Write), Ok(()));
    assert_eq!(world.service.commit_reservation(volume), None, "done");
}

fn lost_reservations_stop_everybody_until_they_are_replaced(kind: Kind) {
    let mut world = world(kind);
    let one = world.attach(1, Enforce::Any);
    let volume = world.volume;
    world.service.set_reservations(volume, Reservations::lost());
    assert_eq!(begin(&mut world, one, Operation::Read), Err(BlockError::ReservationsLost));
    let replace = Request::ReplaceLost { key: None, new: key(5), kind: WriteExclusive, lasting: Some(true) };
    let two = world.attach(2, Enforce::Any);
    change(&mut world, 1, &replace);
    assert_eq!(begin(&mut world, one, Operation::Write), Ok(()));
    assert_eq!(begin(&mut world, two, Operation::Write), Err(BlockError::ReservationConflict));
}

fn the_old_reserve_ends_with_its_nexus_even_if_it_is_only_proposed(kind: Kind) {
    let mut world = world(kind);
    let two = world.attach(2, Enforce::Any);
    let volume = world.volume;
    change(&mut world, 1, &Request::LegacyReserve);
    assert_eq!(begin(&mut world, two, Operation::Read), Err(BlockError::ReservationConflict));
    world.service.end_legacy_reservation(volume, Some(&nexus(1)));
    assert_eq!(begin(&mut world, two, Operation::Read), Ok(()));
    world.service.propose_reservation(volume, &nexus(1), &Request::LegacyReserve).unwrap();
    world.service.end_legacy_reservation(volume, None);
    world.service.commit_reservation(volume).unwrap();
    assert_eq!(begin(&mut world, two, Operation::Read), Ok(()));
}

/// A write of one block, its payload complete.
fn ready(world: &mut World, attachment: AttachmentId, lba: u64, seed: u8) -> TicketId {
    let command = world.command(attachment, Operation::Write, lba, 1);
    let ticket = world.service.begin(&command).unwrap();
    let wire = world.good(lba, 1, seed);
    world.service.fill(ticket, 0, &wire);
    ticket
}

fn ended(world: &mut World) -> Vec<(TicketId, Result<(), BlockError>)> {
    world.service.poll();
    let completions = std::iter::from_fn(|| world.service.next_completion());
    let ended: Vec<_> = completions.map(|completion| (completion.ticket, completion.result)).collect();
    for (ticket, _) in &ended {
        world.service.release(*ticket);
    }
    ended
}

fn a_preempted_write_that_is_not_with_the_store_never_gets_there(kind: Kind) {
    let (mut world, [one, two, three]) = held_by_one(kind, WriteExclusive);
    let late = ready(&mut world, one, 5, 1);
    change(&mut world, 2, &preempt(12, 11, WriteExclusive, true));
    let volume = world.volume;
    assert!(world.service.is_fenced(volume));
    world.service.submit(late);
    assert_eq!(ended(&mut world), [(late, Err(BlockError::Preempted))]);
    let mine = ready(&mut world, two, 6, 2);
    world.service.submit(mine);
    assert_eq!(ended(&mut world), [(mine, Ok(()))]);
    let untouched = world.read(three, 5, 1).unwrap();
    assert!(untouched[..512].iter().all(|byte| *byte == 0), "nothing of the preempted write");
    assert_eq!(world.read(three, 6, 1).unwrap(), world.good(6, 1, 2));
    assert_eq!(world.faults.0.borrow().len(), 0, "nobody is to blame");
}

fn preempting_without_abort_lets_commands_under_way_end(kind: Kind) {
    let (mut world, [one, ..]) = held_by_one(kind, WriteExclusive);
    let late = ready(&mut world, one, 5, 1);
    change(&mut world, 2, &preempt(12, 11, WriteExclusive, false));
    world.service.submit(late);
    assert_eq!(ended(&mut world), [(late, Ok(()))]);
}

fn a_volume_is_fenced_once_no_preempted_write_is_with_the_store(kind: Kind) {
    let (mut world, [one, two, _]) = held_by_one(kind, WriteExclusiveRegistrantsOnly);
    let volume = world.volume;
    world.service.store_mut().hold();
    let [wanted, orphan] = [1, 2].map(|lba| ready(&mut world, one, lba, 1));
    let others = ready(&mut world, two, 3, 2);
    for ticket in [wanted, orphan, others] {
        world.service.submit(ticket);
    }
    world.service.cancel(orphan);
    world.service.detach(one);
    change(&mut world, 2, &preempt(12, 11, WriteExclusive, true));
    assert!(!world.service.is_fenced(volume));
    let next = world.service.propose_reservation(volume, &nexus(2), &register(12, 13));
    assert_eq!(next, Err(Refusal::UnderWay));
    world.service.store_mut().let_go(2);
    assert_eq!(ended(&mut world), [(others, Ok(()))]);
    assert!(!world.service.is_fenced(volume));
    world.service.store_mut().let_go(0);
    assert_eq!(ended(&mut world), [(wanted, Err(BlockError::Preempted))]);
    assert!(!world.service.is_fenced(volume), "one that nobody waits for is still there");
    world.service.store_mut().let_go(0);
    assert_eq!(ended(&mut world), []);
    assert!(world.service.is_fenced(volume));
    assert_eq!(world.service.tickets_in_use(), 0);
    change(&mut world, 2, &register(12, 13));
}

fn a_preempted_pair_ends_without_its_write(kind: Kind) {
    let (mut world, [one, two, _]) = held_by_one(kind, WriteExclusiveRegistrantsOnly);
    let volume = world.volume;
    let first = ready(&mut world, one, 4, 1);
    world.service.submit(first);
    ended(&mut world);
    let compare = world.command(one, Operation::Compare, 4, 1);
    let compare = world.service.begin(&compare).unwrap();
    let same = world.good(4, 1, 1);
    world.service.fill(compare, 0, &same);
    let second = ready(&mut world, one, 4, 2);
    world.service.store_mut().hold();
    world.service.submit_fused(compare, second);
    change(&mut world, 2, &preempt(12, 11, WriteExclusive, true));
    assert!(!world.service.is_fenced(volume));
    world.service.store_mut().let_go(0);
    let both = ended(&mut world);
    let expected = [(compare, Err(BlockError::Preempted)), (second, Err(BlockError::FusedFailed))];
    assert_eq!(both.len(), 2);
    assert!(expected.iter().all(|end| both.contains(end)), "{both:?}");
    assert!(world.service.is_fenced(volume));
    assert_eq!((world.service.tickets_in_use(), world.service.turns_in_use()), (0, 0));
    let read = world.command(two, Operation::Read, 4, 1);
    let read = world.service.begin(&read).unwrap();
    world.service.submit(read);
    world.service.store_mut().let_go(0);
    world.service.poll();
    let mut found = Vec::new();
    world.service.visit(read, 0, same.len(), &mut |piece| found.extend_from_slice(piece));
    assert_eq!(found, same, "as before the pair");
}

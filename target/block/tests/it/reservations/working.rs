//! Reservations in the service: who gets in, and the end of those that were shut out.

use std::sync::Arc;

use holdfast_block::reservations::{Access, ReservationBook};
use holdfast_block::{AttachmentId, BlockError, BlockPort, Enforce, Operation, Origin, TicketId};
use holdfast_pi::PiType;

use super::*;
use crate::world::{Kind, World, nexus};

use ReservationType::{ExclusiveAccess, WriteExclusive, WriteExclusiveRegistrantsOnly};

on_each_pool!(
    a_stranger_to_a_write_exclusive_reads_and_does_not_write,
    a_stranger_to_an_exclusive_access_does_nothing_until_it_is_released,
    who_attaches_later_finds_the_reservation_and_other_volumes_have_none,
    a_change_takes_effect_once_it_is_written_down_and_the_next_waits_for_that,
    a_change_that_cannot_be_written_down_is_not_made,
    a_change_that_nobody_waits_for_is_made_and_others_notice_it,
    requests_for_a_volume_that_is_deleted_end,
    all_cores_see_what_was_committed,
    lost_reservations_stop_everybody_until_they_are_replaced,
    the_old_reserve_ends_with_its_nexus_and_by_a_reset,
    a_preempted_write_that_is_not_with_the_store_never_gets_there,
    preempting_without_abort_lets_commands_under_way_end,
    preempting_and_aborting_ends_once_no_preempted_write_is_with_the_store,
    a_preempted_pair_ends_without_its_write,
);

fn world(kind: Kind) -> World {
    World::new(kind, PiType::Type1, 512)
}

/// Host 1 holds the volume, host 2 is registered, host 3 is a stranger.
fn held_by_one(pool: Kind, kind: ReservationType) -> (World, [AttachmentId; 3]) {
    let mut world = world(pool);
    let attached = [1, 2, 3].map(|number| world.attach(number, Enforce::Any));
    change(&mut world, attached[0], &register(0, 11));
    change(&mut world, attached[1], &register(0, 12));
    change(&mut world, attached[0], &reserve(11, kind));
    (world, attached)
}

/// Asks through an attachment, and carries out what is to be written down.
fn ask(world: &mut World, from: AttachmentId, request: &Request) -> TicketId {
    let origin = Origin { connection: 3, command: 4 };
    world.service.begin_reservation(origin, from, request.clone()).unwrap()
}

/// The answer to a request that has ended.
fn answer(world: &mut World, ticket: TicketId) -> Result<Effects, Refusal> {
    let completion = world.service.next_completion().unwrap();
    assert_eq!((completion.ticket, completion.result), (ticket, Ok(())));
    assert_eq!(completion.origin, Origin { connection: 3, command: 4 });
    let answer = world.service.reservation_answer(ticket).unwrap().clone();
    world.service.release(ticket);
    answer
}

fn change(world: &mut World, from: AttachmentId, request: &Request) -> Effects {
    let ticket = ask(world, from, request);
    answer(world, ticket).unwrap()
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
    change(&mut world, one, &Request::Release { key: key(11), kind: ExclusiveAccess });
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

fn a_change_takes_effect_once_it_is_written_down_and_the_next_waits_for_that(kind: Kind) {
    let (mut world, [one, two, _]) = held_by_one(kind, WriteExclusive);
    let lasting =
        Request::Register { key: key(11), new: key(13), lasting: Some(true), reach: Reach::default() };
    let first = ask(&mut world, one, &lasting);
    let second = ask(&mut world, two, &preempt(12, 13, WriteExclusive, false));
    let third = ask(&mut world, one, &register(13, 14));
    let order = world.service.next_keep_order().unwrap();
    assert!(world.service.next_completion().is_none(), "nothing is decided before it is written down");
    let before = world.service.reservation_report(one).unwrap();
    assert_eq!((before.key_of(&nexus(1)), before.key_of(&nexus(2))), (key(11), key(12)));
    world.service.reservation_kept(order.volume, order.number + 1, true);
    assert!(world.service.next_completion().is_none(), "that was another");
    world.service.reservation_kept(order.volume, order.number, true);
    assert_eq!(answer(&mut world, first), Ok(Effects::default()));
    let now = world.service.reservation_report(one).unwrap();
    assert_eq!(Reservations::restore(&order.value.unwrap()).unwrap().key_of(&nexus(1)), key(13));
    assert_eq!(now.key_of(&nexus(1)), key(13));
    assert_eq!(begin(&mut world, two, Operation::Write), Err(BlockError::ReservationConflict));
    let order = world.service.next_keep_order().unwrap();
    world.service.reservation_kept(order.volume, order.number, true);
    let effects = answer(&mut world, second).unwrap();
    assert_eq!(effects.attentions, [(nexus(1), Attention::RegistrationsPreempted)]);
    assert_eq!(answer(&mut world, third), Err(Refusal::Conflict), "it is not registered any more");
    assert_eq!(begin(&mut world, two, Operation::Write), Ok(()));
    assert_eq!((world.service.next_keep_order(), world.service.tickets_in_use()), (None, 0));
}

fn a_change_that_cannot_be_written_down_is_not_made(kind: Kind) {
    let (mut world, [one, ..]) = held_by_one(kind, WriteExclusive);
    let lasting =
        Request::Register { key: key(11), new: key(13), lasting: Some(true), reach: Reach::default() };
    let ticket = ask(&mut world, one, &lasting);
    let order = world.service.next_keep_order().unwrap();
    world.service.reservation_kept(order.volume, order.number, false);
    assert_eq!(ended(&mut world), [(ticket, Err(BlockError::WriteFault))]);
    assert_eq!(world.service.reservation_report(one).unwrap().key_of(&nexus(1)), key(11));
    change(&mut world, one, &register(11, 12));
}

fn a_change_that_nobody_waits_for_is_made_and_others_notice_it(kind: Kind) {
    let (mut world, [one, two, _]) = held_by_one(kind, WriteExclusive);
    let volume = world.volume;
    // Decided, and given up before its end is taken.
    let ticket = ask(&mut world, two, &preempt(12, 11, WriteExclusive, false));
    world.service.cancel(ticket);
    let (noticed, effects) = world.service.next_unheard().unwrap();
    assert_eq!(noticed, volume);
    assert_eq!(effects.attentions, [(nexus(1), Attention::RegistrationsPreempted)]);
    // Given up while it is written down.
    let lasting = Request::Register { key: None, new: key(13), lasting: Some(true), reach: Reach::default() };
    let ticket = ask(&mut world, one, &lasting);
    let waiting = ask(&mut world, one, &register(13, 15));
    world.service.cancel(ticket);
    world.service.cancel(waiting);
    let order = world.service.next_keep_order().unwrap();
    world.service.reservation_kept(order.volume, order.number, true);
    assert_eq!(world.service.reservation_report(one).unwrap().key_of(&nexus(1)), key(13));
    assert!(world.service.next_completion().is_none());
    assert_eq!(world.service.tickets_in_use(), 0);
}

fn requests_for_a_volume_that_is_deleted_end(kind: Kind) {
    let (mut world, [one, two, _]) = held_by_one(kind, WriteExclusive);
    let volume = world.volume;
    let lasting =
        Request::Register { key: key(11), new: key(13), lasting: Some(true), reach: Reach::default() };
    let tickets = [ask(&mut world, one, &lasting), ask(&mut world, two, &register(12, 15))];
    let order = world.service.next_keep_order().unwrap();
    world.service.forget_reservations(volume);
    assert_eq!(ended(&mut world), tickets.map(|ticket| (ticket, Err(BlockError::Gone))));
    world.service.reservation_kept(order.volume, order.number, true);
    assert_eq!(world.service.reservations(volume), None);
}

fn all_cores_see_what_was_committed(kind: Kind) {
    let mut world = world(kind);
    let book = Arc::new(ReservationBook::default());
    world.service.share_reservations(Arc::clone(&book));
    let (one, volume) = (world.attach(1, Enforce::Any), world.volume);
    let before = book.changes();
    change(&mut world, one, &register(0, 11));
    assert!(book.changes() > before);
    assert_eq!(book.of(volume).key_of(&nexus(1)), key(11));
    world.service.forget_reservations(volume);
    assert_eq!(*book.of(volume), Reservations::default());
}

fn lost_reservations_stop_everybody_until_they_are_replaced(kind: Kind) {
    let mut world = world(kind);
    let one = world.attach(1, Enforce::Any);
    let volume = world.volume;
    world.service.set_reservations(volume, Reservations::lost());
    assert_eq!(begin(&mut world, one, Operation::Read), Err(BlockError::ReservationsLost));
    let replace = Request::ReplaceLost { key: None, new: key(5), kind: WriteExclusive, lasting: Some(true) };
    let two = world.attach(2, Enforce::Any);
    let ticket = ask(&mut world, one, &replace);
    let order = world.service.next_keep_order().unwrap();
    world.service.reservation_kept(order.volume, order.number, true);
    assert_eq!(answer(&mut world, ticket), Ok(Effects::default()));
    assert_eq!(begin(&mut world, one, Operation::Write), Ok(()));
    assert_eq!(begin(&mut world, two, Operation::Write), Err(BlockError::ReservationConflict));
}

fn the_old_reserve_ends_with_its_nexus_and_by_a_reset(kind: Kind) {
    let mut world = world(kind);
    let [one, again, two] = [1, 1, 2].map(|number| world.attach(number, Enforce::Any));
    change(&mut world, one, &Request::LegacyReserve);
    assert!(!world.service.standing(two).allows(Access::Status));
    world.service.detach(one);
    assert_eq!(begin(&mut world, two, Operation::Read), Err(BlockError::ReservationConflict));
    world.service.detach(again);
    assert_eq!(begin(&mut world, two, Operation::Read), Ok(()));
    let three = world.attach(3, Enforce::Any);
    change(&mut world, three, &Request::LegacyReserve);
    assert_eq!(begin(&mut world, two, Operation::Read), Err(BlockError::ReservationConflict));
    world.service.end_legacy_reservation(two);
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
    change(&mut world, two, &preempt(12, 11, WriteExclusive, true));
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
    let (mut world, [one, two, _]) = held_by_one(kind, WriteExclusive);
    let late = ready(&mut world, one, 5, 1);
    change(&mut world, two, &preempt(12, 11, WriteExclusive, false));
    world.service.submit(late);
    assert_eq!(ended(&mut world), [(late, Ok(()))]);
}

fn preempting_and_aborting_ends_once_no_preempted_write_is_with_the_store(kind: Kind) {
    let (mut world, [one, two, _]) = held_by_one(kind, WriteExclusiveRegistrantsOnly);
    world.service.store_mut().hold();
    let [wanted, orphan] = [1, 2].map(|lba| ready(&mut world, one, lba, 1));
    let others = ready(&mut world, two, 3, 2);
    for ticket in [wanted, orphan, others] {
        world.service.submit(ticket);
    }
    world.service.cancel(orphan);
    let abort = ask(&mut world, two, &preempt(12, 11, WriteExclusive, true));
    let next = ask(&mut world, two, &register(12, 13));
    let preempted = ask(&mut world, one, &register(0, 14));
    world.service.detach(one);
    world.service.store_mut().let_go(2);
    assert_eq!(ended(&mut world), [(others, Ok(()))]);
    world.service.store_mut().let_go(0);
    assert_eq!(ended(&mut world), [(wanted, Err(BlockError::Preempted))]);
    assert!(world.service.next_completion().is_none(), "one that nobody waits for is still there");
    world.service.store_mut().let_go(0);
    world.service.poll();
    assert_eq!(answer(&mut world, abort).unwrap().aborted, [nexus(1)]);
    assert_eq!(answer(&mut world, next), Ok(Effects::default()));
    assert_eq!(answer(&mut world, preempted), Ok(Effects::default()), "it came after the abort");
    assert_eq!(world.service.tickets_in_use(), 0);
}

fn a_preempted_pair_ends_without_its_write(kind: Kind) {
    let (mut world, [one, two, _]) = held_by_one(kind, WriteExclusiveRegistrantsOnly);
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
    let abort = ask(&mut world, two, &preempt(12, 11, WriteExclusive, true));
    assert!(world.service.next_completion().is_none());
    world.service.store_mut().let_go(0);
    let ends = ended(&mut world);
    let expected =
        [(compare, Err(BlockError::Preempted)), (second, Err(BlockError::FusedFailed)), (abort, Ok(()))];
    assert_eq!(ends.len(), 3);
    assert!(expected.iter().all(|end| ends.contains(end)), "{ends:?}");
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

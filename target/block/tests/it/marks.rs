//! Write Uncorrectable.

use holdfast_block::{BlockError, BlockPort, Command, Enforce, IoRow, Layout, Lba, Operation};
use holdfast_pi::{CheckPlan, PiType};

use crate::world::{Kind, World};

on_each_pool!(
    marked_blocks_fail_every_read_of_them_whole_and_nobody_is_blamed,
    writing_zeroing_and_deallocating_take_the_mark_away,
    a_reader_that_began_before_keeps_what_it_found,
);

fn run(world: &mut World, command: &Command, payload: &[u8]) -> Result<(), BlockError> {
    let (ticket, result) = world.run(command, payload);
    world.service.release(ticket);
    result
}

fn marked_blocks_fail_every_read_of_them_whole_and_nobody_is_blamed(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    let a = world.attach(1, Enforce::Any);
    let wire = world.good(0, 8, 0);
    world.write(a, 0, &wire).unwrap();
    let mark = Command { layout: Layout::DataOnly, ..world.command(a, Operation::WriteUncorrectable, 5, 1) };
    assert_eq!(run(&mut world, &mark, &[]), Ok(()));
    let before = world.row(1);
    for plan in [world.checks(0), CheckPlan::none()] {
        for operation in [Operation::Read, Operation::Verify, Operation::CopySource] {
            let command = Command { plan, ..world.command(a, operation, 0, 8) };
            let ticket = world.service.begin(&command).unwrap();
            world.service.submit(ticket);
            world.service.poll();
            let completion = world.service.next_completion().unwrap();
            assert_eq!(completion.result, Err(BlockError::Uncorrectable(Lba(5))));
            world.service.release(ticket);
        }
    }
    let compare = world.command(a, Operation::Compare, 0, 8);
    assert_eq!(run(&mut world, &compare, &wire), Err(BlockError::Uncorrectable(Lba(5))));
    assert_eq!(world.row(1), before, "nothing is counted");
    assert!(world.faults.0.borrow().is_empty(), "and nothing reported");
    assert_eq!(world.read(a, 0, 5), Ok(wire[..5 * 4104].to_vec()), "their neighbours can be read");
    assert_eq!(world.service.blocks_allocated(world.volume), Some(8), "a marked block is a written one");
    assert_eq!(world.service.tickets_in_use(), 0);
}

fn writing_zeroing_and_deallocating_take_the_mark_away(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 512);
    let a = world.attach(1, Enforce::Any);
    let plain = |world: &World, operation, lba, blocks| Command {
        layout: Layout::DataOnly,
        ..world.command(a, operation, lba, blocks)
    };
    let mark = plain(&world, Operation::WriteUncorrectable, 0, 4);
    assert_eq!(run(&mut world, &mark, &[]), Ok(()));
    let wire = world.good(0, 1, 0);
    world.write(a, 0, &wire).unwrap();
    let zeroes = plain(&world, Operation::WriteZeroes, 1, 1);
    assert_eq!(run(&mut world, &zeroes, &[]), Ok(()));
    let deallocate = plain(&world, Operation::Deallocate, 2, 1);
    assert_eq!(run(&mut world, &deallocate, &[]), Ok(()));
    assert!(world.read(a, 0, 3).is_ok());
    assert_eq!(world.read(a, 3, 1), Err(BlockError::Uncorrectable(Lba(3))));
    assert_eq!(run(&mut world, &mark, &[]), Ok(()), "marked again, over data and holes");
    assert_eq!(world.read(a, 0, 1), Err(BlockError::Uncorrectable(Lba(0))));
    assert_ne!(world.row(1), IoRow::default());
}

fn a_reader_that_began_before_keeps_what_it_found(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    let a = world.attach(1, Enforce::Any);
    let wire = world.good(0, 2, 0);
    world.write(a, 0, &wire).unwrap();
    let reader = world.service.begin(&world.command(a, Operation::Read, 0, 2)).unwrap();
    world.service.submit(reader);
    world.service.poll();
    assert_eq!(world.service.next_completion().unwrap().result, Ok(()));
    let mark = Command { layout: Layout::DataOnly, ..world.command(a, Operation::WriteUncorrectable, 0, 2) };
    assert_eq!(run(&mut world, &mark, &[]), Ok(()));
    let mut read = Vec::new();
    world.service.visit(reader, 0, wire.len(), &mut |piece| read.extend_from_slice(piece));
    assert_eq!(read, wire);
    world.service.release(reader);
}

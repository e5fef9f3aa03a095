//! Copy: blocks from one ticket to another, and who is to blame for them.

use holdfast_block::attribution::Verdict;
use holdfast_block::{
    AttachmentId, BlockCount, BlockError, BlockOrigin, BlockPort, BlockRecord, Command, Enforce, IoRow,
    Layout, Lba, Operation, Provenance, Store, StoreOp,
};
use holdfast_pi::{CheckPlan, InsertTags, PiType, Tag};

use crate::world::{Kind, World, host};

on_each_pool!(
    tuples_and_holes_go_along_as_they_are_and_count_nowhere,
    a_copy_of_a_bad_block_names_who_wrote_it,
    a_copy_does_not_launder_what_went_bad_here,
    tuples_made_anew_are_the_copiers,
    a_source_tells_holes_from_blocks,
    a_destination_that_expects_other_tags_stores_nothing,
);

/// Runs a command without a payload.
fn complete(world: &mut World, command: &Command) -> Result<(), BlockError> {
    let (ticket, result) = world.run(command, &[]);
    world.service.release(ticket);
    result
}

/// Copies `blocks` blocks from each of `sources` to `target.lba` on.
fn copy(world: &mut World, target: &Command, sources: &[Command]) -> Result<(), BlockError> {
    let blocks = sources.iter().map(|source| source.blocks.get()).sum();
    let target = Command { blocks: BlockCount::new(blocks), operation: Operation::CopyTarget, ..*target };
    let held = world.service.begin(&target).unwrap();
    for source in sources {
        let ticket = world.service.begin(&Command { operation: Operation::CopySource, ..*source }).unwrap();
        world.service.submit(ticket);
        world.service.poll();
        let completion = world.service.next_completion().unwrap();
        if completion.result.is_ok() {
            world.service.carry(ticket, held);
        }
        world.service.release(ticket);
        if completion.result.is_err() {
            world.service.cancel(held);
            return completion.result;
        }
    }
    world.service.submit(held);
    world.service.poll();
    let completion = world.service.next_completion().unwrap();
    world.service.release(held);
    completion.result
}

/// A command of any kind that checks nothing.
fn blind(world: &World, who: AttachmentId, lba: u64, blocks: u32) -> Command {
    Command { plan: CheckPlan::none(), ..world.command(who, Operation::Read, lba, blocks) }
}

/// Stores one block as it is, with this provenance.
fn plant(world: &mut World, lba: u64, wire: &[u8], provenance: Provenance) {
    let (volume, block_len) = (world.volume, world.format.block_len());
    let stores = world.service.store_mut();
    let mut slots = Vec::new();
    stores.reserve(volume, Lba(lba), BlockCount::new(1), &mut slots).unwrap();
    stores.data_mut(volume, slots[0]).unwrap().copy_from_slice(&wire[..block_len]);
    let mut tuple = [0; 16];
    tuple[..8].copy_from_slice(&wire[block_len..]);
    stores.set_record(volume, slots[0], &BlockRecord { tuple, provenance, writer: Some(host(1)) });
    stores.submit(StoreOp::Publish { token: 0, volume, lba: Lba(lba), slots, durable: false });
    assert_eq!(stores.poll().unwrap().result, Ok(()));
}

fn tuples_and_holes_go_along_as_they_are_and_count_nowhere(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    let a = world.attach(1, Enforce::Any);
    let wire = world.good(10, 3, 0);
    world.write(a, 10, &wire).unwrap();
    let before = world.row(1);
    let sources = [blind(&world, a, 12, 1), blind(&world, a, 0, 1), blind(&world, a, 10, 2)];
    let target = blind(&world, a, 40, 0);
    assert_eq!(copy(&mut world, &target, &sources), Ok(()));
    assert_eq!(world.row(1), before);
    let hole = [vec![0; 4096], vec![0xff; 8]].concat();
    let expected = [&wire[2 * 4104..], &hole, &wire[..2 * 4104]].concat();
    let read = blind(&world, a, 40, 4);
    assert!(world.read_with(&read) == Ok(expected), "the copy is not what was copied");
    let verify = Command { plan: world.checks(41), ..world.command(a, Operation::Verify, 41, 1) };
    assert_eq!(complete(&mut world, &verify), Ok(()), "a hole's copy escapes checks like a hole");
    assert_eq!(world.service.tickets_in_use(), 0);
}

fn a_copy_of_a_bad_block_names_who_wrote_it(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    let (a, b) = (world.attach(1, Enforce::Any), world.attach(2, Enforce::Any));
    let mut bad = world.good(10, 1, 0);
    bad[77] ^= 1;
    let unchecked = Command { operation: Operation::Write, ..blind(&world, a, 10, 1) };
    let (ticket, result) = world.run(&unchecked, &bad);
    world.service.release(ticket);
    assert_eq!(result, Ok(()));
    let target = blind(&world, b, 40, 0);
    let sources = [blind(&world, b, 10, 1)];
    assert_eq!(copy(&mut world, &target, &sources), Ok(()));
    assert!(world.faults.0.borrow().is_empty());
    assert!(world.read(b, 40, 1).is_err());
    let reports = world.faults.0.take();
    assert_eq!((reports[0].writer, reports[0].verdict), (Some(host(1)), Verdict::Undetermined));
    let checked = [world.command(b, Operation::CopySource, 10, 1)];
    let failed = copy(&mut world, &target, &checked);
    assert!(matches!(failed, Err(BlockError::Protection(fault)) if fault.tag == Tag::Guard));
    let reports = world.faults.0.take();
    assert_eq!((reports.len(), reports[0].writer, reports[0].lba), (1, Some(host(1)), Lba(10)));
    assert_eq!((world.row(2).read.guard_errors, world.row(1).read.guard_errors), (2, 0));
}

fn a_copy_does_not_launder_what_went_bad_here(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 512);
    let (a, b) = (world.attach(1, Enforce::Any), world.attach(2, Enforce::Any));
    let mut wire = world.good(10, 1, 0);
    wire[5] ^= 0x10;
    plant(&mut world, 10, &wire, Provenance::HostGood);
    let target = blind(&world, b, 40, 0);
    let sources = [blind(&world, b, 10, 1)];
    assert_eq!(copy(&mut world, &target, &sources), Ok(()));
    assert!(world.read(a, 40, 1).is_err());
    assert_eq!(world.faults.0.take()[0].verdict, Verdict::Target);
}

fn a_source_tells_holes_from_blocks(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    let a = world.attach(1, Enforce::Any);
    let wire = world.good(11, 1, 0);
    world.write(a, 11, &wire).unwrap();
    let command = Command { operation: Operation::CopySource, ..blind(&world, a, 10, 3) };
    let source = world.service.begin(&command).unwrap();
    world.service.submit(source);
    world.service.poll();
    assert_eq!(world.service.next_completion().unwrap().result, Ok(()));
    let origins = [0, 1, 2, 3].map(|index| world.service.block_origin(source, index));
    let hole = Some(BlockOrigin { provenance: Provenance::Hole, writer: None });
    let block = Some(BlockOrigin { provenance: Provenance::HostGood, writer: Some(host(1)) });
    assert_eq!(origins, [hole, block, hole, None]);
    world.service.release(source);
    assert_eq!(world.service.block_origin(source, 0), None);
}

fn tuples_made_anew_are_the_copiers(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    let (a, b) = (world.attach(1, Enforce::Any), world.attach(2, Enforce::Any));
    let wire = world.good(10, 2, 0);
    world.write(a, 10, &wire).unwrap();
    let tags = InsertTags { app_tag: 0x1234, initial_ref: 40, storage_tag: 0, ref_stays: false };
    let target = Command { layout: Layout::DataOnly, insert: Some(tags), ..blind(&world, b, 40, 0) };
    let source = Command { layout: Layout::DataOnly, ..world.command(b, Operation::CopySource, 10, 2) };
    assert_eq!(copy(&mut world, &target, &[source]), Ok(()));
    let read = world.read(a, 40, 2).unwrap();
    assert_eq!(read[..4096], wire[..4096]);
    assert_eq!(world.row(1).read.checked, 2, "with the reference tags of their new place");
    assert_eq!(world.row(2), IoRow::default());
}

fn a_destination_that_expects_other_tags_stores_nothing(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    let (a, b) = (world.attach(1, Enforce::Any), world.attach(2, Enforce::Any));
    let [wire, old] = [world.good(10, 2, 0), world.good(40, 2, 7)];
    world.write(a, 10, &wire).unwrap();
    world.write(a, 40, &old).unwrap();
    let target = Command { plan: world.checks(40), ..blind(&world, b, 40, 0) };
    let sources = [blind(&world, b, 10, 2)];
    let failed = copy(&mut world, &target, &sources);
    assert!(matches!(failed, Err(BlockError::Protection(fault)) if fault.tag == Tag::Ref));
    assert_eq!(world.read(a, 40, 2), Ok(old));
    let reports = world.faults.0.take();
    assert_eq!((reports.len(), reports[0].writer, reports[0].lba), (1, Some(host(1)), Lba(40)));
    assert_eq!(reports[0].verdict, Verdict::Undetermined, "nothing was sent to a wrong place");
    assert_eq!(world.row(2).write.ref_tag_errors, 1);
    assert_eq!(world.service.tickets_in_use(), 0);
}

//! Admission, checks, attribution, the life of tickets.

use holdfast_block::attribution::{FaultKind, Verdict};
use holdfast_block::{
    BlockCount, BlockError, BlockPort, BlockRecord, Command, Completion, Difference, Enforce, HeldTags,
    IoRow, Layout, Lba, Operation, Provenance, ServiceLimits, Store, StoreOp, TicketId,
};
use holdfast_pi::{CheckPlan, GuardKind, InsertTags, PiType, Tag, Tuple, guard_of};

use crate::world::{BLOCKS, Kind, World, host};

on_each_pool!(
    a_host_made_tuple_is_kept_byte_for_byte_and_counted_as_checked,
    one_flipped_bit_fails_the_write_stores_nothing_and_blames_the_writer,
    a_block_stored_unchecked_accuses_its_writer_not_its_reader_and_not_the_target,
    of_many_stored_blocks_the_lowest_bad_one_is_reported,
    a_block_that_went_bad_in_the_targets_memory_is_the_targets_fault,
    plain_writes_are_inserted_and_plain_reads_stripped_and_checked,
    holes_read_as_zeroes_under_all_ones_tuples_and_escape_checks,
    write_zeroes_with_tuples_stores_checked_zeroes_and_counts_nowhere,
    compare_tells_equal_from_different_and_checks_what_came,
    compare_holds_the_fields_of_tuples_that_it_is_asked_to,
    ranges_that_end_beyond_the_volume_are_refused_also_near_2_to_the_64,
    a_host_that_must_send_tuples_may_not_leave_them_out,
    a_cancelled_write_leaves_no_trace_and_gives_its_room_back,
    a_damaged_payload_is_not_stored,
    a_detached_session_gets_no_more_in_but_its_commands_finish,
    payloads_on_their_way_crowd_the_core_until_they_end,
    writes_that_fill_all_room_in_flight_are_told_to_come_back_not_that_the_pool_is_full,
    limits_answer_busy_and_nothing_leaks,
    a_host_leaves_places_on_volumes_to_others_and_its_own_come_back,
    what_free_tickets_keep_for_their_next_command_does_not_add_up,
);

fn a_host_made_tuple_is_kept_byte_for_byte_and_counted_as_checked(kind: Kind) {
    for (pi_type, block_len) in
        [(PiType::Type1, 512), (PiType::Type1, 4096), (PiType::Type2, 4096), (PiType::Type3, 512)]
    {
        let mut world = World::new(kind, pi_type, block_len);
        let a = world.attach(1, Enforce::RequirePi);
        let wire = world.good(3, 32, 0);
        assert_eq!(world.write(a, 3, &wire), Ok(()));
        assert_eq!(world.read(a, 3, 32), Ok(wire));
        let row = world.row(1);
        assert_eq!((row.write.checked, row.read.checked), (32, 32));
        assert_eq!((row.write_ops, row.write_bytes), (1, 32 * u64::from(block_len)));
        assert_eq!((row.write.inserted, row.read.stripped), (0, 0));
        assert_eq!(world.service.tickets_in_use(), 0);
    }
}

fn one_flipped_bit_fails_the_write_stores_nothing_and_blames_the_writer(kind: Kind) {
    for pi_type in [PiType::Type1, PiType::Type2, PiType::Type3] {
        for block_len in [512, 4096] {
            for block in [0_u32, 16, 31] {
                for (tag, byte) in [(Tag::Guard, 0), (Tag::App, 2), (Tag::Ref, 7)] {
                    if pi_type == PiType::Type3 && tag == Tag::Ref {
                        continue;
                    }
                    flip_and_check(kind, pi_type, block_len, block, tag, byte);
                }
            }
        }
    }
}

fn flip_and_check(kind: Kind, pi_type: PiType, block_len: u32, block: u32, tag: Tag, byte: usize) {
    let mut world = World::new(kind, pi_type, block_len);
    let a = world.attach(1, Enforce::Any);
    let b = world.attach(2, Enforce::Any);
    let before = world.good(5, 32, 1);
    assert_eq!(world.write(b, 5, &before), Ok(()));
    let mut bad = world.good(5, 32, 2);
    let wire_block = world.format.wire_block_len();
    let at = wire_block * block as usize + world.format.block_len() + byte;
    bad[at] ^= 1;
    let fault = match world.write(a, 5, &bad) {
        Err(BlockError::Protection(fault)) => fault,
        other => panic!("{other:?}"),
    };
    assert_eq!((fault.block_index, fault.tag), (block, tag));
    assert_eq!(fault.expected ^ fault.actual, if tag == Tag::Ref { 1 } else { 0x100 });
    assert_eq!(world.read(b, 5, 32), Ok(before), "nothing of the failed write is stored");
    let reports = world.faults.0.borrow();
    let [report] = reports.as_slice() else { panic!("one report, not {}", reports.len()) };
    assert_eq!(report.session.host, host(1));
    assert_eq!((report.lba, report.blocks), (Lba(5 + u64::from(block)), 32));
    assert_eq!(report.kind, FaultKind::Tag(tag));
    assert_eq!((report.expected, report.actual), (fault.expected, fault.actual));
    assert_eq!(report.writer, None);
    let expected = if tag == Tag::Ref { Verdict::Misdirected } else { Verdict::Undetermined };
    assert_eq!(report.verdict, expected);
    let block_at = wire_block * block as usize;
    assert_eq!(
        report.data,
        bad[block_at..block_at + world.format.block_len()],
        "the evidence is the block as it came"
    );
    let errors = |number| {
        let row = world.row(number).write;
        [row.guard_errors, row.app_tag_errors, row.ref_tag_errors, row.storage_tag_errors]
    };
    let expected = match tag {
        Tag::Guard => [1, 0, 0, 0],
        Tag::App => [0, 1, 0, 0],
        Tag::Ref => [0, 0, 1, 0],
        Tag::Storage => [0, 0, 0, 1],
    };
    assert_eq!(errors(1), expected);
    assert_eq!(errors(2), [0; 4], "the other host is not accused");
    assert_eq!(world.row(1).write_ops, 0);
    assert_eq!(world.service.tickets_in_use(), 0);
}

fn a_block_stored_unchecked_accuses_its_writer_not_its_reader_and_not_the_target(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    let a = world.attach(1, Enforce::Any);
    let b = world.attach(2, Enforce::Any);
    let mut wire = world.good(0, 4, 0);
    wire[2 * world.format.wire_block_len() + 100] ^= 4;
    let unchecked = Command { plan: CheckPlan::none(), ..world.command(a, Operation::Write, 0, 4) };
    let (ticket, result) = world.run(&unchecked, &wire);
    world.service.release(ticket);
    assert_eq!(result, Ok(()));
    assert_eq!(world.row(1).write.unchecked, 4);
    assert_eq!(world.row(1).write.guard_errors, 0, "a bad guard stored with the check off is only unchecked");

    let error = world.read(b, 0, 4).unwrap_err();
    assert!(
        matches!(error, BlockError::Protection(fault) if fault.tag == Tag::Guard && fault.block_index == 2)
    );
    let reports = world.faults.0.borrow();
    let [report] = reports.as_slice() else { panic!("one report") };
    assert_eq!(report.session.host, host(2), "it belongs to the host whose command failed");
    assert_eq!(report.writer, Some(host(1)));
    assert_eq!(report.verdict, Verdict::Undetermined);
    assert_eq!(report.lba, Lba(2));
    assert_eq!(world.row(2).read.guard_errors, 1);
    assert_eq!(world.row(1).read.guard_errors, 0);
}

fn of_many_stored_blocks_the_lowest_bad_one_is_reported(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 512);
    let a = world.attach(1, Enforce::Any);
    for bad in 0..19 {
        let mut wire = world.good(0, 19, 0);
        wire[bad * 520 + 77] ^= 1;
        wire[(bad + 9).min(18) * 520 + 5] ^= 1;
        let unchecked = Command { plan: CheckPlan::none(), ..world.command(a, Operation::Write, 0, 19) };
        let (ticket, result) = world.run(&unchecked, &wire);
        world.service.release(ticket);
        assert_eq!(result, Ok(()));
        let error = world.read(a, 0, 19).unwrap_err();
        assert!(matches!(error, BlockError::Protection(fault) if fault.block_index as usize == bad), "{bad}");
        assert_eq!(world.read(a, 0, bad.max(1) as u32).is_ok(), bad > 0, "{bad}");
    }
}

fn a_block_that_went_bad_in_the_targets_memory_is_the_targets_fault(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    let a = world.attach(1, Enforce::Any);
    // What a flipped bit leaves: a record that says the guard was right on arrival, beside data that it does not fit.
    let wire = world.good(0, 1, 0);
    let volume = world.volume;
    let stores = world.service.store_mut();
    let mut slots = Vec::new();
    stores.reserve(volume, Lba(0), BlockCount::new(1), &mut slots).unwrap();
    stores.data_mut(volume, slots[0]).unwrap().copy_from_slice(&wire[..4096]);
    stores.data_mut(volume, slots[0]).unwrap()[17] ^= 1;
    let mut tuple = [0; 16];
    tuple[..8].copy_from_slice(&wire[4096..]);
    let record = BlockRecord { tuple, provenance: Provenance::HostGood, writer: Some(host(1)) };
    stores.set_record(volume, slots[0], &record);
    stores.submit(StoreOp::Publish { token: 0, volume, lba: Lba(0), slots, durable: false });
    assert_eq!(stores.poll().unwrap().result, Ok(()));
    assert!(world.read(a, 0, 1).is_err());
    assert_eq!(world.faults.0.borrow()[0].verdict, Verdict::Target);
}

fn plain_writes_are_inserted_and_plain_reads_stripped_and_checked(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 512);
    let a = world.attach(1, Enforce::Any);
    let data: Vec<u8> = (0..8 * 512_usize).map(|at| (at / 3) as u8).collect();
    let write = Command {
        layout: Layout::DataOnly,
        plan: CheckPlan::none(),
        insert: Some(InsertTags::plain(world.format, 40)),
        ..world.command(a, Operation::Write, 40, 8)
    };
    let (ticket, result) = world.run(&write, &data);
    world.service.release(ticket);
    assert_eq!(result, Ok(()));
    let plain = Command {
        layout: Layout::DataOnly,
        plan: CheckPlan::for_plain_view(world.format, 40),
        ..world.command(a, Operation::Read, 40, 8)
    };
    assert_eq!(world.read_with(&plain), Ok(data.clone()));
    let row = world.row(1);
    assert_eq!((row.write.inserted, row.write.checked, row.write.unchecked), (8, 0, 0));
    assert_eq!((row.read.stripped, row.read.checked), (8, 8));
    let tuples = Command { plan: CheckPlan::none(), ..world.command(a, Operation::Read, 40, 8) };
    let wire = world.read_with(&tuples).unwrap();
    for (index, block) in wire.chunks(520).enumerate() {
        let tuple = Tuple::decode(world.format, &block[512..]).unwrap();
        let expected = Tuple {
            guard: guard_of(GuardKind::Crc16, &data[index * 512..(index + 1) * 512]),
            app_tag: 0,
            storage_tag: 0,
            ref_tag: 40 + index as u64,
        };
        assert_eq!(tuple, expected);
    }
}

fn holes_read_as_zeroes_under_all_ones_tuples_and_escape_checks(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    let a = world.attach(1, Enforce::Any);
    let hole = [vec![0_u8; 4096], vec![0xff; 8]].concat();
    assert_eq!(world.read(a, 9, 1), Ok(hole.clone()));
    assert_eq!(world.row(1).read.escaped, 1);
    let wire = world.good(8, 3, 0);
    world.write(a, 8, &wire).unwrap();
    let deallocate = Command { layout: Layout::DataOnly, ..world.command(a, Operation::Deallocate, 9, 1) };
    let (ticket, result) = world.run(&deallocate, &[]);
    world.service.release(ticket);
    assert_eq!(result, Ok(()));
    assert_eq!(world.read(a, 9, 1), Ok(hole));
    assert_eq!(world.read(a, 8, 1), Ok(wire[..4104].to_vec()), "its neighbours stay");
    assert_eq!(world.service.blocks_allocated(world.volume), Some(2));
}

fn write_zeroes_with_tuples_stores_checked_zeroes_and_counts_nowhere(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    let a = world.attach(1, Enforce::Any);
    let tags = InsertTags { app_tag: 0x1234, initial_ref: 20, storage_tag: 0, ref_stays: false };
    let zeroes = Command {
        layout: Layout::DataOnly,
        insert: Some(tags),
        ..world.command(a, Operation::WriteZeroes, 20, 4)
    };
    let (ticket, result) = world.run(&zeroes, &[]);
    world.service.release(ticket);
    assert_eq!(result, Ok(()));
    assert_eq!(world.row(1), IoRow::default());
    let wire = world.read(a, 20, 4).unwrap();
    assert!(wire.chunks(4104).all(|block| block[..4096].iter().all(|byte| *byte == 0)));
    assert_eq!(world.row(1).read.checked, 4);
}

fn compare_tells_equal_from_different_and_checks_what_came(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 512);
    let a = world.attach(1, Enforce::Any);
    let wire = world.good(0, 4, 0);
    world.write(a, 0, &wire).unwrap();
    let compare = world.command(a, Operation::Compare, 0, 4);
    let run = |world: &mut World, payload: &[u8]| {
        let (ticket, result) = world.run(&compare, payload);
        world.service.release(ticket);
        result
    };
    assert_eq!(run(&mut world, &wire), Ok(()));
    let other = world.good(0, 4, 9);
    let differs =
        |block_index, offset, tag| Err(BlockError::Miscompare(Difference { block_index, offset, tag }));
    assert_eq!(run(&mut world, &other), differs(0, 0, None));
    world.write(a, 2, &other[2 * 520..3 * 520]).unwrap();
    assert_eq!(run(&mut world, &wire), differs(2, 2 * 520, None));
    world.write(a, 2, &wire[2 * 520..3 * 520]).unwrap();
    let mut bad = wire.clone();
    bad[520 + 512] ^= 1;
    assert!(matches!(run(&mut world, &bad), Err(BlockError::Protection(fault)) if fault.block_index == 1));
    assert_eq!(world.row(1).read.guard_errors, 1, "Compare counts with the reads");
    assert_eq!(world.faults.0.borrow()[0].data, bad[520..1032]);
}

fn compare_holds_the_fields_of_tuples_that_it_is_asked_to(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 512);
    let a = world.attach(1, Enforce::Any);
    let wire = world.good(0, 4, 0);
    for (at, tag) in [(512, Tag::Guard), (514, Tag::App), (516, Tag::Ref)] {
        let mut stored = wire.clone();
        stored[2 * 520 + at + 1] ^= 1;
        let unchecked = CheckPlan::none();
        let write = Command { plan: unchecked, ..world.command(a, Operation::Write, 0, 4) };
        let (ticket, result) = world.run(&write, &stored);
        world.service.release(ticket);
        assert_eq!(result, Ok(()));
        for held_tag in [Tag::Guard, Tag::App, Tag::Ref] {
            let held = HeldTags {
                guard: held_tag == Tag::Guard,
                app: held_tag == Tag::App,
                reference: held_tag == Tag::Ref,
            };
            let compare = Command { held: Some(held), ..world.command(a, Operation::Compare, 0, 4) };
            let (ticket, result) = world.run(&compare, &wire);
            world.service.release(ticket);
            let offset = 2 * 520 + at;
            let difference = Difference { block_index: 2, offset, tag: Some(tag) };
            let differs = Err(BlockError::Miscompare(difference));
            assert_eq!(result, if tag == held_tag { differs } else { Ok(()) }, "{tag} {held_tag}");
        }
    }
    assert_eq!(world.row(1).read.guard_errors, 0, "what is stored is not checked by itself");
}

fn ranges_that_end_beyond_the_volume_are_refused_also_near_2_to_the_64(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    let a = world.attach(1, Enforce::Any);
    for (lba, blocks) in [(BLOCKS, 1), (BLOCKS - 1, 2), (u64::MAX, 1), (u64::MAX - 3, 65536)] {
        for operation in [Operation::Read, Operation::Write, Operation::Compare, Operation::Verify] {
            let command = world.command(a, operation, lba, blocks);
            assert_eq!(world.service.begin(&command), Err(BlockError::OutOfRange), "{operation:?} {lba}");
        }
    }
    assert!(world.read(a, BLOCKS - 1, 1).is_ok());
}

fn a_host_that_must_send_tuples_may_not_leave_them_out(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    let a = world.attach(1, Enforce::RequirePi);
    for operation in [Operation::Read, Operation::Write, Operation::Compare, Operation::Verify] {
        let command = Command { layout: Layout::DataOnly, ..world.command(a, operation, 0, 1) };
        assert_eq!(world.service.begin(&command), Err(BlockError::InvalidProtection));
    }
    world.service.set_enforce(a, Enforce::Any);
    let command = Command { layout: Layout::DataOnly, ..world.command(a, Operation::Read, 0, 1) };
    assert!(world.service.begin(&command).is_ok());
}

fn a_cancelled_write_leaves_no_trace_and_gives_its_room_back(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    let a = world.attach(1, Enforce::Any);
    let wire = world.good(0, 8, 0);
    let command = world.command(a, Operation::Write, 0, 8);
    // Many times the pool: the room must come back each time.
    for _ in 0..1000 {
        let ticket = world.service.begin(&command).unwrap();
        world.service.fill(ticket, 0, &wire[..5000]);
        world.service.cancel(ticket);
    }
    assert_eq!(world.service.tickets_in_use(), 0);
    assert_eq!(world.service.blocks_allocated(world.volume), Some(0));
    assert!(world.service.next_completion().is_none());
    assert_eq!(world.row(1), IoRow::default());
}

fn a_damaged_payload_is_not_stored(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    let a = world.attach(1, Enforce::Any);
    let wire = world.good(0, 1, 0);
    let ticket = world.service.begin(&world.command(a, Operation::Write, 0, 1)).unwrap();
    world.service.fill(ticket, 0, &wire[..100]);
    world.service.digest_failed(ticket);
    world.service.fill(ticket, 100, &wire[100..]);
    world.service.submit(ticket);
    let completion = world.service.next_completion().unwrap();
    assert_eq!(completion.result, Err(BlockError::Digest));
    world.service.release(ticket);
    assert_eq!(world.service.blocks_allocated(world.volume), Some(0));
    assert_eq!(world.faults.0.borrow()[0].kind, FaultKind::Digest);
    assert_eq!(world.faults.0.borrow()[0].verdict, Verdict::Undetermined);
}

fn a_detached_session_gets_no_more_in_but_its_commands_finish(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    let a = world.attach(1, Enforce::Any);
    let ticket = world.service.begin(&world.command(a, Operation::Read, 0, 1)).unwrap();
    world.service.detach(a);
    assert_eq!(world.service.begin(&world.command(a, Operation::Read, 0, 1)), Err(BlockError::Gone));
    world.service.submit(ticket);
    world.service.poll();
    let completion = world.service.next_completion().unwrap();
    assert_eq!(completion.result, Ok(()));
    world.service.release(completion.ticket);
    assert_eq!(world.row(1).read_ops, 1);
}

fn payloads_on_their_way_crowd_the_core_until_they_end(kind: Kind) {
    let limits = ServiceLimits { crowded_bytes: 5000, ..ServiceLimits::default() };
    let mut world = World::with_limits(kind, PiType::Type1, 4096, limits);
    let a = world.attach(1, Enforce::Any);
    let write = world.command(a, Operation::Write, 0, 1);
    let first = world.service.begin(&write).unwrap();
    assert!(!world.service.is_crowded(&write));
    let second = world.service.begin(&write).unwrap();
    assert!(world.service.is_crowded(&write));
    world.service.cancel(first);
    assert!(!world.service.is_crowded(&write));
    world.service.cancel(second);
}

fn writes_that_fill_all_room_in_flight_are_told_to_come_back_not_that_the_pool_is_full(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 4096);
    let a = world.attach(1, Enforce::Any);
    let write = world.command(a, Operation::Write, 0, 256);
    let mut held = Vec::new();
    let refused = loop {
        match world.service.begin(&write) {
            Ok(ticket) => held.push(ticket),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, BlockError::Busy);
    held.into_iter().for_each(|ticket| world.service.cancel(ticket));
    assert!(world.service.begin(&write).is_ok());
}

fn limits_answer_busy_and_nothing_leaks(kind: Kind) {
    let limits = ServiceLimits {
        tickets_max: 2,
        staged_bytes_max: 5000,
        crowded_bytes: 5000,
        ..ServiceLimits::default()
    };
    let mut world = World::with_limits(kind, PiType::Type1, 4096, limits);
    let a = world.attach(1, Enforce::Any);
    let compare = world.command(a, Operation::Compare, 0, 1);
    let first = world.service.begin(&compare).unwrap();
    assert_eq!(world.service.begin(&compare), Err(BlockError::Busy), "staged bytes");
    let read = world.command(a, Operation::Read, 0, 1);
    let second = world.service.begin(&read).unwrap();
    assert_eq!(world.service.begin(&read), Err(BlockError::Busy), "tickets");
    world.service.cancel(first);
    world.service.cancel(second);
    let third = world.service.begin(&compare).unwrap();
    world.service.cancel(third);
    assert_eq!(world.service.tickets_in_use(), 0);
}

fn a_host_leaves_places_on_volumes_to_others_and_its_own_come_back(kind: Kind) {
    let limits = ServiceLimits { attachments_max: 5, host_attachments_max: 3, ..ServiceLimits::default() };
    let mut world = World::with_limits(kind, PiType::Type1, 4096, limits);
    let [first, second, _] = [1, 1, 1].map(|host| world.attach(host, Enforce::Any));
    assert_eq!(world.try_attach(1, Enforce::Any), Err(BlockError::Busy));
    let other = world.attach(2, Enforce::Any);
    let read = world.command(first, Operation::Read, 0, 1);
    let ticket = world.service.begin(&read).unwrap();
    world.service.detach(first);
    world.service.detach(first);
    assert_eq!(world.try_attach(1, Enforce::Any), Err(BlockError::Busy), "its command is under way");
    world.service.cancel(ticket);
    let again = world.attach(1, Enforce::Any);
    assert_eq!(world.try_attach(1, Enforce::Any), Err(BlockError::Busy));
    world.service.detach(second);
    world.service.detach(other);
    world.service.detach(again);
    world.attach(2, Enforce::Any);
    world.attach(3, Enforce::Any);
    world.attach(1, Enforce::Any);
}

fn what_free_tickets_keep_for_their_next_command_does_not_add_up(kind: Kind) {
    let mut world = World::new(kind, PiType::Type1, 512);
    let a = world.attach(1, Enforce::Any);
    for _ in 0..2 {
        // Each command visits another ticket, since those before it are still there.
        let read = world.command(a, Operation::Read, 0, 256);
        let held: Vec<TicketId> = (0..10_000).map(|_| world.service.begin(&read).unwrap()).collect();
        held.iter().for_each(|ticket| world.service.submit(*ticket));
        world.service.poll();
        while let Some(Completion { ticket, result, .. }) = world.service.next_completion() {
            assert_eq!(result, Ok(()));
            world.service.release(ticket);
        }
        let kept = world.service.slot_lists_kept();
        assert!((1..=1 << 20).contains(&kept), "{kept} entries");
    }
}

//! The life of a task where it does not go straight: damaged payloads, tasks given up, no room.

use holdfast_block::ServiceLimits;
use holdfast_pi::PiType;
use holdfast_scsi::{Progress, Task};

use crate::world::{BLOCKS, COMPARE_AND_WRITE, READ, Shown, VERIFY, WRITE, World, cdb10, cdb16};

/// A CDB, and the payload that it asks for.
fn takers(world: &World) -> Vec<(Vec<u8>, Vec<u8>)> {
    let data = world.data(4, 9);
    let mut pair = cdb16(COMPARE_AND_WRITE, 0, 0, 0);
    pair[13] = 2;
    let old = world.data(4, 1);
    let list = [&[0, 22, 0, 16, 0, 0, 0, 0][..], &[0; 8], &[0, 0, 0, 4, 0, 0, 0, 0]].concat();
    vec![
        (cdb16(WRITE, 0, 0, 4).to_vec(), data.clone()),
        (cdb16(0x8e, 0x02, 0, 4).to_vec(), data.clone()),
        (cdb16(VERIFY, 0x02, 0, 4).to_vec(), data.clone()),
        (pair.to_vec(), [&old[..1024], &data[..1024]].concat()),
        (cdb16(0x93, 0, 0, 4).to_vec(), data[..512].to_vec()),
        (cdb16(0x93, 0x08, 0, 4).to_vec(), vec![0; 512]),
        (cdb10(0x42, 0, 0, 24).to_vec(), list),
    ]
}

#[test]
fn a_damaged_payload_changes_nothing() {
    let mut world = World::new(Shown::plain(Some(PiType::Type1), 512), &[]);
    let old = world.data(4, 1);
    world.run(&cdb16(WRITE, 0, 0, 4), &old, 0).good();
    for (cdb, payload) in takers(&world) {
        let mut task = Task::default();
        let progress = world.start(&mut task, &cdb, payload.len(), 0);
        assert_eq!(progress, Progress::Receive { out_len: payload.len() });
        let (first, second) = payload.split_at(payload.len() / 2);
        task.fill(&mut world.service, 0, first);
        task.digest_failed(&mut world.service);
        task.fill(&mut world.service, first.len(), second);
        let answer = world.finish(&mut task);
        assert_eq!(answer.code(), Some((0x0b, 0x47, 0x05)), "{cdb:02x?}");
        assert_eq!(world.run(&cdb16(READ, 0, 0, 4), &[], 2048).good(), old);
    }
}

#[test]
fn a_task_that_is_given_up_changes_nothing_and_keeps_nothing() {
    let mut world = World::new(Shown::plain(Some(PiType::Type1), 512), &[]);
    let old = world.data(4, 1);
    world.run(&cdb16(WRITE, 0, 0, 4), &old, 0).good();
    for (cdb, payload) in takers(&world) {
        for filled in [0, 20, payload.len()] {
            let mut task = Task::default();
            world.start(&mut task, &cdb, payload.len(), 0);
            task.fill(&mut world.service, 0, &payload[..filled]);
            task.cancel(&mut world.service);
            assert_eq!((task.tickets(), world.service.tickets_in_use()), (0, 0), "{cdb:02x?}");
            assert_eq!(world.run(&cdb16(READ, 0, 0, 4), &[], 2048).good(), old);
        }
    }
}

#[test]
fn without_room_a_task_waits_and_goes_on_when_there_is_some() {
    let limits = ServiceLimits { tickets_max: 2, ..ServiceLimits::default() };
    let mut world = World::with_limits(Shown::plain(Some(PiType::Type1), 512), &[], limits);
    let data = world.data(4, 1);
    world.run(&cdb16(WRITE, 0, 0, 4), &data, 0).good();
    for (cdb, payload) in takers(&world) {
        // Two others hold all there is; one of them goes.
        let mut others = [Task::default(), Task::default()];
        for task in &mut others {
            let progress = world.start(task, &cdb16(WRITE, 0, 9, 1), 512, 0);
            assert_eq!(progress, Progress::Receive { out_len: 512 });
        }
        let mut task = Task::default();
        let mut progress = world.start(&mut task, &cdb, payload.len(), 0);
        let collects = progress == Progress::Receive { out_len: payload.len() };
        if collects {
            task.fill(&mut world.service, 0, &payload);
            progress = world.received(&mut task);
        }
        assert_eq!(progress, Progress::Wait, "{cdb:02x?}");
        assert_eq!(world.retry(&mut task), Progress::Wait);
        assert_eq!(task.tickets(), 0, "who waits holds nothing");
        others.iter_mut().for_each(|task| task.cancel(&mut world.service));
        let progress = world.retry(&mut task);
        if collects {
            assert_eq!(progress, Progress::Running);
            world.settle(&mut task, progress);
        } else {
            assert_eq!(progress, Progress::Receive { out_len: payload.len() });
            task.cancel(&mut world.service);
        }
        world.run(&cdb16(WRITE, 0, 0, 4), &data, 0).good();
        assert_eq!(world.service.tickets_in_use(), 0);
    }
}

#[test]
fn what_is_done_without_the_initiators_bytes_is_charged() {
    let mut world = World::new(Shown::plain(Some(PiType::Type1), 512), &[]);
    let block = world.data(1, 7);
    for (cdb, payload, cost) in [
        (cdb16(0x93, 0, 0, 4096).to_vec(), block.clone(), 4096 * 512),
        (cdb16(VERIFY, 0x06, 0, 4096).to_vec(), block.clone(), 4096 * 512),
        (cdb16(VERIFY, 0, 0, 4096).to_vec(), vec![], 2 * (1 << 20)),
        (cdb16(VERIFY, 0, 0, 3).to_vec(), vec![], 3 * 512),
        (cdb16(0x93, 0x08, 0, 4).to_vec(), vec![0; 512], 4 * 512),
        (cdb16(WRITE, 0, 0, 1).to_vec(), block.clone(), 0),
        (cdb16(READ, 0, 0, 1).to_vec(), vec![], 0),
    ] {
        let mut task = Task::default();
        let mut progress = world.start(&mut task, &cdb, payload.len(), 512);
        if progress == (Progress::Receive { out_len: payload.len() }) {
            task.fill(&mut world.service, 0, &payload);
            progress = world.received(&mut task);
        }
        world.settle(&mut task, progress).good();
        assert_eq!((task.take_cost(), task.take_cost()), (cost, 0), "{cdb:02x?}");
    }
}

#[test]
fn a_task_whose_connection_holds_room_leaves_scarce_room_to_others() {
    let limits = ServiceLimits { crowded_bytes: 100, ..ServiceLimits::default() };
    let mut world = World::with_limits(Shown::plain(None, 512), &[], limits);
    let write = cdb16(WRITE, 0, 0, 1);
    let mut first = Task::default();
    assert_eq!(world.start(&mut first, &write, 512, 0), Progress::Receive { out_len: 512 });
    let mut pair = cdb16(COMPARE_AND_WRITE, 0, 9, 0);
    pair[13] = 1;
    let mut third = Task::default();
    third.set_yields(true);
    assert_eq!(world.start(&mut third, &pair, 1024, 0), Progress::Wait);
    let mut second = Task::default();
    second.set_yields(true);
    assert_eq!(world.start(&mut second, &write, 512, 0), Progress::Wait);
    second.set_yields(false);
    assert_eq!(world.retry(&mut second), Progress::Receive { out_len: 512 });
    first.cancel(&mut world.service);
    second.cancel(&mut world.service);
}

#[test]
fn a_task_of_many_steps_outlives_the_growth_of_its_volume() {
    let mut world = World::new(Shown::plain(Some(PiType::Type1), 512), &[]);
    let block = world.data(1, 7);
    let ranges = [&[0, 38, 0, 32, 0, 0, 0, 0][..], &[0; 11], &[1, 0, 0, 0, 0], &[0; 11], &[1, 0, 0, 0, 0]];
    for (at, (cdb, payload)) in (1..).zip([
        (cdb16(0x93, 0, 0, 4096).to_vec(), block.clone()),
        (cdb16(VERIFY, 0x06, 0, 4096).to_vec(), block.clone()),
        (cdb16(VERIFY, 0, 0, 4096).to_vec(), vec![]),
        (cdb16(0x8e, 0, 0, 1).to_vec(), block.clone()),
        (cdb10(0x42, 0, 0, 40).to_vec(), ranges.concat()),
    ]) {
        let mut task = Task::default();
        let mut progress = world.start(&mut task, &cdb, payload.len(), 0);
        if progress == (Progress::Receive { out_len: payload.len() }) {
            task.fill(&mut world.service, 0, &payload);
            progress = world.received(&mut task);
        }
        assert_eq!(progress, Progress::Running);
        world.grow(BLOCKS + at);
        world.settle(&mut task, progress).good();
        // The growth is told once.
        let told = world.run(&cdb16(READ, 0, 0, 1), &[], 512);
        assert_eq!(told.code(), Some((6, 0x2a, 0x09)), "{cdb:02x?}");
    }
    world.run(&cdb16(READ, 0, BLOCKS, 5), &[], 5 * 512).good();
}

#[test]
fn a_block_that_cannot_be_read_is_a_medium_error_and_is_there() {
    let mut world = World::new(Shown::plain(Some(PiType::Type1), 512), &[]);
    let data = world.data(8, 1);
    world.run(&cdb16(WRITE, 0, 0, 8), &data, 0).good();
    world.mark_uncorrectable(5);
    for (opcode, flags) in [(READ, 0), (VERIFY, 0)] {
        let answer = world.run(&cdb16(opcode, flags, 2, 6), &[], 6 * 512);
        assert_eq!((answer.code(), answer.information()), (Some((3, 0x11, 0)), Some(5)));
    }
    let mut cdb = cdb16(0x9e, 0x12, 0, 40);
    cdb[1] = 0x12;
    let answer = world.run(&cdb, &[], 40).good();
    assert_eq!(answer[8..24], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0]);
    assert_eq!(answer[24..32], [0, 0, 0, 0, 0, 0, 0, 8]);
    assert_eq!(world.service.tickets_in_use(), 0);
}

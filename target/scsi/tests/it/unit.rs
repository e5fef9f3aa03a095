//! What concerns a logical unit as a whole: its mode parameters, whether it is started, and what its initiators are told.

use holdfast_scsi::{Managed, Progress, Status, Task, TaskFunction};

use crate::world::{Shown, World, cdb10, cdb16};
use holdfast_block::View;

const STOPPED: Option<(u8, u8, u8)> = Some((0x02, 0x04, 0x02));

fn two() -> World {
    World::new(Shown::plain(None, 512), &[View::Plain])
}

fn start_stop(no_flush: bool, start: bool) -> [u8; 6] {
    [0x1b, 0, 0, 0, u8::from(no_flush) << 2 | u8::from(start), 0]
}

/// The caching mode page with WCE as given, for MODE SELECT (6).
fn caching(write_cache: bool) -> Vec<u8> {
    let mut list = vec![0, 0, 0, 0, 0x08, 18, u8::from(write_cache) << 2];
    list.resize(4 + 20, 0);
    list
}

#[test]
fn a_stopped_unit_takes_no_commands_on_the_medium_from_anybody_until_it_is_started() {
    let mut world = two();
    let read = cdb16(0x88, 0, 0, 1);
    assert!(world.run(&start_stop(false, false), &[], 0).good().is_empty());
    for who in [0, 1] {
        assert_eq!(world.run_by(who, &read, &[], 512).code(), STOPPED);
        assert_eq!(world.run_by(who, &[0; 6], &[], 0).code(), STOPPED);
        assert_eq!(world.run_by(who, &cdb10(0x35, 0, 0, 0), &[], 0).code(), STOPPED);
        let sense = world.run_by(who, &[0x03, 0, 0, 0, 252, 0], &[], 252).good();
        assert_eq!((sense[2], sense[12], sense[13]), (0x02, 0x04, 0x02));
        for inform in
            [&[0x12, 0, 0, 0, 96, 0][..], &[0x1a, 0, 0x08, 0, 96, 0], &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
        {
            world.run_by(who, inform, &[], 96).good();
        }
    }
    assert!(world.run_by(1, &start_stop(false, true), &[], 0).good().is_empty());
    for who in [0, 1] {
        world.run_by(who, &[0; 6], &[], 0).good();
        assert_eq!(world.run_by(who, &read, &[], 512).good().len(), 512);
        let sense = world.run_by(who, &[0x03, 0, 0, 0, 252, 0], &[], 252).good();
        assert_eq!((sense[2], sense[12], sense[13]), (0, 0, 0));
    }
}

#[test]
fn a_unit_is_stopped_once_what_was_written_is_durable_unless_that_is_not_wanted() {
    for (no_flush, flushes) in [(false, true), (true, false)] {
        let mut world = two();
        let mut task = Task::default();
        let progress = world.start(&mut task, &start_stop(no_flush, false), 0, 0);
        assert_eq!(progress == Progress::Running, flushes);
        assert_eq!(world.settle(&mut task, progress).status, Status::Good);
    }
}

#[test]
fn power_conditions_and_ejections_are_refused() {
    let mut world = two();
    for (byte, field) in [(0x10, 4), (0x03, 4), (0xb0, 4)] {
        let answer = world.run(&[0x1b, 0, 0, 0, byte, 0], &[], 0);
        assert_eq!((answer.code(), answer.field()), (Some((0x05, 0x24, 0x00)), Some(field)));
    }
    world.run(&[0; 6], &[], 0).good();
}

#[test]
fn what_was_written_is_durable_before_the_write_cache_is_off() {
    let mut world = two();
    let select = [0x15, 0x10, 0, 0, 24, 0];
    for (write_cache, flushes) in [(true, false), (false, true), (false, false), (true, false), (false, true)]
    {
        let mut task = Task::default();
        let progress = world.start(&mut task, &select, 24, 0);
        assert_eq!(progress, Progress::Receive { out_len: 24 });
        task.fill(&mut world.service, 0, &caching(write_cache));
        let progress = world.received(&mut task);
        assert_eq!(progress == Progress::Running, flushes, "{write_cache}");
        let answer = world.settle(&mut task, progress);
        assert_eq!((answer.status, answer.wanted), (Status::Good, (24, 0)));
        let page = world.run(&[0x1a, 0x08, 0x08, 0, 24, 0], &[], 24).good();
        assert_eq!(page[6] & 0x04 != 0, write_cache);
    }
}

#[test]
fn mode_parameters_are_everybodys_and_their_change_is_news_to_the_others() {
    let mut world = two();
    world.run(&[0x15, 0x10, 0, 0, 24, 0], &caching(false), 0).good();
    world.run(&[0; 6], &[], 0).good();
    assert_eq!(world.run_by(1, &[0; 6], &[], 0).code(), Some((0x06, 0x2a, 0x01)));
    assert_eq!(world.run_by(1, &[0x1a, 0x08, 0x08, 0, 24, 0], &[], 24).good()[6], 0);
    // What the other one changes starts from there.
    let mut control = vec![0, 0, 0, 0, 0x0a, 10, 0x04, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
    world.run_by(1, &[0x15, 0x10, 0, 0, 16, 0], &control, 0).good();
    assert_eq!(world.run_by(0, &[0x1a, 0x08, 0x08, 0, 24, 0], &[], 24).status, Status::CheckCondition);
    assert_eq!(world.run_by(0, &[0x1a, 0x08, 0x08, 0, 24, 0], &[], 24).good()[6], 0);
    // D_SENSE: from now on sense data has descriptors.
    assert_eq!(world.run(&[0xff; 6], &[], 0).sense[..4], [0x72, 0x05, 0x20, 0x00]);
    control[6] = 0;
    world.run(&[0x15, 0x10, 0, 0, 16, 0], &control, 0).good();
    assert_eq!(world.run(&[0xff; 6], &[], 0).code(), Some((0x05, 0x20, 0x00)));
}

#[test]
fn a_reset_is_told_to_everybody_and_puts_mode_parameters_back() {
    let mut world = two();
    world.run(&[0x15, 0x10, 0, 0, 24, 0], &caching(false), 0).good();
    assert!(matches!(world.manage(1, TaskFunction::UnitReset), Managed::Waits(_)));
    for who in [0, 1] {
        assert_eq!(world.run_by(who, &[0; 6], &[], 0).code(), Some((0x06, 0x29, 0x03)), "{who}");
        assert_eq!(world.run_by(who, &[0x1a, 0x08, 0x08, 0, 24, 0], &[], 24).good()[6], 0x04);
    }
}

#[test]
fn cleared_tasks_are_no_news_to_those_that_had_none() {
    let mut world = two();
    assert!(matches!(world.manage(0, TaskFunction::ClearTaskSet), Managed::Waits(_)));
    world.run_by(1, &[0; 6], &[], 0).good();
}

#[test]
fn task_management_functions_are_told_to_those_with_room_for_them() {
    let mut world = two();
    let ask = |len: u8| [0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, len, 0, 0];
    assert_eq!(world.run(&ask(4), &[], 4).good(), [0xda, 0, 0, 0]);
    let refused = world.run(&ask(3), &[], 3);
    assert_eq!((refused.code(), refused.field()), (Some((0x05, 0x24, 0x00)), Some(6)));
}

/// LUICLR: SPC-4 §7.8.7 "Extended INQUIRY Data VPD page".
#[test]
fn changed_luns_are_told_once_through_whatever_unit() {
    let changed = Some((0x06, 0x3f, 0x0e));
    let tell = |world: &mut World, lun: u8| {
        world.lun = lun;
        world.run(&[0; 6], &[], 0).code()
    };
    let mut world = two();
    world.show_volume(None, 512);
    assert_eq!([tell(&mut world, 0), tell(&mut world, 0)], [changed, None]);
    assert_eq!([tell(&mut world, 1), tell(&mut world, 1)], [Some((0x06, 0x29, 0x00)), None]);
}

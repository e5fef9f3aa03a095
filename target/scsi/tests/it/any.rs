//! Any command with any data comes to an end and keeps nothing.

use holdfast_block::{ServiceLimits, View};
use holdfast_pi::PiType;
use holdfast_scsi::cdb::ROWS;
use holdfast_scsi::{Progress, Task};
use proptest::prelude::*;

use crate::world::{Shown, World};

/// A CDB of a known command with small numbers more often than others.
fn any_cdb() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => Just(0_u8), 1 => 1..9_u8, 1 => any::<u8>()];
    (0..ROWS.len(), proptest::collection::vec(byte, 32)).prop_map(|(row, mut cdb)| {
        let row = &ROWS[row];
        cdb.truncate(row.usage.len().max(16));
        cdb[0] = row.opcode;
        match (row.opcode, row.service_action) {
            (0x7f, Some(action)) => {
                cdb[7] = 0x18;
                cdb[8..10].copy_from_slice(&action.to_be_bytes());
            }
            (_, Some(action)) => cdb[1] = cdb[1] & 0xe0 | action as u8,
            _ => (),
        }
        cdb
    })
}

fn any_view() -> impl Strategy<Value = Shown> {
    let kind = prop_oneof![Just(PiType::Type1), Just(PiType::Type2), Just(PiType::Type3)];
    (proptest::option::of(kind), any::<bool>(), prop_oneof![Just(512_usize), Just(4096)]).prop_map(
        |(pi, shows, block_len)| match (pi, shows) {
            (Some(kind), true) => Shown::pi(kind, block_len),
            (pi, _) => Shown { view: View::Plain, ..Shown::plain(pi, block_len) },
        },
    )
}

/// A task among others.
#[derive(Default)]
struct Running {
    task: Task,
    /// Where it stands; nothing before it is started and after its end.
    progress: Option<Progress>,
    filled: usize,
}

/// Lets one of several tasks take one step: start, take a part of its payload, try again, be given up, or have its completion.
fn step(world: &mut World, tasks: &mut [Running], at: usize, cdb: &[u8], act: u8) {
    let number = at as u32;
    let Running { task, progress, filled } = &mut tasks[at];
    match *progress {
        None => {
            task.set_yields(act & 1 != 0);
            *progress = Some(world.start_as(number, task, cdb, 6000, 6000));
            *filled = 0;
        }
        Some(Progress::Ended(_)) => {
            task.release(&mut world.service);
            *progress = None;
        }
        Some(_) if act == 0 => {
            task.cancel(&mut world.service);
            *progress = None;
        }
        Some(Progress::Receive { out_len }) => {
            let len = (out_len - *filled).min(1 + usize::from(act) * 40);
            task.fill(&mut world.service, *filled, &vec![act; len]);
            *filled += len;
            if act == 1 {
                task.digest_failed(&mut world.service);
            }
            if *filled == out_len {
                *progress = Some(world.received(task));
            }
        }
        Some(Progress::Wait) => *progress = Some(world.retry(task)),
        Some(Progress::Running) => deliver(world, tasks),
    }
}

/// Hands out all completions that there are.
fn deliver(world: &mut World, tasks: &mut [Running]) {
    while let Some(completion) = world.next_completion() {
        let Running { task, progress, .. } = &mut tasks[completion.origin.command as usize];
        assert_eq!(*progress, Some(Progress::Running));
        *progress = Some(world.complete(task, completion));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tasks_side_by_side_leave_nothing_behind(
        shown in any_view(),
        tickets_max in 1..6_usize,
        steps in proptest::collection::vec((0..5_usize, any_cdb(), any::<u8>()), 1..200),
    ) {
        let limits = ServiceLimits { tickets_max, crowded_bytes: 5000, ..ServiceLimits::default() };
        let mut world = World::with_limits(shown, &[], limits);
        let mut tasks: Vec<Running> = std::iter::repeat_with(Running::default).take(5).collect();
        for (at, cdb, act) in steps {
            step(&mut world, &mut tasks, at, &cdb, act);
        }
        for Running { task, progress, .. } in &mut tasks {
            match progress {
                Some(Progress::Ended(_)) => task.release(&mut world.service),
                Some(_) => task.cancel(&mut world.service),
                None => {}
            }
            prop_assert_eq!(task.tickets(), 0);
        }
        while world.next_completion().is_some() {}
        prop_assert_eq!(world.service.tickets_in_use(), 0);
        prop_assert_eq!(world.service.turns_in_use(), 0);
    }

    #[test]
    fn every_command_ends(
        shown in any_view(),
        commands in proptest::collection::vec((any_cdb(), 0..20_000_usize, 0..20_000_usize, any::<u8>()), 1..60),
    ) {
        let mut world = World::new(shown, &[]);
        for (cdb, out, data_in, fill) in commands {
            let answer = world.run(&cdb, &vec![fill; out], data_in);
            prop_assert!(answer.data.len() <= data_in);
            answer.code();
        }
    }
}

//! A host with many queues against one with a single queue, over real sockets.

use holdfast_reactor::ReactorConfig;
use holdfast_testkit::{Command, Io, Queue};

use super::stage::{INTERFACES, NSID, Stage};
use crate::shard::HalfOpenLimits;

const BLOCK: usize = 512;
/// Commands on each queue: what they read fits into a socket that nobody reads from.
const DEPTH: u64 = 100;

/// How far the greedy host may be ahead, in commands: three slices of 28 commands (a slice pays for so many of this size), and
/// one turn that may begin before the modest host's first command is there.
const AHEAD_MAX: u64 = 3 * 29 + 60;

fn fill(queue: &mut Queue) {
    for number in 0..DEPTH {
        let sqe = Io::at(number, 1).sqe(0x02, NSID);
        queue.submit(Command::reading(sqe, BLOCK)).unwrap();
    }
}

fn drain(queue: &mut Queue) {
    for _ in 0..DEPTH {
        assert!(queue.wait_any().unwrap().1.status().is_success());
    }
}

/// Both hosts have all their commands under way, those on other cores as far as the volume's, then that goes on: counts what
/// the greedy one got until the modest one was done.
fn assert_shares(mut stage: Stage, queues: u16, elsewhere: u64) {
    let mut greedy = stage.session(0, queues);
    let mut modest = stage.session(1, 1);
    let mut hold = stage.hold();
    (1..=queues).for_each(|qid| fill(greedy.io(qid)));
    fill(modest.io(1));
    hold.release_others();
    let elsewhere = usize::try_from(elsewhere * DEPTH).unwrap();
    stage.until_others(move |shard, _| shard.router.commands_elsewhere() == elsewhere);
    drop(hold);
    let reader = std::thread::spawn(move || (1..=queues).for_each(|qid| drain(greedy.io(qid))));
    drain(modest.io(1));
    reader.join().unwrap();
    stage.until(|shard, _| !shard.fair.is_waiting());
    let turns = stage.turns.lock().unwrap().clone();
    let done = turns.iter().find(|turn| turn.done[1] == DEPTH).unwrap();
    assert!(done.done[0] <= DEPTH + AHEAD_MAX, "{done:?}");
    // Nothing was lost to the fairness.
    assert_eq!(turns.last().unwrap().done, [DEPTH * u64::from(queues), DEPTH]);
}

#[test]
fn a_host_with_one_queue_is_done_when_one_with_24_full_queues_has_had_as_much() {
    for io in INTERFACES {
        let config = ReactorConfig { io, ..ReactorConfig::default() };
        assert_shares(Stage::new(BLOCK, HalfOpenLimits::default(), config), 24, 0);
    }
}

#[test]
fn a_host_gains_nothing_by_queues_on_another_core_than_the_volume() {
    // Connections go to the cores in turn: those with even numbers, among them the modest host's
    // queue after 1 + 23 + 1 others, are on the volume's core, and eleven of the greedy one's are not.
    let stage = Stage::with_cores(2, BLOCK, HalfOpenLimits::default(), ReactorConfig::default());
    assert_shares(stage, 23, 11);
}

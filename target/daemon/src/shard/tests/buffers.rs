//! Receive buffers are few, and nobody gets all of them.

use std::thread::JoinHandle;

use holdfast_reactor::ReactorConfig;
use holdfast_testkit::{Command, Io, Queue};

use super::stage::{INTERFACES, NSID, Stage};
use crate::shard::HalfOpenLimits;

const BLOCK: usize = 4096;
const BUFFERS: u16 = 16;
/// More queues than there are buffers.
const QUEUES: u16 = 24;
const WRITES: u64 = 60;

/// Writes that fill more than a buffer, sent while nobody reads the answers; then the answers.
fn flood(mut queue: Queue) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for number in 0..WRITES {
            let sqe = Io::at(number, 1).sqe(0x01, NSID);
            queue.submit(Command::with_data(sqe, vec![7; BLOCK])).unwrap();
        }
        for _ in 0..WRITES {
            queue.wait_any().unwrap().1.ok().unwrap();
        }
    })
}

#[test]
fn a_host_with_more_queues_than_there_are_buffers_leaves_some_to_others_and_is_served_to_the_end() {
    for io in INTERFACES {
        leaves_some_to_others(ReactorConfig { receive_buffers: BUFFERS, io, ..ReactorConfig::default() });
    }
}

fn leaves_some_to_others(config: ReactorConfig) {
    let mut stage = Stage::new(BLOCK, HalfOpenLimits::default(), config);
    let mut greedy = stage.session(0, QUEUES);
    let mut modest = stage.session(1, 1);
    let hold = stage.hold();
    let floods: Vec<_> = greedy.take_io_queues().into_iter().map(flood).collect();
    drop(hold);
    for number in 0..50 {
        let data = vec![u8::try_from(number).unwrap(); BLOCK];
        modest.io(1).write(NSID, &Io::at(1000 + number, 1), &data).unwrap().ok().unwrap();
        assert_eq!(
            modest.io(1).read(NSID, &Io::at(1000 + number, 1), BLOCK).unwrap().ok().unwrap().data,
            data
        );
    }
    floods.into_iter().for_each(|flood| flood.join().unwrap());
    stage.until(|shard, _| shard.links.iter().flatten().all(|link| link.input.is_empty() && !link.paused));
    let turns = stage.turns.lock().unwrap();
    assert!(turns.iter().all(|turn| turn.kept.iter().sum::<usize>() < usize::from(BUFFERS)), "{turns:?}");
    assert_eq!(turns.last().unwrap().done, [WRITES * u64::from(QUEUES), 100]);
}

//! Hosts that ask and do not read.

use holdfast_block::RESPONSES_PER_BATCH;
use holdfast_reactor::ReactorConfig;
use holdfast_testkit::{Command, Io, Queue, Session};

use super::stage::{INTERFACES, NSID, Stage};
use crate::shard::links::Link;
use crate::shard::serving::OUTBOX_MAX;
use crate::shard::{HalfOpenLimits, Shard};

const BLOCK: usize = 4096;
/// Reads of a quarter of a mebibyte: some of them fill the socket.
const BLOCKS: u32 = 64;
const READ_LEN: usize = 64 * BLOCK;
/// Half of the queue.
const ASKED: usize = 128;

fn ask(queue: &mut Queue) {
    for _ in 0..ASKED {
        let sqe = Io::at(0, BLOCKS).sqe(0x02, NSID);
        queue.submit(Command::reading(sqe, READ_LEN)).unwrap();
    }
}

fn stalled(shard: &Shard) -> Option<&Link> {
    shard.links.iter().flatten().find(|link| link.is_stalled())
}

fn works(host: &mut Session) {
    for _ in 0..20 {
        assert_eq!(host.io(1).read(NSID, &Io::at(0, 1), BLOCK).unwrap().ok().unwrap().data.len(), BLOCK);
    }
}

#[test]
fn a_host_that_does_not_read_is_served_no_further_until_it_does() {
    for io in INTERFACES {
        is_served_no_further(ReactorConfig { io, ..ReactorConfig::default() });
    }
}

fn is_served_no_further(config: ReactorConfig) {
    let mut stage = Stage::new(BLOCK, HalfOpenLimits::default(), config);
    let mut deaf = stage.session(0, 1);
    let mut other = stage.session(1, 1);
    let pattern: Vec<u8> = (0..READ_LEN).map(|at| u8::try_from(at % 251).unwrap()).collect();
    deaf.io(1).write(NSID, &Io::at(0, BLOCKS), &pattern).unwrap().ok().unwrap();
    ask(deaf.io(1));
    stage.until(|shard, _| stalled(shard).is_some_and(|link| !link.input.is_empty()));
    // However often the core turns, what waits for it does not grow, and others are served.
    works(&mut other);
    stage.until(|shard, _| stalled(shard).is_some_and(|link| !link.input.is_empty()));
    let ready = stage.core.call(|shard, _| stalled(shard).unwrap().connection.ready_responses()).unwrap();
    assert!(ready <= OUTBOX_MAX + RESPONSES_PER_BATCH, "{ready}");
    let done = stage.turns.lock().unwrap().last().unwrap().done[0];
    assert!(done < 1 + u64::try_from(ASKED).unwrap(), "{done}");
    // It reads: all is there, in order and whole.
    for _ in 0..ASKED {
        assert_eq!(deaf.io(1).wait_any().unwrap().1.ok().unwrap().data, pattern);
    }
}

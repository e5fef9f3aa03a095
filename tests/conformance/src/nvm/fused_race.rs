//! Compare and Write against other hosts, queues and cores: the pair is atomic. NVM Command Set 1.1 §2.1.3.1 "Compare and
//! Write", §2.1.4 "Atomic Operation".

use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use holdfast_testkit::wire::code;
use holdfast_testkit::{Io, Options, Queue, Session};

use super::BLOCK;
use crate::check::{pattern, same};
use crate::fields::{done, le64, part};
use crate::{Case, Format, Lab, View};

const PAIR: &str = "NVM Command Set 1.1 §2.1.3.1 \"Compare and Write\"";
const ATOMIC: &str = "NVM Command Set 1.1 §2.1.4 \"Atomic Operation\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "nvm.fused.race-hosts", clause: PAIR, run: |lab| no_increment_is_lost(lab, 2, 1, 1) },
    Case { id: "nvm.fused.race-many-hosts", clause: PAIR, run: |lab| no_increment_is_lost(lab, 6, 1, 1) },
    Case { id: "nvm.fused.race-queues", clause: PAIR, run: |lab| no_increment_is_lost(lab, 1, 4, 1) },
    Case { id: "nvm.fused.race-blocks", clause: PAIR, run: |lab| no_increment_is_lost(lab, 2, 2, 8) },
    Case { id: "nvm.atomic.writes", clause: ATOMIC, run: writes_are_seen_whole },
];

/// Increments of each queue.
const INCREMENTS: u64 = 60;
const LBA: u64 = 3300;

/// Blocks that all carry the counter.
fn blocks_with(counter: u64, blocks: u32) -> Vec<u8> {
    let mut data = Vec::new();
    for block in 0..blocks {
        data.extend_from_slice(&counter.to_le_bytes());
        data.extend(pattern(counter.wrapping_add(block.into()), BLOCK - 8));
    }
    data
}

/// Raises the counter by one, again and again, whoever else does.
fn increment(io: &mut Queue, blocks: u32) -> Result<()> {
    let at = Io::at(LBA, blocks);
    let len = usize::try_from(blocks)? * BLOCK;
    for _ in 0..INCREMENTS {
        loop {
            let old = io.read(1, &at, len)?.ok()?.data;
            let counter = le64(&old, 0)?;
            ensure!(old == blocks_with(counter, blocks), "blocks of several increments at once");
            let (compare, write) = io.compare_and_write(1, &at, &old, &blocks_with(counter + 1, blocks))?;
            if compare.status().is_success() {
                done(&write)?;
                break;
            }
            same("Compare", compare.status().pair(), code::COMPARE_FAILURE)?;
            same("Write", write.status().pair(), code::FUSED_ABORTED)?;
        }
    }
    Ok(())
}

fn sessions(lab: &mut Lab, count: usize, options: &Options) -> Result<Vec<Session>> {
    (0..count).map(|_| lab.open(Format::STANDARD, View::Plain, options.clone())).collect()
}

fn joined(outcome: thread::Result<Result<()>>) -> Result<()> {
    outcome.map_err(|_| anyhow!("a host panicked"))?
}

fn no_increment_is_lost(lab: &mut Lab, hosts: usize, queues: u16, blocks: u32) -> Result<()> {
    let mut sessions = sessions(lab, hosts, &Options::default().io_queues(queues))?;
    let first = sessions.first_mut().context("a host")?;
    done(&first.io(1).write(1, &Io::at(LBA, blocks), &blocks_with(0, blocks))?)?;
    let all: Vec<Queue> = sessions.iter_mut().flat_map(Session::take_io_queues).collect();
    let count = u64::try_from(all.len())?;
    let outcomes = thread::scope(|scope| {
        let running: Vec<_> =
            all.into_iter().map(|mut io| scope.spawn(move || increment(&mut io, blocks))).collect();
        running.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    outcomes.into_iter().try_for_each(joined)?;
    let mut reader = lab.session(Options::default())?;
    let found = reader.io(1).read(1, &Io::at(LBA, blocks), usize::try_from(blocks)? * BLOCK)?.ok()?.data;
    same("the counter", le64(&found, 0)?, count * INCREMENTS)
}

/// Two hosts write the same blocks, a third never sees a mixture within AWUN.
fn writes_are_seen_whole(lab: &mut Lab) -> Result<()> {
    let mut sessions = sessions(lab, 3, &Options::default())?;
    let raw = sessions.first().context("a host")?.controller().raw.clone();
    let unit = u32::from(crate::fields::le16(&raw, 526)?) + 1;
    let blocks = unit.min(32);
    let len = usize::try_from(blocks)? * BLOCK;
    let at = Io::at(LBA, blocks);
    let [first, second, reader] = sessions.as_mut_slice() else { return Err(anyhow!("three hosts")) };
    let write = |session: &mut Session, mark: u8| -> Result<()> {
        (0..120).try_for_each(|_| done(&session.io(1).write(1, &at, &vec![mark; len])?))
    };
    write(first, 1)?;
    let outcomes = thread::scope(|scope| {
        let one = scope.spawn(|| write(first, 1));
        let other = scope.spawn(|| write(second, 2));
        let look = scope.spawn(|| {
            (0..240).try_for_each(|_| {
                let found = reader.io(1).read(1, &at, len)?.ok()?.data;
                let mark = part(&found, 0, 1)?.to_vec();
                ensure!(found.iter().all(|byte| mark.first() == Some(byte)), "a mixture of two writes");
                Ok(())
            })
        });
        [one.join(), other.join(), look.join()]
    });
    outcomes.into_iter().try_for_each(joined)
}

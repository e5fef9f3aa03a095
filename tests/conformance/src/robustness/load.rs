//! Much work at once, all of it legal.

use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use holdfast_testkit::wire::opcode;
use holdfast_testkit::{Command, Error, Io, Options, Session};

use super::{PROMISE, bounded, footprint, given_back};
use crate::{Case, Lab, check};

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("robustness.load.verified", PROMISE, sixteen_hosts_read_what_they_wrote),
    Case::new("robustness.load.beside-bad-hosts", PROMISE, good_hosts_work_beside_bad_ones),
    Case::new("robustness.load.memory", PROMISE, memory_stays_flat_over_many_sessions),
    Case::new("robustness.load.digests", PROMISE, digested_hosts_read_what_they_wrote),
];

/// Writes a region and reads it back, in rounds of full depth.
fn work(session: &mut Session, region: u64, rounds: u64) -> Result<()> {
    const BLOCKS: u32 = 4;
    const DEPTH: u64 = 31;
    let len = usize::try_from(BLOCKS)? * 4096;
    let io = session.io(1);
    for round in 0..rounds {
        let at = |index: u64| Io::at(region * DEPTH * 4 + index * 4, BLOCKS);
        let data = |index: u64| check::pattern(region << 32 | round << 16 | index, len);
        let write = |index| Command::with_data(at(index).sqe(opcode::WRITE, 1), data(index));
        let cids = (0..DEPTH).map(|index| io.submit(write(index))).collect::<Result<Vec<u16>, Error>>()?;
        for cid in cids {
            io.wait(cid)?.ok()?;
        }
        let read = |index| Command::reading(at(index).sqe(opcode::READ, 1), len);
        let cids = (0..DEPTH).map(|index| io.submit(read(index))).collect::<Result<Vec<u16>, Error>>()?;
        for (cid, index) in cids.into_iter().zip(0..) {
            ensure!(
                io.wait(cid)?.ok()?.data == data(index),
                "region {region}, round {round}: something else"
            );
        }
    }
    Ok(())
}

/// Runs `work` on many sessions at once.
fn together(sessions: Vec<Session>, rounds: u64) -> Result<()> {
    let workers = sessions.into_iter().zip(0..).map(|(mut session, region)| {
        thread::spawn(move || work(&mut session, region, rounds).with_context(|| format!("host {region}")))
    });
    let workers: Vec<_> = workers.collect();
    for worker in workers {
        worker.join().map_err(|_| anyhow!("a host panicked"))??;
    }
    Ok(())
}

fn sixteen_hosts_read_what_they_wrote(lab: &mut Lab) -> Result<()> {
    let sessions =
        (0..16).map(|_| lab.session(Options::default().queue_size(32))).collect::<Result<Vec<Session>>>()?;
    together(sessions, 10)
}

fn digested_hosts_read_what_they_wrote(lab: &mut Lab) -> Result<()> {
    let open = |index: u32| {
        lab.session(Options::default().queue_size(32).digests(index.is_multiple_of(2), index % 4 < 2))
    };
    let sessions = (0..8).map(open).collect::<Result<Vec<Session>>>()?;
    together(sessions, 6)
}

fn good_hosts_work_beside_bad_ones(lab: &mut Lab) -> Result<()> {
    let sessions =
        (0..4).map(|_| lab.session(Options::default().queue_size(32))).collect::<Result<Vec<Session>>>()?;
    let good = thread::spawn(move || together(sessions, 40));
    for seed in 0..100 {
        lab.raw()?.send_raw(&check::pattern(seed, 300))?;
        let mut bad = lab.session(Options::default())?;
        let read = Command::reading(Io::at(0, 256).sqe(opcode::READ, 1), 256 * 4096);
        for _ in 0..8 {
            bad.io(1).submit(read.clone())?;
        }
        for queue in bad.take_io_queues() {
            queue.into_connection().reset()?;
        }
    }
    good.join().map_err(|_| anyhow!("the good hosts panicked"))?
}

fn memory_stays_flat_over_many_sessions(lab: &mut Lab) -> Result<()> {
    for _ in 0..20 {
        work(&mut lab.session(Options::default().queue_size(32))?, 0, 1)?;
    }
    let before = footprint(lab)?;
    for _ in 0..100 {
        work(&mut lab.session(Options::default().queue_size(32))?, 0, 1)?;
    }
    given_back(lab, before)?;
    bounded(lab, before)
}

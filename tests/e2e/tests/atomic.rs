//! What is whole stays whole on two cores: fused pairs, writes of the longest atomic length, Copy between volumes that live
//! apart; and blocks marked as uncorrectable last as others do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{Appliance, Share, eventually, host_nqn};
use holdfast_testkit::wire::{Sqe, opcode};
use holdfast_testkit::{Command, Copy, Io, Options, Session, SourceRange};
use serde_json::{Value, json};

const BLOCK: usize = 4096;
/// Blocks of the longest atomic write.
const LONG: u32 = 256;
const HOSTS: u8 = 4;
/// Increments by each host, of each namespace's counter.
const INCREMENTS: u64 = 40;
/// Reads that each reader holds against writers.
const READS: u32 = 60;
const HEALED_LIMIT: Duration = Duration::from_secs(30);

/// One subsystem with a volume on each of two cores, for any host.
fn build(appliance: &Appliance) -> Result<Share> {
    let rest = appliance.rest();
    appliance.make_pool("apart", 128 << 20, 1.0)?;
    let subsystem = rest.post("/subsystems", &json!({"name": "atomic", "allow_any_host": true}))?;
    for (nsid, pool) in [(1, "ram"), (2, "apart")] {
        let name = format!("in-{pool}");
        rest.post("/volumes", &json!({"name": name, "pool": pool, "size_bytes": 64 << 20}))?;
        rest.post("/subsystems/atomic/namespaces", &json!({"volume": name, "nsid": nsid}))?;
    }
    let nqn = subsystem.get("nqn").and_then(Value::as_str).context("an NQN")?.to_owned();
    Ok(Share { name: "atomic".to_owned(), nqn, uuid: String::new() })
}

fn session(port: u16, host: &str, nqn: &str) -> Result<Session> {
    // Two queues, which the target puts onto two cores.
    Ok(Session::open(("127.0.0.1", port), &host_nqn(host), nqn, Options::default().io_queues(2))?)
}

fn numbered(count: u64) -> Vec<u8> {
    count.to_le_bytes().iter().copied().cycle().take(BLOCK).collect()
}

/// Adds to the number in block 0 of each namespace by Compare and Write.
fn increment(port: u16, host: &str, nqn: &str) -> Result<()> {
    let mut session = session(port, host, nqn)?;
    let io = Io::at(0, 1);
    for nsid in [1, 2] {
        let mut seen = 0;
        let mut done = 0;
        while done < INCREMENTS {
            let queue = session.io(u16::from(done % 2 == 0) + 1);
            let (compared, written) =
                queue.compare_and_write(nsid, &io, &numbered(seen), &numbered(seen + 1))?;
            if compared.status().is_success() {
                written.ok()?;
                (seen, done) = (seen + 1, done + 1);
                continue;
            }
            ensure!(compared.status().is(2, 0x85), "a Compare ended with {}", compared.status());
            ensure!(written.status().is(0, 0x09), "its Write ended with {}", written.status());
            let now = queue.read(nsid, &io, BLOCK)?.ok()?.data;
            seen = u64::from_le_bytes(now.get(..8).context("a block")?.try_into()?);
        }
    }
    Ok(session.close()?)
}

/// Writes long runs of one value until told to stop.
fn write_long(port: u16, host: &str, nqn: &str, fill: u8, stop: &AtomicBool) -> Result<()> {
    let mut session = session(port, host, nqn)?;
    let data = vec![fill; LONG as usize * BLOCK];
    while !stop.load(Ordering::Relaxed) {
        for (qid, nsid) in [(1, 1), (2, 1), (1, 2), (2, 2)] {
            session.io(qid).write(nsid, &Io::at(1000, LONG), &data)?.ok()?;
        }
    }
    Ok(session.close()?)
}

/// Reads them and finds one value.
fn read_long(port: u16, host: &str, nqn: &str) -> Result<()> {
    let mut session = session(port, host, nqn)?;
    for number in 0..READS {
        for nsid in [1, 2] {
            let queue = session.io(u16::from(number % 2 == 0) + 1);
            let data = queue.read(nsid, &Io::at(1000, LONG), LONG as usize * BLOCK)?.ok()?.data;
            let first = data.first().copied();
            ensure!(data.iter().all(|byte| Some(*byte) == first), "a mixture of two writes");
        }
    }
    Ok(session.close()?)
}

fn join(threads: Vec<JoinHandle<Result<()>>>) -> Result<()> {
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a host has panicked"))??;
    }
    Ok(())
}

#[test]
fn pairs_and_long_writes_are_whole_for_hosts_on_both_cores() -> Result<()> {
    let appliance = Appliance::start_with("atomic", &["--cores", "0,1", "--ram-pool", "128MiB"])?;
    let share = build(&appliance)?;
    let (port, nqn) = (appliance.nvme_port(), share.nqn.clone());
    let stop = Arc::new(AtomicBool::new(false));
    let counting = (0..HOSTS).map(|number| {
        let nqn = nqn.clone();
        std::thread::spawn(move || increment(port, &format!("counter-{number}"), &nqn))
    });
    let counting: Vec<_> = counting.collect();
    let writing = (1..=2).map(|fill| {
        let (nqn, stop) = (nqn.clone(), Arc::clone(&stop));
        std::thread::spawn(move || write_long(port, &format!("writer-{fill}"), &nqn, fill, &stop))
    });
    let writing: Vec<_> = writing.collect();
    let reading = (0..2).map(|number| {
        let nqn = nqn.clone();
        std::thread::spawn(move || read_long(port, &format!("reader-{number}"), &nqn))
    });
    let read = join(reading.collect());
    stop.store(true, Ordering::Relaxed);
    read.and(join(writing)).and(join(counting))?;
    let mut session = session(port, "judge", &nqn)?;
    for nsid in [1, 2] {
        let counter = session.io(1).read(nsid, &Io::at(0, 1), BLOCK)?.ok()?.data;
        ensure!(
            counter == numbered(u64::from(HOSTS) * INCREMENTS),
            "an increment of namespace {nsid} was lost"
        );
    }
    session.close()?;
    appliance.stop()
}

#[test]
fn copies_reach_over_cores_and_marks_last_as_blocks_do() -> Result<()> {
    let appliance = Appliance::start_with("atomic_copy", &["--cores", "0,1", "--ram-pool", "128MiB"])?;
    let share = build(&appliance)?;
    let port = appliance.nvme_port();
    let mut host = session(port, "copier", &share.nqn)?;
    let mut behavior = vec![0; 512];
    if let Some(formats) = behavior.get_mut(4) {
        *formats = 0b1100;
    }
    let enable = Sqe::new(opcode::SET_FEATURES).cdw(10, 0x16);
    host.admin().run(Command::with_data(enable, behavior))?.ok()?;
    let data: Vec<u8> = (0..3 * BLOCK).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
    for (from, to) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        for qid in [1, 2] {
            let queue = host.io(qid);
            queue.write(from, &Io::at(10, 3), &data)?.ok()?;
            let sources = [SourceRange::at(12, 1).of(from), SourceRange::at(10, 2).of(from)];
            queue.copy(to, &Copy::new(2, 400, &sources))?.ok()?;
            let (head, tail) = data.split_at(2 * BLOCK);
            let copied = queue.read(to, &Io::at(400, 3), 3 * BLOCK)?.ok()?.data;
            ensure!(copied == [tail, head].concat(), "queue {qid}, namespace {from} to {to}");
        }
    }
    for nsid in [1, 2] {
        host.io(1).write_uncorrectable(nsid, &Io::at(401, 1))?.ok()?;
        let blocked = host.io(2).copy(nsid, &Copy::new(0, 500, &[SourceRange::at(400, 3)]))?;
        ensure!(blocked.status().is(2, 0x81), "a Copy of a marked block ended with {}", blocked.status());
    }
    drop(host);
    let appliance = appliance.interrupt("atomic_copy")?;
    let port = appliance.nvme_port();
    let mut host = eventually(HEALED_LIMIT, "a session with the next target", || {
        Ok(session(port, "copier", &share.nqn).ok())
    })?;
    for nsid in [1, 2] {
        let marked = host.io(1).read(nsid, &Io::at(400, 3), 3 * BLOCK)?;
        ensure!(marked.status().is(2, 0x81), "a marked block was read: {}", marked.status());
        let beside = host.io(2).read(nsid, &Io::at(400, 1), BLOCK)?.ok()?.data;
        ensure!(Some(beside.as_slice()) == data.get(2 * BLOCK..), "the copy beside it is not what it was");
        host.io(2).write(nsid, &Io::at(401, 1), &numbered(7))?.ok()?;
        ensure!(host.io(1).read(nsid, &Io::at(401, 1), BLOCK)?.ok()?.data == numbered(7));
    }
    let incidents = appliance.rest().items("/incidents")?;
    ensure!(incidents.is_empty(), "nobody is to blame for a mark: {incidents:?}");
    host.close()?;
    appliance.stop()
}

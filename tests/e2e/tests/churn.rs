//! Many hosts at work while others connect and die: nothing stays behind of the dead, memory stays where it was, and
//! every block holds what its host was told is written.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_e2e::{Appliance, Plane, Share, eventually, host_nqn};
use holdfast_testkit::wire::opcode;
use holdfast_testkit::{Command, Connection, Io, Options, Placement, Session};
use serde_json::{Value, json};

const HOSTS: u64 = 64;
const QUEUES: u16 = 4;
/// How many hosts die, where `HOLDFAST_TEST_DEATHS` says nothing else: more than those after which everything has been allocated.
const DEATHS: u64 = 300;
/// Threads in which hosts connect and die.
const REAPERS: u64 = 4;
/// After so many deaths everything that is ever needed has been allocated: what is measured first is held against the end.
const WARM: u64 = 200;
const BLOCK: usize = 4096;
/// Blocks of one command, for each queue of each host: small ones travel in capsules, large ones by R2T.
const CHUNKS: [u64; 4] = [1, 2, 4, 16];
/// Blocks of one host.
const AREA: u64 = 64;
const SEEN_LIMIT: Duration = Duration::from_secs(60);

/// A pseudo-random sequence.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// Block `lba` as written for the `version`th time: nothing else looks like it.
fn block(lba: u64, version: u64) -> Vec<u8> {
    let mut random = Random(lba << 32 ^ version);
    let mut bytes: Vec<u8> = [lba, version].iter().flat_map(|word| word.to_le_bytes()).collect();
    while bytes.len() < BLOCK {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes
}

fn chunk(lba: u64, blocks: u64, version: u64) -> Vec<u8> {
    (lba..lba + blocks).flat_map(|lba| block(lba, version)).collect()
}

/// The version of an intact block; 0 for one that was never written.
fn version_of(lba: u64, bytes: &[u8]) -> Result<u64> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(0);
    }
    let version = bytes.get(8..16).and_then(|word| word.try_into().ok()).map(u64::from_le_bytes);
    let version = version.context("a block of 4096 bytes")?;
    ensure!(bytes == block(lba, version), "block {lba} is no version that was ever written");
    Ok(version)
}

struct Stage {
    appliance: Appliance,
    share: Share,
    stop: AtomicBool,
    deaths: AtomicU64,
}

impl Stage {
    fn session(&self, name: &str, options: Options) -> Result<Session> {
        Ok(Session::open(self.appliance.nvme(), &host_nqn(name), &self.share.nqn, options)?)
    }

    /// Fails unless the appliance knows of so many sessions; says which of dead hosts there are.
    fn expect_sessions(&self, count: usize) -> Result<()> {
        let hosts = self.appliance.rest().items("/hosts")?;
        let sessions =
            |host: &Value| host.get("sessions").and_then(Value::as_array).cloned().unwrap_or_default();
        let all: Vec<Value> = hosts.iter().flat_map(sessions).collect();
        let mortal = |host: &&Value| host.get("nqn").is_some_and(|nqn| nqn.to_string().contains("mortal"));
        let late: Vec<Value> = hosts.iter().filter(mortal).flat_map(sessions).collect();
        ensure!(all.len() == count, "{} sessions, of dead hosts {late:?}", all.len());
        Ok(())
    }
}

#[test]
fn hosts_that_die_leave_nothing_behind_while_sixty_four_others_work() -> Result<()> {
    let seed: u64 = std::env::var("HOLDFAST_SEED").map_or(Ok(0xc4u64), |text| text.parse())?;
    let deaths: u64 = std::env::var("HOLDFAST_TEST_DEATHS").map_or(Ok(DEATHS), |text| text.parse())?;
    ensure!(deaths > WARM, "HOLDFAST_TEST_DEATHS: more than {WARM} are needed");
    println!("HOLDFAST_SEED={seed}");
    let appliance = Appliance::start("churn")?;
    let share = appliance.share("disk", 64, 4096)?;
    appliance.rest().patch("/subsystems/disk", &json!({"allow_any_host": true}))?;
    let before = appliance.process(Plane::Data)?;
    let stage = Stage { appliance, share, stop: AtomicBool::new(false), deaths: AtomicU64::new(0) };
    let (versions, memory) = thread::scope(|scope| -> Result<_> {
        let _stopped = StopOnDrop(&stage.stop);
        let steady: Vec<_> = (0..HOSTS)
            .map(|host| {
                scope.spawn({
                    let stage = &stage;
                    move || work(stage, host)
                })
            })
            .collect();
        let reapers: Vec<_> = (0..REAPERS)
            .map(|number| {
                scope.spawn({
                    let stage = &stage;
                    move || reap(stage, seed ^ number << 48, deaths / REAPERS)
                })
            })
            .collect();
        let warm = || Ok((stage.deaths.load(Ordering::Relaxed) >= WARM).then_some(()));
        eventually(SEEN_LIMIT * 5, "the first hosts' deaths", warm)?;
        let memory = stage.appliance.process(Plane::Data)?.private_bytes;
        for reaper in reapers {
            reaper.join().map_err(|_| anyhow::anyhow!("a thread of dying hosts panicked"))??;
        }
        let all_seen = || stage.expect_sessions(usize::try_from(HOSTS)?).map(Some);
        let seen = eventually(SEEN_LIMIT, "only the living hosts' sessions", all_seen);
        let after = stage.appliance.process(Plane::Data)?.private_bytes;
        stage.stop.store(true, Ordering::Relaxed);
        let joined =
            steady.into_iter().map(|host| host.join().map_err(|_| anyhow::anyhow!("a host panicked"))?);
        // A living host that has failed says more than that its session is missing.
        let versions = joined.collect::<Result<Vec<_>>>()?;
        seen?;
        Ok((versions, (memory, after)))
    })?;
    println!(
        "private memory: {} KiB after {WARM} deaths, {} KiB after {deaths}",
        memory.0 >> 10,
        memory.1 >> 10
    );
    ensure!(memory.1 * 20 <= memory.0 * 21, "memory grew from {} to {} bytes", memory.0, memory.1);
    verify(&stage, &versions)?;
    stage.appliance.same_target(before)?;
    let stage = Stage { appliance: stage.appliance.interrupt("churn_again")?, ..stage };
    verify(&stage, &versions).context("after the target's end")?;
    let gone = || stage.expect_sessions(0).map(Some);
    eventually(SEEN_LIMIT, "the end of all sessions", gone)?;
    for host in stage.appliance.rest().items("/hosts")? {
        let name = host.get("name").and_then(Value::as_str).context("a host's name")?;
        stage.appliance.rest().delete(&format!("/hosts/{name}"))?;
    }
    ensure!(stage.appliance.rest().items("/incidents")?.is_empty(), "nobody is to be accused");
    stage.appliance.stop()
}

/// Lets the hosts end whatever ends the test.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A host that lives: writes on all its queues at once, reads back, until it is told to stop; the last version written.
fn work(stage: &Stage, host: u64) -> Result<u64> {
    let digests = (host % 4 == 1 || host % 4 == 3, host % 4 >= 2);
    let options = Options::default().io_queues(QUEUES).queue_size(32).digests(digests.0, digests.1);
    let mut session = stage.session(&format!("steady-{host}"), options)?;
    let mut version = 0;
    while !stage.stop.load(Ordering::Relaxed) {
        version += 1;
        // However slow the machine is, a living host is heard of in time.
        session.admin().keep_alive()?.ok()?;
        let mut sent = Vec::new();
        for (queue, lba, blocks) in places(host) {
            let sqe = Io::at(lba, u32::try_from(blocks)?).sqe(opcode::WRITE, 1);
            sent.push((
                queue,
                session.io(queue).submit(Command::with_data(sqe, chunk(lba, blocks, version)))?,
            ));
        }
        for (queue, cid) in sent {
            session.io(queue).wait(cid)?.ok()?;
        }
        for (queue, lba, blocks) in places(host) {
            // Any queue reads what any other has written.
            let io = session.io(QUEUES + 1 - queue);
            let len = usize::try_from(blocks)? * BLOCK;
            let back = io.read(1, &Io::at(lba, u32::try_from(blocks)?), len)?.ok()?.data;
            ensure!(
                back == chunk(lba, blocks, version),
                "host {host}: blocks from {lba} on are not what was written"
            );
        }
    }
    session.close()?;
    Ok(version)
}

/// Queue, first block and number of blocks of what a host writes.
fn places(host: u64) -> impl Iterator<Item = (u16, u64, u64)> {
    (1..=QUEUES).zip(CHUNKS).scan(host * AREA, |lba, (queue, blocks)| {
        let at = *lba;
        *lba += blocks;
        Some((queue, at, blocks))
    })
}

/// Hosts that die, one after another, at a place that the sequence picks.
fn reap(stage: &Stage, seed: u64, deaths: u64) -> Result<()> {
    let mut random = Random(seed);
    for number in 0..deaths {
        die(stage, &mut random, number).with_context(|| format!("death {number} of seed {seed:#x}"))?;
        stage.deaths.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn die(stage: &Stage, random: &mut Random, number: u64) -> Result<()> {
    if random.below(8) == 0 {
        let mut raw = Connection::raw(stage.appliance.nvme(), Duration::from_secs(20))?;
        let header: Vec<u8> =
            [0, 0, 128, 0, 128, 0, 0, 0].into_iter().take(usize::try_from(random.below(9))?).collect();
        raw.send_raw(&header)?;
        return end(raw, random);
    }
    let queues = u16::try_from(1 + random.below(4))?;
    let mut session =
        stage.session(&format!("mortal-{}", random.below(16)), Options::default().io_queues(queues))?;
    let lba = HOSTS * AREA + random.below(64) * 16;
    let mut dying = session.take_io_queues();
    for queue in &mut dying {
        let stage_of_death = random.below(4);
        queue.hold_r2ts(true);
        for _ in 0..=random.below(12) {
            let (sqe, data) = (Io::at(lba, 16).sqe(opcode::WRITE, 1), chunk(lba, 16, number + 1));
            queue.submit(Command::with_data(sqe, data).placed(Placement::Solicited))?;
        }
        for _ in 0..random.below(4) {
            queue.submit(Command::reading(Io::at(lba, 16).sqe(opcode::READ, 1), 16 * BLOCK))?;
        }
        if stage_of_death > 0 {
            let r2t = queue.next_r2t()?;
            match stage_of_death {
                1 => {
                    // In the middle of the data of a PDU.
                    let pdu = queue.h2c_data(&r2t, 0, 16 * BLOCK, true)?;
                    let frame = queue.connection().encode(&holdfast_testkit::wire::Pdu::H2cData(pdu));
                    let part = usize::try_from(1 + random.below(16 * 4096))?;
                    queue.connection().send_raw(frame.as_bytes().get(..part).unwrap_or_default())?;
                }
                2 => queue.answer_r2t(&r2t)?,
                _ => {}
            }
        }
    }
    for queue in dying {
        end(queue.into_connection(), random)?;
    }
    Ok(())
}

/// The end of a connection: reset, or closed without a word.
fn end(connection: Connection, random: &mut Random) -> Result<()> {
    if random.below(2) == 0 {
        connection.abort()?;
    }
    Ok(())
}

/// Another host reads all blocks: those of the living are their last version, those of the dead some version or none.
fn verify(stage: &Stage, versions: &[u64]) -> Result<()> {
    let mut session = stage.appliance.connect(&host_nqn("verifier"), &stage.share)?;
    for (host, version) in (0..).zip(versions) {
        ensure!(*version > 0, "host {host} has written nothing");
        for (_, lba, blocks) in places(host) {
            let len = usize::try_from(blocks)? * BLOCK;
            let back = session.io(1).read(1, &Io::at(lba, u32::try_from(blocks)?), len)?.ok()?.data;
            if back != chunk(lba, blocks, *version) {
                bail!("host {host}: blocks from {lba} on are not their last version {version}");
            }
        }
    }
    for chunk in 0..64 {
        let first = HOSTS * AREA + chunk * 16;
        let back = session.io(1).read(1, &Io::at(first, 16), 16 * BLOCK)?.ok()?.data;
        for (lba, bytes) in (first..).zip(back.chunks(BLOCK)) {
            version_of(lba, bytes)?;
        }
    }
    Ok(session.close()?)
}

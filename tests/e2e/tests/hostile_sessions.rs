//! Peers that fall silent, vanish in the middle of a transfer or talk nonsense, while another host works: its data stay right,
//! the target stays alive, and what it holds stays within limits. Randomness comes from seeds that a failure names.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{Appliance, Plane, Process, Share, eventually, host_nqn};
use holdfast_testkit::wire::{DataPdu, Digests, Frame, IcReq, Pdu, R2t, Sqe, opcode};
use holdfast_testkit::{
    Command, ConnectOptions, Connection, DeallocateRange, Io, Options, Placement, Queue, Session, host_id_of,
};

const BLOCK: usize = 4096;
const MIB: usize = 1 << 20;
/// What the target may hold after hundreds of hostile peers, besides what its pools took from the start.
const PRIVATE_BYTES_MAX: u64 = 100 << 20;
/// What it may hold while peers keep hundreds of transfers open: the buffers of all connections together have a limit.
const WAITING_BYTES_MAX: u64 = 400 << 20;
/// A peer that does not get as far as Connect is disconnected after 15 seconds; this is a bound for a busy machine.
const CLEARED_LIMIT: Duration = Duration::from_secs(120);

/// `good` works on one volume while `bad` abuses another; neither sees the other's.
struct Stage {
    appliance: Appliance,
    good: Share,
    bad: Share,
    before: Process,
}

/// Connections and pool are on different cores, as far as there are two.
fn stage(name: &str) -> Result<Stage> {
    stage_with(name, &["--cores", "0,1"])
}

fn stage_with(name: &str, arguments: &[&str]) -> Result<Stage> {
    let appliance = Appliance::start_with(name, arguments)?;
    let good = appliance.share("good", 64, 4096)?;
    let bad = appliance.share("bad", 64, 4096)?;
    appliance.admit_scripted("good", &good, "plain", "any")?;
    appliance.admit_scripted("bad", &bad, "plain", "any")?;
    appliance.works_for("good", &good, 8)?;
    let before = appliance.process(Plane::Data)?;
    Ok(Stage { appliance, good, bad, before })
}

impl Stage {
    fn bad_session(&self, options: Options) -> Result<Session> {
        self.appliance.session("bad", &self.bad, options)
    }

    /// Demands the same process, within its limits, with no descriptor more than `before`, once all peers have gone.
    fn finish(self, bystander: Bystander) -> Result<()> {
        bystander.stop()?;
        let appliance = self.appliance;
        let now = eventually(CLEARED_LIMIT, "the end of all connections", || {
            let now = appliance.process(Plane::Data)?;
            ensure!(now.pid == self.before.pid, "the target died");
            Ok((now.descriptors <= self.before.descriptors).then_some(now))
        })?;
        let limit = self.before.private_bytes + PRIVATE_BYTES_MAX;
        ensure!(now.private_bytes < limit, "before {:?}, after {now:?}", self.before);
        appliance.works_for("good", &self.good, 8)?;
        appliance.works_for("bad", &self.bad, 8)?;
        appliance.stop()
    }
}

/// The other host: writes and reads back, until it is told to stop.
struct Bystander {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    failure: Arc<Mutex<Option<String>>>,
    thread: JoinHandle<Result<()>>,
}

impl Bystander {
    fn start(stage: &Stage) -> Result<Bystander> {
        // Two I/O queues, so that one of them is on another core than the pool.
        let options = Options::default().io_queues(2);
        let mut session = stage.appliance.session("good", &stage.good, options)?;
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(AtomicU64::new(0));
        let (told, done) = (Arc::clone(&stop), Arc::clone(&rounds));
        let failure = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&failure);
        let mut work = move || {
            while !told.load(Ordering::Relaxed) {
                let round = done.fetch_add(1, Ordering::Relaxed);
                let lba = 256 + round % 64 * 32;
                let data = pattern(round, 32);
                let queue = session.io(1 + u16::from(round % 2 == 1));
                queue.write(1, &Io::at(lba, 32), &data)?.ok()?;
                let back = queue.read(1, &Io::at(lba, 32), data.len())?.ok()?;
                ensure!(back.data == data, "the other host's data changed at block {lba}");
            }
            Ok(())
        };
        let thread = std::thread::spawn(move || {
            let ended: Result<()> = work();
            if let (Err(error), Ok(mut seen)) = (&ended, seen.lock()) {
                *seen = Some(format!("{error:#}"));
            }
            ended
        });
        Ok(Bystander { stop, rounds, failure, thread })
    }

    /// Demands that the other host gets on from here: some more rounds, however long they take.
    fn gets_on(&self) -> Result<()> {
        let from = self.rounds.load(Ordering::Relaxed);
        eventually(CLEARED_LIMIT, "the other host's I/O", || {
            let got_on = self.rounds.load(Ordering::Relaxed) > from + 10;
            Ok((got_on || self.thread.is_finished()).then_some(()))
        })?;
        ensure!(!self.thread.is_finished(), "the other host's I/O failed: {:?}", self.failure());
        Ok(())
    }

    fn failure(&self) -> Option<String> {
        self.failure.lock().ok()?.clone()
    }

    fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the other host panicked"))?
    }
}

fn pattern(seed: u64, blocks: usize) -> Vec<u8> {
    let mut random = Random(seed);
    (0..blocks).flat_map(|_| vec![random.byte(); BLOCK]).collect()
}

/// The seed of the first round: always the same, unless `HOLDFAST_SEED` (decimal) says where to search or what to repeat.
fn first_seed(usual: u64) -> Result<u64> {
    match std::env::var("HOLDFAST_SEED") {
        Ok(seed) => seed.parse().with_context(|| format!("HOLDFAST_SEED={seed}")),
        Err(_) => Ok(usual),
    }
}

/// SplitMix64: the same numbers for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.byte()).collect()
    }
}

#[test]
fn two_hundred_silent_connections_hinder_nobody_and_are_cleared_away() -> Result<()> {
    let stage = stage("hostile_silent")?;
    let bystander = Bystander::start(&stage)?;
    let mut silent = Vec::new();
    for index in 0..200 {
        silent.push(match index % 4 {
            0 => Connection::raw(stage.appliance.nvme(), CLEARED_LIMIT)?,
            1 => {
                let mut connection = Connection::raw(stage.appliance.nvme(), CLEARED_LIMIT)?;
                let request = Pdu::IcReq(IcReq::default()).encode(Digests::default(), 4);
                connection.send_frame(&request.truncate(77))?;
                connection
            }
            _ => Connection::open(
                stage.appliance.nvme(),
                &ConnectOptions { limit: CLEARED_LIMIT, ..ConnectOptions::default() },
            )?,
        });
    }
    bystander.gets_on()?;
    for connection in &mut silent {
        connection.expect_close().context("a silent peer")?;
    }
    bystander.gets_on()?;
    stage.finish(bystander)
}

#[test]
fn peers_that_vanish_in_the_middle_of_a_write_leave_nothing_behind() -> Result<()> {
    let stage = stage("hostile_vanish_write")?;
    let bystander = Bystander::start(&stage)?;
    for round in 0..100 {
        let mut session = stage.bad_session(Options::default().io_queues(2))?;
        let io = session.io(1);
        io.hold_r2ts(true);
        for lba in [256, 512, 768] {
            let sqe = Io::at(lba, 256).sqe(opcode::WRITE, 1);
            io.submit(Command::with_data(sqe, vec![0xee; MIB]).placed(Placement::Solicited))?;
        }
        let r2t = io.next_r2t()?;
        let sent = (round + 1) * 1024 % MIB;
        let last = usize::try_from(r2t.r2tl)?.min(sent.max(4));
        let half = io.h2c_data(&r2t, 0, last.min(64 << 10) & !3, false)?;
        let frame = io.connection().encode(&Pdu::H2cData(half));
        let cut = frame.as_bytes().len() - round % 3 * 2;
        io.connection().send_frame(&frame.truncate(cut))?;
    }
    bystander.gets_on()?;
    let mut session = stage.bad_session(Options::default())?;
    for lba in [256, 512, 768] {
        let back = session.io(1).read(1, &Io::at(lba, 256), MIB)?.ok()?.data;
        ensure!(back == vec![0; MIB], "half a write was stored at block {lba}");
    }
    session.close()?;
    stage.finish(bystander)
}

#[test]
fn peers_that_vanish_in_the_middle_of_a_read_leave_nothing_behind() -> Result<()> {
    let stage = stage("hostile_vanish_read")?;
    let bystander = Bystander::start(&stage)?;
    for round in 0..100_u64 {
        let mut session =
            stage.bad_session(Options::default().io_queues(2).digests(round % 2 == 0, round % 3 == 0))?;
        for index in 0..16 {
            let sqe = Io::at(index * 256, 256).sqe(opcode::READ, 1);
            session.io(1).submit(Command::reading(sqe, MIB))?;
        }
        // Some go at once, some after a first look at what comes.
        if round % 2 == 0 {
            session.io(1).connection().recv_frame()?;
        }
    }
    bystander.gets_on()?;
    stage.finish(bystander)
}

/// Hosts that ask for much and never read: what waits for them is bounded too.
#[test]
fn peers_that_do_not_read_hold_a_bounded_amount_of_memory() -> Result<()> {
    let stage = stage("hostile_no_reader")?;
    let bystander = Bystander::start(&stage)?;
    let mut idle = Vec::new();
    for _ in 0..16 {
        // Three connections each, so that the reads come in on all cores, the pool's and others.
        let mut session = stage.bad_session(Options::default().io_queues(2))?;
        for index in 0..100 {
            let sqe = Io::at(index % 60 * 256, 256).sqe(opcode::READ, 1);
            session.io(1).submit(Command::reading(sqe, MIB))?;
        }
        for _ in 0..28 {
            let sqe = Sqe::new(opcode::IDENTIFY).cdw(10, 1);
            session.admin().submit(Command::reading(sqe, 4096))?;
        }
        idle.push(session);
    }
    bystander.gets_on()?;
    let now = stage.appliance.process(Plane::Data)?;
    ensure!(
        now.private_bytes < PRIVATE_BYTES_MAX * 4,
        "before {:?}, with idle readers {now:?}",
        stage.before
    );
    drop(idle);
    stage.finish(bystander)
}

/// Hosts that have buffers reserved by R2Ts and never send the data: others still get theirs.
#[test]
fn peers_that_never_answer_their_r2ts_do_not_take_the_buffers_of_others() -> Result<()> {
    // 16 connections together ask for more than the pool has room for.
    let stage = stage_with("hostile_no_data", &["--ram-pool", "160MiB"])?;
    let bystander = Bystander::start(&stage)?;
    let mut idle = Vec::new();
    for _ in 0..16 {
        let mut session = stage.bad_session(Options::default())?;
        session.io(1).hold_r2ts(true);
        for index in 0..60 {
            let sqe = Io::at(index * 256, 256).sqe(opcode::WRITE, 1);
            session.io(1).submit(Command::with_data(sqe, vec![1; MIB]).placed(Placement::Solicited))?;
        }
        // The answer to a later command shows that the target has seen all of them.
        let seen = session.io(1).submit(Command::bare(Sqe::new(0xff)))?;
        session.io(1).wait(seen)?;
        idle.push(session);
    }
    bystander.gets_on()?;
    let mut late = stage.appliance.session("good", &stage.good, Options::default())?;
    let data = pattern(1, 256);
    late.io(1).write(1, &Io::at(12_288, 256), &data)?.ok()?;
    let back = late.io(1).read(1, &Io::at(12_288, 256), data.len())?.ok()?.data;
    ensure!(back == data, "the late host's data changed");
    late.close()?;
    let now = stage.appliance.process(Plane::Data)?;
    println!("{:?} {now:?}", stage.before);
    ensure!(now.private_bytes < WAITING_BYTES_MAX, "before {:?}, with idle writers {now:?}", stage.before);
    drop(idle);
    stage.finish(bystander)
}

/// The same with nearly all of the data sent, so that it has to be somewhere.
#[test]
fn peers_that_stop_short_of_the_end_of_many_writes_hold_a_bounded_amount_of_memory() -> Result<()> {
    let stage = stage("hostile_stop_short")?;
    let bystander = Bystander::start(&stage)?;
    let mut idle = Vec::new();
    for _ in 0..64 {
        // Three connections each, so that the writes come in on all cores, the pool's and others.
        let mut session = stage.bad_session(Options::default().io_queues(2))?;
        let connection = session.io(1).connection();
        for cid in 0..24 {
            let sqe = Io::at(u64::from(cid) * 256, 256).sqe(opcode::WRITE, 1).sgl_transport(1 << 20);
            connection.send(&Pdu::CapsuleCmd { sqe: sqe.with_cid(cid), data: Vec::new() })?;
        }
        // The answer to a later command shows that the target has seen all of them.
        connection.send(&Pdu::CapsuleCmd { sqe: Sqe::new(0xff).with_cid(99), data: Vec::new() })?;
        let mut r2ts = Vec::new();
        loop {
            match connection.recv()? {
                Pdu::R2t(r2t) => r2ts.push(r2t),
                Pdu::CapsuleResp(cqe) if cqe.cid == 99 => break,
                _ => {}
            }
        }
        let data = vec![1; 128 << 10];
        let datal = u32::try_from(data.len())?;
        for R2t { cccid, ttag, .. } in r2ts {
            for datao in (0..7).map(|part| part * datal) {
                let data = data.clone();
                let part = DataPdu { cccid, ttag, datao, datal, last: false, success: false, data };
                connection.send(&Pdu::H2cData(part))?;
            }
        }
        idle.push(session);
    }
    bystander.gets_on()?;
    let now = stage.appliance.process(Plane::Data)?;
    println!("{:?} {now:?}", stage.before);
    ensure!(now.private_bytes < WAITING_BYTES_MAX, "before {:?}, with idle writers {now:?}", stage.before);
    drop(idle);
    stage.finish(bystander)
}

#[test]
fn random_bytes_on_five_hundred_connections_are_answered_by_the_close() -> Result<()> {
    let first_seed = first_seed(0x000d_1ce0_0001)?;
    let stage = stage("hostile_random")?;
    let bystander = Bystander::start(&stage)?;
    for round in 0..500 {
        let seed = first_seed.wrapping_add(round);
        println!("HOLDFAST_SEED={seed}");
        let mut random = Random(seed);
        let options = ConnectOptions { limit: CLEARED_LIMIT, ..ConnectOptions::default() };
        let mut connection = match round % 3 {
            0 => Connection::raw(stage.appliance.nvme(), CLEARED_LIMIT)?,
            1 => Connection::open(stage.appliance.nvme(), &options)?,
            _ => {
                let digests = ConnectOptions { header_digest: true, data_digest: true, ..options };
                Connection::open(stage.appliance.nvme(), &digests)?
            }
        };
        let len = 1 + random.below(8192);
        let mut bytes = random.bytes(len);
        // Every other time the common header of a PDU that hosts send, so that the bytes get further.
        if round % 2 == 0 {
            let kinds = [[4, 0, 72, 0], [4, 0, 72, 72], [6, 4, 24, 24], [0, 0, 128, 0], [4, 3, 72, 76]];
            let head = kinds.get(random.below(kinds.len())).copied().unwrap_or_default();
            for (byte, known) in bytes.iter_mut().zip(head) {
                *byte = known;
            }
            let plen = u32::try_from(len)?.to_le_bytes();
            for (byte, known) in bytes.iter_mut().skip(4).zip(plen) {
                *byte = known;
            }
        }
        // The target may have closed before it has taken all of it.
        let _ = connection.send_raw(&bytes);
        let _ = connection.half_close();
        connection.expect_close().with_context(|| format!("HOLDFAST_SEED={seed}"))?;
    }
    bystander.gets_on()?;
    stage.finish(bystander)
}

/// The PDUs of a small session, each right by itself, to be bent before they are sent.
fn script(queue: &Queue, stage: &Stage, random: &mut Random) -> Vec<Pdu> {
    let nqn = host_nqn("bad");
    let connect = holdfast_testkit::ConnectCommand::admin(&nqn, host_id_of(&nqn), &stage.bad.nqn).command();
    let block = u32::try_from(BLOCK).unwrap_or(0);
    let capsule = |sqe: Sqe, data: Vec<u8>| Pdu::CapsuleCmd { sqe: sqe.with_cid(7), data };
    let in_capsule = |sqe: Sqe, data: Vec<u8>| {
        let len = u32::try_from(data.len()).unwrap_or(0);
        capsule(sqe.sgl_in_capsule(0, len), data)
    };
    let range = DeallocateRange { slba: 3, blocks: 9 };
    let ranges: Vec<u8> =
        [0; 4].into_iter().chain(range.blocks.to_le_bytes()).chain(range.slba.to_le_bytes()).collect();
    let io = Io::at(u64::from(random.byte()), 1);
    let mut pdus = vec![
        in_capsule(io.sqe(opcode::WRITE, 1), random.bytes(BLOCK)),
        capsule(Io::at(0, 256).sqe(opcode::READ, 1).sgl_transport(1 << 20), Vec::new()),
        in_capsule(io.sqe(opcode::COMPARE, 1), random.bytes(BLOCK)),
        capsule(io.sqe(opcode::VERIFY, 1).sgl_transport(0), Vec::new()),
        capsule(io.sqe(opcode::WRITE_ZEROES, 1).sgl_transport(0), Vec::new()),
        in_capsule(Sqe::new(opcode::DATASET_MANAGEMENT).with_nsid(1).cdw(11, 4), ranges),
        capsule(io.sqe(opcode::WRITE, 1).sgl_transport(block), Vec::new()),
        Pdu::H2cData(DataPdu {
            cccid: 7,
            ttag: u16::from(random.byte() % 4),
            datal: block,
            last: true,
            data: random.bytes(BLOCK),
            ..DataPdu::default()
        }),
        in_capsule(connect.sqe, connect.data),
        capsule(
            Sqe::new(opcode::IDENTIFY).cdw(10, u32::from(random.byte() % 32)).sgl_transport(4096),
            Vec::new(),
        ),
        capsule(Sqe::new(opcode::GET_LOG_PAGE).cdw(10, 0x03ff_0004).sgl_transport(4096), Vec::new()),
        capsule(
            Sqe::new(opcode::SET_FEATURES).cdw(10, u32::from(random.byte() % 32)).sgl_transport(0),
            Vec::new(),
        ),
        capsule(Sqe::new(opcode::ASYNC_EVENT).sgl_transport(0), Vec::new()),
        capsule(Sqe::fabrics(opcode::PROPERTY_SET).cdw(11, 0x14).sgl_transport(0), Vec::new()),
        Pdu::IcReq(IcReq::default()),
    ];
    pdus.rotate_left(random.below(15 + usize::from(queue.qid())));
    pdus
}

/// One to four bytes of it changed, most often in the header; the digests right again every other time.
fn bend(frame: Frame, digests: Digests, random: &mut Random) -> Frame {
    let mut bent = frame;
    for _ in 0..=random.below(4) {
        let len = bent.as_bytes().len();
        let at = if random.below(4) > 0 { random.below(len.min(72)) } else { random.below(len) };
        let byte = random.byte();
        bent = bent.put(at, &[byte]);
    }
    if random.below(2) == 0 { bent.seal(digests) } else { bent }
}

#[test]
fn sessions_with_bent_pdus_harm_nobody_else() -> Result<()> {
    let first_seed = first_seed(0x000b_e27d_0001)?;
    let stage = stage("hostile_bent")?;
    let bystander = Bystander::start(&stage)?;
    let mut watcher = stage.appliance.session("good", &stage.good, Options::default())?;
    let kept = pattern(first_seed, 64);
    watcher.io(1).write(1, &Io::at(8192, 64), &kept)?.ok()?;
    for round in 0..400_u64 {
        let seed = first_seed.wrapping_add(round);
        println!("HOLDFAST_SEED={seed}");
        let mut random = Random(seed);
        let (header, data) = (random.below(2) == 0, random.below(2) == 0);
        let options = Options::default().io_queues(2).digests(header, data).limit(CLEARED_LIMIT);
        let mut session = stage.bad_session(options)?;
        let queue = if random.below(3) == 0 { session.admin() } else { session.io(1) };
        for pdu in script(queue, &stage, &mut random) {
            let connection = queue.connection();
            let digests = connection.digests();
            let frame = connection.encode(&pdu);
            let frame = if random.below(3) == 0 { bend(frame, digests, &mut random) } else { frame };
            // The target may have closed already.
            if connection.send_frame(&frame).is_err() {
                break;
            }
        }
        let connection = queue.connection();
        let _ = connection.half_close();
        connection.expect_close().with_context(|| format!("HOLDFAST_SEED={seed}"))?;
        let back = watcher.io(1).read(1, &Io::at(8192, 64), kept.len())?.ok()?.data;
        ensure!(back == kept, "HOLDFAST_SEED={seed}: the other host's data changed");
    }
    watcher.close()?;
    stage.finish(bystander)
}

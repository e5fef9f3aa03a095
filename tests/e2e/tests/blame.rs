//! One bit flipped by host A while host B works on the same volume: the exact status, nothing stored, and A is blamed
//! and nobody else. For types 1, 2, 3, both block sizes, first, middle and last block of a write, each tag.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{Appliance, Share, eventually, host_nqn};
use holdfast_testkit::pi::{PiFormat, Tags, flip_tuple_bit};
use holdfast_testkit::wire::code;
use holdfast_testkit::{Io, Session};
use serde_json::{Value, json};

const BLOCKS: usize = 32;
/// Where A writes.
const LBA: u32 = 64;
/// Where B's load goes on.
const LOAD_LBA: u32 = 512;
const APP_TAG: u16 = 0x1234;
const TUPLE_BYTES: usize = 8;
const SEEN_LIMIT: Duration = Duration::from_secs(20);

/// One volume of the matrix.
#[derive(Debug, Clone)]
struct Cell {
    pi_type: u8,
    block_size: usize,
    nsid: u32,
    volume: String,
}

/// A tag, a bit of it within the tuple, and what it is called.
struct Flip {
    tag: &'static str,
    counter: &'static str,
    bit: usize,
    status: (u8, u8),
    verdict: &'static str,
}

const FLIPS: [Flip; 3] = [
    Flip {
        tag: "guard",
        counter: "guard_errors",
        bit: 9,
        status: code::GUARD_CHECK,
        verdict: "undetermined",
    },
    Flip {
        tag: "app",
        counter: "app_tag_errors",
        bit: 16,
        status: code::APP_TAG_CHECK,
        verdict: "undetermined",
    },
    Flip {
        tag: "ref",
        counter: "ref_tag_errors",
        bit: 63,
        status: code::REF_TAG_CHECK,
        verdict: "misdirected",
    },
];

/// Failing blocks; each has a host A of its own, so that each failure is an incident of its own.
const POSITIONS: [(&str, usize); 3] = [("a-first", 0), ("a-middle", 15), ("a-last", 31)];

impl Cell {
    fn flips(&self) -> impl Iterator<Item = &'static Flip> {
        let has_ref = self.pi_type != 3;
        FLIPS.iter().filter(move |flip| flip.tag != "ref" || has_ref)
    }

    fn tags(&self, lba: u32) -> Tags {
        let first = u64::from(lba);
        let tags = if self.pi_type == 3 { Tags::constant(0x77) } else { Tags::counting(first) };
        tags.app(APP_TAG)
    }

    fn blocks(&self, lba: u32, seed: u8) -> Vec<u8> {
        let data: Vec<u8> =
            (0..BLOCKS * self.block_size).map(|at| seed.wrapping_add(at.to_le_bytes()[0])).collect();
        PiFormat::default().protect(&data, self.block_size, self.tags(lba))
    }

    /// Every check that the type has.
    fn checked(&self, lba: u32) -> Io {
        let io = Io::at(u64::from(lba), 32).check_guard().check_app().app_tag(APP_TAG);
        if self.pi_type == 3 { io } else { io.check_ref().ref_tag(lba) }
    }

    fn flipped(&self, position: usize, flip: &Flip, seed: u8) -> Vec<u8> {
        let mut blocks = self.blocks(LBA, seed);
        flip_tuple_bit(&mut blocks, self.block_size, TUPLE_BYTES, position, flip.bit);
        blocks
    }

    fn wire_len(&self) -> usize {
        BLOCKS * (self.block_size + TUPLE_BYTES)
    }

    fn label(&self) -> String {
        format!("type {} of {} bytes", self.pi_type, self.block_size)
    }
}

/// One subsystem with a volume for each type and block size; every host sees them with their tuples.
fn build(appliance: &Appliance, hosts: &[&str]) -> Result<(Vec<Cell>, Share)> {
    let rest = appliance.rest();
    let subsystem = rest.post("/subsystems", &json!({"name": "matrix"}))?;
    let nqn = subsystem.get("nqn").and_then(Value::as_str).context("an NQN")?.to_owned();
    let mut cells = Vec::new();
    for (pi_type, block_size) in [(1, 512), (1, 4096), (2, 512), (2, 4096), (3, 512), (3, 4096)] {
        let volume = format!("t{pi_type}-{block_size}");
        let pi = json!({"type": pi_type, "guard": "crc16"});
        let body =
            json!({"name": volume, "pool": "ram", "size_bytes": 8 << 20, "block_size": block_size, "pi": pi});
        rest.post("/volumes", &body)?;
        let mapped = rest.post("/subsystems/matrix/namespaces", &json!({"volume": volume}))?;
        let nsid = mapped.get("nsid").and_then(Value::as_u64).context("an nsid")?;
        cells.push(Cell { pi_type, block_size, nsid: nsid.try_into()?, volume });
    }
    for host in hosts {
        rest.post("/hosts", &json!({"name": host, "nqn": host_nqn(host)}))?;
        rest.put(&format!("/subsystems/matrix/hosts/{host}"), &json!({"view": "pi"}))?;
    }
    Ok((cells, Share { name: "matrix".to_owned(), nqn, uuid: String::new() }))
}

/// Host B: writes and reads clean blocks on every volume until told to stop; returns how often.
fn clean_load(mut session: Session, cells: Vec<Cell>, stop: Arc<AtomicBool>) -> JoinHandle<Result<u64>> {
    std::thread::spawn(move || {
        let mut rounds = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            let cell = cells.get(usize::try_from(rounds)? % cells.len()).context("a cell")?;
            let blocks = cell.blocks(LOAD_LBA, rounds.to_le_bytes()[0]);
            session.io(1).write(cell.nsid, &cell.checked(LOAD_LBA), &blocks)?.ok()?;
            let back = session.io(1).read(cell.nsid, &cell.checked(LOAD_LBA), cell.wire_len())?.ok()?;
            ensure!(back.data == blocks, "host B read back something else");
            rounds += 1;
        }
        session.close()?;
        Ok(rounds)
    })
}

fn volume_counters(appliance: &Appliance, host: &str) -> Result<HashMap<String, Value>> {
    let counters = appliance.rest().get(&format!("/hosts/{host}/counters"))?;
    let rows = counters.get("volumes").and_then(Value::as_array).cloned().unwrap_or_default();
    let named = rows.into_iter().filter_map(|row| Some((row.get("volume")?.as_str()?.to_owned(), row)));
    Ok(named.collect())
}

fn errors_of(row: &Value) -> u64 {
    let sum_of = |side: &str| {
        ["guard_errors", "app_tag_errors", "ref_tag_errors", "storage_tag_errors", "media_errors"]
            .iter()
            .filter_map(|name| row.pointer(&format!("/{side}/{name}"))?.as_u64())
            .sum::<u64>()
    };
    sum_of("write") + sum_of("read")
}

#[test]
fn one_flipped_bit_is_refused_exactly_and_blamed_on_the_host_that_sent_it() -> Result<()> {
    run_matrix(Appliance::start("blame")?)
}

/// Connections and pool on different cores: the same must hold for commands that travel between cores.
#[test]
fn the_same_holds_when_hosts_and_pool_are_on_different_cores() -> Result<()> {
    run_matrix(Appliance::start_with("blame_two_cores", &["--cores", "0,1"])?)
}

fn run_matrix(appliance: Appliance) -> Result<()> {
    let hosts = ["a-first", "a-middle", "a-last", "b"];
    let (cells, share) = build(&appliance, &hosts)?;
    let stop = Arc::new(AtomicBool::new(false));
    let load = clean_load(appliance.connect(&host_nqn("b"), &share)?, cells.clone(), Arc::clone(&stop));
    let mut reader = appliance.connect(&host_nqn("b"), &share)?;
    for (name, position) in POSITIONS {
        let mut a = appliance.connect(&host_nqn(name), &share)?;
        for cell in &cells {
            let good = cell.blocks(LBA, 1);
            a.io(1).write(cell.nsid, &cell.checked(LBA), &good)?.ok()?;
            for (seed, flip) in (2..).zip(cell.flips()) {
                let bad = cell.flipped(position, flip, seed);
                let refused = a.io(1).write(cell.nsid, &cell.checked(LBA), &bad)?.status();
                let what = format!("{}, {} of block {position}: {refused}", cell.label(), flip.tag);
                ensure!(refused.pair() == flip.status && refused.dnr, "{what}");
                let stored = reader.io(1).read(cell.nsid, &cell.checked(LBA), cell.wire_len())?.ok()?;
                ensure!(stored.data == good, "{what}: something of it was stored");
            }
            // The connection is up and the host may go on.
            a.io(1).write(cell.nsid, &cell.checked(LBA), &good)?.ok()?;
        }
        a.close()?;
    }
    stop.store(true, Ordering::Relaxed);
    let rounds = load.join().map_err(|_| anyhow::anyhow!("host B failed"))??;
    ensure!(rounds > 0, "host B did work");
    check_counters(&appliance, &cells)?;
    check_incidents(&appliance, &cells)?;
    appliance.stop()
}

fn check_counters(appliance: &Appliance, cells: &[Cell]) -> Result<()> {
    for (name, _) in POSITIONS {
        for cell in cells {
            eventually(SEEN_LIMIT, &format!("{name}'s errors on {}", cell.volume), || {
                let rows = volume_counters(appliance, name)?;
                let row = rows.get(&cell.volume).context("a row")?;
                for flip in cell.flips() {
                    let seen = row.pointer(&format!("/write/{}", flip.counter)).and_then(Value::as_u64);
                    ensure!(seen == Some(1), "{}: {row}", flip.counter);
                }
                ensure!(errors_of(row) == u64::try_from(cell.flips().count())?, "{row}");
                Ok(Some(()))
            })?;
        }
    }
    let rows = volume_counters(appliance, "b")?;
    ensure!(rows.len() == cells.len(), "{rows:?}");
    for row in rows.values() {
        ensure!(errors_of(row) == 0, "host B is accused: {row}");
    }
    Ok(())
}

fn check_incidents(appliance: &Appliance, cells: &[Cell]) -> Result<()> {
    let expected: usize = cells.iter().map(|cell| cell.flips().count()).sum::<usize>() * POSITIONS.len();
    let all = eventually(SEEN_LIMIT, &format!("{expected} incidents"), || {
        Ok(Some(appliance.rest().items("/incidents?limit=1000")?).filter(|all| all.len() >= expected))
    })?;
    ensure!(all.len() == expected, "{} incidents, not {expected}", all.len());
    ensure!(all.iter().all(|incident| incident.get("host") != Some(&json!("b"))), "host B is accused");
    for (name, position) in POSITIONS {
        for cell in cells {
            for (seed, flip) in (2..).zip(cell.flips()) {
                let path = format!("/incidents?host={name}&volume={}&tag={}", cell.volume, flip.tag);
                let found = appliance.rest().items(&path)?;
                let [incident] = found.as_slice() else { anyhow::bail!("{path}: {found:?}") };
                check_incident(incident, cell, position, flip, seed)
                    .with_context(|| format!("{path}: {incident}"))?;
            }
        }
    }
    Ok(())
}

fn check_incident(incident: &Value, cell: &Cell, position: usize, flip: &Flip, seed: u8) -> Result<()> {
    let format = PiFormat::default();
    let good = format.tuple_at(&cell.blocks(LBA, seed), cell.block_size, position).context("a tuple")?;
    let bad =
        format.tuple_at(&cell.flipped(position, flip, seed), cell.block_size, position).context("a tuple")?;
    let (expected, actual) = match flip.tag {
        "guard" => (format!("0x{:04x}", good.guard), format!("0x{:04x}", bad.guard)),
        "app" => (format!("0x{:04x}", good.app_tag), format!("0x{:04x}", bad.app_tag)),
        _ => (format!("0x{:08x}", good.ref_tag), format!("0x{:08x}", bad.ref_tag)),
    };
    for (field, value) in [
        ("lba", json!(usize::try_from(LBA)? + position)),
        ("blocks", json!(BLOCKS)),
        ("operation", json!("write")),
        ("count", json!(1)),
        ("expected", json!(expected)),
        ("actual", json!(actual)),
        ("verdict", json!(flip.verdict)),
        ("writer", Value::Null),
        ("transport", json!("nvme-tcp")),
        ("authenticated", json!(false)),
    ] {
        ensure!(incident.get(field) == Some(&value), "{field} is not {value}");
    }
    Ok(())
}

#[test]
fn a_block_stored_unchecked_counts_for_its_reader_and_names_its_writer() -> Result<()> {
    let appliance = Appliance::start("blame_stored")?;
    let (cells, share) = build(&appliance, &["a", "b"])?;
    let mut a = appliance.connect(&host_nqn("a"), &share)?;
    let mut b = appliance.connect(&host_nqn("b"), &share)?;
    for cell in &cells {
        for flip in cell.flips() {
            let bad = cell.flipped(15, flip, 3);
            a.io(1).write(cell.nsid, &Io::at(u64::from(LBA), 32), &bad)?.ok()?;
            let refused = b.io(1).read(cell.nsid, &cell.checked(LBA), cell.wire_len())?.status();
            ensure!(refused.pair() == flip.status, "{}, {}: {refused}", cell.label(), flip.tag);
            let unchecked = b.io(1).read(cell.nsid, &Io::at(u64::from(LBA), 32), cell.wire_len())?.ok()?;
            ensure!(unchecked.data == bad, "{}: the tuple is stored as it came", cell.label());
        }
    }
    for cell in &cells {
        eventually(SEEN_LIMIT, &format!("b's errors on {}", cell.volume), || {
            let rows = volume_counters(&appliance, "b")?;
            let row = rows.get(&cell.volume).context("a row")?;
            for flip in cell.flips() {
                let seen = row.pointer(&format!("/read/{}", flip.counter)).and_then(Value::as_u64);
                ensure!(seen == Some(1), "{}: {row}", flip.counter);
            }
            Ok(Some(()))
        })?;
        let rows = volume_counters(&appliance, "a")?;
        let row = rows.get(&cell.volume).context("a row")?;
        ensure!(errors_of(row) == 0, "the count is the reader's: {row}");
        for flip in cell.flips() {
            names_its_writer(&appliance, cell, flip)?;
        }
    }
    a.close()?;
    b.close()?;
    appliance.stop()
}

/// Demands one incident of reader B that names A as the writer of block 15, and accuses nobody.
fn names_its_writer(appliance: &Appliance, cell: &Cell, flip: &Flip) -> Result<()> {
    let path = format!("/incidents?host=b&volume={}&tag={}", cell.volume, flip.tag);
    let found = eventually(SEEN_LIMIT, &path, || {
        Ok(Some(appliance.rest().items(&path)?).filter(|found| !found.is_empty()))
    })?;
    let [incident] = found.as_slice() else { anyhow::bail!("{path}: {found:?}") };
    ensure!(incident.get("writer") == Some(&json!("a")), "{incident}");
    ensure!(incident.get("operation") == Some(&json!("read")), "{incident}");
    ensure!(incident.get("verdict") == Some(&json!("undetermined")), "{incident}");
    ensure!(incident.get("lba") == Some(&json!(usize::try_from(LBA)? + 15)), "{incident}");
    Ok(())
}

#[test]
fn who_wrote_a_block_is_known_for_as_long_as_the_block_is_there() -> Result<()> {
    let appliance = Appliance::start("blame_lasting")?;
    let (cells, share) = build(&appliance, &["a", "b"])?;
    let mut a = appliance.connect(&host_nqn("a"), &share)?;
    for (number, cell) in cells.iter().enumerate() {
        let flip = cell.flips().nth(number % cell.flips().count()).context("a flip")?;
        a.io(1).write(cell.nsid, &Io::at(u64::from(LBA), 32), &cell.flipped(15, flip, 3))?.ok()?;
        a.io(1).write(cell.nsid, &cell.checked(LOAD_LBA), &cell.blocks(LOAD_LBA, 4))?.ok()?;
        a.io(1).flush(cell.nsid)?.ok()?;
    }
    a.close()?;
    let appliance = appliance.interrupt("blame_lasting")?;
    let mut b = appliance.connect(&host_nqn("b"), &share)?;
    for (number, cell) in cells.iter().enumerate() {
        let flip = cell.flips().nth(number % cell.flips().count()).context("a flip")?;
        let refused = b.io(1).read(cell.nsid, &cell.checked(LBA), cell.wire_len())?.status();
        ensure!(refused.pair() == flip.status, "{}, {}: {refused}", cell.label(), flip.tag);
        let stored = b.io(1).read(cell.nsid, &Io::at(u64::from(LBA), 32), cell.wire_len())?.ok()?;
        ensure!(stored.data == cell.flipped(15, flip, 3), "{}: the tuple is as it came", cell.label());
        let good = b.io(1).read(cell.nsid, &cell.checked(LOAD_LBA), cell.wire_len())?.ok()?;
        ensure!(good.data == cell.blocks(LOAD_LBA, 4), "{}: good blocks changed", cell.label());
        names_its_writer(&appliance, cell, flip)?;
    }
    b.close()?;
    appliance.stop()
}

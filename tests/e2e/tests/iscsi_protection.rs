//! Every command that carries protection information over iSCSI × every value of its protect field × types 1 to 3 × one flipped
//! bit: refused exactly where the standard says so, with the failing block named, nothing stored, the session up, and the
//! initiator that sent it blamed. SBC-4 §4.21 "Protection information model", and the tables of RDPROTECT, WRPROTECT and VRPROTECT.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{Appliance, Share, counter, eventually, host_iqn, protected, settle};
use holdfast_testkit::iscsi::{Done, Medium, Op, Scsi, Session, status};
use holdfast_testkit::pi::{Tags, flip_tuple_bit};
use serde_json::{Value, json};

const BLOCKS: usize = 16;
const TUPLE_BYTES: usize = 8;
/// Where A works, and where B's load goes on.
const LBA: u32 = 64;
const LOAD_LBA: u32 = 512;
const APP_TAG: u16 = 0x1234;
/// The reference tag of all blocks of type 3, and the first one of type 2.
const FREE_REF_TAG: u32 = 0x7000_0000;
/// Failing blocks of a transfer: first, middle, last.
const POSITIONS: [usize; 3] = [0, 7, BLOCKS - 1];
const SEEN_LIMIT: Duration = Duration::from_secs(20);
/// VRPROTECT compares with the data that comes along: BYTCHK 01b.
const BYTE_CHECK: u8 = 0x02;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Guard,
    App,
    Ref,
}

impl Fault {
    const ALL: [Fault; 3] = [Fault::Guard, Fault::App, Fault::Ref];

    /// A bit of the tuple.
    fn bit(self) -> usize {
        match self {
            Fault::Guard => 9,
            Fault::App => 16,
            Fault::Ref => 63,
        }
    }

    /// ADDITIONAL SENSE CODE QUALIFIER behind 10h.
    fn qualifier(self) -> u8 {
        match self {
            Fault::Guard => 1,
            Fault::App => 2,
            Fault::Ref => 3,
        }
    }

    fn counter(self) -> &'static str {
        match self {
            Fault::Guard => "guard_errors",
            Fault::App => "app_tag_errors",
            Fault::Ref => "ref_tag_errors",
        }
    }
}

/// How a command comes to its tuples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Read,
    Write,
    WriteAndVerify,
    Verify,
    VerifyBytes,
    WriteSame,
    CompareAndWrite,
}

const FROM_MEDIUM: [Act; 2] = [Act::Read, Act::Verify];
const FROM_HOST: [Act; 5] =
    [Act::Write, Act::WriteAndVerify, Act::VerifyBytes, Act::WriteSame, Act::CompareAndWrite];

/// One volume of the matrix.
#[derive(Debug, Clone)]
struct Cell {
    pi_type: u8,
    block_size: usize,
    lun: u16,
    volume: String,
}

impl Cell {
    fn first_ref(&self, lba: u32) -> u32 {
        if self.pi_type == 1 { lba } else { FREE_REF_TAG }
    }

    fn blocks(&self, lba: u32, seed: u8, count: usize) -> Vec<u8> {
        let data: Vec<u8> =
            (0..count * self.block_size).map(|at| seed.wrapping_add(at.to_le_bytes()[0])).collect();
        let first = u64::from(self.first_ref(lba));
        let tags = if self.pi_type == 3 { Tags::constant(first) } else { Tags::counting(first) };
        protected(&data, self.block_size, tags.app(APP_TAG))
    }

    fn flipped(&self, mut blocks: Vec<u8>, position: usize, fault: Fault) -> Vec<u8> {
        flip_tuple_bit(&mut blocks, self.block_size, TUPLE_BYTES, position, fault.bit());
        blocks
    }

    fn wire_len(&self, blocks: usize) -> usize {
        blocks * (self.block_size + TUPLE_BYTES)
    }

    /// The CDB: of 32 bytes, with every tag, where type 2 demands that.
    fn cdb(&self, act: Act, lba: u32, blocks: usize, protect: u8) -> Vec<u8> {
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        let flags = if act == Act::VerifyBytes { BYTE_CHECK } else { 0 };
        let medium = Medium::at(lba.into(), blocks).protect(protect).flags(flags);
        let op = match act {
            Act::Read => Op::Read,
            Act::Write => Op::Write,
            Act::WriteAndVerify => Op::WriteAndVerify,
            Act::Verify | Act::VerifyBytes => Op::Verify,
            Act::WriteSame => Op::WriteSame,
            Act::CompareAndWrite => return medium.compare_and_write(),
        };
        if self.pi_type == 2 && protect != 0 {
            medium.tags(self.first_ref(lba), APP_TAG, 0xffff).cdb32(op)
        } else {
            medium.cdb16(op)
        }
    }

    /// Whether a fault is found. Application tags belong to the host (ATO one): they are compared where a CDB carries them, which
    /// is that of type 2 only; so are type 2's reference tags. Those of type 3 never are.
    fn finds(&self, fault: Fault, protect: u8) -> bool {
        let tags_come_along = self.pi_type == 2 && protect != 0;
        let looked_at = match fault {
            Fault::Guard => matches!(protect, 0 | 1 | 4 | 5),
            Fault::App | Fault::Ref => matches!(protect, 0 | 1 | 2 | 5),
        };
        let known = match fault {
            Fault::Guard => true,
            Fault::App => tags_come_along,
            Fault::Ref => self.pi_type == 1 || tags_come_along,
        };
        looked_at && known
    }

    fn label(&self, act: Act, protect: u8, fault: Fault, position: usize) -> String {
        format!(
            "{act:?}, protect {protect:03b}b, type {} of {} bytes, {fault:?} of block {position}",
            self.pi_type, self.block_size
        )
    }
}

/// One subsystem with a volume for each type and block size; every initiator sees them with their tuples.
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
        rest.post("/subsystems/matrix/namespaces", &json!({"volume": volume}))?;
        cells.push(Cell { pi_type, block_size, lun: u16::try_from(cells.len())?, volume });
    }
    let share = Share { name: "matrix".to_owned(), nqn, uuid: String::new() };
    for host in hosts {
        appliance.admit_initiator(host, &share, "pi", "any")?;
    }
    Ok((cells, share))
}

/// A session without unit attentions on any of the cells.
fn open(appliance: &Appliance, name: &str, share: &Share, cells: &[Cell]) -> Result<Session> {
    let mut session = appliance.log_in(name, share)?;
    for cell in cells {
        settle(&mut session, cell.lun)?;
    }
    Ok(session)
}

#[test]
fn one_flipped_bit_is_found_where_the_protect_field_says_so_and_blamed_on_its_sender() -> Result<()> {
    run_matrix(Appliance::start("iscsi_protection")?)
}

/// Connections and pool on different cores: the same must hold for commands that travel between cores.
#[test]
fn the_same_holds_when_initiators_and_pool_are_on_different_cores() -> Result<()> {
    run_matrix(Appliance::start_with("iscsi_protection_two_cores", &["--cores", "0,1"])?)
}

fn run_matrix(appliance: Appliance) -> Result<()> {
    let (cells, share) = build(&appliance, &["a", "b"])?;
    let stop = Arc::new(AtomicBool::new(false));
    let load = clean_load(open(&appliance, "b", &share, &cells)?, cells.clone(), Arc::clone(&stop));
    let mut a = open(&appliance, "a", &share, &cells)?;
    let mut tally = Tally::default();
    for cell in &cells {
        for protect in 0..=5 {
            for act in FROM_MEDIUM {
                bent_on_the_medium(&mut a, cell, act, protect, &mut tally)?;
            }
            for act in FROM_HOST.into_iter().filter(|_| protect != 0) {
                bent_on_the_wire(&mut a, cell, act, protect, &mut tally)?;
            }
        }
    }
    ensure!(a.ping(b"still there")? == b"still there");
    a.logout(0)?;
    stop.store(true, Ordering::Relaxed);
    let rounds = load.join().map_err(|_| anyhow::anyhow!("initiator B failed"))??;
    ensure!(rounds > 0, "B did work");
    tally.is_seen(&appliance, &cells)?;
    appliance.stop()
}

/// Failures by volume, direction and tag.
#[derive(Debug, Default)]
struct Tally(BTreeMap<(String, &'static str, &'static str), u64>);

impl Tally {
    fn add(&mut self, cell: &Cell, section: &'static str, fault: Fault) {
        *self.0.entry((cell.volume.clone(), section, fault.counter())).or_default() += 1;
    }

    /// A is counted exactly so, B not at all, and every incident is A's and came over iSCSI.
    fn is_seen(&self, appliance: &Appliance, cells: &[Cell]) -> Result<()> {
        for cell in cells {
            let share = Share { name: cell.volume.clone(), nqn: String::new(), uuid: String::new() };
            for section in ["write", "read"] {
                for fault in Fault::ALL {
                    let key = (cell.volume.clone(), section, fault.counter());
                    let expected = self.0.get(&key).copied().unwrap_or(0);
                    eventually(SEEN_LIMIT, &format!("{expected} of {key:?}"), || {
                        let row = appliance.counters("a", &share)?;
                        let seen = counter(&row, section, fault.counter())?;
                        ensure!(seen == expected, "{key:?}: {seen} instead of {expected}");
                        Ok(Some(()))
                    })?;
                    let row = appliance.counters("b", &share)?;
                    ensure!(counter(&row, section, fault.counter())? == 0, "B is accused: {row}");
                }
            }
        }
        let total: u64 = self.0.values().sum();
        eventually(SEEN_LIMIT, &format!("incidents of {total} failures"), || {
            let all = appliance.rest().items("/incidents?limit=1000")?;
            for incident in &all {
                ensure!(incident.get("host") == Some(&json!("a")), "{incident}");
                ensure!(incident.get("transport") == Some(&json!("iscsi")), "{incident}");
            }
            let counted: u64 =
                all.iter().filter_map(|incident| incident.get("count").and_then(Value::as_u64)).sum();
            ensure!(counted == total, "{counted} instead of {total}");
            Ok(Some(()))
        })
    }
}

/// A bad tuple lies on the medium; the command meets it there.
fn bent_on_the_medium(
    session: &mut Session,
    cell: &Cell,
    act: Act,
    protect: u8,
    tally: &mut Tally,
) -> Result<()> {
    let good = cell.blocks(LBA, 1, BLOCKS);
    for fault in Fault::ALL {
        for position in POSITIONS {
            let what = cell.label(act, protect, fault, position);
            let bad = cell.flipped(good.clone(), position, fault);
            store_unchecked(session, cell, &bad).with_context(|| what.clone())?;
            let cdb = cell.cdb(act, LBA, BLOCKS, protect);
            let len = match (act, protect) {
                (Act::Verify, _) => 0,
                (_, 0) => BLOCKS * cell.block_size,
                _ => cell.wire_len(BLOCKS),
            };
            let done = session.run(Scsi::read(cell.lun, cdb, len))?;
            if cell.finds(fault, protect) {
                demand_sense(&done, fault, position).with_context(|| what)?;
                tally.add(cell, "read", fault);
            } else {
                let done = done.ok().with_context(|| what.clone())?;
                let expected = if protect == 0 { stripped(cell, &bad) } else { bad };
                ensure!(len == 0 || done.data == expected, "{what}: other data");
            }
        }
    }
    store_unchecked(session, cell, &good)
}

/// A bad tuple comes from the host.
fn bent_on_the_wire(
    session: &mut Session,
    cell: &Cell,
    act: Act,
    protect: u8,
    tally: &mut Tally,
) -> Result<()> {
    let good = cell.blocks(LBA, 2, BLOCKS);
    if act == Act::CompareAndWrite && cell.pi_type == 2 {
        let cdb = cell.cdb(act, LBA, BLOCKS, protect);
        let done = session.run(Scsi::write(cell.lun, cdb, good.repeat(2)))?;
        done.fails_with(5, 0x20, 0).context("COMPARE AND WRITE of type 2")?;
        return Ok(());
    }
    for fault in Fault::ALL {
        // One block only comes along to be written many times; its tuple is that of the first.
        let positions = if act == Act::WriteSame { &POSITIONS[..1] } else { &POSITIONS[..] };
        for &position in positions {
            let what = cell.label(act, protect, fault, position);
            store_unchecked(session, cell, &good).with_context(|| what.clone())?;
            let fresh = if act == Act::VerifyBytes { good.clone() } else { cell.blocks(LBA, 3, BLOCKS) };
            let bad = cell.flipped(fresh, position, fault);
            let cdb = cell.cdb(act, LBA, BLOCKS, protect);
            let sent = match act {
                Act::CompareAndWrite => [&good[..], &bad].concat(),
                Act::WriteSame => bad.get(..cell.wire_len(1)).context("a block")?.to_vec(),
                _ => bad.clone(),
            };
            let done = session.run(Scsi::write(cell.lun, cdb, sent))?;
            let found = cell.finds(fault, protect);
            if found {
                demand_sense(&done, fault, position).with_context(|| what.clone())?;
                let section = if act == Act::VerifyBytes { "read" } else { "write" };
                tally.add(cell, section, fault);
            } else if act != Act::VerifyBytes {
                done.ok().with_context(|| what.clone())?;
            }
            let stored = load_unchecked(session, cell)?;
            match act {
                _ if found => ensure!(stored == good, "{what}: something of it was stored"),
                Act::VerifyBytes => ensure!(stored == good, "{what}: a VERIFY has stored something"),
                Act::WriteSame => {
                    let first = cell.wire_len(1);
                    ensure!(stored.get(..first) == bad.get(..first), "{what}: stored otherwise");
                }
                _ => ensure!(stored == bad, "{what}: stored otherwise"),
            }
        }
    }
    Ok(())
}

fn store_unchecked(session: &mut Session, cell: &Cell, blocks: &[u8]) -> Result<()> {
    let cdb = cell.cdb(Act::Write, LBA, BLOCKS, 3);
    session.run(Scsi::write(cell.lun, cdb, blocks.to_vec()))?.ok().context("a write without checks")?;
    Ok(())
}

fn load_unchecked(session: &mut Session, cell: &Cell) -> Result<Vec<u8>> {
    let cdb = cell.cdb(Act::Read, LBA, BLOCKS, 3);
    let done = session.run(Scsi::read(cell.lun, cdb, cell.wire_len(BLOCKS)))?;
    Ok(done.ok().context("a read without checks")?.data)
}

fn demand_sense(done: &Done, fault: Fault, position: usize) -> Result<()> {
    let sense = done.clone().fails_with(0x0b, 0x10, fault.qualifier())?;
    let failing = u64::from(LBA) + u64::try_from(position)?;
    ensure!(sense.information == Some(failing), "{sense}, not block {failing}");
    Ok(())
}

fn stripped(cell: &Cell, blocks: &[u8]) -> Vec<u8> {
    let stride = cell.wire_len(1);
    blocks
        .chunks(stride)
        .flat_map(|block| block.get(..cell.block_size).unwrap_or_default())
        .copied()
        .collect()
}

/// Initiator B: writes and reads clean blocks on every volume, with every check, until told to stop; gives how often.
fn clean_load(mut session: Session, cells: Vec<Cell>, stop: Arc<AtomicBool>) -> JoinHandle<Result<u64>> {
    std::thread::spawn(move || {
        let mut rounds = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            let cell = cells.get(usize::try_from(rounds)? % cells.len()).context("a cell")?;
            let blocks = cell.blocks(LOAD_LBA, rounds.to_le_bytes()[0], BLOCKS);
            let cdb = cell.cdb(Act::Write, LOAD_LBA, BLOCKS, 1);
            session.run(Scsi::write(cell.lun, cdb, blocks.clone()))?.ok().context("B's write")?;
            let cdb = cell.cdb(Act::Read, LOAD_LBA, BLOCKS, 1);
            let back = session.run(Scsi::read(cell.lun, cdb, cell.wire_len(BLOCKS)))?;
            ensure!(back.ok().context("B's read")?.data == blocks, "B read back something else");
            rounds += 1;
        }
        session.logout(0)?;
        Ok(rounds)
    })
}

#[test]
fn protect_fields_that_cannot_be_are_refused_with_the_field() -> Result<()> {
    let appliance = Appliance::start("iscsi_protect_fields")?;
    let (cells, share) = build(&appliance, &["a"])?;
    let mut a = open(&appliance, "a", &share, &cells)?;
    for cell in &cells {
        for act in FROM_MEDIUM.into_iter().chain(FROM_HOST) {
            for protect in [6, 7] {
                let cdb = cell.cdb(act, LBA, 1, protect);
                let done = match act {
                    Act::Read | Act::Verify => a.run(Scsi::read(cell.lun, cdb, cell.wire_len(1)))?,
                    _ => a.run(Scsi::write(cell.lun, cdb, cell.blocks(LBA, 1, 1)))?,
                };
                let what = format!("{act:?} {protect:03b}b of type {}", cell.pi_type);
                if cell.pi_type == 2 && act == Act::CompareAndWrite {
                    done.fails_with(5, 0x20, 0).context(what)?;
                    continue;
                }
                let sense = done.fails_with(5, 0x24, 0).with_context(|| what.clone())?;
                let byte = if cell.pi_type == 2 { 10 } else { 1 };
                let field = sense.field.with_context(|| format!("{what}: no field pointer"))?;
                ensure!(field.in_cdb && field.byte == byte && field.bit == Some(7), "{what}: {field:?}");
            }
        }
        if cell.pi_type == 2 {
            for protect in 1..=5 {
                let medium = Medium::at(LBA.into(), 1).protect(protect);
                for cdb in [medium.cdb10(Op::Read), medium.cdb12(Op::Read), medium.cdb16(Op::Read)] {
                    let done = a.run(Scsi::read(cell.lun, cdb.clone(), cell.wire_len(1)))?;
                    done.fails_with(5, 0x20, 0).with_context(|| format!("{cdb:02x?} of type 2"))?;
                }
            }
        } else {
            // Commands of 32 bytes are type 2's.
            let cdb = Medium::at(LBA.into(), 1).protect(1).tags(LBA, 0, 0).cdb32(Op::Read);
            let done = a.run(Scsi::read(cell.lun, cdb, cell.wire_len(1)))?;
            done.fails_with(5, 0x20, 0).with_context(|| format!("READ (32) of type {}", cell.pi_type))?;
        }
    }
    a.logout(0)?;
    appliance.stop()
}

#[test]
fn units_in_the_plain_view_know_no_protection_and_those_that_demand_it_refuse_to_go_without() -> Result<()> {
    let appliance = Appliance::start("iscsi_protect_views")?;
    let (cells, share) = build(&appliance, &[])?;
    for (name, view, enforce) in [("plain", "plain", "any"), ("strict", "pi", "require-pi")] {
        appliance.admit_initiator(name, &share, view, enforce)?;
    }
    let mut plain = open(&appliance, "plain", &share, &cells)?;
    let mut strict = open(&appliance, "strict", &share, &cells)?;
    for cell in &cells {
        let capacity = |session: &mut Session| -> Result<Vec<u8>> {
            let cdb = holdfast_testkit::iscsi::read_capacity16(32);
            Ok(session.run(Scsi::read(cell.lun, cdb, 32))?.ok()?.data)
        };
        let flags = |data: &[u8]| data.get(12).map(|flags| flags & 0x0f);
        ensure!(flags(&capacity(&mut plain)?) == Some(0), "PROT_EN in the plain view");
        ensure!(flags(&capacity(&mut strict)?) == Some((cell.pi_type - 1) << 1 | 1), "P_TYPE");
        let bare = |protect| Medium::at(LBA.into(), 1).protect(protect);
        let refused = plain.run(Scsi::read(cell.lun, bare(1).cdb16(Op::Read), cell.wire_len(1)))?;
        refused.fails_with(5, 0x24, 0).context("RDPROTECT=001b in the plain view")?;
        plain.run(Scsi::read(cell.lun, bare(0).cdb16(Op::Read), cell.block_size))?.ok()?;
        for done in [
            strict.run(Scsi::read(cell.lun, bare(0).cdb16(Op::Read), cell.block_size))?,
            strict.run(Scsi::write(cell.lun, bare(0).cdb10(Op::Write), vec![1; cell.block_size]))?,
            strict.run(Scsi::new(cell.lun, bare(0).cdb16(Op::Verify)))?,
        ] {
            ensure!(done.status == status::CHECK_CONDITION);
            done.fails_with(5, 0x24, 0).with_context(|| format!("require-pi, type {}", cell.pi_type))?;
        }
    }
    // The host's name is its IQN.
    eventually(SEEN_LIMIT, "the session to be listed", || {
        let host = appliance.rest().get("/hosts/strict")?;
        ensure!(host.get("iqn") == Some(&json!(host_iqn("strict"))), "{host}");
        let session = host.pointer("/sessions/0").with_context(|| format!("no session in {host}"))?;
        ensure!(session.get("transport") == Some(&json!("iscsi")), "{session}");
        ensure!(session.get("subsystem") == Some(&json!("matrix")), "{session}");
        ensure!(session.get("authenticated") == Some(&json!(false)), "{session}");
        Ok(Some(()))
    })?;
    appliance.stop()
}

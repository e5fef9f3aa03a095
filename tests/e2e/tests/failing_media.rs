//! Media that fail under a pool, in each way that they can: its volumes say so, exactly and at once; nothing that was acknowledged
//! is lost or changed; everything else goes on as if nothing were; and when the medium is well again, the pool serves.
//!
//! Each on a file and on a block device, of a file system that this process serves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{
    Appliance, Deed, Fault, Loop, Medium, Plane, Share, eventually, host_nqn, pool_folder, sample,
};
use holdfast_testkit::wire::{Status, opcode};
use holdfast_testkit::{Command, Io, Session};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;
const POOL_BYTES: u64 = 32 * MIB;
const LIMIT: Duration = Duration::from_secs(30);
/// Of a pool this small: two superblocks, and 64 journal blocks from slot 256 on. FORMAT.md of the store.
const DATA_FROM: u64 = (256 + 64) * 4096;

/// Write Fault; Unrecovered Read Error. Base 2.1 §4.2.3.4 "Media and Data Integrity Errors Definition".
const WRITE_FAULT: (u8, u8) = (2, 0x80);
const UNRECOVERED_READ: (u8, u8) = (2, 0x81);
/// Namespace Not Ready. Base 2.1 §4.2.3.1 "Generic Command Status Definition".
const NOT_READY: (u8, u8) = (0, 0x82);

/// What the pool lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    File,
    Device,
}

/// A pool `p` on a medium of its own, whose volume `v` holds sample 1, durably; and a volume `other` in memory.
struct Stage {
    appliance: Appliance,
    device: Option<Loop>,
    medium: Medium,
    share: Share,
    other: Share,
    _folder: tempfile::TempDir,
}

/// Runs a test on both kinds of places; without the rights that it takes, on none.
fn on_each(name: &str, test: impl Fn(Stage) -> Result<()>) -> Result<()> {
    for place in [Place::File, Place::Device] {
        let name = format!("{name}_{place:?}").to_lowercase();
        let stage = Stage::new(&name, place, &[]).with_context(|| name.clone())?;
        test(stage).with_context(|| name)?;
    }
    Ok(())
}

impl Stage {
    fn new(name: &str, place: Place, arguments: &[&str]) -> Result<Stage> {
        let folder = pool_folder()?;
        let appliance = Appliance::start_with(name, arguments)?;
        let image = folder.path().join("image");
        if place == Place::File {
            let made = json!({"kind": "file", "path": image, "size_bytes": POOL_BYTES});
            appliance.rest().post("/pools", &json!({"name": "p", "backing": made}))?;
            appliance.rest().post("/pools/p/export", &Value::Null)?;
        } else {
            std::fs::File::create_new(&image)?.set_len(POOL_BYTES)?;
        }
        let medium = Medium::over(&image, folder.path())?;
        let (device, backing) = match place {
            Place::File => (None, json!({"kind": "file", "path": medium.path(), "import": true})),
            Place::Device => {
                let device = Loop::over(&medium.path(), 512)?;
                let backing = json!({"kind": "block", "path": device.path()});
                (Some(device), backing)
            }
        };
        appliance.rest().post("/pools", &json!({"name": "p", "backing": backing}))?;
        let share = appliance.share_of("p", "v", 16, 4096)?;
        let other = appliance.share("other", 16, 4096)?;
        appliance.admit_scripted("keeper", &share, "pi", "any")?;
        appliance.admit_scripted("bystander", &other, "plain", "any")?;
        let stage = Stage { appliance, device, medium, share, other, _folder: folder };
        let mut session = stage.keeper()?;
        sample::write(&mut session, 1)?;
        session.io(1).flush(1)?.ok()?;
        session.close()?;
        Ok(stage)
    }

    fn keeper(&self) -> Result<Session> {
        self.appliance.connect(&host_nqn("keeper"), &self.share)
    }

    fn path(&self) -> PathBuf {
        self.device.as_ref().map_or_else(|| self.medium.path(), |device| device.path().to_owned())
    }

    /// Waits for the pool to be well.
    fn is_well(&self) -> Result<()> {
        self.health("ok", "")
    }

    /// Waits for the pool to have failed, for a reason that names this.
    fn has_failed(&self, reason: &str) -> Result<()> {
        self.health("failed", reason)
    }

    fn health(&self, health: &str, reason: &str) -> Result<()> {
        eventually(LIMIT, &format!("the pool to be {health}: {reason}"), || {
            let pool = self.appliance.rest().get("/pools/p")?;
            let told = pool.get("reason").and_then(Value::as_str).unwrap_or_default();
            ensure!(pool.get("health") == Some(&json!(health)) && told.contains(reason), "{pool}");
            Ok(Some(()))
        })
    }

    /// Demands that the other host does not notice, and that the target has not been replaced.
    fn others_go_on(&self) -> Result<()> {
        for lba in [0, 64] {
            self.appliance.works_for("bystander", &self.other, lba)?;
        }
        Ok(())
    }

    /// The medium is well again, and the target comes back: the pool serves, and holds this sample.
    fn recovers_with(self, seed: u8) -> Result<()> {
        self.medium.heal();
        self.appliance.kill(Plane::Data)?;
        self.serves_with(seed)
    }

    fn serves_with(self, seed: u8) -> Result<()> {
        self.is_well()?;
        let mut session = self.keeper()?;
        sample::expect(&mut session, seed)?;
        sample::write(&mut session, seed + 1)?;
        session.io(1).flush(1)?.ok()?;
        sample::expect(&mut session, seed + 1)?;
        session.close()?;
        self.others_go_on()?;
        let path = self.path();
        let appliance = self.appliance.restart("failing_checked")?;
        let stage = Stage { appliance, ..self };
        let mut session = stage.keeper()?;
        sample::expect(&mut session, seed + 1)?;
        session.close()?;
        stage.checked(&path)
    }

    /// Ends the appliance and demands that the check finds nothing in the pool.
    fn checked(self, path: &Path) -> Result<()> {
        self.appliance.rest().delete("/subsystems/v/namespaces/1")?;
        self.appliance.rest().post("/pools/p/export", &Value::Null)?;
        self.appliance.cli(&["pool", "check", "--data", &path.to_string_lossy()])?;
        self.appliance.stop()
    }
}

fn write_status(session: &mut Session, seed: u8) -> Result<Status> {
    Ok(session.io(1).write(1, &sample::checked(), &sample::wire(seed))?.status())
}

fn ends_with(what: &str, status: Status, pair: (u8, u8)) -> Result<()> {
    ensure!(status.pair() == pair, "{what}: {status}, not {:x}h/{:02x}h", pair.0, pair.1);
    Ok(())
}

#[test]
fn a_pool_that_cannot_write_its_journal_stops_writing_and_reads_on() -> Result<()> {
    on_each("failing_writes", |stage| {
        let mut events = stage.appliance.rest().events()?;
        let mut session = stage.keeper()?;
        stage.medium.fault(Deed::Write, Fault::IO_ERROR);
        ends_with("a write", write_status(&mut session, 2)?, WRITE_FAULT)?;
        stage.has_failed("the journal could not be written")?;
        events.alarm("p", "the journal could not be written")?;
        sample::expect(&mut session, 1)?;
        stage.others_go_on()?;
        // That the medium answers again brings nothing back: there is no telling what it holds.
        stage.medium.heal();
        ends_with("a write afterwards", write_status(&mut session, 2)?, WRITE_FAULT)?;
        ends_with("a flush", session.io(1).flush(1)?.status(), WRITE_FAULT)?;
        sample::expect(&mut session, 1)?;
        session.close()?;
        stage.recovers_with(1)
    })
}

#[test]
fn nothing_of_a_pool_that_has_failed_is_changed_by_the_api() -> Result<()> {
    on_each("failing_api", |stage| {
        stage.medium.fault(Deed::Write, Fault::IO_ERROR);
        ends_with("a write", write_status(&mut stage.keeper()?, 2)?, WRITE_FAULT)?;
        stage.has_failed("")?;
        let volumes = stage.appliance.rest().get("/volumes")?;
        let new = json!({"name": "w", "pool": "p", "size_bytes": MIB});
        let larger = json!({"size_bytes": 20 * MIB});
        for (method, path, body) in [("POST", "/volumes", new), ("PATCH", "/volumes/v", larger)] {
            let answer =
                stage.appliance.rest().exchange(method, &format!("/api/v1{path}"), &body.to_string())?;
            ensure!(answer.status == 422, "{method} {path}: {} {}", answer.status, answer.text);
            let why = "its pool has failed: the journal could not be written";
            ensure!(answer.text.contains(why), "{method} {path}: {}", answer.text);
        }
        ensure!(stage.appliance.rest().get("/volumes")? == volumes, "a refused change left something behind");
        stage.recovers_with(1)
    })
}

#[test]
fn data_that_cannot_be_written_fails_its_command_and_nothing_else() -> Result<()> {
    on_each("failing_data", |stage| {
        let mut session = stage.keeper()?;
        for errno in [5, 28] {
            stage.medium.fault(Deed::Write, Fault::Fails(errno, DATA_FROM..u64::MAX));
            for _ in 0..3 {
                ends_with("a write", write_status(&mut session, 2)?, WRITE_FAULT)?;
                sample::expect(&mut session, 1)?;
            }
            ends_with("a flush", session.io(1).flush(1)?.status(), (0, 0))?;
            ends_with(
                "blocks given back",
                session.io(1).write_zeroes(1, &Io::at(64, 8).deallocate())?.status(),
                (0, 0),
            )?;
            stage.others_go_on()?;
            stage.medium.heal();
        }
        ends_with("a write afterwards", write_status(&mut session, 2)?, (0, 0))?;
        session.io(1).flush(1)?.ok()?;
        sample::expect(&mut session, 2)?;
        session.close()?;
        stage.is_well()?;
        stage.recovers_with(2)
    })
}

#[test]
fn a_failed_flush_stops_the_pool_and_is_not_tried_again() -> Result<()> {
    on_each("failing_flush", |stage| {
        let mut events = stage.appliance.rest().events()?;
        let mut session = stage.keeper()?;
        ends_with("a write", write_status(&mut session, 2)?, (0, 0))?;
        stage.medium.fault(Deed::Flush, Fault::IO_ERROR);
        ends_with("the flush", session.io(1).flush(1)?.status(), WRITE_FAULT)?;
        stage.medium.heal();
        ends_with("another flush", session.io(1).flush(1)?.status(), WRITE_FAULT)?;
        ends_with("a write", write_status(&mut session, 3)?, WRITE_FAULT)?;
        let durable = sample::checked().fua();
        let status = session.io(1).write(1, &durable, &sample::wire(3))?.status();
        ends_with("a write to the medium", status, WRITE_FAULT)?;
        stage.has_failed("could not flush")?;
        events.alarm("p", "could not flush")?;
        sample::expect(&mut session, 2)?;
        stage.others_go_on()?;
        session.close()?;
        // This medium had taken it all the same.
        stage.recovers_with(2)
    })
}

#[test]
fn blocks_that_cannot_be_read_are_media_errors_of_theirs_alone() -> Result<()> {
    on_each("failing_reads", |stage| {
        let small = stage.appliance.share_of("p", "small", 4, 512)?;
        stage.appliance.rest().put("/subsystems/small/hosts/keeper", &json!({"view": "plain"}))?;
        let mut small = stage.appliance.connect(&host_nqn("keeper"), &small)?;
        small.io(1).write(1, &Io::at(0, 8), &[7; 8 * 512])?.ok()?;
        let mut session = stage.keeper()?;
        stage.medium.fault(Deed::Read, Fault::IO_ERROR);
        let status = session.io(1).read(1, &sample::checked(), sample::wire(1).len())?.status();
        ends_with("a read", status, UNRECOVERED_READ)?;
        // What it replaces only in part has to be read first, and must not be lost.
        let status = small.io(1).write(1, &Io::at(1, 2), &[9; 2 * 512])?.status();
        ends_with("a write beside blocks that cannot be read", status, WRITE_FAULT)?;
        ends_with(
            "a write of whole blocks",
            small.io(1).write(1, &Io::at(8, 8), &[9; 8 * 512])?.status(),
            (0, 0),
        )?;
        stage.others_go_on()?;
        stage.is_well()?;
        let seen = || {
            let found = stage.appliance.rest().items("/incidents?host=keeper&volume=v&tag=media")?;
            let [incident] = found.as_slice() else { anyhow::bail!("{found:?}") };
            for (field, value) in
                [("verdict", json!("media")), ("operation", json!("read")), ("lba", json!(0))]
            {
                ensure!(incident.get(field) == Some(&value), "{field}: {incident}");
            }
            let counters = stage.appliance.counters("keeper", &stage.share)?;
            ensure!(holdfast_e2e::counter(&counters, "read", "media_errors")? == 1, "{counters}");
            Ok(Some(()))
        };
        eventually(LIMIT, "the incident and its count", seen)?;
        stage.medium.heal();
        sample::expect(&mut session, 1)?;
        let back = small.io(1).read(1, &Io::at(0, 8), 8 * 512)?.ok()?.data;
        ensure!(back == [7; 8 * 512], "a write that failed changed something");
        small.close()?;
        session.close()?;
        stage.appliance.rest().delete("/subsystems/small/namespaces/1")?;
        stage.recovers_with(1)
    })
}

#[test]
fn a_medium_that_is_gone_takes_its_pool_along_and_brings_it_back() -> Result<()> {
    on_each("failing_gone", |stage| {
        let mut session = stage.keeper()?;
        stage.medium.fault_in_all(&Fault::GONE);
        let status = session.io(1).read(1, &sample::checked(), sample::wire(1).len())?.status();
        ends_with("a read", status, UNRECOVERED_READ)?;
        ends_with("a write", write_status(&mut session, 2)?, WRITE_FAULT)?;
        stage.has_failed("")?;
        stage.others_go_on()?;
        drop(session);
        // A target that starts now finds no pool there, and serves the others.
        stage.appliance.kill(Plane::Data)?;
        stage.others_go_on()?;
        stage.has_failed(&stage.path().display().to_string())?;
        let mut session = stage.keeper()?;
        let status = session.io(1).read(1, &sample::checked(), sample::wire(1).len())?.status();
        ends_with("a read of a volume that is not there", status, NOT_READY)?;
        drop(session);
        stage.recovers_with(1)
    })
}

#[test]
fn a_pool_whose_medium_is_gone_can_be_let_go() -> Result<()> {
    on_each("failing_let_go", |stage| {
        stage.medium.fault_in_all(&Fault::GONE);
        ends_with("a write", write_status(&mut stage.keeper()?, 2)?, WRITE_FAULT)?;
        stage.has_failed("")?;
        let rest = stage.appliance.rest();
        rest.delete("/subsystems/v/namespaces/1")?;
        let exported = rest.post("/pools/p/export", &Value::Null)?;
        ensure!(exported.get("closed") == Some(&json!(true)), "{exported}");
        stage.others_go_on()?;
        // What it held is there when the medium is.
        stage.medium.heal();
        let kind = if stage.device.is_some() { "block" } else { "file" };
        let found = json!({"kind": kind, "path": stage.path(), "import": true});
        rest.post("/pools", &json!({"name": "p", "backing": found}))?;
        rest.post("/subsystems/v/namespaces", &json!({"volume": "v", "nsid": 1}))?;
        stage.serves_with(1)
    })
}

#[test]
fn a_medium_that_does_not_answer_holds_up_its_own_volumes_alone() -> Result<()> {
    on_each("failing_hang", |stage| {
        let mut session = stage.keeper()?;
        stage.medium.fault_in_all(&Fault::Hangs);
        // One block, which comes within the command.
        let late = sample::wire(2).get(..sample::WIRE_BYTES).context("a block")?.to_vec();
        let write = session.io(1).submit(Command::with_data(Io::at(900, 1).sqe(opcode::WRITE, 1), late))?;
        eventually(LIMIT, "the medium to be asked", || Ok((stage.medium.held() > 0).then_some(())))?;
        stage.others_go_on()?;
        let pool = stage.appliance.rest().get("/pools/p")?;
        ensure!(pool.get("health") == Some(&json!("ok")), "{pool}");
        stage.appliance.share("later", 4, 4096)?;
        stage.others_go_on()?;
        stage.medium.heal();
        ends_with("the write", session.io(1).wait(write)?.status(), (0, 0))?;
        session.io(1).flush(1)?.ok()?;
        sample::expect(&mut session, 1)?;
        session.close()?;
        stage.recovers_with(1)
    })
}

/// Only where requests are carried out by threads: the kernel tells io_uring of a file of FUSE that all of it was done.
#[test]
fn a_medium_that_does_things_in_part_is_asked_for_the_rest() -> Result<()> {
    let stage = Stage::new("failing_half", Place::File, &["--io", "epoll"])?;
    let mut session = stage.keeper()?;
    stage.medium.fault(Deed::Read, Fault::Half);
    stage.medium.fault(Deed::Write, Fault::Half);
    for seed in 2..6 {
        sample::write(&mut session, seed)?;
        sample::expect(&mut session, seed)?;
    }
    session.io(1).flush(1)?.ok()?;
    session.close()?;
    // A recovery is as patient.
    stage.appliance.kill(Plane::Data)?;
    stage.is_well()?;
    sample::expect(&mut stage.keeper()?, 5)?;
    stage.recovers_with(5)
}

#[test]
fn a_pool_that_cannot_be_opened_says_why_and_opens_when_it_can() -> Result<()> {
    for deed in [Deed::Read, Deed::Write, Deed::Flush] {
        on_each(&format!("failing_opening_{deed:?}"), |stage| {
            stage.medium.fault(deed, Fault::IO_ERROR);
            // Something to recover, if it can be written.
            stage.keeper()?.io(1).write(1, &Io::at(900, 1), &[0; sample::WIRE_BYTES])?;
            stage.appliance.kill(Plane::Data)?;
            stage.others_go_on()?;
            stage.has_failed(&stage.path().display().to_string())?;
            stage.recovers_with(1)
        })?;
    }
    Ok(())
}

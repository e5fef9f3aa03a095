//! Pools on block devices of both block lengths and on the file systems that people have: everything that a pool keeps, over the
//! end of the target, of the appliance, and from one appliance to another; and places that are full, taken or too small.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{
    Appliance, Loop, Mounted, Plane, Share, demand_root, eventually, host_nqn, pool_folder, sample,
};
use holdfast_testkit::pi::{PiFormat, Tags, flip_data_bit};
use holdfast_testkit::wire::code;
use holdfast_testkit::{Io, Session};
use serde_json::{Value, json};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(30);
/// Write Fault. Base 2.1 §4.2.3.4 "Media and Data Integrity Errors Definition".
const WRITE_FAULT: (u8, u8) = (2, 0x80);

fn post(appliance: &Appliance, name: &str, backing: &Value) -> Result<(u16, Value)> {
    let body = json!({"name": name, "backing": backing}).to_string();
    let answer = appliance.rest().exchange("POST", "/api/v1/pools", &body)?;
    Ok((answer.status, answer.json()?))
}

/// A volume of each block length, and what is written there.
struct Kept {
    large: Share,
    small: Share,
}

/// The place of a block with a bad guard among those of the small volume.
const SMALL_BAD: usize = 9;

/// Blocks of the small volume: the cells at both ends are written in part.
fn small_io() -> Io {
    Io::at(1, 13)
}

fn small_blocks(seed: u8) -> Vec<u8> {
    let mut blocks = PiFormat::default().protect(&[seed; 13 * 512], 512, Tags::counting(1).app(0x1234));
    flip_data_bit(&mut blocks, 512, 8, SMALL_BAD, 3);
    blocks
}

impl Kept {
    fn make(appliance: &Appliance) -> Result<Kept> {
        let large = appliance.share_of("p", "large", 16, 4096)?;
        let small = appliance.share_of("p", "small", 4, 512)?;
        appliance.admit_scripted("writer", &large, "pi", "any")?;
        appliance.rest().put("/subsystems/small/hosts/writer", &json!({"view": "pi"}))?;
        let kept = Kept { large, small };
        let (mut large, mut small) = kept.sessions(appliance)?;
        sample::write(&mut large, 1)?;
        small.io(1).write(1, &small_io(), &small_blocks(1))?.ok()?;
        large.io(1).flush(1)?.ok()?;
        small.io(1).flush(1)?.ok()?;
        large.close()?;
        small.close()?;
        Ok(kept)
    }

    fn sessions(&self, appliance: &Appliance) -> Result<(Session, Session)> {
        let connect = |share| appliance.connect(&host_nqn("writer"), share);
        Ok((connect(&self.large)?, connect(&self.small)?))
    }

    /// Demands that all of it is there, and that the writer of the bad block is known.
    fn is_there(&self, appliance: &Appliance) -> Result<()> {
        let (mut large, mut small) = self.sessions(appliance)?;
        sample::expect(&mut large, 1)?;
        let wire = small_blocks(1);
        ensure!(small.io(1).read(1, &small_io(), wire.len())?.ok()?.data == wire, "the small blocks changed");
        let hole = small.io(1).read(1, &Io::at(14, 2), 2 * 520)?.ok()?.data;
        ensure!(hole.chunks(520).all(|block| block == [vec![0; 512], vec![0xff; 8]].concat()), "{hole:02x?}");
        let refused = small.io(1).read(1, &small_io().check_guard(), wire.len())?.status();
        ensure!(refused.pair() == code::GUARD_CHECK, "{refused}");
        large.close()?;
        small.close()?;
        let named = || {
            let found = appliance.rest().items("/incidents?volume=small&tag=guard")?;
            ensure!(!found.is_empty(), "no incident");
            for incident in &found {
                ensure!(incident.get("writer") == Some(&json!("writer")), "{incident}");
                ensure!(incident.get("verdict") == Some(&json!("undetermined")), "{incident}");
                ensure!(incident.get("lba") == Some(&json!(1 + SMALL_BAD)), "{incident}");
            }
            Ok(Some(()))
        };
        eventually(LIMIT, "an incident that names the writer", named)
    }
}

/// Everything that a pool keeps, in this backing.
fn everything_lasts(name: &str, backing: &Value) -> Result<()> {
    let path = backing.get("path").and_then(Value::as_str).context("a path")?;
    let appliance = Appliance::start(name)?;
    let (status, pool) = post(&appliance, "p", backing)?;
    ensure!(status == 201 && pool.get("health") == Some(&json!("ok")), "{status} {pool}");
    let kept = Kept::make(&appliance)?;
    kept.is_there(&appliance)?;
    appliance.kill(Plane::Data)?;
    kept.is_there(&appliance)?;
    let appliance = appliance.restart(name)?;
    kept.is_there(&appliance)?;

    // On its way to another appliance.
    for volume in ["large", "small"] {
        appliance.rest().delete(&format!("/subsystems/{volume}/namespaces/1"))?;
    }
    appliance.rest().post("/pools/p/export", &Value::Null)?;
    let report = appliance.cli(&["pool", "check", "--data", path, "--output", "json"])?;
    let report: Value = serde_json::from_str(&report)?;
    ensure!(report.get("findings").and_then(Value::as_array).is_none_or(Vec::is_empty), "{report}");
    let there = Appliance::start(&format!("{name}_there"))?;
    let (status, refused) = post(&there, "p", backing)?;
    ensure!(status == 409, "what holds a pool is not written over: {status} {refused}");
    let kind = backing.get("kind").context("a kind")?;
    let found = json!({"kind": kind, "path": path, "import": true});
    let (status, pool) = post(&there, "p", &found)?;
    ensure!(status == 201, "{status} {pool}");
    let (status, refused) = post(&appliance, "q", &found)?;
    ensure!(status == 409 && refused.to_string().contains("in use"), "{status} {refused}");
    for volume in ["large", "small"] {
        there.rest().post("/subsystems", &json!({"name": volume}))?;
        let path = format!("/subsystems/{volume}/namespaces");
        there.rest().post(&path, &json!({"volume": volume, "nsid": 1}))?;
    }
    there.rest().post("/hosts", &json!({"name": "writer", "nqn": host_nqn("writer")}))?;
    for volume in ["large", "small"] {
        there.rest().put(&format!("/subsystems/{volume}/hosts/writer"), &json!({"view": "pi"}))?;
    }
    let (mut large, mut small) = kept.sessions(&there)?;
    sample::expect(&mut large, 1)?;
    let wire = small_blocks(1);
    ensure!(
        small.io(1).read(1, &small_io(), wire.len())?.ok()?.data == wire,
        "the small blocks changed on the way"
    );
    large.close()?;
    small.close()?;
    for volume in ["large", "small"] {
        there.rest().delete(&format!("/subsystems/{volume}/namespaces/1"))?;
        there.rest().delete(&format!("/volumes/{volume}"))?;
    }
    there.rest().delete("/pools/p")?;
    let (status, wiped) = post(&appliance, "q", &found)?;
    ensure!(status == 422, "a deleted pool is none any more: {status} {wiped}");
    there.stop()?;
    appliance.stop()
}

#[test]
fn devices_of_both_block_lengths_keep_everything() -> Result<()> {
    demand_root()?;
    for block_bytes in [512, 4096] {
        let folder = pool_folder()?;
        let device = Loop::new(&folder.path().join("image"), 64 * MIB, block_bytes)?;
        let backing = json!({"kind": "block", "path": device.path()});
        everything_lasts(&format!("device_{block_bytes}"), &backing)
            .with_context(|| format!("blocks of {block_bytes}"))?;
    }
    Ok(())
}

#[test]
fn files_on_ext4_and_xfs_keep_everything() -> Result<()> {
    demand_root()?;
    for kind in ["ext4", "xfs"] {
        let folder = pool_folder()?;
        let mounted = Mounted::new(folder.path(), kind, 400 * MIB)?;
        let backing = json!({"kind": "file", "path": mounted.place().join("pool"), "size_bytes": 64 * MIB});
        everything_lasts(&format!("file_{kind}"), &backing).with_context(|| kind)?;
    }
    Ok(())
}

/// A host that sees volume `v` of pool `p` without tuples.
fn plain_host(appliance: &Appliance, size_mib: u64) -> Result<Session> {
    let share = appliance.share_of("p", "v", size_mib, 4096)?;
    appliance.admit_scripted("host", &share, "plain", "any")?;
    appliance.connect(&host_nqn("host"), &share)
}

/// Takes what room there is in a file system.
fn fill(place: &Path) -> Result<PathBuf> {
    use std::io::Write;
    let path = place.join("filler");
    let mut file = File::create_new(&path)?;
    for size in [MIB, 4096, 512] {
        while file.write_all(&vec![1; usize::try_from(size)?]).is_ok() {}
    }
    let _full = file.sync_all();
    Ok(path)
}

#[test]
fn a_full_file_system_takes_no_pool_and_takes_nothing_from_one_that_is_there() -> Result<()> {
    demand_root()?;
    let folder = pool_folder()?;
    let mounted = Mounted::new(folder.path(), "ext4", 64 * MIB)?;
    let appliance = Appliance::start("device_full")?;
    let path = mounted.place().join("pool");
    let listed = || Ok::<_, anyhow::Error>(fs::read_dir(mounted.place())?.count());
    let before = listed()?;
    let (status, refused) =
        post(&appliance, "p", &json!({"kind": "file", "path": path, "size_bytes": 256 * MIB}))?;
    ensure!(status == 507, "{status} {refused}");
    ensure!(refused.pointer("/errors/0/pointer") == Some(&json!("/backing/size_bytes")), "{refused}");
    ensure!(listed()? == before && appliance.rest().items("/pools")?.len() == 1, "something stays behind");

    // A pool's room is its own from the start.
    let (status, pool) =
        post(&appliance, "p", &json!({"kind": "file", "path": path, "size_bytes": 16 * MIB}))?;
    ensure!(status == 201, "{status} {pool}");
    let capacity = pool.get("capacity_bytes").and_then(Value::as_u64).context("a capacity")?;
    let mut session = plain_host(&appliance, capacity >> 20)?;
    fill(mounted.place())?;
    for lba in (0..(capacity >> 20) * 256).step_by(256) {
        session.io(1).write(1, &Io::at(lba, 256), &[7; 1 << 20])?.ok()?;
    }
    session.io(1).flush(1)?.ok()?;
    session.close()?;
    appliance.stop()
}

/// A pool's file that was copied sparsely, to a place without the room for all of it.
#[test]
fn a_sparse_file_on_a_full_file_system_fails_writes_alone_until_there_is_room() -> Result<()> {
    demand_root()?;
    let folder = pool_folder()?;
    let mounted = Mounted::new(folder.path(), "ext4", 64 * MIB)?;
    let appliance = Appliance::start("device_sparse")?;
    let (elsewhere, path) = (folder.path().join("pool"), mounted.place().join("pool"));
    let made = json!({"kind": "file", "path": elsewhere, "size_bytes": 256 * MIB});
    let (status, pool) = post(&appliance, "p", &made)?;
    ensure!(status == 201, "{status} {pool}");
    appliance.rest().post("/pools/p/export", &Value::Null)?;
    let copied =
        std::process::Command::new("cp").arg("--sparse=always").args([&elsewhere, &path]).status()?;
    ensure!(copied.success(), "cp: {copied}");
    let (status, pool) = post(&appliance, "p", &json!({"kind": "file", "path": path, "import": true}))?;
    ensure!(status == 201, "{status} {pool}");
    let mut session = plain_host(&appliance, 128)?;
    session.io(1).write(1, &Io::at(0, 256), &[1; 1 << 20])?.ok()?;
    session.io(1).flush(1)?.ok()?;
    let filler = fill(mounted.place())?;
    let mut refused = None;
    for lba in (256..100 * 256).step_by(256) {
        let status = session.io(1).write(1, &Io::at(lba, 256), &[2; 1 << 20])?.status();
        if !status.is_success() {
            refused = Some(status);
            break;
        }
    }
    let refused = refused.context("64 MiB hold 100 MiB")?;
    ensure!(refused.pair() == WRITE_FAULT, "{refused}");
    let back = session.io(1).read(1, &Io::at(0, 256), 1 << 20)?.ok()?.data;
    ensure!(back == [1; 1 << 20], "what is durable was changed");
    session.close()?;

    // There may be a journal block without room, too: then the pool has stopped, and is there after the next start.
    fs::remove_file(filler)?;
    appliance.kill(Plane::Data)?;
    let well = || Ok((appliance.rest().get("/pools/p")?.get("health") == Some(&json!("ok"))).then_some(()));
    eventually(LIMIT, "the pool to serve", well)?;
    let subsystem = appliance.rest().get("/subsystems/v")?;
    let nqn = subsystem.get("nqn").and_then(Value::as_str).context("an nqn")?.to_owned();
    let share = Share { name: "v".to_owned(), nqn, uuid: String::new() };
    let mut session = appliance.connect(&host_nqn("host"), &share)?;
    let back = session.io(1).read(1, &Io::at(0, 256), 1 << 20)?.ok()?.data;
    ensure!(back == [1; 1 << 20], "what is durable was changed");
    session.io(1).write(1, &Io::at(40 * 256, 256), &[3; 1 << 20])?.ok()?;
    session.io(1).flush(1)?.ok()?;
    session.close()?;
    appliance.stop()
}

#[test]
fn devices_that_cannot_hold_a_pool_are_refused_with_the_reason() -> Result<()> {
    demand_root()?;
    let folder = pool_folder()?;
    let mounted = Mounted::new(folder.path(), "ext4", 16 * MIB)?;
    let small = Loop::new(&folder.path().join("small"), 4 * MIB, 512)?;
    let appliance = Appliance::start("device_refused")?;
    let file = mounted.place().join("file");
    fs::write(&file, "mine")?;
    for (path, status, reason) in [(mounted.device(), 409, "in use"), (small.path(), 422, "needs 8388608")] {
        let (answered, refused) = post(&appliance, "p", &json!({"kind": "block", "path": path}))?;
        ensure!(answered == status && refused.to_string().contains(reason), "{answered} {refused}");
        ensure!(refused.pointer("/errors/0/pointer") == Some(&json!("/backing/path")), "{refused}");
    }
    ensure!(fs::read(&file)? == b"mine", "a mounted file system was touched");
    ensure!(appliance.rest().items("/pools")?.len() == 1, "a refused pool stays behind");
    appliance.stop()
}

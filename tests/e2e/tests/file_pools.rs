//! Pools in files: what lasts, what goes from one appliance to another, what is refused, and what becomes of everything else
//! when a pool is not there.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{Answer, Appliance, HostIdentity, Plane, Share, View, eventually, pool_folder, sample};
use holdfast_testkit::Io;
use holdfast_testkit::pi::{PiFormat, Tags};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(30);

fn file(name: &str, path: &Path, size_bytes: u64) -> Value {
    json!({"name": name, "backing": {"kind": "file", "path": path, "size_bytes": size_bytes}})
}

fn import(name: &str, path: &Path) -> Value {
    json!({"name": name, "backing": {"kind": "file", "path": path, "import": true}})
}

fn post(appliance: &Appliance, body: &Value) -> Result<Answer> {
    appliance.rest().exchange("POST", "/api/v1/pools", &body.to_string())
}

fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str> {
    value.get(field).and_then(Value::as_str).with_context(|| format!("no {field} in {value}"))
}

/// A pool `p` in `folder`, with a volume `v` that a host has written 16 blocks of.
fn furnish(appliance: &Appliance, folder: &Path, host: &HostIdentity) -> Result<Share> {
    appliance.rest().post("/pools", &file("p", &folder.join("pool"), 64 * MIB))?;
    let share = appliance.share_of("p", "v", 8, 4096)?;
    appliance.admit("writer", host, &share, View::Pi)?;
    let mut session = appliance.connect(&host.nqn, &share)?;
    sample::write(&mut session, 7)?;
    session.io(1).flush(1)?.ok()?;
    session.close()?;
    Ok(share)
}

#[test]
fn blocks_and_tuples_of_a_file_outlive_the_target_and_the_whole_appliance() -> Result<()> {
    let folder = pool_folder()?;
    let mut appliance = Appliance::start("file_outlives")?;
    let host = HostIdentity::numbered(41);
    let share = furnish(&appliance, folder.path(), &host)?;
    let before = appliance.rest().get("/volumes/v")?;
    for round in 0..4 {
        if round < 2 {
            appliance.kill(Plane::Data)?;
        } else {
            appliance = appliance.restart("file_outlives")?;
        }
        let mut session = appliance.connect(&host.nqn, &share)?;
        sample::expect(&mut session, 7).with_context(|| format!("round {round}"))?;
        session.close()?;
    }
    let after = appliance.rest().get("/volumes/v")?;
    ensure!(before.get("uuid") == after.get("uuid") && before.get("nguid") == after.get("nguid"));
    let pool = appliance.rest().get("/pools/p")?;
    ensure!(
        pool.get("health") == Some(&json!("ok")) && pool.get("allocated_bytes") == Some(&json!(16 * 4096))
    );
    appliance.stop()?;
    let left = fs::read_dir(folder.path())?.count();
    ensure!(left == 1, "{left} files");
    Ok(())
}

#[test]
fn an_exported_pool_goes_to_another_appliance_with_all_identifiers() -> Result<()> {
    let folder = pool_folder()?;
    let path = folder.path().join("pool");
    let (here, there) = (Appliance::start("export_here")?, Appliance::start("export_there")?);
    let host = HostIdentity::numbered(42);
    furnish(&here, folder.path(), &host)?;
    let kept = here.rest().get("/volumes/v")?;

    // In use here, there is no way to take it there; and with a mapped volume it does not go.
    let held = post(&there, &import("p", &path))?;
    ensure!(held.status == 409 && held.text.contains("in use"), "{} {}", held.status, held.text);
    let export = || here.rest().exchange("POST", "/api/v1/pools/p/export", "");
    ensure!(export()?.status == 409);
    here.rest().delete("/subsystems/v/namespaces/1")?;
    let exported = export()?;
    ensure!(exported.status == 200, "{} {}", exported.status, exported.text);
    ensure!(exported.json()?.get("closed") == Some(&json!(true)), "{}", exported.text);
    for gone in ["/pools/p", "/volumes/v"] {
        ensure!(here.rest().exchange("GET", &format!("/api/v1{gone}"), "")?.status == 404);
    }
    ensure!(path.exists());

    let imported = there.rest().post("/pools", &import("moved", &path))?;
    ensure!(text(&imported, "uuid")? == text(&exported.json()?, "uuid")?);
    let volume = there.rest().get("/volumes/v")?;
    for same in ["uuid", "nguid", "size_bytes", "block_size", "pi"] {
        ensure!(volume.get(same) == kept.get(same), "{same}: {volume} was {kept}");
    }
    let subsystem = there.rest().post("/subsystems", &json!({"name": "v"}))?;
    there.rest().post("/subsystems/v/namespaces", &json!({"volume": "v", "nsid": 1}))?;
    let share = Share {
        name: "v".to_owned(),
        nqn: text(&subsystem, "nqn")?.to_owned(),
        uuid: text(&volume, "uuid")?.to_owned(),
    };
    there.admit("reader", &host, &share, View::Pi)?;
    let mut session = there.connect(&host.nqn, &share)?;
    sample::expect(&mut session, 7).context("the blocks changed on the way")?;
    session.close()?;

    // A copy has the identifiers of what it was copied from.
    let copy = folder.path().join("copy");
    fs::copy(&path, &copy)?;
    let duplicate = post(&there, &import("copy", &copy))?;
    ensure!(duplicate.status == 409 && duplicate.text.contains("moved"), "{}", duplicate.text);
    here.rest().post("/pools", &import("copy", &copy))?;
    here.rest().delete("/volumes/v")?;
    here.rest().delete("/pools/copy")?;
    // An imported file is not ours to remove; but there is no pool in it any more.
    let wiped = post(&here, &import("copy", &copy))?;
    ensure!(wiped.status == 422, "{} {}", wiped.status, wiped.text);
    here.stop()?;
    there.stop()
}

/// Demands this status at this pointer, and that nothing but what was there lies in the folder.
fn refused(appliance: &Appliance, what: &str, body: &Value, status: u16, pointer: &str) -> Result<()> {
    let answer = post(appliance, body)?;
    ensure!(answer.status == status, "{what}: {} {}", answer.status, answer.text);
    ensure!(answer.json()?.pointer("/errors/0/pointer") == Some(&json!(pointer)), "{what}: {}", answer.text);
    ensure!(appliance.rest().items("/pools")?.iter().all(|pool| pool.get("name") != Some(&json!("q"))));
    Ok(())
}

#[test]
fn places_where_no_pool_can_be_are_refused_with_the_field() -> Result<()> {
    let folder = pool_folder()?;
    let at = |name: &str| folder.path().join(name);
    let appliance = Appliance::start("file_places")?;
    appliance.rest().post("/pools", &file("p", &at("pool"), 8 * MIB))?;
    fs::create_dir(at("folder"))?;
    fs::write(at("text"), "no pool")?;
    fs::write(at("zeros"), vec![0; 8 << 20])?;
    let path = "/backing/path";
    let block = |name: &str| json!({"name": "q", "backing": {"kind": "block", "path": at(name)}});
    let sized = json!({"kind": "file", "path": at("zeros"), "size_bytes": 16 * MIB, "import": true});
    let sized = json!({"name": "q", "backing": sized});
    let cases = [
        ("a pool's own file", file("q", &at("pool"), 8 * MIB), 409, path),
        ("an existing file", file("q", &at("text"), 8 * MIB), 409, path),
        ("a folder", file("q", &at("folder"), 8 * MIB), 422, path),
        ("no such folder", file("q", &at("nope/pool"), 8 * MIB), 422, path),
        ("a file for a folder", file("q", &at("text/pool"), 8 * MIB), 422, path),
        ("a relative path", file("q", Path::new("pool"), 8 * MIB), 422, path),
        ("too small", file("q", &at("new"), 4 * MIB), 422, "/backing/size_bytes"),
        ("import of the pool here", import("q", &at("pool")), 409, path),
        ("import of nothing", import("q", &at("new")), 422, path),
        ("import of a text", import("q", &at("text")), 422, path),
        ("import of zeros", import("q", &at("zeros")), 422, path),
        ("import with another size", sized, 422, "/backing/size_bytes"),
        ("import of a folder", import("q", &at("folder")), 422, path),
        ("a file as a device", block("zeros"), 422, "/backing/kind"),
        ("no device", block("new"), 422, path),
        ("a terminal", json!({"name": "q", "backing": {"kind": "block", "path": "/dev/null"}}), 422, path),
    ];
    for (what, body, status, pointer) in cases {
        refused(&appliance, what, &body, status, pointer)?;
    }
    let mut left: Vec<_> =
        fs::read_dir(folder.path())?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    left.sort();
    ensure!(left == ["folder", "pool", "text", "zeros"], "{left:?}");
    ensure!(fs::read(at("text"))? == b"no pool");
    appliance.rest().delete("/pools/p")?;
    ensure!(!at("pool").exists(), "a file that was made for a pool goes with it");
    appliance.stop()
}

#[test]
fn a_pool_that_is_not_there_fails_alone_and_serves_again_when_it_is_back() -> Result<()> {
    let folder = pool_folder()?;
    let (path, away) = (folder.path().join("pool"), folder.path().join("away"));
    let appliance = Appliance::start("file_away")?;
    let host = HostIdentity::numbered(43);
    let share = furnish(&appliance, folder.path(), &host)?;
    let other = appliance.share("memory", 8, 4096)?;
    appliance.rest().put("/subsystems/memory/hosts/writer", &json!({"view": "pi"}))?;
    fs::rename(&path, &away)?;
    let appliance = appliance.restart("file_away")?;
    let pool = appliance.rest().get("/pools/p")?;
    ensure!(pool.get("health") == Some(&json!("failed")), "{pool}");
    ensure!(text(&pool, "reason")?.contains("cannot be found"), "{pool}");
    ensure!(!path.exists(), "nothing was made in its place");

    let mut lost = appliance.connect(&host.nqn, &share)?;
    let status = lost.io(1).read(1, &sample::checked(), sample::WIRE_BYTES * 16)?.status();
    ensure!(status.is(0, 0x82), "Namespace Not Ready, not {status}");
    lost.close()?;
    let mut served = appliance.connect(&host.nqn, &other)?;
    sample::write(&mut served, 9)?;
    sample::expect(&mut served, 9)?;
    served.close()?;
    let refused = appliance.rest().exchange(
        "POST",
        "/api/v1/volumes",
        &json!({"name": "w", "pool": "p", "size_bytes": MIB}).to_string(),
    )?;
    ensure!(refused.status == 422 && refused.text.contains("has failed"), "{}", refused.text);

    fs::rename(&away, &path)?;
    appliance.kill(Plane::Data)?;
    let mut back = appliance.connect(&host.nqn, &share)?;
    let look = || Ok((appliance.rest().get("/pools/p")?.get("health") == Some(&json!("ok"))).then_some(()));
    eventually(LIMIT, "the pool to serve again", look)?;
    sample::expect(&mut back, 7).context("the blocks changed while they were away")?;
    back.close()?;
    appliance.stop()
}

#[test]
fn a_pool_that_is_made_under_a_kill_is_whole_or_not_there() -> Result<()> {
    let folder = pool_folder()?;
    let appliance = Appliance::start("file_killed")?;
    for (round, plane) in [Plane::Data, Plane::Control, Plane::Data].into_iter().enumerate() {
        let path = folder.path().join(format!("pool{round}"));
        let name = format!("p{round}");
        let body = file(&name, &path, 256 * MIB);
        let answer = std::thread::scope(|scope| {
            let asked = scope.spawn(|| post(&appliance, &body));
            appliance.kill(plane)?;
            // A control plane that was killed does not answer.
            Ok::<_, anyhow::Error>(asked.join().ok().and_then(Result::ok))
        })?;
        let made = answer.as_ref().is_some_and(|answer| answer.status == 201);
        let settled = || {
            let listed = appliance.rest().items("/pools")?.iter().any(|pool| {
                pool.get("name") == Some(&json!(name)) && pool.get("health") == Some(&json!("ok"))
            });
            let left = fs::read_dir(folder.path())?.count();
            let whole = listed && path.exists() && left == 1;
            Ok((whole || (!made && !listed && left == 0)).then_some(listed))
        };
        if eventually(LIMIT, "a whole pool, or none", settled)? {
            appliance.rest().delete(&format!("/pools/{name}"))?;
        }
        ensure!(fs::read_dir(folder.path())?.count() == 0, "round {round} left something behind");
    }
    appliance.stop()
}

#[test]
fn maps_beyond_their_memory_are_refused_clearly() -> Result<()> {
    let folder = pool_folder()?;
    let appliance = Appliance::start_with("file_maps", &["--map-memory", "32KiB"])?;
    appliance.rest().post("/pools", &file("p", &folder.path().join("pool"), 64 * MIB))?;
    let share = appliance.share_of("p", "v", 48, 4096)?;
    let host = HostIdentity::numbered(46);
    appliance.admit("writer", &host, &share, View::Plain)?;
    let mut session = appliance.connect(&host.nqn, &share)?;
    // Each block lies under a page of the map of its own.
    let mut write = |number: u64| {
        Ok::<_, anyhow::Error>(
            session.io(1).write(1, &Io::at(number * 1000, 1), &[6; sample::BLOCK_BYTES])?.status(),
        )
    };
    ensure!(write(0)?.is_success(), "the first page has room");
    let refused =
        (1..12).map(&mut write).find(|status| status.as_ref().is_ok_and(|status| !status.is_success()));
    let refused = refused.context("12 pages do not fit into 32 KiB")??;
    ensure!(refused.is(0, 0x81), "Capacity Exceeded, not {refused}");
    ensure!(write(0)?.is_success(), "what is mapped can be written");
    session.close()?;
    let map = || {
        let pool = appliance.rest().get("/pools/p")?;
        let of_map = |field: &str| pool.pointer(&format!("/map/{field}")).and_then(Value::as_u64);
        let bytes = of_map("bytes").context("a size")?;
        Ok((bytes > 0).then_some((bytes, of_map("budget_bytes").context("a budget")?)))
    };
    let (bytes, budget) = eventually(LIMIT, "the map to show", map)?;
    ensure!(budget == 32 << 10 && bytes <= budget, "{bytes} of {budget}");
    appliance.stop()
}

#[test]
fn drills_end_in_the_verdicts_that_they_deserve() -> Result<()> {
    drills_end_in_verdicts(Ok)
}

/// What a drill did to the medium, or to what was stored, is there for whoever reads it later.
#[test]
fn drills_end_in_the_same_verdicts_after_a_restart() -> Result<()> {
    drills_end_in_verdicts(|appliance| {
        let appliance = appliance.restart("file_drills_again")?;
        appliance.kill(Plane::Data)?;
        Ok(appliance)
    })
}

fn drills_end_in_verdicts(meanwhile: impl FnOnce(Appliance) -> Result<Appliance>) -> Result<()> {
    let folder = pool_folder()?;
    let appliance = Appliance::start_with("file_drills", &["--enable-drills"])?;
    let host = HostIdentity::numbered(45);
    let share = furnish(&appliance, folder.path(), &host)?;
    let drill = |lba: u64, stage: &str, bit: usize| {
        appliance.rest().post("/drills", &json!({"volume": "v", "lba": lba, "stage": stage, "bit": bit}))
    };
    let state = |drill: &Value| text(drill, "state").map(str::to_owned);
    ensure!(state(&drill(3, "media", 77)?)? == "done");
    ensure!(state(&drill(9, "media", 8 * sample::BLOCK_BYTES + 5)?)? == "done");
    let armed = drill(20, "target-memory", 0)?;
    ensure!(state(&armed)? == "armed");
    let mut session = appliance.connect(&host.nqn, &share)?;
    let one = |lba: u32| Io::at(lba.into(), 1).check_guard().check_ref().ref_tag(lba);
    let block =
        PiFormat::default().protect(&[8; sample::BLOCK_BYTES], sample::BLOCK_BYTES, Tags::counting(20));
    session.io(1).write(1, &one(20), &block)?.ok()?;
    session.io(1).flush(1)?.ok()?;
    session.close()?;
    let path = format!("/drills/{}", text(&armed, "id")?);
    eventually(LIMIT, "the drill", || Ok((state(&appliance.rest().get(&path)?)? == "done").then_some(())))?;
    let appliance = meanwhile(appliance)?;
    let mut session = appliance.connect(&host.nqn, &share)?;
    for (lba, code) in [(3, 0x81), (9, 0x81), (20, 0x82)] {
        let status = session.io(1).read(1, &one(lba), sample::WIRE_BYTES)?.status();
        ensure!(status.is(2, code), "block {lba}: {status}");
    }
    session.io(1).read(1, &one(4), sample::WIRE_BYTES)?.ok().context("the block beside it")?;
    session.close()?;
    let seen = || {
        let incidents = appliance.rest().items("/incidents?volume=v")?;
        let of = |tag: &str, verdict: &str, lba: u64| {
            incidents.iter().any(|incident| {
                let told = ["tag", "verdict", "lba"].map(|field| incident.get(field));
                told == [&json!(tag), &json!(verdict), &json!(lba)].map(Some)
            })
        };
        Ok((of("media", "media", 3) && of("guard", "target", 20)).then_some(()))
    };
    eventually(LIMIT, "both verdicts", seen)?;
    appliance.stop()
}

/// A medium rots while nobody looks: the check says where, the pool serves everything else, and the block is nobody's fault but
/// the medium's.
#[test]
fn a_byte_that_changed_on_the_medium_is_found_by_whoever_looks() -> Result<()> {
    let folder = pool_folder()?;
    let path = folder.path().join("pool");
    let appliance = Appliance::start("file_rots")?;
    let host = HostIdentity::numbered(47);
    let share = furnish(&appliance, folder.path(), &host)?;
    appliance.rest().delete("/subsystems/v/namespaces/1")?;
    appliance.rest().post("/pools/p/export", &Value::Null)?;
    // Block 0 of the volume is the first run of sevens.
    let mut bytes = fs::read(&path)?;
    let block = [7; sample::BLOCK_BYTES];
    let slot = bytes.chunks_exact(sample::BLOCK_BYTES).position(|slot| slot == block).context("the data")?;
    let byte = bytes.get_mut(slot * sample::BLOCK_BYTES + 100).context("a byte")?;
    *byte ^= 0x10;
    fs::write(&path, bytes)?;
    let checked = appliance.cli(&["pool", "check", "--data", &path.to_string_lossy()]);
    ensure!(checked.is_err(), "the check finds nothing: {checked:?}");
    appliance.cli(&["pool", "check", &path.to_string_lossy()]).context("without the data")?;

    appliance.rest().post("/pools", &import("p", &path))?;
    appliance.rest().post("/subsystems/v/namespaces", &json!({"volume": "v", "nsid": 1}))?;
    let mut session = appliance.connect(&host.nqn, &share)?;
    let mut bad = Vec::new();
    for lba in 0..sample::BLOCKS {
        let io = Io::at(lba.into(), 1).check_guard().check_ref().ref_tag(lba);
        let status = session.io(1).read(1, &io, sample::WIRE_BYTES)?.status();
        if !status.is_success() {
            ensure!(status.is(2, 0x81), "block {lba}: {status}");
            bad.push(lba);
        }
    }
    let [bad] = bad.as_slice() else { anyhow::bail!("{bad:?} cannot be read") };
    let seen = || {
        let found = appliance.rest().items("/incidents?volume=v&tag=media&verdict=media")?;
        let [incident] = found.as_slice() else { anyhow::bail!("{found:?}") };
        ensure!(incident.get("lba") == Some(&json!(bad)), "{incident}");
        Ok(Some(()))
    };
    eventually(LIMIT, "the incident", seen)?;
    // Written again, it is as good as any.
    sample::write(&mut session, 8)?;
    sample::expect(&mut session, 8)?;
    session.close()?;
    appliance.stop()
}

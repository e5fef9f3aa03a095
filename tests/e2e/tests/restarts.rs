//! What survives the death of a plane, and what the end of the whole appliance takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{Appliance, HostIdentity, Plane, Share, View, counter, eventually, sample};
use holdfast_testkit::{Error, LogPage, Options, Session};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

/// Types of persistent events.
const SNAPSHOT: u8 = 0x01;
const POWER_ON: u8 = 0x04;
const HARDWARE_ERROR: u8 = 0x05;

fn start(name: &str) -> Result<(Appliance, HostIdentity, Share)> {
    let appliance = Appliance::start(name)?;
    let host = HostIdentity::numbered(31);
    let share = appliance.share("kept", 16, 4096)?;
    appliance.admit("keeper", &host, &share, View::Pi)?;
    Ok((appliance, host, share))
}

#[test]
fn blocks_tuples_and_counters_survive_what_their_pool_survives() -> Result<()> {
    let (appliance, host, share) = start("kill_target")?;
    let mut session = appliance.connect(&host.nqn, &share)?;
    sample::write(&mut session, 7)?;
    let written = |appliance: &Appliance| {
        let counters = appliance.counters("keeper", &share)?;
        Ok((counter(&counters, "write", "blocks_checked")? == u64::from(sample::BLOCKS)).then_some(()))
    };
    eventually(LIMIT, "the counters", || written(&appliance))?;
    // The target writes its counters down once a second; the kill may take what is younger.
    std::thread::sleep(Duration::from_millis(1500));
    let mut appliance = appliance;
    for _ in 0..3 {
        appliance = appliance.interrupt("kill_target")?;
        let mut again = appliance.connect(&host.nqn, &share)?;
        sample::expect(&mut again, 7)?;
        again.close()?;
    }
    eventually(LIMIT, "the counters after the kill", || written(&appliance))?;
    appliance.stop()
}

/// The events of a subsystem, newest first, and how often the target says that it has started. Base 2.1 §5.1.12.1.14
/// "Persistent Event (Log Page Identifier 0Dh)".
fn persistent_events(session: &mut Session) -> Result<(Vec<u8>, u8)> {
    let establish_and_read = LogPage::new(0x0d, 64 * 1024).lsp(1);
    let page = session.admin().log_page(&establish_and_read)?.ok()?.data;
    let byte = |at: usize| page.get(at).copied().context("the page is short");
    let (mut types, mut at) = (Vec::new(), 512);
    for _ in 0..u32::from_le_bytes([byte(4)?, byte(5)?, byte(6)?, byte(7)?]) {
        types.push(byte(at)?);
        at += 3
            + usize::from(byte(at + 2)?)
            + usize::from(u16::from_le_bytes([byte(at + 22)?, byte(at + 23)?]));
    }
    Ok((types, byte(44)?))
}

#[test]
fn persistent_events_survive_a_kill_of_the_target() -> Result<()> {
    let (appliance, host, share) = start("kept_events")?;
    let mut session = appliance.connect(&host.nqn, &share)?;
    let refused = session.io(1).write(1, &sample::checked(), &vec![0x55; sample::wire(0).len()])?.status();
    ensure!(refused.is(2, 0x82), "{refused}");
    let (types, starts) = persistent_events(&mut session)?;
    ensure!(types == [SNAPSHOT, HARDWARE_ERROR, POWER_ON] && starts == 1, "{types:x?}, {starts} starts");
    // As with the counters, the kill may take what is younger than a second.
    std::thread::sleep(Duration::from_millis(1500));
    appliance.kill(Plane::Data)?;
    let mut again = appliance.connect(&host.nqn, &share)?;
    let (types, starts) = persistent_events(&mut again)?;
    let kept = [SNAPSHOT, POWER_ON, SNAPSHOT, HARDWARE_ERROR, POWER_ON];
    ensure!(types == kept && starts == 2, "{types:x?}, {starts} starts");
    again.close()?;
    appliance.stop()
}

#[test]
fn intent_survives_a_kill_of_the_control_plane_and_io_does_not_notice() -> Result<()> {
    let (appliance, host, share) = start("kill_control")?;
    let mut session = appliance.connect(&host.nqn, &share)?;
    sample::write(&mut session, 9)?;
    appliance.kill(Plane::Control)?;
    sample::expect(&mut session, 9)?;
    let seen = || {
        let volume = appliance.rest().get("/volumes/kept")?;
        Ok((volume.get("uuid").and_then(Value::as_str) == Some(&share.uuid)).then_some(()))
    };
    eventually(LIMIT, "the API", seen)?;
    appliance.share("later", 16, 512)?;
    sample::expect(&mut session, 9).context("over a change of the configuration")?;
    session.close()?;
    appliance.stop()
}

/// A host that comes back while the target is starting must wait, not hear that its volume does not exist: told so with
/// "do not retry", it would give the volume up.
#[test]
fn a_host_that_comes_back_early_is_never_sent_away() -> Result<()> {
    let (appliance, host, share) = start("early_host")?;
    let target = ("127.0.0.1", appliance.nvme_port());
    for _ in 0..5 {
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, nqns) = (Arc::clone(&stop), (host.nqn.clone(), share.nqn.clone()));
        let knocking = std::thread::spawn(move || {
            let mut refusals = Vec::new();
            while !seen.load(Ordering::Relaxed) {
                // A connection that breaks with the target is fine, and so is an I/O queue that is told to start over because
                // its controller went with the old process. "Do not retry" is not.
                match Session::open(target, &nqns.0, &nqns.1, Options::default()) {
                    Err(Error::Status { command, status }) if status.dnr => {
                        refusals.push(format!("{command}: {status}"));
                    }
                    _ => {}
                }
            }
            refusals
        });
        appliance.kill(Plane::Data)?;
        appliance.connect(&host.nqn, &share)?.close()?;
        stop.store(true, Ordering::Relaxed);
        let refusals = knocking.join().map_err(|_| anyhow::anyhow!("the knocking host failed"))?;
        ensure!(refusals.is_empty(), "{refusals:?}");
    }
    appliance.stop()
}

/// Somebody lost the database: the volumes are still there, in use, and must not be deleted for it.
#[test]
fn a_lost_database_does_not_take_the_volumes_along() -> Result<()> {
    let (appliance, host, share) = start("lost_database")?;
    let mut session = appliance.connect(&host.nqn, &share)?;
    sample::write(&mut session, 3)?;
    for file in std::fs::read_dir(appliance.state_folder())? {
        let path = file?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("control-plane.sqlite")) {
            std::fs::remove_file(path)?;
        }
    }
    appliance.kill(Plane::Control)?;
    let refused = || {
        let answer = appliance.rest().exchange("GET", "/readyz", "")?;
        Ok((answer.status == 503 && answer.text.contains("database")).then_some(()))
    };
    eventually(LIMIT, "the control plane's refusal", refused)?;
    sample::expect(&mut session, 3)?;
    Ok(())
}

#[test]
fn no_plane_outlives_the_supervisor() -> Result<()> {
    Appliance::start("orphans")?.kill_all_by_killing_up()
}

/// Volumes in memory are lost and come back empty; hosts must see that they are others. Those in a file come back as they were.
#[test]
fn the_end_of_the_appliance_takes_what_is_in_memory_and_nothing_else() -> Result<()> {
    let (appliance, host, share) = start("all_ends")?;
    let lasts = appliance.backing().lasts();
    let before = appliance.rest().get("/volumes/kept")?;
    let mut session = appliance.connect(&host.nqn, &share)?;
    sample::write(&mut session, 5)?;
    drop(session);
    let appliance = appliance.restart("all_ends_again")?;
    let after = || {
        let after = appliance.rest().get("/volumes/kept")?;
        Ok(((after.get("uuid") == before.get("uuid")) == lasts).then_some(after))
    };
    let after = eventually(LIMIT, "the volume's identifier", after)?;
    ensure!((after.get("nguid") == before.get("nguid")) == lasts, "{after}");
    ensure!(after.get("size_bytes") == before.get("size_bytes"), "{after}");
    let allocated = after.get("allocated_bytes").and_then(Value::as_u64);
    let mut session = appliance.connect(&host.nqn, &share)?;
    if lasts {
        ensure!(allocated == Some(u64::from(sample::BLOCKS) * 4096), "{after}");
        sample::expect(&mut session, 5)?;
    } else {
        ensure!(allocated == Some(0), "{after}");
        let hole = [vec![0; sample::BLOCK_BYTES], vec![0xff; 8]].concat();
        let back = sample::read(&mut session)?;
        ensure!(back.chunks(sample::WIRE_BYTES).all(|block| block == hole), "a lost volume is not empty");
    }
    let hosts = appliance.rest().items("/hosts")?;
    hosts
        .iter()
        .find(|found| found.get("name") == Some(&"keeper".into()))
        .context("the host stays on record")?;
    appliance.stop()
}

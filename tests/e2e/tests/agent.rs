//! `holdfast-agent`, as initiator hosts get it, on Debian's stock kernels: what it shows of a volume that is there over NVMe/TCP and over
//! iSCSI, its report with a token, and its self-test, for whose bad tuples the appliance has to blame this host and nobody else.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{Appliance, Guest, HostIdentity, Kernel, eventually, static_agent};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A bound for a hung guest.
const LIMIT: Duration = Duration::from_secs(600);
const SEEN_LIMIT: Duration = Duration::from_secs(30);
/// Self-tests in the guest, each with one bad guard and one bad reference tag: two over iSCSI, one over NVMe.
const TESTS: u64 = 3;
const SCRATCH: u64 = 5;

#[test]
fn the_agent_on_6_1_shows_reports_and_tests() -> Result<()> {
    let holes = shows_reports_and_tests(Kernel::V6_1)?;
    ensure!(!holes.contains("capacity-zero"), "6.1 shows the capacity of a PI view: {holes}");
    Ok(())
}

#[test]
fn the_agent_on_6_12_shows_reports_and_tests() -> Result<()> {
    let holes = shows_reports_and_tests(Kernel::V6_12)?;
    ensure!(holes.contains("capacity-zero"), "6.12 shows a PI view without capacity: {holes}");
    Ok(())
}

/// With patched modules, by its own reports: the view follows what the host can do, the report what comes and goes, and who changes a
/// buffer under direct I/O is found, with the hole through which it came.
#[test]
fn a_host_that_reports_tuples_is_given_them_and_held_to_its_policy() -> Result<()> {
    let appliance = Appliance::start("agent_auto")?;
    let rest = appliance.rest();
    let share = appliance.share("disk", 256, 4096)?;
    let host = HostIdentity::numbered(62);
    rest.post("/hosts", &json!({"name": "guest", "nqn": host.nqn}))?;
    rest.put("/subsystems/disk/hosts/guest", &json!({"view": "auto", "enforce": "any"}))?;
    let folder = TempDir::new()?;
    let wac = folder.path().join("wac");
    holdfast_wac::build(&wac)?;
    let mut guest = Guest::builder(Kernel::V6_12, "agent_auto", "agent_auto.sh")
        .host(&host)
        .limit(LIMIT)
        .patched_modules()
        .variable("PORT", appliance.nvme_port())
        .variable("API_PORT", api_port(&appliance)?)
        .variable("HOST", "guest")
        .variable("TOKEN", token(&appliance)?)
        .variable("NQN", &share.nqn)
        .variable("UUID", &share.uuid)
        .file("holdfast-agent", &static_agent()?)
        .file("wac", &fs::read(&wac)?)
        .start()?;

    guest.wait_phase("reported")?;
    ensure!(guest.results()?.text("view_before")? == "none", "the PI view before any report");
    until_reported(&appliance, &json!(["nvme-tcp"]), &json!(["nvme-tcp"]))?;
    guest.go_on()?;
    guest.wait_phase("gone")?;
    until_reported(&appliance, &json!(["nvme-tcp"]), &json!([]))?;
    guest.go_on()?;
    guest.wait_phase("connected")?;
    ensure!(guest.results()?.text("view_after")? == "T10-DIF-TYPE1-CRC", "not the PI view after the report");
    until_reported(&appliance, &json!(["nvme-tcp"]), &json!(["nvme-tcp"]))?;
    let policy = eventually(SEEN_LIMIT, "the policy of what came", || {
        let policy = rest.get("/hosts/guest")?.get("policy").context("policy")?.clone();
        Ok((policy.get("reported") == Some(&json!("stable-pages"))).then_some(policy))
    })?;
    ensure!(policy.get("alarms") == Some(&json!([])), "{policy}");

    guest.go_on()?;
    guest.wait_phase("raced")?;
    let alarm = eventually(SEEN_LIMIT, "an alarm", || {
        Ok(rest.get("/hosts/guest")?.pointer("/policy/alarms/0").cloned())
    })?;
    ensure!(alarm.get("kind") == Some(&json!("guard-errors")), "{alarm}");
    ensure!(alarm.get("hole") == Some(&json!("direct-io-buffer-changed")), "{alarm}");
    for incident in incidents(&appliance, "guard")? {
        ensure!(incident.get("host") == Some(&json!("guest")), "{incident}");
        ensure!(incident.get("policy") == Some(&json!("stable-pages")), "{:?}", incident.get("policy"));
    }
    guest.go_on()?;
    guest.finish()?;
    appliance.stop()
}

/// Waits for a report of these transports that carry tuples, and of devices over these transports.
fn until_reported(appliance: &Appliance, carry: &Value, devices: &Value) -> Result<()> {
    eventually(SEEN_LIMIT, &format!("a report of {devices} that carry {carry}"), || {
        let report = appliance.rest().get("/hosts/guest/report")?;
        let found = report.get("devices").and_then(Value::as_array).context("devices")?;
        let mut found: Vec<_> = found.iter().filter_map(|device| device.get("transport").cloned()).collect();
        found.dedup();
        Ok((report.get("pi_transports") == Some(carry) && json!(found) == *devices).then_some(()))
    })
}

fn token(appliance: &Appliance) -> Result<String> {
    let made: Value = serde_json::from_str(&appliance.cli(&["host", "token", "guest", "--output", "json"])?)?;
    Ok(made.get("token").and_then(Value::as_str).context("a token")?.to_owned())
}

fn api_port(appliance: &Appliance) -> Result<String> {
    Ok(appliance.rest().base().rsplit(':').next().context("the API's port")?.to_owned())
}

/// What the guest found as holes.
fn shows_reports_and_tests(kernel: Kernel) -> Result<String> {
    let name = format!("agent_{}", kernel.series());
    let appliance = Appliance::start(&name)?;
    let rest = appliance.rest();
    let share = appliance.share("disk", 64, 4096)?;
    let host = HostIdentity::numbered(61);
    let initiator = format!("iqn.2026-11.io.example:{}", kernel.series());
    rest.post("/hosts", &json!({"name": "guest", "nqn": host.nqn, "iqn": initiator}))?;
    rest.put("/subsystems/disk/hosts/guest", &json!({"view": "pi", "enforce": "any"}))?;
    let mut guest = Guest::builder(kernel, &name, "agent.sh")
        .host(&host)
        .limit(LIMIT)
        .variable("PORT", appliance.nvme_port())
        .variable("ISCSI_PORT", appliance.iscsi_port())
        .variable("API_PORT", api_port(&appliance)?)
        .variable("HOST", "guest")
        .variable("TOKEN", token(&appliance)?)
        .variable("NQN", &share.nqn)
        .variable("UUID", &share.uuid)
        .variable("IQN", share.iqn())
        .variable("INITIATOR", &initiator)
        .file("holdfast-agent", &static_agent()?)
        .start()?;
    guest.wait_phase("reported")?;
    let report = rest.get("/hosts/guest/report")?;
    ensure!(report.get("kernel") == Some(&json!(kernel.release()?)), "{report}");
    ensure!(report.get("pi_transports") == Some(&json!([])), "a stock kernel sends no tuples: {report}");
    let transports = report.get("devices").and_then(Value::as_array).context("devices")?;
    let transports: Vec<_> = transports.iter().filter_map(|device| device.get("transport")).collect();
    for expected in ["nvme-tcp", "iscsi"] {
        ensure!(transports.contains(&&json!(expected)), "no device over {expected}: {report}");
    }
    let host = rest.get("/hosts/guest")?;
    ensure!(host.pointer("/policy/reported") == report.get("policy"), "{host}");
    guest.go_on()?;
    let holes = guest.finish()?.text("holes")?.to_owned();
    // Failures of one cause are one incident, whatever they came over.
    for tag in ["guard", "ref"] {
        eventually(SEEN_LIMIT, &format!("{TESTS} failures of {tag}"), || {
            let blamed = incidents(&appliance, tag)?;
            let total: u64 = blamed.iter().filter_map(|one| one.get("count")?.as_u64()).sum();
            ensure!(total == TESTS, "{total}");
            Ok(Some(()))
        })?;
    }
    for incident in rest.items("/incidents")? {
        for (field, value) in
            [("host", json!("guest")), ("lba", json!(SCRATCH)), ("operation", json!("write"))]
        {
            ensure!(incident.get(field) == Some(&value), "{field}: {incident}");
        }
    }
    appliance.stop()?;
    Ok(holes)
}

fn incidents(appliance: &Appliance, tag: &str) -> Result<Vec<Value>> {
    let mut all = appliance.rest().items("/incidents")?;
    all.retain(|one| one.get("tag") == Some(&json!(tag)));
    Ok(all)
}

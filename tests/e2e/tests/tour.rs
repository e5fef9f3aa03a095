//! The five minutes of README.md, command by command, so that they stay true.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{Appliance, Guest, HostIdentity, Kernel, eventually};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);

/// Runs a command and shows it as on a terminal, in the test's output.
fn show(appliance: &Appliance, line: &str) -> Result<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let answer = appliance.cli(&words)?;
    println!("$ holdfast {line}\n{answer}");
    Ok(answer)
}

fn incidents(appliance: &Appliance) -> Result<Vec<Value>> {
    appliance.rest().items("/incidents?host=web1")
}

#[test]
fn the_tour_in_the_readme_is_true() -> Result<()> {
    let appliance = Appliance::start("tour")?;
    let host = HostIdentity::numbered(41);
    show(&appliance, "volume create v1 --size 512MiB")?;
    let subsystem = appliance.rest().post("/subsystems", &serde_json::json!({"name": "s1"}))?;
    show(&appliance, "namespace add s1 v1")?;
    show(&appliance, &format!("host create web1 --nqn {}", host.nqn))?;
    show(&appliance, "grant set s1 web1")?;
    show(&appliance, "status")?;

    let volume = appliance.rest().get("/volumes/v1")?;
    let uuid = volume.get("uuid").and_then(Value::as_str).context("a uuid")?;
    let nqn = subsystem.get("nqn").and_then(Value::as_str).context("an nqn")?;
    let mut guest = Guest::builder(Kernel::V6_1, "tour", "tour.sh")
        .host(&host)
        .variable("PORT", appliance.nvme_port())
        .variable("NQN", nqn)
        .variable("UUID", uuid)
        .start()?;
    guest.wait_phase("plain")?;
    eventually(LIMIT, "the counters", || {
        let counters = appliance.rest().get("/hosts/web1/counters")?;
        let inserted = counters.pointer("/volumes/0/write/blocks_inserted").and_then(Value::as_u64);
        Ok(inserted.filter(|blocks| *blocks > 0))
    })?;
    show(&appliance, "host list")?;
    show(&appliance, "host counters web1")?;
    guest.go_on()?;
    guest.wait_phase("changed")?;
    show(&appliance, "grant set s1 web1 --view pi")?;
    guest.go_on()?;
    let results = guest.finish()?;
    ensure!(results.text("random")? == "0x6282", "{}", results.text("random")?);
    ensure!(results.text("zeros")? == "0x6284", "{}", results.text("zeros")?);

    let found =
        eventually(LIMIT, "two incidents", || Ok(Some(incidents(&appliance)?).filter(|all| all.len() == 2)))?;
    let verdict = |tag: &str| {
        let incident = found.iter().find(|incident| incident.get("tag").and_then(Value::as_str) == Some(tag));
        incident.and_then(|incident| incident.get("verdict")).and_then(Value::as_str)
    };
    ensure!(verdict("guard") == Some("undetermined"), "{found:?}");
    ensure!(verdict("ref") == Some("misdirected"), "{found:?}");
    show(&appliance, "incident list --host web1")?;
    let id =
        found.first().and_then(|incident| incident.get("id")).and_then(Value::as_str).context("an id")?;
    show(&appliance, &format!("incident show {id}"))?;
    appliance.stop()
}

//! The data plane is killed under load. `holdfast up` starts another one, the guest's kernel goes on by itself, and
//! nothing that was synchronised is lost.

use std::time::Duration;

use anyhow::{Result, ensure};
use holdfast_e2e::{Appliance, Guest, HostIdentity, Kernel, Plane, View, counter, eventually};
use serde_json::json;

/// Enough to meet the load at different points.
const CRASHES: u64 = 3;
/// For a control plane that starts again, on a busy machine.
const HEALED_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn ext4_on_6_1_survives_kills_of_the_target_under_load() -> Result<()> {
    survives_kills_of_the_target(Kernel::V6_1, "ext4")
}

#[test]
fn xfs_on_6_12_survives_kills_of_the_target_under_load() -> Result<()> {
    survives_kills_of_the_target(Kernel::V6_12, "xfs")
}

fn survives_kills_of_the_target(kernel: Kernel, file_system: &str) -> Result<()> {
    let name = format!("crashes_{}", kernel.series());
    let appliance = Appliance::start(&name)?;
    let host = HostIdentity::numbered(31);
    let share = appliance.share("loaded", 512, 4096)?;
    appliance.admit("loader", &host, &share, View::Plain)?;
    let mut guest = Guest::builder(kernel, &name, "survive_crashes.sh")
        .host(&host)
        .variable("PORT", appliance.nvme_port())
        .variable("NQN", &share.nqn)
        .variable("UUID", &share.uuid)
        .variable("FILE_SYSTEM", file_system)
        .variable("CRASHES", CRASHES)
        .start()?;
    for crash in 1..=CRASHES {
        guest.wait_phase(&format!("loaded_{crash}"))?;
        appliance.kill(Plane::Data)?;
        guest.go_on()?;
    }
    // The other plane may go too; the guest must not even notice.
    guest.wait_phase("written")?;
    appliance.kill(Plane::Control)?;
    guest.go_on()?;
    let results = guest.finish()?;
    ensure!(results.number("kernel_errors")? == 0);
    ensure!(results.number("reconnects")? >= CRASHES, "{} reconnects", results.number("reconnects")?);
    ensure!(results.number("files")? > 0);

    // Who did it is still known, by a control plane and a data plane that have both been killed since.
    let written = eventually(HEALED_LIMIT, "the host's counters", || {
        let counters = appliance.counters("loader", &share)?;
        Ok(Some(counter(&counters, "write", "blocks_inserted")?))
    })?;
    ensure!(written > 0);
    let loader = appliance.rest().get("/hosts/loader")?;
    ensure!(loader.get("nqn") == Some(&json!(host.nqn)), "{loader}");
    appliance.stop()
}

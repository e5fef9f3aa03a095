//! open-iscsi and sg3-utils on Debian's stock kernels: answers that make sense, reservations between two sessions, copies between
//! logical units, and a tree of files over a session with digests.

use std::time::Duration;

use anyhow::{Result, ensure};
use holdfast_e2e::{Appliance, Guest, Kernel};
use serde_json::json;

/// A bound for a hung guest; it boots once and runs about a hundred short commands.
const LIMIT: Duration = Duration::from_secs(900);

#[test]
fn sg3_utils_on_6_1_get_answers_that_make_sense() -> Result<()> {
    sg3_utils_get_answers(Kernel::V6_1)
}

#[test]
fn sg3_utils_on_6_12_get_answers_that_make_sense() -> Result<()> {
    sg3_utils_get_answers(Kernel::V6_12)
}

fn sg3_utils_get_answers(kernel: Kernel) -> Result<()> {
    let name = format!("sg3_utils_{}", kernel.series());
    let appliance = Appliance::start(&name)?;
    let _share = appliance.share("disk", 256, 512)?;
    let second = json!({"name": "second", "pool": "ram", "size_bytes": 256_u64 << 20, "block_size": 512});
    appliance.rest().post("/volumes", &second)?;
    appliance.rest().post("/subsystems/disk/namespaces", &json!({"volume": "second", "nsid": 2}))?;
    let initiator = format!("iqn.2026-11.io.example:{}", kernel.series());
    appliance.rest().post("/hosts", &json!({"name": "admin", "iqn": initiator}))?;
    appliance.rest().put("/subsystems/disk/hosts/admin", &json!({"view": "plain", "enforce": "any"}))?;
    let guest = Guest::builder(kernel, &name, "sg3_utils.sh")
        .limit(LIMIT)
        .variable("PORT", appliance.iscsi_port())
        .variable("IQN", "iqn.2026-11.io.holdfast:disk")
        .variable("INITIATOR", &initiator)
        .start()?;
    let results = guest.finish()?;
    ensure!(results.number("header_digest")? == 1 && results.number("data_digest")? == 1, "without digests");
    ensure!(results.number("files")? > 0);
    ensure!(results.number("kernel_errors")? == 0, "the kernel complained");
    ensure!(appliance.rest().items("/incidents")?.is_empty(), "nobody is to be accused");
    appliance.stop()
}

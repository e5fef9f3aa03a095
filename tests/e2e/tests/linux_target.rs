//! The jobs against Linux's own target, inside the guest. A control experiment: when a test against the appliance
//! fails, this tells whether the job or the appliance is at fault.

use anyhow::{Result, ensure};
use holdfast_e2e::{Guest, Kernel};

fn trees_survive_on_linux_target(kernel: Kernel) -> Result<()> {
    let results = Guest::builder(kernel, &format!("linux_target_{}", kernel.series()), "linux_target.sh")
        .memory_mib(1536)
        .variable("JOB", "file_trees.sh")
        .file("file_trees.sh", include_bytes!("../guest/file_trees.sh"))
        .variable("NQN", "nqn.2026-11.io.holdfast:control")
        .variable("UUID", "6d1f3a52-7a0e-4f55-9a56-0a3f1c1f2e01")
        .variable("PORT", 4420)
        .variable("ROUNDS", "ext4/bare xfs/digests")
        .start()?
        .finish()?;
    ensure!(results.text("dps")? == "0");
    ensure!(results.number("kernel_errors")? == 0);
    ensure!(results.number("sectors_written")? > 0);
    Ok(())
}

#[test]
fn jobs_hold_against_linux_target_on_6_1() -> Result<()> {
    trees_survive_on_linux_target(Kernel::V6_1)
}

#[test]
fn jobs_hold_against_linux_target_on_6_12() -> Result<()> {
    trees_survive_on_linux_target(Kernel::V6_12)
}

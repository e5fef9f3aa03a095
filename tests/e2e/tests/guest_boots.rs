//! The harness itself, without a target: a guest boots, takes its job, answers, and its failure is a failure.

use anyhow::{Result, ensure};
use holdfast_e2e::{Guest, HostIdentity, Kernel};

fn boots_and_reports(kernel: Kernel) -> Result<()> {
    let host = HostIdentity::numbered(7);
    let name = format!("guest_boots_{}", kernel.series());
    let mut guest = Guest::builder(kernel, &name, "boot_report.sh")
        .host(&host)
        .variable("STATUS", 0)
        .file("payload", b"abc")
        .start()?;
    guest.wait_phase("standing")?;
    guest.go_on()?;
    guest.wait_phase("leaving")?;
    guest.go_on()?;
    let results = guest.finish()?;
    ensure!(results.text("release")? == kernel.release()?);
    ensure!(results.text("hostnqn")? == host.nqn);
    // SHA-256 of "abc", FIPS 180-2 appendix B.1.
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    ensure!(results.text("payload")? == digest);
    ensure!(results.number("files")? > 100);
    Ok(())
}

#[test]
fn guest_boots_and_reports_on_6_1() -> Result<()> {
    boots_and_reports(Kernel::V6_1)
}

#[test]
fn guest_boots_and_reports_on_6_12() -> Result<()> {
    boots_and_reports(Kernel::V6_12)
}

#[test]
fn a_failing_job_fails_its_guest() -> Result<()> {
    let mut guest = Guest::builder(Kernel::V6_1, "failing_job", "boot_report.sh")
        .variable("STATUS", 9)
        .file("payload", b"abc")
        .start()?;
    guest.wait_phase("standing")?;
    guest.go_on()?;
    ensure!(guest.wait_exit()? == 9);
    Ok(())
}

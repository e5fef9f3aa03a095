//! libiscsi's suite at the appliance: nothing fails, and nothing is skipped that has no reason. And at a target that is known to
//! fail parts of it: what runs it must see that. Needs root and Debian's `tgt` and `libiscsi-bin`.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use holdfast_e2e::{Appliance, Backing, Findings, Setup, Tgt, Verdict, permitted_skips};
use serde_json::json;

/// libiscsi 1.19 has so many tests.
const TESTS: usize = 230;

#[test]
fn nothing_of_the_suite_fails_on_blocks_of_512_bytes_in_memory() -> Result<()> {
    nothing_fails(512, Backing::Memory)
}

#[test]
fn nothing_of_the_suite_fails_on_blocks_of_4096_bytes_in_memory() -> Result<()> {
    nothing_fails(4096, Backing::Memory)
}

#[test]
fn nothing_of_the_suite_fails_on_blocks_of_512_bytes_in_a_file() -> Result<()> {
    nothing_fails(512, Backing::File)
}

#[test]
fn nothing_of_the_suite_fails_on_blocks_of_4096_bytes_in_a_file() -> Result<()> {
    nothing_fails(4096, Backing::File)
}

fn nothing_fails(block_size: u64, backing: Backing) -> Result<()> {
    let name = format!("libiscsi_{block_size}_{backing:?}").to_lowercase();
    let appliance = Appliance::start_as(&name, Setup { backing: Some(backing), ..Setup::default() })?;
    let share = appliance.share("disk", 256, block_size)?;
    appliance.rest().patch("/subsystems/disk", &json!({"allow_any_host": true}))?;
    let url = appliance.iscsi_url(&share, 0);

    let found = Findings::of(&name, &[&url])?;
    ensure!(found.0.len() == TESTS, "{} tests instead of {TESTS}", found.0.len());
    let complaints = found.complaints(&permitted_skips("skipped")?);
    ensure!(complaints.is_empty(), "{complaints:#?}");

    let found = Findings::of_tests(&format!("{name}_paths"), &["-t", "SCSI.MultipathIO"], &[&url, &url])?;
    let complaints = found.complaints(&BTreeMap::new());
    ensure!(found.0.len() == 4 && complaints.is_empty(), "two paths: {complaints:#?}");

    let options = ["--allow-sanitize", "-t", "SCSI.Sanitize"];
    let found = Findings::of_tests(&format!("{name}_sanitize"), &options, &[&url])?;
    let complaints = found.complaints(&permitted_skips("sanitize")?);
    ensure!(found.0.len() == 11 && complaints.is_empty(), "sanitize: {complaints:#?}");
    appliance.stop()
}

#[test]
fn the_suite_finds_fault_with_a_target_that_has_faults() -> Result<()> {
    let tgt = Tgt::start("the_suite_finds_fault", 256, &[512])?;
    let url = format!("iscsi://{}/{}/1", tgt.portal, tgt.iqn);
    let found = Findings::of("the_suite_finds_fault", &[&url])?;
    // tgt implements neither COMPARE AND WRITE nor EXTENDED COPY.
    assert!(found.0.len() >= TESTS, "{} tests", found.0.len());
    assert!(found.count(Verdict::Failed) > 0 && found.count(Verdict::Passed) > 100);
    assert_eq!(found.0.get("CompareAndWrite.Simple"), Some(&Verdict::Skipped));
    assert_eq!(found.0.get("GetLBAStatus.BeyondEol"), Some(&Verdict::Failed));
    assert_eq!(found.0.get("Inquiry.Standard"), Some(&Verdict::Passed));
    let complaints = found.complaints(&BTreeMap::new());
    assert_eq!(complaints.len(), found.count(Verdict::Failed) + found.count(Verdict::Skipped));
    Ok(())
}

//! A stock Linux 6.12 with the modules of `kernel-patches/dkms` sends the tuples that it computed itself: what the target
//! checked is, to the block, what the guest's kernel wrote and read, and nothing was inserted or stripped.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{Appliance, Guest, HostIdentity, Kernel, Results, Share, View, counter, eventually};
use serde_json::{Value, json};

const HOST: &str = "patched";
const SIZE_MIB: u64 = 512;
const BLOCK_BYTES: u64 = 4096;
/// Linux counts in sectors, whatever the block size.
const SECTORS_PER_BLOCK: u64 = BLOCK_BYTES / 512;
/// The contract: counters are visible within 2 seconds. The rest is for a busy machine.
const COUNTERS_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn patched_modules_on_stock_6_12_carry_tuples_end_to_end() -> Result<()> {
    let appliance = Appliance::start("patched_modules")?;
    let host = HostIdentity::numbered(61);
    let share = appliance.share("patched-disk", SIZE_MIB, BLOCK_BYTES)?;
    appliance.admit(HOST, &host, &share, View::Pi)?;
    let results = Guest::builder(Kernel::V6_12, "patched_modules_6.12", "patched_modules.sh")
        .host(&host)
        .patched_modules()
        .variable("PORT", appliance.nvme_port())
        .variable("NQN", &share.nqn)
        .variable("UUID", &share.uuid)
        .variable("ROUNDS", "ext4/bare ext4/digests xfs/bare")
        .start()?
        .finish()?;
    makes_its_own_tuples(&results)?;
    counts_agree(&appliance, &share, &results)?;

    let known = appliance.rest().get(&format!("/hosts/{HOST}"))?;
    ensure!(known.pointer("/policy/observed") == Some(&json!("end-to-end")), "{known}");
    let incidents = appliance.rest().items("/incidents")?;
    ensure!(incidents.is_empty(), "{incidents:?}");
    appliance.stop()
}

/// The guest's block layer generates and verifies, on a disk that asks for buffers that suit that.
fn makes_its_own_tuples(results: &Results) -> Result<()> {
    ensure!(results.text("version")?.starts_with("holdfast-"), "{}", results.text("version")?);
    ensure!(results.text("format")? == "T10-DIF-TYPE1-CRC", "{}", results.text("format")?);
    ensure!(results.number("interval")? == BLOCK_BYTES);
    ensure!(results.number("generates")? == 1 && results.number("verifies")? == 1);
    ensure!(results.number("alignment")? == BLOCK_BYTES - 1);
    ensure!(results.number("kernel_errors")? == 0);
    Ok(())
}

/// Each block that the guest's kernel wrote came with a tuple and was checked; each that it read left with one.
fn counts_agree(appliance: &Appliance, share: &Share, results: &Results) -> Result<()> {
    let written = results.number("sectors_written")?.checked_sub(results.number("sectors_zeroed")?);
    let written = blocks(written.context("more zeroed than written")?)?;
    let read = blocks(results.number("sectors_read")?)?;
    ensure!(written > 0 && read > 0);
    let what = format!("{written} blocks written, {read} read");
    let seen = eventually(COUNTERS_LIMIT, &what, || {
        let counters = appliance.counters(HOST, share)?;
        ensure!(came(&counters, "write")? >= written && came(&counters, "read")? >= read, "{counters}");
        Ok(Some(counters))
    })?;
    println!("{what}: {seen}");
    ensure!(counter(&seen, "write", "blocks_checked")? == written, "{what}: {seen}");
    ensure!(came(&seen, "read")? == read, "{what}: {seen}");
    for (section, name) in [
        ("write", "blocks_escaped"),
        ("write", "blocks_unchecked"),
        ("write", "blocks_inserted"),
        ("read", "blocks_unchecked"),
        ("read", "blocks_stripped"),
    ] {
        ensure!(counter(&seen, section, name)? == 0, "{section}.{name}: {seen}");
    }
    for section in ["write", "read"] {
        for name in ["guard_errors", "app_tag_errors", "ref_tag_errors", "media_errors"] {
            ensure!(counter(&seen, section, name)? == 0, "{section}.{name}: {seen}");
        }
    }
    Ok(())
}

/// Blocks that went over the wire with a tuple: checked, or escaped where nothing had been written yet.
fn came(counters: &Value, section: &str) -> Result<u64> {
    Ok(counter(counters, section, "blocks_checked")? + counter(counters, section, "blocks_escaped")?)
}

fn blocks(sectors: u64) -> Result<u64> {
    ensure!(sectors.is_multiple_of(SECTORS_PER_BLOCK), "{sectors} sectors are no whole blocks");
    Ok(sectors / SECTORS_PER_BLOCK)
}

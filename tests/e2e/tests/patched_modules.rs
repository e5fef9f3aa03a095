//! A stock Linux with the modules of `kernel-patches/dkms` sends the tuples that it computed itself, over NVMe/TCP and
//! over iSCSI: what the target checked is, to the block, what the guest's kernel wrote and read, and nothing was inserted or
//! stripped.

use std::time::Duration;

use anyhow::{Result, ensure};
use holdfast_e2e::{
    Appliance, Guest, GuestBuilder, HostIdentity, Kernel, Results, Share, View, counter, eventually,
};
use serde_json::{Value, json};

const HOST: &str = "patched";
const SIZE_MIB: u64 = 512;
const BLOCK_BYTES: u64 = 4096;
/// Linux counts in sectors, whatever the block size.
const SECTORS_PER_BLOCK: u64 = BLOCK_BYTES / 512;
/// The contract: counters are visible within 2 seconds. The rest is for a busy machine.
const COUNTERS_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn patched_nvme_tcp_on_stock_6_12_carries_tuples_end_to_end() -> Result<()> {
    over_nvme(Kernel::V6_12, "patched_nvme_6.12", "ext4/digests xfs/bare")
}

#[test]
fn patched_iscsi_tcp_on_stock_6_12_carries_tuples_end_to_end() -> Result<()> {
    over_iscsi(Kernel::V6_12, "patched_iscsi_6.12", "ext4/digests")
}

#[test]
fn patched_nvme_tcp_on_stock_6_1_carries_tuples_end_to_end() -> Result<()> {
    over_nvme(Kernel::V6_1, "patched_nvme_6.1", "ext4/digests xfs/bare")
}

#[test]
fn patched_iscsi_tcp_on_stock_6_1_carries_tuples_end_to_end() -> Result<()> {
    over_iscsi(Kernel::V6_1, "patched_iscsi_6.1", "ext4/digests")
}

fn over_nvme(kernel: Kernel, name: &str, rounds: &str) -> Result<()> {
    carries_tuples(kernel, name, rounds, |appliance, share, guest| {
        let host = HostIdentity::numbered(61);
        appliance.admit(HOST, &host, share, View::Pi)?;
        Ok(guest.host(&host).over_nvme(appliance, share))
    })
}

fn over_iscsi(kernel: Kernel, name: &str, rounds: &str) -> Result<()> {
    carries_tuples(kernel, name, rounds, |appliance, share, guest| {
        appliance.admit_initiator(HOST, share, "pi", "any")?;
        Ok(guest.over_iscsi(appliance, share, HOST))
    })
}

fn carries_tuples(
    kernel: Kernel,
    name: &str,
    rounds: &str,
    admitted: impl FnOnce(&Appliance, &Share, GuestBuilder) -> Result<GuestBuilder>,
) -> Result<()> {
    let appliance = Appliance::start(name)?;
    let share = appliance.share("patched-disk", SIZE_MIB, BLOCK_BYTES)?;
    let guest = Guest::builder(kernel, name, "patched_modules.sh").patched_modules();
    let guest = admitted(&appliance, &share, guest.variable("ROUNDS", rounds))?;
    let results = guest.start()?.finish()?;
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
    let written = blocks(results.number("sectors_written")?)?;
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

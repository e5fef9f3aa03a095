//! nvme-cli and the kernels behind it: answers that make sense, reset and disconnect under I/O, and namespaces that come,
//! grow and go while the host is connected.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use holdfast_e2e::{Appliance, Guest, HostIdentity, Kernel, Results, View};
use serde_json::json;

const SIZE_MIB: u64 = 256;
/// A bound for a hung guest; it boots once and runs about a hundred short commands.
const LIMIT: Duration = Duration::from_secs(900);

#[test]
fn nvme_cli_on_6_1_gets_answers_that_make_sense() -> Result<()> {
    nvme_cli_gets_answers(Kernel::V6_1, 31)
}

#[test]
fn nvme_cli_on_6_12_gets_answers_that_make_sense() -> Result<()> {
    nvme_cli_gets_answers(Kernel::V6_12, 32)
}

fn nvme_cli_gets_answers(kernel: Kernel, number: u32) -> Result<()> {
    let name = format!("nvme_cli_{}", kernel.series());
    let appliance = Appliance::start(&name)?;
    let host = HostIdentity::numbered(number);
    let share = appliance.share("disk", SIZE_MIB, 4096)?;
    appliance.admit("admin", &host, &share, View::Plain)?;
    let mut guest = Guest::builder(kernel, &name, "nvme_cli.sh")
        .host(&host)
        .limit(LIMIT)
        .variable("PORT", appliance.nvme_port())
        .variable("NQN", &share.nqn)
        .variable("UUID", &share.uuid)
        .start()?;
    guest.wait_phase("alone")?;
    let second = json!({"name": "second", "pool": "ram", "size_bytes": 64_u64 << 20, "block_size": 4096});
    appliance.rest().post("/volumes", &second)?;
    appliance.rest().post("/subsystems/disk/namespaces", &json!({"volume": "second", "nsid": 7}))?;
    guest.go_on()?;
    guest.wait_phase("added")?;
    appliance.rest().patch("/volumes/second", &json!({"size_bytes": 96_u64 << 20}))?;
    guest.go_on()?;
    guest.wait_phase("grown")?;
    appliance.rest().delete("/subsystems/disk/namespaces/7")?;
    guest.go_on()?;
    guest.wait_phase("removed")?;
    guest.go_on()?;
    let results = guest.finish()?;
    identify_is_right(&results)?;
    smart_counts_real_units(&results)?;
    ensure!(results.text("cache_off")?.ends_with('0'), "write cache {}", results.text("cache_off")?);
    ensure!(results.number("rounds")? >= 4, "rounds of I/O around three resets");
    ensure!(results.number("kernel_errors")? == 0, "the kernel complained about the controller");
    ensure!(appliance.rest().items("/incidents")?.is_empty(), "nobody is to be accused");
    appliance.stop()
}

fn identify_is_right(results: &Results) -> Result<()> {
    let hex = |key: &str| -> Result<u64> {
        let text = results.text(key)?;
        u64::from_str_radix(text.trim_start_matches("0x"), 16).with_context(|| format!("{key} {text}"))
    };
    // Compare, Write Uncorrectable, Dataset Management, Write Zeroes, Verify, Copy.
    let commands = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 7 | 1 << 8;
    ensure!(hex("oncs")? & commands == commands, "ONCS {}", results.text("oncs")?);
    ensure!(hex("fuses")? & 1 == 1, "FUSES {}", results.text("fuses")?);
    ensure!(hex("vwc")? & 1 == 1, "VWC {}", results.text("vwc")?);
    ensure!(hex("ver")? == 0x2_0100, "VER {}", results.text("ver")?);
    // 1 MiB in units of 4 KiB.
    ensure!(results.number("mdts")? == 8, "MDTS {}", results.text("mdts")?);
    ensure!(hex("nsze")? == (SIZE_MIB << 20) / 4096, "NSZE {}", results.text("nsze")?);
    ensure!(results.text("dps")? == "0", "the plain view has no protection information");
    Ok(())
}

/// 64 MiB read and 32 MiB written, in units of 1000 sectors of 512 bytes, rounded up: what else was read meanwhile (a
/// partition scan, say) is far less than the margin.
fn smart_counts_real_units(results: &Results) -> Result<()> {
    let (read, written) = (results.number("units_read")?, results.number("units_written")?);
    ensure!((131..=133).contains(&read), "{read} units read");
    ensure!((65..=67).contains(&written), "{written} units written");
    ensure!(results.number("reads")? >= 64, "{} Read commands", results.text("reads")?);
    Ok(())
}

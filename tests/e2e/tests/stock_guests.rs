//! Debian's stock kernels use volumes in the plain view: discovery, connect-all, two file systems, digests on and
//! off. What the appliance counted is what the guests' kernels counted, to the block.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{
    Appliance, Guest, GuestBuilder, HostIdentity, Kernel, Results, Share, View, counter, eventually,
};
use serde_json::{Value, json};

const SECTOR_BYTES: u64 = 512;
const SIZE_MIB: u64 = 512;
/// The contract: counters are visible within 2 seconds. The rest is for a busy machine.
const COUNTERS_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn stock_6_1_guest_keeps_its_trees_with_and_without_digests() -> Result<()> {
    one_guest_keeps_its_trees(Kernel::V6_1)
}

#[test]
fn stock_6_12_guest_keeps_its_trees_with_and_without_digests() -> Result<()> {
    one_guest_keeps_its_trees(Kernel::V6_12)
}

#[test]
fn two_stock_guests_at_once_are_told_apart() -> Result<()> {
    let appliance = Appliance::start("two_stock_guests")?;
    let older = Party::admit(&appliance, "older", 11, View::Plain, 512)?;
    let newer = Party::admit(&appliance, "newer", 12, View::Plain, 4096)?;
    let mut first = older.guest(&appliance, Kernel::V6_1, "ext4/bare").variable("MEET", "met").start()?;
    let mut second = newer.guest(&appliance, Kernel::V6_12, "xfs/digests").variable("MEET", "met").start()?;
    // Both have booted and know their disks: from here on they work at the same time.
    first.wait_phase("met")?;
    second.wait_phase("met")?;
    first.go_on()?;
    second.go_on()?;
    let (first, second) = (first.finish()?, second.finish()?);
    older.holds(&appliance, &first)?;
    newer.holds(&appliance, &second)?;

    let hosts = appliance.rest().items("/hosts")?;
    for party in [&older, &newer] {
        let listed = hosts.iter().find(|host| host.get("name") == Some(&json!(party.name)));
        let listed = listed.with_context(|| format!("GET /hosts does not list {}", party.name))?;
        ensure!(listed.get("nqn") == Some(&json!(party.host.nqn)), "{listed}");
    }
    // Each used its own volume only.
    ensure!(appliance.counters(older.name, &newer.share).map_or(0, writes) == 0);
    ensure!(appliance.counters(newer.name, &older.share).map_or(0, writes) == 0);
    ensure!(appliance.rest().items("/incidents")?.is_empty());
    appliance.stop()
}

/// A 6.1 kernel cannot keep tuples, so it sets PRACT=1 on every command: the target inserts and strips, this time
/// because the host asks for it.
#[test]
fn stock_6_1_guest_with_pi_view_keeps_its_trees_by_pract() -> Result<()> {
    let appliance = Appliance::start("pract_guest")?;
    let party = Party::admit(&appliance, "pract", 13, View::Pi, 4096)?;
    let results = party.guest(&appliance, Kernel::V6_1, "ext4/bare xfs/digests").start()?.finish()?;
    // Type 1, tuple in the last eight bytes; data and metadata interleaved (FLBAS bit 4).
    ensure!(results.text("dps")? == "0x1", "dps {}", results.text("dps")?);
    ensure!(results.text("flbas")? == "0x10", "flbas {}", results.text("flbas")?);
    party.counts_agree(&appliance, &results)?;
    appliance.stop()
}

fn one_guest_keeps_its_trees(kernel: Kernel) -> Result<()> {
    let appliance = Appliance::start(&format!("stock_{}", kernel.series()))?;
    let party = Party::admit(&appliance, "stock", 10, View::Plain, 4096)?;
    let rounds = "ext4/bare ext4/digests xfs/bare xfs/digests";
    let results = party.guest(&appliance, kernel, rounds).start()?.finish()?;
    party.holds(&appliance, &results)?;
    ensure!(appliance.rest().items("/incidents")?.is_empty());
    appliance.stop()
}

/// A registered host and the volume it was given.
struct Party {
    name: &'static str,
    host: HostIdentity,
    share: Share,
    block_bytes: u64,
}

impl Party {
    fn admit(
        appliance: &Appliance,
        name: &'static str,
        number: u32,
        view: View,
        block_bytes: u64,
    ) -> Result<Party> {
        let host = HostIdentity::numbered(number);
        let share = appliance.share(&format!("{name}-disk"), SIZE_MIB, block_bytes)?;
        appliance.admit(name, &host, &share, view)?;
        Ok(Party { name, host, share, block_bytes })
    }

    fn guest(&self, appliance: &Appliance, kernel: Kernel, rounds: &str) -> GuestBuilder {
        Guest::builder(kernel, &format!("{}_{}", self.name, kernel.series()), "file_trees.sh")
            .host(&self.host)
            .variable("PORT", appliance.nvme_port())
            .variable("NQN", &self.share.nqn)
            .variable("UUID", &self.share.uuid)
            .variable("ROUNDS", rounds)
    }

    /// A guest in the plain view saw a plain disk of the right size, and its kernel had nothing to complain about.
    fn holds(&self, appliance: &Appliance, results: &Results) -> Result<()> {
        ensure!(results.text("dps")? == "0", "dps {}", results.text("dps")?);
        ensure!(results.number("size_bytes")? == SIZE_MIB << 20);
        self.counts_agree(appliance, results)
    }

    /// The guest's kernel and the appliance counted the same blocks.
    fn counts_agree(&self, appliance: &Appliance, results: &Results) -> Result<()> {
        ensure!(results.number("kernel_errors")? == 0);
        let written = self.blocks(results.number("sectors_written")?)?;
        let read = self.blocks(results.number("sectors_read")?)?;
        ensure!(written > 0 && read > 0);
        // The last second's counts may still be on their way.
        let arrived = |counters: &Value| -> Result<bool> {
            Ok(counter(counters, "write", "blocks_inserted")? >= written
                && counter(counters, "io", "read_bytes")? >= read * self.block_bytes)
        };
        let what = format!("{} on {}: {written} blocks written, {read} read", self.name, self.share.name);
        let seen = eventually(COUNTERS_LIMIT, &what, || {
            let counters = appliance.counters(self.name, &self.share)?;
            ensure!(arrived(&counters)?, "{counters}");
            Ok(Some(counters))
        })?;
        ensure!(counter(&seen, "write", "blocks_inserted")? == written, "{what}: {seen}");
        ensure!(counter(&seen, "read", "blocks_stripped")? == read, "{what}: {seen}");
        ensure!(counter(&seen, "io", "read_bytes")? == read * self.block_bytes, "{what}: {seen}");
        ensure!(counter(&seen, "io", "write_bytes")? == written * self.block_bytes, "{what}: {seen}");
        for section in ["write", "read"] {
            for name in ["guard_errors", "app_tag_errors", "ref_tag_errors", "media_errors"] {
                ensure!(counter(&seen, section, name)? == 0, "{section}.{name}: {seen}");
            }
        }
        Ok(())
    }

    /// A number of 512-byte sectors, as Linux counts whatever the block size, in blocks.
    fn blocks(&self, sectors: u64) -> Result<u64> {
        let bytes = sectors * SECTOR_BYTES;
        ensure!(bytes.is_multiple_of(self.block_bytes), "{sectors} sectors are no whole blocks");
        Ok(bytes / self.block_bytes)
    }
}

fn writes(counters: Value) -> u64 {
    counter(&counters, "write", "blocks_inserted").unwrap_or(0)
}

//! A guest with all patches, its disk on an appliance, and what both say of what it is told to do.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use holdfast_e2e::{Appliance, Guest, HostIdentity, Share, View, counter, host_iqn};
use serde_json::Value;
use tempfile::TempDir;

use crate::cells::{Boot, Cell, FileSystem, Policy, Transport};
use crate::record::Record;

const HOST: &str = "guest";
const SIZE_MIB: u64 = 512;
const MEMORY_MIB: u32 = 1024;
/// The contract: counters are visible within 2 seconds.
const VISIBLE_AFTER: Duration = Duration::from_secs(2);
/// The same, and some for a busy machine.
const VISIBLE_LIMIT: Duration = Duration::from_secs(4);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Drivers that are built in carry tuples when the command line says so.
const WITH_TUPLES: &str = "nvme_tcp.pi=1 iscsi_tcp.pi=1";

/// When a cell is over.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// At the first guard error that the guest hears of.
    Error,
    /// When so many blocks were written.
    Blocks(u64),
}

/// A running guest on a running appliance.
pub(crate) struct Host {
    boot: Boot,
    used: Option<(FileSystem, Policy)>,
    appliance: Appliance,
    share: Share,
    guest: Guest,
}

/// What the target has counted of this host on its volume: writes alone.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    checked: u64,
    inserted: u64,
    guard_errors: u64,
    other_errors: u64,
}

impl Host {
    /// Boots it; `name` names the logs, `limit` bounds a guest that hangs.
    pub(crate) fn start(boot: Boot, name: &str, limit: Duration) -> Result<Host> {
        let appliance = Appliance::start(name)?;
        let share = appliance.share("disk", SIZE_MIB, 4096)?;
        let host = HostIdentity::numbered(67);
        let port = match boot.transport {
            Transport::Nvme => {
                appliance.admit(HOST, &host, &share, View::Pi)?;
                appliance.nvme_port()
            }
            Transport::Iscsi => {
                appliance.admit_initiator(HOST, &share, "pi", "any")?;
                appliance.iscsi_port()
            }
        };
        let folder = TempDir::new()?;
        let wac = folder.path().join("wac");
        holdfast_wac::build(&wac)?;
        let guest = Guest::builder(boot.system.kernel(), name, "policies.sh")
            .host(&host)
            .memory_mib(MEMORY_MIB)
            .limit(limit)
            .kernel_arguments(WITH_TUPLES)
            .file("wac", &std::fs::read(&wac)?)
            .variable("TRANSPORT", boot.transport)
            .variable("PORT", port)
            .variable("NQN", &share.nqn)
            .variable("UUID", &share.uuid)
            .variable("IQN", share.iqn())
            .variable("INITIATOR", host_iqn(HOST))
            .start()?;
        let mut host = Host { boot, used: None, appliance, share, guest };
        host.guest.wait_phase("ready")?;
        let format = host.guest.results()?.text("format")?.to_owned();
        ensure!(format == "T10-DIF-TYPE1-CRC", "the disk's format is {format}");
        Ok(host)
    }

    /// Lets the guest fill one cell.
    pub(crate) fn fill(&mut self, cell: Cell, goal: Goal, limit: Duration) -> Result<Record> {
        self.leave_unless((cell.file_system, cell.policy))?;
        let before = self.counts()?;
        let goal = match goal {
            Goal::Error => "error".to_owned(),
            Goal::Blocks(blocks) => blocks.to_string(),
        };
        let Cell { policy, file_system, load } = cell;
        self.tell(&format!("cell {policy} {file_system} {load} {goal} {}", limit.as_secs()))
            .with_context(|| format!("{cell}, {}", self.boot))?;
        let told = self.guest.results()?.clone();
        ensure!(told.number("runs")? > 0, "{cell}: wac did not run");
        let after = self.settled(before, told.number("written")?)?;
        Ok(Record {
            boot: self.boot,
            cell,
            release: self.boot.system.kernel().release()?,
            date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
            milliseconds: told.number("hundredths")? * 10,
            operations: told.number("operations")?,
            io_errors: told.number("io_errors")?,
            errors: told.text("errors")?.trim().to_owned(),
            guard_errors: after.guard_errors - before.guard_errors,
            other_errors: after.other_errors - before.other_errors,
            guest_guard_errors: told.number("guard_errors")?,
            blocks_checked: after.checked - before.checked,
            blocks_inserted: after.inserted - before.inserted,
            blocks_written: told.number("loaded")?,
        })
    }

    /// What the guest gets done of `load` under `policy`, in bytes each second.
    pub(crate) fn cost(&mut self, policy: Policy, load: &str, time: Duration) -> Result<u64> {
        self.tell(&format!("cost {policy} {load} {}", time.as_secs()))?;
        self.guest.results()?.number("per_second")
    }

    /// The guest ends, and must have seen nothing bad.
    pub(crate) fn end(mut self) -> Result<()> {
        self.guest.go_on_with("end")?;
        let results = self.guest.finish()?;
        let complaints = results.text("complaints")?;
        ensure!(complaints.is_empty(), "the guest's kernel complains: {complaints}");
        self.appliance.stop()
    }

    /// Has the file system of another policy unmounted. What that still writes, or has written since its last cell, may be without
    /// tuples, and is not to be counted in the next cell.
    fn leave_unless(&mut self, next: (FileSystem, Policy)) -> Result<()> {
        if self.used.is_some_and(|used| used != next) {
            self.tell("leave")?;
            thread::sleep(VISIBLE_AFTER);
        }
        self.used = Some(next);
        Ok(())
    }

    fn tell(&mut self, words: &str) -> Result<()> {
        self.guest.go_on_with(words)?;
        self.guest.wait_phase("ready")
    }

    /// The counts after `written` more blocks, as soon as all of them are counted; failed ones and those of Write Zeroes never are.
    fn settled(&self, before: Counts, written: u64) -> Result<Counts> {
        let deadline = Instant::now() + VISIBLE_LIMIT;
        loop {
            let counts = self.counts()?;
            let counted = counts.checked + counts.inserted - before.checked - before.inserted;
            if counted >= written || Instant::now() >= deadline {
                return Ok(counts);
            }
            thread::sleep(LOOK_AGAIN_AFTER);
        }
    }

    fn counts(&self) -> Result<Counts> {
        let answer = self.appliance.rest().get(&format!("/hosts/{HOST}/counters"))?;
        let volumes = answer.get("volumes").and_then(Value::as_array).context("no volumes")?;
        let ours =
            |entry: &&Value| entry.get("volume").and_then(Value::as_str) == Some(self.share.name.as_str());
        // Nothing is counted before the host's first command.
        let Some(volume) = volumes.iter().find(ours) else { return Ok(Counts::default()) };
        let write = |name: &str| counter(volume, "write", name);
        Ok(Counts {
            checked: write("blocks_checked")?,
            inserted: write("blocks_inserted")?,
            guard_errors: write("guard_errors")?,
            other_errors: write("app_tag_errors")? + write("ref_tag_errors")? + write("media_errors")?,
        })
    }
}

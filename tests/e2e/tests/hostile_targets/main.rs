//! Linux hosts that carry protection information, before targets that misbehave: wrong lengths, data for others, tuples cut in two,
//! connections that end within one, formats that the driver does not know. A command fails or the connection is made anew; nothing
//! crashes, hangs or leaks, and no wrong block gets through either way.
//!
//! Each third case, unless `HOLDFAST_HOSTILE` is set: then those with this word in their names, all of them if it is empty.
//!
//! They run on Debian's 6.12 with the modules of `kernel-patches/dkms`, and, when asked for by name, on a kernel with everything that
//! finds mistakes (`tests/e2e/prepare debug-kernel 6.12`).

#![allow(clippy::indexing_slicing, reason = "tests may fail by panicking")]

mod capacity;
mod expected;
mod formats;
mod iscsi;
mod nvme;
mod paths;

use std::env;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use expected::Case;
use formats::FORMATS;
use holdfast_e2e::interposer::{Act, Interposer, Wire, iscsi::Iscsi, nvme::Nvme};
use holdfast_e2e::{
    Appliance, Guest, GuestBuilder, HostIdentity, Kernel, Results, Share, View, counter, eventually,
};
use serde_json::json;

const SIZE_MIB: u64 = 64;
const BLOCK_BYTES: u64 = 4096;
/// Of so many cases one runs with the other tests; `tests/run e2e-long` and `e2e-debug` run all.
const SAMPLE: usize = 3;
const COUNTERS_LIMIT: Duration = Duration::from_secs(20);

/// What the guest runs on.
#[derive(Debug, Clone, Copy)]
struct Host {
    kernel: Kernel,
    /// After how long the guest gives a command up that nobody answers, in seconds.
    timeout_s: u32,
    /// How long a command may take, resets and retries included, in seconds.
    bound_s: u32,
    limit: Duration,
}

const STOCK: Host =
    Host { kernel: Kernel::V6_12, timeout_s: 4, bound_s: 60, limit: Duration::from_secs(1800) };
const DEBUG: Host =
    Host { kernel: Kernel::Debug6_12, timeout_s: 20, bound_s: 180, limit: Duration::from_secs(3600) };

impl Host {
    fn guest(self, name: &str, script: &str) -> Result<GuestBuilder> {
        let guest = Guest::builder(self.kernel, name, script)
            .limit(self.limit)
            .file("hostile.sh", include_bytes!("../../guest/hostile.sh"))
            .variable("IO_TIMEOUT", self.timeout_s)
            .variable("BOUND", self.bound_s);
        Ok(match self.kernel {
            Kernel::Debug6_12 => guest.memory_mib(1536).kernel_arguments("nvme_tcp.pi=1 iscsi_tcp.pi=1"),
            _ => guest.patched_modules(),
        })
    }
}

#[test]
fn nvme_hosts_withstand_hostile_targets() -> Result<()> {
    nvme_hosts_withstand(STOCK, "hostile_nvme")
}

/// Hours of a processor are in its kernel: a long stage of `tests/run`.
#[test]
fn nvme_hosts_withstand_hostile_targets_on_a_debug_kernel() -> Result<()> {
    nvme_hosts_withstand(DEBUG, "hostile_nvme_debug")
}

fn nvme_hosts_withstand(host: Host, name: &str) -> Result<()> {
    let appliance = Appliance::start(name)?;
    let identity = HostIdentity::numbered(71);
    let share = appliance.share("hostile", SIZE_MIB, BLOCK_BYTES)?;
    appliance.admit("victim", &identity, &share, View::Pi)?;
    let between = Interposer::<Nvme>::before(appliance.nvme_port())?;
    let formats = FORMATS.iter().map(|format| Lie::new(format.name, format.usable, format.rule())).collect();
    let guest = host
        .guest(name, "hostile_nvme.sh")?
        .host(&identity)
        .variable("PORT", between.port())
        .variable("HONEST_PORT", appliance.nvme_port())
        .variable("NQN", &share.nqn)
        .variable("UUID", &share.uuid);
    withstands(guest, &between, nvme::cases(), formats)?;
    nothing_inserted(&appliance, &share)?;
    appliance.stop()
}

#[test]
fn iscsi_initiators_withstand_hostile_targets() -> Result<()> {
    iscsi_initiators_withstand(STOCK, "hostile_iscsi")
}

/// A long stage of `tests/run`.
#[test]
fn iscsi_initiators_withstand_hostile_targets_on_a_debug_kernel() -> Result<()> {
    iscsi_initiators_withstand(DEBUG, "hostile_iscsi_debug")
}

fn iscsi_initiators_withstand(host: Host, name: &str) -> Result<()> {
    const IQN: &str = "iqn.2026-11.io.example:victim";
    let appliance = Appliance::start(name)?;
    let share = appliance.share("hostile", SIZE_MIB, BLOCK_BYTES)?;
    let rest = appliance.rest();
    rest.post("/hosts", &json!({"name": "victim", "iqn": IQN}))?;
    rest.put("/subsystems/hostile/hosts/victim", &json!({"view": "pi", "enforce": "any"}))?;
    let between = Interposer::<Iscsi>::before(appliance.iscsi_port())?;
    let formats = capacity::LIES.iter().map(|lie| Lie::new(lie.name, true, lie.rule())).collect();
    let guest = host
        .guest(name, "hostile_iscsi.sh")?
        .variable("PORT", between.port())
        .variable("HONEST_PORT", appliance.iscsi_port())
        .variable("IQN", share.iqn())
        .variable("INITIATOR", IQN);
    withstands(guest, &between, iscsi::cases(), formats)?;
    nothing_inserted(&appliance, &share)?;
    appliance.stop()
}

/// What a target says of its disk.
struct Lie<S> {
    name: &'static str,
    /// Whether a disk may come of it that has any room at all.
    usable: bool,
    rule: Box<dyn FnMut(&S) -> Act + Send>,
}

impl<S> Lie<S> {
    fn new(name: &'static str, usable: bool, rule: impl FnMut(&S) -> Act + Send + 'static) -> Self {
        Lie { name, usable, rule: Box::new(rule) }
    }
}

/// One guest goes through all of it.
fn withstands<W: Wire>(
    guest: GuestBuilder,
    between: &Interposer<W>,
    mut cases: Vec<Case<W::Seen>>,
    mut lies: Vec<Lie<W::Seen>>,
) -> Result<()> {
    if let Ok(word) = env::var("HOLDFAST_HOSTILE") {
        cases.retain(|case| case.name.contains(&word));
        lies.retain(|lie| lie.name.contains(&word));
    } else {
        cases = cases.into_iter().step_by(SAMPLE).collect();
        lies = lies.into_iter().step_by(SAMPLE).collect();
    }
    let words: Vec<String> = cases.iter().map(|case| format!("{}/{}", case.name, case.operation)).collect();
    let names: Vec<&str> = lies.iter().map(|lie| lie.name).collect();
    let mut guest = guest.variable("CASES", words.join(" ")).variable("FORMATS", names.join(" ")).start()?;
    let expected: Vec<_> = cases.iter().map(|case| (case.name, case.expected)).collect();
    let usable: Vec<_> = lies.iter().map(|lie| (lie.name, lie.usable)).collect();
    for case in cases {
        guest.wait_phase(case.name)?;
        between.set_for(case.times, case.rule);
        stand_by(&mut guest, between, case.name)?;
    }
    for lie in lies {
        guest.wait_phase(lie.name)?;
        between.set(lie.rule);
        stand_by(&mut guest, between, lie.name)?;
    }
    let results = guest.finish()?;
    let mut wrong = Vec::new();
    for (name, expected) in expected {
        let ended = results.text(name)?;
        println!("{name}: {ended}");
        if !expected.is(ended) {
            wrong.push(format!("{name}: expected {expected:?}, got `{ended}`"));
        }
    }
    for (name, usable) in usable {
        let ended = results.text(name)?;
        println!("{name}: {ended}");
        if !usable && !ended.starts_with("0 ") {
            wrong.push(format!("{name}: is used, `{ended}`"));
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    is_unharmed(&results)
}

/// The guest does what a case is about, while its rule is in force.
fn stand_by<W: Wire>(guest: &mut Guest, between: &Interposer<W>, name: &str) -> Result<()> {
    let before = between.changed();
    guest.go_on()?;
    guest.wait_phase(&format!("{name}-over"))?;
    between.clear();
    ensure!(between.changed() > before, "{name}: the rule never applied");
    guest.go_on()
}

/// The kernel said nothing of mistakes of its own.
fn is_unharmed(results: &Results) -> Result<()> {
    ensure!(results.number("reports")? == 0, "the kernel reports mistakes: see its console");
    // Where it can tell.
    ensure!(
        results.text("leaks").is_err() || results.number("leaks")? == 0,
        "the kernel leaks: see its console"
    );
    Ok(())
}

/// What came to the target was the host's own, and right.
fn nothing_inserted(appliance: &Appliance, share: &Share) -> Result<()> {
    eventually(COUNTERS_LIMIT, "counters", || {
        let seen = appliance.counters("victim", share)?;
        ensure!(counter(&seen, "write", "blocks_checked")? > 0, "{seen}");
        Ok(Some(()))
    })?;
    let seen = appliance.counters("victim", share)?;
    for name in ["blocks_inserted", "blocks_unchecked", "guard_errors", "ref_tag_errors", "app_tag_errors"] {
        ensure!(counter(&seen, "write", name).with_context(|| seen.to_string())? == 0, "{name}: {seen}");
    }
    ensure!(counter(&seen, "read", "guard_errors")? == 0, "{seen}");
    Ok(())
}

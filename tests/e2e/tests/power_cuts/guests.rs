//! A Linux host's ext4 on a pool that forgets: guest and appliance lose their power together, at any moment. The next guest finds
//! a file system that its journal makes whole, and every file that was synchronised.
//!
//! A guest that went on while only the target lost its power would know of writes that are gone; no file system is made for
//! that.

use std::time::Instant;

use anyhow::{Context as _, Result};
use holdfast_e2e::{Appliance, Backing, Guest, HostIdentity, Kernel, Results, Setup, Share, View};

use crate::content::Random;
use crate::rounds::LOSSY;
use crate::tally::Tally;

const SIZE_MIB: u64 = 256;
/// Files that are synchronised before the power goes: at least, and so many more at most.
const FILES_MIN: u64 = 5;
const FILES_MORE: u64 = 40;

/// So many losses of power under one file system, and a last look.
///
/// # Errors
/// With the round, when a guest does not find what it must find.
pub(crate) fn run(seed: u64, cuts: u64) -> Result<Tally> {
    let started = Instant::now();
    let name = format!("power_guest_{seed}");
    let some = format!("some:{seed}");
    let loss = if seed.is_multiple_of(2) { "all" } else { &some };
    let setup = Setup { environment: &[(LOSSY, loss)], backing: Some(Backing::File), ..Setup::default() };
    let mut appliance = Appliance::start_as(&name, setup)?;
    let host = HostIdentity::numbered(51);
    let share = appliance.share("disk", SIZE_MIB, 4096)?;
    appliance.admit("guest", &host, &share, View::Plain)?;
    let kernel = if seed.is_multiple_of(2) { Kernel::V6_12 } else { Kernel::V6_1 };
    let mut random = Random(seed);
    let mut tally = Tally::default();
    let mut manifest = String::new();
    for round in 0..=cuts {
        let context =
            || format!("seed {seed}, round {round}, {} files synchronised", manifest.lines().count());
        let mut guest =
            boot(&appliance, kernel, &host, &share, &manifest, [round, cuts]).with_context(context)?;
        guest.wait_phase("checked").with_context(context)?;
        guest.go_on()?;
        if round == cuts {
            guest.finish()?;
            break;
        }
        guest.wait_results(FILES_MIN + random.below(FILES_MORE)).with_context(context)?;
        // The appliance first: what the guest is told afterwards can only be what was true then.
        appliance.cut_power()?;
        manifest = listed(&guest.cut_power()?);
        appliance = appliance.power_up(&name)?;
        tally.cuts += 1;
        tally.files += manifest.lines().count() as u64;
        println!("seed {seed}, round {round}: {} files synchronised", manifest.lines().count());
    }
    tally.milliseconds = started.elapsed().as_millis() as u64;
    appliance.stop()?;
    Ok(tally)
}

fn boot(
    appliance: &Appliance,
    kernel: Kernel,
    host: &HostIdentity,
    share: &Share,
    manifest: &str,
    [round, rounds]: [u64; 2],
) -> Result<Guest> {
    // Every second guest tells the target which blocks it no longer needs.
    let options = if round.is_multiple_of(2) { "discard" } else { "nodiscard" };
    Guest::builder(kernel, &format!("power_{}_{round}", kernel.series()), "power_ext4.sh")
        .host(host)
        .variable("PORT", appliance.nvme_port())
        .variable("NQN", &share.nqn)
        .variable("UUID", &share.uuid)
        .variable("ROUND", round)
        .variable("ROUNDS", rounds)
        .variable("OPTIONS", options)
        .file("manifest", manifest.as_bytes())
        .start()
}

/// What `sha256sum -c` reads.
fn listed(results: &Results) -> String {
    results.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect()
}

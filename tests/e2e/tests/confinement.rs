//! What the target may do once it serves, whichever interface it does its I/O by; and that it serves where a sandbox refuses
//! io_uring.

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{Appliance, Plane, Share};
use holdfast_testkit::Options;
use serde_json::json;

/// How the log's line begins that tells of the fallback.
const FALLBACK: &str = "io_uring is refused (";

/// A field of a thread's `status`, proc(5).
fn field<'a>(status: &'a str, name: &str) -> Result<&'a str> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(value.with_context(|| format!("no {name} in {status}"))?.trim())
}

/// Demands that no thread of the target has any capability, or a way to one, or more system calls than it needs.
fn target_is_confined(appliance: &Appliance) -> Result<()> {
    let threads = appliance.threads(Plane::Data)?;
    ensure!(threads.len() >= 5, "the main thread, a core, and those who wait: {}", threads.len());
    for status in threads {
        let name = field(&status, "Name")?;
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            // Only who may set capabilities may empty the bounding set; without a way to execute anything it says nothing.
            if set == "CapBnd" && !rustix::process::geteuid().is_root() {
                continue;
            }
            let value = field(&status, set)?;
            ensure!(u64::from_str_radix(value, 16)? == 0, "thread {name}: {set} {value}");
        }
        ensure!(field(&status, "NoNewPrivs")? == "1", "thread {name} may gain privileges");
        ensure!(field(&status, "Seccomp")? == "2", "thread {name} has no filter");
    }
    Ok(())
}

fn start(name: &str, arguments: &[&str]) -> Result<(Appliance, Share)> {
    let appliance = Appliance::start_with(name, arguments)?;
    let share = appliance.share("confined", 16, 4096)?;
    appliance.admit_scripted("host", &share, "plain", "any")?;
    Ok((appliance, share))
}

/// Sessions, pools and volumes that come and go, a target that dies and comes back: all of it under the filter.
fn everything_works(appliance: &Appliance, share: &Share) -> Result<()> {
    target_is_confined(appliance)?;
    let before = appliance.process(Plane::Data)?;
    appliance.works_for("host", share, 0)?;
    let rest = appliance.rest();
    appliance.make_pool("later", 64 << 20, 1.0)?;
    rest.post("/volumes", &json!({"name": "v2", "pool": "later", "size_bytes": 16 << 20}))?;
    rest.delete("/volumes/v2")?;
    rest.delete("/pools/later")?;
    for lba in [8, 16] {
        appliance.works_for("host", share, lba)?;
    }
    appliance.same_target(before)?;
    appliance.kill(Plane::Data)?;
    let again = || Ok(appliance.session("host", share, Options::default()).ok());
    holdfast_e2e::eventually(std::time::Duration::from_secs(30), "a session after the kill", again)?
        .close()?;
    appliance.works_for("host", share, 24)?;
    target_is_confined(appliance)
}

#[test]
fn a_target_on_io_uring_serves_without_any_privilege() -> Result<()> {
    let (appliance, share) = start("confined_uring", &["--io", "uring"])?;
    everything_works(&appliance, &share)?;
    ensure!(!appliance.log()?.contains(FALLBACK), "nothing was refused");
    appliance.stop()
}

#[test]
fn a_target_on_epoll_serves_without_any_privilege() -> Result<()> {
    let (appliance, share) = start("confined_epoll", &["--io", "epoll"])?;
    everything_works(&appliance, &share)?;
    ensure!(!appliance.log()?.contains(FALLBACK), "epoll was asked for");
    appliance.stop()
}

/// Runs `work` on a thread for which, and for whose children, the kernel has no io_uring to offer.
fn without_io_uring(work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    let filter = json!({"sandbox": {
        "mismatch_action": "allow", "match_action": {"errno": 1}, "filter": [{"syscall": "io_uring_setup"}]
    }});
    let arch = std::env::consts::ARCH.try_into()?;
    let programs = seccompiler::compile_from_json(filter.to_string().as_bytes(), arch)?;
    let sandboxed = move || {
        for program in programs.values() {
            seccompiler::apply_filter(program)?;
        }
        work()
    };
    std::thread::scope(|scope| scope.spawn(sandboxed).join()).map_err(|_| anyhow::anyhow!("a panic"))?
}

#[test]
fn a_target_in_a_sandbox_that_refuses_io_uring_serves_and_says_once_what_to_do() -> Result<()> {
    without_io_uring(|| {
        let (appliance, share) = start("sandboxed", &["--cores", "0-1"])?;
        let told = || -> Result<usize> { Ok(appliance.log()?.matches(FALLBACK).count()) };
        ensure!(told()? == 1, "once per start, whatever the number of cores: {}", told()?);
        ensure!(appliance.log()?.contains("kernel.io_uring_disabled"), "what to do");
        everything_works(&appliance, &share)?;
        ensure!(told()? == 2, "and again by the target that came after it: {}", told()?);
        appliance.stop()
    })
}

#[test]
fn who_insists_on_io_uring_is_told_that_it_is_refused() -> Result<()> {
    without_io_uring(|| {
        let refused = Appliance::start_with("insists", &["--io", "uring"]);
        let error = refused.err().context("started without what was asked for")?;
        ensure!(format!("{error:#}").contains("refuses an io_uring"), "{error:#}");
        Ok(())
    })
}

//! A block changes in the target's memory, behind all checks of its write. Who reads it gets an error and no data: from the target, where
//! the command asks for a check; from the host's own kernel, where it does not.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::interposer::{Act, Interposer, Side, Wire, iscsi, nvme};
use holdfast_e2e::{Appliance, Guest, HostIdentity, Kernel, Results, Share, counter, eventually};
use holdfast_testkit::wire::{Pdu, opcode};
use serde_json::{Value, json};

const HOST: &str = "reader";
const IQN: &str = "iqn.2026-11.io.example:reader";
const SIZE_MIB: u64 = 64;
const BLOCK_BITS: u64 = 8 * 4096;
const SEEN_LIMIT: Duration = Duration::from_secs(30);
/// Blocks and the bits of them that change: of the data, of the guard, and of the reference tag.
const DRILLS: [(u64, u64); 3] = [(40, 12345), (50, BLOCK_BITS + 3), (60, BLOCK_BITS + 61)];
/// A block to which nothing happens.
const INTACT: u64 = 45;

/// READ (10) and READ (16), and the values of RDPROTECT in byte 1 of a CDB. SBC-4 §5.15 "READ (10) command".
const READS: [u8; 2] = [0x28, 0x88];
const RDPROTECT_UNCHECKED: u8 = 0b011 << 5;
/// PRCHK in dword 12 of Read. NVM Command Set 1.1 §3.3.4 "Read command".
const PRCHK: u32 = 0b111 << 26;

#[test]
fn a_block_that_changed_in_the_target_is_found_over_nvme() -> Result<()> {
    let appliance = Appliance::start_with("read_drills_nvme", &["--enable-drills"])?;
    let between = Interposer::<nvme::Nvme>::before(appliance.nvme_port())?;
    changed_blocks_are_found(appliance, &between, "nvme", |seen| match &seen.pdu {
        Pdu::CapsuleCmd { sqe, data } if seen.io() == Some(opcode::READ) => {
            let sqe = sqe.cdw(12, sqe.dword(12) & !PRCHK);
            Act::Send(seen.bytes(&Pdu::CapsuleCmd { sqe, data: data.clone() }))
        }
        _ => Act::Pass,
    })
}

#[test]
fn a_block_that_changed_in_the_target_is_found_over_iscsi() -> Result<()> {
    let appliance = Appliance::start_with("read_drills_iscsi", &["--enable-drills"])?;
    let between = Interposer::<iscsi::Iscsi>::before(appliance.iscsi_port())?;
    changed_blocks_are_found(appliance, &between, "iscsi", |seen| match seen.cdb {
        Some([code, flags, ..]) if seen.from == Side::Host && READS.contains(&code) => {
            let flags = flags & 0x1f | RDPROTECT_UNCHECKED;
            // The CDB begins at byte 32 of the header.
            Act::Send(seen.bytes(&seen.pdu.clone().byte(33, flags)))
        }
        _ => Act::Pass,
    })
}

fn changed_blocks_are_found<W: Wire>(
    appliance: Appliance,
    between: &Interposer<W>,
    transport: &str,
    unchecked: impl FnMut(&W::Seen) -> Act + Send + 'static,
) -> Result<()> {
    let host = HostIdentity::numbered(72);
    let share = appliance.share("drilled", SIZE_MIB, 4096)?;
    let rest = appliance.rest();
    rest.post("/hosts", &json!({"name": HOST, "nqn": host.nqn, "iqn": IQN}))?;
    rest.put(&format!("/subsystems/{}/hosts/{HOST}", share.name), &json!({"view": "pi", "enforce": "any"}))?;
    for (lba, bit) in DRILLS {
        let drill = json!({"volume": share.name, "lba": lba, "stage": "target-memory", "bit": bit});
        rest.post("/drills", &drill)?;
    }
    let mut guest = Guest::builder(Kernel::V6_12, &format!("read_drills_{transport}"), "read_drills.sh")
        .host(&host)
        .patched_modules()
        .file("hostile.sh", include_bytes!("../guest/hostile.sh"))
        .variable("TRANSPORT", transport)
        .variable("PORT", between.port())
        .variable("NQN", &share.nqn)
        .variable("UUID", &share.uuid)
        .variable("IQN", share.iqn())
        .variable("INITIATOR", IQN)
        .variable("LBAS", DRILLS.map(|(lba, _)| lba.to_string()).join(" "))
        .variable("INTACT", INTACT)
        .start()?;
    guest.wait_phase("written")?;
    guest.go_on()?;
    guest.wait_phase("checked_by_target")?;
    let found = found_by_target(&appliance, &share)?;
    between.set(unchecked);
    guest.go_on()?;
    guest.wait_phase("checked_by_host")?;
    ensure!(between.changed() >= DRILLS.len() as u64, "no check was taken out of a command");
    between.clear();
    nothing_more_found(&appliance, &share, &found)?;
    guest.go_on()?;
    let results = guest.finish()?;
    who_found_it(&results)?;
    appliance.stop()
}

/// The target's counters, once they show what it has found; its incidents accuse the target itself.
fn found_by_target(appliance: &Appliance, share: &Share) -> Result<Value> {
    let errors = |seen: &Value| -> Result<u64> {
        Ok(counter(seen, "read", "guard_errors")? + counter(seen, "read", "ref_tag_errors")?)
    };
    let found = eventually(SEEN_LIMIT, "the errors that the target found", || {
        let seen = appliance.counters(HOST, share)?;
        // The kernel may ask again before it gives up.
        Ok((errors(&seen)? >= DRILLS.len() as u64).then_some(seen))
    })?;
    eventually(SEEN_LIMIT, "verdicts", || {
        let incidents = appliance.rest().items(&format!("/incidents?volume={}", share.name))?;
        let guards = incidents.iter().filter(|incident| incident.get("tag") == Some(&json!("guard")));
        let verdicts: Vec<_> = guards.map(|incident| incident.get("verdict").cloned()).collect();
        ensure!(!verdicts.is_empty());
        ensure!(verdicts.iter().all(|verdict| *verdict == Some(json!("target"))), "{incidents:?}");
        Ok(Some(()))
    })?;
    Ok(found)
}

/// After its reads without a check the target knows of no more errors, only of blocks that it did not look at.
fn nothing_more_found(appliance: &Appliance, share: &Share, found: &Value) -> Result<()> {
    let unchecked = |seen: &Value| counter(seen, "read", "blocks_unchecked");
    let expected = unchecked(found)? + DRILLS.len() as u64;
    let seen = eventually(SEEN_LIMIT, "blocks that were not checked", || {
        let seen = appliance.counters(HOST, share)?;
        Ok((unchecked(&seen)? >= expected).then_some(seen))
    })?;
    for name in ["guard_errors", "ref_tag_errors", "app_tag_errors"] {
        let counts = [found, &seen].map(|counters| counter(counters, "read", name));
        let [before, after] = counts;
        ensure!(before? == after?, "{name}: {found} and {seen}");
    }
    Ok(())
}

fn who_found_it(results: &Results) -> Result<()> {
    // The host looks only at what the target let through.
    ensure!(results.number("found_by_target_too")? == 0);
    let found = results.number("found_by_host").context("the host's own check")?;
    ensure!(found >= DRILLS.len() as u64, "the host found {found} of {}", DRILLS.len());
    ensure!(results.number("reports")? == 0, "the kernel reports mistakes: see its console");
    Ok(())
}

//! Write with tuples from the host. NVM Command Set 1.1 §5.3.2.1 "Protection Information and Write Commands", §5.3.3
//! "Control of Protection Information Checking - PRCHK".

use anyhow::{Context as _, Result};

use super::{BAD_APP, BAD_BLOCKS, BAD_GUARD, BAD_REF, BAD_STORAGE, BLOCKS, Fault, Host, over_formats};
use crate::fields::{done, refused};
use crate::{Case, Format, Lab};

const WRITE: &str = "NVM Command Set 1.1 §5.3.2.1 \"Protection Information and Write Commands\"";
const CHECK: &str = "NVM Command Set 1.1 §5.3.3 \"Control of Protection Information Checking - PRCHK\"";

/// Nothing is checked, anything is stored.
pub(crate) const AS_SENT: &[Case] = &over_formats!("protection.write.as-sent", WRITE, stored_as_sent);
/// Good tuples pass all checks.
pub(crate) const CHECKED: &[Case] = &over_formats!("protection.write.good", CHECK, good_tuples_pass);
/// A bad guard.
pub(crate) const GUARD: &[Case] = &over_formats!("protection.write.guard", CHECK, bad_guard);
/// A bad application tag.
pub(crate) const APP: &[Case] = &over_formats!("protection.write.app", CHECK, bad_app);
/// A bad reference tag.
pub(crate) const REF: &[Case] = &over_formats!("protection.write.ref", CHECK, bad_ref);
/// A bad storage tag.
pub(crate) const STORAGE: &[Case] = &over_formats!("protection.write.storage", CHECK, bad_storage);
/// Several bad blocks.
pub(crate) const FIRST: &[Case] = &over_formats!("protection.write.first-fault", CHECK, first_fault_is_told);

const LBA: u64 = 32;

fn stored_as_sent(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let mut blocks = host.blocks(1, LBA, BLOCKS);
    for index in BAD_BLOCKS {
        for fault in [BAD_GUARD, BAD_APP, BAD_REF, BAD_STORAGE] {
            host.bend(&mut blocks, index, fault.bend)?;
        }
    }
    host.store(LBA, &blocks)?;
    host.holds(LBA, &blocks)
}

fn good_tuples_pass(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let blocks = host.blocks(2, LBA, BLOCKS);
    let io = host.checked(LBA, BLOCKS);
    done(&host.io().write(1, &io, &blocks)?)?;
    host.holds(LBA, &blocks)?;
    let len = host.len(BLOCKS);
    done(&host.io().read(1, &io, len)?).context("read with the same checks")
}

/// The bad block is refused with the others; without the check it is stored.
fn bad(lab: &mut Lab, format: Format, fault: Fault) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let old = host.blocks(3, LBA, BLOCKS);
    for index in BAD_BLOCKS {
        host.store(LBA, &old)?;
        let mut new = host.blocks(4, LBA, BLOCKS);
        host.bend(&mut new, index, fault.bend)?;
        let io = host.checked(LBA, BLOCKS);
        refused(&host.io().write(1, &io, &new)?, fault.status).with_context(|| format!("block {index}"))?;
        host.holds(LBA, &old).context("nothing of a refused write is stored")?;
        host.store(LBA, &new)?;
    }
    Ok(())
}

fn bad_guard(lab: &mut Lab, format: Format) -> Result<()> {
    bad(lab, format, BAD_GUARD)
}

fn bad_app(lab: &mut Lab, format: Format) -> Result<()> {
    bad(lab, format, BAD_APP)
}

/// Demands that a fault in what is not checked passes.
fn passes(host: &mut Host, fault: Fault) -> Result<()> {
    let mut blocks = host.blocks(5, LBA, BLOCKS);
    host.bend(&mut blocks, 3, fault.bend)?;
    let io = host.checked(LBA, BLOCKS);
    done(&host.io().write(1, &io, &blocks)?)?;
    host.holds(LBA, &blocks)
}

/// Type 3 has no reference tag check, and where storage tags take all bits there is no reference tag.
fn bad_ref(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    if host.checks_ref() { bad(lab, format, BAD_REF) } else { passes(&mut host, BAD_REF) }
}

/// Without a storage tag STC means nothing; with one it is compared only when STC is set.
fn bad_storage(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    if !host.has_storage_tag() {
        return passes(&mut host, BAD_STORAGE);
    }
    bad(lab, format, BAD_STORAGE)?;
    let mut blocks = host.blocks(6, LBA, BLOCKS);
    host.bend(&mut blocks, 5, BAD_STORAGE.bend)?;
    let io = host.at(LBA, BLOCKS).check_guard().check_app();
    done(&host.io().write(1, &io, &blocks)?).context("without STC")
}

/// The lowest bad block decides.
fn first_fault_is_told(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let old = host.blocks(7, LBA, BLOCKS);
    host.store(LBA, &old)?;
    for (first, second) in [(BAD_APP, BAD_GUARD), (BAD_GUARD, BAD_APP)] {
        let mut blocks = host.blocks(8, LBA, BLOCKS);
        host.bend(&mut blocks, 2, first.bend)?;
        host.bend(&mut blocks, 6, second.bend)?;
        let io = host.checked(LBA, BLOCKS);
        refused(&host.io().write(1, &io, &blocks)?, first.status)?;
        host.holds(LBA, &old)?;
    }
    Ok(())
}

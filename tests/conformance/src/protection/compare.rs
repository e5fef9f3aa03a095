//! Compare with tuples. NVM Command Set 1.1 §5.3.2.4 "Protection Information and Compare commands", §3.3.1 "Compare
//! command": tuples are checked on both sides, and never compared.

use anyhow::{Context as _, Result};
use holdfast_testkit::wire::code;

use super::{BAD_APP, BAD_BLOCKS, BAD_GUARD, BAD_REF, BAD_STORAGE, BLOCKS, Fault, Host, over_formats};
use crate::check::status;
use crate::fields::done;
use crate::{Case, Format, Lab};

const COMPARE: &str = "NVM Command Set 1.1 §3.3.1 \"Compare command\"";
const BOTH: &str = "NVM Command Set 1.1 §5.3.2.4 \"Protection Information and Compare commands\"";

/// Data decides, tuples do not.
pub(crate) const DATA: &[Case] = &over_formats!("protection.compare.data", COMPARE, only_data_is_compared);
/// The host's tuples are checked.
pub(crate) const HOST: &[Case] =
    &over_formats!("protection.compare.host", BOTH, the_hosts_tuples_are_checked);
/// The stored tuples are checked.
pub(crate) const STORED: &[Case] =
    &over_formats!("protection.compare.stored", BOTH, the_stored_tuples_are_checked);

const LBA: u64 = 192;

fn only_data_is_compared(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let blocks = host.blocks(51, LBA, BLOCKS);
    host.store(LBA, &blocks)?;
    let checked = host.checked(LBA, BLOCKS);
    done(&host.io().compare(1, &checked, &blocks)?).context("the same blocks")?;
    // Other tuples, the same data.
    let mut other = blocks.clone();
    for index in BAD_BLOCKS {
        host.bend(&mut other, index, BAD_APP.bend)?;
    }
    let unchecked = host.at(LBA, BLOCKS);
    done(&host.io().compare(1, &unchecked, &other)?).context("other application tags")?;
    // Other data, with good guards.
    for index in BAD_BLOCKS {
        let mut data = host.data_of(&blocks);
        if let Some(byte) = data.get_mut(index * host.block() + 17) {
            *byte ^= 0x40;
        }
        let differs = host.pi.protect(&data, host.block(), host.tags(LBA));
        status(&host.io().compare(1, &checked, &differs)?, code::COMPARE_FAILURE)
            .with_context(|| format!("block {index} differs"))?;
        status(&host.io().compare(1, &unchecked, &differs)?, code::COMPARE_FAILURE)?;
    }
    host.holds(LBA, &blocks)
}

/// What this format checks.
fn faults(host: &Host) -> Vec<Fault> {
    let mut faults = vec![BAD_GUARD, BAD_APP];
    faults.extend(host.checks_ref().then_some(BAD_REF));
    faults.extend(host.has_storage_tag().then_some(BAD_STORAGE));
    faults
}

fn the_hosts_tuples_are_checked(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let blocks = host.blocks(52, LBA, BLOCKS);
    host.store(LBA, &blocks)?;
    for fault in faults(&host) {
        for index in BAD_BLOCKS {
            let mut bad = blocks.clone();
            host.bend(&mut bad, index, fault.bend)?;
            let io = host.checked(LBA, BLOCKS);
            status(&host.io().compare(1, &io, &bad)?, fault.status)
                .with_context(|| format!("block {index}"))?;
        }
    }
    Ok(())
}

fn the_stored_tuples_are_checked(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let blocks = host.blocks(53, LBA, BLOCKS);
    for fault in faults(&host) {
        let mut bad = blocks.clone();
        host.bend(&mut bad, 5, fault.bend)?;
        host.store(LBA, &bad)?;
        let (io, unchecked) = (host.checked(LBA, BLOCKS), host.at(LBA, BLOCKS));
        status(&host.io().compare(1, &io, &blocks)?, fault.status)?;
        done(&host.io().compare(1, &unchecked, &blocks)?).context("unchecked")?;
    }
    Ok(())
}

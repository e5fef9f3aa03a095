//! Verify with checks. NVM Command Set 1.1 §3.3.5 "Verify command".

use anyhow::{Context as _, Result};

use super::{BAD_APP, BAD_BLOCKS, BAD_GUARD, BAD_REF, BAD_STORAGE, BLOCKS, Host, over_formats};
use crate::check::status;
use crate::fields::done;
use crate::{Case, Format, Lab};

const CLAUSE: &str = "NVM Command Set 1.1 §3.3.5 \"Verify command\"";

/// Good blocks.
pub(crate) const GOOD: &[Case] = &over_formats!("protection.verify.good", CLAUSE, good_blocks_verify);
/// Bad blocks.
pub(crate) const BAD: &[Case] = &over_formats!("protection.verify.bad", CLAUSE, bad_blocks_do_not);

const LBA: u64 = 224;

fn good_blocks_verify(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let blocks = host.blocks(61, LBA, BLOCKS);
    host.store(LBA, &blocks)?;
    for io in [host.at(LBA, BLOCKS), host.checked(LBA, BLOCKS), host.checked(LBA, 1)] {
        let completion = host.io().verify(1, &io)?;
        done(&completion)?;
        crate::check::same("bytes of data", completion.data.len(), 0)?;
    }
    Ok(())
}

fn bad_blocks_do_not(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let mut faults = vec![BAD_GUARD, BAD_APP];
    faults.extend(host.checks_ref().then_some(BAD_REF));
    faults.extend(host.has_storage_tag().then_some(BAD_STORAGE));
    for fault in faults {
        for index in BAD_BLOCKS {
            let mut blocks = host.blocks(62, LBA, BLOCKS);
            host.bend(&mut blocks, index, fault.bend)?;
            host.store(LBA, &blocks)?;
            let (checked, unchecked) = (host.checked(LBA, BLOCKS), host.at(LBA, BLOCKS));
            status(&host.io().verify(1, &checked)?, fault.status)
                .with_context(|| format!("block {index}"))?;
            done(&host.io().verify(1, &unchecked)?).context("unchecked")?;
        }
    }
    Ok(())
}

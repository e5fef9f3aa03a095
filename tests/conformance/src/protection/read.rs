//! Read with checks, and Read that strips. NVM Command Set 1.1 §5.3.2.2 "Protection Information and Read Commands",
//! §5.3.3 "Control of Protection Information Checking - PRCHK".

use anyhow::{Context as _, Result, ensure};

use super::{BAD_APP, BAD_BLOCKS, BAD_GUARD, BAD_REF, BAD_STORAGE, BLOCKS, Fault, Host, over_formats};
use crate::check::status;
use crate::fields::done;
use crate::{Case, Format, Lab};

const READ: &str = "NVM Command Set 1.1 §5.3.2.2 \"Protection Information and Read Commands\"";
const CHECK: &str = "NVM Command Set 1.1 §5.3.3 \"Control of Protection Information Checking - PRCHK\"";

/// A stored bad guard.
pub(crate) const GUARD: &[Case] = &over_formats!("protection.read.guard", CHECK, bad_guard);
/// Another application tag than expected.
pub(crate) const APP: &[Case] = &over_formats!("protection.read.app", CHECK, bad_app);
/// Another reference tag than expected.
pub(crate) const REF: &[Case] = &over_formats!("protection.read.ref", CHECK, bad_ref);
/// Another storage tag than expected.
pub(crate) const STORAGE: &[Case] = &over_formats!("protection.read.storage", CHECK, bad_storage);
/// Nothing is checked, anything is read.
pub(crate) const UNCHECKED: &[Case] =
    &over_formats!("protection.read.unchecked", READ, bad_blocks_are_read_unchecked);
/// PRACT=1: data only.
pub(crate) const STRIPPED: &[Case] = &over_formats!("protection.read.stripped", READ, data_comes_alone);

const LBA: u64 = 64;

/// A tuple that was stored unchecked fails a read that checks it, stripped or not, and no other.
fn bad(lab: &mut Lab, format: Format, fault: Fault) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    for index in BAD_BLOCKS {
        let mut blocks = host.blocks(11, LBA, BLOCKS);
        host.bend(&mut blocks, index, fault.bend)?;
        host.store(LBA, &blocks)?;
        let (io, len) = (host.checked(LBA, BLOCKS), host.len(BLOCKS));
        let bare = host.data_of(&blocks).len();
        status(&host.io().read(1, &io, len)?, fault.status).with_context(|| format!("block {index}"))?;
        status(&host.io().read(1, &io.pract(), bare)?, fault.status).context("with PRACT")?;
        host.holds(LBA, &blocks)?;
        // The blocks before it are good.
        if let Some(before) = u32::try_from(index).ok().filter(|before| *before > 0) {
            let (io, len) = (host.checked(LBA, before), host.len(before));
            done(&host.io().read(1, &io, len)?).context("the blocks before the bad one")?;
        }
    }
    Ok(())
}

/// What is not checked is no reason to fail.
fn passes(host: &mut Host, fault: Fault) -> Result<()> {
    let mut blocks = host.blocks(12, LBA, BLOCKS);
    host.bend(&mut blocks, 3, fault.bend)?;
    host.store(LBA, &blocks)?;
    let (io, len) = (host.checked(LBA, BLOCKS), host.len(BLOCKS));
    let completion = host.io().read(1, &io, len)?;
    done(&completion)?;
    ensure!(completion.data == blocks, "other blocks than those stored");
    Ok(())
}

fn bad_guard(lab: &mut Lab, format: Format) -> Result<()> {
    bad(lab, format, BAD_GUARD)
}

fn bad_app(lab: &mut Lab, format: Format) -> Result<()> {
    bad(lab, format, BAD_APP)
}

fn bad_ref(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    if host.checks_ref() { bad(lab, format, BAD_REF) } else { passes(&mut host, BAD_REF) }
}

fn bad_storage(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    if host.has_storage_tag() { bad(lab, format, BAD_STORAGE) } else { passes(&mut host, BAD_STORAGE) }
}

fn bad_blocks_are_read_unchecked(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let mut blocks = host.blocks(14, LBA, BLOCKS);
    for (index, fault) in [(0, BAD_GUARD), (3, BAD_APP), (5, BAD_REF), (7, BAD_STORAGE)] {
        host.bend(&mut blocks, index, fault.bend)?;
    }
    host.store(LBA, &blocks)?;
    host.holds(LBA, &blocks)?;
    let (io, expected) = (host.at(LBA, BLOCKS).pract(), host.data_of(&blocks));
    let completion = host.io().read(1, &io, expected.len())?;
    done(&completion)?;
    ensure!(completion.data == expected, "other data without tuples");
    Ok(())
}

fn data_comes_alone(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let blocks = host.blocks(13, LBA, BLOCKS);
    host.store(LBA, &blocks)?;
    let expected = host.data_of(&blocks);
    for io in [host.at(LBA, BLOCKS), host.checked(LBA, BLOCKS)] {
        let completion = host.io().read(1, &io.pract(), expected.len())?;
        done(&completion)?;
        ensure!(completion.data == expected, "other data");
    }
    Ok(())
}

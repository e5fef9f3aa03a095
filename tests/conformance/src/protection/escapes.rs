//! Tags that switch all checks of a block off. NVM Command Set 1.1 §5.3.3 "Control of Protection Information Checking -
//! PRCHK": types 1 and 2 an application tag of FFFFh, type 3 that and a reference tag (if there is one) of all ones.

use anyhow::{Context as _, Result};
use holdfast_testkit::pi::Tuple;

use super::{BAD_APP, BAD_GUARD, BLOCKS, Host, over_formats};
use crate::check::status;
use crate::fields::{done, refused};
use crate::{Case, Format, Lab};

const CLAUSE: &str =
    "NVM Command Set 1.1 §5.3.3 \"Control of Protection Information Checking - PRCHK\", escapes";

/// Writes of escaped blocks.
pub(crate) const WRITES: &[Case] =
    &over_formats!("protection.escape.write", CLAUSE, escaped_blocks_are_written);
/// Reads of escaped blocks.
pub(crate) const READS: &[Case] = &over_formats!("protection.escape.read", CLAUSE, escaped_blocks_are_read);
/// Blocks that nearly escape.
pub(crate) const ALMOST: &[Case] =
    &over_formats!("protection.escape.almost", CLAUSE, nearly_escaped_blocks_are_checked);

const LBA: u64 = 128;

/// Everything is wrong with this tuple, and it escapes.
fn escape(host: &Host) -> fn(&mut Tuple) {
    if host.format.pi_type == 3 {
        |tuple| *tuple = Tuple { guard: !tuple.guard, app_tag: 0xffff, storage_tag: 7, ref_tag: u64::MAX }
    } else {
        |tuple| *tuple = Tuple { guard: !tuple.guard, app_tag: 0xffff, storage_tag: 7, ref_tag: 0x77 }
    }
}

fn escaped_blocks_are_written(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let mut blocks = host.blocks(31, LBA, BLOCKS);
    for index in [0, 4, 7] {
        host.bend(&mut blocks, index, escape(&host))?;
    }
    let io = host.checked(LBA, BLOCKS);
    done(&host.io().write(1, &io, &blocks)?)?;
    host.holds(LBA, &blocks)?;
    // The blocks beside them are still checked.
    host.bend(&mut blocks, 5, BAD_GUARD.bend)?;
    refused(&host.io().write(1, &io, &blocks)?, BAD_GUARD.status).context("another block is bad")
}

fn escaped_blocks_are_read(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let mut blocks = host.blocks(32, LBA, BLOCKS);
    for index in [0, 4, 7] {
        host.bend(&mut blocks, index, escape(&host))?;
    }
    host.store(LBA, &blocks)?;
    let (io, len, bare) = (host.checked(LBA, BLOCKS), host.len(BLOCKS), host.data_of(&blocks).len());
    done(&host.io().read(1, &io, len)?)?;
    done(&host.io().read(1, &io.pract(), bare)?).context("with PRACT")?;
    done(&host.io().verify(1, &io)?).context("Verify")?;
    host.bend(&mut blocks, 5, BAD_GUARD.bend)?;
    host.store(LBA, &blocks)?;
    status(&host.io().read(1, &io, len)?, BAD_GUARD.status).context("another block is bad")
}

/// FFFEh does not escape; for type 3 neither tag does without the other.
fn nearly_escaped_blocks_are_checked(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let mut near: Vec<fn(&mut Tuple)> =
        vec![|tuple| (tuple.guard, tuple.app_tag) = (!tuple.guard, 0xfffe), |tuple| {
            tuple.guard = !tuple.guard
        }];
    if format.pi_type == 3 {
        near.push(|tuple| (tuple.guard, tuple.ref_tag) = (!tuple.guard, u64::MAX));
        if host.pi.ref_tag_bits() > 0 {
            near.push(|tuple| {
                (tuple.guard, tuple.app_tag, tuple.ref_tag) = (!tuple.guard, 0xffff, u64::MAX - 1)
            });
        }
    }
    for (index, change) in near.into_iter().enumerate() {
        let mut blocks = host.blocks(33, LBA, BLOCKS);
        host.bend(&mut blocks, 3, change)?;
        let io = host.at(LBA, BLOCKS).check_guard();
        let completion = host.io().write(1, &io, &blocks)?;
        refused(&completion, BAD_GUARD.status).with_context(|| format!("near escape {index}"))?;
        host.store(LBA, &blocks)?;
        let len = host.len(BLOCKS);
        status(&host.io().read(1, &io, len)?, BAD_GUARD.status)?;
    }
    let mut blocks = host.blocks(34, LBA, BLOCKS);
    host.bend(&mut blocks, 3, |tuple| tuple.app_tag = 0xfffe)?;
    let io = host.at(LBA, BLOCKS).check_app();
    refused(&host.io().write(1, &io, &blocks)?, BAD_APP.status)
}

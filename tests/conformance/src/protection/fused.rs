//! Compare and Write with tuples: each half is judged as it would be alone. NVM Command Set 1.1 §5.3.2.3 "Protection
//! Information for Fused Operations".

use anyhow::{Context as _, Result};
use holdfast_testkit::Command;
use holdfast_testkit::wire::{code, opcode};

use super::{BAD_APP, BAD_GUARD, BLOCKS, Fault, Host, over_formats};
use crate::check::{status, status_among};
use crate::fields::{done, refused};
use crate::{Case, Format, Lab};

const CLAUSE: &str = "NVM Command Set 1.1 §5.3.2.3 \"Protection Information for Fused Operations\"";

/// Good pairs, and pairs whose data differs.
pub(crate) const DATA: &[Case] = &over_formats!("protection.fused.data", CLAUSE, data_decides);
/// A Compare whose own tuples are bad.
pub(crate) const COMPARE: &[Case] =
    &over_formats!("protection.fused.compare", CLAUSE, a_bad_compare_aborts_the_write);
/// A Write whose tuples are bad.
pub(crate) const WRITE: &[Case] =
    &over_formats!("protection.fused.write", CLAUSE, a_bad_write_stores_nothing);

const LBA: u64 = 480;

/// Runs a checked pair; gives the two statuses' completions.
fn pair(
    host: &mut Host,
    expected: &[u8],
    new: &[u8],
) -> Result<(holdfast_testkit::Completion, holdfast_testkit::Completion)> {
    let io = host.checked(LBA, BLOCKS);
    let compare = Command::with_data(io.sqe(opcode::COMPARE, 1), expected.to_vec());
    let write = Command::with_data(io.sqe(opcode::WRITE, 1), new.to_vec());
    Ok(host.io().fused(compare, write)?)
}

fn data_decides(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let (old, new) = (host.blocks(131, LBA, BLOCKS), host.blocks(132, LBA, BLOCKS));
    host.store(LBA, &old)?;
    let (compare, write) = pair(&mut host, &old, &new)?;
    done(&compare)?;
    done(&write)?;
    host.holds(LBA, &new)?;
    let (compare, write) = pair(&mut host, &old, &old)?;
    status(&compare, code::COMPARE_FAILURE)?;
    status(&write, code::FUSED_ABORTED)?;
    host.holds(LBA, &new)
}

fn a_bad_compare_aborts_the_write(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let (old, new) = (host.blocks(133, LBA, BLOCKS), host.blocks(134, LBA, BLOCKS));
    host.store(LBA, &old)?;
    for fault in [BAD_GUARD, BAD_APP] {
        let mut expected = old.clone();
        host.bend(&mut expected, 5, fault.bend)?;
        let (compare, write) = pair(&mut host, &expected, &new)?;
        status(&compare, fault.status)?;
        status(&write, code::FUSED_ABORTED)?;
        host.holds(LBA, &old)?;
    }
    Ok(())
}

/// What becomes of the Compare when its Write fails is left open: it may have succeeded, or be aborted with it.
fn a_bad_write_stores_nothing(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let old = host.blocks(135, LBA, BLOCKS);
    host.store(LBA, &old)?;
    for Fault { bend, status } in [BAD_GUARD, BAD_APP] {
        let mut new = host.blocks(136, LBA, BLOCKS);
        host.bend(&mut new, 7, bend)?;
        let (compare, write) = pair(&mut host, &old, &new)?;
        refused(&write, status).context("Write")?;
        status_among(&compare, &[code::SUCCESS, code::FUSED_ABORTED]).context("Compare")?;
        host.holds(LBA, &old)?;
    }
    Ok(())
}

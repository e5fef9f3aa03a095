//! Write Zeroes and the tuples that it leaves. NVM Command Set 1.1 §3.3.8 "Write Zeroes command".

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::pi::Tuple;
use holdfast_testkit::wire::code;

use super::{BLOCKS, Host, large, over_formats};
use crate::fields::{done, refused_among};
use crate::{Case, Format, Lab};

const CLAUSE: &str = "NVM Command Set 1.1 §3.3.8 \"Write Zeroes command\"";

/// PRACT=0.
pub(crate) const BARE: &[Case] = &over_formats!("protection.zeroes.pract-0", CLAUSE, tuples_are_zeroes);
/// PRACT=1.
pub(crate) const MADE: &[Case] = &over_formats!("protection.zeroes.pract-1", CLAUSE, tuples_are_made);
/// Fields that mean nothing here.
pub(crate) const CASES: &[Case] =
    &[Case { id: "protection.zeroes.prchk", clause: CLAUSE, run: checks_are_invalid_or_ignored }];

const LBA: u64 = 256;

/// The tuple of a deallocated block with zeroes: all ones, but for the guard, which may be that of the zeroes.
pub(super) fn is_deallocated(host: &Host, tuple: &Tuple) -> bool {
    let width = host.pi.tuple_len();
    let ones = host.pi.parse(&vec![0xff; width]);
    let guard = host.pi.guard_of(&vec![0; host.block()]);
    ones.is_some_and(|ones| *tuple == ones || *tuple == Tuple { guard, ..ones })
}

/// Blocks read as zeroes, each with `expected` or as a deallocated block's tuple.
fn zeroes(
    host: &mut Host,
    io: &holdfast_testkit::Io,
    expected: impl Fn(&Host, usize) -> Tuple,
) -> Result<()> {
    let old = host.blocks(71, LBA, BLOCKS + 2);
    host.store(LBA, &old)?;
    done(&host.io().write_zeroes(1, io)?)?;
    let found = host.stored(LBA, BLOCKS + 2)?;
    let data = host.data_of(&found);
    let (block, whole) = (host.block(), usize::try_from(BLOCKS)?);
    for index in 0..whole {
        let bytes = data.get(index * block..(index + 1) * block).unwrap_or_default();
        ensure!(bytes.iter().all(|byte| *byte == 0), "block {index} is not zero");
        let tuple = host.tuple(&found, index)?;
        let meant = expected(host, index);
        ensure!(
            tuple == meant || is_deallocated(host, &tuple),
            "block {index} has {tuple:x?}, not {meant:x?}"
        );
    }
    // The blocks behind stay.
    let behind = whole * host.stride();
    ensure!(found.get(behind..) == old.get(behind..), "blocks behind the range changed");
    Ok(())
}

fn tuples_are_zeroes(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    for io in [host.at(LBA, BLOCKS), host.at(LBA, BLOCKS).deallocate()] {
        zeroes(&mut host, &io, |_, _| Tuple::default())?;
    }
    Ok(())
}

fn tuples_are_made(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let made = |host: &Host, index: usize| {
        let blocks = host.pi.protect(&vec![0; host.block() * 8], host.block(), host.tags(LBA));
        host.tuple(&blocks, index).unwrap_or_default()
    };
    for io in [host.at(LBA, BLOCKS).pract(), host.at(LBA, BLOCKS).pract().deallocate()] {
        zeroes(&mut host, &io, made)?;
        let (checked, len) = (host.checked(LBA, BLOCKS), host.len(BLOCKS));
        done(&host.io().read(1, &checked, len)?).context("read with checks")?;
    }
    Ok(())
}

/// PRCHK shall be 0: a controller may say so, or leave the field alone.
fn checks_are_invalid_or_ignored(lab: &mut Lab) -> Result<()> {
    let mut host = Host::open(lab, large(1))?;
    let old = host.blocks(72, LBA, 1);
    host.store(LBA, &old)?;
    let io = host.at(LBA, 1).pract().check_all();
    let completion = host.io().write_zeroes(1, &io)?;
    if completion.status().is_success() {
        return Ok(());
    }
    refused_among(&completion, &[code::INVALID_PROTECTION_INFORMATION, code::INVALID_FIELD])?;
    host.holds(LBA, &old)
}

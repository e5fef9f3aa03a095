//! Write with PRACT=1: the controller makes the tuples. NVM Command Set 1.1 §5.3.2.1 "Protection Information and Write
//! Commands", §5.3.3 "Control of Protection Information Checking - PRCHK" (inserted protection information).

use anyhow::{Context as _, Result};
use holdfast_testkit::pi::Tags;

use super::{APP_TAG, BLOCKS, Host, STORAGE_TAG, over_formats};
use crate::check::{pattern, same};
use crate::fields::done;
use crate::{Case, Format, Guard, Lab};

const INSERT: &str =
    "NVM Command Set 1.1 §5.3.3 \"Control of Protection Information Checking - PRCHK\", insertion";
const WRITE: &str = "NVM Command Set 1.1 §5.3.2.1 \"Protection Information and Write Commands\"";
const CRC32C: &str = "NVM Command Set 1.1 §5.3.1.2.1 \"32b CRC Test Cases\"";
const CRC64: &str = "NVM Command Set 1.1 §5.3.1.3.5 \"64b CRC Test Cases\"";

/// The tuples that are made.
pub(crate) const TUPLES: &[Case] = &over_formats!("protection.insert.tuples", INSERT, tuples_carry_the_tags);
/// Nothing to check.
pub(crate) const UNCHECKED: &[Case] =
    &over_formats!("protection.insert.prchk-ignored", WRITE, checks_are_ignored);
/// Guards of known blocks.
pub(crate) const CASES: &[Case] = &[
    Case { id: "protection.insert.crc32c-known", clause: CRC32C, run: known_crc32c },
    Case { id: "protection.insert.crc64-known", clause: CRC64, run: known_crc64 },
];

const LBA: u64 = 96;

fn tuples_carry_the_tags(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let data = pattern(21, host.block() * usize::try_from(BLOCKS)?);
    let io = host.at(LBA, BLOCKS).pract();
    done(&host.io().write(1, &io, &data)?)?;
    let expected = host.pi.protect(&data, host.block(), host.tags(LBA));
    let found = host.stored(LBA, BLOCKS)?;
    for index in 0..usize::try_from(BLOCKS)? {
        let (found, expected) = (host.tuple(&found, index)?, host.tuple(&expected, index)?);
        same(&format!("tuple of block {index}"), found, expected)?;
    }
    host.holds(LBA, &expected)
}

/// PRCHK and STC mean nothing when the tuples are made here; masks neither.
fn checks_are_ignored(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let data = pattern(22, host.block() * usize::try_from(BLOCKS)?);
    let io = host.checked(LBA, BLOCKS).pract().app_tag_masked(APP_TAG, 0x00f0);
    done(&host.io().write(1, &io, &data)?)?;
    let expected = host.pi.protect(&data, host.block(), host.tags(LBA));
    host.holds(LBA, &expected)
}

/// Zeroes, ones, bytes that count up and bytes that count down.
fn known_blocks() -> [Vec<u8>; 4] {
    let up = |at: usize| u8::try_from(at % 256).unwrap_or(0);
    [vec![0; 4096], vec![0xff; 4096], (0..4096).map(up).collect(), (0..4096).map(|at| 255 - up(at)).collect()]
}

fn known(lab: &mut Lab, format: Format, guards: [u64; 4]) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    for (block, guard) in known_blocks().into_iter().zip(guards) {
        let io = host.at(LBA, 1).pract();
        done(&host.io().write(1, &io, &block)?)?;
        let found = host.stored(LBA, 1)?;
        same("guard", host.tuple(&found, 0)?.guard, guard)?;
        // The tuple made here passes its own check.
        let io = host.checked(LBA, 1);
        let len = host.len(1);
        done(&host.io().read(1, &io, len)?).context("read with checks")?;
    }
    Ok(())
}

fn known_crc32c(lab: &mut Lab) -> Result<()> {
    let format = Format::new(4096, 1, Guard::Crc32c).storage_tag(16);
    known(lab, format, [0x98f9_4189, 0x25c1_fe13, 0x9c71_fe32, 0x2149_41a8])
}

fn known_crc64(lab: &mut Lab) -> Result<()> {
    let format = Format::new(4096, 1, Guard::Crc64);
    let zeroes_and_ones = [0x6482_d367_eb22_b64e, 0xc0dd_ba73_02ec_a3ac];
    let [zeroes, ones] = zeroes_and_ones;
    known(lab, format, [zeroes, ones, 0x3e72_9f5f_6750_449c, 0x9a2d_f64b_8e9e_517e])?;
    // Tags do not go into the guard.
    let mut host = Host::open(lab, format)?;
    let other = Tags::counting(LBA).app(!APP_TAG).storage(!STORAGE_TAG);
    let blocks = host.pi.protect(&vec![0; 4096], 4096, other);
    let io = host.at(LBA, 1).check_guard();
    done(&host.io().write(1, &io, &blocks)?)?;
    same("guard", host.tuple(&blocks, 0)?.guard, zeroes)
}

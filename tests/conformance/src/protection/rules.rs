//! PRINFO that a format does not allow. NVM Command Set 1.1 §5.3.3 "Control of Protection Information Checking - PRCHK",
//! §3.3.1 "Compare command", §3.3.5 "Verify command".

use anyhow::{Context as _, Result};
use holdfast_testkit::Io;
use holdfast_testkit::wire::{code, opcode};

use super::{BLOCKS, Host, large, over_formats, small};
use crate::check::pattern;
use crate::fields::{done, refused, refused_among};
use crate::{Case, Format, Lab};

const ILBRT: &str =
    "NVM Command Set 1.1 §5.3.3 \"Control of Protection Information Checking - PRCHK\", ILBRT and EILBRT";
const TYPE3: &str =
    "NVM Command Set 1.1 §5.3.3 \"Control of Protection Information Checking - PRCHK\", type 3";
const COMPARE: &str = "NVM Command Set 1.1 §3.3.1 \"Compare command\", PRINFO";
const VERIFY: &str = "NVM Command Set 1.1 §3.3.5 \"Verify command\", PRINFO";

/// What the first reference tag may be.
pub(crate) const REFERENCE: &[Case] =
    &over_formats!("protection.rules.reference", ILBRT, reference_of_the_type);
/// PRACT=1 on a Read checks as PRACT=0 does.
pub(crate) const STRIPPED: &[Case] =
    &over_formats!("protection.rules.stripped", ILBRT, reference_of_a_stripped_read);
/// Single rules.
pub(crate) const CASES: &[Case] = &[
    Case { id: "protection.rules.type-3-read", clause: TYPE3, run: |lab| type_3(lab, opcode::READ) },
    Case { id: "protection.rules.type-3-write", clause: TYPE3, run: |lab| type_3(lab, opcode::WRITE) },
    Case { id: "protection.rules.type-3-compare", clause: TYPE3, run: |lab| type_3(lab, opcode::COMPARE) },
    Case { id: "protection.rules.type-3-verify", clause: TYPE3, run: |lab| type_3(lab, opcode::VERIFY) },
    Case { id: "protection.rules.compare-pract", clause: COMPARE, run: compare_has_no_pract },
    Case { id: "protection.rules.verify-pract", clause: VERIFY, run: verify_has_no_pract },
    Case { id: "protection.rules.nothing-stored", clause: ILBRT, run: a_refused_write_stores_nothing },
    Case { id: "protection.rules.unchecked-reference", clause: ILBRT, run: an_unchecked_reference_is_free },
    Case { id: "protection.rules.upper-lba", clause: ILBRT, run: only_the_low_lba_bits_count },
];

const LBA: u64 = 320;

/// Runs a command with this many blocks of good tuples, whatever they are checked against.
fn run(host: &mut Host, opcode: u8, io: &Io, blocks: &[u8]) -> Result<holdfast_testkit::Completion> {
    let len = blocks.len();
    let queue = host.io();
    Ok(match opcode {
        opcode::READ => queue.read(1, io, len)?,
        opcode::WRITE => queue.write(1, io, blocks)?,
        opcode::COMPARE => queue.compare(1, io, blocks)?,
        _ => queue.verify(1, io)?,
    })
}

/// Type 1 wants the LBA's low bits, type 2 takes any reference tag.
fn reference_of_the_type(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    if !host.checks_ref() {
        return Ok(());
    }
    let blocks = host.blocks(91, LBA, BLOCKS);
    host.store(LBA, &blocks)?;
    for opcode in [opcode::READ, opcode::VERIFY, opcode::COMPARE, opcode::WRITE] {
        for other in [LBA + 1, LBA - 1, 0] {
            let space = host.pi.space(super::STORAGE_TAG, other);
            let io = host.at(LBA, BLOCKS).storage_and_ref(space).check_ref();
            let completion = run(&mut host, opcode, &io, &blocks)?;
            let what = || format!("opcode {opcode:02x}h, reference tag {other}");
            if format.pi_type == 1 {
                refused(&completion, code::INVALID_PROTECTION_INFORMATION).with_context(what)?;
            } else {
                crate::check::status(&completion, code::REF_TAG_CHECK).with_context(what)?;
            }
        }
        let io = host.at(LBA, BLOCKS).check_ref();
        done(&run(&mut host, opcode, &io, &blocks)?).with_context(|| format!("opcode {opcode:02x}h"))?;
    }
    Ok(())
}

fn reference_of_a_stripped_read(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    if !host.checks_ref() {
        return Ok(());
    }
    let blocks = host.blocks(98, LBA, BLOCKS);
    host.store(LBA, &blocks)?;
    let len = host.data_of(&blocks).len();
    let space = host.pi.space(super::STORAGE_TAG, LBA + 1);
    let io = host.at(LBA, BLOCKS).storage_and_ref(space).pract().check_ref();
    let completion = host.io().read(1, &io, len)?;
    if format.pi_type == 1 {
        return refused(&completion, code::INVALID_PROTECTION_INFORMATION);
    }
    crate::check::status(&completion, code::REF_TAG_CHECK)
}

/// The controller may ignore the bit; if it aborts the command, then with this status.
fn type_3(lab: &mut Lab, opcode: u8) -> Result<()> {
    for format in [small(3), large(3)] {
        let mut host = Host::open(lab, format)?;
        let blocks = host.blocks(92, LBA, BLOCKS);
        host.store(LBA, &blocks)?;
        let io = host.at(LBA, BLOCKS).check_ref();
        let completion = run(&mut host, opcode, &io, &blocks)?;
        if !completion.status().is_success() {
            refused(&completion, code::INVALID_PROTECTION_INFORMATION)?;
        }
        host.holds(LBA, &blocks)?;
    }
    Ok(())
}

/// PRACT shall be clear: Invalid Field, or Invalid Protection Information, which is there for PRINFO.
fn compare_has_no_pract(lab: &mut Lab) -> Result<()> {
    let mut host = Host::open(lab, large(1))?;
    let data = pattern(93, host.block());
    let io = host.at(LBA, 1).pract();
    let completion = host.io().compare(1, &io, &data)?;
    refused_among(&completion, &[code::INVALID_FIELD, code::INVALID_PROTECTION_INFORMATION])
}

fn verify_has_no_pract(lab: &mut Lab) -> Result<()> {
    for format in [large(1), small(2), large(3)] {
        let mut host = Host::open(lab, format)?;
        let io = host.at(LBA, 1).pract();
        refused(&host.io().verify(1, &io)?, code::INVALID_FIELD)?;
    }
    Ok(())
}

fn a_refused_write_stores_nothing(lab: &mut Lab) -> Result<()> {
    let mut host = Host::open(lab, large(1))?;
    let old = host.blocks(94, LBA, BLOCKS);
    host.store(LBA, &old)?;
    let new = host.blocks(95, LBA, BLOCKS);
    let io = host.at(LBA, BLOCKS).ref_tag(7).check_all();
    refused(&host.io().write(1, &io, &new)?, code::INVALID_PROTECTION_INFORMATION)?;
    host.holds(LBA, &old)
}

fn an_unchecked_reference_is_free(lab: &mut Lab) -> Result<()> {
    let mut host = Host::open(lab, large(1))?;
    let blocks = host.blocks(96, LBA, BLOCKS);
    let io = host.at(LBA, BLOCKS).ref_tag(7).check_guard().check_app();
    done(&host.io().write(1, &io, &blocks)?)?;
    let len = blocks.len();
    done(&host.io().read(1, &io, len)?)
}

/// With 16 bits of reference tag LBA 10000h and LBA 0 have the same.
fn only_the_low_lba_bits_count(lab: &mut Lab) -> Result<()> {
    let mut host = Host::open(lab, super::crc32c(1, 64))?;
    crate::check::same("bits of the reference tag", host.pi.ref_tag_bits(), 16)?;
    let blocks = host.blocks(97, LBA, 1);
    host.store(LBA, &blocks)?;
    let len = blocks.len();
    // The storage tag begins above bit 15; it is not checked here.
    let io = host.at(LBA, 1).storage_and_ref(u128::from(LBA) | 0xabcd << 16).check_ref();
    done(&host.io().read(1, &io, len)?)
}

//! Copy within a namespace that has tuples. NVM Command Set 1.1 §3.3.2.3 "Copy within a Single Namespace", §5.3.2.5
//! "Protection Information and Copy commands".

use anyhow::{Context as _, Result};
use holdfast_testkit::wire::code;
use holdfast_testkit::{Copy, SourceRange};

use super::{BAD_APP, BAD_GUARD, BAD_STORAGE, BLOCKS, Host, crc64, large, over_formats};
use crate::check::{same, status_among};
use crate::fields::{done, refused};
use crate::{Case, Format, Guard, Lab};

const SINGLE: &str = "NVM Command Set 1.1 §3.3.2.3 \"Copy within a Single Namespace\"";
const CHECKS: &str = "NVM Command Set 1.1 §5.3.2.5 \"Protection Information and Copy commands\"";
const FORMATS: &str = "NVM Command Set 1.1 §3.3.2 \"Copy command\", descriptor formats";

/// PRACT=0 on both sides.
pub(crate) const PASSED: &[Case] =
    &over_formats!("protection.copy.passed", SINGLE, tuples_are_passed_through);
/// PRACT=1 on both sides.
pub(crate) const REPLACED: &[Case] = &over_formats!("protection.copy.replaced", SINGLE, tuples_are_replaced);
/// PRINFOR checks what is read.
pub(crate) const CHECKED: &[Case] = &over_formats!("protection.copy.checked", CHECKS, the_source_is_checked);
/// EILBRT of each range.
pub(crate) const RANGES: &[Case] =
    &over_formats!("protection.copy.ranges", CHECKS, each_range_has_its_reference);
/// STCW checks storage tags of what is written.
pub(crate) const STORAGE: &[Case] =
    &over_formats!("protection.copy.storage", CHECKS, storage_tags_are_checked);
/// Combinations that cannot be.
pub(crate) const CASES: &[Case] = &[
    Case { id: "protection.copy.mixed-pract", clause: SINGLE, run: both_sides_must_agree },
    Case {
        id: "protection.copy.narrow-descriptors",
        clause: FORMATS,
        run: wide_guards_need_wide_descriptors,
    },
    Case {
        id: "protection.copy.wide-descriptors",
        clause: FORMATS,
        run: narrow_guards_need_narrow_descriptors,
    },
    Case { id: "protection.copy.write-check", clause: CHECKS, run: the_destination_is_checked },
    Case { id: "protection.copy.reference", clause: CHECKS, run: type_1_passes_no_foreign_reference },
];

const SOURCE: u64 = 416;
const TO: u64 = 448;
const PRACT: u8 = 0b1000;
const GUARD: u8 = 0b0100;
const APP: u8 = 0b0010;
const REF: u8 = 0b0001;

/// Descriptors have room for 8-byte tuples in format 0h, for 16-byte tuples in format 1h.
fn descriptors(format: Format) -> u8 {
    u8::from(format.guard != Guard::Crc16)
}

/// The source's blocks in one range that carries the host's tags.
fn source(host: &Host) -> SourceRange {
    let tags = host.pi.space(super::STORAGE_TAG, host.ref_tag(SOURCE));
    SourceRange::at(SOURCE, BLOCKS).tags(tags).app_tag(super::APP_TAG)
}

/// A copy whose write portion carries the tags of its destination.
fn copy(host: &Host, prinfor: u8, prinfow: u8) -> Copy {
    let tags = host.pi.space(super::STORAGE_TAG, host.ref_tag(TO));
    Copy::new(descriptors(host.format), TO, &[source(host)])
        .prinfo(prinfor, prinfow)
        .tags(tags)
        .app_tag(super::APP_TAG)
}

fn tuples_are_passed_through(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let mut blocks = host.blocks(121, SOURCE, BLOCKS);
    host.bend(&mut blocks, 3, BAD_APP.bend)?;
    host.store(SOURCE, &blocks)?;
    let command = copy(&host, 0, 0);
    done(&host.io().copy(1, &command)?)?;
    host.holds(TO, &blocks)
}

fn tuples_are_replaced(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let blocks = host.blocks(122, SOURCE, BLOCKS);
    host.store(SOURCE, &blocks)?;
    let command = copy(&host, PRACT | GUARD | APP, PRACT);
    done(&host.io().copy(1, &command)?)?;
    let data = host.data_of(&blocks);
    let expected = host.pi.protect(&data, host.block(), host.tags(TO));
    host.holds(TO, &expected)?;
    // Reference tags go on from one range to the next.
    let half = BLOCKS / 2;
    let second = SourceRange::at(SOURCE + u64::from(half), half);
    let command = Copy { ranges: vec![second, SourceRange::at(SOURCE, half)], ..copy(&host, PRACT, PRACT) };
    done(&host.io().copy(1, &command)?)?;
    let (low, high) = data.split_at(data.len() / 2);
    let expected = host.pi.protect(&[high, low].concat(), host.block(), host.tags(TO));
    host.holds(TO, &expected)
}

/// PRINFOR with the reference tag check: each range says where its tags begin.
fn each_range_has_its_reference(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    if !host.checks_ref() {
        return Ok(());
    }
    let blocks = host.blocks(131, SOURCE, BLOCKS);
    host.store(SOURCE, &blocks)?;
    let half = BLOCKS / 2;
    let first = host.ref_tag(SOURCE);
    let tags = |host: &Host, from: u64| host.pi.space(super::STORAGE_TAG, from);
    let range = |at: u32, tags| SourceRange::at(SOURCE + u64::from(at), half).tags(tags);
    let right = [range(0, tags(&host, first)), range(half, tags(&host, first + u64::from(half)))];
    let command = Copy { ranges: right.to_vec(), ..copy(&host, REF, 0) };
    done(&host.io().copy(1, &command)?)?;
    let wrong = [right[0], range(half, tags(&host, first))];
    let command = Copy { ranges: wrong.to_vec(), ..copy(&host, REF, 0) };
    let completion = host.io().copy(1, &command)?;
    let expected =
        if format.pi_type == 1 { code::INVALID_PROTECTION_INFORMATION } else { code::REF_TAG_CHECK };
    crate::check::status(&completion, expected)
}

fn the_source_is_checked(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let old = host.blocks(123, TO, BLOCKS);
    for fault in [BAD_GUARD, BAD_APP] {
        host.store(TO, &old)?;
        let mut blocks = host.blocks(124, SOURCE, BLOCKS);
        host.bend(&mut blocks, 5, fault.bend)?;
        host.store(SOURCE, &blocks)?;
        let command = copy(&host, GUARD | APP, 0);
        let completion = host.io().copy(1, &command)?;
        crate::check::status(&completion, fault.status)?;
        same("the range that failed", completion.cqe.dw0, 0)?;
        host.holds(TO, &old).context("nothing of a failed range of one is stored")?;
        let command = copy(&host, 0, 0);
        done(&host.io().copy(1, &command)?).context("unchecked")?;
    }
    Ok(())
}

/// STCW is bit 24 of CDW12.
fn storage_tags_are_checked(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let old = host.blocks(129, TO, BLOCKS);
    host.store(TO, &old)?;
    let mut blocks = host.blocks(130, SOURCE, BLOCKS);
    host.bend(&mut blocks, 4, BAD_STORAGE.bend)?;
    host.store(SOURCE, &blocks)?;
    let command = Copy { cdw12: 1 << 24, ..copy(&host, 0, 0) };
    let completion = host.io().copy(1, &command)?;
    if host.has_storage_tag() {
        crate::check::status(&completion, BAD_STORAGE.status)?;
        return host.holds(TO, &old);
    }
    done(&completion)?;
    host.holds(TO, &blocks)
}

fn both_sides_must_agree(lab: &mut Lab) -> Result<()> {
    let mut host = Host::open(lab, large(1))?;
    let blocks = host.blocks(125, SOURCE, BLOCKS);
    host.store(SOURCE, &blocks)?;
    for (prinfor, prinfow) in [(PRACT, 0), (0, PRACT)] {
        let command = copy(&host, prinfor, prinfow);
        refused(&host.io().copy(1, &command)?, code::INVALID_FIELD)?;
    }
    Ok(())
}

fn wide_guards_need_wide_descriptors(lab: &mut Lab) -> Result<()> {
    let mut host = Host::open(lab, crc64(1, 0))?;
    for format in [0, 2] {
        let command = Copy::new(format, TO, &[SourceRange::at(SOURCE, 1).of(1)]);
        refused(&host.io().copy(1, &command)?, code::INVALID_NAMESPACE)?;
    }
    Ok(())
}

fn narrow_guards_need_narrow_descriptors(lab: &mut Lab) -> Result<()> {
    let mut host = Host::open(lab, large(1))?;
    for format in [1, 3] {
        let command = Copy::new(format, TO, &[SourceRange::at(SOURCE, 1).of(1)]);
        refused(&host.io().copy(1, &command)?, code::INVALID_NAMESPACE)?;
    }
    Ok(())
}

/// PRINFOW: what is written is checked as a Write's blocks are.
fn the_destination_is_checked(lab: &mut Lab) -> Result<()> {
    let mut host = Host::open(lab, large(2))?;
    let old = host.blocks(126, TO, BLOCKS);
    host.store(TO, &old)?;
    let mut blocks = host.blocks(127, SOURCE, BLOCKS);
    host.bend(&mut blocks, 0, BAD_APP.bend)?;
    host.store(SOURCE, &blocks)?;
    let command = copy(&host, 0, APP);
    let completion = host.io().copy(1, &command)?;
    crate::check::status(&completion, BAD_APP.status)?;
    host.holds(TO, &old)
}

/// The tuples that pass through keep the reference tags of the source, which are not those of the destination.
fn type_1_passes_no_foreign_reference(lab: &mut Lab) -> Result<()> {
    let mut host = Host::open(lab, large(1))?;
    let blocks = host.blocks(128, SOURCE, BLOCKS);
    host.store(SOURCE, &blocks)?;
    let command = copy(&host, GUARD | APP | REF, REF);
    let completion = host.io().copy(1, &command)?;
    status_among(&completion, &[code::REF_TAG_CHECK])?;
    let command = copy(&host, PRACT | GUARD | APP | REF, PRACT);
    done(&host.io().copy(1, &command)?)?;
    let (io, len) = (host.checked(TO, BLOCKS), host.len(BLOCKS));
    done(&host.io().read(1, &io, len)?).context("the new tuples")
}

//! Properties. NVMe Base 2.1 §3.1.4 "Controller Properties", §6.5 "Property Get", §6.6 "Property Set".

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::{Sqe, code, opcode};
use holdfast_testkit::{Command, Options, Property, Queue};

use super::{admin_connect, tried};
use crate::{Case, Lab, check};

const GET: &str = "NVMe Base 2.1 §6.5 \"Property Get Command and Response\"";
const SET: &str = "NVMe Base 2.1 §6.6 \"Property Set Command and Response\"";
const CAP: &str = "NVMe Base 2.1 §3.1.4.1 \"Offset 0h: CAP – Controller Capabilities\"";
const VS: &str = "NVMe Base 2.1 §3.1.4.2 \"Offset 8h: VS – Version\"";
const CRTO: &str = "NVMe Base 2.1 §3.1.4 \"Controller Properties\", CRTO";
const CC: &str = "NVMe Base 2.1 §3.1.4.5 \"Offset 14h: CC – Controller Configuration\"";
const CSTS: &str = "NVMe Base 2.1 §3.1.4.6 \"Offset 1Ch: CSTS – Controller Status\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("fabrics.property.cap", CAP, capabilities_are_those_of_a_fabrics_controller),
    Case::new("fabrics.property.vs", VS, the_version_is_identifys),
    Case::new("fabrics.property.crto", CRTO, ready_timeouts_are_told),
    Case::new("fabrics.property.initial", CC, configuration_and_status_begin_at_zero),
    Case::new("fabrics.property.cc-reads-back", CC, the_configuration_reads_back),
    Case::new("fabrics.property.csts-ready", CSTS, an_enabled_controller_is_ready_without_error),
    Case::new("fabrics.property.get-size", GET, each_property_has_one_size),
    Case::new("fabrics.property.get-size-reserved", GET, reserved_sizes_are_an_invalid_field),
    Case::new("fabrics.property.get-offset", GET, other_offsets_are_an_invalid_field),
    Case::new("fabrics.property.get-upper-half", GET, four_bytes_leave_the_upper_half_zero),
    Case::new("fabrics.property.set-size", SET, the_configuration_is_set_by_four_bytes),
    Case::new("fabrics.property.set-offset", SET, other_offsets_cannot_be_set),
    Case::new("fabrics.property.set-read-only", SET, what_is_read_only_stays),
    Case::new("fabrics.property.set-upper-half", SET, the_upper_half_of_a_small_value_is_not_looked_at),
];

/// A connected Admin Queue whose controller has not been enabled.
fn disabled(lab: &mut Lab) -> Result<Queue> {
    let (connect, _) = admin_connect(lab)?;
    let (queue, done) = tried(lab, &connect)?;
    done.ok()?;
    Ok(queue)
}

fn value(queue: &mut Queue, property: Property) -> Result<u64> {
    Ok(queue.property_get(property)?.ok()?.cqe.value())
}

fn capabilities_are_those_of_a_fabrics_controller(lab: &mut Lab) -> Result<()> {
    let cap = value(&mut disabled(lab)?, Property::Cap)?;
    ensure!(cap & 0xffff >= 127, "MQES {}", cap & 0xffff);
    ensure!(cap & 1 << 16 != 0, "CQR is clear: {cap:#x}");
    ensure!(cap >> 24 & 0xff > 0, "TO is zero: {cap:#x}");
    check::same("DSTRD", cap >> 32 & 0xf, 0)?;
    ensure!(cap & 1 << 37 != 0, "CSS does not have the NVM command set: {cap:#x}");
    check::same("BPS", cap >> 45 & 1, 0)?;
    ensure!(cap >> 48 & 0xf <= cap >> 52 & 0xf, "MPSMIN above MPSMAX: {cap:#x}");
    check::same("PMRS, CMBS", cap >> 56 & 3, 0)
}

fn the_version_is_identifys(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let vs = value(session.admin(), Property::Vs)?;
    check::same("VS", vs, 0x0002_0100)?;
    check::same("VER of Identify", u64::from(session.controller().version), vs)
}

/// CAP.CRMS.CRWMS and, with it, CRTO.CRWMT are there in every controller of this version.
fn ready_timeouts_are_told(lab: &mut Lab) -> Result<()> {
    let mut queue = disabled(lab)?;
    ensure!(value(&mut queue, Property::Cap)? & 1 << 59 != 0, "CAP.CRMS.CRWMS is clear");
    let crto = value(&mut queue, Property::At { offset: 0x68, wide: false })?;
    ensure!(crto & 0xffff > 0, "CRTO {crto:#x}");
    check::status(&get(&mut queue, 1, 0x68)?, code::INVALID_FIELD)
}

fn configuration_and_status_begin_at_zero(lab: &mut Lab) -> Result<()> {
    let mut queue = disabled(lab)?;
    check::same("CC.EN", value(&mut queue, Property::Cc)? & 1, 0)?;
    check::same("CC.SHN", value(&mut queue, Property::Cc)? >> 14 & 3, 0)?;
    check::same("CSTS", value(&mut queue, Property::Csts)?, 0)
}

fn the_configuration_reads_back(lab: &mut Lab) -> Result<()> {
    let mut queue = disabled(lab)?;
    queue.enable()?;
    let cc = value(&mut queue, Property::Cc)?;
    check::same("EN, IOSQES, IOCQES", cc & 0x00ff_0001, 0x0046_0001)
}

fn an_enabled_controller_is_ready_without_error(lab: &mut Lab) -> Result<()> {
    let mut queue = disabled(lab)?;
    queue.enable()?;
    check::same("CSTS", value(&mut queue, Property::Csts)?, 1)
}

fn get(queue: &mut Queue, attributes: u32, offset: u32) -> Result<holdfast_testkit::Completion> {
    let sqe = Sqe::fabrics(opcode::PROPERTY_GET).cdw(10, attributes).cdw(11, offset);
    Ok(queue.run(Command::bare(sqe))?)
}

fn each_property_has_one_size(lab: &mut Lab) -> Result<()> {
    let mut queue = disabled(lab)?;
    for (offset, wrong) in [(0x00, 0), (0x08, 1), (0x14, 1), (0x1c, 1)] {
        check::status(&get(&mut queue, wrong, offset)?, code::INVALID_FIELD)
            .with_context(|| format!("offset {offset:#x}, size {wrong}"))?;
    }
    Ok(())
}

fn reserved_sizes_are_an_invalid_field(lab: &mut Lab) -> Result<()> {
    let mut queue = disabled(lab)?;
    for size in 2..=7 {
        for offset in [0x00, 0x08, 0x14, 0x1c] {
            check::status(&get(&mut queue, size, offset)?, code::INVALID_FIELD)
                .with_context(|| format!("offset {offset:#x}, size {size}"))?;
        }
    }
    Ok(())
}

/// Within properties, of memory-based controllers alone, unaligned, far away.
const ELSEWHERE: [u32; 13] =
    [0x01, 0x04, 0x09, 0x0c, 0x10, 0x15, 0x18, 0x24, 0x28, 0x30, 0x1000, 0x7fff_fffc, u32::MAX];

fn other_offsets_are_an_invalid_field(lab: &mut Lab) -> Result<()> {
    let mut queue = disabled(lab)?;
    for offset in ELSEWHERE {
        for size in [0, 1] {
            check::status(&get(&mut queue, size, offset)?, code::INVALID_FIELD)
                .with_context(|| format!("offset {offset:#x}, size {size}"))?;
        }
    }
    Ok(())
}

fn four_bytes_leave_the_upper_half_zero(lab: &mut Lab) -> Result<()> {
    let mut queue = disabled(lab)?;
    for property in [Property::Vs, Property::Cc, Property::Csts] {
        check::same("dword 1", queue.property_get(property)?.ok()?.cqe.dw1, 0)?;
    }
    Ok(())
}

fn the_configuration_is_set_by_four_bytes(lab: &mut Lab) -> Result<()> {
    let mut queue = disabled(lab)?;
    for size in 1..=7 {
        let sqe = Sqe::fabrics(opcode::PROPERTY_SET).cdw(10, size).cdw(11, 0x14).cdw(12, 0x0046_0001);
        check::status(&queue.run(Command::bare(sqe))?, code::INVALID_FIELD)
            .with_context(|| format!("size {size}"))?;
    }
    check::same("CC.EN", value(&mut queue, Property::Cc)? & 1, 0)?;
    check::same("CSTS", value(&mut queue, Property::Csts)?, 0)
}

fn other_offsets_cannot_be_set(lab: &mut Lab) -> Result<()> {
    let mut queue = disabled(lab)?;
    for offset in ELSEWHERE {
        for wide in [false, true] {
            let done = queue.property_set(Property::At { offset, wide }, 0)?;
            check::status(&done, code::INVALID_FIELD)
                .with_context(|| format!("offset {offset:#x}, wide {wide}"))?;
        }
    }
    Ok(())
}

/// Whether an attempt is refused or has no effect is not said.
fn what_is_read_only_stays(lab: &mut Lab) -> Result<()> {
    let mut queue = disabled(lab)?;
    for property in [Property::Cap, Property::Vs, Property::Csts] {
        let before = value(&mut queue, property)?;
        let done = queue.property_set(property, 0x0101_0101)?;
        check::status_among(&done, &[code::INVALID_FIELD, code::SUCCESS])?;
        check::same("the value", value(&mut queue, property)?, before)?;
    }
    Ok(())
}

fn the_upper_half_of_a_small_value_is_not_looked_at(lab: &mut Lab) -> Result<()> {
    let mut queue = disabled(lab)?;
    queue.property_set(Property::Cc, 0xffff_ffff_0046_0001)?.ok()?;
    check::same("EN, IOSQES, IOCQES", value(&mut queue, Property::Cc)? & 0x00ff_0001, 0x0046_0001)
}

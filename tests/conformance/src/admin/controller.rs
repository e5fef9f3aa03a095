//! What Identify Controller says, held against itself and against Connect. NVM Express Base 2.1 §5.1.13.2.1 "Identify
//! Controller Data Structure (CNS 01h)".

use anyhow::{Result, ensure};
use holdfast_testkit::wire::code;
use holdfast_testkit::{Io, Options, Property};

use super::{admin_session, identify};
use crate::check::{pattern, same};
use crate::fields::{bit, byte, done, le16, le32, part, refused, zero};
use crate::{Case, Format, Lab, View};

const CLAUSE: &str = "Base 2.1 §5.1.13.2.1 \"Identify Controller Data Structure (CNS 01h)\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "admin.controller.texts", clause: CLAUSE, run: texts_are_printable_and_padded },
    Case { id: "admin.controller.cntlid", clause: CLAUSE, run: cntlid_is_that_of_connect },
    Case { id: "admin.controller.version", clause: CLAUSE, run: version_is_that_of_the_property },
    Case { id: "admin.controller.type", clause: CLAUSE, run: the_type_is_io_controller },
    Case { id: "admin.controller.subnqn", clause: CLAUSE, run: subnqn_is_that_of_connect },
    Case { id: "admin.controller.entry-sizes", clause: CLAUSE, run: entries_have_64_and_16_bytes },
    Case { id: "admin.controller.maxcmd", clause: CLAUSE, run: maxcmd_fits_mqes },
    Case { id: "admin.controller.namespaces", clause: CLAUSE, run: nn_covers_every_namespace },
    Case { id: "admin.controller.multiple", clause: CLAUSE, run: cmic_tells_of_other_controllers },
    Case { id: "admin.controller.same-for-all", clause: CLAUSE, run: the_subsystem_looks_the_same_to_all },
    Case { id: "admin.controller.power", clause: CLAUSE, run: there_is_an_operational_power_state },
    Case { id: "admin.controller.temperatures", clause: CLAUSE, run: warning_comes_before_critical },
    Case { id: "admin.controller.atomicity", clause: CLAUSE, run: atomic_units_are_ordered },
    Case { id: "admin.controller.reserved", clause: CLAUSE, run: reserved_bytes_are_zero },
    Case { id: "admin.controller.mdts.read", clause: CLAUSE, run: mdts_bounds_reads },
    Case { id: "admin.controller.mdts.write", clause: CLAUSE, run: mdts_bounds_writes },
    Case { id: "admin.controller.mdts.metadata", clause: CLAUSE, run: mdts_leaves_metadata_out },
    Case { id: "admin.controller.capsules", clause: CLAUSE, run: capsules_carry_what_ioccsz_says },
    Case { id: "admin.controller.sgls", clause: CLAUSE, run: sgls_are_supported_as_fabrics_need },
    Case { id: "admin.controller.repeated", clause: CLAUSE, run: the_structure_does_not_change },
];

/// Whether a text field is printable ASCII, not blank, and padded with blanks.
fn is_padded_text(bytes: &[u8]) -> bool {
    let trimmed = bytes.trim_ascii_end();
    !trimmed.is_empty() && bytes.iter().all(|byte| (0x20..0x7f).contains(byte)) && !trimmed.starts_with(b" ")
}

fn texts_are_printable_and_padded(lab: &mut Lab) -> Result<()> {
    let data = identify(&mut admin_session(lab)?, 0x01, 0, 0)?;
    for (what, at, len) in [("SN", 4, 20), ("MN", 24, 40), ("FR", 64, 8)] {
        let field = part(&data, at, len)?;
        ensure!(is_padded_text(field), "{what} is {:?}", String::from_utf8_lossy(field));
    }
    Ok(())
}

fn cntlid_is_that_of_connect(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let data = identify(&mut session, 0x01, 0, 0)?;
    same("CNTLID", le16(&data, 78)?, session.cntlid())?;
    ensure!(session.cntlid() < 0xfff0, "CNTLID {:#x} is reserved", session.cntlid());
    Ok(())
}

fn version_is_that_of_the_property(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let property = session.admin().property_get(Property::Vs)?.ok()?.cqe.dw0;
    let data = identify(&mut session, 0x01, 0, 0)?;
    same("VER", le32(&data, 80)?, property)?;
    same("VS", property, 0x0002_0100)
}

fn the_type_is_io_controller(lab: &mut Lab) -> Result<()> {
    let data = identify(&mut admin_session(lab)?, 0x01, 0, 0)?;
    same("CNTRLTYPE", byte(&data, 111)?, 1)
}

fn subnqn_is_that_of_connect(lab: &mut Lab) -> Result<()> {
    let share = lab.share(Format::STANDARD)?;
    let data = identify(&mut admin_session(lab)?, 0x01, 0, 0)?;
    let nqn = share.nqn.as_bytes();
    same("SUBNQN", part(&data, 768, nqn.len())?, nqn)?;
    zero("SUBNQN", &data, 768 + nqn.len(), 256 - nqn.len())
}

fn entries_have_64_and_16_bytes(lab: &mut Lab) -> Result<()> {
    let data = identify(&mut admin_session(lab)?, 0x01, 0, 0)?;
    same("SQES", byte(&data, 512)?, 0x66)?;
    same("CQES", byte(&data, 513)?, 0x44)
}

fn maxcmd_fits_mqes(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let cap = session.admin().property_get(Property::Cap)?.ok()?.cqe.value();
    let entries = (cap & 0xffff).saturating_add(1);
    let data = identify(&mut session, 0x01, 0, 0)?;
    let maxcmd = u64::from(le16(&data, 514)?);
    ensure!((1..=entries).contains(&maxcmd), "MAXCMD {maxcmd} with queues of {entries} entries");
    Ok(())
}

fn nn_covers_every_namespace(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let data = identify(&mut session, 0x01, 0, 0)?;
    let (highest, most) = (le32(&data, 516)?, le32(&data, 540)?);
    let active = session.admin().active_namespaces(0)?;
    ensure!(active.iter().all(|nsid| *nsid <= highest), "NN {highest}, active {active:?}");
    ensure!(most <= highest, "MNAN {most} above NN {highest}");
    Ok(())
}

fn cmic_tells_of_other_controllers(lab: &mut Lab) -> Result<()> {
    let (mut one, mut other) = (admin_session(lab)?, admin_session(lab)?);
    let (one, other) = (identify(&mut one, 0x01, 0, 0)?, identify(&mut other, 0x01, 0, 0)?);
    ensure!(le16(&one, 78)? != le16(&other, 78)?, "two controllers with one CNTLID");
    ensure!(bit(byte(&one, 76)?, 1), "CMIC bit 1 is clear with two controllers there");
    Ok(())
}

fn the_subsystem_looks_the_same_to_all(lab: &mut Lab) -> Result<()> {
    let options = Options::default().io_queues(0);
    let mut plain = lab.open(Format::STANDARD, View::Plain, options.clone())?;
    let mut pi = lab.open(Format::STANDARD, View::Pi, options)?;
    let (plain, pi) = (identify(&mut plain, 0x01, 0, 0)?, identify(&mut pi, 0x01, 0, 0)?);
    for (what, at, len) in [("SN, MN, FR", 4, 68), ("SUBNQN", 768, 256), ("NN", 516, 4)] {
        same(what, part(&plain, at, len)?, part(&pi, at, len)?)?;
    }
    Ok(())
}

fn there_is_an_operational_power_state(lab: &mut Lab) -> Result<()> {
    let data = identify(&mut admin_session(lab)?, 0x01, 0, 0)?;
    let states = usize::from(byte(&data, 263)?).saturating_add(1);
    ensure!(states <= 32, "NPSS for {states} power states");
    ensure!(!bit(byte(&data, 2048 + 3)?, 1), "power state 0 is not operational");
    zero("power states beyond NPSS", &data, 2048 + states * 32, (32 - states) * 32)
}

fn warning_comes_before_critical(lab: &mut Lab) -> Result<()> {
    let data = identify(&mut admin_session(lab)?, 0x01, 0, 0)?;
    let (warning, critical) = (le16(&data, 266)?, le16(&data, 268)?);
    ensure!(critical == 0 || warning <= critical, "WCTEMP {warning}, CCTEMP {critical}");
    Ok(())
}

fn atomic_units_are_ordered(lab: &mut Lab) -> Result<()> {
    let data = identify(&mut admin_session(lab)?, 0x01, 0, 0)?;
    let (normal, power_fail, compare) = (le16(&data, 526)?, le16(&data, 528)?, le16(&data, 532)?);
    ensure!(power_fail <= normal, "AWUPF {power_fail:#x} above AWUN {normal:#x}");
    let fused = bit(le16(&data, 522)?, 0);
    ensure!(fused || compare == 0, "ACWU {compare:#x} without Compare and Write");
    Ok(())
}

/// Spaces that Base 2.1 leaves reserved.
fn reserved_bytes_are_zero(lab: &mut Lab) -> Result<()> {
    let data = identify(&mut admin_session(lab)?, 0x01, 0, 0)?;
    for (at, len) in [(144, 96), (448, 64), (640, 128), (1024, 768), (1808, 240)] {
        zero("reserved", &data, at, len)?;
    }
    Ok(())
}

/// Blocks of the standard format that MDTS allows.
fn blocks_max(mdts: u8) -> Result<u32> {
    ensure!((1..=12).contains(&mdts), "MDTS {mdts}");
    Ok(1 << mdts)
}

fn mdts_bounds_reads(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let most = blocks_max(session.controller().mdts)?;
    let len = usize::try_from(most)? * 4096;
    let io = session.io(1);
    same("bytes read", io.read(1, &Io::at(0, most), len)?.ok()?.data.len(), len)?;
    refused(&io.read(1, &Io::at(0, most + 1), len + 4096)?, code::INVALID_FIELD)
}

fn mdts_bounds_writes(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let most = blocks_max(session.controller().mdts)?;
    let data = pattern(1, usize::try_from(most + 1)? * 4096);
    let io = session.io(1);
    done(&io.write(1, &Io::at(0, most), part(&data, 0, data.len() - 4096)?)?)?;
    refused(&io.write(1, &Io::at(0, most + 1), &data)?, code::INVALID_FIELD)?;
    let back = io.read(1, &Io::at(0, most), data.len() - 4096)?.ok()?.data;
    same("what was written", back.as_slice() == part(&data, 0, data.len() - 4096)?, true)
}

/// CTRATT.MEM: with it MDTS counts no metadata, without it interleaved metadata takes its share.
fn mdts_leaves_metadata_out(lab: &mut Lab) -> Result<()> {
    let mut session = lab.open(Format::STANDARD, View::Pi, Options::default())?;
    let most = blocks_max(session.controller().mdts)?;
    let excluded = bit(session.controller().ctratt, 16);
    let len = usize::try_from(most)? * 4104;
    let completion = session.io(1).read(1, &Io::at(0, most), len)?;
    if excluded { done(&completion) } else { refused(&completion, code::INVALID_FIELD) }
}

fn capsules_carry_what_ioccsz_says(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let data = session.controller().raw.clone();
    ensure!(le32(&data, 1792)? >= 4, "IOCCSZ {}", le32(&data, 1792)?);
    same("IORCSZ", le32(&data, 1796)?, 1)?;
    same("ICDOFF", le16(&data, 1800)?, 0)?;
    ensure!(byte(&data, 1803)? >= 1, "MSDBD 0");
    let blocks = session.controller().in_capsule_max() / 4096;
    ensure!(blocks > 0, "no block fits a capsule");
    let written = pattern(2, blocks * 4096);
    let at = Io::at(16, u32::try_from(blocks)?);
    let completion = session.io(1).write(1, &at, &written)?;
    done(&completion)?;
    same("bytes in the capsule", completion.trace.in_capsule_len, written.len())?;
    same("R2Ts", completion.trace.r2ts, 0)
}

fn sgls_are_supported_as_fabrics_need(lab: &mut Lab) -> Result<()> {
    let data = identify(&mut admin_session(lab)?, 0x01, 0, 0)?;
    let sgls = le32(&data, 536)?;
    ensure!(matches!(sgls & 0b11, 1 | 2), "SGLS {sgls:#x} says that SGLs are not supported");
    // In-capsule data needs Data Block descriptors with offsets, everything else Transport Data Blocks.
    ensure!(bit(sgls, 20), "SGLS {sgls:#x} without offsets in Data Block descriptors");
    ensure!(bit(sgls, 21), "SGLS {sgls:#x} without Transport SGL Data Block descriptors");
    Ok(())
}

fn the_structure_does_not_change(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let first = identify(&mut session, 0x01, 0, 0)?;
    let again = identify(&mut session, 0x01, 0, 0)?;
    ensure!(first == again, "two looks at one controller differ");
    Ok(())
}

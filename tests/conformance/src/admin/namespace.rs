//! What Identify says of a namespace, held against the API and against itself. NVM Command Set 1.1 §4.1.5 "Identify
//! Command"; NVM Express Base 2.1 §5.1.13.2 "Identify Data Structures", §3.2.1.5 "NSID and Namespace Relationships".

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use holdfast_e2e::eventually;
use holdfast_testkit::wire::code;
use holdfast_testkit::{Io, Options, Session};
use serde_json::Value;

use super::{INACTIVE_NSID, admin_session, identify, nsid_max, try_identify};
use crate::check::same;
use crate::fields::{bit, byte, le16, le32, le64, refused, refused_among, zero};
use crate::{Case, Format, Guard, Lab, View};

const NVM: &str =
    "NVM Command Set 1.1 §4.1.5.1 \"NVM Command Set Identify Namespace Data Structure (CNS 00h)\"";
const SPECIFIC: &str = "NVM Command Set 1.1 §4.1.5.3 \"I/O Command Set specific Identify Namespace Data Structure (CNS \
                        05h, CSI 00h)\"";
const CONTROLLER: &str = "NVM Command Set 1.1 §4.1.5.4 \"I/O Command Set specific Identify Controller Data Structure \
                          (CNS 06h, CSI 00h)\"";
const INDEPENDENT: &str =
    "Base 2.1 §5.1.13.2.8 \"I/O Command Set Independent Identify Namespace data structure (CNS 08h)\"";
const NSID: &str = "Base 2.1 §3.2.1.5 \"NSID and Namespace Relationships\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "admin.namespace.size", clause: NVM, run: nsze_is_the_size_at_the_api },
    Case { id: "admin.namespace.capacity", clause: NVM, run: utilization_fits_capacity_and_size },
    Case { id: "admin.namespace.utilization", clause: NVM, run: utilization_follows_writes },
    Case { id: "admin.namespace.sharing", clause: NVM, run: nmic_tells_of_sharing },
    Case { id: "admin.namespace.deallocation", clause: NVM, run: dlfeat_says_zeroes },
    Case { id: "admin.namespace.atomicity", clause: NVM, run: namespace_units_are_no_smaller },
    Case { id: "admin.namespace.copy-limits", clause: NVM, run: copy_limits_go_with_copy },
    Case { id: "admin.namespace.lba-formats", clause: NVM, run: the_format_in_use_is_listed },
    Case { id: "admin.namespace.inactive", clause: NVM, run: |lab| inactive_is_zero(lab, 0x00) },
    Case {
        id: "admin.namespace.inactive-specific",
        clause: SPECIFIC,
        run: |lab| inactive_is_zero(lab, 0x05),
    },
    Case { id: "admin.namespace.inactive-independent", clause: INDEPENDENT, run: inactive_independent },
    Case { id: "admin.namespace.zero", clause: NSID, run: nsid_zero_is_invalid },
    Case { id: "admin.namespace.beyond", clause: NSID, run: nsids_beyond_nn_are_invalid },
    Case {
        id: "admin.namespace.broadcast",
        clause: NVM,
        run: broadcast_gives_common_capabilities_or_nothing,
    },
    Case { id: "admin.namespace.specific-csi", clause: SPECIFIC, run: other_command_sets_are_refused },
    Case { id: "admin.namespace.specific-reserved", clause: SPECIFIC, run: specific_reserved_is_zero },
    Case { id: "admin.namespace.command-set", clause: CONTROLLER, run: command_set_limits_are_all_or_none },
    Case {
        id: "admin.namespace.command-set-csi",
        clause: CONTROLLER,
        run: other_command_sets_have_no_limits,
    },
    Case { id: "admin.namespace.independent", clause: INDEPENDENT, run: independent_agrees_with_nvm },
    Case { id: "admin.namespace.ready", clause: INDEPENDENT, run: a_namespace_in_use_is_ready },
];

fn nsze_is_the_size_at_the_api(lab: &mut Lab) -> Result<()> {
    for format in [Format::STANDARD, Format::new(512, 1, Guard::Crc16)] {
        let share = lab.share(format)?;
        let volume = lab.rest().get(&format!("/volumes/{}", share.name))?;
        let bytes = volume.get("size_bytes").and_then(Value::as_u64).context("no size_bytes")?;
        let mut session = lab.open(format, View::Plain, Options::default().io_queues(0))?;
        let data = identify(&mut session, 0x00, 1, 0)?;
        same("NSZE", le64(&data, 0)?, bytes / u64::from(format.block_size))?;
    }
    Ok(())
}

fn utilization_fits_capacity_and_size(lab: &mut Lab) -> Result<()> {
    let data = identify(&mut admin_session(lab)?, 0x00, 1, 0)?;
    let (size, capacity, used) = (le64(&data, 0)?, le64(&data, 8)?, le64(&data, 16)?);
    ensure!(used <= capacity && capacity <= size, "NSZE {size}, NCAP {capacity}, NUSE {used}");
    let thin = bit(byte(&data, 24)?, 0);
    ensure!(thin || capacity == size, "NCAP {capacity} below NSZE {size} without thin provisioning");
    Ok(())
}

/// With thin provisioning NUSE counts what is allocated.
fn utilization_follows_writes(lab: &mut Lab) -> Result<()> {
    let share = lab.fresh_share(Format::STANDARD)?;
    let mut session = lab.open_as("plain", &share, View::Plain, Options::default())?;
    let used = |session: &mut Session| {
        let data = identify(session, 0x00, 1, 0)?;
        Ok::<_, anyhow::Error>((le64(&data, 16)?, bit(byte(&data, 24)?, 0)))
    };
    let (before, thin) = used(&mut session)?;
    if !thin {
        return Ok(());
    }
    crate::fields::done(&session.io(1).write(1, &Io::at(0, 64), &vec![1; 64 * 4096])?)?;
    let look = || Ok((used(&mut session)?.0 >= before + 64).then_some(()));
    // Usage may be told from time to time.
    eventually(Duration::from_secs(20), "a higher NUSE", look)
}

fn nmic_tells_of_sharing(lab: &mut Lab) -> Result<()> {
    let mut first = admin_session(lab)?;
    let mut second = admin_session(lab)?;
    for session in [&mut first, &mut second] {
        let data = identify(session, 0x00, 1, 0)?;
        ensure!(bit(byte(&data, 30)?, 0), "NMIC bit 0 is clear, and two controllers have the namespace");
    }
    Ok(())
}

fn dlfeat_says_zeroes(lab: &mut Lab) -> Result<()> {
    let data = identify(&mut admin_session(lab)?, 0x00, 1, 0)?;
    let features = byte(&data, 33)?;
    same("DLFEAT, read behavior", features & 0b111, 0b001)?;
    same("DLFEAT, reserved", features >> 5, 0)
}

fn namespace_units_are_no_smaller(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let controller = identify(&mut session, 0x01, 0, 0)?;
    let data = identify(&mut session, 0x00, 1, 0)?;
    if !bit(byte(&data, 24)?, 1) {
        return zero("NAWUN, NAWUPF, NACWU without NSABP", &data, 34, 6);
    }
    for (what, own, of_all) in [("AWUN", 34, 526), ("AWUPF", 36, 528), ("ACWU", 38, 532)] {
        let (own, of_all) = (le16(&data, own)?, le16(&controller, of_all)?);
        ensure!(own == 0 || own >= of_all, "N{what} {own:#x} below {what} {of_all:#x}");
    }
    Ok(())
}

fn copy_limits_go_with_copy(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let copies = bit(session.controller().oncs, 8);
    let data = identify(&mut session, 0x00, 1, 0)?;
    let (range, total, ranges) = (le16(&data, 74)?, le32(&data, 76)?, byte(&data, 80)?);
    if !copies {
        return ensure_all_zero(range, total, ranges);
    }
    ensure!(range > 0 && total > 0, "MSSRL {range}, MCL {total}");
    ensure!(u32::from(range) <= total, "MSSRL {range} above MCL {total}");
    Ok(())
}

fn ensure_all_zero(range: u16, total: u32, ranges: u8) -> Result<()> {
    ensure!((range, total, ranges) == (0, 0, 0), "limits of Copy, which is not supported");
    Ok(())
}

fn the_format_in_use_is_listed(lab: &mut Lab) -> Result<()> {
    for view in [View::Plain, View::Pi] {
        let mut session = lab.open(Format::STANDARD, view, Options::default().io_queues(0))?;
        let data = identify(&mut session, 0x00, 1, 0)?;
        let flbas = byte(&data, 26)?;
        let index = flbas & 0x0f | (flbas >> 5 & 0b11) << 4;
        let (listed, unique) = (byte(&data, 25)?, byte(&data, 82)?);
        ensure!(
            u16::from(index) <= u16::from(listed) + u16::from(unique),
            "FLBAS {flbas:#x}, NLBAF {listed}"
        );
        same("FLBAS bit 7", flbas >> 7, 0)?;
        for format in 0..=usize::from(listed) {
            let size = byte(&data, 128 + format * 4 + 2)?;
            ensure!(size == 0 || (9..=16).contains(&size), "LBAF{format} has LBADS {size}");
        }
        let beyond = 128 + (usize::from(listed) + usize::from(unique) + 1) * 4;
        zero("LBA formats beyond NLBAF", &data, beyond, 384 - beyond)?;
    }
    Ok(())
}

fn inactive_is_zero(lab: &mut Lab, cns: u8) -> Result<()> {
    let data = identify(&mut admin_session(lab)?, cns, INACTIVE_NSID, 0)?;
    zero("an inactive namespace", &data, 0, data.len())
}

/// Base 2.1 leaves CNS 08h of an inactive namespace a choice between zeroes and Invalid Field in Command.
fn inactive_independent(lab: &mut Lab) -> Result<()> {
    let completion = try_identify(&mut admin_session(lab)?, 0x08, INACTIVE_NSID, 0)?;
    if completion.status().is_success() {
        return zero("an inactive namespace", &completion.data, 0, completion.data.len());
    }
    refused(&completion, code::INVALID_FIELD)
}

fn nsid_zero_is_invalid(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for cns in [0x00, 0x03, 0x05, 0x08] {
        refused(&try_identify(&mut session, cns, 0, 0)?, code::INVALID_NAMESPACE)?;
    }
    Ok(())
}

fn nsids_beyond_nn_are_invalid(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let highest = nsid_max(&mut session)?;
    for nsid in [highest + 1, 0x8000_0000, 0xffff_fffe] {
        for cns in [0x00, 0x03, 0x05, 0x08] {
            refused(&try_identify(&mut session, cns, nsid, 0)?, code::INVALID_NAMESPACE)?;
        }
    }
    Ok(())
}

/// Without Namespace Management the controller may refuse; with it every namespace has the capabilities in common.
fn broadcast_gives_common_capabilities_or_nothing(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let managed = bit(le16(&session.controller().raw, 256)?, 3);
    let completion = try_identify(&mut session, 0x00, u32::MAX, 0)?;
    if !managed && !completion.status().is_success() {
        return refused(&completion, code::INVALID_NAMESPACE);
    }
    for (what, at, len) in [("NSZE, NCAP, NUSE, NSFEAT", 0, 25), ("FLBAS", 26, 1), ("NGUID, EUI64", 104, 24)]
    {
        zero(what, &completion.data, at, len)?;
    }
    Ok(())
}

/// CSI in CDW11 bits 31:24.
fn other_command_sets_are_refused(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for csi in [1, 2, 3, 0x30, 0xff] {
        refused(&try_identify(&mut session, 0x05, 1, csi << 24)?, code::INVALID_FIELD)?;
    }
    Ok(())
}

fn specific_reserved_is_zero(lab: &mut Lab) -> Result<()> {
    let data = identify(&mut admin_session(lab)?, 0x05, 1, 0)?;
    zero("ELBAFs beyond the formats", &data, 12 + 64 * 4 + 64, data.len() - (12 + 64 * 4 + 64))
}

fn command_set_limits_are_all_or_none(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let oncs = session.controller().oncs;
    let data = identify(&mut session, 0x06, 0, 0)?;
    let (ranges, blocks, total) = (byte(&data, 3)?, le32(&data, 4)?, le64(&data, 8)?);
    let limits = [ranges != 0, blocks != 0, total != 0];
    ensure!(limits.iter().all(|set| *set == limits[0]), "DMRL {ranges}, DMRSL {blocks}, DMSL {total}");
    ensure!(bit(oncs, 2) || limits[0] || total == 0, "no Dataset Management, but limits of it");
    zero("reserved", &data, 64, data.len() - 64)
}

fn other_command_sets_have_no_limits(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for csi in [1, 2, 0xff] {
        let completion = try_identify(&mut session, 0x06, 0, csi << 24)?;
        refused_among(&completion, &[code::INVALID_FIELD, (1, 0x2c)])?;
    }
    Ok(())
}

fn independent_agrees_with_nvm(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let nvm = identify(&mut session, 0x00, 1, 0)?;
    let data = identify(&mut session, 0x08, 1, 0)?;
    same("NMIC", byte(&data, 1)?, byte(&nvm, 30)?)?;
    same("RESCAP", byte(&data, 2)?, byte(&nvm, 31)?)?;
    same("FPI", byte(&data, 3)?, byte(&nvm, 32)?)?;
    same("ANAGRPID", le32(&data, 4)?, le32(&nvm, 92)?)?;
    same("NSATTR", byte(&data, 8)?, byte(&nvm, 99)?)?;
    same("NVMSETID", le16(&data, 10)?, le16(&nvm, 100)?)?;
    same("ENDGID", le16(&data, 12)?, le16(&nvm, 102)?)?;
    same("UIDREUSE", bit(byte(&data, 0)?, 3), bit(byte(&nvm, 24)?, 3))
}

fn a_namespace_in_use_is_ready(lab: &mut Lab) -> Result<()> {
    let data = identify(&mut admin_session(lab)?, 0x08, 1, 0)?;
    ensure!(bit(byte(&data, 14)?, 0), "NSTAT says that the namespace is not ready");
    Ok(())
}

//! Lists of namespaces, controllers and command sets, and structures that are not there. NVM Express Base 2.1 §5.1.13.1
//! "Identify command overview" (CNS values), §5.1.13.2 "Identify Data Structures".

use anyhow::{Result, ensure};
use holdfast_testkit::wire::{Sqe, code};
use holdfast_testkit::{Command, Options, Property};

use super::{admin_session, identify, try_identify};
use crate::check::same;
use crate::fields::{bit, le16, le32, le64, refused, refused_among, zero};
use crate::{Case, Format, Lab, View};

const ACTIVE: &str = "Base 2.1 §5.1.13.2.2 \"Active Namespace ID list (CNS 02h)\"";
const ACTIVE_CSI: &str =
    "Base 2.1 §5.1.13.2.7 \"I/O Command Set specific Active Namespace ID list (CNS 07h)\"";
const SETS: &str = "Base 2.1 §5.1.13.2.19 \"Identify I/O Command Set data structure (CNS 1Ch)\"";
const CONTROLLERS: &str = "Base 2.1 §5.1.13.2.12 \"Controller list (CNS 13h)\"";
const VALUES: &str = "Base 2.1 §5.1.13.1 \"Identify command overview\", CNS values";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "admin.lists.active", clause: ACTIVE, run: active_namespaces_are_in_order },
    Case { id: "admin.lists.active-after", clause: ACTIVE, run: the_list_begins_above_its_nsid },
    Case { id: "admin.lists.active-end", clause: ACTIVE, run: the_highest_nsids_are_invalid },
    Case { id: "admin.lists.active-csi", clause: ACTIVE_CSI, run: the_nvm_command_set_has_all },
    Case { id: "admin.lists.active-csi-other", clause: ACTIVE_CSI, run: another_command_set_has_none },
    Case { id: "admin.lists.active-csi-end", clause: ACTIVE_CSI, run: the_same_nsids_are_invalid },
    Case { id: "admin.lists.command-sets", clause: SETS, run: the_nvm_command_set_is_a_combination },
    Case { id: "admin.lists.command-sets-own", clause: SETS, run: the_controller_finds_itself },
    Case { id: "admin.lists.controllers", clause: CONTROLLERS, run: controllers_are_in_order },
    Case { id: "admin.lists.allocated", clause: VALUES, run: allocated_lists_need_namespace_management },
    Case { id: "admin.lists.reserved", clause: VALUES, run: reserved_values_are_invalid_fields },
    Case { id: "admin.lists.vendor", clause: VALUES, run: vendor_values_are_invalid_fields },
    Case { id: "admin.lists.optional", clause: VALUES, run: optional_values_are_answered },
    Case { id: "admin.lists.unused-fields", clause: VALUES, run: fields_of_other_values_are_ignored },
    Case { id: "admin.lists.short-buffer", clause: VALUES, run: a_short_buffer_is_refused },
];

fn nsids(data: &[u8]) -> Result<Vec<u32>> {
    let all = (0..1024).map(|index| le32(data, index * 4)).collect::<Result<Vec<_>>>()?;
    let used = all.iter().position(|nsid| *nsid == 0).unwrap_or(all.len());
    ensure!(all.iter().skip(used).all(|nsid| *nsid == 0), "NSIDs behind the end of the list");
    Ok(all.into_iter().take(used).collect())
}

/// A subsystem with namespaces 1, 2, 9 and 1000.
fn sparse(lab: &mut Lab) -> Result<holdfast_testkit::Session> {
    let share = lab.fresh_share(Format::STANDARD)?;
    for nsid in [2, 9, 1000] {
        lab.add_namespace(&share, nsid, Format::STANDARD)?;
    }
    lab.open_as("plain", &share, View::Plain, Options::default().io_queues(0))
}

fn active_namespaces_are_in_order(lab: &mut Lab) -> Result<()> {
    let data = identify(&mut sparse(lab)?, 0x02, 0, 0)?;
    same("active NSIDs", nsids(&data)?, vec![1, 2, 9, 1000])
}

fn the_list_begins_above_its_nsid(lab: &mut Lab) -> Result<()> {
    let mut session = sparse(lab)?;
    for (after, expected) in
        [(1, vec![2, 9, 1000]), (2, vec![9, 1000]), (8, vec![9, 1000]), (1000, vec![]), (0xffff_fffd, vec![])]
    {
        let data = identify(&mut session, 0x02, after, 0)?;
        same(&format!("NSIDs above {after}"), nsids(&data)?, expected)?;
    }
    Ok(())
}

fn the_highest_nsids_are_invalid(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for nsid in [u32::MAX - 1, u32::MAX] {
        refused(&try_identify(&mut session, 0x02, nsid, 0)?, code::INVALID_NAMESPACE)?;
    }
    Ok(())
}

fn the_nvm_command_set_has_all(lab: &mut Lab) -> Result<()> {
    let mut session = sparse(lab)?;
    for after in [0, 1, 2, 9] {
        let all = identify(&mut session, 0x02, after, 0)?;
        let of_nvm = identify(&mut session, 0x07, after, 0)?;
        ensure!(all == of_nvm, "CNS 02h and 07h differ above NSID {after}");
    }
    Ok(())
}

fn another_command_set_has_none(lab: &mut Lab) -> Result<()> {
    let completion = try_identify(&mut admin_session(lab)?, 0x07, 0, 1 << 24)?;
    if completion.status().is_success() {
        return zero("namespaces of the Key Value Command Set", &completion.data, 0, completion.data.len());
    }
    refused_among(&completion, &[code::INVALID_FIELD, (1, 0x2c)])
}

fn the_same_nsids_are_invalid(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for nsid in [u32::MAX - 1, u32::MAX] {
        refused(&try_identify(&mut session, 0x07, nsid, 0)?, code::INVALID_NAMESPACE)?;
    }
    Ok(())
}

/// CNTID is in CDW10 bits 31:16.
fn command_sets(session: &mut holdfast_testkit::Session, cntid: u16) -> Result<Option<Vec<u8>>> {
    let cap = session.admin().property_get(Property::Cap)?.ok()?.cqe.value();
    let sqe = Sqe::new(0x06).cdw(10, u32::from(cntid) << 16 | 0x1c);
    let completion = session.admin().run(Command::reading(sqe, 4096))?;
    if !bit(cap, 43) && !completion.status().is_success() {
        refused(&completion, code::INVALID_FIELD)?;
        return Ok(None);
    }
    crate::fields::done(&completion)?;
    Ok(Some(completion.data))
}

fn the_nvm_command_set_is_a_combination(lab: &mut Lab) -> Result<()> {
    let Some(data) = command_sets(&mut admin_session(lab)?, 0xffff)? else { return Ok(()) };
    same("combination 0", le64(&data, 0)?, 1)?;
    zero("further combinations", &data, 8, data.len() - 8)
}

fn the_controller_finds_itself(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let own = session.cntlid();
    let (any, by_number) = (command_sets(&mut session, 0xffff)?, command_sets(&mut session, own)?);
    ensure!(any == by_number, "FFFFh and the own CNTLID differ");
    Ok(())
}

fn controllers_are_in_order(lab: &mut Lab) -> Result<()> {
    let (mut first, second) = (admin_session(lab)?, admin_session(lab)?);
    let completion = try_identify(&mut first, 0x13, 0, 0)?;
    if !completion.status().is_success() {
        return refused(&completion, code::INVALID_FIELD);
    }
    let count = usize::from(le16(&completion.data, 0)?);
    let ids = (1..=count).map(|index| le16(&completion.data, index * 2)).collect::<Result<Vec<_>>>()?;
    ensure!(ids.is_sorted(), "CNTLIDs {ids:?} are not in order");
    ensure!(
        [first.cntlid(), second.cntlid()].iter().all(|id| ids.contains(id)),
        "{ids:?} lacks a controller"
    );
    Ok(())
}

fn allocated_lists_need_namespace_management(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let managed = bit(le16(&session.controller().raw, 256)?, 3);
    for (cns, nsid) in [(0x10, 0), (0x11, 1), (0x1a, 0), (0x1b, 1)] {
        let completion = try_identify(&mut session, cns, nsid, 0)?;
        if !completion.status().is_success() {
            ensure!(!managed, "CNS {cns:02x}h is refused with Namespace Management");
            refused(&completion, code::INVALID_FIELD)?;
        }
    }
    Ok(())
}

fn reserved_values_are_invalid_fields(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for cns in (0x0c..=0x0f).chain(0x22..=0xbf) {
        refused(&try_identify(&mut session, cns, 1, 0)?, code::INVALID_FIELD)?;
    }
    Ok(())
}

fn vendor_values_are_invalid_fields(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for cns in 0xc0..=0xff {
        refused(&try_identify(&mut session, cns, 0, 0)?, code::INVALID_FIELD)?;
    }
    Ok(())
}

fn optional_values_are_answered(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for cns in [0x04, 0x09, 0x0a, 0x12, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1d, 0x1e, 0x1f, 0x20] {
        let completion = try_identify(&mut session, cns, 1, 0)?;
        if completion.status().is_success() {
            same("bytes", completion.data.len(), 4096)?;
        } else {
            refused(&completion, code::INVALID_FIELD)?;
        }
    }
    Ok(())
}

/// CNTID, CSI and the CNS Specific Identifier mean nothing to CNS 01h.
fn fields_of_other_values_are_ignored(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let plain = identify(&mut session, 0x01, 0, 0)?;
    let sqe = Sqe::new(0x06).cdw(10, 0x1234_0001).cdw(11, 0x0200_ffff);
    let completion = session.admin().run(Command::reading(sqe, 4096))?;
    crate::fields::done(&completion)?;
    ensure!(completion.data == plain, "CNTID and CSI changed Identify Controller");
    Ok(())
}

fn a_short_buffer_is_refused(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let sqe = Sqe::new(0x06).cdw(10, 1).sgl_transport(2048);
    let completion = session.admin().run(Command::reading(sqe, 2048).keep_sgl())?;
    refused(&completion, code::DATA_SGL_LENGTH_INVALID)
}

//! Changed Attached Namespace List: what changed at the API is found in it. NVM Express Base 2.1 §5.1.12.1.5 "Changed
//! Attached Namespace List (Log Page Identifier 04h)".

use anyhow::{Result, ensure};
use holdfast_testkit::wire::code;
use holdfast_testkit::{Io, Options, Session};
use serde_json::json;

use super::changed_namespaces;
use crate::admin::identify;
use crate::check::same;
use crate::events::{Watched, change_is_seen};
use crate::fields::{le64, refused, zero};
use crate::{Case, Format, Lab, Share, View};

const CLAUSE: &str = "Base 2.1 §5.1.12.1.5 \"Changed Attached Namespace List (Log Page Identifier 04h)\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "logs.changed.empty", clause: CLAUSE, run: nothing_has_changed_at_first },
    Case { id: "logs.changed.added", clause: CLAUSE, run: an_added_namespace_is_listed },
    Case { id: "logs.changed.grown", clause: CLAUSE, run: a_grown_namespace_is_listed },
    Case { id: "logs.changed.deleted", clause: CLAUSE, run: a_deleted_namespace_is_listed },
    Case { id: "logs.changed.order", clause: CLAUSE, run: several_are_listed_in_order },
    Case { id: "logs.changed.once", clause: CLAUSE, run: a_read_clears_the_list },
    Case { id: "logs.changed.retained", clause: CLAUSE, run: a_retaining_read_keeps_the_list },
    Case { id: "logs.changed.own", clause: CLAUSE, run: each_controller_has_its_list },
    Case { id: "logs.changed.not-asked", clause: CLAUSE, run: the_list_needs_no_event },
];

fn open(lab: &mut Lab) -> Result<(Share, Session)> {
    let share = lab.fresh_share(Format::STANDARD)?;
    let session = lab.open_as("plain", &share, View::Plain, Options::default())?;
    Ok((share, session))
}

fn nothing_has_changed_at_first(lab: &mut Lab) -> Result<()> {
    let (_, mut session) = open(lab)?;
    same("changed namespaces", changed_namespaces(&mut session, false)?, vec![])
}

fn an_added_namespace_is_listed(lab: &mut Lab) -> Result<()> {
    let (share, mut session) = open(lab)?;
    lab.add_namespace(&share, 7, Format::STANDARD)?;
    change_is_seen(&mut session, Watched::Active(7))?;
    same("changed namespaces", changed_namespaces(&mut session, false)?, vec![7])?;
    crate::fields::done(&session.io(1).read(7, &Io::at(0, 1), 4096)?)
}

fn a_grown_namespace_is_listed(lab: &mut Lab) -> Result<()> {
    let (share, mut session) = open(lab)?;
    let before = le64(&identify(&mut session, 0x00, 1, 0)?, 0)?;
    let grown = json!({"size_bytes": (before + 16) * 4096});
    lab.rest().patch(&format!("/volumes/{}", share.name), &grown)?;
    change_is_seen(&mut session, Watched::Size(1, before + 16))?;
    same("changed namespaces", changed_namespaces(&mut session, false)?, vec![1])
}

fn a_deleted_namespace_is_listed(lab: &mut Lab) -> Result<()> {
    let (share, mut session) = open(lab)?;
    lab.rest().delete(&format!("/subsystems/{}/namespaces/1", share.name))?;
    change_is_seen(&mut session, Watched::Inactive(1))?;
    same("changed namespaces", changed_namespaces(&mut session, false)?, vec![1])?;
    let data = identify(&mut session, 0x00, 1, 0)?;
    zero("a deleted namespace", &data, 0, data.len())?;
    refused(&session.io(1).read(1, &Io::at(0, 1), 4096)?, code::INVALID_FIELD)
}

fn several_are_listed_in_order(lab: &mut Lab) -> Result<()> {
    let (share, mut session) = open(lab)?;
    for nsid in [30, 9, 200] {
        lab.add_namespace(&share, nsid, Format::STANDARD)?;
    }
    lab.rest().delete(&format!("/subsystems/{}/namespaces/1", share.name))?;
    for nsid in [9, 30, 200] {
        change_is_seen(&mut session, Watched::Active(nsid))?;
    }
    change_is_seen(&mut session, Watched::Inactive(1))?;
    same("changed namespaces", changed_namespaces(&mut session, false)?, vec![1, 9, 30, 200])
}

fn a_read_clears_the_list(lab: &mut Lab) -> Result<()> {
    let (share, mut session) = open(lab)?;
    lab.add_namespace(&share, 7, Format::STANDARD)?;
    change_is_seen(&mut session, Watched::Active(7))?;
    same("changed namespaces", changed_namespaces(&mut session, false)?, vec![7])?;
    same("after a read", changed_namespaces(&mut session, false)?, vec![])?;
    lab.add_namespace(&share, 8, Format::STANDARD)?;
    change_is_seen(&mut session, Watched::Active(8))?;
    same("after another change", changed_namespaces(&mut session, false)?, vec![8])
}

fn a_retaining_read_keeps_the_list(lab: &mut Lab) -> Result<()> {
    let (share, mut session) = open(lab)?;
    lab.add_namespace(&share, 7, Format::STANDARD)?;
    change_is_seen(&mut session, Watched::Active(7))?;
    for _ in 0..3 {
        same("with RAE", changed_namespaces(&mut session, true)?, vec![7])?;
    }
    same("without RAE", changed_namespaces(&mut session, false)?, vec![7])?;
    same("afterwards", changed_namespaces(&mut session, true)?, vec![])
}

fn each_controller_has_its_list(lab: &mut Lab) -> Result<()> {
    let (share, mut one) = open(lab)?;
    let mut other = lab.open_as("plain", &share, View::Plain, Options::default())?;
    lab.add_namespace(&share, 7, Format::STANDARD)?;
    for session in [&mut one, &mut other] {
        change_is_seen(session, Watched::Active(7))?;
    }
    same("of one", changed_namespaces(&mut one, false)?, vec![7])?;
    same("of the other", changed_namespaces(&mut other, false)?, vec![7])
}

/// Asynchronous Event Configuration governs the event, not the list.
fn the_list_needs_no_event(lab: &mut Lab) -> Result<()> {
    let (share, mut session) = open(lab)?;
    let configuration = session.admin().get_feature(0x0b)?.ok()?.cqe.dw0;
    ensure!(configuration >> 8 & 1 == 0, "events are enabled by default: {configuration:#x}");
    lab.add_namespace(&share, 7, Format::STANDARD)?;
    change_is_seen(&mut session, Watched::Active(7))?;
    same("changed namespaces", changed_namespaces(&mut session, false)?, vec![7])
}

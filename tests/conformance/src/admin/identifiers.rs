//! Identifiers that are the same for ever and for everybody. NVM Express Base 2.1 §4.5 "Identifier Format and Layout",
//! §5.1.13.2.3 "Namespace Identification Descriptor list (CNS 03h)".

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::code;
use holdfast_testkit::{Io, Options, Property, Session};
use serde_json::Value;

use super::{INACTIVE_NSID, admin_session, identify, try_identify};
use crate::check::same;
use crate::events::{Watched, change_is_seen};
use crate::fields::{bit, byte, done, part, refused, zero};
use crate::{Case, Format, Guard, Lab, View};

const CLAUSE: &str = "Base 2.1 §5.1.13.2.3 \"Namespace Identification Descriptor list (CNS 03h)\"";
const UNIQUE: &str = "Base 2.1 §4.7.1 \"Unique Identifier\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "admin.identifiers.nguid", clause: UNIQUE, run: nguid_is_that_of_the_api },
    Case { id: "admin.identifiers.uuid", clause: CLAUSE, run: uuid_is_that_of_the_api },
    Case { id: "admin.identifiers.descriptors", clause: CLAUSE, run: descriptors_are_well_formed },
    Case { id: "admin.identifiers.command-set", clause: CLAUSE, run: the_command_set_is_named },
    Case { id: "admin.identifiers.both-views", clause: UNIQUE, run: both_views_have_the_same },
    Case { id: "admin.identifiers.reconnect", clause: UNIQUE, run: they_outlive_a_session },
    Case { id: "admin.identifiers.reset", clause: UNIQUE, run: they_outlive_a_controller_reset },
    Case { id: "admin.identifiers.distinct", clause: UNIQUE, run: two_volumes_differ },
    Case { id: "admin.identifiers.replaced", clause: UNIQUE, run: another_volume_has_its_own },
    Case { id: "admin.identifiers.inactive", clause: CLAUSE, run: an_inactive_nsid_is_an_invalid_field },
    Case { id: "admin.identifiers.broadcast", clause: CLAUSE, run: the_highest_nsids_are_invalid },
];

/// NIDT and NID.
type Descriptor = (u8, Vec<u8>);

/// Every descriptor in CNS 03h, and where they end.
fn descriptors(data: &[u8]) -> Result<(Vec<Descriptor>, usize)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at + 4 <= data.len() && byte(data, at + 1)? != 0 {
        let len = usize::from(byte(data, at + 1)?);
        found.push((byte(data, at)?, part(data, at + 4, len)?.to_vec()));
        at += 4 + len;
    }
    Ok((found, at))
}

/// Everything that names namespace 1: NGUID, EUI64 and all descriptors.
fn names(session: &mut Session) -> Result<(Vec<u8>, Vec<u8>)> {
    let namespace = identify(session, 0x00, 1, 0)?;
    Ok((part(&namespace, 104, 24)?.to_vec(), identify(session, 0x03, 1, 0)?))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn at_the_api(lab: &mut Lab, field: &str) -> Result<String> {
    let share = lab.share(Format::STANDARD)?;
    let volume = lab.rest().get(&format!("/volumes/{}", share.name))?;
    let value = volume.get(field).and_then(Value::as_str).with_context(|| format!("no {field}"))?;
    Ok(value.replace('-', ""))
}

fn nguid_is_that_of_the_api(lab: &mut Lab) -> Result<()> {
    let (numbers, _) = names(&mut admin_session(lab)?)?;
    same("NGUID", hex(part(&numbers, 0, 16)?), at_the_api(lab, "nguid")?)
}

fn uuid_is_that_of_the_api(lab: &mut Lab) -> Result<()> {
    let (_, data) = names(&mut admin_session(lab)?)?;
    let (found, _) = descriptors(&data)?;
    let uuid = found.iter().find(|(kind, _)| *kind == 3).context("no UUID descriptor")?;
    same("UUID", hex(&uuid.1), at_the_api(lab, "uuid")?)
}

fn descriptors_are_well_formed(lab: &mut Lab) -> Result<()> {
    let (numbers, data) = names(&mut admin_session(lab)?)?;
    let (found, end) = descriptors(&data)?;
    let (nguid, eui64) = (part(&numbers, 0, 16)?, part(&numbers, 16, 8)?);
    for (kind, value) in &found {
        ensure!(found.iter().filter(|(other, _)| other == kind).count() == 1, "NIDT {kind} twice");
        match kind {
            1 => same("EUI64 descriptor", value.as_slice(), eui64)?,
            2 => same("NGUID descriptor", value.as_slice(), nguid)?,
            3 => same("UUID length", value.len(), 16)?,
            4 => same("CSI length", value.len(), 1)?,
            other => anyhow::bail!("NIDT {other} is reserved"),
        }
    }
    let has = |kind| found.iter().any(|(found, _)| *found == kind);
    same("NGUID descriptor there", has(2), nguid != [0; 16])?;
    same("EUI64 descriptor there", has(1), eui64 != [0; 8])?;
    ensure!(has(1) || has(2) || has(3), "no descriptor identifies the namespace");
    zero("behind the descriptors", &data, end, data.len() - end)
}

fn the_command_set_is_named(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let cap = session.admin().property_get(Property::Cap)?.ok()?.cqe.value();
    let (_, data) = names(&mut session)?;
    let csi = descriptors(&data)?.0.into_iter().find(|(kind, _)| *kind == 4);
    ensure!(csi.is_some() || !bit(cap, 43), "CAP.CSS has IOCSS, and no descriptor has the CSI");
    same("CSI", csi.map_or(vec![0], |(_, value)| value), vec![0])
}

fn both_views_have_the_same(lab: &mut Lab) -> Result<()> {
    for format in [Format::STANDARD, Format::new(512, 2, Guard::Crc16)] {
        let options = Options::default().io_queues(0);
        let plain = names(&mut lab.open(format, View::Plain, options.clone())?)?;
        let pi = names(&mut lab.open(format, View::Pi, options)?)?;
        ensure!(plain == pi, "the views of one volume have different identifiers");
    }
    Ok(())
}

fn they_outlive_a_session(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let before = names(&mut session)?;
    session.close()?;
    ensure!(names(&mut admin_session(lab)?)? == before, "another session sees other identifiers");
    Ok(())
}

fn they_outlive_a_controller_reset(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let before = names(&mut session)?;
    session.admin().property_set(Property::Cc, 0x0046_0000)?.ok()?;
    session.admin().enable()?;
    ensure!(names(&mut session)? == before, "a reset controller sees other identifiers");
    Ok(())
}

fn two_volumes_differ(lab: &mut Lab) -> Result<()> {
    let options = Options::default().io_queues(0);
    let one = names(&mut lab.open(Format::STANDARD, View::Plain, options.clone())?)?;
    let other = names(&mut lab.open(Format::new(512, 1, Guard::Crc16), View::Plain, options)?)?;
    ensure!(one.0 != other.0 && one.1 != other.1, "two volumes share identifiers");
    Ok(())
}

/// An NSID that is given to another volume names another namespace, with other identifiers and other blocks.
fn another_volume_has_its_own(lab: &mut Lab) -> Result<()> {
    let share = lab.fresh_share(Format::STANDARD)?;
    let mut session = lab.open_as("plain", &share, View::Plain, Options::default())?;
    done(&session.io(1).write(1, &Io::at(0, 1), &vec![0x5a; 4096])?)?;
    let before = names(&mut session)?;
    lab.rest().delete(&format!("/subsystems/{}/namespaces/1", share.name))?;
    change_is_seen(&mut session, Watched::Inactive(1))?;
    lab.add_namespace(&share, 1, Format::STANDARD)?;
    change_is_seen(&mut session, Watched::Active(1))?;
    let after = names(&mut session)?;
    ensure!(before.0 != after.0 && before.1 != after.1, "another volume has the same identifiers");
    let found = session.io(1).read(1, &Io::at(0, 1), 4096)?.ok()?.data;
    ensure!(found.iter().all(|byte| *byte == 0), "the blocks of the volume that was there before");
    Ok(())
}

/// Base 2.1 §3.2.1.5: what has no rule of its own refuses inactive NSIDs with Invalid Field in Command.
fn an_inactive_nsid_is_an_invalid_field(lab: &mut Lab) -> Result<()> {
    refused(&try_identify(&mut admin_session(lab)?, 0x03, INACTIVE_NSID, 0)?, code::INVALID_FIELD)
}

fn the_highest_nsids_are_invalid(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for nsid in [u32::MAX - 1, u32::MAX] {
        refused(&try_identify(&mut session, 0x03, nsid, 0)?, code::INVALID_NAMESPACE)?;
    }
    Ok(())
}

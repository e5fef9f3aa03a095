//! What is told, to whom, and how often. NVM Express Base 2.1 §5.1.2.1 "Command Completion", figures "Asynchronous Event
//! Information - Notice" and "- SMART / Health Status"; §5.1.25.1.5 "Asynchronous Event Configuration".

use std::time::Duration;

use anyhow::{Result, ensure};
use holdfast_testkit::{LogPage, Options, Session};
use serde_json::json;

use super::{
    DISCOVERY, NAMESPACES, TEMPERATURE, Watched, change_is_seen, enable, nothing_comes, tells,
    tells_of_namespaces,
};
use crate::admin::identify;
use crate::check::same;
use crate::fields::{bit, byte, done, le16, le64};
use crate::logs::{changed_namespaces, smart};
use crate::{Case, Format, Lab, Share, View};

const NOTICE: &str = "Base 2.1 §5.1.2.1 \"Command Completion\", Attached Namespace Attribute Changed";
const MASK: &str = "Base 2.1 §5.1.2 \"Asynchronous Event Request command\", masking and clearing";
const HEALTH: &str = "Base 2.1 §5.1.2.1 \"Command Completion\", Temperature Threshold";
const LOG: &str = "Base 2.1 §5.1.2.1 \"Command Completion\", Discovery Log Page Change";
const CONFIGURATION: &str =
    "Base 2.1 §5.1.25.1.5 \"Asynchronous Event Configuration (Feature Identifier 0Bh)\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "events.namespaces.added", clause: NOTICE, run: an_added_namespace_is_told },
    Case { id: "events.namespaces.grown", clause: NOTICE, run: a_grown_namespace_is_told },
    Case { id: "events.namespaces.deleted", clause: NOTICE, run: a_deleted_namespace_is_told },
    Case { id: "events.namespaces.all-hosts", clause: NOTICE, run: every_controller_is_told },
    Case { id: "events.namespaces.others-not", clause: NOTICE, run: other_subsystems_are_not_told },
    Case { id: "events.namespaces.disabled", clause: CONFIGURATION, run: what_is_disabled_is_not_told },
    Case { id: "events.namespaces.default", clause: CONFIGURATION, run: nothing_is_enabled_by_default },
    Case { id: "events.namespaces.later", clause: MASK, run: an_event_waits_for_a_request },
    Case { id: "events.namespaces.masked", clause: MASK, run: the_next_waits_for_the_log },
    Case { id: "events.namespaces.retained", clause: MASK, run: a_retaining_read_unmasks_nothing },
    Case { id: "events.namespaces.unmasked", clause: MASK, run: a_read_lets_the_next_through },
    Case { id: "events.temperature.over", clause: HEALTH, run: a_low_threshold_trips },
    Case { id: "events.temperature.under", clause: HEALTH, run: a_high_under_threshold_trips },
    Case { id: "events.temperature.masked", clause: MASK, run: the_next_warning_waits_for_the_log },
    Case { id: "events.temperature.disabled", clause: HEALTH, run: a_disabled_warning_is_not_told },
    Case { id: "events.discovery.subsystem", clause: LOG, run: a_new_subsystem_is_told },
    Case { id: "events.discovery.masked", clause: LOG, run: the_next_change_waits_for_the_log_page },
];

/// A host on a subsystem of its own that wants namespace notices.
fn watching(lab: &mut Lab) -> Result<(Share, Session)> {
    let share = lab.fresh_share(Format::STANDARD)?;
    let mut session = lab.open_as("plain", &share, View::Plain, Options::default().io_queues(0))?;
    enable(&mut session, NAMESPACES)?;
    Ok((share, session))
}

fn an_added_namespace_is_told(lab: &mut Lab) -> Result<()> {
    let (share, mut session) = watching(lab)?;
    let request = session.admin().submit_async_event()?;
    lab.add_namespace(&share, 2, Format::STANDARD)?;
    tells_of_namespaces(&session.admin().wait(request)?)?;
    change_is_seen(&mut session, Watched::Active(2))
}

fn a_grown_namespace_is_told(lab: &mut Lab) -> Result<()> {
    let (share, mut session) = watching(lab)?;
    let before = le64(&identify(&mut session, 0x00, 1, 0)?, 0)?;
    let request = session.admin().submit_async_event()?;
    let grown = json!({"size_bytes": (before + 16) * 4096});
    lab.rest().patch(&format!("/volumes/{}", share.name), &grown)?;
    tells_of_namespaces(&session.admin().wait(request)?)?;
    same("NSZE", le64(&identify(&mut session, 0x00, 1, 0)?, 0)?, before + 16)
}

fn a_deleted_namespace_is_told(lab: &mut Lab) -> Result<()> {
    let (share, mut session) = watching(lab)?;
    let request = session.admin().submit_async_event()?;
    lab.rest().delete(&format!("/subsystems/{}/namespaces/1", share.name))?;
    tells_of_namespaces(&session.admin().wait(request)?)?;
    same("active namespaces", session.admin().active_namespaces(0)?, vec![])
}

fn every_controller_is_told(lab: &mut Lab) -> Result<()> {
    let (share, mut one) = watching(lab)?;
    let mut other = lab.open_as("pi", &share, View::Pi, Options::default().io_queues(0))?;
    enable(&mut other, NAMESPACES)?;
    let requests = (one.admin().submit_async_event()?, other.admin().submit_async_event()?);
    lab.add_namespace(&share, 2, Format::STANDARD)?;
    tells_of_namespaces(&one.admin().wait(requests.0)?)?;
    tells_of_namespaces(&other.admin().wait(requests.1)?)
}

fn other_subsystems_are_not_told(lab: &mut Lab) -> Result<()> {
    let (share, mut one) = watching(lab)?;
    let (_, mut other) = watching(lab)?;
    let request = one.admin().submit_async_event()?;
    other.admin().submit_async_event()?;
    lab.add_namespace(&share, 2, Format::STANDARD)?;
    tells_of_namespaces(&one.admin().wait(request)?)?;
    nothing_comes(&mut other)
}

fn what_is_disabled_is_not_told(lab: &mut Lab) -> Result<()> {
    let (share, mut session) = watching(lab)?;
    enable(&mut session, 0)?;
    session.admin().submit_async_event()?;
    lab.add_namespace(&share, 2, Format::STANDARD)?;
    change_is_seen(&mut session, Watched::Active(2))?;
    nothing_comes(&mut session)
}

fn nothing_is_enabled_by_default(lab: &mut Lab) -> Result<()> {
    let share = lab.fresh_share(Format::STANDARD)?;
    let mut session = lab.open_as("plain", &share, View::Plain, Options::default().io_queues(0))?;
    session.admin().submit_async_event()?;
    lab.add_namespace(&share, 2, Format::STANDARD)?;
    change_is_seen(&mut session, Watched::Active(2))?;
    nothing_comes(&mut session)
}

fn an_event_waits_for_a_request(lab: &mut Lab) -> Result<()> {
    let (share, mut session) = watching(lab)?;
    lab.add_namespace(&share, 2, Format::STANDARD)?;
    change_is_seen(&mut session, Watched::Active(2))?;
    let request = session.admin().submit_async_event()?;
    tells_of_namespaces(&session.admin().wait(request)?)
}

/// Adds a namespace, waits for its event, and has another request waiting.
fn told_once(lab: &mut Lab) -> Result<(Share, Session, u16)> {
    let (share, mut session) = watching(lab)?;
    let first = session.admin().submit_async_event()?;
    let second = session.admin().submit_async_event()?;
    lab.add_namespace(&share, 2, Format::STANDARD)?;
    let (cid, completion) = session.admin().wait_any()?;
    tells_of_namespaces(&completion)?;
    let left = if cid == first { second } else { first };
    Ok((share, session, left))
}

fn the_next_waits_for_the_log(lab: &mut Lab) -> Result<()> {
    let (share, mut session, _) = told_once(lab)?;
    lab.add_namespace(&share, 3, Format::STANDARD)?;
    change_is_seen(&mut session, Watched::Active(3))?;
    nothing_comes(&mut session)?;
    same("changed namespaces", changed_namespaces(&mut session, false)?, vec![2, 3])
}

fn a_retaining_read_unmasks_nothing(lab: &mut Lab) -> Result<()> {
    let (share, mut session, _) = told_once(lab)?;
    same("changed namespaces", changed_namespaces(&mut session, true)?, vec![2])?;
    lab.add_namespace(&share, 3, Format::STANDARD)?;
    change_is_seen(&mut session, Watched::Active(3))?;
    nothing_comes(&mut session)
}

fn a_read_lets_the_next_through(lab: &mut Lab) -> Result<()> {
    let (share, mut session, left) = told_once(lab)?;
    same("changed namespaces", changed_namespaces(&mut session, false)?, vec![2])?;
    nothing_comes(&mut session)?;
    lab.add_namespace(&share, 3, Format::STANDARD)?;
    tells_of_namespaces(&session.admin().wait(left)?)?;
    same("changed namespaces", changed_namespaces(&mut session, false)?, vec![3])
}

/// Sets the over temperature threshold below what the controller reports.
fn trip(session: &mut Session) -> Result<()> {
    let kelvin = le16(&smart(session)?, 1)?;
    ensure!(kelvin > 10, "the controller reports {kelvin} K");
    done(&session.admin().set_feature(0x04, u32::from(kelvin) - 10)?)
}

fn a_low_threshold_trips(lab: &mut Lab) -> Result<()> {
    let (_, mut session) = watching(lab)?;
    enable(&mut session, TEMPERATURE)?;
    let request = session.admin().submit_async_event()?;
    trip(&mut session)?;
    tells(&session.admin().wait(request)?, 1, 0x01, 0x02)?;
    ensure!(bit(byte(&smart(&mut session)?, 0)?, 1), "Critical Warning bit 1 is clear");
    done(&session.admin().set_feature(0x04, 0xffff)?)?;
    ensure!(!bit(byte(&smart(&mut session)?, 0)?, 1), "Critical Warning bit 1 stays");
    Ok(())
}

/// THSEL 01b: under temperature threshold.
fn a_high_under_threshold_trips(lab: &mut Lab) -> Result<()> {
    let (_, mut session) = watching(lab)?;
    enable(&mut session, TEMPERATURE)?;
    let kelvin = u32::from(le16(&smart(&mut session)?, 1)?);
    let request = session.admin().submit_async_event()?;
    done(&session.admin().set_feature(0x04, 1 << 20 | (kelvin + 10))?)?;
    tells(&session.admin().wait(request)?, 1, 0x01, 0x02)
}

/// An event of this type is told again only after SMART / Health was read without RAE.
fn the_next_warning_waits_for_the_log(lab: &mut Lab) -> Result<()> {
    let (_, mut session) = watching(lab)?;
    enable(&mut session, TEMPERATURE)?;
    let first = session.admin().submit_async_event()?;
    let second = session.admin().submit_async_event()?;
    let kelvin = u32::from(le16(&smart(&mut session)?, 1)?);
    let retained = LogPage::new(0x02, 512).nsid(u32::MAX).retain();
    for threshold in [kelvin - 10, 0xffff, kelvin - 5] {
        done(&session.admin().set_feature(0x04, threshold)?)?;
        done(&session.admin().log_page(&retained)?)?;
    }
    tells(&session.admin().wait(first)?, 1, 0x01, 0x02)?;
    nothing_comes(&mut session)?;
    smart(&mut session)?;
    done(&session.admin().set_feature(0x04, 0xffff)?)?;
    done(&session.admin().set_feature(0x04, kelvin - 20)?)?;
    tells(&session.admin().wait(second)?, 1, 0x01, 0x02)
}

fn a_disabled_warning_is_not_told(lab: &mut Lab) -> Result<()> {
    let (_, mut session) = watching(lab)?;
    session.admin().submit_async_event()?;
    trip(&mut session)?;
    nothing_comes(&mut session)?;
    ensure!(bit(byte(&smart(&mut session)?, 0)?, 1), "Critical Warning bit 1 is clear");
    Ok(())
}

/// A discovery session of a host that may use nothing yet.
fn discovering(lab: &mut Lab, name: &str) -> Result<Session> {
    let nqn = lab.host(name)?;
    let mut session = Session::open_discovery(lab.nvme(), &nqn, Options::default())?;
    enable(&mut session, DISCOVERY)?;
    Ok(session)
}

fn a_new_subsystem_is_told(lab: &mut Lab) -> Result<()> {
    let mut session = discovering(lab, "seeker")?;
    let request = session.admin().submit_async_event()?;
    let share = lab.fresh_share(Format::STANDARD)?;
    lab.admit("seeker", &share, View::Plain)?;
    tells(&session.admin().wait(request)?, 2, 0xf0, 0x70)?;
    let log = session.admin().discovery_log()?;
    ensure!(log.entries.iter().any(|entry| entry.subnqn == share.nqn), "the new subsystem is not listed");
    Ok(())
}

fn the_next_change_waits_for_the_log_page(lab: &mut Lab) -> Result<()> {
    let mut session = discovering(lab, "seeker")?;
    let first = session.admin().submit_async_event()?;
    session.admin().submit_async_event()?;
    for round in 0..2 {
        let share = lab.fresh_share(Format::STANDARD)?;
        lab.admit("seeker", &share, View::Plain)?;
        if round == 0 {
            tells(&session.admin().wait(first)?, 2, 0xf0, 0x70)?;
        } else {
            let mut other = discovering(lab, "seeker")?;
            let listed = || {
                let log = other.admin().discovery_log()?;
                Ok(log.entries.iter().any(|entry| entry.subnqn == share.nqn).then_some(()))
            };
            holdfast_e2e::eventually(Duration::from_secs(20), "the second subsystem", listed)?;
            nothing_comes(&mut session)?;
        }
    }
    session.admin().discovery_log()?;
    let share = lab.fresh_share(Format::STANDARD)?;
    lab.admit("seeker", &share, View::Plain)?;
    let (_, completion) = session.admin().wait_any()?;
    tells(&completion, 2, 0xf0, 0x70)
}

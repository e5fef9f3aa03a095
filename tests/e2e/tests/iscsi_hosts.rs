//! Hosts that come over iSCSI, as the appliance knows them: discovery, hosts that nobody registered, access given and taken,
//! views that wait for the last session, and a stop that asks them to log out first. The initiators are scripted ones.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{Appliance, Plane, eventually, host_iqn};
use holdfast_testkit::Error;
use holdfast_testkit::iscsi::{Login, Medium, Op, Scsi, Session, inquiry, test_unit_ready, text};
use serde_json::{Value, json};

const SEEN_LIMIT: Duration = Duration::from_secs(30);
const BLOCK: usize = 4096;
/// Of `iqn.2026-11.io.holdfast.test:somebody`: the first 8 digits of its SHA-256.
const SOMEBODY: &str = "ab655295";
/// Status class and detail of logins. RFC 7143 §11.13.5 "Status-Class and Status-Detail".
const AUTHORIZATION_FAILURE: (u8, u8) = (2, 2);
const TARGET_NOT_FOUND: (u8, u8) = (2, 3);
/// AsyncEvent 1: the target requests a logout. RFC 7143 §11.9.1 "AsyncEvent".
const LOGOUT_REQUESTED: u8 = 1;
/// Logout Response 0: the session was closed. RFC 7143 §11.15.1 "Response".
const CLOSED: u8 = 0;

fn try_log_in(appliance: &Appliance, host: &str, target: &str) -> Result<Session, Error> {
    Session::open(appliance.iscsi(), &Login::new(&host_iqn(host), target))
}

fn refusal(appliance: &Appliance, host: &str, target: &str) -> Result<(u8, u8)> {
    let error = try_log_in(appliance, host, target).err().context("let in")?;
    error.login_status().with_context(|| format!("not refused by a status: {error}"))
}

fn write(session: &mut Session, lba: u64, blocks: u32) -> Result<()> {
    let data = vec![7; blocks as usize * BLOCK];
    session.run(Scsi::write(0, Medium::at(lba, blocks).cdb16(Op::Write), data))?.ok()?;
    Ok(())
}

/// PROTECT of the standard INQUIRY data: whether the unit is formatted with protection information.
fn is_protected(session: &mut Session) -> Result<bool> {
    let data = session.run(Scsi::read(0, inquiry(36), 36))?.ok()?.data;
    Ok(data.get(5).context("INQUIRY data of less than six bytes")? & 1 != 0)
}

fn targets(appliance: &Appliance, host: &str) -> Result<Vec<String>> {
    let mut session = Session::open(appliance.iscsi(), &Login::discovery(&host_iqn(host)))?;
    let found = session.send_targets("All")?;
    session.logout(CLOSED)?;
    let names = found.into_iter().filter(|(key, _)| key == "TargetName");
    Ok(names.map(|(_, name)| name).collect())
}

#[test]
fn discovery_lists_what_the_asker_may_use_and_records_nobody() -> Result<()> {
    let appliance = Appliance::start("iscsi_hosts_discovery")?;
    let mine = appliance.share("mine", 8, 4096)?;
    let other = appliance.share("other", 8, 4096)?;
    appliance.admit_initiator("me", &mine, "auto", "any")?;
    appliance.admit_initiator("you", &other, "auto", "any")?;
    eventually(
        SEEN_LIMIT,
        "the grants",
        || Ok((targets(&appliance, "you")? == [other.iqn()]).then_some(())),
    )?;
    ensure!(targets(&appliance, "me")? == [mine.iqn()]);
    ensure!(targets(&appliance, "stranger")?.is_empty());
    appliance.rest().patch("/subsystems/other", &json!({"allow_any_host": true}))?;
    eventually(SEEN_LIMIT, "the open subsystem", || {
        Ok((targets(&appliance, "stranger")? == [other.iqn()]).then_some(()))
    })?;
    let one = Session::open(appliance.iscsi(), &Login::discovery(&host_iqn("me")))?.send_targets("All")?;
    let address = format!("{}:{},1", holdfast_e2e::Guest::GATEWAY, appliance.iscsi_port());
    ensure!(text::value(&one, "TargetAddress") == Some(address.as_str()), "{one:?}");
    ensure!(appliance.host_names()? == ["me", "you"], "discovery recorded somebody");
    appliance.stop()
}

#[test]
fn a_host_that_nobody_registered_is_recorded_under_its_hash_and_merged_later() -> Result<()> {
    let appliance = Appliance::start("iscsi_hosts_auto")?;
    let share = appliance.share("open", 8, 4096)?;
    let rest = appliance.rest();
    rest.patch("/subsystems/open", &json!({"allow_any_host": true}))?;
    let mut session = appliance.log_in("somebody", &share)?;
    ensure!(!is_protected(&mut session)?, "view auto is plain");
    write(&mut session, 0, 4)?;
    let (name, iqn) = (format!("host-{SOMEBODY}"), host_iqn("somebody"));
    let path = format!("/hosts/{name}");
    let host = eventually(SEEN_LIMIT, "the record of the host", || Ok(Some(rest.get(&path)?)))?;
    ensure!((host.get("iqn"), host.get("nqn")) == (Some(&json!(iqn)), Some(&Value::Null)), "{host}");
    ensure!(host.pointer("/policy/declared") == Some(&json!("unknown")), "{host}");
    let shown = appliance.shown_session(&name, "iscsi", &share)?;
    let address = shown.get("address").and_then(Value::as_str).unwrap_or_default();
    ensure!(address.starts_with("127.0.0.1:"), "{shown}");
    appliance.wait_inserted(&name, &share, 4)?;
    // Setting its identity merges it into a registered host, with its history, while its session goes on.
    rest.post("/hosts", &json!({"name": "known"}))?;
    rest.patch("/hosts/known", &json!({"iqn": iqn}))?;
    appliance.wait_inserted("known", &share, 4)?;
    ensure!(appliance.host_names()? == ["known"], "{:?}", appliance.host_names()?);
    write(&mut session, 8, 2)?;
    appliance.wait_inserted("known", &share, 6)?;
    ensure!(session.logout(CLOSED)? == CLOSED);
    eventually(SEEN_LIMIT, "the end of the session in the API", || {
        Ok((rest.get("/hosts/known")?.get("sessions") == Some(&json!([]))).then_some(()))
    })?;
    let thief = json!({"name": "thief", "iqn": iqn}).to_string();
    let taken = rest.exchange("POST", "/api/v1/hosts", &thief)?;
    ensure!(taken.status == 409, "an identity was taken from a registered host: {taken:?}");
    appliance.stop()
}

#[test]
fn access_taken_away_ends_the_sessions_that_lost_it_and_no_others() -> Result<()> {
    let appliance = Appliance::start("iscsi_hosts_access")?;
    let before = appliance.process(Plane::Data)?;
    let share = appliance.share("disk", 8, 4096)?;
    let rest = appliance.rest();
    rest.patch("/subsystems/disk", &json!({"allow_any_host": true}))?;
    appliance.admit_initiator("granted", &share, "plain", "any")?;
    appliance.admit_initiator("other", &share, "plain", "any")?;
    let granted = appliance.log_in("granted", &share)?;
    let mut other = appliance.log_in("other", &share)?;
    let stranger = appliance.log_in("stranger", &share)?;
    rest.patch("/subsystems/disk", &json!({"allow_any_host": false}))?;
    let ended = |what: &str, session: Session| {
        session.into_connection().into_socket().expect_close().with_context(|| what.to_owned())
    };
    ended("allow_any_host taken away", stranger)?;
    ensure!(refusal(&appliance, "stranger", &share.iqn())? == AUTHORIZATION_FAILURE);
    let nowhere = "iqn.2026-11.io.holdfast:nowhere";
    ensure!(refusal(&appliance, "other", nowhere)? == TARGET_NOT_FOUND);
    rest.delete("/subsystems/disk/hosts/granted")?;
    ended("the grant taken away", granted)?;
    write(&mut other, 0, 1).context("the other host's session")?;
    other.logout(CLOSED)?;
    appliance.same_target(before)?;
    appliance.stop()
}

#[test]
fn a_changed_view_waits_for_the_last_session() -> Result<()> {
    let appliance = Appliance::start("iscsi_hosts_view")?;
    let share = appliance.share("disk", 8, 4096)?;
    appliance.admit_initiator("host", &share, "plain", "any")?;
    let mut first = appliance.log_in("host", &share)?;
    let answer = appliance.rest().put("/subsystems/disk/hosts/host", &json!({"view": "pi"}))?;
    ensure!(answer.get("view") == Some(&json!("pi")), "{answer}");
    // Another host shows when the target has the change.
    appliance.admit_initiator("marker", &share, "pi", "any")?;
    let mut marker = appliance.log_in("marker", &share)?;
    ensure!(is_protected(&mut marker)?);
    marker.logout(CLOSED)?;
    ensure!(!is_protected(&mut first)?, "the session's view changed under it");
    write(&mut first, 0, 1)?;
    // Another initiator port of the same host: a session beside the first one.
    let beside = Login::new(&host_iqn("host"), &share.iqn()).qualifier(2);
    let mut second = Session::open(appliance.iscsi(), &beside)?;
    ensure!(!is_protected(&mut second)?, "a second session has another view than the first one");
    second.logout(CLOSED)?;
    first.logout(CLOSED)?;
    eventually(SEEN_LIMIT, "the PI view", || {
        let mut session = try_log_in(&appliance, "host", &share.iqn())?;
        let is_protected = is_protected(&mut session)?;
        session.logout(CLOSED)?;
        Ok(is_protected.then_some(()))
    })?;
    appliance.stop()
}

#[test]
fn a_stop_asks_initiators_to_log_out_and_waits_for_those_that_do() -> Result<()> {
    let appliance = Appliance::start("iscsi_hosts_stop")?;
    let share = appliance.share("disk", 8, 4096)?;
    for host in ["polite", "deaf"] {
        appliance.admit_initiator(host, &share, "plain", "any")?;
    }
    let mut polite = appliance.log_in("polite", &share)?;
    // One that does nothing about it holds nothing up for good.
    let deaf = appliance.log_in("deaf", &share)?;
    write(&mut polite, 0, 4)?;
    let asked = Instant::now();
    let stopped = thread::spawn(move || appliance.stop());
    let message = eventually(SEEN_LIMIT, "the request to log out", || {
        polite.run(Scsi::new(0, test_unit_ready()))?.ok()?;
        Ok(polite.notices.pop())
    })?;
    ensure!(message.byte_at(36) == LOGOUT_REQUESTED, "AsyncEvent {}", message.byte_at(36));
    let within = Duration::from_secs((message.word_at(40) & 0xffff).into());
    ensure!(!within.is_zero(), "Parameter3 leaves no time to log out");
    ensure!(polite.logout(CLOSED)? == CLOSED, "the session was not closed in order");
    deaf.into_connection().into_socket().expect_close()?;
    ensure!(asked.elapsed() >= within, "the target told {within:?} and did not wait that long");
    stopped.join().map_err(|_| anyhow::anyhow!("the stop failed"))?
}

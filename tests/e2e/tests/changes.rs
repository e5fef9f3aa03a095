//! What hosts see when things change under them: discovery, hosts that nobody registered, access given and taken, namespaces
//! that come, go and grow, views that wait for the last session, keep-alive timers that run out.

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{Appliance, Plane, Share, eventually, host_nqn};
use holdfast_testkit::wire::{code, le32, opcode};
use holdfast_testkit::{Command, Completion, Io, Options, Session};
use serde_json::json;
use std::time::Duration;

const SEEN_LIMIT: Duration = Duration::from_secs(30);
/// Asynchronous Event Configuration: Namespace Attribute Notices, and Discovery Log Page Change.
const NAMESPACE_NOTICES: u32 = 1 << 8;
const DISCOVERY_NOTICES: u32 = 1 << 31;
/// Dword 0 of the notices: type 2h, information, log page.
const NAMESPACE_CHANGED: u32 = 0x0004_0002;
const DISCOVERY_CHANGED: u32 = 0x0070_f002;
const CHANGED_NAMESPACES: u8 = 0x04;
const ASYNC_EVENT_CONFIGURATION: u8 = 0x0b;

fn nqns(appliance: &Appliance, host: &str) -> Result<Vec<String>> {
    let log = Session::discover(appliance.nvme(), &host_nqn(host))?;
    let port = appliance.nvme_port().to_string();
    for entry in &log.entries {
        ensure!((entry.trtype, entry.adrfam) == (3, 1), "{entry:?}");
        ensure!(entry.traddr == holdfast_e2e::Guest::GATEWAY && entry.trsvcid == port, "{entry:?}");
        ensure!(entry.cntlid == 0xffff && entry.asqsz >= 32, "{entry:?}");
    }
    let subsystems = log.entries.into_iter().filter(|entry| entry.subtype == 2);
    Ok(subsystems.map(|entry| entry.subnqn).collect())
}

#[test]
fn discovery_lists_what_the_asker_may_use_and_records_nobody() -> Result<()> {
    let appliance = Appliance::start("changes_discovery")?;
    let mine = appliance.share("mine", 8, 4096)?;
    let other = appliance.share("other", 8, 4096)?;
    appliance.admit_scripted("me", &mine, "auto", "any")?;
    appliance.admit_scripted("you", &other, "auto", "any")?;
    ensure!(nqns(&appliance, "me")? == [mine.nqn.as_str()]);
    ensure!(nqns(&appliance, "you")? == [other.nqn.as_str()]);
    ensure!(nqns(&appliance, "stranger")?.is_empty());
    appliance.rest().patch("/subsystems/other", &json!({"allow_any_host": true}))?;
    eventually(SEEN_LIMIT, "the open subsystem", || {
        Ok((nqns(&appliance, "stranger")? == [other.nqn.clone()]).then_some(()))
    })?;
    let mut both = nqns(&appliance, "me")?;
    both.sort();
    ensure!(both == [mine.nqn.clone(), other.nqn.clone()], "{both:?}");
    ensure!(appliance.host_names()? == ["me", "you"], "discovery recorded somebody");
    appliance.stop()
}

#[test]
fn the_discovery_log_tells_of_its_changes() -> Result<()> {
    let appliance = Appliance::start("changes_discovery_log")?;
    let share = appliance.share("mine", 8, 4096)?;
    appliance.rest().post("/hosts", &json!({"name": "me", "nqn": host_nqn("me")}))?;
    let options = Options::default().limit(SEEN_LIMIT);
    let mut session = Session::open_discovery(appliance.nvme(), &host_nqn("me"), options)?;
    let queue = session.admin();
    queue.set_feature(ASYNC_EVENT_CONFIGURATION, DISCOVERY_NOTICES)?.ok()?;
    let before = queue.discovery_log()?;
    let event = queue.submit_async_event()?;
    appliance.rest().put("/subsystems/mine/hosts/me", &json!({}))?;
    let notice = queue.wait(event)?.ok()?;
    ensure!(notice.cqe.dw0 == DISCOVERY_CHANGED, "{:#x}", notice.cqe.dw0);
    let after = queue.discovery_log()?;
    ensure!(after.generation != before.generation, "GENCTR stayed {}", after.generation);
    ensure!(after.entries.iter().any(|entry| entry.subnqn == share.nqn), "{after:?}");
    appliance.stop()
}

#[test]
fn a_host_that_nobody_registered_is_recorded_under_its_hash_and_merged_later() -> Result<()> {
    let appliance = Appliance::start("changes_auto_host")?;
    let share = appliance.share("open", 8, 4096)?;
    let rest = appliance.rest();
    rest.patch("/subsystems/open", &json!({"allow_any_host": true}))?;
    let nqn = host_nqn("somebody");
    let mut session = eventually(SEEN_LIMIT, "access", || {
        Ok(Some(appliance.session("somebody", &share, Options::default())?))
    })?;
    ensure!(session.namespace_format(1)?.pi_type == 0, "view auto is plain");
    session.io(1).write(1, &Io::at(0, 4), &[1; 4 * 4096])?.ok()?;
    // SHA-256 of nqn.2026-11.io.holdfast.test:somebody, first 8 digits.
    let name = format!("host-{SOMEBODY}");
    let host =
        eventually(SEEN_LIMIT, "the record of the host", || Ok(Some(rest.get(&format!("/hosts/{name}"))?)))?;
    ensure!(host.get("nqn") == Some(&json!(nqn)), "{host}");
    ensure!(host.pointer("/policy/declared") == Some(&json!("unknown")), "{host}");
    appliance.shown_session(&name, "nvme-tcp", &share)?;
    appliance.wait_inserted(&name, &share, 4)?;
    // Setting its identity merges it into a registered host, with its history, while its session goes on.
    rest.post("/hosts", &json!({"name": "known"}))?;
    rest.patch("/hosts/known", &json!({"nqn": nqn}))?;
    appliance.wait_inserted("known", &share, 4)?;
    ensure!(appliance.host_names()? == ["known"], "{:?}", appliance.host_names()?);
    session.io(1).write(1, &Io::at(8, 2), &[2; 2 * 4096])?.ok()?;
    appliance.wait_inserted("known", &share, 6)?;
    session.close()?;
    // An identity of a registered host cannot be taken from it.
    let taken = rest.exchange("POST", "/api/v1/hosts", &json!({"name": "thief", "nqn": nqn}).to_string())?;
    ensure!(taken.status == 409, "{taken:?}");
    appliance.stop()
}

/// Of `nqn.2026-11.io.holdfast.test:somebody`.
const SOMEBODY: &str = "81a77225";

fn ended(what: &str, mut session: Session) -> Result<()> {
    session.admin().connection().expect_close().with_context(|| format!("{what}: the Admin Queue"))?;
    session.io(1).connection().expect_close().with_context(|| format!("{what}: the I/O queue"))
}

#[test]
fn access_taken_away_ends_the_sessions_that_lost_it_and_no_others() -> Result<()> {
    let appliance = Appliance::start("changes_access")?;
    let before = appliance.process(Plane::Data)?;
    let share = appliance.share("disk", 8, 4096)?;
    let rest = appliance.rest();
    rest.patch("/subsystems/disk", &json!({"allow_any_host": true}))?;
    appliance.admit_scripted("granted", &share, "plain", "any")?;
    appliance.admit_scripted("other", &share, "plain", "any")?;
    let options = Options::default().limit(SEEN_LIMIT);
    let granted = appliance.session("granted", &share, options.clone())?;
    let mut other = appliance.session("other", &share, options.clone())?;
    let stranger = eventually(SEEN_LIMIT, "access", || {
        Ok(Some(appliance.session("stranger", &share, options.clone())?))
    })?;
    rest.patch("/subsystems/disk", &json!({"allow_any_host": false}))?;
    ended("allow_any_host taken away", stranger)?;
    let refused = appliance.session("stranger", &share, options.clone()).err().context("let in")?;
    let status = refused.downcast_ref::<holdfast_testkit::Error>().and_then(|error| error.status());
    ensure!(status.is_some_and(|status| status.pair() == code::CONNECT_INVALID_HOST), "{refused}");
    rest.delete("/subsystems/disk/hosts/granted")?;
    ended("the grant taken away", granted)?;
    other.io(1).flush(1)?.ok().context("the other host's session")?;
    other.close()?;
    appliance.same_target(before)?;
    appliance.stop()
}

fn changed_list(session: &mut Session) -> Result<Vec<u32>> {
    let page: Completion = session.admin().get_log_page(CHANGED_NAMESPACES, 0xffff_ffff, 0, 4096)?.ok()?;
    let entries = page.data.chunks_exact(4).filter_map(|entry| le32(entry, 0));
    Ok(entries.take_while(|nsid| *nsid != 0).collect())
}

#[test]
fn namespaces_that_come_grow_and_go_are_told_of_while_io_goes_on() -> Result<()> {
    let appliance = Appliance::start("changes_namespaces")?;
    let before = appliance.process(Plane::Data)?;
    let share = appliance.share("disk", 8, 4096)?;
    appliance.admit_scripted("host", &share, "plain", "any")?;
    let rest = appliance.rest();
    let options = Options::default().limit(SEEN_LIMIT);
    let mut session = appliance.session("host", &share, options)?;
    session.admin().set_feature(ASYNC_EVENT_CONFIGURATION, NAMESPACE_NOTICES)?.ok()?;
    ensure!(changed_list(&mut session)?.is_empty());
    rest.post("/volumes", &json!({"name": "more", "pool": "ram", "size_bytes": 4 << 20}))?;

    let event = session.admin().submit_async_event()?;
    rest.post("/subsystems/disk/namespaces", &json!({"volume": "more", "nsid": 7}))?;
    told(&mut session, event, 7)?;
    ensure!(session.admin().active_namespaces(0)? == [1, 7]);
    session.io(1).write(7, &Io::at(1023, 1), &[5; 4096])?.ok()?;

    let event = session.admin().submit_async_event()?;
    rest.patch("/volumes/more", &json!({"size_bytes": 8 << 20}))?;
    told(&mut session, event, 7)?;
    ensure!(session.namespace_format(7)?.blocks == 2048);
    session.io(1).write(7, &Io::at(2047, 1), &[6; 4096])?.ok()?;
    let kept = session.io(1).read(7, &Io::at(1023, 1), 4096)?.ok()?.data;
    ensure!(kept == [5; 4096]);

    // Taken away under a row of commands: each ends, well or with a status that says why.
    let event = session.admin().submit_async_event()?;
    for lba in 0..64 {
        let command = Command::with_data(Io::at(lba * 16, 16).sqe(opcode::WRITE, 7), vec![9; 16 * 4096]);
        session.io(1).submit(command)?;
    }
    rest.delete("/subsystems/disk/namespaces/7")?;
    for _ in 0..64 {
        let (_, done) = session.io(1).wait_any()?;
        let pair = done.status().pair();
        let allowed = [code::SUCCESS, code::INVALID_FIELD, code::NAMESPACE_NOT_READY];
        ensure!(allowed.contains(&pair), "{}", done.status());
    }
    told(&mut session, event, 7)?;
    ensure!(session.admin().active_namespaces(0)? == [1]);
    let gone = session.io(1).read(7, &Io::at(0, 1), 4096)?.status();
    ensure!(gone.pair() == code::INVALID_FIELD, "{gone}");
    session.io(1).write(1, &Io::at(0, 1), &[1; 4096])?.ok()?;
    session.close()?;
    rest.delete("/volumes/more")?;
    appliance.same_target(before)?;
    appliance.stop()
}

/// Waits for the notice, and demands that exactly this namespace is in the list, once.
fn told(session: &mut Session, event: u16, nsid: u32) -> Result<()> {
    let notice = session.admin().wait(event)?.ok()?;
    ensure!(notice.cqe.dw0 == NAMESPACE_CHANGED, "{:#x}", notice.cqe.dw0);
    ensure!(changed_list(session)? == [nsid], "the changed namespace list");
    ensure!(changed_list(session)?.is_empty(), "reading the list clears it");
    Ok(())
}

#[test]
fn a_host_that_does_not_keep_alive_is_let_go() -> Result<()> {
    let appliance = Appliance::start("changes_kato")?;
    let share = appliance.share("disk", 8, 4096)?;
    appliance.admit_scripted("silent", &share, "plain", "any")?;
    appliance.admit_scripted("alive", &share, "plain", "any")?;
    let options = Options::default().kato_ms(4000).limit(SEEN_LIMIT * 4);
    let silent = appliance.session("silent", &share, options)?;
    let mut alive = appliance.session("alive", &share, Options::default())?;
    alive.admin().keep_alive()?.ok()?;
    ended("KATO expired", silent)?;
    alive.io(1).flush(1)?.ok()?;
    alive.admin().keep_alive()?.ok()?;
    let sessions = || -> Result<Option<()>> {
        let host = appliance.rest().get("/hosts/silent")?;
        Ok((host.get("sessions") == Some(&json!([]))).then_some(()))
    };
    eventually(SEEN_LIMIT, "the end of the session in the API", sessions)?;
    alive.close()?;
    appliance.stop()
}

#[test]
fn a_changed_view_waits_for_the_last_session() -> Result<()> {
    let appliance = Appliance::start("changes_view")?;
    let share = appliance.share("disk", 8, 4096)?;
    appliance.admit_scripted("host", &share, "plain", "any")?;
    let view = |share: &Share| -> Result<u8> {
        let mut session = appliance.session("host", share, Options::default())?;
        let pi_type = session.namespace_format(1)?.pi_type;
        session.close()?;
        Ok(pi_type)
    };
    let mut first = appliance.session("host", &share, Options::default())?;
    let answer = appliance.rest().put("/subsystems/disk/hosts/host", &json!({"view": "pi"}))?;
    ensure!(answer.get("view") == Some(&json!("pi")), "{answer}");
    // Another host shows when the target has the change.
    appliance.admit_scripted("marker", &share, "pi", "any")?;
    eventually(SEEN_LIMIT, "the change", || {
        Ok(Some(appliance.session("marker", &share, Options::default())?.close()?))
    })?;
    ensure!(first.namespace_format(1)?.pi_type == 0, "the session's view changed under it");
    first.io(1).write(1, &Io::at(0, 1), &[1; 4096])?.ok()?;
    ensure!(view(&share)? == 0, "a second session has the first one's view");
    first.close()?;
    eventually(SEEN_LIMIT, "the PI view", || Ok((view(&share)? == 1).then_some(())))?;
    appliance.stop()
}

#[test]
fn a_namespace_taken_away_between_r2t_and_data_ends_the_write_with_a_status() -> Result<()> {
    let appliance = Appliance::start("changes_r2t")?;
    let before = appliance.process(Plane::Data)?;
    let share = appliance.share("disk", 8, 4096)?;
    appliance.admit_scripted("host", &share, "plain", "any")?;
    let rest = appliance.rest();
    let mut session = appliance.session("host", &share, Options::default().limit(SEEN_LIMIT))?;
    session.io(1).hold_r2ts(true);
    let write = Command::with_data(Io::at(0, 16).sqe(opcode::WRITE, 1), vec![9; 16 * 4096]);
    let cid = session.io(1).submit(write)?;
    let r2t = session.io(1).next_r2t()?;
    rest.delete("/subsystems/disk/namespaces/1")?;
    rest.delete("/volumes/disk")?;
    // The same name and NSID, but another volume: the late data must not land there.
    rest.post("/volumes", &json!({"name": "disk", "pool": "ram", "size_bytes": 8 << 20}))?;
    rest.post("/subsystems/disk/namespaces", &json!({"volume": "disk", "nsid": 1}))?;
    session.io(1).answer_r2t(&r2t)?;
    let status = session.io(1).wait(cid)?.status();
    let allowed = [code::SUCCESS, code::INVALID_FIELD, code::NAMESPACE_NOT_READY];
    ensure!(allowed.contains(&status.pair()), "{status}");
    let back = session.io(1).read(1, &Io::at(0, 16), 16 * 4096)?.ok()?.data;
    ensure!(back == vec![0; 16 * 4096], "data of a volume that is gone landed in its successor ({status})");
    session.close()?;
    appliance.same_target(before)?;
    appliance.stop()
}

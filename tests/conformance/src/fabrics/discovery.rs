//! The discovery service. NVMe Base 2.1 §3.1.3.3 "Discovery Controller", §5.1.12.3.1 "Discovery Log Page".

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::{Sqe, opcode};
use holdfast_testkit::{Command, ConnectCommand, Options, Session, host_id_of};

use super::tried;
use crate::{Case, Format, Lab, View, check};

const CONTROLLER: &str = "NVMe Base 2.1 §3.1.3.3 \"Discovery Controller\"";
const LOG: &str = "NVMe Base 2.1 §5.1.12.3.1 \"Discovery Log Page (Log Page Identifier 70h)\"";
const TCP: &str = "NVMe/TCP 1.1 §3.1.2 \"Transport Service Identifier\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("fabrics.discovery.anybody", CONTROLLER, any_host_may_ask),
    Case::new("fabrics.discovery.type", CONTROLLER, it_says_what_it_is),
    Case::new("fabrics.discovery.only-granted", LOG, hosts_see_what_they_may_use),
    Case::new("fabrics.discovery.entry", LOG, an_entry_leads_to_its_subsystem),
    Case::new("fabrics.discovery.port", TCP, the_service_identifier_is_a_decimal_port),
    Case::new("fabrics.discovery.generation", LOG, the_generation_counts_changes),
    Case::new("fabrics.discovery.offsets", LOG, the_log_can_be_read_in_pieces),
    Case::new("fabrics.discovery.no-io", CONTROLLER, it_has_no_io_queues),
    Case::new("fabrics.discovery.no-disconnect", CONTROLLER, it_has_no_disconnect),
    Case::new("fabrics.discovery.no-namespaces", CONTROLLER, it_has_no_namespaces),
    Case::new("fabrics.discovery.keep-alive", CONTROLLER, it_can_be_kept_open),
];

const NQN: &[u8] = b"nqn.2014-08.org.nvmexpress.discovery";

fn service(lab: &mut Lab, host: &str) -> Result<Session> {
    let nqn = lab.host(host)?;
    Ok(Session::open_discovery(lab.nvme(), &nqn, Options::default())?)
}

fn any_host_may_ask(lab: &mut Lab) -> Result<()> {
    for name in [
        "nqn.2026-11.io.example:never-seen",
        "nqn.2014-08.org.nvmexpress:uuid:0f0f0f0f-0000-4000-8000-000000000001",
    ] {
        Session::discover(lab.nvme(), name).with_context(|| name)?;
    }
    Ok(())
}

fn it_says_what_it_is(lab: &mut Lab) -> Result<()> {
    let session = service(lab, "uninvited")?;
    check::same("CNTRLTYPE", session.controller().raw.get(111), Some(&2))?;
    check::same("SUBNQN", session.controller().subnqn.as_bytes(), NQN)
}

fn hosts_see_what_they_may_use(lab: &mut Lab) -> Result<()> {
    let mine = lab.fresh_share(Format::STANDARD)?;
    let others = lab.fresh_share(Format::STANDARD)?;
    let asker = lab.admit("asker", &mine, View::Plain)?;
    lab.admit("other", &others, View::Plain)?;
    let log = Session::discover(lab.nvme(), &asker)?;
    let listed = |nqn: &str| log.entries.iter().any(|entry| entry.subnqn == nqn);
    ensure!(listed(&mine.nqn), "its own subsystem is not listed");
    ensure!(!listed(&others.nqn), "another host's subsystem is listed");
    let stranger = Session::discover(lab.nvme(), "nqn.2026-11.io.example:never-seen")?;
    ensure!(stranger.entries.iter().all(|entry| entry.subnqn != mine.nqn), "a stranger sees it");
    Ok(())
}

fn an_entry_leads_to_its_subsystem(lab: &mut Lab) -> Result<()> {
    let share = lab.share(Format::STANDARD)?;
    let asker = lab.admit("plain", &share, View::Plain)?;
    let log = Session::discover(lab.nvme(), &asker)?;
    let entry = log.entries.iter().find(|entry| entry.subnqn == share.nqn).context("no entry")?;
    check::same("TRTYPE", entry.trtype, 3)?;
    check::same("ADRFAM", entry.adrfam, 1)?;
    check::same("SUBTYPE", entry.subtype, 2)?;
    check::same("CNTLID", entry.cntlid, 0xffff)?;
    ensure!(entry.asqsz >= 32, "ASQSZ {}", entry.asqsz);
    ensure!(entry.traddr.parse::<std::net::Ipv4Addr>().is_ok(), "TRADDR {}", entry.traddr);
    Ok(())
}

fn the_service_identifier_is_a_decimal_port(lab: &mut Lab) -> Result<()> {
    let share = lab.share(Format::STANDARD)?;
    let asker = lab.admit("plain", &share, View::Plain)?;
    let port = lab.nvme().port().to_string();
    for entry in Session::discover(lab.nvme(), &asker)?.entries {
        check::same("TRSVCID", entry.trsvcid.as_str(), port.as_str())?;
    }
    Ok(())
}

fn the_generation_counts_changes(lab: &mut Lab) -> Result<()> {
    let first = lab.fresh_share(Format::STANDARD)?;
    let asker = lab.admit("counter", &first, View::Plain)?;
    let before = Session::discover(lab.nvme(), &asker)?.generation;
    check::same(
        "the generation without a change",
        Session::discover(lab.nvme(), &asker)?.generation,
        before,
    )?;
    let second = lab.fresh_share(Format::STANDARD)?;
    lab.admit("counter", &second, View::Plain)?;
    let changed = || {
        let log = Session::discover(lab.nvme(), &asker)?;
        let there = log.entries.iter().any(|entry| entry.subnqn == second.nqn);
        Ok(there.then_some(log.generation))
    };
    let after = holdfast_e2e::eventually(std::time::Duration::from_secs(10), "the new entry", changed)?;
    ensure!(after != before, "the generation is {after} before and after");
    Ok(())
}

fn the_log_can_be_read_in_pieces(lab: &mut Lab) -> Result<()> {
    let mut session = service(lab, "plain")?;
    let whole = session.admin().get_log_page(0x70, 0, 0, 2048)?.ok()?.data;
    let mut pieces = Vec::new();
    for offset in (0..2048).step_by(512) {
        pieces.extend(session.admin().get_log_page(0x70, 0, offset, 512)?.ok()?.data);
    }
    ensure!(whole == pieces, "the pieces are not the whole");
    let odd = session.admin().get_log_page(0x70, 0, 4, 60)?.ok()?.data;
    ensure!(whole.get(4..64) == Some(odd.as_slice()), "60 bytes from offset 4");
    Ok(())
}

fn it_has_no_io_queues(lab: &mut Lab) -> Result<()> {
    let session = service(lab, "uninvited")?;
    let connect = session.connect_command().io(session.cntlid(), 1, 15);
    let (_queue, done) = tried(lab, &connect)?;
    ensure!(!done.status().is_success(), "a discovery controller has an I/O queue");
    Ok(())
}

fn it_has_no_disconnect(lab: &mut Lab) -> Result<()> {
    let mut session = service(lab, "uninvited")?;
    let done = session.admin().disconnect()?;
    ensure!(!done.status().is_success(), "Disconnect was done");
    session.admin().keep_alive()?.ok()?;
    Ok(())
}

fn it_has_no_namespaces(lab: &mut Lab) -> Result<()> {
    let mut session = service(lab, "plain")?;
    for sqe in [Sqe::new(opcode::IDENTIFY).with_nsid(1), Sqe::new(opcode::IDENTIFY).cdw(10, 2)] {
        let done = session.admin().run(Command::reading(sqe, 4096))?;
        let nothing = !done.status().is_success() || done.data.iter().all(|byte| *byte == 0);
        ensure!(nothing, "{sqe:?} found a namespace");
    }
    Ok(())
}

fn it_can_be_kept_open(lab: &mut Lab) -> Result<()> {
    let nqn = "nqn.2026-11.io.example:watcher";
    let connect = ConnectCommand::admin(nqn, host_id_of(nqn), std::str::from_utf8(NQN)?);
    let (mut queue, done) = tried(lab, &ConnectCommand { kato_ms: 3_000, ..connect })?;
    done.ok()?;
    queue.enable()?;
    for _ in 0..15 {
        std::thread::sleep(std::time::Duration::from_millis(300));
        queue.keep_alive()?.ok()?;
    }
    queue.submit_async_event()?;
    queue.connection().expect_close().context("once it is silent")?;
    Ok(())
}

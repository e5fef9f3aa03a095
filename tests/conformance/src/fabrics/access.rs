//! Who may use what. NVMe Base 2.1 §6.3 "Connect Command and Response": Connect Invalid Host.

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::{Sqe, code, opcode};
use holdfast_testkit::{Command, ConnectCommand, Io, Options, Session};
use serde_json::json;

use super::{admin_connect, tried};
use crate::{Case, Format, Lab, View, check};

const CONNECT: &str = "NVMe Base 2.1 §6.3 \"Connect Command and Response\"";
const IDS: &str = "NVMe Base 2.1 §6.3 \"Connect Command and Response\", fields HOSTID, HOSTNQN";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("fabrics.access.unknown-host", CONNECT, an_unknown_host_is_refused),
    Case::new("fabrics.access.no-grant", CONNECT, a_known_host_without_a_grant_is_refused),
    Case::new("fabrics.access.only-granted", CONNECT, a_grant_is_for_one_subsystem),
    Case::new("fabrics.access.any-host", CONNECT, a_subsystem_for_any_host_takes_strangers),
    Case::new("fabrics.access.taken-away", CONNECT, a_grant_that_is_taken_away_ends_its_sessions),
    Case::new("fabrics.access.host-ids", IDS, one_host_may_have_several_identifiers),
    Case::new("fabrics.access.same-id", IDS, two_hosts_may_claim_one_identifier),
    Case::new("fabrics.access.subsystem-before-host", CONNECT, an_unknown_subsystem_is_told_to_anybody),
];

fn an_unknown_host_is_refused(lab: &mut Lab) -> Result<()> {
    let (connect, _) = admin_connect(lab)?;
    for name in [
        "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001",
        "nqn.2026-11.io.example:stranger",
    ] {
        let (_queue, done) = tried(lab, &ConnectCommand { hostnqn: name.into(), ..connect.clone() })?;
        check::status(&done, code::CONNECT_INVALID_HOST).with_context(|| name)?;
    }
    Ok(())
}

fn a_known_host_without_a_grant_is_refused(lab: &mut Lab) -> Result<()> {
    let (connect, _) = admin_connect(lab)?;
    let name = lab.host("uninvited")?;
    let (_queue, done) = tried(lab, &ConnectCommand { hostnqn: name.into(), ..connect })?;
    check::status(&done, code::CONNECT_INVALID_HOST)
}

fn a_grant_is_for_one_subsystem(lab: &mut Lab) -> Result<()> {
    let (connect, _) = admin_connect(lab)?;
    let other = lab.fresh_share(Format::STANDARD)?;
    let name = lab.admit("elsewhere", &other, View::Plain)?;
    let (_queue, done) = tried(lab, &ConnectCommand { hostnqn: name.clone().into(), ..connect.clone() })?;
    check::status(&done, code::CONNECT_INVALID_HOST)?;
    let there = ConnectCommand { hostnqn: name.into(), subnqn: other.nqn.into(), ..connect };
    tried(lab, &there)?.1.ok()?;
    Ok(())
}

fn a_subsystem_for_any_host_takes_strangers(lab: &mut Lab) -> Result<()> {
    let share = lab.fresh_share(Format::STANDARD)?;
    lab.rest().patch(&format!("/subsystems/{}", share.name), &json!({"allow_any_host": true}))?;
    let name = "nqn.2026-11.io.example:passing-by";
    let open = || Ok(Some(Session::open(lab.nvme(), name, &share.nqn, Options::default())?));
    let mut session = holdfast_e2e::eventually(std::time::Duration::from_secs(10), "access", open)?;
    session.io(1).write(1, &Io::at(0, 1), &[1; 4096])?.ok()?;
    Ok(())
}

fn a_grant_that_is_taken_away_ends_its_sessions(lab: &mut Lab) -> Result<()> {
    let share = lab.fresh_share(Format::STANDARD)?;
    let mut session = lab.open_as("unlucky", &share, View::Plain, Options::default().io_queues(2))?;
    let grant = format!("/subsystems/{}/hosts/{}", share.name, lab.host_name("unlucky"));
    session.io(2).flush(1)?.ok()?;
    lab.rest().delete(&grant)?;
    session.admin().connection().expect_close().context("Admin Queue")?;
    for qid in [1, 2] {
        session.io(qid).connection().expect_close().with_context(|| format!("queue {qid}"))?;
    }
    let (_queue, done) = tried(lab, session.connect_command())?;
    check::status(&done, code::CONNECT_INVALID_HOST)
}

fn one_host_may_have_several_identifiers(lab: &mut Lab) -> Result<()> {
    let mut first = lab.session(Options::default().host_id([1; 16]))?;
    let mut second = lab.session(Options::default().host_id([2; 16]))?;
    for (session, id) in [(&mut first, [1_u8; 16]), (&mut second, [2; 16])] {
        session.io(1).flush(1)?.ok()?;
        // Host Identifier, extended to 128 bits: CDW11 bit 0.
        let sqe = Sqe::new(opcode::GET_FEATURES).cdw(10, 0x81).cdw(11, 1);
        let got = session.admin().run(Command::reading(sqe, 16))?.ok()?;
        ensure!(got.data == id, "Host Identifier {:02x?}", got.data);
    }
    Ok(())
}

fn two_hosts_may_claim_one_identifier(lab: &mut Lab) -> Result<()> {
    let share = lab.share(Format::STANDARD)?;
    let mut first = lab.open_as("plain", &share, View::Plain, Options::default().host_id([9; 16]))?;
    let mut second = lab.open_as("other", &share, View::Plain, Options::default().host_id([9; 16]))?;
    first.io(1).flush(1)?.ok()?;
    second.io(1).flush(1)?.ok()?;
    Ok(())
}

fn an_unknown_subsystem_is_told_to_anybody(lab: &mut Lab) -> Result<()> {
    let (connect, _) = admin_connect(lab)?;
    let nobody = ConnectCommand {
        hostnqn: b"nqn.2026-11.io.example:stranger".to_vec(),
        subnqn: b"nqn.2026-11.io.holdfast:nobody".to_vec(),
        ..connect
    };
    super::invalid_parameter(&tried(lab, &nobody)?.1, super::SUBNQN)
}

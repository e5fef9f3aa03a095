//! Hosts that want more than their share of memory, or give nothing back.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::{Pdu, Sqe, opcode};
use holdfast_testkit::{Command, Connection, Error, Io, Options, Placement, Session};

use super::{NOTICED_WITHIN, PROMISE, bounded, footprint, given_back};
use crate::{Case, Lab, check};

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("robustness.greed.reads-nothing", PROMISE, a_host_that_reads_nothing),
    Case::new("robustness.greed.reads-slowly", PROMISE, a_host_that_reads_slowly_gets_it_all),
    Case::new("robustness.greed.identify-unread", PROMISE, identify_data_that_nobody_reads),
    Case::new("robustness.greed.responses-unread", PROMISE, responses_that_nobody_reads),
    Case::new("robustness.greed.r2ts-unanswered", PROMISE, many_large_writes_without_data),
    Case::new("robustness.greed.r2ts-many-hosts", PROMISE, many_queues_of_large_writes_without_data),
    Case::new("robustness.greed.r2ts-finish", PROMISE, many_large_writes_finish_in_the_end),
    Case::new("robustness.greed.overrun", PROMISE, more_commands_than_the_queue_has_entries),
    Case::new("robustness.greed.overrun-writes", PROMISE, more_writes_than_the_queue_has_entries),
    Case::new("robustness.greed.cid-reuse", PROMISE, one_identifier_for_all_commands),
    Case::new("robustness.greed.admin-overrun", PROMISE, more_admin_commands_than_entries),
    Case::new("robustness.greed.many-associations", PROMISE, one_host_with_a_hundred_associations),
];

/// Sends until the target takes no more, for as long as it wants; whether everything went out.
fn push(connection: &mut Connection, pdus: impl Iterator<Item = Pdu>) -> Result<bool> {
    connection.set_limit(Duration::from_millis(500))?;
    for pdu in pdus {
        match connection.send(&pdu) {
            Ok(()) => {}
            Err(Error::Timeout { .. } | Error::Closed { .. }) => return Ok(false),
            Err(other) => return Err(other.into()),
        }
    }
    Ok(true)
}

fn read(cid: u16, slba: u64, blocks: u32) -> Pdu {
    let sqe = Io::at(slba, blocks).sqe(opcode::READ, 1).with_cid(cid).sgl_transport(blocks * 4096);
    Pdu::CapsuleCmd { sqe, data: Vec::new() }
}

fn a_host_that_reads_nothing(lab: &mut Lab) -> Result<()> {
    let before = footprint(lab)?;
    let mut session = lab.session(Options::default())?;
    push(session.io(1).connection(), (0..127).map(|cid| read(cid, 0, 256)))?;
    for _ in 0..20 {
        lab.bystander_works()?;
    }
    bounded(lab, before)?;
    drop(session);
    given_back(lab, before)
}

fn a_host_that_reads_slowly_gets_it_all(lab: &mut Lab) -> Result<()> {
    let data = check::pattern(5, 256 * 4096);
    let mut session = lab.session(Options::default())?;
    session.io(1).write(1, &Io::at(0, 256), &data)?.ok()?;
    let read = || Command::reading(Io::at(0, 256).sqe(opcode::READ, 1), 256 * 4096);
    let cids = (0..16).map(|_| session.io(1).submit(read())).collect::<Result<Vec<u16>, Error>>()?;
    for cid in cids {
        lab.bystander_works()?;
        let done = session.io(1).wait(cid)?.ok()?;
        ensure!(done.data == data, "a slow reader got something else");
    }
    Ok(())
}

fn identify_data_that_nobody_reads(lab: &mut Lab) -> Result<()> {
    let before = footprint(lab)?;
    let mut session = lab.session(Options::default())?;
    let identify = |cid| {
        let sqe = Sqe::new(opcode::IDENTIFY).cdw(10, 1).with_cid(cid).sgl_transport(4096);
        Pdu::CapsuleCmd { sqe, data: Vec::new() }
    };
    push(session.admin().connection(), (0..20_000).map(identify))?;
    lab.bystander_works()?;
    bounded(lab, before)?;
    drop(session);
    given_back(lab, before)
}

fn responses_that_nobody_reads(lab: &mut Lab) -> Result<()> {
    let before = footprint(lab)?;
    let mut session = lab.session(Options::default())?;
    let refused =
        |cid| Pdu::CapsuleCmd { sqe: Sqe::new(0x7d).with_cid(cid).sgl_transport(0), data: Vec::new() };
    push(session.io(1).connection(), (0..60_000).map(refused))?;
    lab.bystander_works()?;
    bounded(lab, before)?;
    drop(session);
    given_back(lab, before)
}

/// Submits writes of a MiB each, whose R2Ts are not answered.
fn submit_large(session: &mut Session, qid: u16, count: u64, fill: u8) -> Result<Vec<u16>> {
    let io = session.io(qid);
    io.hold_r2ts(true);
    let write = |index: u64| {
        let sqe = Io::at(index % 8 * 256, 256).sqe(opcode::WRITE, 1);
        Command::with_data(sqe, vec![fill; 256 * 4096]).placed(Placement::Solicited)
    };
    Ok((0..count).map(|index| io.submit(write(index))).collect::<Result<Vec<u16>, Error>>()?)
}

fn many_large_writes_without_data(lab: &mut Lab) -> Result<()> {
    let before = footprint(lab)?;
    let mut session = lab.session(Options::default())?;
    submit_large(&mut session, 1, 127, 1)?;
    session.io(1).next_r2t()?;
    for _ in 0..20 {
        lab.bystander_works()?;
    }
    bounded(lab, before)?;
    drop(session);
    given_back(lab, before)
}

fn many_queues_of_large_writes_without_data(lab: &mut Lab) -> Result<()> {
    let before = footprint(lab)?;
    let mut sessions = Vec::new();
    for fill in 0..6 {
        let mut session = lab.session(Options::default().io_queues(4))?;
        for qid in 1..=4 {
            submit_large(&mut session, qid, 40, fill)?;
        }
        lab.bystander_works()?;
        sessions.push(session);
    }
    bounded(lab, before)?;
    drop(sessions);
    lab.bystander_works()?;
    given_back(lab, before)
}

/// What is asked for piece by piece, in whatever order, is given in the end.
fn many_large_writes_finish_in_the_end(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let cids = submit_large(&mut session, 1, 100, 0x6d)?;
    // From now on every R2T is answered as it comes; those that are held already first.
    let mut held = vec![session.io(1).next_r2t()?];
    held.extend(std::iter::from_fn(|| session.io(1).held_r2t()));
    session.io(1).hold_r2ts(false);
    for r2t in held {
        session.io(1).answer_r2t(&r2t)?;
    }
    for cid in cids {
        session.io(1).wait(cid)?.ok()?;
    }
    let back = session.io(1).read(1, &Io::at(0, 256), 256 * 4096)?.ok()?.data;
    ensure!(back == vec![0x6d; 256 * 4096], "stored something else");
    Ok(())
}

/// Reads what comes until the connection ends or as many commands have ended as were sent.
fn drained(connection: &mut Connection, sent: usize) -> Result<()> {
    connection.set_limit(NOTICED_WITHIN)?;
    let mut ended = 0;
    while ended < sent {
        match connection.recv() {
            Ok(Pdu::CapsuleResp(_)) => ended += 1,
            Ok(Pdu::C2hData(data)) => ended += usize::from(data.success),
            Ok(Pdu::R2t(_)) => {}
            Ok(Pdu::C2hTermReq(_)) | Err(Error::Closed { .. }) => return Ok(()),
            Ok(other) => anyhow::bail!("{}", other.name()),
            Err(other) => return Err(other).with_context(|| format!("after {ended} of {sent}")),
        }
    }
    Ok(())
}

fn more_commands_than_the_queue_has_entries(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().queue_size(4))?;
    let connection = session.io(1).connection();
    let all = push(connection, (0..400).map(|cid| read(cid, u64::from(cid), 1)))?;
    if all { drained(connection, 400) } else { Ok(()) }
}

fn more_writes_than_the_queue_has_entries(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().queue_size(4))?;
    let write = |cid: u16| {
        let sqe = Io::at(cid.into(), 8).sqe(opcode::WRITE, 1).with_cid(cid).sgl_transport(8 * 4096);
        Pdu::CapsuleCmd { sqe, data: Vec::new() }
    };
    let connection = session.io(1).connection();
    push(connection, (0..400).map(write))?;
    // None of them can end without data, so the queue is overrun however fast they are taken.
    connection.set_limit(NOTICED_WITHIN)?;
    Ok(connection.expect_close()?)
}

fn one_identifier_for_all_commands(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let connection = session.io(1).connection();
    let all = push(connection, (0..100).map(|index| read(7, index, 4)))?;
    if all { drained(connection, 100) } else { Ok(()) }
}

fn more_admin_commands_than_entries(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(0))?;
    let keep_alive = |cid| Pdu::CapsuleCmd {
        sqe: Sqe::new(opcode::KEEP_ALIVE).with_cid(cid).sgl_transport(0),
        data: Vec::new(),
    };
    let connection = session.admin().connection();
    let all = push(connection, (0..500).map(keep_alive))?;
    if all { drained(connection, 500) } else { Ok(()) }
}

/// Where there is a limit, it is told by a status; those that were let in work.
fn one_host_with_a_hundred_associations(lab: &mut Lab) -> Result<()> {
    let before = footprint(lab)?;
    let mut sessions = Vec::new();
    for _ in 0..100 {
        match lab.session(Options::default()) {
            Ok(session) => sessions.push(session),
            Err(error) => {
                let told = error
                    .downcast_ref::<Error>()
                    .is_some_and(|error| error.status().is_some() || error.is_closed());
                ensure!(told, "{error:#}");
                break;
            }
        }
    }
    ensure!(sessions.len() >= 16, "only {} associations", sessions.len());
    for session in &mut sessions {
        session.io(1).flush(1)?.ok()?;
    }
    drop(sessions);
    given_back(lab, before)?;
    bounded(lab, before)
}

//! Many connections that do nothing good.

use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::{Digests, IcReq, Pdu, Sqe, code, opcode};
use holdfast_testkit::{Command, ConnectCommand, ConnectOptions, Io, Options, Queue, Session};

use super::{PROMISE, bounded, footprint, given_back};
use crate::{Case, Format, Lab, View};

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("robustness.flood.silent", PROMISE, five_hundred_silent_connections_delay_nobody),
    Case::new("robustness.flood.initialized", PROMISE, connections_without_a_connect_delay_nobody),
    Case::new("robustness.flood.half-open-ends", PROMISE, half_open_connections_end),
    Case::new("robustness.flood.open-close", PROMISE, a_thousand_connections_come_and_go),
    Case::new("robustness.flood.refused-connects", PROMISE, a_thousand_connects_are_refused),
    Case::new("robustness.flood.associations", PROMISE, associations_come_and_go),
    Case::new("robustness.flood.resets", PROMISE, a_controller_is_reset_all_the_time),
    Case::new("robustness.flood.discovery", PROMISE, discovery_is_asked_all_the_time),
    Case::new("robustness.flood.aborts", PROMISE, aborts_of_nothing),
    Case::new("robustness.flood.bad-commands", PROMISE, thousands_of_refused_commands),
    Case::new("robustness.flood.terminations", PROMISE, fatal_errors_again_and_again),
];

/// All of these at once are too many for the limit of some machines' shells; the target's own limit is another matter.
const MANY: usize = 500;

fn five_hundred_silent_connections_delay_nobody(lab: &mut Lab) -> Result<()> {
    let before = footprint(lab)?;
    let mut silent = Vec::new();
    for _ in 0..MANY {
        silent.push(TcpStream::connect(lab.nvme())?);
    }
    for _ in 0..20 {
        lab.bystander_works()?;
    }
    let mut session = lab.session(Options::default()).context("a new host beside them")?;
    session.io(1).write(1, &Io::at(0, 1), &[1; 4096])?.ok()?;
    bounded(lab, before)?;
    drop((silent, session));
    given_back(lab, before)
}

fn connections_without_a_connect_delay_nobody(lab: &mut Lab) -> Result<()> {
    let before = footprint(lab)?;
    let mut open = Vec::new();
    for _ in 0..200 {
        open.push(lab.initialized(&ConnectOptions::default())?);
    }
    let mut session = lab.session(Options::default())?;
    for _ in 0..20 {
        session.io(1).flush(1)?.ok()?;
        lab.bystander_works()?;
    }
    bounded(lab, before)?;
    drop((open, session));
    given_back(lab, before)
}

/// Without a word, within an ICReq, and without a Connect.
fn half_open_connections_end(lab: &mut Lab) -> Result<()> {
    let mut silent = lab.raw()?;
    let mut within = lab.raw()?;
    within.send_frame(&Pdu::IcReq(IcReq::default()).encode(Digests::default(), 4).truncate(60))?;
    let mut unconnected = lab.initialized(&ConnectOptions::default())?;
    for (connection, what) in
        [(&mut silent, "silent"), (&mut within, "within an ICReq"), (&mut unconnected, "no Connect")]
    {
        connection.set_limit(lab.patience() * 4)?;
        connection.expect_close().context(what)?;
    }
    Ok(())
}

fn a_thousand_connections_come_and_go(lab: &mut Lab) -> Result<()> {
    let before = footprint(lab)?;
    for _ in 0..1000 {
        drop(TcpStream::connect(lab.nvme())?);
    }
    given_back(lab, before)?;
    bounded(lab, before)
}

fn connect(lab: &mut Lab) -> Result<ConnectCommand> {
    let share = lab.share(Format::STANDARD)?;
    let nqn = lab.admit("plain", &share, View::Plain)?;
    Ok(ConnectCommand::admin(&nqn, [5; 16], &share.nqn))
}

fn a_thousand_connects_are_refused(lab: &mut Lab) -> Result<()> {
    let connect = connect(lab)?;
    let before = footprint(lab)?;
    let mut queue = Queue::new(lab.initialized(&ConnectOptions::default())?, 0);
    for round in 0..1000_u32 {
        let bad =
            ConnectCommand { hostnqn: format!("nqn.2026-11.io.example:{round}").into(), ..connect.clone() };
        let done = queue.connect(&bad)?;
        ensure!(done.status().pair() == code::CONNECT_INVALID_HOST, "{}", done.status());
    }
    queue.connect(&connect)?.ok()?;
    bounded(lab, before)
}

fn associations_come_and_go(lab: &mut Lab) -> Result<()> {
    let connect = connect(lab)?;
    let before = footprint(lab)?;
    for _ in 0..500 {
        let mut queue = Queue::new(lab.initialized(&ConnectOptions::default())?, 0);
        queue.connect(&connect)?.ok()?;
    }
    given_back(lab, before)?;
    bounded(lab, before)
}

fn a_controller_is_reset_all_the_time(lab: &mut Lab) -> Result<()> {
    let mut session: Session = lab.session(Options::default().io_queues(0))?;
    session.admin().request_io_queues(1)?;
    for round in 0..100 {
        let connect = session.connect_command().io(session.cntlid(), 1, 15);
        let mut queue = Queue::new(lab.initialized(&ConnectOptions::default())?, 1);
        queue.connect(&connect)?.ok().with_context(|| format!("round {round}"))?;
        for index in 0..8 {
            queue.submit(Command::reading(Io::at(index * 8, 8).sqe(opcode::READ, 1), 8 * 4096))?;
        }
        session.admin().property_set(holdfast_testkit::Property::Cc, 0)?.ok()?;
        queue.connection().expect_close().with_context(|| format!("round {round}"))?;
        session.admin().enable()?;
    }
    Ok(())
}

fn discovery_is_asked_all_the_time(lab: &mut Lab) -> Result<()> {
    let share = lab.share(Format::STANDARD)?;
    let nqn = lab.admit("plain", &share, View::Plain)?;
    let before = footprint(lab)?;
    for _ in 0..100 {
        Session::discover(lab.nvme(), &nqn)?;
    }
    given_back(lab, before)
}

fn aborts_of_nothing(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for round in 0..500_u16 {
        let sqid = [0, 1, 2, 0x7fff, 0xffff].get(usize::from(round % 5)).copied().unwrap_or(0);
        let done = session.admin().abort(sqid, round.wrapping_mul(131))?;
        if done.status().is_success() {
            ensure!(done.cqe.dw0 & 1 == 1, "an Abort of nothing says that it aborted");
        }
    }
    session.io(1).flush(1)?.ok()?;
    Ok(())
}

fn thousands_of_refused_commands(lab: &mut Lab) -> Result<()> {
    let before = footprint(lab)?;
    let mut session = lab.session(Options::default())?;
    for round in 0..3000_u32 {
        let sqe = match round % 4 {
            0 => Io::at(u64::MAX, 1).sqe(opcode::READ, 1),
            1 => Io::at(0, 1).sqe(opcode::READ, 0xffff_0000),
            2 => Sqe::new(0x7d).with_nsid(1),
            _ => Io::at(0, 65_536).sqe(opcode::WRITE, 1),
        };
        let done = session.io(1).run(Command::bare(sqe))?;
        ensure!(!done.status().is_success(), "{sqe:?} was done");
    }
    session.io(1).flush(1)?.ok()?;
    bounded(lab, before)
}

fn fatal_errors_again_and_again(lab: &mut Lab) -> Result<()> {
    let before = footprint(lab)?;
    for _ in 0..300 {
        let mut connection = lab.initialized(&ConnectOptions::default())?;
        let flush = Pdu::CapsuleCmd { sqe: Sqe::new(opcode::FLUSH).sgl_transport(0), data: Vec::new() };
        let frame = connection.encode(&flush).hlen(1);
        connection.send_frame(&frame)?;
        connection.expect_term_req()?;
    }
    given_back(lab, before)?;
    bounded(lab, before)
}

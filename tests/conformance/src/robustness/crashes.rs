//! Hosts that are gone from one moment to the next.

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::{Digests, IcReq, Pdu, opcode};
use holdfast_testkit::{Command, ConnectOptions, Io, Options, Placement};

use super::{PROMISE, bounded, footprint, given_back};
use crate::{Case, Lab, check, transport};

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("robustness.crash.icreq-truncated", PROMISE, an_icreq_ends_at_any_byte),
    Case::new("robustness.crash.capsule-truncated", PROMISE, a_capsule_ends_at_any_byte),
    Case::new("robustness.crash.connect-truncated", PROMISE, a_connect_ends_anywhere),
    Case::new("robustness.crash.h2c-truncated", PROMISE, a_data_pdu_ends_at_any_byte),
    Case::new("robustness.crash.reset-in-write", PROMISE, a_reset_within_a_write_stores_nothing_of_it),
    Case::new("robustness.crash.reset-in-read", PROMISE, a_reset_within_reads),
    Case::new("robustness.crash.reset-admin", PROMISE, a_reset_of_the_admin_queue_within_io),
    Case::new("robustness.crash.reset-at-once", PROMISE, a_reset_right_after_any_step),
    Case::new("robustness.crash.half-close", PROMISE, a_half_closed_queue_ends),
    Case::new("robustness.crash.half-close-with-work", PROMISE, a_half_closed_queue_with_commands_ends),
    Case::new("robustness.crash.writes-whole", PROMISE, each_write_is_stored_whole_or_not_at_all),
    Case::new("robustness.crash.many-sessions", PROMISE, hundreds_of_sessions_die),
];

fn an_icreq_ends_at_any_byte(lab: &mut Lab) -> Result<()> {
    let frame = Pdu::IcReq(IcReq::default()).encode(Digests::default(), 4);
    for len in 0..frame.as_bytes().len() {
        let mut connection = lab.raw()?;
        connection.send_frame(&frame.clone().truncate(len))?;
        connection.half_close()?;
        connection.expect_close().with_context(|| format!("after {len} bytes"))?;
    }
    Ok(())
}

fn a_capsule_ends_at_any_byte(lab: &mut Lab) -> Result<()> {
    let at = Io::at(3900, 1);
    lab.session(Options::default())?.io(1).write(1, &at, &[1; 4096])?.ok()?;
    for len in (0..90).chain([1000, 4167]) {
        let mut session = lab.session(Options::default())?;
        let connection = session.io(1).connection();
        let sqe = at.sqe(opcode::WRITE, 1).with_cid(1).sgl_in_capsule(0, 4096);
        let frame = connection.encode(&Pdu::CapsuleCmd { sqe, data: vec![2; 4096] }).truncate(len);
        connection.send_frame(&frame)?;
        connection.half_close()?;
        connection.expect_close().with_context(|| format!("after {len} bytes"))?;
    }
    let back = lab.session(Options::default())?.io(1).read(1, &at, 4096)?.ok()?.data;
    ensure!(back == [1; 4096], "part of a capsule was stored");
    Ok(())
}

fn a_connect_ends_anywhere(lab: &mut Lab) -> Result<()> {
    let before = footprint(lab)?;
    let share = lab.share(crate::Format::STANDARD)?;
    let nqn = lab.admit("plain", &share, crate::View::Plain)?;
    let command = holdfast_testkit::ConnectCommand::admin(&nqn, [7; 16], &share.nqn).command();
    for len in (0..1096).step_by(17).chain([1095]) {
        let mut connection = lab.initialized(&ConnectOptions::default())?;
        let sqe = command.sqe.sgl_in_capsule(0, 1024);
        let frame = connection.encode(&Pdu::CapsuleCmd { sqe, data: command.data.clone() }).truncate(len);
        connection.send_frame(&frame)?;
        connection.half_close()?;
        connection.expect_close().with_context(|| format!("after {len} bytes"))?;
    }
    given_back(lab, before)
}

fn a_data_pdu_ends_at_any_byte(lab: &mut Lab) -> Result<()> {
    let at = Io::at(3910, 8);
    lab.session(Options::default())?.io(1).write(1, &at, &vec![1; 8 * 4096])?.ok()?;
    for len in (0..30).chain([1000, 4096, 20_000, 8 * 4096 + 23]) {
        let (mut session, _, r2t) = transport::held_write(lab, 3910, vec![2; 8 * 4096])?;
        let pdu = session.io(1).h2c_data(&r2t, 0, 8 * 4096, true)?;
        let connection = session.io(1).connection();
        let frame = connection.encode(&Pdu::H2cData(pdu)).truncate(len);
        connection.send_frame(&frame)?;
        connection.half_close()?;
        connection.expect_close().with_context(|| format!("after {len} bytes"))?;
    }
    let back = lab.session(Options::default())?.io(1).read(1, &at, 8 * 4096)?.ok()?.data;
    ensure!(back == vec![1; 8 * 4096], "part of a write was stored");
    Ok(())
}

fn a_reset_within_a_write_stores_nothing_of_it(lab: &mut Lab) -> Result<()> {
    let at = Io::at(3920, 64);
    let len = 64 * 4096;
    lab.session(Options::default())?.io(1).write(1, &at, &vec![1; len])?.ok()?;
    for part in (0..len).step_by(len / 20) {
        let (mut session, _, r2t) = transport::held_write(lab, 3920, vec![2; len])?;
        let mut queue = session.take_io_queues().pop().context("a queue")?;
        if part > 0 {
            let pdu = queue.h2c_data(&r2t, 0, part.next_multiple_of(4), false)?;
            queue.connection().send(&Pdu::H2cData(pdu))?;
        }
        queue.into_connection().reset()?;
    }
    let back = lab.session(Options::default())?.io(1).read(1, &at, len)?.ok()?.data;
    ensure!(back == vec![1; len], "part of a write was stored");
    Ok(())
}

fn a_reset_within_reads(lab: &mut Lab) -> Result<()> {
    let before = footprint(lab)?;
    for round in 0..30 {
        let mut session = lab.session(Options::default())?;
        for _ in 0..20 {
            let sqe = Io::at(0, 256).sqe(opcode::READ, 1);
            session.io(1).submit(Command::reading(sqe, 256 * 4096))?;
        }
        if round % 2 == 0 {
            session.io(1).connection().recv()?;
        }
        session.take_io_queues().pop().context("a queue")?.into_connection().reset()?;
    }
    given_back(lab, before)?;
    bounded(lab, before)
}

fn a_reset_of_the_admin_queue_within_io(lab: &mut Lab) -> Result<()> {
    for _ in 0..20 {
        let mut session = lab.session(Options::default().io_queues(2))?;
        for qid in [1, 2] {
            for index in 0..16 {
                let sqe = Io::at(index * 64, 64).sqe(opcode::READ, 1);
                session.io(qid).submit(Command::reading(sqe, 64 * 4096))?;
            }
        }
        let mut queues = session.take_io_queues();
        drop(session);
        for queue in &mut queues {
            queue.connection().expect_close()?;
        }
    }
    Ok(())
}

fn a_reset_right_after_any_step(lab: &mut Lab) -> Result<()> {
    let before = footprint(lab)?;
    for _ in 0..20 {
        lab.raw()?.reset()?;
        let mut connection = lab.raw()?;
        connection.send(&Pdu::IcReq(IcReq::default()))?;
        connection.reset()?;
        lab.initialized(&ConnectOptions::default())?.reset()?;
        let mut session = lab.session(Options::default())?;
        session.take_io_queues().pop().context("a queue")?.into_connection().reset()?;
    }
    given_back(lab, before)
}

fn a_half_closed_queue_ends(lab: &mut Lab) -> Result<()> {
    let mut connection = lab.initialized(&ConnectOptions::default())?;
    connection.half_close()?;
    connection.expect_close().context("without a Connect")?;
    let mut session = lab.session(Options::default())?;
    session.io(1).connection().half_close()?;
    session.io(1).connection().expect_close().context("an I/O queue")?;
    Ok(())
}

fn a_half_closed_queue_with_commands_ends(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for index in 0..32 {
        let sqe = Io::at(index * 16, 16).sqe(opcode::READ, 1);
        session.io(1).submit(Command::reading(sqe, 16 * 4096))?;
    }
    session.io(1).connection().half_close()?;
    session.io(1).connection().expect_close()?;
    Ok(())
}

/// 64 writes in one go, the connection reset somewhere in them: each block group holds all of one write.
fn each_write_is_stored_whole_or_not_at_all(lab: &mut Lab) -> Result<()> {
    const BLOCKS: u32 = 2;
    let len = usize::try_from(BLOCKS)? * 4096;
    let share = lab.fresh_share(crate::Format::STANDARD)?;
    let open = |lab: &mut Lab| lab.open_as("plain", &share, crate::View::Plain, Options::default());
    for round in 0..10_u8 {
        let mut session = open(lab)?;
        let connection = session.io(1).connection();
        let mut bytes = Vec::new();
        for index in 0..64_u16 {
            let at = Io::at(u64::from(index) * u64::from(BLOCKS), BLOCKS);
            let sqe = at.sqe(opcode::WRITE, 1).with_cid(index).sgl_in_capsule(0, BLOCKS * 4096);
            bytes.extend_from_slice(
                connection.encode(&Pdu::CapsuleCmd { sqe, data: vec![round + 1; len] }).as_bytes(),
            );
        }
        let part = bytes.len() / 11 * (usize::from(round) + 1);
        connection.send_raw(bytes.get(..part).unwrap_or(&bytes))?;
        session.take_io_queues().pop().context("a queue")?.into_connection().reset()?;
        let mut reader = open(lab)?;
        for index in 0..64_u64 {
            let back = reader.io(1).read(1, &Io::at(index * u64::from(BLOCKS), BLOCKS), len)?.ok()?.data;
            ensure!(
                back.iter().all(|byte| Some(byte) == back.first()),
                "round {round}: write {index} is stored in part"
            );
        }
    }
    Ok(())
}

fn hundreds_of_sessions_die(lab: &mut Lab) -> Result<()> {
    lab.session(Options::default())?.close()?;
    let before = footprint(lab)?;
    for round in 0..200_u64 {
        let mut session =
            lab.session(Options::default().io_queues(2).digests(round % 2 == 0, round % 3 == 0))?;
        let write =
            Command::with_data(Io::at(round, 4).sqe(opcode::WRITE, 1), check::pattern(round, 4 * 4096));
        session.io(1).hold_r2ts(true);
        session.io(1).submit(write.placed(Placement::Solicited))?;
        let read = Command::reading(Io::at(round, 64).sqe(opcode::READ, 1), 64 * 4096);
        session.io(2).submit(read)?;
        for queue in session.take_io_queues() {
            queue.into_connection().reset()?;
        }
    }
    given_back(lab, before)?;
    bounded(lab, before)
}

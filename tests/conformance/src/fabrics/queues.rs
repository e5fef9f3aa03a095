//! How many queues there are. NVMe Base 2.1 §5.1.25.2.1 "Number of Queues", §3.3.2.2 "Queue Creation".

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::{code, opcode};
use holdfast_testkit::{Command, Error, Io, Options};

use crate::{Case, Lab, check};

const NUMBER: &str = "NVMe Base 2.1 §5.1.25.2.1 \"Number of Queues (Feature Identifier 07h)\"";
const CREATION: &str = "NVMe Base 2.1 §3.3.2.2 \"Queue Creation\"";
const OUTSTANDING: &str = "NVMe Base 2.1 §3.4.5 \"Outstanding Commands\"";
const UNIQUE: &str = "NVMe Base 2.1 §3.3.2.1.1 \"Command Capsules\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("fabrics.queues.granted", NUMBER, as_many_queues_are_granted_as_can_be_made),
    Case::new("fabrics.queues.reserved-number", NUMBER, ffffh_queues_cannot_be_asked_for),
    Case::new("fabrics.queues.all-work", CREATION, all_granted_queues_work_at_once),
    Case::new("fabrics.queues.depth-128", OUTSTANDING, every_queue_takes_a_depth_of_128),
    Case::new("fabrics.queues.cid-per-queue", UNIQUE, identifiers_are_unique_per_queue_only),
    Case::new("fabrics.queues.cid-conflict", UNIQUE, an_identifier_in_flight_is_a_conflict),
    Case::new("fabrics.queues.cid-reuse", UNIQUE, an_identifier_is_free_once_its_command_ended),
    Case::new("fabrics.queues.out-of-order", OUTSTANDING, commands_may_end_in_any_order),
];

fn as_many_queues_are_granted_as_can_be_made(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(0))?;
    for wanted in [1, 2, 4, 8] {
        ensure!(
            session.admin().request_io_queues(wanted)? >= 1,
            "no queue is granted where {wanted} are wanted"
        );
    }
    // Once I/O queues exist the number stays.
    for qid in 1..=session.admin().request_io_queues(4)? {
        session.add_io_queue().with_context(|| format!("queue {qid}"))?.flush(1)?.ok()?;
    }
    Ok(())
}

fn ffffh_queues_cannot_be_asked_for(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(0))?;
    for value in [0xffff_0000, 0x0000_ffff, 0xffff_ffff] {
        check::status(&session.admin().set_feature(0x07, value)?, code::INVALID_FIELD)
            .with_context(|| format!("CDW11 {value:#x}"))?;
    }
    Ok(())
}

fn all_granted_queues_work_at_once(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(0).queue_size(16))?;
    let granted = session.admin().request_io_queues(16)?;
    ensure!(granted >= 4, "only {granted} queues are granted");
    for _ in 0..granted {
        session.add_io_queue()?;
    }
    let mut cids = Vec::new();
    for qid in 1..=granted {
        let sqe = Io::at(1700 + u64::from(qid), 1).sqe(opcode::WRITE, 1);
        cids.push((qid, session.io(qid).submit(Command::with_data(sqe, check::pattern(qid.into(), 4096)))?));
    }
    for (qid, cid) in cids.into_iter().rev() {
        session.io(qid).wait(cid)?.ok()?;
    }
    for qid in 1..=granted {
        let other = granted + 1 - qid;
        let back = session.io(other).read(1, &Io::at(1700 + u64::from(qid), 1), 4096)?.ok()?.data;
        ensure!(back == check::pattern(qid.into(), 4096), "what queue {qid} wrote");
    }
    Ok(())
}

fn every_queue_takes_a_depth_of_128(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(4).queue_size(129))?;
    let mut cids = Vec::new();
    for qid in 1..=4 {
        for index in 0..128_u64 {
            let sqe = Io::at(index * 4, 4).sqe(opcode::READ, 1);
            cids.push((qid, session.io(qid).submit(Command::reading(sqe, 4 * 4096))?));
        }
    }
    for (qid, cid) in cids {
        session.io(qid).wait(cid)?.ok().with_context(|| format!("queue {qid}"))?;
    }
    Ok(())
}

fn identifiers_are_unique_per_queue_only(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(2))?;
    let write = || {
        Command::with_data(Io::at(70, 8).sqe(opcode::WRITE, 1), vec![1; 8 * 4096])
            .placed(holdfast_testkit::Placement::Solicited)
    };
    for qid in [1, 2] {
        session.io(qid).hold_r2ts(true);
    }
    let (first, second) = (session.io(1).submit(write())?, session.io(2).submit(write())?);
    check::same("the identifiers", first, second)?;
    for (qid, cid) in [(1, first), (2, second)] {
        let r2t = session.io(qid).next_r2t()?;
        session.io(qid).answer_r2t(&r2t)?;
        session.io(qid).wait(cid)?.ok()?;
    }
    Ok(())
}

/// The first command is not hurt; the second is refused, and if its identifier is all that answers it, so be it.
fn an_identifier_in_flight_is_a_conflict(lab: &mut Lab) -> Result<()> {
    let data = check::pattern(71, 8 * 4096);
    let (mut session, cid, r2t) = crate::transport::held_write(lab, 72, data.clone())?;
    let io = session.io(1);
    let sqe = holdfast_testkit::wire::Sqe::new(opcode::FLUSH).with_nsid(1).with_cid(cid).sgl_transport(0);
    io.connection().send(&holdfast_testkit::wire::Pdu::CapsuleCmd { sqe, data: Vec::new() })?;
    match io.connection().recv() {
        Ok(holdfast_testkit::wire::Pdu::CapsuleResp(cqe)) => {
            ensure!(cqe.cid == cid && cqe.status.pair() == code::ID_CONFLICT, "{cqe:?}");
            io.answer_r2t(&r2t)?;
            io.wait(cid)?.ok()?;
            let back = io.read(1, &Io::at(72, 8), data.len())?.ok()?.data;
            ensure!(back == data, "the first command stored something else");
            Ok(())
        }
        Ok(holdfast_testkit::wire::Pdu::C2hTermReq(_)) | Err(Error::Closed { .. }) => Ok(()),
        other => anyhow::bail!("{other:?}"),
    }
}

fn an_identifier_is_free_once_its_command_ended(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let connection = session.io(1).connection();
    for _ in 0..500 {
        let sqe = holdfast_testkit::wire::Sqe::new(opcode::FLUSH).with_nsid(1).with_cid(42).sgl_transport(0);
        connection.send(&holdfast_testkit::wire::Pdu::CapsuleCmd { sqe, data: Vec::new() })?;
        let holdfast_testkit::wire::Pdu::CapsuleResp(cqe) = connection.recv()? else {
            anyhow::bail!("no response")
        };
        ensure!(cqe.cid == 42 && cqe.status.is_success(), "{cqe:?}");
    }
    Ok(())
}

fn commands_may_end_in_any_order(lab: &mut Lab) -> Result<()> {
    let data = check::pattern(73, 8 * 4096);
    let (mut session, slow, r2t) = crate::transport::held_write(lab, 80, data)?;
    let io = session.io(1);
    for _ in 0..100 {
        io.flush(1)?.ok()?;
    }
    io.answer_r2t(&r2t)?;
    io.wait(slow)?.ok()?;
    Ok(())
}

//! Enabling, resetting and shutting down a controller. NVMe Base 2.1 §3.5.2 "Message-based Controller Initialization
//! (Fabrics)", §3.6.2 "Message-based Controller Shutdown (Fabrics)", §3.7.2 "Controller Level Reset".

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_testkit::wire::{code, opcode};
use holdfast_testkit::{Command, Error, Io, Options, Placement, Property, Queue, Session};

use super::{admin_connect, tried};
use crate::{Case, Lab, check};

const INIT: &str = "NVMe Base 2.1 §3.5.2 \"Message-based Controller Initialization (Fabrics)\"";
const RESET: &str = "NVMe Base 2.1 §3.7.2 \"Controller Level Reset\"";
const SHUTDOWN: &str = "NVMe Base 2.1 §3.6.2 \"Message-based Controller Shutdown (Fabrics)\"";
const CC: &str = "NVMe Base 2.1 §3.1.4.5 \"CC – Controller Configuration\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("fabrics.life.enable", INIT, enabling_makes_it_ready_in_time),
    Case::new("fabrics.life.enable-twice", CC, enabling_an_enabled_one_changes_nothing),
    Case::new("fabrics.life.disable", RESET, disabling_makes_it_unready),
    Case::new("fabrics.life.reset-keeps-association", SHUTDOWN, a_reset_keeps_the_association),
    Case::new("fabrics.life.reset-many", RESET, it_can_be_reset_again_and_again),
    Case::new("fabrics.life.reset-deletes-queues", RESET, a_reset_deletes_the_io_queues),
    Case::new("fabrics.life.reset-reconnect", RESET, queues_can_be_made_anew_after_a_reset),
    Case::new("fabrics.life.reset-admin-commands", RESET, a_reset_controller_takes_no_admin_commands),
    Case::new("fabrics.life.reset-features", RESET, a_reset_forgets_features),
    Case::new("fabrics.life.reset-in-flight", RESET, a_reset_ends_what_is_in_flight),
    Case::new("fabrics.life.reset-async-events", RESET, a_reset_forgets_event_requests),
    Case::new("fabrics.life.shutdown-normal", SHUTDOWN, a_normal_shutdown_completes),
    Case::new("fabrics.life.shutdown-abrupt", SHUTDOWN, an_abrupt_shutdown_completes),
    Case::new("fabrics.life.shutdown-connection", SHUTDOWN, a_shutdown_leaves_the_connection_to_the_host),
    Case::new("fabrics.life.shutdown-admin", SHUTDOWN, only_fabrics_commands_work_after_a_shutdown),
    Case::new("fabrics.life.shutdown-io", SHUTDOWN, io_does_not_work_after_a_shutdown),
    Case::new("fabrics.life.shutdown-restart", SHUTDOWN, a_reset_brings_it_back_after_a_shutdown),
    Case::new("fabrics.life.shutdown-keeps-data", SHUTDOWN, what_was_written_is_there_after_a_shutdown),
];

/// EN, 64-byte and 16-byte entries.
const ENABLED: u64 = 0x0046_0001;
const SHN_NORMAL: u64 = 1 << 14;
const SHN_ABRUPT: u64 = 2 << 14;
const READY: u64 = 1;
const SHST: u64 = 3 << 2;
const SHST_COMPLETE: u64 = 2 << 2;

fn csts(queue: &mut Queue) -> Result<u64> {
    Ok(queue.property_get(Property::Csts)?.ok()?.cqe.value())
}

/// Looks at CSTS until it is as wanted, for as long as CAP.TO allows.
fn awaited(queue: &mut Queue, what: &str, wanted: impl Fn(u64) -> bool) -> Result<()> {
    let cap = queue.property_get(Property::Cap)?.ok()?.cqe.value();
    let limit = std::time::Duration::from_millis((cap >> 24 & 0xff) * 500);
    holdfast_e2e::eventually(limit, what, || Ok(Some(csts(queue)?).filter(|csts| wanted(*csts))))?;
    Ok(())
}

fn reset(queue: &mut Queue) -> Result<()> {
    queue.property_set(Property::Cc, 0)?.ok()?;
    awaited(queue, "CSTS.RDY 0", |csts| csts & READY == 0)
}

fn shut_down(queue: &mut Queue, shn: u64) -> Result<()> {
    queue.property_set(Property::Cc, ENABLED | shn)?.ok()?;
    awaited(queue, "CSTS.SHST complete", |csts| csts & SHST == SHST_COMPLETE)
}

/// Demands that a queue does nothing any more: it answers with an error, or its connection ends.
fn dead(queue: &mut Queue) -> Result<()> {
    match queue.flush(1) {
        Ok(done) => ensure!(!done.status().is_success(), "a Flush was done"),
        Err(Error::Closed { .. } | Error::TermReq(_)) => {}
        Err(other) => return Err(other.into()),
    }
    Ok(())
}

fn enabling_makes_it_ready_in_time(lab: &mut Lab) -> Result<()> {
    let (connect, _) = admin_connect(lab)?;
    let (mut queue, done) = tried(lab, &connect)?;
    done.ok()?;
    check::same("CSTS.RDY before", csts(&mut queue)? & READY, 0)?;
    queue.property_set(Property::Cc, ENABLED)?.ok()?;
    awaited(&mut queue, "CSTS.RDY 1", |csts| csts & READY != 0)
}

fn enabling_an_enabled_one_changes_nothing(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    session.admin().property_set(Property::Cc, ENABLED)?.ok()?;
    check::same("CSTS", csts(session.admin())?, READY)?;
    session.io(1).flush(1)?.ok()?;
    Ok(())
}

fn disabling_makes_it_unready(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    reset(session.admin())?;
    check::same("CSTS", csts(session.admin())?, 0)?;
    check::same("CC.EN", session.admin().property_get(Property::Cc)?.ok()?.cqe.value() & 1, 0)
}

fn a_reset_keeps_the_association(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(0))?;
    let cntlid = session.cntlid();
    reset(session.admin())?;
    session.admin().enable()?;
    check::same("CNTLID", session.admin().identify_controller()?.cntlid, cntlid)
}

fn it_can_be_reset_again_and_again(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(0))?;
    for _ in 0..50 {
        reset(session.admin())?;
        session.admin().enable()?;
        session.admin().keep_alive()?.ok()?;
    }
    Ok(())
}

fn a_reset_deletes_the_io_queues(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(2))?;
    reset(session.admin())?;
    dead(session.io(1)).context("while it is disabled")?;
    session.admin().enable()?;
    session.admin().keep_alive()?.ok()?;
    dead(session.io(2)).context("once it is enabled again")
}

fn queues_can_be_made_anew_after_a_reset(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(2))?;
    for round in 0..5 {
        reset(session.admin())?;
        drop(session.take_io_queues());
        session.admin().enable()?;
        session.admin().request_io_queues(2)?;
        for _ in 0..2 {
            let queue = session.add_io_queue().with_context(|| format!("round {round}"))?;
            queue.write(1, &Io::at(60, 1), &[round; 4096])?.ok()?;
            ensure!(queue.read(1, &Io::at(60, 1), 4096)?.ok()?.data == [round; 4096], "round {round}");
        }
    }
    Ok(())
}

fn a_reset_controller_takes_no_admin_commands(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(0))?;
    reset(session.admin())?;
    check::status(&session.admin().identify(1, 0, 0)?, code::SEQUENCE_ERROR)?;
    check::status(&session.admin().keep_alive()?, code::SEQUENCE_ERROR)
}

/// Asynchronous Event Configuration is not saved.
fn a_reset_forgets_features(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(0))?;
    let initial = session.admin().get_feature(0x0b)?.ok()?.cqe.dw0;
    session.admin().set_feature(0x0b, initial ^ 0x0100)?.ok()?;
    reset(session.admin())?;
    session.admin().enable()?;
    check::same("the feature", session.admin().get_feature(0x0b)?.ok()?.cqe.dw0, initial)
}

fn a_reset_ends_what_is_in_flight(lab: &mut Lab) -> Result<()> {
    let at = Io::at(3600, 64);
    let mut session = lab.session(Options::default())?;
    session.io(1).write(1, &at, &vec![1; 64 * 4096])?.ok()?;
    let io = session.io(1);
    io.hold_r2ts(true);
    for _ in 0..8 {
        let write = Command::with_data(at.sqe(opcode::WRITE, 1), vec![2; 64 * 4096]);
        io.submit(write.placed(Placement::Solicited))?;
    }
    io.next_r2t()?;
    reset(session.admin())?;
    session.admin().enable()?;
    let mut other = lab.session(Options::default())?;
    let back = other.io(1).read(1, &at, 64 * 4096)?.ok()?.data;
    ensure!(back == vec![1; 64 * 4096], "a write without its data was stored");
    Ok(())
}

/// After it, as many Asynchronous Event Requests fit as before.
fn a_reset_forgets_event_requests(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(0))?;
    let limit = u16::from(session.controller().aerl) + 1;
    for round in 0..3 {
        let cids =
            (0..limit).map(|_| session.admin().submit_async_event()).collect::<Result<Vec<u16>, Error>>()?;
        session.admin().keep_alive()?.ok()?;
        if let Some((_, done)) = session.admin().poll()? {
            bail!("round {round}: a request ended with {}", done.status());
        }
        session.admin().property_set(Property::Cc, 0)?.ok()?;
        awaited(session.admin(), "CSTS.RDY 0", |csts| csts & READY == 0)?;
        cids.into_iter().for_each(|cid| session.admin().forget(cid));
        session.admin().enable()?;
    }
    Ok(())
}

fn a_normal_shutdown_completes(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    session.io(1).write(1, &Io::at(61, 1), &[1; 4096])?.ok()?;
    shut_down(session.admin(), SHN_NORMAL)
}

fn an_abrupt_shutdown_completes(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    shut_down(session.admin(), SHN_ABRUPT)
}

fn a_shutdown_leaves_the_connection_to_the_host(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    shut_down(session.admin(), SHN_NORMAL)?;
    for _ in 0..10 {
        check::same("CSTS.SHST", csts(session.admin())? & SHST, SHST_COMPLETE)?;
        lab.bystander_works()?;
    }
    Ok(())
}

fn only_fabrics_commands_work_after_a_shutdown(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    shut_down(session.admin(), SHN_NORMAL)?;
    let done = session.admin().identify(1, 0, 0)?;
    ensure!(!done.status().is_success(), "Identify was done");
    let done = session.admin().get_feature(7)?;
    ensure!(!done.status().is_success(), "Get Features was done");
    session.admin().property_get(Property::Vs)?.ok()?;
    Ok(())
}

fn io_does_not_work_after_a_shutdown(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    session.io(1).write(1, &Io::at(62, 1), &[1; 4096])?.ok()?;
    shut_down(session.admin(), SHN_NORMAL)?;
    match session.io(1).write(1, &Io::at(62, 1), &[2; 4096]) {
        Ok(done) => ensure!(!done.status().is_success(), "a Write was done"),
        Err(Error::Closed { .. } | Error::TermReq(_)) => {}
        Err(other) => return Err(other.into()),
    }
    let back = lab.session(Options::default())?.io(1).read(1, &Io::at(62, 1), 4096)?.ok()?.data;
    ensure!(back == [1; 4096], "a Write after the shutdown was stored");
    Ok(())
}

fn a_reset_brings_it_back_after_a_shutdown(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(0))?;
    for shn in [SHN_NORMAL, SHN_ABRUPT] {
        shut_down(session.admin(), shn)?;
        reset(session.admin())?;
        session.admin().enable()?;
        check::same("CSTS", csts(session.admin())?, READY)?;
        session.admin().identify_controller()?;
    }
    Ok(())
}

fn what_was_written_is_there_after_a_shutdown(lab: &mut Lab) -> Result<()> {
    let data = check::pattern(63, 32 * 4096);
    let mut session: Session = lab.session(Options::default())?;
    session.io(1).write(1, &Io::at(64, 32), &data)?.ok()?;
    shut_down(session.admin(), SHN_ABRUPT)?;
    drop(session);
    let back = lab.session(Options::default())?.io(1).read(1, &Io::at(64, 32), data.len())?.ok()?.data;
    ensure!(back == data, "read something else");
    Ok(())
}

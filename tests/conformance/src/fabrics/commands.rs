//! Which commands are for which queue, and when. NVMe Base 2.1 §6 "Fabrics Command Set", §3.3.2.3 "Queue Initialization and
//! Queue State".

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::{Sqe, code, opcode};
use holdfast_testkit::{Command, Error, Io, Options, Placement, Queue};

use super::{admin_connect, fresh, tried};
use crate::{Case, Lab, check};

const FABRICS: &str = "NVMe Base 2.1 §6 \"Fabrics Command Set\", figure \"Fabrics Command Type\"";
const STATE: &str = "NVMe Base 2.1 §3.3.2.3 \"Queue Initialization and Queue State\"";
const CREATION: &str = "NVMe Base 2.1 §3.3.2.2 \"Queue Creation\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("fabrics.commands.before-connect", STATE, nothing_works_before_connect),
    Case::new("fabrics.commands.io-before-connect", STATE, io_commands_do_not_work_before_connect),
    Case::new("fabrics.commands.admin-before-enable", STATE, a_disabled_controller_takes_no_admin_commands),
    Case::new(
        "fabrics.commands.fabrics-before-enable",
        FABRICS,
        a_disabled_controller_takes_fabrics_commands,
    ),
    Case::new("fabrics.commands.unknown-type", FABRICS, unknown_fabrics_types_are_refused),
    Case::new("fabrics.commands.authentication", FABRICS, authentication_is_not_offered),
    Case::new("fabrics.commands.property-on-io", FABRICS, properties_are_not_for_io_queues),
    Case::new("fabrics.commands.unknown-on-io", FABRICS, unknown_fabrics_types_are_refused_on_io_queues),
    Case::new("fabrics.commands.no-queue-commands", CREATION, queues_are_not_made_by_admin_commands),
];

/// Demands that a command is not done: by a status, or by the end of the connection.
fn not_done(queue: &mut Queue, sqe: Sqe) -> Result<()> {
    match queue.run(Command::bare(sqe)) {
        Ok(done) => ensure!(!done.status().is_success(), "{sqe:?} was done"),
        Err(Error::TermReq(_) | Error::Closed { .. }) => {}
        Err(other) => return Err(other.into()),
    }
    Ok(())
}

fn nothing_works_before_connect(lab: &mut Lab) -> Result<()> {
    let commands = [
        Sqe::fabrics(opcode::PROPERTY_GET).cdw(11, 0x08),
        Sqe::fabrics(opcode::PROPERTY_SET).cdw(11, 0x14).cdw(12, 1),
        Sqe::fabrics(opcode::DISCONNECT),
        Sqe::new(opcode::IDENTIFY).cdw(10, 1).sgl_transport(4096),
        Sqe::new(opcode::KEEP_ALIVE),
        Sqe::new(opcode::ASYNC_EVENT),
    ];
    for sqe in commands {
        not_done(&mut fresh(lab, 0)?, sqe)?;
    }
    Ok(())
}

fn io_commands_do_not_work_before_connect(lab: &mut Lab) -> Result<()> {
    for sqe in [Sqe::new(opcode::FLUSH).with_nsid(1), Io::at(0, 1).sqe(opcode::WRITE_ZEROES, 1)] {
        not_done(&mut fresh(lab, 1)?, sqe)?;
    }
    let write =
        Command::with_data(Io::at(0, 1).sqe(opcode::WRITE, 1), vec![1; 4096]).placed(Placement::InCapsule);
    match fresh(lab, 1)?.run(write) {
        Ok(done) => ensure!(!done.status().is_success(), "a write was done"),
        Err(Error::TermReq(_) | Error::Closed { .. }) => {}
        Err(other) => return Err(other.into()),
    }
    Ok(())
}

fn a_disabled_controller_takes_no_admin_commands(lab: &mut Lab) -> Result<()> {
    let (connect, _) = admin_connect(lab)?;
    let (mut queue, done) = tried(lab, &connect)?;
    done.ok()?;
    for admin in [
        opcode::IDENTIFY,
        opcode::GET_LOG_PAGE,
        opcode::GET_FEATURES,
        opcode::KEEP_ALIVE,
        opcode::ASYNC_EVENT,
        0xc0,
    ] {
        let done = queue.run(Command::reading(Sqe::new(admin).cdw(10, 1), 4096))?;
        check::status(&done, code::SEQUENCE_ERROR).with_context(|| format!("opcode {admin:#04x}"))?;
    }
    queue.enable()?;
    queue.identify_controller()?;
    Ok(())
}

fn a_disabled_controller_takes_fabrics_commands(lab: &mut Lab) -> Result<()> {
    let (connect, _) = admin_connect(lab)?;
    let (mut queue, done) = tried(lab, &connect)?;
    done.ok()?;
    queue.property_get(holdfast_testkit::Property::Csts)?.ok()?;
    queue.property_set(holdfast_testkit::Property::Cc, 0)?.ok()?;
    Ok(())
}

const RESERVED: [u8; 8] = [0x02, 0x03, 0x07, 0x09, 0x0c, 0x10, 0x7f, 0xbf];

fn refused(queue: &mut Queue, fctype: u8) -> Result<()> {
    let done = queue.run(Command::bare(Sqe::fabrics(fctype)))?;
    check::status_among(&done, &[code::INVALID_FIELD, code::INVALID_OPCODE])
        .with_context(|| format!("FCTYPE {fctype:#04x}"))
}

fn unknown_fabrics_types_are_refused(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for fctype in RESERVED.into_iter().chain([0xc0, 0xff]) {
        refused(session.admin(), fctype)?;
    }
    session.admin().keep_alive()?.ok()?;
    Ok(())
}

fn authentication_is_not_offered(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for fctype in [0x05, 0x06] {
        let done = session.admin().run(Command::bare(Sqe::fabrics(fctype)))?;
        let allowed = [code::INVALID_FIELD, code::INVALID_OPCODE, code::SEQUENCE_ERROR];
        check::status_among(&done, &allowed).with_context(|| format!("FCTYPE {fctype:#04x}"))?;
    }
    Ok(())
}

fn properties_are_not_for_io_queues(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for sqe in [
        Sqe::fabrics(opcode::PROPERTY_GET).cdw(11, 0x1c),
        Sqe::fabrics(opcode::PROPERTY_GET).cdw(10, 1),
        Sqe::fabrics(opcode::PROPERTY_SET).cdw(11, 0x14),
    ] {
        check::status(&session.io(1).run(Command::bare(sqe))?, code::INVALID_FIELD)?;
    }
    session.io(1).flush(1)?.ok()?;
    Ok(())
}

fn unknown_fabrics_types_are_refused_on_io_queues(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for fctype in RESERVED {
        refused(session.io(1), fctype)?;
    }
    session.io(1).flush(1)?.ok()?;
    Ok(())
}

fn queues_are_not_made_by_admin_commands(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for admin in [0x00, 0x01, 0x04, 0x05] {
        let done = session.admin().run(Command::bare(Sqe::new(admin).cdw(10, 1)))?;
        check::status(&done, code::INVALID_OPCODE).with_context(|| format!("opcode {admin:#04x}"))?;
    }
    session.io(1).flush(1)?.ok()?;
    Ok(())
}

//! Deleting I/O queues one by one. NVMe Base 2.1 §6.4 "Disconnect Command and Response", §3.3.2.4 "I/O Queue Deletion".

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_testkit::wire::{Sqe, code, opcode};
use holdfast_testkit::{Command, ConnectCommand, Error, Io, Options, Queue, Session};

use super::{admin_connect, cntlid, tried};
use crate::{Case, Lab, check};

const DISCONNECT: &str = "NVMe Base 2.1 §6.4 \"Disconnect Command and Response\"";
const DELETION: &str = "NVMe Base 2.1 §3.3.2.4 \"I/O Queue Deletion\"";
const OFCS: &str = "NVMe Base 2.1 §5.1.13.2.1 \"Identify Controller\", field OFCS";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("fabrics.disconnect.success", DISCONNECT, a_queue_can_be_deleted),
    Case::new("fabrics.disconnect.identified", OFCS, the_controller_says_that_it_can),
    Case::new("fabrics.disconnect.admin", DISCONNECT, the_admin_queue_cannot_be_deleted),
    Case::new("fabrics.disconnect.recfmt", DISCONNECT, other_record_formats_are_incompatible),
    Case::new("fabrics.disconnect.others", DELETION, other_queues_go_on),
    Case::new("fabrics.disconnect.again", DELETION, the_queue_can_be_made_again),
    Case::new("fabrics.disconnect.last", DISCONNECT, nothing_comes_after_its_response),
    Case::new("fabrics.disconnect.in-flight", DELETION, commands_in_flight_end_before_it),
    Case::new(
        "fabrics.disconnect.lost-individual",
        DELETION,
        a_lost_queue_is_only_one_where_both_support_that,
    ),
    Case::new("fabrics.disconnect.lost-otherwise", DELETION, a_lost_queue_leaves_a_host_that_can_go_on),
];

/// CATTR bit 3 of the Admin Queue's Connect: the host can live with one queue less.
const INDIVIDUAL: u8 = 0x08;

/// An enabled controller of a host that supports the deletion of individual queues or not, with two of them.
fn controller(lab: &mut Lab, cattr: u8) -> Result<(Queue, Vec<Queue>, ConnectCommand)> {
    let (connect, _) = admin_connect(lab)?;
    let connect = ConnectCommand { cattr, ..connect };
    let (mut admin, done) = tried(lab, &connect)?;
    let cntlid = cntlid(&done.ok()?);
    admin.enable()?;
    admin.request_io_queues(2)?;
    let io = ConnectCommand { cattr: 0, ..connect.io(cntlid, 1, 31) };
    let mut queues = Vec::new();
    for qid in [1, 2] {
        let (queue, done) = tried(lab, &ConnectCommand { qid, ..io.clone() })?;
        done.ok()?;
        queues.push(queue);
    }
    Ok((admin, queues, io))
}

fn a_queue_can_be_deleted(lab: &mut Lab) -> Result<()> {
    let (_admin, mut queues, _) = controller(lab, INDIVIDUAL)?;
    let queue = queues.first_mut().context("a queue")?;
    queue.flush(1)?.ok()?;
    queue.disconnect()?.ok()?;
    Ok(())
}

/// Where it could not, it would have to refuse Disconnect.
fn the_controller_says_that_it_can(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let supported = session.controller().raw.get(1804).context("OFCS")? & 1 != 0;
    let done = session.io(1).disconnect()?;
    check::same("whether Disconnect is done", done.status().is_success(), supported)
}

fn the_admin_queue_cannot_be_deleted(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    check::status(&session.admin().disconnect()?, code::INVALID_QUEUE_TYPE)?;
    session.admin().keep_alive()?.ok()?;
    session.io(1).flush(1)?.ok()?;
    Ok(())
}

fn other_record_formats_are_incompatible(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let done = session.io(1).run(Command::bare(Sqe::fabrics(opcode::DISCONNECT).cdw(10, 1)))?;
    check::status(&done, code::CONNECT_INCOMPATIBLE_FORMAT)?;
    session.io(1).flush(1)?.ok()?;
    Ok(())
}

fn other_queues_go_on(lab: &mut Lab) -> Result<()> {
    for cattr in [0, INDIVIDUAL] {
        let (mut admin, mut queues, _) = controller(lab, cattr)?;
        let (mut second, mut first) = (queues.pop().context("a queue")?, queues.pop().context("a queue")?);
        first.disconnect()?.ok()?;
        if cattr == INDIVIDUAL {
            second.write(1, &Io::at(65, 1), &[1; 4096])?.ok()?;
            admin.keep_alive()?.ok()?;
        }
    }
    Ok(())
}

fn the_queue_can_be_made_again(lab: &mut Lab) -> Result<()> {
    let (mut admin, mut queues, io) = controller(lab, INDIVIDUAL)?;
    for round in 0..5 {
        let mut old = queues.remove(0);
        old.disconnect()?.ok()?;
        drop(old);
        let sqsize = 15 + round;
        let (mut queue, done) = tried(lab, &ConnectCommand { sqsize, ..io.clone() })?;
        done.ok().with_context(|| format!("round {round}"))?;
        queue.flush(1)?.ok()?;
        queues.insert(0, queue);
    }
    admin.keep_alive()?.ok()?;
    Ok(())
}

/// A command behind it has no defined behaviour, but no answer either.
fn nothing_comes_after_its_response(lab: &mut Lab) -> Result<()> {
    let (_admin, mut queues, _) = controller(lab, INDIVIDUAL)?;
    let queue = queues.first_mut().context("a queue")?;
    queue.disconnect()?.ok()?;
    match queue.flush(1) {
        Err(Error::Closed { .. } | Error::TermReq(_) | Error::Timeout { .. }) => Ok(()),
        Ok(done) => bail!("a Flush ended with {}", done.status()),
        Err(other) => Err(other.into()),
    }
}

fn commands_in_flight_end_before_it(lab: &mut Lab) -> Result<()> {
    let (_admin, mut queues, _) = controller(lab, INDIVIDUAL)?;
    let queue = queues.first_mut().context("a queue")?;
    queue.write(1, &Io::at(66, 8), &vec![1; 8 * 4096])?.ok()?;
    queue.hold_r2ts(true);
    let write = Command::with_data(Io::at(66, 8).sqe(opcode::WRITE, 1), vec![2; 8 * 4096]);
    queue.submit(write.placed(holdfast_testkit::Placement::Solicited))?;
    queue.next_r2t()?;
    let disconnect = queue.submit(Command::bare(Sqe::fabrics(opcode::DISCONNECT)))?;
    loop {
        let (cid, done) = queue.wait_any()?;
        if cid == disconnect {
            done.ok()?;
            break;
        }
        ensure!(!done.status().is_success(), "a write without its data succeeded");
    }
    let back = lab.session(Options::default())?.io(1).read(1, &Io::at(66, 8), 8 * 4096)?.ok()?.data;
    ensure!(back == vec![1; 8 * 4096], "a write without its data was stored");
    Ok(())
}

/// Loses queue 1 as a host's failure would.
fn lose(queues: &mut Vec<Queue>) {
    drop(queues.remove(0));
}

fn a_lost_queue_is_only_one_where_both_support_that(lab: &mut Lab) -> Result<()> {
    let (mut admin, mut queues, io) = controller(lab, INDIVIDUAL)?;
    lose(&mut queues);
    let again = || {
        let (queue, done) = tried(lab, &io)?;
        Ok(done.status().is_success().then_some(queue))
    };
    let mut queue = holdfast_e2e::eventually(std::time::Duration::from_secs(10), "queue 1 again", again)?;
    queue.flush(1)?.ok()?;
    queues.first_mut().context("queue 2")?.flush(1)?.ok()?;
    admin.keep_alive()?.ok()?;
    Ok(())
}

/// Strictly the association ends. Hosts that drop queues one by one without having said so are common, and a controller that
/// bears with them keeps it; what must not be is a queue that can be neither used nor made again.
fn a_lost_queue_leaves_a_host_that_can_go_on(lab: &mut Lab) -> Result<()> {
    let (mut admin, mut queues, io) = controller(lab, 0)?;
    lose(&mut queues);
    let goes_on = || {
        let again = tried(lab, &io).is_ok_and(|(_queue, done)| done.status().is_success());
        let ended = admin.keep_alive().is_err_and(|error| error.is_closed());
        Ok((again || ended).then_some(()))
    };
    holdfast_e2e::eventually(std::time::Duration::from_secs(10), "queue 1 again or the end", goes_on)?;
    let _: Session = lab.session(Options::default())?;
    Ok(())
}

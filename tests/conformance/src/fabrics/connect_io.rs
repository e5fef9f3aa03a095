//! Connect of an I/O queue. NVMe Base 2.1 §6.3 "Connect Command and Response", §3.3.2.2 "Queue Creation".

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::code;
use holdfast_testkit::{Completion, ConnectCommand, Io, Options, Queue, Session};

use super::{
    CNTLID, HOSTID, HOSTNQN, INVALID_PARAMETERS, QID, QUEUE_EXISTS, SQSIZE, SUBNQN, admin_connect, cntlid,
    invalid_parameter, tried,
};
use crate::{Case, Format, Lab, View, check};

const CONNECT: &str = "NVMe Base 2.1 §6.3 \"Connect Command and Response\"";
const CREATION: &str = "NVMe Base 2.1 §3.3.2.2 \"Queue Creation\"";
const LOG: &str = "NVMe Base 2.1 §6.3 and §5.1.12.1.2 \"Error Information\"";
const MQES: &str = "NVMe Base 2.1 §3.1.4.1 \"CAP – Controller Capabilities\", field MQES";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("fabrics.connect-io.success", CONNECT, a_success_gives_the_controller_id),
    Case::new("fabrics.connect-io.any-order", CREATION, queues_may_be_made_in_any_order),
    Case::new("fabrics.connect-io.cntlid-unknown", CONNECT, an_unknown_controller_is_invalid),
    Case::new("fabrics.connect-io.cntlid-dynamic", CONNECT, ffffh_is_no_controller),
    Case::new("fabrics.connect-io.cntlid-others", CONNECT, another_hosts_controller_is_invalid),
    Case::new("fabrics.connect-io.hostid", CONNECT, another_host_identifier_is_invalid),
    Case::new("fabrics.connect-io.hostnqn", CONNECT, another_host_name_is_invalid),
    Case::new("fabrics.connect-io.subnqn", CONNECT, another_subsystem_is_invalid),
    Case::new("fabrics.connect-io.recfmt", CONNECT, other_record_formats_are_incompatible),
    Case::new("fabrics.connect-io.sqsize-zero", CONNECT, a_queue_of_one_entry_is_invalid),
    Case::new("fabrics.connect-io.sqsize-mqes", MQES, the_largest_queue_is_as_mqes_says),
    Case::new("fabrics.connect-io.sqsize-large", MQES, a_larger_queue_is_invalid),
    Case::new("fabrics.connect-io.qid-duplicate", CREATION, an_existing_queue_is_not_made_again),
    Case::new("fabrics.connect-io.qid-beyond", CONNECT, a_queue_beyond_the_granted_is_refused),
    Case::new("fabrics.connect-io.qid-ffffh", CONNECT, ffffh_is_no_queue),
    Case::new("fabrics.connect-io.disabled", CONNECT, a_disabled_controller_has_no_io_queues),
    Case::new("fabrics.connect-io.no-association", CONNECT, without_an_association_there_is_no_controller),
    Case::new("fabrics.connect-io.ended-association", CONNECT, an_ended_association_has_no_controller),
    Case::new("fabrics.connect-io.kato", CONNECT, the_keep_alive_timeout_is_not_looked_at),
    Case::new("fabrics.connect-io.priority", CONNECT, the_priority_class_is_not_looked_at),
    Case::new("fabrics.connect-io.no-error-log", LOG, failures_add_nothing_to_the_error_log),
    Case::new("fabrics.connect-io.retry", CREATION, a_refused_queue_may_be_tried_again),
];

/// A session without I/O queues that has been granted four.
fn session(lab: &mut Lab) -> Result<Session> {
    let mut session = lab.session(Options::default().io_queues(0))?;
    session.admin().request_io_queues(4)?;
    Ok(session)
}

/// Tries a Connect of queue 1 that `bend` has changed, beside a controller that is ready for it.
fn bent(lab: &mut Lab, bend: impl Fn(ConnectCommand) -> ConnectCommand) -> Result<Completion> {
    let session = session(lab)?;
    let connect = bend(session.connect_command().io(session.cntlid(), 1, 31));
    Ok(tried(lab, &connect)?.1)
}

fn a_success_gives_the_controller_id(lab: &mut Lab) -> Result<()> {
    let session = session(lab)?;
    let (mut queue, done) = tried(lab, &session.connect_command().io(session.cntlid(), 1, 31))?;
    let done = done.ok()?;
    check::same("CNTLID", cntlid(&done), session.cntlid())?;
    check::same("AUTHREQ", done.cqe.dw0 >> 16, 0)?;
    queue.write(1, &Io::at(1, 1), &[1; 4096])?.ok()?;
    Ok(())
}

fn queues_may_be_made_in_any_order(lab: &mut Lab) -> Result<()> {
    let session = session(lab)?;
    let mut queues = Vec::new();
    for qid in [4, 2, 1, 3] {
        let (queue, done) = tried(lab, &session.connect_command().io(session.cntlid(), qid, 15))?;
        done.ok().with_context(|| format!("queue {qid}"))?;
        queues.push(queue);
    }
    for queue in &mut queues {
        queue.flush(1)?.ok()?;
    }
    Ok(())
}

fn an_unknown_controller_is_invalid(lab: &mut Lab) -> Result<()> {
    for offset in [0x4000, 0x7fff] {
        let done =
            bent(lab, |connect| ConnectCommand { cntlid: (connect.cntlid ^ offset) % 0xfff0, ..connect })?;
        invalid_parameter(&done, CNTLID).with_context(|| format!("CNTLID xor {offset:#x}"))?;
    }
    Ok(())
}

fn ffffh_is_no_controller(lab: &mut Lab) -> Result<()> {
    for cntlid in [0xfff0, 0xfffd, 0xfffe, 0xffff] {
        let done = bent(lab, |connect| ConnectCommand { cntlid, ..connect })?;
        invalid_parameter(&done, CNTLID).with_context(|| format!("CNTLID {cntlid:#06x}"))?;
    }
    Ok(())
}

/// One of HOSTNQN and CNTLID does not belong to the other; the Host Identifier follows from the name.
fn another_hosts_controller_is_invalid(lab: &mut Lab) -> Result<()> {
    let share = lab.share(Format::STANDARD)?;
    let mut other = lab.open_as("other", &share, View::Plain, Options::default().io_queues(0))?;
    other.admin().request_io_queues(4)?;
    let cntlid = other.cntlid();
    let done = bent(lab, |connect| ConnectCommand { cntlid, ..connect })?;
    check::status(&done, INVALID_PARAMETERS)?;
    other.admin().keep_alive()?.ok()?;
    tried(lab, &other.connect_command().io(cntlid, 1, 31))?.1.ok()?;
    Ok(())
}

fn another_host_identifier_is_invalid(lab: &mut Lab) -> Result<()> {
    let bends: [fn([u8; 16]) -> [u8; 16]; 3] = [
        |_| [0xff; 16],
        |mut id| {
            id[0] ^= 1;
            id
        },
        |mut id| {
            id[15] ^= 0x80;
            id
        },
    ];
    for bend in bends {
        let done = bent(lab, |connect| ConnectCommand { hostid: bend(connect.hostid), ..connect })?;
        invalid_parameter(&done, HOSTID)?;
    }
    Ok(())
}

fn another_host_name_is_invalid(lab: &mut Lab) -> Result<()> {
    let share = lab.share(Format::STANDARD)?;
    let permitted = lab.admit("other", &share, View::Plain)?;
    let strange = lab.host("uninvited")?;
    for name in [permitted, strange] {
        let done = bent(lab, |connect| ConnectCommand { hostnqn: name.clone().into(), ..connect })?;
        invalid_parameter(&done, HOSTNQN).with_context(|| name.clone())?;
    }
    Ok(())
}

fn another_subsystem_is_invalid(lab: &mut Lab) -> Result<()> {
    let known = lab.share(Format::new(512, 1, crate::Guard::Crc16))?;
    lab.admit("plain", &known, View::Plain)?;
    for name in [known.nqn, "nqn.2026-11.io.holdfast:nobody".to_owned()] {
        let done = bent(lab, |connect| ConnectCommand { subnqn: name.clone().into(), ..connect })?;
        invalid_parameter(&done, SUBNQN).with_context(|| name.clone())?;
    }
    Ok(())
}

fn other_record_formats_are_incompatible(lab: &mut Lab) -> Result<()> {
    check::status(
        &bent(lab, |connect| ConnectCommand { recfmt: 1, ..connect })?,
        code::CONNECT_INCOMPATIBLE_FORMAT,
    )
}

fn a_queue_of_one_entry_is_invalid(lab: &mut Lab) -> Result<()> {
    invalid_parameter(&bent(lab, |connect| ConnectCommand { sqsize: 0, ..connect })?, SQSIZE)
}

fn the_largest_queue_is_as_mqes_says(lab: &mut Lab) -> Result<()> {
    let mqes = session(lab)?.queue_depth_max();
    ensure!(mqes >= 127, "MQES {mqes}: a depth of 128 needs 127 at least");
    for sqsize in [1, mqes] {
        bent(lab, |connect| ConnectCommand { sqsize, ..connect })?
            .ok()
            .with_context(|| format!("SQSIZE {sqsize}"))?;
    }
    Ok(())
}

fn a_larger_queue_is_invalid(lab: &mut Lab) -> Result<()> {
    let mqes = session(lab)?.queue_depth_max();
    for sqsize in [mqes.saturating_add(1), 0x7fff, 0xffff] {
        let done = bent(lab, |connect| ConnectCommand { sqsize, ..connect })?;
        invalid_parameter(&done, SQSIZE).with_context(|| format!("SQSIZE {sqsize}"))?;
    }
    Ok(())
}

fn an_existing_queue_is_not_made_again(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(2))?;
    for qid in [1, 2] {
        let (_queue, done) = tried(lab, &session.connect_command().io(session.cntlid(), qid, 31))?;
        check::status_among(&done, &QUEUE_EXISTS)
            .with_context(|| format!("queue {qid} on another connection"))?;
        let connect = session.connect_command().io(session.cntlid(), qid, 31);
        check::status_among(&session.io(qid).connect(&connect)?, &QUEUE_EXISTS)
            .context("on its own connection")?;
        session.io(qid).flush(1)?.ok()?;
    }
    Ok(())
}

/// By the parameter, or as an Invalid Queue Identifier.
fn queue_refused(done: &Completion) -> Result<()> {
    check::status_among(done, &[INVALID_PARAMETERS, (0x1, 0x01)])?;
    if done.status().pair() == INVALID_PARAMETERS {
        check::same("IPO and IATTR", done.cqe.dw0, QID)?;
    }
    Ok(())
}

fn a_queue_beyond_the_granted_is_refused(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let granted = session.admin().set_feature(0x07, 0xfffe_fffe)?.ok()?.cqe.dw0;
    let [low, high, ..] = granted.to_le_bytes();
    let count = u16::from_le_bytes([low, high]) + 1;
    let (_last, done) = tried(lab, &session.connect_command().io(session.cntlid(), count, 1))?;
    done.ok().with_context(|| format!("queue {count} of {count}"))?;
    for qid in [count + 1, count + 100, 0xfffe] {
        let (_queue, done) = tried(lab, &session.connect_command().io(session.cntlid(), qid, 1))?;
        queue_refused(&done).with_context(|| format!("queue {qid} of {count}"))?;
    }
    Ok(())
}

fn ffffh_is_no_queue(lab: &mut Lab) -> Result<()> {
    queue_refused(&bent(lab, |connect| ConnectCommand { qid: 0xffff, ..connect })?)
}

fn a_disabled_controller_has_no_io_queues(lab: &mut Lab) -> Result<()> {
    let (connect, _) = admin_connect(lab)?;
    let (mut admin, done) = tried(lab, &connect)?;
    let cntlid = cntlid(&done.ok()?);
    let io = connect.io(cntlid, 1, 31);
    check::status(&tried(lab, &io)?.1, INVALID_PARAMETERS).context("before it is enabled")?;
    admin.enable()?;
    let (_queue, done) = tried(lab, &io)?;
    done.ok().context("once it is")?;
    Ok(())
}

fn without_an_association_there_is_no_controller(lab: &mut Lab) -> Result<()> {
    let (connect, _) = admin_connect(lab)?;
    for cntlid in [0, 1, 0x5a5a] {
        let stranger = ConnectCommand { hostid: [0x5a; 16], ..connect.io(cntlid, 1, 31) };
        check::status(&tried(lab, &stranger)?.1, INVALID_PARAMETERS)
            .with_context(|| format!("CNTLID {cntlid}"))?;
    }
    Ok(())
}

fn an_ended_association_has_no_controller(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let connect = session.connect_command().io(session.cntlid(), 1, 31);
    session.admin().connection().half_close()?;
    session.io(1).connection().expect_close()?;
    drop(session);
    check::status(&tried(lab, &connect)?.1, INVALID_PARAMETERS)
}

fn the_keep_alive_timeout_is_not_looked_at(lab: &mut Lab) -> Result<()> {
    for kato_ms in [1, u32::MAX] {
        bent(lab, |connect| ConnectCommand { kato_ms, ..connect })?.ok()?;
    }
    let mut session = lab.session(Options::default().kato_ms(30_000))?;
    check::same("KATO", session.admin().get_feature(0x0f)?.ok()?.cqe.dw0, 30_000)
}

fn the_priority_class_is_not_looked_at(lab: &mut Lab) -> Result<()> {
    for cattr in 0..=3 {
        bent(lab, |connect| ConnectCommand { cattr, ..connect })?
            .ok()
            .with_context(|| format!("CATTR {cattr}"))?;
    }
    Ok(())
}

/// The newest entry's Error Count.
fn errors(admin: &mut Queue) -> Result<Vec<u8>> {
    Ok(admin.get_log_page(0x01, 0xffff_ffff, 0, 64)?.ok()?.data)
}

fn failures_add_nothing_to_the_error_log(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let before = errors(session.admin())?;
    let connect = session.connect_command().io(session.cntlid(), 1, 31);
    let bent = [
        ConnectCommand { sqsize: 0, ..connect.clone() },
        ConnectCommand { recfmt: 9, ..connect.clone() },
        ConnectCommand { hostid: [3; 16], ..connect },
    ];
    for connect in bent {
        ensure!(!tried(lab, &connect)?.1.status().is_success(), "{connect:?} was taken");
    }
    ensure!(errors(session.admin())? == before, "the error log has a new entry");
    Ok(())
}

fn a_refused_queue_may_be_tried_again(lab: &mut Lab) -> Result<()> {
    let session = session(lab)?;
    let connect = session.connect_command().io(session.cntlid(), 1, 31);
    let (mut queue, done) = tried(lab, &ConnectCommand { sqsize: 0, ..connect.clone() })?;
    invalid_parameter(&done, SQSIZE)?;
    queue.connect(&connect)?.ok()?;
    queue.flush(1)?.ok()?;
    Ok(())
}

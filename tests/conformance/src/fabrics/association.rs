//! Associations and their ends. NVMe Base 2.1 §3.1.2.1 "Message-based Controller Associations" (fabrics), §3.3.2.4.

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::opcode;
use holdfast_testkit::{Command, Io, Options, Placement, Session};

use crate::{Case, Format, Lab, View, check};

const ASSOCIATION: &str = "NVMe Base 2.1 §3.1.1 \"NVM Subsystem\", associations of message-based controllers";
const LOSS: &str = "NVMe Base 2.1 §3.3.2.4 \"I/O Queue Deletion\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("fabrics.association.admin-lost", ASSOCIATION, a_lost_admin_queue_ends_its_io_queues),
    Case::new("fabrics.association.half-closed", ASSOCIATION, a_half_closed_admin_queue_ends_them_too),
    Case::new("fabrics.association.ends-io", LOSS, its_io_ends_with_it),
    Case::new("fabrics.association.returns", ASSOCIATION, a_host_may_come_back_at_once),
    Case::new("fabrics.association.several", ASSOCIATION, a_host_may_have_several),
    Case::new("fabrics.association.apart", ASSOCIATION, one_end_does_not_touch_the_others),
    Case::new("fabrics.association.shared-volume", ASSOCIATION, two_hosts_see_one_volume),
    Case::new("fabrics.association.many-lives", ASSOCIATION, controllers_do_not_run_out),
];

fn a_lost_admin_queue_ends_its_io_queues(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(4))?;
    let queues = session.take_io_queues();
    drop(session);
    for mut queue in queues {
        let qid = queue.qid();
        queue.connection().expect_close().with_context(|| format!("queue {qid}"))?;
    }
    Ok(())
}

fn a_half_closed_admin_queue_ends_them_too(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(2))?;
    session.admin().connection().half_close()?;
    for qid in [1, 2] {
        session.io(qid).connection().expect_close().with_context(|| format!("queue {qid}"))?;
    }
    Ok(session.admin().connection().expect_close()?)
}

fn its_io_ends_with_it(lab: &mut Lab) -> Result<()> {
    let at = Io::at(3700, 16);
    let mut session = lab.session(Options::default())?;
    session.io(1).write(1, &at, &vec![1; 16 * 4096])?.ok()?;
    session.io(1).hold_r2ts(true);
    let write = Command::with_data(at.sqe(opcode::WRITE, 1), vec![2; 16 * 4096]).placed(Placement::Solicited);
    session.io(1).submit(write)?;
    let r2t = session.io(1).next_r2t()?;
    let mut queues = session.take_io_queues();
    drop(session);
    let queue = queues.first_mut().context("a queue")?;
    // The data comes too late, if it can be sent at all.
    if queue.answer_r2t(&r2t).is_ok() {
        queue.connection().expect_close()?;
    }
    let back = lab.session(Options::default())?.io(1).read(1, &at, 16 * 4096)?.ok()?.data;
    ensure!(back == vec![1; 16 * 4096] || back == vec![2; 16 * 4096], "part of a write was stored");
    Ok(())
}

fn a_host_may_come_back_at_once(lab: &mut Lab) -> Result<()> {
    for round in 0..30 {
        let mut session = lab.session(Options::default().io_queues(2))?;
        session.io(2).write(1, &Io::at(67, 1), &[round; 4096])?.ok()?;
    }
    Ok(())
}

fn a_host_may_have_several(lab: &mut Lab) -> Result<()> {
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(lab.session(Options::default().io_queues(2))?);
    }
    for (index, session) in sessions.iter_mut().enumerate() {
        let fill = u8::try_from(index)?;
        session.io(2).write(1, &Io::at(68, 1), &[fill; 4096])?.ok()?;
        ensure!(session.io(1).read(1, &Io::at(68, 1), 4096)?.ok()?.data == [fill; 4096], "session {index}");
    }
    Ok(())
}

fn one_end_does_not_touch_the_others(lab: &mut Lab) -> Result<()> {
    let mut stays = lab.session(Options::default())?;
    for _ in 0..5 {
        let goes = lab.session(Options::default())?;
        drop(goes);
        let goes = lab.session(Options::default())?;
        goes.close()?;
        stays.io(1).flush(1)?.ok()?;
        stays.admin().keep_alive()?.ok()?;
    }
    Ok(())
}

fn two_hosts_see_one_volume(lab: &mut Lab) -> Result<()> {
    let share = lab.share(Format::STANDARD)?;
    let mut first = lab.open_as("plain", &share, View::Plain, Options::default())?;
    let mut second = lab.open_as("other", &share, View::Plain, Options::default())?;
    for round in 0..20 {
        let data = check::pattern(round, 4 * 4096);
        first.io(1).write(1, &Io::at(69, 4), &data)?.ok()?;
        ensure!(second.io(1).read(1, &Io::at(69, 4), data.len())?.ok()?.data == data, "round {round}");
    }
    Ok(())
}

fn controllers_do_not_run_out(lab: &mut Lab) -> Result<()> {
    for _ in 0..300 {
        let session: Session = lab.session(Options::default())?;
        drop(session);
    }
    lab.session(Options::default())?.close()?;
    Ok(())
}

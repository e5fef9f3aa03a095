//! How many requests may wait, and what they wait for. NVM Express Base 2.1 §5.1.2 "Asynchronous Event Request command".

use anyhow::{Result, ensure};
use holdfast_testkit::wire::{Sqe, code, opcode};
use holdfast_testkit::{Command, Options, Property};

use super::{NAMESPACES, Watched, change_is_seen, enable, nothing_comes, tells_of_namespaces};
use crate::admin::admin_session;
use crate::check::status;
use crate::fields::{done, refused};
use crate::{Case, Format, Lab, View};

const CLAUSE: &str = "Base 2.1 §5.1.2 \"Asynchronous Event Request command\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "events.requests.wait", clause: CLAUSE, run: requests_wait },
    Case { id: "events.requests.limit", clause: CLAUSE, run: one_more_than_aerl_is_refused },
    Case { id: "events.requests.room-again", clause: CLAUSE, run: an_answered_request_makes_room },
    Case { id: "events.requests.beside", clause: CLAUSE, run: other_commands_go_on },
    Case { id: "events.requests.reset", clause: CLAUSE, run: a_reset_forgets_them },
    Case { id: "events.requests.any-order", clause: CLAUSE, run: one_event_ends_one_request },
];

fn requests_wait(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    session.admin().submit_async_event()?;
    nothing_comes(&mut session)
}

fn one_more_than_aerl_is_refused(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let limit = u32::from(session.controller().aerl) + 1;
    for _ in 0..limit {
        session.admin().submit_async_event()?;
    }
    nothing_comes(&mut session)?;
    for _ in 0..3 {
        let one_more = session.admin().run(Command::bare(Sqe::new(opcode::ASYNC_EVENT)))?;
        refused(&one_more, code::AER_LIMIT_EXCEEDED)?;
    }
    nothing_comes(&mut session)
}

fn an_answered_request_makes_room(lab: &mut Lab) -> Result<()> {
    let share = lab.fresh_share(Format::STANDARD)?;
    let mut session = lab.open_as("plain", &share, View::Plain, Options::default().io_queues(0))?;
    enable(&mut session, NAMESPACES)?;
    let limit = u32::from(session.controller().aerl) + 1;
    for _ in 0..limit {
        session.admin().submit_async_event()?;
    }
    lab.add_namespace(&share, 2, Format::STANDARD)?;
    let (_, completion) = session.admin().wait_any()?;
    tells_of_namespaces(&completion)?;
    session.admin().submit_async_event()?;
    nothing_comes(&mut session)?;
    let one_more = session.admin().run(Command::bare(Sqe::new(opcode::ASYNC_EVENT)))?;
    refused(&one_more, code::AER_LIMIT_EXCEEDED)
}

fn other_commands_go_on(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let limit = u32::from(session.controller().aerl) + 1;
    for _ in 0..limit {
        session.admin().submit_async_event()?;
    }
    for _ in 0..100 {
        done(&session.admin().identify(0x01, 0, 0)?)?;
        done(&session.io(1).flush(1)?)?;
    }
    nothing_comes(&mut session)
}

/// After a controller reset as many requests may wait as before; those of before are not answered with success.
fn a_reset_forgets_them(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let limit = u32::from(session.controller().aerl) + 1;
    for _ in 0..limit {
        session.admin().submit_async_event()?;
    }
    let before: Vec<u16> = session.admin().in_flight().collect();
    session.admin().property_set(Property::Cc, 0x0046_0000)?.ok()?;
    session.admin().enable()?;
    while let Some((cid, completion)) = session.admin().poll()? {
        ensure!(before.contains(&cid) && !completion.status().is_success(), "{completion:?}");
    }
    for cid in before {
        session.admin().forget(cid);
    }
    for _ in 0..limit {
        session.admin().submit_async_event()?;
    }
    nothing_comes(&mut session)?;
    let one_more = session.admin().run(Command::bare(Sqe::new(opcode::ASYNC_EVENT)))?;
    status(&one_more, code::AER_LIMIT_EXCEEDED)
}

fn one_event_ends_one_request(lab: &mut Lab) -> Result<()> {
    let share = lab.fresh_share(Format::STANDARD)?;
    let mut session = lab.open_as("plain", &share, View::Plain, Options::default().io_queues(0))?;
    enable(&mut session, NAMESPACES)?;
    let requests = [session.admin().submit_async_event()?, session.admin().submit_async_event()?];
    lab.add_namespace(&share, 2, Format::STANDARD)?;
    let (cid, completion) = session.admin().wait_any()?;
    tells_of_namespaces(&completion)?;
    ensure!(requests.contains(&cid), "CID {cid:#x} was not asked for");
    change_is_seen(&mut session, Watched::Active(2))?;
    nothing_comes(&mut session)
}

//! What holds for every feature: which values can be asked for, what can be saved, whom a value belongs to. NVM Express
//! Base 2.1 §4.4 "Feature Values", §5.1.11 "Get Features command", §5.1.25 "Set Features command".

use anyhow::{Result, ensure};
use holdfast_testkit::wire::code;
use holdfast_testkit::{Completion, Session};

use super::{Request, fid};
use crate::admin::admin_session;
use crate::check::{same, status_among};
use crate::fields::{bit, done, refused, refused_among};
use crate::{Case, Lab};

const SELECT: &str = "Base 2.1 §5.1.11 \"Get Features command\", SEL";
const CAPABILITIES: &str = "Base 2.1 §5.1.11.1 \"Select field\", supported capabilities";
const SAVE: &str = "Base 2.1 §5.1.25 \"Set Features command\", SV; §4.4 \"Feature Values\"";
const SCOPE: &str = "Base 2.1 §5.1.25 \"Set Features command\", NSID; figure \"Feature Identifiers\", scope";

macro_rules! of_each {
    ($($name:literal: $fid:expr;)*) => {
        &[$(
            Case { id: concat!("features.", $name, ".select"), clause: SELECT, run: |lab| select(lab, $fid) },
            Case {
                id: concat!("features.", $name, ".capabilities"),
                clause: CAPABILITIES,
                run: |lab| capabilities_are_true(lab, $fid),
            },
            Case { id: concat!("features.", $name, ".save"), clause: SAVE, run: |lab| save(lab, $fid) },
            Case { id: concat!("features.", $name, ".scope"), clause: SCOPE, run: |lab| scope(lab, $fid) },
            Case { id: concat!("features.", $name, ".data"), clause: SELECT, run: |lab| data(lab, $fid) },
        )*]
    };
}

/// Every feature that a controller over TCP has to have, or says to have.
pub(crate) const CASES: &[Case] = of_each! {
    "arbitration": fid::ARBITRATION;
    "power-management": fid::POWER_MANAGEMENT;
    "temperature-threshold": fid::TEMPERATURE_THRESHOLD;
    "error-recovery": fid::ERROR_RECOVERY;
    "volatile-write-cache": fid::VOLATILE_WRITE_CACHE;
    "number-of-queues": fid::NUMBER_OF_QUEUES;
    "write-atomicity": fid::WRITE_ATOMICITY;
    "async-events": fid::ASYNC_EVENTS;
    "timestamp": fid::TIMESTAMP;
    "keep-alive-timer": fid::KEEP_ALIVE_TIMER;
    "host-behavior": fid::HOST_BEHAVIOR;
    "host-identifier": fid::HOST_IDENTIFIER;
};

/// Timestamp is the one of these features that a controller may leave out (ONCS bit 6).
fn open(lab: &mut Lab, fid: u8) -> Result<Option<Session>> {
    let session = admin_session(lab)?;
    Ok((fid != fid::TIMESTAMP || bit(session.controller().oncs, 6)).then_some(session))
}

/// Error Recovery belongs to a namespace, all others to the controller.
fn request(fid: u8) -> Request {
    let request = Request::new(fid);
    if fid == fid::ERROR_RECOVERY { request.nsid(1) } else { request }
}

fn capabilities(session: &mut Session, fid: u8) -> Result<u32> {
    let completion = request(fid).select(3).get(session)?;
    done(&completion)?;
    Ok(completion.cqe.dw0)
}

/// Sets a feature to what it is already.
fn set_again(session: &mut Session, with: impl Fn(Request) -> Request, fid: u8) -> Result<Completion> {
    let now = request(fid).get(session)?;
    done(&now)?;
    let value = if fid == fid::HOST_IDENTIFIER { 1 } else { now.cqe.dw0 };
    with(request(fid).value(value)).set(session, &now.data)
}

/// Current, default, saved and supported capabilities; the other four are reserved.
fn select(lab: &mut Lab, fid: u8) -> Result<()> {
    let Some(mut session) = open(lab, fid)? else { return Ok(()) };
    for chosen in 0..=3 {
        done(&request(fid).select(chosen).get(&mut session)?)?;
    }
    for reserved in 4..=7 {
        refused(&request(fid).select(reserved).get(&mut session)?, code::INVALID_FIELD)?;
    }
    Ok(())
}

fn capabilities_are_true(lab: &mut Lab, fid: u8) -> Result<()> {
    let Some(mut session) = open(lab, fid)? else { return Ok(()) };
    let said = capabilities(&mut session, fid)?;
    same("reserved bits", said >> 3, 0)?;
    same("namespace specific", bit(said, 1), fid == fid::ERROR_RECOVERY)?;
    let completion = set_again(&mut session, |request| request, fid)?;
    if bit(said, 2) {
        return done(&completion);
    }
    refused_among(&completion, &[code::NOT_CHANGEABLE, code::SEQUENCE_ERROR])
}

fn save(lab: &mut Lab, fid: u8) -> Result<()> {
    let Some(mut session) = open(lab, fid)? else { return Ok(()) };
    let said = capabilities(&mut session, fid)?;
    let completion = set_again(&mut session, Request::save, fid)?;
    if bit(said, 0) {
        return done(&completion);
    }
    let refusals: &[(u8, u8)] =
        if bit(said, 2) { &[code::NOT_SAVEABLE] } else { &[code::NOT_SAVEABLE, code::SEQUENCE_ERROR] };
    refused_among(&completion, refusals)
}

fn scope(lab: &mut Lab, fid: u8) -> Result<()> {
    let Some(mut session) = open(lab, fid)? else { return Ok(()) };
    if fid == fid::ERROR_RECOVERY {
        return scope_of_a_namespace(&mut session);
    }
    for nsid in [0, u32::MAX] {
        done(&request(fid).nsid(nsid).get(&mut session)?)?;
    }
    if !bit(capabilities(&mut session, fid)?, 2) {
        return Ok(());
    }
    done(&set_again(&mut session, |request| request.nsid(u32::MAX), fid)?)?;
    refused(&set_again(&mut session, |request| request.nsid(1), fid)?, code::NOT_PER_NAMESPACE)
}

fn scope_of_a_namespace(session: &mut Session) -> Result<()> {
    let of = |nsid| Request::new(fid::ERROR_RECOVERY).nsid(nsid);
    done(&of(1).value(7).set(session, &[])?)?;
    same("TLER of namespace 1", of(1).get(session)?.ok()?.cqe.dw0 & 0xffff, 7)?;
    done(&of(u32::MAX).value(9).set(session, &[])?)?;
    same("TLER of namespace 1 after all were set", of(1).get(session)?.ok()?.cqe.dw0 & 0xffff, 9)?;
    let invalid = crate::admin::nsid_beyond(session)?;
    refused(&of(invalid).get(session)?, code::INVALID_NAMESPACE)?;
    refused(&of(invalid).set(session, &[])?, code::INVALID_NAMESPACE)?;
    refused(&of(crate::admin::INACTIVE_NSID).set(session, &[])?, code::INVALID_FIELD)?;
    refused_among(&of(u32::MAX).get(session)?, &[code::INVALID_NAMESPACE, code::INVALID_FIELD])
}

/// A feature with a data structure gives all of it, any other gives none.
fn data(lab: &mut Lab, fid: u8) -> Result<()> {
    let Some(mut session) = open(lab, fid)? else { return Ok(()) };
    for chosen in [0, 1, 2] {
        let completion = request(fid).select(chosen).get(&mut session)?;
        done(&completion)?;
        same("bytes", completion.data.len(), request(fid).len())?;
    }
    if request(fid).len() == 0 {
        // A buffer that is not needed does not hurt, or is refused; it is never filled.
        let sqe = holdfast_testkit::wire::Sqe::new(0x0a).with_nsid(request(fid).nsid).cdw(10, fid.into());
        let completion = session.admin().run(holdfast_testkit::Command::reading(sqe, 64))?;
        status_among(&completion, &[code::SUCCESS, code::DATA_SGL_LENGTH_INVALID])?;
        ensure!(completion.data.is_empty(), "{} bytes of data", completion.data.len());
    }
    Ok(())
}

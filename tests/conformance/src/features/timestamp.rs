//! Timestamp. NVM Express Base 2.1 §5.1.25.1.7 "Timestamp (Feature Identifier 0Eh)".

use anyhow::{Result, ensure};
use holdfast_testkit::wire::code;
use holdfast_testkit::{Property, Session};

use super::{Request, fid};
use crate::admin::admin_session;
use crate::check::same;
use crate::fields::{bit, byte, done, le64, refused};
use crate::{Case, Lab};

const CLAUSE: &str = "Base 2.1 §5.1.25.1.7 \"Timestamp (Feature Identifier 0Eh)\"";

/// The cases. Without the feature (ONCS bit 6) they have nothing to say; `admin.oncs.timestamp` has.
pub(crate) const CASES: &[Case] = &[
    Case { id: "features.timestamp.runs", clause: CLAUSE, run: it_runs_on_from_what_was_set },
    Case { id: "features.timestamp.origin", clause: CLAUSE, run: its_origin_is_told },
    Case { id: "features.timestamp.reset", clause: CLAUSE, run: it_outlives_a_reset_or_begins_at_zero },
    Case { id: "features.timestamp.short", clause: CLAUSE, run: a_short_structure_is_refused },
];

/// 2026-01-01 in milliseconds.
const MOMENT_MS: u64 = 1_767_225_600_000;
/// A test that takes longer than this has other troubles.
const SOON_MS: u64 = 3_600_000;

fn open(lab: &mut Lab) -> Result<Option<Session>> {
    let session = admin_session(lab)?;
    Ok(bit(session.controller().oncs, 6).then_some(session))
}

/// Milliseconds, and the attributes in byte 6.
fn now(session: &mut Session) -> Result<(u64, u8)> {
    let completion = Request::new(fid::TIMESTAMP).get(session)?;
    done(&completion)?;
    same("bytes", completion.data.len(), 8)?;
    same("reserved", byte(&completion.data, 7)?, 0)?;
    Ok((le64(&completion.data, 0)? & 0xffff_ffff_ffff, byte(&completion.data, 6)?))
}

fn set(session: &mut Session, milliseconds: u64) -> Result<()> {
    done(&Request::new(fid::TIMESTAMP).set(session, &milliseconds.to_le_bytes())?)
}

fn it_runs_on_from_what_was_set(lab: &mut Lab) -> Result<()> {
    let Some(mut session) = open(lab)? else { return Ok(()) };
    set(&mut session, MOMENT_MS)?;
    let mut last = MOMENT_MS;
    for _ in 0..3 {
        std::thread::sleep(std::time::Duration::from_millis(5));
        let (ms, _) = now(&mut session)?;
        ensure!(ms > last && ms < MOMENT_MS + SOON_MS, "{ms} after {last}");
        last = ms;
    }
    Ok(())
}

/// Timestamp Origin: 000b counts from a reset, 001b from Set Features.
fn its_origin_is_told(lab: &mut Lab) -> Result<()> {
    let Some(mut session) = open(lab)? else { return Ok(()) };
    let (ms, attributes) = now(&mut session)?;
    same("origin before it is set", attributes >> 1 & 0b111, 0)?;
    ensure!(ms < SOON_MS, "{ms} ms since a reset just now");
    set(&mut session, MOMENT_MS)?;
    same("origin after it was set", now(&mut session)?.1 >> 1 & 0b111, 1)
}

fn it_outlives_a_reset_or_begins_at_zero(lab: &mut Lab) -> Result<()> {
    let Some(mut session) = open(lab)? else { return Ok(()) };
    set(&mut session, MOMENT_MS)?;
    session.admin().property_set(Property::Cc, 0x0046_0000)?.ok()?;
    session.admin().enable()?;
    let (ms, attributes) = now(&mut session)?;
    let expected = if attributes >> 1 & 0b111 == 1 { MOMENT_MS } else { 0 };
    ensure!((expected..expected + SOON_MS).contains(&ms), "{ms} ms with attributes {attributes:#x}");
    Ok(())
}

fn a_short_structure_is_refused(lab: &mut Lab) -> Result<()> {
    let Some(mut session) = open(lab)? else { return Ok(()) };
    refused(&Request::new(fid::TIMESTAMP).set(&mut session, &[0; 4])?, code::DATA_SGL_LENGTH_INVALID)
}

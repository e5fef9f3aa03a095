//! The persistent event log, read in a context. NVM Express Base 2.1 §5.1.12.1.14 "Persistent Event Log (Log Page Identifier
//! 0Dh)".

use anyhow::{Result, ensure};
use holdfast_testkit::wire::code;
use holdfast_testkit::{LogPage, Session};

use super::{lid, read};
use crate::admin::admin_session;
use crate::check::{same, status_among};
use crate::fields::{bit, byte, done, le16, le32, le64, part};
use crate::{Case, Lab};

const CLAUSE: &str = "Base 2.1 §5.1.12.1.14 \"Persistent Event Log (Log Page Identifier 0Dh)\"";

/// The cases. Without the page (LPA bit 4) they have nothing to say; `admin.capabilities.lpa` has.
pub(crate) const CASES: &[Case] = &[
    Case { id: "logs.persistent.header", clause: CLAUSE, run: the_header_names_the_subsystem },
    Case { id: "logs.persistent.events", clause: CLAUSE, run: events_fill_the_page },
    Case { id: "logs.persistent.no-context", clause: CLAUSE, run: a_read_needs_a_context },
    Case { id: "logs.persistent.two-contexts", clause: CLAUSE, run: there_is_one_context },
    Case { id: "logs.persistent.release", clause: CLAUSE, run: a_released_context_can_be_had_again },
    Case { id: "logs.persistent.stable", clause: CLAUSE, run: a_context_does_not_change },
];

const ESTABLISH: u8 = 1;
const RELEASE: u8 = 2;
const HEADER_LEN: u32 = 512;

fn open(lab: &mut Lab) -> Result<Option<Session>> {
    let session = admin_session(lab)?;
    Ok(bit(byte(&session.controller().raw, 261)?, 4).then_some(session))
}

fn page(len: u32) -> LogPage {
    LogPage::new(lid::PERSISTENT_EVENTS, len)
}

fn header(session: &mut Session) -> Result<Vec<u8>> {
    read(session, &page(HEADER_LEN).lsp(ESTABLISH))
}

fn release(session: &mut Session) -> Result<()> {
    done(&session.admin().log_page(&page(4).lsp(RELEASE))?)
}

fn the_header_names_the_subsystem(lab: &mut Lab) -> Result<()> {
    let Some(mut session) = open(lab)? else { return Ok(()) };
    let raw = session.controller().raw.clone();
    let data = header(&mut session)?;
    same("Log Identifier", byte(&data, 0)?, lid::PERSISTENT_EVENTS)?;
    ensure!(le64(&data, 8)? >= u64::from(HEADER_LEN), "Total Log Length {}", le64(&data, 8)?);
    ensure!(byte(&data, 16)? > 0, "Log Revision 0");
    same("Serial Number", part(&data, 56, 20)?, part(&raw, 4, 20)?)?;
    same("Model Number", part(&data, 76, 40)?, part(&raw, 24, 40)?)?;
    same("SUBNQN", part(&data, 116, 256)?, part(&raw, 768, 256)?)?;
    release(&mut session)
}

/// As many events as TNEV says, one behind the other, up to TLL; their types are among those said to be supported.
fn events_fill_the_page(lab: &mut Lab) -> Result<()> {
    let Some(mut session) = open(lab)? else { return Ok(()) };
    let head = header(&mut session)?;
    let (count, len) = (le32(&head, 4)?, u32::try_from(le64(&head, 8)?)?);
    let data = read(&mut session, &page(len.next_multiple_of(4)))?;
    let mut at = usize::try_from(HEADER_LEN)?;
    for event in 0..count {
        let (kind, header) = (byte(&data, at)?, usize::from(byte(&data, at + 2)?) + 3);
        let content = usize::from(le16(&data, at + 22)?);
        ensure!(kind > 0 && header >= 24, "event {event}: type {kind}, header of {header} bytes");
        let supported = byte(&head, 480 + usize::from(kind / 8))?;
        ensure!(bit(supported, u32::from(kind % 8)), "event {event} has type {kind}, which is not supported");
        at += header + content;
    }
    same("the end of the last event", at, usize::try_from(len)?)?;
    release(&mut session)
}

fn a_read_needs_a_context(lab: &mut Lab) -> Result<()> {
    let Some(mut session) = open(lab)? else { return Ok(()) };
    let completion = session.admin().log_page(&page(HEADER_LEN))?;
    status_among(&completion, &[code::SEQUENCE_ERROR])
}

fn there_is_one_context(lab: &mut Lab) -> Result<()> {
    let Some(mut session) = open(lab)? else { return Ok(()) };
    header(&mut session)?;
    let completion = session.admin().log_page(&page(HEADER_LEN).lsp(ESTABLISH))?;
    status_among(&completion, &[code::SEQUENCE_ERROR])?;
    read(&mut session, &page(HEADER_LEN))?;
    release(&mut session)
}

fn a_released_context_can_be_had_again(lab: &mut Lab) -> Result<()> {
    let Some(mut session) = open(lab)? else { return Ok(()) };
    for _ in 0..3 {
        header(&mut session)?;
        release(&mut session)?;
        status_among(&session.admin().log_page(&page(HEADER_LEN))?, &[code::SEQUENCE_ERROR])?;
    }
    // A release of nothing is no error.
    release(&mut session)
}

fn a_context_does_not_change(lab: &mut Lab) -> Result<()> {
    let Some(mut session) = open(lab)? else { return Ok(()) };
    let head = header(&mut session)?;
    let len = u32::try_from(le64(&head, 8)?)?.next_multiple_of(4);
    let first = read(&mut session, &page(len))?;
    // Something that may be an event: a feature is set.
    done(&session.admin().set_feature(0x01, 0x0707)?)?;
    ensure!(read(&mut session, &page(len))? == first, "the log changed within a context");
    let piece = read(&mut session, &page(64).offset(448))?;
    same("a part", piece.as_slice(), part(&first, 448, 64)?)?;
    release(&mut session)
}

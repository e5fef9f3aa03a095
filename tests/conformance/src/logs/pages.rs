//! What holds for every log page: parts, lengths, namespaces; and pages that there are not. NVM Express Base 2.1 §5.1.12
//! "Get Log Page command", figures "Command Dword 10" to "Command Dword 14".

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::{Sqe, code};
use holdfast_testkit::{Command, LogPage};

use super::{lid, read};
use crate::admin::admin_session;
use crate::check::{same, status_among};
use crate::fields::{bit, byte, done, le32, part, refused, refused_among};
use crate::{Case, Lab};

const PARTS: &str = "Base 2.1 §5.1.12 \"Get Log Page command\", LPOL and LPOU";
const LENGTH: &str = "Base 2.1 §5.1.12 \"Get Log Page command\", NUMDL and NUMDU";
const TYPE: &str = "Base 2.1 §5.1.12 \"Get Log Page command\", OT";
const SCOPE: &str = "Base 2.1 §5.1.12 \"Get Log Page command\", NSID";
const UNKNOWN: &str = "Base 2.1 §5.1.12.4 \"Command Completion\", Invalid Log Page";
const FIRMWARE: &str = "Base 2.1 §5.1.12.1.4 \"Firmware Slot Information (Log Page Identifier 03h)\"";

macro_rules! of_each {
    ($($name:literal: $lid:expr, $len:expr;)*) => {
        &[$(
            Case { id: concat!("logs.pages.parts.", $name), clause: PARTS, run: |lab| parts(lab, $lid, $len) },
            Case { id: concat!("logs.pages.beyond.", $name), clause: PARTS, run: |lab| beyond(lab, $lid, $len) },
            Case { id: concat!("logs.pages.length.", $name), clause: LENGTH, run: |lab| length(lab, $lid, $len) },
            Case { id: concat!("logs.pages.index.", $name), clause: TYPE, run: |lab| by_index(lab, $lid) },
            Case { id: concat!("logs.pages.scope.", $name), clause: SCOPE, run: |lab| scope(lab, $lid) },
        )*]
    };
}

/// Pages that an I/O controller has to have, or says to have, with their sizes; 0 stands for what ELPE says.
pub(crate) const CASES: &[Case] = of_each! {
    "supported-log-pages": lid::SUPPORTED, 1024;
    "error-information": lid::ERRORS, 0;
    "smart": lid::SMART, 512;
    "firmware-slots": lid::FIRMWARE, 512;
    "changed-namespaces": lid::CHANGED_NAMESPACES, 4096;
    "commands-and-effects": lid::EFFECTS, 4096;
    "features-and-effects": lid::FEATURES, 1024;
};

/// Pages that there are not.
pub(crate) const OTHERS: &[Case] = &[
    Case { id: "logs.unknown.reserved", clause: UNKNOWN, run: |lab| unknown(lab, &RESERVED) },
    Case { id: "logs.unknown.vendor", clause: UNKNOWN, run: |lab| unknown(lab, &[0xc0, 0xca, 0xe0, 0xff]) },
    Case { id: "logs.unknown.discovery", clause: UNKNOWN, run: |lab| unknown(lab, &[lid::DISCOVERY]) },
    Case { id: "logs.unknown.sanitize", clause: UNKNOWN, run: optional_pages_follow_their_fields },
    Case { id: "logs.pages.short-buffer", clause: LENGTH, run: a_short_buffer_is_refused },
    Case { id: "logs.pages.mdts", clause: LENGTH, run: mdts_bounds_log_pages },
    Case { id: "logs.firmware.slot", clause: FIRMWARE, run: the_active_slot_has_the_revision },
];

const RESERVED: [u8; 12] = [0x28, 0x3f, 0x40, 0x55, 0x6f, 0x74, 0x7f, 0x84, 0x90, 0xa0, 0xb7, 0xbe];

fn len_of(session: &holdfast_testkit::Session, len: u32) -> Result<u32> {
    Ok(if len == 0 { (u32::from(byte(&session.controller().raw, 262)?) + 1) * 64 } else { len })
}

fn page(lid: u8, len: u32) -> LogPage {
    LogPage::new(lid, len).retain()
}

/// Any dword of the page can be read by itself.
fn parts(lab: &mut Lab, lid: u8, len: u32) -> Result<()> {
    let mut session = admin_session(lab)?;
    let len = len_of(&session, len)?;
    let whole = read(&mut session, &page(lid, len))?;
    same("bytes", whole.len(), usize::try_from(len)?)?;
    for (offset, piece) in [(0, 4), (0, len / 2), (len / 2, len / 2), (len - 4, 4), (4, 64), (len - 64, 64)] {
        let found = read(&mut session, &page(lid, piece).offset(offset.into()))?;
        let expected = part(&whole, usize::try_from(offset)?, usize::try_from(piece)?)?;
        ensure!(found == expected, "{piece} bytes at {offset} differ from the whole page");
    }
    Ok(())
}

/// An offset above the page's size is invalid; one that is no multiple of 4 is too, or is rounded down.
fn beyond(lab: &mut Lab, lid: u8, len: u32) -> Result<()> {
    let mut session = admin_session(lab)?;
    let len = u64::from(len_of(&session, len)?);
    for offset in [len + 4, len + 4096, 1 << 32, (1 << 32) + 8, u64::MAX - 3] {
        let completion = session.admin().log_page(&page(lid, 4).offset(offset))?;
        refused(&completion, code::INVALID_FIELD).with_context(|| format!("offset {offset:#x}"))?;
    }
    let aligned = read(&mut session, &page(lid, 8))?;
    let completion = session.admin().log_page(&page(lid, 8).offset(2))?;
    if completion.status().is_success() {
        ensure!(completion.data == aligned, "offset 2 is neither refused nor rounded down");
        return Ok(());
    }
    refused(&completion, code::INVALID_FIELD)
}

/// The host may ask for less than the page, and for more.
fn length(lab: &mut Lab, lid: u8, len: u32) -> Result<()> {
    let mut session = admin_session(lab)?;
    let len = len_of(&session, len)?;
    let whole = read(&mut session, &page(lid, len))?;
    for asked in [4, 8, 512.min(len), len] {
        let found = read(&mut session, &page(lid, asked))?;
        same("bytes", found.len(), usize::try_from(asked)?)?;
        ensure!(whole.starts_with(&found), "{asked} bytes are not how the page begins");
    }
    let more = read(&mut session, &page(lid, len + 64))?;
    same("bytes", more.len(), usize::try_from(len)? + 64)?;
    ensure!(more.starts_with(&whole), "a longer look begins differently");
    Ok(())
}

/// OT=1 is for pages whose IOS bit in Supported Log Pages is set.
fn by_index(lab: &mut Lab, lid: u8) -> Result<()> {
    let mut session = admin_session(lab)?;
    let supported = read(&mut session, &page(lid::SUPPORTED, 1024))?;
    let index_supported = bit(le32(&supported, usize::from(lid) * 4)?, 1);
    let completion = session.admin().log_page(&page(lid, 4).by_index())?;
    if index_supported { done(&completion) } else { refused(&completion, code::INVALID_FIELD) }
}

/// NSID 0 and FFFFFFFFh mean the controller; a namespace of its own these pages do not have.
fn scope(lab: &mut Lab, lid: u8) -> Result<()> {
    let mut session = admin_session(lab)?;
    let by_namespace = lid == lid::SMART && bit(byte(&session.controller().raw, 261)?, 0);
    for nsid in [0, u32::MAX] {
        read(&mut session, &page(lid, 64).nsid(nsid))?;
    }
    let completion = session.admin().log_page(&page(lid, 64).nsid(1))?;
    if by_namespace {
        return done(&completion);
    }
    if lid == lid::SMART {
        return refused(&completion, code::INVALID_FIELD);
    }
    status_among(&completion, &[code::SUCCESS, code::INVALID_FIELD])
}

fn unknown(lab: &mut Lab, lids: &[u8]) -> Result<()> {
    let mut session = admin_session(lab)?;
    for lid in lids {
        for nsid in [0, u32::MAX] {
            let completion = session.admin().log_page(&LogPage::new(*lid, 64).nsid(nsid))?;
            refused_among(&completion, &[code::INVALID_LOG_PAGE])
                .with_context(|| format!("LID {lid:02x}h"))?;
        }
    }
    Ok(())
}

/// SANICAP, OACS bit 4, CTRATT bit 4 and CMIC bit 3 announce Sanitize, Self-test, Endurance Group and ANA pages.
fn optional_pages_follow_their_fields(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let raw = session.controller().raw.clone();
    let announced = [
        (0x81, le32(&raw, 328)? & 0b111 != 0),
        (0x06, bit(byte(&raw, 256)?, 4)),
        (0x09, bit(le32(&raw, 96)?, 4)),
        (0x0c, bit(byte(&raw, 76)?, 3)),
        (0x80, bit(session.controller().oncs, 5)),
    ];
    for (lid, there) in announced {
        let completion = session.admin().log_page(&LogPage::new(lid, 64).nsid(u32::MAX).retain())?;
        if there {
            done(&completion)?;
        } else {
            refused(&completion, code::INVALID_LOG_PAGE).with_context(|| format!("LID {lid:02x}h"))?;
        }
    }
    Ok(())
}

fn a_short_buffer_is_refused(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let sqe = Sqe::new(0x02).with_nsid(u32::MAX).cdw(10, 127 << 16 | 0x02).sgl_transport(256);
    let completion = session.admin().run(Command::reading(sqe, 256).keep_sgl())?;
    refused(&completion, code::DATA_SGL_LENGTH_INVALID)
}

fn mdts_bounds_log_pages(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let most = u32::try_from(session.controller().transfer_max().context("MDTS 0")?)?;
    same("bytes", read(&mut session, &page(lid::ERRORS, most))?.len(), usize::try_from(most)?)?;
    refused(&session.admin().log_page(&page(lid::ERRORS, most + 4))?, code::INVALID_FIELD)
}

fn the_active_slot_has_the_revision(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let revision = part(&session.controller().raw, 64, 8)?.to_vec();
    let data = read(&mut session, &page(lid::FIRMWARE, 512))?;
    let slot = usize::from(byte(&data, 0)? & 0b111);
    ensure!((1..=7).contains(&slot), "active slot {slot}");
    same("the revision in the active slot", part(&data, slot * 8, 8)?, revision.as_slice())
}

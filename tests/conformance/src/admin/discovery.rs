//! What a discovery controller is, gives and refuses. NVM Express Base 2.1 §3.1.3.3 "Discovery Controller", §5.1.12.3.1
//! "Discovery Log Page (Log Page Identifier 70h)".

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::{Sqe, code};
use holdfast_testkit::{Command, DiscoveryEntry, DiscoveryLog, LogPage, Options, Session};

use super::{discovery_session, identify, try_identify};
use crate::check::same;
use crate::fields::{bit, byte, done, le16, le32, le64, part, refused, refused_among, zero};
use crate::{Case, Format, Lab, View};

const CONTROLLER: &str = "Base 2.1 §3.1.3.3 \"Discovery Controller\"";
const IDENTIFY: &str =
    "Base 2.1 §5.1.13.2.1 \"Identify Controller Data Structure (CNS 01h)\", discovery column";
const LOG: &str = "Base 2.1 §5.1.12.3.1 \"Discovery Log Page (Log Page Identifier 70h)\"";
const NQN: &[u8] = b"nqn.2014-08.org.nvmexpress.discovery";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "admin.discovery.type", clause: IDENTIFY, run: the_type_is_discovery_controller },
    Case { id: "admin.discovery.subnqn", clause: IDENTIFY, run: the_nqn_is_the_well_known_one },
    Case { id: "admin.discovery.fields", clause: IDENTIFY, run: mandatory_fields_are_there },
    Case { id: "admin.discovery.structures", clause: CONTROLLER, run: there_are_no_namespaces },
    Case { id: "admin.discovery.commands", clause: CONTROLLER, run: commands_of_io_controllers_are_unknown },
    Case { id: "admin.discovery.logs", clause: CONTROLLER, run: logs_of_io_controllers_are_invalid },
    Case { id: "admin.discovery.features", clause: CONTROLLER, run: features_of_io_controllers_are_invalid },
    Case { id: "admin.discovery.keep-alive", clause: CONTROLLER, run: keep_alive_works },
    Case { id: "admin.discovery.events", clause: CONTROLLER, run: the_discovery_event_can_be_enabled },
    Case { id: "admin.discovery.header", clause: LOG, run: the_header_counts_its_records },
    Case { id: "admin.discovery.records", clause: LOG, run: a_record_says_how_to_connect },
    Case { id: "admin.discovery.texts", clause: LOG, run: texts_are_padded_as_specified },
    Case { id: "admin.discovery.itself", clause: LOG, run: the_discovery_subsystem_lists_itself },
    Case { id: "admin.discovery.only-allowed", clause: LOG, run: only_usable_subsystems_are_listed },
    Case { id: "admin.discovery.offset", clause: LOG, run: any_part_can_be_read },
    Case { id: "admin.discovery.beyond", clause: LOG, run: nothing_lies_beyond_the_end },
    Case { id: "admin.discovery.generation", clause: LOG, run: a_change_shows_in_genctr },
];

fn the_type_is_discovery_controller(lab: &mut Lab) -> Result<()> {
    let data = identify(&mut discovery_session(lab)?, 0x01, 0, 0)?;
    same("CNTRLTYPE", byte(&data, 111)?, 2)
}

fn the_nqn_is_the_well_known_one(lab: &mut Lab) -> Result<()> {
    let data = identify(&mut discovery_session(lab)?, 0x01, 0, 0)?;
    same("SUBNQN", part(&data, 768, NQN.len())?, NQN)?;
    zero("SUBNQN", &data, 768 + NQN.len(), 256 - NQN.len())
}

fn mandatory_fields_are_there(lab: &mut Lab) -> Result<()> {
    let mut session = discovery_session(lab)?;
    let data = identify(&mut session, 0x01, 0, 0)?;
    same("CNTLID", le16(&data, 78)?, session.cntlid())?;
    ensure!(le32(&data, 80)? >= 0x0002_0100, "VER {:#x}", le32(&data, 80)?);
    ensure!(bit(le32(&data, 92)?, 31), "OAES without Discovery Log Page Change");
    ensure!(bit(byte(&data, 261)?, 2), "LPA without extended data");
    ensure!(le16(&data, 514)? > 0, "MAXCMD 0");
    let sgls = le32(&data, 536)?;
    ensure!(matches!(sgls & 0b11, 1 | 2) && bit(sgls, 20), "SGLS {sgls:#x}");
    for (what, at, len) in [("NN", 516, 4), ("ONCS", 520, 2), ("IOCCSZ", 1792, 4), ("OACS", 256, 2)] {
        zero(what, &data, at, len)?;
    }
    Ok(())
}

fn there_are_no_namespaces(lab: &mut Lab) -> Result<()> {
    let mut session = discovery_session(lab)?;
    for cns in [0x00, 0x02, 0x03, 0x05, 0x07, 0x08, 0x13] {
        let completion = try_identify(&mut session, cns, 1, 0)?;
        refused_among(&completion, &[code::INVALID_FIELD, code::INVALID_NAMESPACE])?;
    }
    Ok(())
}

fn commands_of_io_controllers_are_unknown(lab: &mut Lab) -> Result<()> {
    let mut session = discovery_session(lab)?;
    for opcode in [0x00, 0x01, 0x04, 0x05, 0x0d, 0x10, 0x11, 0x14, 0x15, 0x80, 0x84, 0xc0] {
        refused(&session.admin().run(Command::bare(Sqe::new(opcode)))?, code::INVALID_OPCODE)?;
    }
    Ok(())
}

fn logs_of_io_controllers_are_invalid(lab: &mut Lab) -> Result<()> {
    let mut session = discovery_session(lab)?;
    for lid in [0x03, 0x04, 0x0d, 0x80, 0xc0] {
        let completion = session.admin().log_page(&LogPage::new(lid, 512).nsid(u32::MAX))?;
        refused_among(&completion, &[code::INVALID_LOG_PAGE, code::INVALID_FIELD])?;
    }
    Ok(())
}

fn features_of_io_controllers_are_invalid(lab: &mut Lab) -> Result<()> {
    let mut session = discovery_session(lab)?;
    for fid in [0x01, 0x02, 0x05, 0x06, 0x07, 0x0a] {
        refused(&session.admin().get_feature(fid)?, code::INVALID_FIELD)?;
        refused(&session.admin().set_feature(fid, 0)?, code::INVALID_FIELD)?;
    }
    Ok(())
}

fn keep_alive_works(lab: &mut Lab) -> Result<()> {
    done(&discovery_session(lab)?.admin().keep_alive()?)
}

fn the_discovery_event_can_be_enabled(lab: &mut Lab) -> Result<()> {
    let mut session = discovery_session(lab)?;
    done(&session.admin().set_feature(0x0b, 1 << 31)?)?;
    same("configuration", session.admin().get_feature(0x0b)?.ok()?.cqe.dw0, 1 << 31)
}

/// The log of host `plain`, which may use the standard subsystem.
fn log_of_a_host(lab: &mut Lab) -> Result<(DiscoveryLog, String)> {
    let share = lab.share(Format::STANDARD)?;
    lab.admit("plain", &share, View::Plain)?;
    Ok((discovery_session(lab)?.admin().discovery_log()?, share.nqn))
}

fn the_header_counts_its_records(lab: &mut Lab) -> Result<()> {
    let (log, _) = log_of_a_host(lab)?;
    let mut session = discovery_session(lab)?;
    let header = session.admin().log_page(&LogPage::new(0x70, 1024))?.ok()?.data;
    same("NUMREC", usize::try_from(le64(&header, 8)?)?, log.entries.len())?;
    same("RECFMT", le16(&header, 16)?, 0)?;
    zero("reserved", &header, 20, 1004)
}

fn entry_of<'a>(log: &'a DiscoveryLog, nqn: &str) -> Result<&'a DiscoveryEntry> {
    log.entries.iter().find(|entry| entry.subnqn == nqn).with_context(|| format!("{nqn} is not listed"))
}

fn a_record_says_how_to_connect(lab: &mut Lab) -> Result<()> {
    let (log, nqn) = log_of_a_host(lab)?;
    let entry = entry_of(&log, &nqn)?;
    same("TRTYPE", entry.trtype, 3)?;
    same("ADRFAM", entry.adrfam, 1)?;
    same("SUBTYPE", entry.subtype, 2)?;
    same("CNTLID", entry.cntlid, 0xffff)?;
    ensure!(entry.asqsz >= 32, "ASQSZ {}", entry.asqsz);
    ensure!(entry.treq & 0b11 != 0b11, "TREQ {:#x}", entry.treq);
    same("TRSVCID", entry.trsvcid.clone(), lab.nvme().port().to_string())?;
    ensure!(entry.traddr.parse::<std::net::IpAddr>().is_ok(), "TRADDR {:?}", entry.traddr);
    let tcp = lab.nvme();
    let host = lab.host("plain")?;
    Session::open(tcp, &host, &entry.subnqn, Options::default().io_queues(0))?.close()?;
    Ok(())
}

/// TRSVCID and TRADDR are ASCII padded with blanks, SUBNQN is UTF-8 that ends with a NUL.
fn texts_are_padded_as_specified(lab: &mut Lab) -> Result<()> {
    let (log, _) = log_of_a_host(lab)?;
    let mut session = discovery_session(lab)?;
    for index in 1..=log.entries.len() {
        let page = LogPage::new(0x70, 1024).offset(u64::try_from(index)? * 1024);
        let record = session.admin().log_page(&page)?.ok()?.data;
        for (what, at, len) in [("TRSVCID", 32, 32), ("TRADDR", 512, 256)] {
            let text = part(&record, at, len)?;
            ensure!(text.iter().all(|byte| (0x20..0x7f).contains(byte)), "{what} is {text:?}");
        }
        let nqn = part(&record, 256, 256)?;
        let end = nqn.iter().position(|byte| *byte == 0).context("SUBNQN without a NUL")?;
        ensure!(end > 0 && nqn.iter().skip(end).all(|byte| *byte == 0), "SUBNQN is not padded with NULs");
    }
    Ok(())
}

fn the_discovery_subsystem_lists_itself(lab: &mut Lab) -> Result<()> {
    let (log, _) = log_of_a_host(lab)?;
    let nqn = String::from_utf8_lossy(NQN);
    let own: Vec<_> = log.entries.iter().filter(|entry| entry.subtype == 3).collect();
    ensure!(own.len() <= 1, "{} current discovery subsystems on one portal", own.len());
    ensure!(own.iter().all(|entry| entry.subnqn == nqn), "SUBTYPE 3 with another NQN: {own:?}");
    Ok(())
}

fn only_usable_subsystems_are_listed(lab: &mut Lab) -> Result<()> {
    let share = lab.fresh_share(Format::STANDARD)?;
    let (log, _) = log_of_a_host(lab)?;
    ensure!(entry_of(&log, &share.nqn).is_err(), "a subsystem without a grant is listed");
    lab.admit("plain", &share, View::Plain)?;
    let (log, _) = log_of_a_host(lab)?;
    entry_of(&log, &share.nqn)?;
    Ok(())
}

fn any_part_can_be_read(lab: &mut Lab) -> Result<()> {
    let (log, _) = log_of_a_host(lab)?;
    let mut session = discovery_session(lab)?;
    let len = u32::try_from((log.entries.len() + 1) * 1024)?;
    let whole = session.admin().log_page(&LogPage::new(0x70, len))?.ok()?.data;
    for (offset, len) in [(0, 4), (8, 8), (1020, 8), (1024 + 256, 256), (u64::from(len) - 4, 4)] {
        let page = LogPage::new(0x70, len).offset(offset);
        let found = session.admin().log_page(&page)?.ok()?.data;
        let expected = part(&whole, usize::try_from(offset)?, usize::try_from(len)?)?;
        same(&format!("{len} bytes at {offset}"), found.as_slice(), expected)?;
    }
    Ok(())
}

fn nothing_lies_beyond_the_end(lab: &mut Lab) -> Result<()> {
    let (log, _) = log_of_a_host(lab)?;
    let end = u64::try_from((log.entries.len() + 1) * 1024)?;
    let mut session = discovery_session(lab)?;
    refused(&session.admin().log_page(&LogPage::new(0x70, 4).offset(end + 4))?, code::INVALID_FIELD)?;
    refused(&session.admin().log_page(&LogPage::new(0x70, 4).offset(1 << 40))?, code::INVALID_FIELD)
}

fn a_change_shows_in_genctr(lab: &mut Lab) -> Result<()> {
    let (before, _) = log_of_a_host(lab)?;
    let (again, _) = log_of_a_host(lab)?;
    same("GENCTR without a change", again.generation, before.generation)?;
    let share = lab.fresh_share(Format::STANDARD)?;
    lab.admit("plain", &share, View::Plain)?;
    let (after, _) = log_of_a_host(lab)?;
    ensure!(after.generation != before.generation, "GENCTR {} after a change", after.generation);
    Ok(())
}

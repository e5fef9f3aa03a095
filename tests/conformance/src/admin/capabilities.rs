//! What Identify Controller says is supported, held against what the controller does: every bit and every limit.
//! NVM Express Base 2.1 §5.1.13.2.1 "Identify Controller Data Structure (CNS 01h)".

use anyhow::{Result, ensure};
use holdfast_testkit::wire::{Sqe, code};
use holdfast_testkit::{Command, Completion, Copy, Io, LogPage, Options, Session, SourceRange};

use super::{admin_session, identify};
use crate::check::{pattern, same};
use crate::fields::{bit, byte, done, le16, le32, refused, refused_among};
use crate::{Case, Lab};

const CLAUSE: &str = "Base 2.1 §5.1.13.2.1 \"Identify Controller Data Structure (CNS 01h)\"";
const ONCS: &str = "Base 2.1 §5.1.13.2.1, ONCS; NVM Command Set 1.1 §3.3 \"NVM Command Set Commands\"";

/// Bits and limits of the controller.
pub(crate) const CASES: &[Case] = &[
    Case { id: "admin.capabilities.oacs", clause: CLAUSE, run: oacs_names_the_optional_admin_commands },
    Case { id: "admin.capabilities.lpa", clause: CLAUSE, run: lpa_names_the_optional_log_pages },
    Case { id: "admin.capabilities.lpa-offset", clause: CLAUSE, run: extended_data_means_offsets },
    Case { id: "admin.capabilities.oaes", clause: CLAUSE, run: oaes_names_the_events_that_can_be_enabled },
    Case { id: "admin.capabilities.ctratt-hostid", clause: CLAUSE, run: hids_means_128_bits },
    Case { id: "admin.capabilities.ctratt-lists", clause: CLAUSE, run: ctratt_names_the_optional_lists },
    Case { id: "admin.capabilities.kas", clause: CLAUSE, run: keep_alive_is_supported },
    Case { id: "admin.capabilities.elpe", clause: CLAUSE, run: the_error_log_has_elpe_entries },
    Case { id: "admin.capabilities.vwc", clause: CLAUSE, run: a_write_cache_can_be_switched },
    Case { id: "admin.capabilities.vwc-broadcast", clause: CLAUSE, run: vwc_says_what_flush_of_all_does },
    Case { id: "admin.capabilities.fuses", clause: CLAUSE, run: fuses_names_compare_and_write },
    Case { id: "admin.capabilities.cdfs", clause: CLAUSE, run: cdfs_names_the_copy_formats },
    Case { id: "admin.capabilities.nvm-limits", clause: CLAUSE, run: limits_of_the_command_set_hold },
    Case { id: "admin.capabilities.acl", clause: CLAUSE, run: several_aborts_at_once_are_taken },
];

/// ONCS, bit by bit.
pub(crate) const COMMANDS: &[Case] = &[
    Case { id: "admin.oncs.compare", clause: ONCS, run: |lab| oncs(lab, 0, 0x05) },
    Case { id: "admin.oncs.write-uncorrectable", clause: ONCS, run: |lab| oncs(lab, 1, 0x04) },
    Case { id: "admin.oncs.dataset-management", clause: ONCS, run: |lab| oncs(lab, 2, 0x09) },
    Case { id: "admin.oncs.write-zeroes", clause: ONCS, run: |lab| oncs(lab, 3, 0x08) },
    Case { id: "admin.oncs.save-and-select", clause: ONCS, run: select_follows_its_bit },
    Case { id: "admin.oncs.reservations", clause: ONCS, run: reservations_follow_their_bit },
    Case { id: "admin.oncs.timestamp", clause: ONCS, run: timestamp_follows_its_bit },
    Case { id: "admin.oncs.verify", clause: ONCS, run: |lab| oncs(lab, 7, 0x0c) },
    Case { id: "admin.oncs.copy", clause: ONCS, run: |lab| oncs(lab, 8, 0x19) },
    Case { id: "admin.oncs.copy-atomicity", clause: ONCS, run: copy_is_atomic_as_a_write },
];

/// Demands that a command is known exactly when its bit is set.
fn known(what: &str, supported: bool, completion: &Completion) -> Result<()> {
    let unknown = completion.status().pair() == code::INVALID_OPCODE;
    ensure!(supported != unknown, "{what}: supported {supported}, but ended with {}", completion.status());
    Ok(())
}

/// A command that would do harm to nobody, on block 0 of namespace 1.
fn io_command(opcode: u8) -> Command {
    let at = Io::at(0, 1);
    match opcode {
        0x05 => Command::with_data(at.sqe(opcode, 1), vec![0; 4096]),
        0x09 => Command::with_data(Sqe::new(opcode).with_nsid(1), vec![0; 16]),
        0x19 => {
            let copy = Copy::new(0, 1, &[SourceRange::at(0, 1)]);
            Command::with_data(copy.sqe(1), copy.data())
        }
        _ => Command::bare(at.sqe(opcode, 1)),
    }
}

/// Byte of CNS 06h with the size limit of a command, where it has one.
fn limit_of(opcode: u8) -> Option<usize> {
    match opcode {
        0x0c => Some(0),
        0x08 => Some(1),
        0x04 => Some(2),
        0x09 => Some(3),
        _ => None,
    }
}

/// A command is there when its bit is set, or when it is clear and a limit for it is given.
fn oncs(lab: &mut Lab, at: u32, opcode: u8) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let limits = identify(&mut session, 0x06, 0, 0)?;
    let limit = limit_of(opcode).map_or(Ok(0), |at| byte(&limits, at))?;
    let supported = bit(session.controller().oncs, at) || limit != 0;
    let io = session.io(1);
    done(&io.write(1, &Io::at(0, 1), &vec![0; 4096])?)?;
    let completion = io.run(io_command(opcode))?;
    known(&format!("opcode {opcode:02x}h"), supported, &completion)?;
    if supported {
        done(&completion)?;
        // What Write Uncorrectable left.
        done(&session.io(1).write(1, &Io::at(0, 1), &vec![0; 4096])?)?;
    }
    Ok(())
}

fn select_follows_its_bit(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let supported = bit(session.controller().oncs, 4);
    for select in 0..4 {
        let sqe = Sqe::new(0x0a).cdw(10, select << 8 | 0x02);
        let completion = session.admin().run(Command::bare(sqe))?;
        // Without the bit the field is reserved.
        if supported || select == 0 {
            done(&completion)?;
        }
    }
    Ok(())
}

fn reservations_follow_their_bit(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let supported = bit(session.controller().oncs, 5);
    let report = Command::reading(Sqe::new(0x0e).with_nsid(1).cdw(10, 15), 64);
    let completion = session.io(1).run(report)?;
    known("Reservation Report", supported, &completion)?;
    let namespace = identify(&mut session, 0x00, 1, 0)?;
    ensure!(supported || byte(&namespace, 31)? == 0, "RESCAP without reservations");
    Ok(())
}

fn timestamp_follows_its_bit(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let supported = bit(session.controller().oncs, 6);
    let completion = session.admin().run(Command::reading(Sqe::new(0x0a).cdw(10, 0x0e), 8))?;
    if supported { done(&completion) } else { refused(&completion, code::INVALID_FIELD) }
}

/// A controller of Base 2.1 that supports Copy sets NVMCSA.
fn copy_is_atomic_as_a_write(lab: &mut Lab) -> Result<()> {
    let session = admin_session(lab)?;
    let oncs = session.controller().oncs;
    ensure!(!bit(oncs, 8) || bit(oncs, 9), "ONCS {oncs:#x}: Copy without NVMCSA");
    ensure!(bit(oncs, 8) || !bit(oncs, 9), "ONCS {oncs:#x}: NVMCSA without Copy");
    Ok(())
}

/// Bit of OACS, and the opcodes that it announces.
const ADMIN_COMMANDS: [(u32, &[u8]); 12] = [
    (0, &[0x81, 0x82]),
    (1, &[0x80]),
    (2, &[0x10, 0x11]),
    (3, &[0x0d, 0x15]),
    (4, &[0x14]),
    (5, &[0x19, 0x1a]),
    (6, &[0x1d, 0x1e]),
    (7, &[0x1c]),
    (8, &[0x7c]),
    (9, &[0x86]),
    (10, &[0x24]),
    (11, &[0x41, 0x42, 0x45]),
];

fn oacs_names_the_optional_admin_commands(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let oacs = le16(&session.controller().raw, 256)?;
    for (at, opcodes) in ADMIN_COMMANDS {
        for opcode in opcodes {
            let completion = session.admin().run(Command::bare(Sqe::new(*opcode)))?;
            known(&format!("opcode {opcode:02x}h, OACS bit {at}"), bit(oacs, at), &completion)?;
        }
    }
    Ok(())
}

fn log(session: &mut Session, lid: u8) -> Result<Completion> {
    Ok(session.admin().log_page(&LogPage::new(lid, 512).nsid(u32::MAX).retain())?)
}

fn lpa_names_the_optional_log_pages(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let lpa = byte(&session.controller().raw, 261)?;
    let pages: [(u32, &[u8]); 3] = [(1, &[0x05]), (3, &[0x07, 0x08]), (5, &[0x00, 0x12])];
    for (at, lids) in pages {
        for lid in lids {
            let completion = log(&mut session, *lid)?;
            if bit(lpa, at) {
                done(&completion)?;
            } else {
                refused_among(&completion, &[code::INVALID_LOG_PAGE, code::INVALID_FIELD])?;
            }
        }
    }
    let persistent = LogPage::new(0x0d, 512).lsp(1);
    let completion = session.admin().log_page(&persistent)?;
    if bit(lpa, 4) { done(&completion) } else { refused(&completion, code::INVALID_LOG_PAGE) }
}

fn extended_data_means_offsets(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let lpa = byte(&session.controller().raw, 261)?;
    ensure!(bit(lpa, 2), "LPA {lpa:#x}: discovery and persistent events need offsets");
    let whole = session.admin().log_page(&LogPage::new(0x01, 128))?.ok()?.data;
    let part = session.admin().log_page(&LogPage::new(0x01, 64).offset(64))?.ok()?.data;
    same("the second entry", Some(part.as_slice()), whole.get(64..128))
}

fn oaes_names_the_events_that_can_be_enabled(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let oaes = le32(&session.controller().raw, 92)?;
    ensure!(bit(oaes, 8), "OAES {oaes:#x} without namespace notices");
    for at in 8..32 {
        done(&session.admin().set_feature(0x0b, 0)?)?;
        let set = session.admin().set_feature(0x0b, 1 << at)?;
        let now = session.admin().get_feature(0x0b)?.ok()?.cqe.dw0;
        let enabled = set.status().is_success() && bit(now, at);
        ensure!(enabled == bit(oaes, at), "OAES {oaes:#x}, but bit {at} of the configuration reads {now:#x}");
    }
    Ok(())
}

fn hids_means_128_bits(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    ensure!(bit(session.controller().ctratt, 0), "CTRATT without 128-bit Host Identifiers");
    let wide = Sqe::new(0x0a).cdw(10, 0x81).cdw(11, 1);
    let completion = session.admin().run(Command::reading(wide, 16))?;
    done(&completion)?;
    let expected = session.connect_command().hostid;
    same("the Host Identifier", completion.data.as_slice(), expected.as_slice())
}

/// Lists that exist only with a capability: bit of CTRATT and CNS.
fn ctratt_names_the_optional_lists(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let ctratt = session.controller().ctratt;
    for (at, cns) in [(2, 0x04), (4, 0x19), (9, 0x17)] {
        let completion = session.admin().identify(cns, 0, 0)?;
        if bit(ctratt, at) {
            done(&completion)?;
        } else if completion.status().is_success() {
            ensure!(completion.data.iter().all(|byte| *byte == 0), "CNS {cns:02x}h lists what CTRATT denies");
        } else {
            refused(&completion, code::INVALID_FIELD)?;
        }
    }
    Ok(())
}

fn keep_alive_is_supported(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    ensure!(session.controller().kas > 0, "KAS 0");
    done(&session.admin().keep_alive()?)
}

fn the_error_log_has_elpe_entries(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let entries = u32::from(byte(&session.controller().raw, 262)?) + 1;
    let whole = LogPage::new(0x01, entries * 64);
    same("bytes", session.admin().log_page(&whole)?.ok()?.data.len(), usize::try_from(entries)? * 64)?;
    let beyond = LogPage::new(0x01, 4).offset(u64::from(entries) * 64 + 4);
    refused(&session.admin().log_page(&beyond)?, code::INVALID_FIELD)
}

fn a_write_cache_can_be_switched(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let vwc = byte(&session.controller().raw, 525)?;
    let get = session.admin().get_feature(0x06)?;
    if !bit(vwc, 0) {
        return refused(&get, code::INVALID_FIELD);
    }
    for enabled in [0, 1] {
        done(&session.admin().set_feature(0x06, enabled)?)?;
        same("WCE", session.admin().get_feature(0x06)?.ok()?.cqe.dw0 & 1, enabled)?;
    }
    Ok(())
}

/// VWC bits 2:1: 10b Flush does not take FFFFFFFFh, 11b it does; a controller of Base 1.4 or later says which.
fn vwc_says_what_flush_of_all_does(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let behavior = byte(&session.controller().raw, 525)? >> 1 & 0b11;
    let completion = session.io(1).flush(u32::MAX)?;
    match behavior {
        0b10 => refused_among(&completion, &[code::INVALID_NAMESPACE, code::INVALID_FIELD]),
        0b11 => done(&completion),
        other => anyhow::bail!("VWC bits 2:1 are {other:02b}b"),
    }
}

fn fuses_names_compare_and_write(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let supported = bit(le16(&session.controller().raw, 522)?, 0);
    let io = session.io(1);
    let at = Io::at(3, 1);
    let old = pattern(3, 4096);
    done(&io.write(1, &at, &old)?)?;
    if supported {
        let (compare, write) = io.compare_and_write(1, &at, &old, &pattern(4, 4096))?;
        done(&compare)?;
        return done(&write);
    }
    let compare = Command::with_data(at.sqe(0x05, 1), old).fused(1);
    refused_among(&io.run(compare)?, &[code::INVALID_FIELD])
}

fn cdfs_names_the_copy_formats(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let (cdfs, copies) = (le16(&session.controller().raw, 534)?, bit(session.controller().oncs, 8));
    ensure!(copies || cdfs == 0, "CDFS {cdfs:#x} without Copy");
    if !copies {
        return Ok(());
    }
    ensure!(bit(cdfs, 0), "CDFS {cdfs:#x} without format 0h, which namespaces with 16-bit guards need");
    for format in 0..16_u8 {
        let copy = Copy::new(format, 8, &[SourceRange::at(0, 1).of(1)]);
        let completion = session.io(1).copy(1, &copy)?;
        if !bit(cdfs, format.into()) {
            refused(&completion, code::INVALID_FIELD)?;
        }
        // Formats with a source namespace have to be enabled first.
        if format >= 2 {
            refused(&completion, code::INVALID_FIELD)?;
        }
    }
    Ok(())
}

/// VSL, WZSL and WUSL: a recommendation where the command's bit in ONCS is set, a limit where it is clear.
fn limits_of_the_command_set_hold(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let limits = identify(&mut session, 0x06, 0, 0)?;
    let blocks = u32::try_from(session.namespace_format(1)?.blocks.min(0x1_0000))?;
    let oncs = session.controller().oncs;
    let io = session.io(1);
    for (opcode, support) in [(0x0c, 7), (0x08, 3), (0x04, 1)] {
        let shift = limit_of(opcode).map_or(Ok(0), |at| byte(&limits, at))?;
        let most = 1_u32.checked_shl(shift.into()).unwrap_or(u32::MAX);
        let more = Command::bare(Io::at(0, most.saturating_add(1).min(blocks)).sqe(opcode, 1));
        let all = Command::bare(Io::at(0, blocks).sqe(opcode, 1));
        match (bit(oncs, support), shift) {
            (true, _) => done(&io.run(all)?)?,
            (false, 0) => refused(&io.run(all)?, code::INVALID_OPCODE)?,
            (false, _) if most < blocks => refused(&io.run(more)?, code::INVALID_FIELD)?,
            (false, _) => {}
        }
        // Nothing is to stay marked by Write Uncorrectable.
        for slba in (0..blocks).step_by(256) {
            done(&io.write_zeroes(1, &Io::at(slba.into(), 256.min(blocks - slba)))?)?;
        }
    }
    Ok(())
}

fn several_aborts_at_once_are_taken(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let limit = u32::from(byte(&session.controller().raw, 258)?) + 1;
    let admin = session.admin();
    let abort = Command::bare(Sqe::new(0x08).cdw(10, 0x7777_0000));
    let cids = (0..limit).map(|_| admin.submit(abort.clone())).collect::<Result<Vec<_>, _>>()?;
    for cid in cids {
        done(&admin.wait(cid)?)?;
    }
    Ok(())
}
